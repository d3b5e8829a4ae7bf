"""The committed stubs are what protoc makes of the .proto file today."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_make_proto_changes_nothing(tmp_path: Path) -> None:
    outputs = [f"--{kind}={tmp_path}" for kind in ("python_out", "mypy_out", "grpc_python_out", "mypy_grpc_out")]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I", str(ROOT), *outputs, "protos/v1/inference.proto"],
        cwd=ROOT, env=os.environ | {"PATH": path}, check=True, capture_output=True,
    )  # fmt: skip
    made = {file.name: file.read_text() for file in (tmp_path / "protos" / "v1").iterdir()}
    committed = {file.name: file.read_text() for file in (ROOT / "protos" / "v1").glob("inference_pb2*")}
    assert made == committed
