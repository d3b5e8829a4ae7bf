"""The golden check: a loaded variant must answer a few real inputs as FP32 did."""

import math

from protos.errors import GoldenError
from protos.manifest import Variant
from protos.repository import GoldenSet
from protos.tasks.table import TASKS
from server.runtimes import Array, Runtime, in_batches


def golden_error(runtime: Runtime, variant: Variant, golden: GoldenSet) -> float:
    """Returns how far from FP32 the golden outputs are, by the task's measure, row by row and all rows together.

    Raises `GoldenError` where an answer is not finite or has not the golden outputs' names and shapes.
    """
    singles = in_batches(runtime.infer, golden.inputs, 1)
    errors = [_error(outputs, variant, golden) for outputs in (singles, runtime.infer(golden.inputs))]
    if not all(map(math.isfinite, errors)):
        raise GoldenError("golden outputs are not finite")
    return max(errors)


def _error(outputs: dict[str, Array], variant: Variant, golden: GoldenSet) -> float:
    shapes, expected = ({n: list(a.shape) for n, a in each.items()} for each in (outputs, golden.outputs))
    if shapes != expected:
        raise GoldenError(f"golden outputs have shapes {shapes}, expected {expected}")
    return TASKS[variant.task].golden_error(outputs, golden.outputs)


def check_golden(runtime: Runtime, variant: Variant, golden: GoldenSet) -> None:
    """Warms the variant up on the golden inputs; `GoldenError` where it does not keep its tolerance on them."""
    if variant.golden is None:
        raise GoldenError("its manifest has no golden error, expected one that was measured")
    error = golden_error(runtime, variant, golden)
    if error > variant.golden.tolerance:
        raise GoldenError(
            f"golden outputs differ by {error:.6g} from FP32, expected at most {variant.golden.tolerance:.6g}"
        )
