"""ONNX Runtime: `.onnx` graphs on the CPU execution provider.

Source: https://onnxruntime.ai/docs/performance/tune-performance/threading.html
"""

from pathlib import Path

import onnxruntime

from protos.manifest import Variant
from server.runtimes import Array


class OnnxGraph:
    """A `.onnx` file. The session gets its thread count explicitly: its own guess ignores the affinity mask."""

    def __init__(self, path: Path, variant: Variant, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that spin between requests would take the cores of the server and of its neighbours.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._outputs = [spec.name for spec in variant.outputs]
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """See `Runtime.infer`."""
        return dict(zip(self._outputs, self._session.run(self._outputs, inputs), strict=True))

    def close(self) -> None:
        """See `Runtime.close`."""
        del self._session
