"""One server and one run for all tests that only look at what a run leaves behind."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import toy
from tests.support.serving import ROOT, ServerProcess, serving

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
        document: dict[str, Any] = json.loads((self.out / "results.json").read_text())
        return document


def flags(server: ServerProcess, repository: Path, out: Path, *more: str) -> list[str]:
    """A short run against a server; later flags win."""
    return [
        *("run", "--target", server.grpc_address, "--metrics-url", f"http://{server.metrics_address}/metrics"),
        *("--model", toy.MODEL, "--repository", str(repository), "--out", str(out)),
        *("--users", "1,4", "--duration", "0.8", "--warmup", "0.2", "--rounds", "2", "--ceiling", "0.2"),
        *("--reruns", "0", *more),
    ]


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.repository(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def server(repository: Path) -> Iterator[ServerProcess]:
    with serving(repository) as process:
        yield process


@pytest.fixture(scope="session")
def run(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "new" / "toy"
    with serving(repository) as server:  # of its own: its counters are compared
        done = subprocess.run(
            [*LOADTEST, *flags(server, repository, out)], cwd=ROOT, capture_output=True, text=True, timeout=120
        )
        return Run(out, done.stdout, done.stderr, done.returncode, server.metrics())
