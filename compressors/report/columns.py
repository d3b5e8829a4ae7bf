"""A column of the table: its heading, its key in CSV, and what it says of a variant."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from protos.frontier import drop_below_fp32
from protos.manifest import Quality, Variant
from protos.support.significance import percent

ABSENT = "-"

Value = str | float | None
Measured = Callable[[Variant, Variant | None], Value]
"""What a cell says of a variant, None where it was not measured; the second argument is what it is compared with."""


@dataclass(frozen=True)
class Column:
    """A heading, the key of the same in CSV, the value, and how it is printed."""

    heading: str
    key: str
    value: Measured
    form: str
    brief: bool = False
    """Whether a table has it unless more is asked for."""

    def text(self, variant: Variant, base: Variant | None) -> str:
        """Returns the cell of a variant, for people."""
        value = self.value(variant, base)
        return ABSENT if value is None else self.form.format(value)


def of_part(part: str, value: Callable[[Any], Value]) -> Measured:
    """Returns the number `value` of a part of the manifest, which may be absent."""
    return lambda v, base: None if (found := getattr(v, part)) is None else value(found)


of_quality = partial(of_part, "quality")


def of_metric(name: str) -> Measured:
    """Returns a further metric of the task."""
    return of_quality(lambda q: (q.others or {}).get(name))


def _below_fp32(v: Variant, base: Variant | None) -> Value:
    known = v.quality.drop_interval if v.quality else None
    return None if known is None else percent(drop_below_fp32(v.variant, known), "{:+z.2f}")


def _points_against_fp32(quality: Quality) -> float | None:
    return None if quality.fp32 is None else 100 * (quality.value - quality.fp32)


AGAINST = (
    Column("against FP32", "points_vs_fp32", of_quality(_points_against_fp32), "{:+z.2f}", brief=True),
    Column("against parent", "points_vs_parent", of_quality(lambda q: 100 * (q.value - q.parent)), "{:+z.2f}"),
    Column("95% interval", "interval", of_quality(lambda q: percent(q.interval)), "{}"),
    Column("below FP32, 95%", "drop_interval", _below_fp32, "{}"),
)
"""Points of the metric against FP32 and against what a recipe began with, and the 95% intervals of metric and drop."""


def agreement(quality: Quality) -> float | None:
    """Returns the share of FP32's predictions that are kept; None where a graph was given as int8."""
    return None if quality.fp32 is None else quality.agreement
