"""What the process settles before its libraries are imported."""

import subprocess
import sys

from server.__main__ import prepare


def test_thread_pools_follow_the_plan_unless_the_user_settled_them() -> None:
    environment = {"OMP_NUM_THREADS": "7"}
    prepare(environment, threads=3)
    assert environment["OMP_NUM_THREADS"] == "7"
    assert environment["MKL_NUM_THREADS"] == environment["OPENBLAS_NUM_THREADS"] == "3"


def test_no_library_that_reads_the_environment_is_imported_before_that() -> None:
    code = "import sys, server.__main__; print(*sorted({'numpy', 'grpc', 'torch', 'onnxruntime'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
