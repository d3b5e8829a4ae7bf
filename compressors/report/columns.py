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
    brief: bool = True
    """Whether a narrow terminal shows it too."""

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


INTERVALS = (
    Column("95% interval", "interval", of_quality(lambda q: percent(q.interval)), "{}", brief=False),
    Column("below FP32, 95%", "drop_interval", _below_fp32, "{}", brief=False),
)
"""The 95% intervals of the metric, and of how many points it is below that of `fp32-pytorch`."""


def points_below_fp32(quality: Quality) -> float | None:
    """Returns by how many points the metric is below FP32's; None where no FP32 is known."""
    return None if quality.fp32 is None else 100 * (quality.fp32 - quality.value)


def agreement(quality: Quality) -> float | None:
    """Returns the share of FP32's predictions that are kept; None where a graph was given as int8."""
    return None if quality.fp32 is None else quality.agreement
