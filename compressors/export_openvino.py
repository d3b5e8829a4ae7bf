"""OpenVINO artifacts: intermediate representation, in int8 by NNCF's post-training quantization.

The graph comes from the ONNX export, so that both runtimes are given the same one.
Source: https://docs.openvino.ai/2026/openvino-workflow/model-optimization-guide/quantizing-models-post-training.html
"""

import logging
import os
import sys

import torch

from compressors.export import Job
from compressors.export_onnx import save_fp32

# Both report to their maker when they are imported, unless this cannot be imported and that is set.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
os.environ["NNCF_CI"] = "1"
import nncf  # noqa: E402
import openvino  # noqa: E402

ENTRY = "model.xml"


def export(job: Job) -> str:
    """Writes `model.xml` and `model.bin`."""
    onnx = job.folder / "fp32.onnx"
    save_fp32(job, onnx)
    model = openvino.Core().read_model(onnx)
    if job.calibration is not None:
        model = _quantize(model, job.calibration)
    openvino.save_model(model, job.folder / ENTRY, compress_to_fp16=False)
    onnx.unlink()
    return ENTRY


def _quantize(model: openvino.Model, calibration: torch.Tensor) -> openvino.Model:
    logging.getLogger("nncf").setLevel(logging.ERROR)  # nncf.set_log_level would set every program's handlers too
    rows = nncf.Dataset(calibration.split(1), lambda row: row.numpy())
    return nncf.quantize(model, rows, subset_size=len(calibration))
