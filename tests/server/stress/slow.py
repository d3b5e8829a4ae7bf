"""A server that is slow on purpose, to be overloaded: `python -m tests.server.stress.slow FLAGS...`.

The product's own server, whose ONNX runtime first sleeps, whatever it is given. What it can do is thus known and
small: a client in Python offers several times as much with a fraction of a core.
"""

import sys
from time import sleep

from server.__main__ import main
from server.runtimes import Array
from server.runtimes.onnxruntime import OnnxGraph

EXECUTION_SECONDS = 0.02

answer = OnnxGraph.infer


def infer(self: OnnxGraph, inputs: dict[str, Array]) -> dict[str, Array]:
    """Right, and late."""
    sleep(EXECUTION_SECONDS)
    return answer(self, inputs)


if __name__ == "__main__":
    OnnxGraph.infer = infer  # type: ignore[method-assign]
    sys.exit(main())
