"""What a reader of the table must know of a variant: notes of its exporter, and promises that did not hold here.

A variant is held against the one that it was made from in the same runtime: compression that made nothing
faster on this machine says so, with the reason where that is known.
"""

from collections.abc import Sequence

from compressors.export.lowerings import missing_instructions
from protos.manifest import Variant

NO_FASTER = 0.98
"""A variant is called no faster where its p50 is above this share of the other's."""
MASKED = 0.95
"""Weights count as masked where at most this share of them is not zero."""
FALLEN = 0.05
"""Static int8 that loses more of its parent's accuracy is likely to have wrong ranges: rounding alone costs less."""


def of(variants: list[Variant]) -> dict[str, list[str]]:
    """Returns the notes of each variant of one model that has any."""
    notes = {v.variant: [*v.notes, *_fallen(v), *_broken_promises(v, _origin(v, variants))] for v in variants}
    return {name: texts for name, texts in notes.items() if texts}


def _origin(v: Variant, variants: Sequence[Variant]) -> Variant | None:
    """The variant whose recipe is that of `v` without its last step, in the same runtime."""
    steps = v.recipe.steps[:-1]
    return next((other for other in variants if (other.runtime, other.recipe.steps) == (v.runtime, steps)), None)


def _fallen(v: Variant) -> list[str]:
    if v.quality is None or not v.recipe.steps:
        return []
    last, loss = v.recipe.steps[-1], v.quality.parent - v.quality.value
    if loss <= FALLEN or last.name != "static-int8" or last.parameters.get("ranges") == "mean-min-max":
        return []
    return [f'lost {100 * loss:.1f} points: one calibration image may have set its ranges, see ranges = "mean-min-max"']


def _broken_promises(v: Variant, origin: Variant | None) -> list[str]:
    masked = v.network.nonzero_parameters <= MASKED * v.network.parameters
    zeros = f"{1 - v.network.nonzero_parameters / v.network.parameters:.0%} of the weights are zero"
    if not _no_faster(v, origin) or origin is None:
        return [f"masked weights ({zeros})"] if masked else []
    if v.precision != origin.precision:
        return [f"{v.precision} is no faster than {origin.variant} here{_ratio(v, origin)}{_reason(v)}"]
    if masked:
        return [f"masked weights ({zeros}), dense kernels: no faster than {origin.variant}"]
    if v.network.parameters < origin.network.parameters:
        return [f"fewer weights, but no faster than {origin.variant} here{_ratio(v, origin)}"]
    return []


def times_faster(v: Variant, variants: Sequence[Variant]) -> tuple[str, float] | None:
    """Returns the variant that `v` was made from, and the former's p50 over the latter's; None without both."""
    origin = _origin(v, variants)
    if origin is None or v.latency is None or origin.latency is None:
        return None
    return origin.variant, origin.latency.p50_ms / v.latency.p50_ms


def _no_faster(v: Variant, origin: Variant | None) -> bool:
    if origin is None or v.latency is None or origin.latency is None:
        return False
    return v.latency.p50_ms > NO_FASTER * origin.latency.p50_ms


def _ratio(v: Variant, origin: Variant) -> str:
    assert v.latency is not None
    assert origin.latency is not None
    return f" ({v.latency.p50_ms:.3f} ms against {origin.latency.p50_ms:.3f})"


def _reason(v: Variant) -> str:
    if v.precision == "int8" and missing_instructions(v.precision, v.machine.instruction_sets):
        return ": this CPU has no instructions for int8 (VNNI)"
    return ""
