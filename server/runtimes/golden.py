"""The golden check: a loaded variant must answer a few real inputs as FP32 did."""

import math

import numpy as np

from protos.errors import GoldenError
from protos.manifest import Variant
from protos.repository import GoldenSet
from server.runtimes import Runtime


def golden_error(runtime: Runtime, variant: Variant, golden: GoldenSet) -> float:
    """Returns the largest absolute difference from FP32 of the golden outputs, row by row and all rows together.

    Raises `GoldenError` where an answer is not finite or has not the golden outputs' shape.
    """
    name, output = variant.inputs[0].name, variant.outputs[0].name
    single = np.concatenate([runtime.infer({name: row[None]})[output] for row in golden.inputs])
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
