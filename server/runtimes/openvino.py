"""OpenVINO: intermediate representation (`.xml` beside `.bin`) on the CPU plugin.

Source: https://docs.openvino.ai/2026/openvino-workflow/running-inference.html
"""

import functools
from pathlib import Path

import numpy as np
import openvino

from protos.manifest import Variant
from server.runtimes import Array


@functools.cache
def _core() -> openvino.Core:
    """The one core of this process, for good. Each core's CPU plugin gives the thread that first compiles with it a
    stack for signals, and where several go in the order in which they came, one is left that was freed: the next
    signal ends the process (seen with OpenVINO 2026.4)."""
    return openvino.Core()


class IntermediateRepresentation:
    """An `.xml` file with its weights; of a variant that takes pixels, its model takes them as floats (N, 3, H, W).

    It computes in bf16 where the manifest says so, never by the plugin's choice.
    """

    def __init__(self, path: Path, variant: Variant, threads: int) -> None:
        config = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if variant.precision == "bf16" else "f32",
            "ENABLE_CPU_PINNING": False,
        }
        model = _core().compile_model(str(path), "CPU", config)
        self._inputs = {port.any_name: index for index, port in enumerate(model.inputs)}
        self._takes_pixels = variant.preprocessing.layout == "NHWC"
        places = {port.any_name: index for index, port in enumerate(model.outputs)}
        self._outputs = {spec.name: places[spec.name] for spec in variant.outputs}
        self._request = model.create_infer_request()
        self._given: dict[str, Array] = {}
        """Memory that the request reads each input from; made anew where a batch has another size."""

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """See `Runtime.infer`."""
        for name, index in self._inputs.items():  # one that is left out is an error: its last rows are still there
            rows = inputs[name].transpose(0, 3, 1, 2) if self._takes_pixels else inputs[name]
            dtype = np.dtype(np.float32) if self._takes_pixels else rows.dtype
            given = self._given.get(name)
            if given is None or (given.shape, given.dtype) != (rows.shape, dtype):
                given = np.empty(rows.shape, dtype)
                self._request.set_input_tensor(index, openvino.Tensor(given, shared_memory=True))
                self._given[name] = given
            given[...] = rows
        self._request.infer(share_outputs=True)
        # Copied, since the request writes over them next time.
        return {name: self._request.get_output_tensor(place).data.copy() for name, place in self._outputs.items()}

    def close(self) -> None:
        """See `Runtime.close`."""
        del self._request
        self._given.clear()
