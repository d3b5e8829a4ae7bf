"""What the server must know of one kind of task; `server.tasks.table` has the tasks."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from protos.errors import InvalidInputError
from protos.manifest import Variant
from protos.tensors import SHARED_MEMORY, Array
from protos.v1 import inference_pb2 as pb
from server.execution.engine import Observer

Sizes = list[tuple[int, int]]
"""Heights and widths of the images as they were sent; None in its place where tensors were sent."""
Finish = Callable[[dict[str, Array], Sizes | None], dict[str, Array] | Awaitable[dict[str, Array]]]
"""From all outputs (N, ...) of the engine to those of the answer, by name and in the order of the answer.

For any thread. What it returns to be awaited, since it takes long, is for the event loop."""


class Task(Protocol):
    """Knows the answers to requests for models of one kind of task."""

    def wanted(self, request: pb.ModelInferRequest, variant: Variant, observer: Observer) -> Finish | None:
        """Returns what makes the answer that `request` wants; None where it is the engine's outputs as they are.

        Called before anything is executed. Raises `InvalidInputError` for an output or a parameter that `variant` does
        not have; `OverloadedError`, and tells `observer`, where too many answers are being made.
        """


def named_outputs(request: pb.ModelInferRequest, known: Sequence[str]) -> list[str]:
    """Returns the outputs that a request names; `InvalidInputError` where they are not some of `known`."""
    if len(request.outputs) > len(known):  # a message has room for millions
        raise InvalidInputError(f"got {len(request.outputs)} outputs, expected at most one for each of {[*known]}")
    for output in request.outputs:
        if output.name not in known:
            raise InvalidInputError(f"got output '{output.name}', expected one of {[*known]}")
        if SHARED_MEMORY in output.parameters:
            raise InvalidInputError(f"output '{output.name}': got shared memory, which is not supported, expected none")
    return [output.name for output in request.outputs]
