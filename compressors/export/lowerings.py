"""Lowering steps: what each runtime's own tools do to a network while it is exported. Data only.

To add a lowering: a class here, its name in `recipes.STEPS`, and for each runtime that can take it a function in its
exporter and a place in its row of `exporters.EXPORTERS`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar, Literal

from protos.manifest import Precision
from protos.support.machine import VNNI

Range = Literal["reduced", "full"]
"""How many values one side of an 8-bit product may take. CPUs without VNNI add two products in 16 bits, which
saturate unless one side has 7 bits: `reduced` is right on every x86-64 with AVX2, `full` only on one with VNNI.
https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html#when-and-why-do-i-need-to-try-u8u8
"""


@dataclass(frozen=True)
class Lowering:
    """The last step of a recipe."""

    precision: ClassVar[Precision] = "fp32"
    calibrated: ClassVar[bool] = False
    """Whether it needs the calibration split."""


class Float32(Lowering):
    """Leaves the network as it is."""


class Float16(Lowering):
    """Weights in IEEE half precision; inputs and outputs stay FP32."""

    precision = "fp16"


class BFloat16(Lowering):
    """Computes in bfloat16; inputs and outputs stay FP32."""

    precision = "bf16"


@dataclass(frozen=True)
class StaticInt8(Lowering):
    """Post-training int8: the ranges of activations come from the calibration split."""

    precision = "int8"
    calibrated = True

    granularity: Literal["per-channel", "per-tensor"] = "per-channel"
    """What of a weight shares one scale: each output channel has its own, or the whole tensor has one."""
    ranges: Literal["default", "min-max", "mean-min-max", "histogram", "entropy", "percentile"] = "default"
    """How an activation's range follows from what calibration saw; `default` is the tool's own way.

    min-max: all values; mean-min-max: the least and greatest of the mean image (torch: of a moving mean), so that a
    single odd one does not decide; histogram: the range of least squared error; entropy: of least Kullback-Leibler
    divergence; percentile: all but the rarest values."""
    fuse: bool = True
    """Whether batch normalization is folded into the convolution before it is quantized."""
    range: Range = "reduced"
    float_layers: tuple[str, ...] = ()
    """Layers that stay in FP32: paths in the network; in a graph, names of nodes, or of weights without `.weight`."""
    bias_correction: bool = False
    """Whether the mean error of each layer's outputs is taken off its bias (https://arxiv.org/abs/1906.04721). NNCF
    does so: for OpenVINO always, for ONNX Runtime where this is true, in place of the runtime's own quantizer."""
    exclude: Literal["", "measured"] = ""
    """`measured`: layers whose int8 form is slower than FP32 in this runtime on this machine stay in FP32, beside the
    `float_layers`; `export.measured` has the rule."""

    def __post_init__(self) -> None:
        if self.bias_correction and (self.ranges == "entropy" or not self.fuse):
            raise ValueError("bias_correction: NNCF, which does it, has no ranges by entropy and always fuses")


class DynamicInt8(Lowering):
    """int8 in linear layers only: weights beforehand, activations in each call, without calibration."""

    precision = "int8"


@dataclass(frozen=True)
class AccuracyAwareInt8(Lowering):
    """Static int8 that takes layers back to floating point until no more than `max_drop` is lost.

    A quarter of the calibration split gives ranges, the rest says what is lost; the test split is not used.
    """

    precision = "int8"
    calibrated = True

    max_drop: float
    """Points of the metric that may be lost."""
    range: Range = "reduced"
    float_layers: tuple[str, ...] = ()
    """Layers that stay in FP32 from the start, named as for static int8."""

    def __post_init__(self) -> None:
        if not 0 < self.max_drop < 100:
            raise ValueError(f"max_drop: got {self.max_drop}, expected more than 0 and less than 100 points")


class WeightInt8(Lowering):
    """Weights of convolutions and linear layers stored in int8, per channel; the runtime computes in FP32."""

    precision = "int8"


class GraphOptimization(Lowering):
    """Patterns of transformers replaced by fused operators beforehand, in FP32."""


FLOAT32 = Float32()


def required(lowering: Lowering) -> tuple[str, ...]:
    """Returns the instruction sets one of which the lowered network needs, or its answers are wrong; none for most."""
    return VNNI if getattr(lowering, "range", "reduced") == "full" else ()


def depends_on_machine(lowering: Lowering) -> bool:
    """Says whether what is made depends on how fast this machine is."""
    return bool(getattr(lowering, "exclude", ""))


_FAST_WITH: dict[Precision, tuple[Collection[str], str]] = {
    "int8": (VNNI, "VNNI"),
    "fp16": (("avx512_fp16",), "FP16"),
    "bf16": (("avx512_bf16", "amx_bf16"), "BF16"),
}
"""The instruction sets one of which a precision needs to be computed fast, and what they are called together."""


def missing_instructions(precision: Precision, instruction_sets: Collection[str]) -> str | None:
    """Returns what a machine with these instruction sets lacks to compute `precision` fast; None where nothing."""
    needed, name = _FAST_WITH.get(precision, ((), ""))
    return name if needed and not {*needed} & {*instruction_sets} else None
