"""The README's demo, run once for all tests that look at what it leaves behind."""

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psutil
import pytest

from tests.support.serving import ROOT, quiet_port


def start_demo(*variables: str, **streams: Any) -> subprocess.Popen[str]:
    """`make demo` in a session of its own, so that whatever it leaves behind can be told."""
    command = ["make", "demo", f"PORT={quiet_port()}", f"METRICS_PORT={quiet_port()}", *variables]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.Popen(command, cwd=ROOT, text=True, start_new_session=True, env=environment, **streams)


def survivors(session: int) -> list[str]:
    """The command lines of the processes of a session that still run; what is just ending has 10 seconds to go."""
    deadline = monotonic() + 10
    while (alive := _running(session)) and monotonic() < deadline:
        sleep(0.05)
    return alive


def _running(session: int) -> list[str]:
    alive = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                alive.append(" ".join(process.cmdline()))
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return alive


@dataclass(frozen=True)
class Demo:
    """What `make demo` said, how it ended and what it left."""

    stdout: str
    stderr: str
    exit_code: int
    left_running: list[str]

    @property
    def models(self) -> Path:
        return ROOT / "models"

    @property
    def run(self) -> Path:
        return ROOT / "runs" / "demo"

    @property
    def results(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.run / "results.json").read_text())
        return document


@pytest.fixture(scope="session")
def demo() -> Demo:
    process = start_demo("ARGS=--duration 1", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        stdout, stderr = process.communicate(timeout=1200)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)
    return Demo(stdout, stderr, process.returncode, survivors(process.pid))
