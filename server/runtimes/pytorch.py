"""PyTorch: `torch.export` programs, and AOTInductor packages (a `.pt2` with a compiled model inside).

Neither holds pickled objects or needs the classes that the network was written in. An AOTInductor package
is native code, built for the instruction set of the machine that built it.
Source: https://docs.pytorch.org/docs/stable/export.html
"""

import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

from server.runtimes.torch_call import TorchCall


class ExportedProgram(TorchCall):
    """A `.pt2` file; the archive says which of the two kinds it is."""

    @staticmethod
    def open(path: Path) -> Callable[[torch.Tensor], torch.Tensor]:
        """Returns the program as a module."""
        with zipfile.ZipFile(path) as archive:
            compiled = any("/aotinductor/" in name for name in archive.namelist())
        if compiled:
            return torch._inductor.aoti_load_package(str(path))
        return torch.export.load(path).module()
