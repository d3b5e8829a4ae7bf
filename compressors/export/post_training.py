"""NNCF's post-training quantization, for graphs of OpenVINO and ONNX alike.

Source: https://docs.openvino.ai/2026/openvino-workflow/model-optimization-guide/quantizing-models-post-training.html
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import nncf
import numpy as np
from nncf.quantization import advanced_parameters, range_estimator
from torch import nn

from compressors.export.exporters import Answer, Inputs, Job
from compressors.export.lowerings import AccuracyAwareInt8, StaticInt8
from compressors.networks.layers import INPUT

# nncf.set_log_level would set every program's handlers too.
logging.getLogger("nncf").setLevel(logging.ERROR)

Graph = TypeVar("Graph")
"""openvino.Model or onnx.ModelProto."""

_RANGES = {
    "default": range_estimator.RangeEstimatorParameters(),
    "min-max": range_estimator.RangeEstimatorParametersSet.MINMAX,
    "mean-min-max": range_estimator.RangeEstimatorParametersSet.MEAN_MINMAX,
    "histogram": range_estimator.RangeEstimatorParametersSet.HISTOGRAM,
    "percentile": range_estimator.RangeEstimatorParametersSet.MEAN_QUANTILE,
}


def quantize(graph: Graph, step: StaticInt8, job: Job, floating: Sequence[str] = ()) -> Graph:
    """Returns the graph in int8 but for the nodes `floating`, its ranges from all calibration inputs."""
    rows = _rows(job)
    per_channel = False if step.granularity == "per-tensor" else None
    quantized: Graph = nncf.quantize(
        graph,
        nncf.Dataset(rows),
        subset_size=len(rows),
        model_type=_model_type(job),
        ignored_scope=_ignored(floating),
        advanced_parameters=advanced_parameters.AdvancedQuantizationParameters(
            overflow_fix=_overflow_fix(step),
            activations_range_estimator_params=_RANGES[step.ranges],
            weights_quantization_params=advanced_parameters.QuantizationParameters(per_channel=per_channel),
        ),
    )
    return quantized


def quantize_within(
    graph: Graph,
    step: AccuracyAwareInt8,
    job: Job,
    open_graph: Callable[[Graph], Answer],
    floating: Sequence[str] = (),
) -> Graph:
    """Returns the graph in int8 as far as the metric allows, but for the nodes `floating`.

    `open_graph` makes what NNCF validates ready to run.
    """
    rows, validate = _rows(job), job.validate
    count = max(1, len(rows) // 4)
    assert validate is not None

    def metric(opened: Graph, items: Iterable[tuple[Inputs, int]]) -> tuple[float, list[float] | None]:
        answer = open_graph(opened)
        answers = [(answer(row), index) for row, index in items]
        return validate([outputs for outputs, _ in answers], np.array([index for _, index in answers]))

    quantized: Graph = nncf.quantize_with_accuracy_control(
        graph,
        nncf.Dataset(rows[:count]),
        nncf.Dataset([(row, index) for index, row in enumerate(rows)][count:], lambda item: item[0]),
        metric,
        max_drop=step.max_drop / 100,
        subset_size=count,
        model_type=_model_type(job),
        ignored_scope=_ignored(floating),
        advanced_quantization_parameters=advanced_parameters.AdvancedQuantizationParameters(
            overflow_fix=_overflow_fix(step)
        ),
    )
    return quantized


def _ignored(nodes: Sequence[str]) -> nncf.IgnoredScope | None:
    """NNCF's graph lacks some of a model's nodes, such as its outputs: that one is not found is no error."""
    return nncf.IgnoredScope(names=list(nodes), validate=False) if nodes else None


def _overflow_fix(step: StaticInt8 | AccuracyAwareInt8) -> advanced_parameters.OverflowFix:
    """Returns which weights get 7 bits: all of them, or none."""
    fix = advanced_parameters.OverflowFix
    return fix.ENABLE if step.range == "reduced" else fix.DISABLE


def _model_type(job: Job) -> nncf.ModelType | None:
    """Asks for NNCF's treatment of attention (a small ViT lost 3.5 points without it, 0.9 with it)."""
    attention = any(isinstance(module, nn.MultiheadAttention) for module in job.network.modules())
    return nncf.ModelType.TRANSFORMER if attention else None


def compress_weights(graph: Graph, *left_out: str) -> Graph:
    """Returns the graph with its weights in int8, per channel, but those of operations of the types `left_out`."""
    compressed: Graph = nncf.compress_weights(
        graph,
        mode=nncf.CompressWeightsMode.INT8_SYM,
        ignored_scope=nncf.IgnoredScope(types=list(left_out), validate=False),
    )
    return compressed


def _rows(job: Job) -> list[Inputs]:
    assert job.calibration is not None
    return [{INPUT: row.numpy()} for row in job.calibration.split(1)]
