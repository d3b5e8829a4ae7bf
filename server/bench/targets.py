"""Servers to measure: ours and the bare ones as processes of our own, peers where they are.

A target's CPU is that of its process and all processes below it, as /proc counts it: in ticks of 10 ms.
"""

import contextlib
import glob
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import IO

TICK = 1 / os.sysconf("SC_CLK_TCK")
START_SECONDS, STOP_SECONDS = 120.0, 20.0


@dataclass(frozen=True)
class Target:
    """One server; without a `pid` its CPU is not known."""

    name: str
    address: str
    pid: int | None = None
    version: str | None = None
    """Its name for the variant, if that is another."""

    def cpu_seconds(self) -> float | None:
        """Returns the CPU time that the server has used so far."""
        return None if self.pid is None else sum(map(_cpu_seconds, _tree(self.pid)))


@contextmanager
def ours(name: str, repository: Path, flags: list[str]) -> Iterator[Target]:
    """Our server on free ports, loaded in all of its workers; stopped at the end."""
    command = [sys.executable, "-m", "server", "--repository", str(repository), "--port", "0", "--metrics-port", "0"]
    with tempfile.TemporaryFile("w+") as log, _process([*command, "--drain-notice", "0", *flags], stderr=log) as server:
        yield Target(name, _address(server, log), server.pid)


@contextmanager
def bare(name: str, kind: str, folder: Path, rows: int) -> Iterator[Target]:
    """A server of `server.bench.reference`; stopped at the end."""
    command = [sys.executable, "-m", "server.bench.reference", kind, str(folder), str(rows)]
    with _process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield Target(name, process.stdout.readline().strip(), process.pid)


def peer(text: str) -> Target:
    """`NAME=HOST:PORT[/VERSION][@PID]`; `ValueError` for other forms."""
    match = re.fullmatch(r"([^=]+)=([^@/]+:\d+)(?:/([^@]+))?(?:@(\d+))?", text)
    if match is None:
        raise ValueError(f"got '{text}', expected NAME=HOST:PORT[/VERSION][@PID]")
    return Target(match[1], match[2], int(match[4]) if match[4] else None, match[3])


@contextmanager
def _process(
    command: list[str], stdin: int | None = None, stdout: int | None = None, stderr: IO[str] | None = None
) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(command, text=True, stdin=stdin, stdout=stdout, stderr=stderr) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _address(server: "subprocess.Popen[str]", log: IO[str]) -> str:
    """Where the server listens, once all of its workers have loaded; `RuntimeError` with its log where it cannot."""
    end = monotonic() + START_SECONDS
    while True:
        text = os.pread(log.fileno(), 1 << 20, 0).decode()
        match = re.search(r"serving grpc=(\S+)", text)
        if match and " are READY" in text:
            return match[1]
        if server.poll() is not None or monotonic() > end:
            raise RuntimeError(f"the server did not start:\n{text}")
        sleep(0.05)


def _tree(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    for children in glob.glob(f"/proc/{pid}/task/*/children"):
        for child in _read(children).split():
            yield from _tree(int(child))


def _cpu_seconds(pid: int) -> float:
    """User and system time; 0 for a process that has ended."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK if fields else 0.0


def _read(path: str) -> str:
    """Returns the text of a file, empty where its process has ended."""
    with contextlib.suppress(OSError):
        return Path(path).read_text()
    return ""
