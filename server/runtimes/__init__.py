"""One file for each runtime, and the table that names them.

An adapter opens the artifact of one variant and runs it. The same adapter measures a variant in
`compressors` and serves it in `server`. To add a runtime: one file with a class that fits `Runtime`, one
row in `RUNTIMES`, its name in `protos.manifest.RuntimeName`, and its library as an extra in pyproject.toml.
The heavy library is imported in that file and nowhere else, so that serving one runtime needs no other.
"""

import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from protos.errors import VariantError
from protos.manifest import Variant
from protos.packing import unpack
from protos.support.machine import instruction_sets
from protos.support.makers import tell_nothing

tell_nothing()

RUNTIMES = {
    "pytorch": "server.runtimes.pytorch:ExportedProgram",
    "torchscript": "server.runtimes.torchscript:ScriptArchive",
    "onnxruntime": "server.runtimes.onnxruntime:OnnxGraph",
    "openvino": "server.runtimes.openvino:IntermediateRepresentation",
}

Array = NDArray[Any]
Infer = Callable[[dict[str, Array]], dict[str, Array]]


class Runtime(Protocol):
    """One loaded variant. `infer` is called by one thread at a time, not always the one that loaded it."""

    def __init__(self, path: Path, variant: Variant, threads: int) -> None:
        """Opens the artifact `path`, to be computed by `threads` threads; raises what its library raises."""

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Outputs (N, ...) by name for inputs (N, ...) by name; the batch N is free."""

    def close(self) -> None:
        """Gives memory and threads back; `infer` is not called after it."""


def load(folder: Path, variant: Variant, threads: int) -> Runtime:
    """Loads the variant in `folder` to compute with `threads` threads.

    Raises `VariantError` where this CPU lacks what the variant requires or its runtime's library is not installed,
    `IntegrityError` where a file that is stored compressed cannot be unpacked, else what the library raises.
    """
    if variant.requires and not {*variant.requires} & {*(here := instruction_sets())}:
        raise VariantError(f"needs a CPU with one of {', '.join(variant.requires)}, this one has {', '.join(here)}")
    module, _, name = RUNTIMES[variant.runtime].partition(":")
    try:
        adapter: type[Runtime] = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise VariantError(
            f"runtime '{variant.runtime}' needs '{error.name}', which is not installed:"
            f" pip install 'paretoserve[{variant.runtime}]'"
        ) from error
    runtime = _open(adapter, folder, variant, threads)
    return SmallBatches(runtime, variant.max_batch) if variant.max_batch else runtime


def in_batches(infer: Infer, inputs: dict[str, Array], size: int) -> dict[str, Array]:
    """Returns the outputs for `inputs`, of which `infer` is given at most `size` rows at a time."""
    rows = len(next(iter(inputs.values())))
    parts = [infer({n: a[start : start + size] for n, a in inputs.items()}) for start in range(0, rows, size)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class SmallBatches:
    """A runtime whose artifact is to get at most `size` rows at a time, as one whose batch is free."""

    def __init__(self, runtime: Runtime, size: int) -> None:
        self._runtime, self._size = runtime, size

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """See `Runtime.infer`."""
        return in_batches(self._runtime.infer, inputs, self._size)

    def close(self) -> None:
        """See `Runtime.close`."""
        self._runtime.close()


def _open(adapter: type[Runtime], folder: Path, variant: Variant, threads: int) -> Runtime:
    if all(file.unpacked_bytes is None for file in variant.files):
        return adapter(folder / variant.entry, variant, threads)
    with tempfile.TemporaryDirectory(prefix="pareto-") as unpacked:  # what a library goes on reading, it holds open
        unpack(folder, variant.files, Path(unpacked))
        return adapter(Path(unpacked) / variant.entry, variant, threads)
