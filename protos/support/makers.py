"""Libraries that tell their makers of their use, and leave files in the home folder for it. Ours do not."""

import os
import sys


def tell_nothing() -> None:
    """Keeps all of them from it; to be called before any of them is imported.

    ONNX Runtime sends names and hashes of models from 1.29 on: https://github.com/microsoft/onnxruntime/pull/27379
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    os.environ["NNCF_CI"] = "1"
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # what cannot be imported is not used
