"""Whether a student that was built is what was asked for: fast enough, within the points, and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass

from protos.manifest import Quality, Variant
from protos.support.significance import percent


@dataclass(frozen=True)
class Asked:
    """What a student has to keep."""

    most_ms: float
    """The p50 of one image."""
    max_drop: float
    """Points of accuracy below the user's FP32."""


@dataclass(frozen=True)
class Verdict:
    """The answer, and one line that says it."""

    found: bool
    text: str


def to_beat(own: Sequence[Variant], max_drop: float) -> Variant:
    """Returns the fastest of the user's own variants that lost no more than `max_drop` points: int8, mostly."""
    kept = [v for v in own if v.latency and v.quality and _drop(v.quality) <= max_drop]
    return min(kept, key=_p50)


def verdict(students: Sequence[Variant], beat: Variant, asked: Asked) -> Verdict:
    """Judges the variants of a student against the user's variant `beat`, all measured in one run.

    The one that is spoken of is the fastest that is as asked for; without any, the most accurate that is fast enough;
    without any such, the fastest.
    """
    known = [(v, v.quality) for v in students if v.latency and v.quality]
    if not known:
        return Verdict(False, "Not found: no variant of the student could be built.")
    fast = [(v, q) for v, q in known if _p50(v) <= asked.most_ms]
    right = [(v, q) for v, q in fast if _drop(q) <= asked.max_drop]
    if right:
        chosen, quality = min(right, key=lambda one: _p50(one[0]))
    elif fast:
        chosen, quality = max(fast, key=lambda one: one[1].value)
    else:
        chosen, quality = min(known, key=lambda one: _p50(one[0]))
    said = f"{_speed(chosen, beat)}, {_accuracy(quality)}"
    if right:
        return Verdict(True, f"Found: {said}. {_certainty(quality, asked)}")
    missed = [] if fast else [f"{asked.most_ms:.3f} ms were asked for"]
    missed += [f"more than --max-drop {asked.max_drop:g}"] if _drop(quality) > asked.max_drop else []
    return Verdict(False, f"Not found. The nearest: {said}: {', '.join(missed)}. {_advice(bool(fast))}")


def _p50(variant: Variant) -> float:
    assert variant.latency is not None
    return variant.latency.p50_ms


def _drop(quality: Quality) -> float:
    """Returns the points that a variant lost against the user's FP32."""
    assert quality.fp32 is not None
    return 100 * (quality.fp32 - quality.value)


def _speed(variant: Variant, beat: Variant) -> str:
    times = _p50(beat) / _p50(variant)
    return (
        f"{variant.variant} is {times:.1f} times faster than {beat.variant} ({_p50(variant):.3f} ms, {_p50(beat):.3f})"
    )


def _accuracy(quality: Quality) -> str:
    drop = _drop(quality)
    word = "loses" if drop >= 0 else "gains"
    interval = percent(quality.drop_interval, "{:+z.2f}")
    return f"and {word} {abs(drop):.2f} points of {quality.metric} (95%: {interval} points below FP32)"


def _certainty(quality: Quality, asked: Asked) -> str:
    within = f"within {asked.max_drop:g} point{'' if asked.max_drop == 1 else 's'}"
    if quality.drop_interval and 100 * quality.drop_interval[1] <= asked.max_drop:
        return f"That it is {within} is sure at 95%."
    return f"{quality.samples} test images are too few to be sure that it is {within}."


def _advice(fast_enough: bool) -> str:
    if fast_enough:
        return "A longer --budget or a smaller --faster may find one."
    return "A smaller --faster may find one."
