"""A program lives on after a signal, whatever it has loaded and given back before."""

import subprocess
import sys
from pathlib import Path

from protos.manifest import RuntimeName
from tests.support import toy
from tests.support.serving import ROOT

SCRIPT = """
import gc, pathlib, signal, sys
from protos import repository
from server import runtimes

(entry,) = [e for e in repository.scan(pathlib.Path(sys.argv[1])) if e.name == sys.argv[2]]
loaded = [runtimes.load(entry.folder, repository.verify(entry), 1) for _ in range(2)]
while loaded:
    loaded.pop(0).close()  # in the order in which they came
    gc.collect()
signal.signal(signal.SIGINT, lambda *_: print("alive"))
signal.raise_signal(signal.SIGINT)
"""


def after_a_signal(root: Path, runtime: RuntimeName) -> str:
    toy.repository(root, (runtime,))
    command = [sys.executable, "-c", SCRIPT, str(root), f"fp32-{runtime}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120).stdout


def test_openvino_leaves_no_stack_behind_that_is_freed(tmp_path: Path) -> None:
    assert after_a_signal(tmp_path, "openvino") == "alive\n"


def test_onnx_runtime_leaves_signals_alone(tmp_path: Path) -> None:
    assert after_a_signal(tmp_path, "onnxruntime") == "alive\n"
