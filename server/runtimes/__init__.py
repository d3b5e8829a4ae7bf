"""One file for each runtime, and the table that names them.

An adapter opens the artifact of one variant and runs it. The same adapter measures a variant in
`compressors` and serves it in `server`. To add a runtime: one file with a class that fits `Runtime`, one
row in `RUNTIMES`, its name in `protos.manifest.RuntimeName`, and its library as an extra in pyproject.toml.
The heavy library is imported in that file and nowhere else, so that serving one runtime needs no other.
"""

import importlib
import math
import tempfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from protos.errors import GoldenError, VariantError
from protos.manifest import Variant
from protos.packing import unpack
from protos.repository import GoldenSet

RUNTIMES = {
    "pytorch": "server.runtimes.pytorch:ExportedProgram",
    "torchscript": "server.runtimes.torchscript:ScriptArchive",
    "onnxruntime": "server.runtimes.onnxruntime:OnnxGraph",
    "openvino": "server.runtimes.openvino:IntermediateRepresentation",
}

Array = NDArray[Any]


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

    Files that are stored compressed are unpacked to a temporary folder. It is gone when this returns: what a
    library goes on reading, it holds open. Raises `VariantError` where its runtime's library is not installed,
    `IntegrityError` where a file cannot be unpacked, else what the library raises.
    """
    module, _, name = RUNTIMES[variant.runtime].partition(":")
    try:
        adapter: type[Runtime] = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise VariantError(
            f"runtime '{variant.runtime}' needs '{error.name}', which is not installed:"
            f" pip install 'paretoserve[{variant.runtime}]'"
        ) from error
    if all(file.unpacked_bytes is None for file in variant.files):
        return adapter(folder / variant.entry, variant, threads)
    with tempfile.TemporaryDirectory(prefix="pareto-") as unpacked:
        unpack(folder, variant.files, Path(unpacked))
        return adapter(Path(unpacked) / variant.entry, variant, threads)


def golden_error(runtime: Runtime, variant: Variant, golden: GoldenSet) -> float:
    """The largest absolute difference of the variant's outputs on the golden inputs from those of FP32.

    The inputs go one row at a time and then all together, so that both ways of serving are warmed up.
    Raises `GoldenError` where an answer is not finite or has not the golden outputs' shape.
    """
    name, output = variant.inputs[0].name, variant.outputs[0].name
    rows = [golden.inputs[i : i + 1] for i in range(len(golden.inputs))]
    single = np.concatenate([runtime.infer({name: row})[output] for row in rows])
    together = runtime.infer({name: golden.inputs})[output]
    for answer in (single, together):
        if answer.shape != golden.outputs.shape:
            raise GoldenError(f"golden outputs have shape {list(answer.shape)}, expected {list(golden.outputs.shape)}")
    error = float(max(np.abs(answer - golden.outputs).max() for answer in (single, together)))
    if not math.isfinite(error):
        raise GoldenError("golden outputs are not finite")
    return error


def check_golden(runtime: Runtime, variant: Variant, golden: GoldenSet) -> None:
    """Warms the variant up on the golden inputs; `GoldenError` where it does not keep its tolerance on them."""
    if variant.golden is None:
        raise GoldenError("its manifest has no golden error, expected one that was measured")
    error = golden_error(runtime, variant, golden)
    if error > variant.golden.tolerance:
        raise GoldenError(
            f"golden outputs differ by {error:.6g} from FP32, expected at most {variant.golden.tolerance:.6g}"
        )
