"""ONNX artifacts: `torch.onnx.export(dynamo=True)`, in int8 as QDQ by ONNX Runtime's own quantizer.

Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from collections.abc import Iterator
from functools import singledispatch
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime import quantization
from onnxruntime.quantization import shape_inference

from compressors.export import INPUT, OUTPUT, Exported, Job
from compressors.lowerings import Float32, Lowering, StaticInt8
from compressors.onnx_network import OnnxNetwork

ENTRY = "model.onnx"
OPSET = 20


def export(job: Job) -> Exported:
    """Writes `model.onnx`."""
    _write(job.lowering, job, job.folder / ENTRY)
    return Exported(ENTRY)


@singledispatch
def _write(lowering: Lowering, job: Job, target: Path) -> None:
    """Writes the lowered graph."""
    raise TypeError(f"{type(lowering).__name__} is not for ONNX Runtime")


@_write.register
def _float32(lowering: Float32, job: Job, target: Path) -> None:
    save_fp32(job, target)


@_write.register
def _static_int8(lowering: StaticInt8, job: Job, target: Path) -> None:
    fp32, prepared = job.folder / "fp32.onnx", job.folder / "prepared.onnx"
    save_fp32(job, fp32)
    shape_inference.quant_pre_process(fp32, prepared)
    quantization.quantize_static(
        prepared,
        target,
        _Calibration(job.calibration_batches()),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )
    fp32.unlink()
    prepared.unlink()


def save_fp32(job: Job, path: Path) -> None:
    """Writes the FP32 graph with weights inside, a free batch, and no trace of where it was exported."""
    if isinstance(job.network, OnnxNetwork):
        path.write_bytes(job.network.graph)
        return
    program = torch.onnx.export(
        job.network,
        (job.example,),
        dynamo=True,
        opset_version=OPSET,
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
        input_names=[INPUT],
        output_names=[OUTPUT],
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    _forget_sources(model)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _forget_sources(model: onnx.ModelProto) -> None:
    """Drops the metadata in which the exporter notes its stack traces."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
    for function in model.functions:
        for part in (function, *function.node, *function.value_info):
            part.ClearField("metadata_props")


class _Calibration(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Batches of calibration inputs, as the quantizer asks for them."""

    def __init__(self, batches: list[torch.Tensor]) -> None:
        self._batches: Iterator[torch.Tensor] = iter(batches)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch.numpy()}
