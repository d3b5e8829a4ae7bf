"""The README's demo, run once for all tests that look at what it leaves behind.

It is `make demo` with a study of its own: the steps, runtimes and data of `digits`, with a network that trains and
compiles in seconds.
"""

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

STUDY = """
models = { digits = "plain_cnn" }
data = "digits"
calibration = 128
runtimes = ["pytorch", "torchscript", "onnxruntime", "openvino"]

[recipes.fp32]
step = "train"
fit = { epochs = 8, batch = 64, learning_rate = 0.05, shift = 2 }

[recipes.channels30]
step = "channel-pruning"
parent = "fp32"
ratio = 0.3
runtimes = ["onnxruntime"]
fit = { epochs = 8, batch = 64, learning_rate = 0.02, shift = 2, distillation = 0.9 }

[recipes.int8]
step = "static-int8"
parent = "fp32"
runtimes = ["onnxruntime", "openvino"]

[recipes.channels30-int8]
step = "static-int8"
parent = "channels30"
runtimes = ["openvino"]
"""


def start_demo(checkout: Path, *variables: str, **streams: Any) -> subprocess.Popen[str]:
    """`make demo` in a session of its own, so that whatever it leaves behind can be told."""
    ports = f"PORT={quiet_port()}", f"METRICS_PORT={quiet_port()}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.Popen(
        ["make", "demo", "STUDY=digits.toml", *ports, *variables],
        cwd=checkout, text=True, start_new_session=True, env=environment, **streams,
    )  # fmt: skip


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
    """What `make demo` said, how it ended and what it left in the folder that it ran in."""

    checkout: Path
    stdout: str
    stderr: str
    exit_code: int
    left_running: list[str]

    @property
    def models(self) -> Path:
        return self.checkout / "models"

    @property
    def run(self) -> Path:
        return self.checkout / "runs" / "demo"

    @property
    def results(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.run / "results.json").read_text())
        return document


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make demo` needs of this checkout, and the study: the models and runs of the person who tests are left."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("Makefile", "deploy", "pyproject.toml", ".venv"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "digits.toml").write_text(STUDY)
    return folder


@pytest.fixture(scope="session")
def demo(checkout: Path) -> Demo:
    process = start_demo(checkout, "ARGS=--duration 1", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        stdout, stderr = process.communicate(timeout=1200)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)
    return Demo(checkout, stdout, stderr, process.returncode, survivors(process.pid))
