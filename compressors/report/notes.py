"""What a reader of the table must know of a variant: notes of its exporter, and promises that did not hold here.

A variant is held against the one that it was made from in the same runtime: compression that made nothing
faster on this machine says so, with the reason where that is known.
"""

from collections.abc import Sequence

from compressors.export.lowerings import missing_instructions
from compressors.measure.latency import KNOWN
from protos.manifest import Variant
from protos.tasks.table import TASKS

NO_FASTER = 0.98
"""A variant is called no faster where its p50 is above this share of the other's."""
LOST = 0.015
"""Static int8 that loses more of its parent's accuracy is told what loses less, where its drop is hardly chance."""
MASKED = 0.95
"""Weights count as masked where at most this share of them is not zero."""
FALLEN = 0.05
"""Static int8 that loses more of its parent's accuracy is likely to have wrong ranges: rounding alone costs less."""


def of(variants: list[Variant]) -> dict[str, list[str]]:
    """Returns the notes of each variant of one model that has any."""
    images = max((v.quality.samples for v in variants if v.quality), default=0)
    notes = {
        v.variant: [*v.notes, *_short(v, images), *_fallen(v), *_broken_promises(v, _origin(v, variants))]
        for v in variants
    }
    return {name: texts for name, texts in notes.items() if texts}


def _origin(v: Variant, variants: Sequence[Variant]) -> Variant | None:
    """Returns the variant whose recipe is that of `v` without its last step, in the same runtime."""
    steps = v.recipe.steps[:-1]
    return next((other for other in variants if (other.runtime, other.recipe.steps) == (v.runtime, steps)), None)


def times_faster(v: Variant, variants: Sequence[Variant]) -> tuple[str, float] | None:
    """Returns the variant that `v` was made from, and the former's p50 over the latter's; None without both."""
    origin = _origin(v, variants)
    if origin is None or v.latency is None or origin.latency is None:
        return None
    return origin.variant, origin.latency.p50_ms / v.latency.p50_ms


def _short(v: Variant, images: int) -> list[str]:
    """Says where the time for a measurement was over before it was done."""
    said = []
    if v.quality and v.quality.samples < images:
        said.append(f"{TASKS[v.task].title} on {v.quality.samples} of {images} images: its time was over")
    if v.latency and v.latency.known_within is not None and v.latency.known_within > KNOWN:
        within = f"within {v.latency.known_within:.1%} after {v.latency.samples} calls"
        said.append(f"its p50 is known {within}, its time was over before it was within {KNOWN:.0%}")
    return said


def _fallen(v: Variant) -> list[str]:
    if v.quality is None or not v.recipe.steps:
        return []
    last, loss = v.recipe.steps[-1], v.quality.parent - v.quality.value
    if last.name != "static-int8":
        return []
    if loss > FALLEN and last.parameters.get("ranges") != "mean-min-max":
        return [
            f'lost {100 * loss:.1f} points: one calibration image may have set its ranges, see ranges = "mean-min-max"'
        ]
    if loss > LOST and (v.quality.drop_interval or (0.0, 0.0))[0] > 0:
        return [f"lost {100 * loss:.1f} points: accuracy-aware-int8 (--max-drop) takes layers back to FP32"]
    return []


def _broken_promises(v: Variant, origin: Variant | None) -> list[str]:
    masked = v.network.nonzero_parameters <= MASKED * v.network.parameters
    zeros = f"masked weights ({1 - v.network.nonzero_parameters / v.network.parameters:.0%} of the weights are zero)"
    now, before = v.latency, origin.latency if origin else None
    if origin is None or now is None or before is None or now.p50_ms <= NO_FASTER * before.p50_ms:
        return [zeros] if masked else []
    ratio = f" ({now.p50_ms:.3f} ms against {before.p50_ms:.3f})"
    if v.precision != origin.precision:
        missing = missing_instructions(v.precision, v.machine.instruction_sets)
        reason = f": this CPU has no instructions for {v.precision} ({missing})" if missing else ""
        return [f"{v.precision} is no faster than {origin.variant} here{ratio}{reason}"]
    if masked:
        return [f"{zeros}, dense kernels: no faster than {origin.variant}"]
    if v.network.parameters < origin.network.parameters:
        return [f"fewer weights, but no faster than {origin.variant} here{ratio}"]
    return []
