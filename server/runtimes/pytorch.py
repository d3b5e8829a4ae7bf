"""PyTorch: `torch.export` programs, and AOTInductor packages (a `.pt2` with a compiled model inside).

Neither holds pickled objects or needs the classes that the network was written in. An AOTInductor package
is native code: on a CPU that lacks an instruction in it, it would end the process.
Source: https://docs.pytorch.org/docs/stable/export.html
"""

import logging
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from protos.errors import VariantError
from protos.manifest import Variant
from server.runtimes import Array

# It warns where a package was compiled for less than this CPU has, which costs speed at most.
logging.getLogger("torch.export.pt2_archive._package").setLevel(logging.ERROR)


class TorchCall(ABC):
    """What PyTorch's runtimes share: the artifact opens as one call, NumPy goes in and out, on the plan's threads."""

    def __init__(self, path: Path, variant: Variant, threads: int) -> None:
        self._threads = threads
        self._input, self._output = variant.inputs[0].name, variant.outputs[0].name
        torch.set_num_threads(threads)
        self._call = self.open(path)

    @staticmethod
    @abstractmethod
    def open(path: Path) -> Callable[[torch.Tensor], torch.Tensor]:
        """Returns the artifact as a callable from one tensor to one tensor."""

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


class ExportedProgram(TorchCall):
    """A `.pt2` file; the archive says which of the two kinds it is."""

    @staticmethod
    def open(path: Path) -> Callable[[torch.Tensor], torch.Tensor]:
        """Returns the program as a module."""
        with zipfile.ZipFile(path) as archive:
            compiled = any("/aotinductor/" in name for name in archive.namelist())
        if compiled:
            _check_instructions(path)
            return torch._inductor.aoti_load_package(str(path))
        return torch.export.load(path).module()


def _check_instructions(package: Path) -> None:
    """Raises `VariantError` where an AOTInductor package was compiled for AVX512 and this CPU has none."""
    loader: Any = torch._C._aoti.AOTIModelPackageLoader
    compiled_for = loader.load_metadata_from_package(str(package), "model")["AOTI_CPU_ISA"]
    if "AVX512" in compiled_for and not torch.cpu.get_capabilities()["avx512_f"]:
        raise VariantError(f"its code was compiled for {compiled_for}, which this CPU has not: build it again")
