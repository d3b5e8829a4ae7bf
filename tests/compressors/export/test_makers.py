"""What the libraries tell their makers."""

import subprocess
import sys
from pathlib import Path

from tests.support.serving import ROOT

IMPORTS = "import compressors.export.onnxruntime, compressors.export.openvino, compressors.export.post_training"


def test_exporters_leave_nothing_in_the_home_folder_by_which_they_would_report(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-B", "-c", IMPORTS], env=environment, timeout=120, check=False)
    assert done.returncode == 0
    assert [*tmp_path.rglob("*")] == []
