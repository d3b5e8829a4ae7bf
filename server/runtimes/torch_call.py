"""What the two runtimes of PyTorch share: NumPy in, one call, NumPy out, under the plan's thread count."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import torch

from protos.manifest import Variant
from server.runtimes import Array


class TorchCall(ABC):
    """A runtime whose artifact opens as a callable from one tensor to one tensor."""

    def __init__(self, path: Path, variant: Variant, threads: int) -> None:
        self._threads = threads
        self._input, self._output = variant.inputs[0].name, variant.outputs[0].name
        torch.set_num_threads(threads)
        self._call = self.open(path)

    @staticmethod
    @abstractmethod
    def open(path: Path) -> Callable[[torch.Tensor], torch.Tensor]:
        """The artifact as a callable."""

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """See `Runtime.infer`."""
        if torch.get_num_threads() != self._threads:  # the count belongs to the calling thread
            torch.set_num_threads(self._threads)
        tensor = torch.from_numpy(inputs[self._input].copy())  # torch does not take read-only memory
        with torch.inference_mode():
            return {self._output: self._call(tensor).numpy()}

    def close(self) -> None:
        """See `Runtime.close`."""
        del self._call
