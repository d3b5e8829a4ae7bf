"""TorchScript: traced and frozen archives (`.pt`), run by the interpreter inside libtorch.

Source: https://docs.pytorch.org/docs/stable/jit.html
"""

from pathlib import Path

import torch

from server.runtimes.pytorch import Call, TorchCall


class ScriptArchive(TorchCall):
    """A `.pt` archive of `torch.jit.save`."""

    @staticmethod
    def open(path: Path) -> Call:
        """Returns the archive as a module."""
        module: Call = torch.jit.load(str(path))
        return module
