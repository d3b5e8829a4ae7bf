"""How much each layer's int8 costs, which is what the choice of layers that stay in FP32 is made by.

The network in static int8 by ONNX Runtime is judged again and again, each time with other layers in FP32: with all of
them in int8, with one layer or group back in FP32, and with nothing but that one in int8. The images to judge by are
not those that the final figures come from.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from compressors.export import onnxruntime
from compressors.export.exporters import Answer, Job
from compressors.export.lowerings import StaticInt8

Judge = Callable[[Answer], Mapping[str, float]]
"""The metrics of a graph, by name."""
Way = Literal["alone in FP32", "alone in int8"]


@dataclass(frozen=True)
class Sensitivity:
    """The metrics with one layer or group unlike all others."""

    layers: tuple[str, ...]
    metrics: Mapping[str, float]


def sensitivity(
    job: Job, judge: Judge, groups: Iterable[Sequence[str]] = (), way: Way = "alone in FP32"
) -> list[Sensitivity]:
    """Returns the metrics for each group of layers, without groups for each layer; after those of none, best first.

    The job's lowering is static int8; its `float_layers` stay in FP32 throughout. "Best" is the mean of the metrics.
    """
    step = job.lowering
    assert isinstance(step, StaticInt8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the libraries tell their own developers
        every = onnxruntime.layer_names(job)
        chosen = [tuple(group) for group in groups] or [(layer,) for layer in every if layer not in step.float_layers]
        back = way == "alone in FP32"
        floating = [() if back else every, *(group if back else {*every} - {*group} for group in chosen)]
        graphs = onnxruntime.static_int8(job, step, [(*step.float_layers, *layers) for layers in floating])
        judged = [judge(onnxruntime.answering(graph)) for graph in graphs]
    found = [Sensitivity(layers, metrics) for layers, metrics in zip([(), *chosen], judged, strict=True)]
    return [found[0], *sorted(found[1:], key=lambda each: -sum(each.metrics.values()))]


def table(found: Sequence[Sensitivity]) -> str:
    """Returns the metrics as a table in Markdown, the difference from the first row in points beside each."""
    names = list(found[0].metrics)
    lines = ["| layers | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for each in found:
        points = {name: 100 * (value - found[0].metrics[name]) for name, value in each.metrics.items()}
        cells = (f"{each.metrics[name]:.4f} ({points[name]:+.2f})" for name in names)
        lines.append(f"| {', '.join(each.layers) or 'none'} | {' | '.join(cells)} |")
    return "\n".join(lines)
