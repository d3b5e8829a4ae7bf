"""TorchScript: traced and frozen archives (`.pt`), run by the interpreter inside libtorch.

Source: https://docs.pytorch.org/docs/stable/jit.html
"""

from collections.abc import Callable
from pathlib import Path

import torch

from server.runtimes.pytorch import TorchCall


class ScriptArchive(TorchCall):
    """A `.pt` archive of `torch.jit.save`."""

    @staticmethod
    def open(path: Path) -> Callable[[torch.Tensor], torch.Tensor]:
        """Returns the archive as a module."""
        module: Callable[[torch.Tensor], torch.Tensor] = torch.jit.load(str(path))
        return module
