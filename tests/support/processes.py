"""Programs that tests start; `tests/conftest.py` sees to it that they heed Ctrl-C."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.support.serving import ROOT


@contextmanager
def started(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A process with pipes, waited for at the end, by force if need be."""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def finished(command: Sequence[str], seconds: float = 120.0) -> "subprocess.CompletedProcess[str]":
    """The same process, run to its end."""
    with started(command) as process:
        stdout, stderr = process.communicate(timeout=seconds)
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def python(script: str, *arguments: str) -> list[str]:
    """The command that runs a script."""
    return [sys.executable, "-c", script, *arguments]
