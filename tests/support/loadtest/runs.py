"""`pareto-loadtest` as a process: its flags for a short run, what a run leaves behind, and how far it is."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import toy
from tests.support.processes import finished
from tests.support.serving import ServerProcess, by_labels, quiet_port

LOADTEST = [sys.executable, "-m", "loadtest"]


@dataclass(frozen=True)
class Run:
    """A finished `pareto-loadtest run` and the server's metrics right after it."""

    out: Path
    stdout: str
    stderr: str
    exit_code: int
    metrics: dict[tuple[str, tuple[tuple[str, str], ...]], float]

    @property
    def results(self) -> dict[str, Any]:
        return results_of(self.out)


def flags(server: ServerProcess, repository: Path, out: Path, *more: str) -> list[str]:
    """A short run against a server; later flags win."""
    return [
        *("run", "--target", server.grpc_address, "--metrics-url", f"http://{server.metrics_address}/metrics"),
        *("--model", toy.MODEL, "--repository", str(repository), "--out", str(out)),
        *("--users", "1,4", "--duration", "0.6", "--slice", "0.1", "--warmup", "0.2", "--ceiling", "0.2"),
        *("--second-opinion", "0", *more),
    ]


def loadtest(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """`pareto-loadtest`, run to its end."""
    return finished([*LOADTEST, *arguments])


def results_of(out: Path) -> dict[str, Any]:
    """The `results.json` of a run's folder."""
    document: dict[str, Any] = json.loads((out / "results.json").read_text())
    return document


def wait_for_load(process: "subprocess.Popen[str]") -> None:
    """Returns when the progress says that the first round begins."""
    assert process.stderr
    assert any(line.startswith("[0%] ") for line in process.stderr)


def wait_for_part(process: "subprocess.Popen[str]", out: Path, name: str) -> None:
    """Returns when the checkpoint of a run has this part, such as `closed-1-1`: the first stretch of one user."""
    part = out.with_name(f"{out.name}.partial") / f"{name}.json"
    until(lambda: part.is_file() or process.poll() is not None)
    assert process.poll() is None


def until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Waits for what no process announces, as long as a slow machine may take."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def requests_of(server: ServerProcess) -> dict[str, float]:
    """How many requests each variant of a server has answered so far."""
    answered = by_labels(server.metrics(), "pareto_requests_total", "variant", "code")
    return {variant: count for (variant, code), count in answered.items() if code == "OK"}


def two_workers() -> tuple[str, ...]:
    """Locust's flags for two workers beside the master, on a port of their own: all masters want the same one."""
    port = str(quiet_port())
    return "--processes", "2", "--master-bind-port", port, "--master-port", port
