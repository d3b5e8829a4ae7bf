"""Triton's classification extension: an output as its k largest values, each "value:index:label".

A requested output with the parameter `classification` (an int64, k) is answered as BYTES (N, min(k, classes))
in place of its numbers. Values have six decimals, as C++'s std::to_string gives them; of equal values the
lower index comes first.
Source: https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_classification.md
"""

import asyncio

import numpy as np

from protos.errors import InvalidInputError
from protos.tensors import Array
from protos.v1 import inference_pb2 as pb

PARAMETER = "classification"
AT_ONCE = 4096
"""Numbers of which the event loop itself may find the largest: well under a millisecond."""


def wanted(output: pb.ModelInferRequest.InferRequestedOutputTensor) -> int:
    """How many classes an output is asked for, 0 where it is asked for its numbers."""
    if PARAMETER not in output.parameters:  # a map of messages would add what is only looked up
        return 0
    parameter = output.parameters[PARAMETER]
    count = parameter.int64_param
    if parameter.WhichOneof("parameter_choice") != "int64_param" or count < 1:
        raise InvalidInputError(f"output '{output.name}': parameter 'classification' must be an int64 of at least 1")
    return count


async def classify(values: Array, count: int, labels: tuple[str, ...]) -> Array:
    """The `count` largest of each row of (N, ...), or all where there are fewer: object array (N, count) of bytes."""
    if values.size <= AT_ONCE:
        return _classify(values, count, labels)
    return await asyncio.to_thread(_classify, values, count, labels)


def _classify(values: Array, count: int, labels: tuple[str, ...]) -> Array:
    rows = values.reshape(len(values), -1)
    best = np.argsort(-rows, axis=1, kind="stable")[:, :count]
    answer = np.empty(best.shape, np.object_)
    for row, indices in enumerate(best):
        answer[row] = [_text(float(rows[row, index]), int(index), labels).encode() for index in indices]
    return answer


def _text(value: float, index: int, labels: tuple[str, ...]) -> str:
    label = f":{labels[index]}" if index < len(labels) else ""
    return f"{value:.6f}:{index}{label}"
