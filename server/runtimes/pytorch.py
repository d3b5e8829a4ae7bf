"""PyTorch: `torch.export` programs, and AOTInductor packages (a `.pt2` with a compiled model inside).

Neither holds pickled objects or needs the classes that the network was written in. An AOTInductor package
is native code: on a CPU that lacks an instruction in it, it would end the process.
Source: https://docs.pytorch.org/docs/stable/export.html
"""

import logging
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from protos.errors import VariantError
from protos.manifest import Variant
from server.runtimes import Array

# It warns where a package was compiled for less than this CPU has, which costs speed at most.
logging.getLogger("torch.export.pt2_archive._package").setLevel(logging.ERROR)

Call = Callable[..., torch.Tensor | Sequence[torch.Tensor]]


class TorchCall(ABC):
    """What PyTorch's runtimes share: the artifact opens as one call, NumPy goes in and out, on the plan's threads."""

    def __init__(self, path: Path, variant: Variant, threads: int) -> None:
        self._threads = threads
        self._inputs = [spec.name for spec in variant.inputs]
        self._outputs = [spec.name for spec in variant.outputs]
        torch.set_num_threads(threads)
        self._call = self.open(path)

    @staticmethod
    @abstractmethod
    def open(path: Path) -> Call:
        """Returns the artifact as a callable from the inputs' tensors to that of the output, or those of several."""

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """See `Runtime.infer`."""
        if torch.get_num_threads() != self._threads:  # the count belongs to the calling thread
            torch.set_num_threads(self._threads)
        tensors = [torch.from_numpy(inputs[name].copy()) for name in self._inputs]  # torch takes no read-only memory
        with torch.inference_mode():
            answer = self._call(*tensors)
        answers = (answer,) if isinstance(answer, torch.Tensor) else answer
        return {name: tensor.numpy() for name, tensor in zip(self._outputs, answers, strict=True)}

    def close(self) -> None:
        """See `Runtime.close`."""
        del self._call


class ExportedProgram(TorchCall):
    """A `.pt2` file; the archive says which of the two kinds it is."""

    @staticmethod
    def open(path: Path) -> Call:
        """Returns the program as a module."""
        with zipfile.ZipFile(path) as archive:
            compiled = any("/aotinductor/" in name for name in archive.namelist())
        if compiled:
            _check_instructions(path)
            loader = torch._inductor.aoti_load_package(str(path)).loader
            return lambda *tensors: loader.boxed_run([*tensors])  # the package itself looks for nested inputs: 11 us
        return torch.export.load(path).module()


def _check_instructions(package: Path) -> None:
    """Raises `VariantError` where an AOTInductor package was compiled for AVX512 and this CPU has none."""
    loader: Any = torch._C._aoti.AOTIModelPackageLoader
    compiled_for = loader.load_metadata_from_package(str(package), "model")["AOTI_CPU_ISA"]
    if "AVX512" in compiled_for and not torch.cpu.get_capabilities()["avx512_f"]:
        raise VariantError(f"its code was compiled for {compiled_for}, which this CPU has not: build it again")
