"""A server that leaks on purpose, for the test of the soak: `python -m tests.server.stress.leaky FLAGS...`.

The product's own server, whose ONNX runtime is replaced, in this process, by one that keeps something of each
execution: 64 KiB, and of every twentieth a descriptor, a thread and a series of the metrics page.
"""

import os
import sys
import threading

from server.__main__ import main
from server.observability.metrics import Metrics
from server.runtimes import Array
from server.runtimes.onnxruntime import OnnxGraph

KEPT_BYTES = 64 * 1024
RARELY = 20

hoard: list[object] = []
pages: list[Metrics] = []
answer, make_metrics = OnnxGraph.infer, Metrics.__init__


def infer(self: OnnxGraph, inputs: dict[str, Array]) -> dict[str, Array]:
    """Right, and never quite over."""
    hoard.append(os.urandom(KEPT_BYTES))  # pages of zeros would take no memory
    if len(hoard) % RARELY == 0:
        hoard.append(open(os.devnull))  # noqa: SIM115
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        pages[0].handled.labels("unary", "leak", str(len(hoard)), "OK")
    return answer(self, inputs)


def remember(self: Metrics, *arguments: object) -> None:
    """Builds the instruments as ever."""
    make_metrics(self, *arguments)  # type: ignore[arg-type]
    pages.append(self)


if __name__ == "__main__":
    OnnxGraph.infer, Metrics.__init__ = infer, remember  # type: ignore[method-assign]
    sys.exit(main())
