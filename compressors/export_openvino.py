"""OpenVINO artifacts: intermediate representation, in int8 by NNCF's post-training quantization.

The graph comes from the ONNX export, so that both runtimes are given the same one.
Source: https://docs.openvino.ai/2026/openvino-workflow/model-optimization-guide/quantizing-models-post-training.html
"""

import logging
import os
import sys
from functools import singledispatch

from compressors.export import Exported, Job
from compressors.export_onnx import save_fp32
from compressors.lowerings import Float32, Lowering, StaticInt8

# Both report to their maker when they are imported, unless this cannot be imported and that is set.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
os.environ["NNCF_CI"] = "1"
import nncf  # noqa: E402
import openvino  # noqa: E402

ENTRY = "model.xml"


def export(job: Job) -> Exported:
    """Writes `model.xml` and `model.bin`."""
    onnx = job.folder / "fp32.onnx"
    save_fp32(job, onnx)
    model = _lowered(job.lowering, openvino.Core().read_model(onnx), job)
    openvino.save_model(model, job.folder / ENTRY, compress_to_fp16=False)
    onnx.unlink()
    return Exported(ENTRY)


@singledispatch
def _lowered(lowering: Lowering, model: openvino.Model, job: Job) -> openvino.Model:
    """The model as it is to be written."""
    raise TypeError(f"{type(lowering).__name__} is not for OpenVINO")


@_lowered.register
def _float32(lowering: Float32, model: openvino.Model, job: Job) -> openvino.Model:
    return model


@_lowered.register
def _static_int8(lowering: StaticInt8, model: openvino.Model, job: Job) -> openvino.Model:
    assert job.calibration is not None
    logging.getLogger("nncf").setLevel(logging.ERROR)  # nncf.set_log_level would set every program's handlers too
    rows = nncf.Dataset(job.calibration.split(1), lambda row: row.numpy())
    return nncf.quantize(model, rows, subset_size=len(job.calibration))
