"""Classification: the outputs as they are, or each as its k largest values by Triton's classification extension.

A requested output with the parameter `classification` (an int64, k) is answered as BYTES (N, min(k, classes)), each
"value:index:label", in place of its numbers. Values have six decimals, as C++'s std::to_string gives them; of equal
values the lower index comes first.
Source: https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_classification.md
"""

from collections.abc import Awaitable
from functools import partial

import numpy as np

from protos.errors import InvalidInputError
from protos.manifest import Variant
from protos.tensors import Array
from protos.v1 import inference_pb2 as pb
from server.execution.engine import Observer
from server.tasks.answer_threads import AnswerThreads
from server.tasks.task import Finish, Sizes, named_outputs

PARAMETER = "classification"
AT_ONCE = 4096
"""Numbers of which the largest are found where the outputs are: well under a millisecond."""


class Classification:
    """See `server.tasks.task.Task`."""

    def __init__(self, threads: AnswerThreads) -> None:
        self._threads = threads

    def wanted(self, request: pb.ModelInferRequest, variant: Variant, observer: Observer) -> Finish | None:
        """See `server.tasks.task.Task`."""
        if not request.outputs:
            return None
        named_outputs(request, [spec.name for spec in variant.outputs])
        return partial(self._finish, {output.name: _count(output) for output in request.outputs}, variant.labels)

    def _finish(
        self, counts: dict[str, int], labels: tuple[str, ...], outputs: dict[str, Array], sizes: Sizes | None
    ) -> dict[str, Array] | Awaitable[dict[str, Array]]:
        chosen = {name: outputs[name] for name in counts}
        if sum(chosen[name].size for name, count in counts.items() if count) <= AT_ONCE:
            return _classified(chosen, counts, labels)
        return self._threads.run(_classified, chosen, counts, labels)


def _classified(values: dict[str, Array], counts: dict[str, int], labels: tuple[str, ...]) -> dict[str, Array]:
    """Returns each output as its `count` largest, or as it is where classes were not asked for."""
    return {name: _classify(values[name], count, labels) if count else values[name] for name, count in counts.items()}


def _count(output: pb.ModelInferRequest.InferRequestedOutputTensor) -> int:
    """Returns how many classes an output is asked for, 0 where it is asked for its numbers."""
    if PARAMETER not in output.parameters:  # a map of messages would add what is only looked up
        return 0
    parameter = output.parameters[PARAMETER]
    count = parameter.int64_param
    if parameter.WhichOneof("parameter_choice") != "int64_param" or count < 1:
        raise InvalidInputError(f"output '{output.name}': parameter 'classification' must be an int64 of at least 1")
    return count


def _classify(values: Array, count: int, labels: tuple[str, ...]) -> Array:
    """Returns the `count` largest of each row of (N, ...), or all of fewer, as `bytes` in an object array."""
    rows = values.reshape(len(values), -1)
    best = np.argsort(-rows, axis=1, kind="stable")[:, :count]
    answer = np.empty(best.shape, np.object_)
    for row, indices in enumerate(best):
        answer[row] = [_text(float(rows[row, index]), int(index), labels).encode() for index in indices]
    return answer


def _text(value: float, index: int, labels: tuple[str, ...]) -> str:
    label = f":{labels[index]}" if index < len(labels) else ""
    return f"{value:.6f}:{index}{label}"
