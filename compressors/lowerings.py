"""Lowering steps: what each runtime's own tools do to a network while it is exported. Data only.

An exporter carries a lowering out in the function that it registered for its type. What a runtime cannot take
is said here, in `refusal`, so that it is known before any work starts and a table can say why a row is missing.
To add a lowering: a dataclass here, its name in `recipes.STEPS`, its function in each exporter that can take
it, and a line in `_REFUSED` for each that cannot.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from protos.manifest import Precision, RuntimeName


@dataclass(frozen=True)
class Float32:
    """Leaves the network as it is."""

    precision: ClassVar[Precision] = "fp32"
    calibrated: ClassVar[bool] = False


@dataclass(frozen=True)
class StaticInt8:
    """Post-training int8: ranges from the calibration split, weights quantized per channel."""

    precision: ClassVar[Precision] = "int8"
    calibrated: ClassVar[bool] = True

    granularity: Literal["per-channel"] = "per-channel"


Lowering = Float32 | StaticInt8

FLOAT32 = Float32()

_REFUSED: dict[tuple[type[Lowering], RuntimeName], str] = {}
"""Why a runtime cannot take a step whatever its parameters."""


def refusal(lowering: Lowering, runtime: RuntimeName) -> str | None:
    """Why `runtime` cannot take the step; None where it can."""
    return _REFUSED.get((type(lowering), runtime))
