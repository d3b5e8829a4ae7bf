"""Detection: boxes in the pixels of the images that were sent, and the network's own outputs to those who name them.

A request's parameters `score_threshold` and `iou_threshold` (double, or int64 for a whole number) and `max_detections`
(int64) hold in place of the manifest's; K of the answer's shapes is `max_detections`. Boxes are decoded request by
request, in threads: that is part of `pareto_request_duration_seconds` and of ModelStatistics' `compute_output`, not of
`pareto_compute_duration_seconds`, which is the engine's.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from protos.errors import InvalidInputError
from protos.manifest import Decoding, Variant
from protos.tasks.boxes import Detections
from protos.tasks.detect import detect
from protos.tasks.detection import (
    AP_MOST,
    BOXES,
    CLASSES,
    COUNT,
    IOU_THRESHOLD,
    KEYPOINTS,
    MAX_DETECTIONS,
    SCORE_THRESHOLD,
    SCORES,
)
from protos.tasks.table import TASKS
from protos.tensors import Array
from protos.v1 import inference_pb2 as pb
from server.execution.engine import Observer
from server.tasks import classification
from server.tasks.answer_threads import AnswerThreads
from server.tasks.task import Finish, Sizes, named_outputs

Parameters = Mapping[str, pb.InferParameter]


class Detection:
    """See `server.tasks.task.Task`."""

    def __init__(self, threads: AnswerThreads) -> None:
        self._threads = threads

    def wanted(self, request: pb.ModelInferRequest, variant: Variant, observer: Observer) -> Finish | None:
        """See `server.tasks.task.Task`."""
        task = TASKS[variant.task]
        names = named_outputs(request, [spec.name for spec in task.outputs(variant)])
        for output in request.outputs:
            if classification.PARAMETER in output.parameters:
                raise InvalidInputError(f"output '{output.name}': got parameter 'classification', expected none")
        if variant.decoding is None:
            return partial(_chosen, names) if names else None
        decoding = _asked(request.parameters, variant.decoding)
        decoded = [spec.name for spec in task.unasked(variant)]
        if names and not {*names} & {*decoded}:
            return partial(_chosen, names)
        self._threads.check_room(observer)
        return partial(self._finish, names or decoded, replace(variant, decoding=decoding))

    async def _finish(
        self, names: list[str], variant: Variant, outputs: dict[str, Array], sizes: Sizes | None
    ) -> dict[str, Array]:
        decoded = await self._threads.run(_decode, outputs, variant, sizes)
        return _chosen(names, {**outputs, **decoded}, sizes)


def _chosen(names: list[str], outputs: dict[str, Array], sizes: Sizes | None) -> dict[str, Array]:
    return {name: outputs[name] for name in names}


def _decode(outputs: dict[str, Array], variant: Variant, sizes: Sizes | None) -> dict[str, Array]:
    """Returns the decoded outputs by name, in the form of `protos.tasks.detection`."""
    assert variant.decoding is not None
    own = None if sizes is None else np.array(sizes)
    found = detect(outputs, variant.decoding, variant.preprocessing, own)
    return padded(found, variant.decoding.max_detections)


def padded(found: Detections, most: int) -> dict[str, Array]:
    """Returns the boxes of N images with room for `most` in each; what is not filled is zero."""
    filled = np.arange(most) < found.counts[:, None]

    def rows(values: Array, dtype: type[np.int32] | type[np.float32] = np.float32) -> NDArray[np.int32 | np.float32]:
        room = np.zeros((*filled.shape, *values.shape[1:]), dtype)
        room[filled] = values
        return room

    return {
        COUNT: found.counts[:, None].astype(np.int32),
        BOXES: rows(found.boxes),
        SCORES: rows(found.scores),
        CLASSES: rows(found.classes, np.int32),
        KEYPOINTS: rows(found.keypoints),
    }


def _asked(parameters: Parameters, decoding: Decoding) -> Decoding:
    """Returns the manifest's `decoding` with what a request asks for in its place."""
    return replace(
        decoding,
        score_threshold=_share(parameters, SCORE_THRESHOLD, decoding.score_threshold),
        iou_threshold=_share(parameters, IOU_THRESHOLD, decoding.iou_threshold),
        max_detections=_most(parameters, decoding.max_detections),
    )


def _share(parameters: Parameters, name: str, default: float) -> float:
    if name not in parameters:
        return default
    kind, value = _value(parameters[name])
    if kind not in ("double_param", "int64_param") or not 0 <= float(value) <= 1:
        raise InvalidInputError(f"parameter '{name}': got {value!r} as {kind}, expected a double_param from 0 to 1")
    return float(value)


def _most(parameters: Parameters, default: int) -> int:
    if MAX_DETECTIONS not in parameters:
        return default
    kind, value = _value(parameters[MAX_DETECTIONS])
    if kind != "int64_param" or not 1 <= int(value) <= AP_MOST:
        raise InvalidInputError(
            f"parameter '{MAX_DETECTIONS}': got {value!r} as {kind}, expected an int64_param from 1 to {AP_MOST}"
        )
    return int(value)


def _value(parameter: pb.InferParameter) -> tuple[str, float | str]:
    """Returns the field that holds a parameter's value, and the value."""
    kind = parameter.WhichOneof("parameter_choice")
    return (kind, getattr(parameter, kind)) if kind else ("nothing", "")
