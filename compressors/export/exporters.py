"""From a network to an artifact: one exporter file for each runtime, and the table that names them.

An exporter writes a self-contained artifact with a free batch dimension: loading it imports no class of
this project and reads no pickle. int8 is each runtime's own: its tools quantize what its kernels can run.
To add a runtime: one file with a function from `Job` to `Exported`, and one row in `EXPORTERS`.
"""

import contextlib
import pkgutil
import shutil
import site
import sys
import sysconfig
import tempfile
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compressors.export import lowerings
from compressors.export.lowerings import Lowering, StaticInt8
from compressors.networks.layers import output_names, weights
from protos.manifest import RuntimeName
from protos.tasks.task import Arrays, Rows

CALIBRATION_BATCH = 64

BATCH_RANGE = "activations have one range for the whole batch: an answer depends a little on the rows beside it"
"""A note on int8 whose ranges are found in each call."""

FEW = 5
"""How many layers a note names at most."""

FREE_BATCH = {0: torch.export.Dim("batch", min=1, max=4096)}
"""The dynamic shape of the input, for torch.export and what builds on it."""

Inputs = dict[str, NDArray[np.float32]]
"""Inputs (N, ...) by name."""
Answer = Callable[[Inputs], dict[str, NDArray[np.float32]]]
"""A graph that can be run: inputs to outputs (N, ...) by name."""
Validate = Callable[[Sequence[Arrays], Rows], tuple[float, list[float] | None]]
"""Scores answers of a graph, one by one, to the calibration inputs at these rows: the metric, and that of each."""


@dataclass(frozen=True)
class Exporter:
    """All that is known of a runtime before its exporter is imported."""

    function: str
    """Where its exporter is, as module:function."""
    libraries: tuple[str, ...]
    """The distributions that shape what it writes."""
    takes: tuple[type[Lowering], ...] = (lowerings.Float32,)
    """The lowerings that its exporter can carry out; all others are refused."""
    reasons: Mapping[type[Lowering], str] = field(default_factory=dict)
    """Why it does not take a lowering, in the words of its libraries."""
    refused_options: Mapping[tuple[str, str | bool], str] = field(default_factory=dict)
    """Why it does not take an option of static int8, by the option's name and value."""
    takes_onnx: bool = False
    """Whether an ONNX graph is enough, without a PyTorch network."""
    late_imports: tuple[str, ...] = ()
    """Modules that its library imports only with its first artifact; measuring memory imports them before."""


_COMMON = (lowerings.Float32, lowerings.Float16, StaticInt8, lowerings.DynamicInt8)
_TORCH = (*_COMMON, lowerings.BFloat16)
_NNCF = (lowerings.AccuracyAwareInt8, lowerings.WeightInt8)
_NOT_ORT: dict[type[Lowering], str] = {lowerings.GraphOptimization: "the optimizer is ONNX Runtime's"}
_NOT_TORCH: dict[type[Lowering], str] = _NOT_ORT | {
    lowerings.AccuracyAwareInt8: "accuracy control is NNCF's, for graphs of OpenVINO and ONNX",
    lowerings.WeightInt8: "torch has no 8-bit storage for the weights of convolutions",
}

EXPORTERS: dict[RuntimeName, Exporter] = {
    "pytorch": Exporter(
        "compressors.export.pytorch:export",
        ("torch", "torchao"),
        takes=_TORCH,
        reasons=_NOT_TORCH,
        refused_options={
            ("granularity", "per-tensor"): "Inductor has int8 kernels for weights quantized per channel only",
            ("ranges", "entropy"): "torchao has no entropy observer",
            ("ranges", "percentile"): "torchao has no percentile observer",
            ("fuse", False): "PT2E always folds batch normalization",
            ("bias_correction", True): "torchao corrects no biases",
            (
                "exclude",
                "measured",
            ): "Inductor compiles each choice of layers for half a minute: too long to compare",
        },
        late_imports=("torch._inductor.package", "torch._export.serde.serialize", "torch.export.pt2_archive._package"),
    ),
    "torchscript": Exporter(
        "compressors.export.torchscript:export",
        ("torch",),
        takes=_TORCH,
        reasons=_NOT_TORCH,
        refused_options={
            ("ranges", "entropy"): "torch has no entropy observer",
            ("ranges", "percentile"): "torch has no percentile observer",
            ("bias_correction", True): "FX quantization corrects no biases",
        },
    ),
    "onnxruntime": Exporter(
        "compressors.export.onnxruntime:export",
        ("torch", "onnx", "onnxscript", "onnxruntime", "nncf"),
        takes=(*_COMMON, *_NNCF, lowerings.GraphOptimization),
        reasons={lowerings.BFloat16: "its CPU provider has no bfloat16 kernels"},
        refused_options={("ranges", "histogram"): "its quantizer has no calibration by least squared error"},
        takes_onnx=True,
    ),
    "openvino": Exporter(
        "compressors.export.openvino:export",
        ("torch", "onnx", "onnxscript", "openvino", "nncf"),
        takes=(*_TORCH, *_NNCF),
        reasons=_NOT_ORT,
        refused_options={
            ("ranges", "entropy"): "NNCF has no range estimator by entropy",
            ("fuse", False): "OpenVINO folds batch normalization whenever it compiles",
        },
        takes_onnx=True,
    ),
}


def refusal(lowering: Lowering, runtime: RuntimeName) -> str | None:
    """Returns why `runtime` does not take the lowering, known before any work starts; None where it takes it."""
    row = EXPORTERS[runtime]
    if type(lowering) not in row.takes:
        return row.reasons.get(type(lowering), f"its exporter has no function for {type(lowering).__name__}")
    return next((row.refused_options[o] for o in vars(lowering).items() if o in row.refused_options), None)


@dataclass(frozen=True)
class Job:
    """What an exporter is given."""

    network: nn.Module
    """FP32, in evaluation mode; an exporter leaves it as it was."""
    example: torch.Tensor
    """Inputs (2, 3, H, W), a batch that cannot be mistaken for a constant; row-major, as adapters send them:
    a compiled artifact is bound to these strides and does not check them."""
    lowering: Lowering
    calibration: torch.Tensor | None
    """Inputs (N, 3, H, W) to find ranges with; None where the lowering takes none."""
    folder: Path
    """Where the artifact goes; made anew."""
    validate: Validate | None = None
    """Scores answers to the calibration inputs."""
    compressible: bool = False
    """Whether the artifact is to be stored compressed: folding batch normalization would give each channel values of
    its own."""
    float_tail: bool = False
    """Whether int8 leaves what follows the last layers in floating point, see `float_parts`."""

    def __post_init__(self) -> None:
        assert self.example.is_contiguous()

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the network's outputs."""
        return output_names(self.network)

    def calibration_batches(self) -> list[torch.Tensor]:
        """Returns the calibration inputs in batches, one by one where the range of each is needed."""
        assert self.calibration is not None
        one_by_one = isinstance(self.lowering, StaticInt8) and self.lowering.ranges == "mean-min-max"
        one_by_one |= getattr(self.network, "max_batch", None) is not None
        return list(self.calibration.split(1 if one_by_one else CALIBRATION_BATCH))


@dataclass(frozen=True)
class Exported:
    """An artifact: the file that the runtime opens, and what a reader of its measurements must know."""

    entry: str
    notes: tuple[str, ...] = ()


def export(exporter: Exporter, job: Job) -> Exported:
    """Writes the artifact into the job's folder.

    Raises what the exporter raises, and `ValueError` where the artifact would carry a path of this machine.
    """
    shutil.rmtree(job.folder, ignore_errors=True)
    job.folder.mkdir(parents=True)
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")  # what the libraries tell their own developers, deprecations above all
        exported: Exported = pkgutil.resolve_name(exporter.function)(job)
    refuse_local_paths(job.folder)
    return exported


def dynamic_note(network: nn.Module, left_out: Collection[str] = ()) -> str:
    """Says how much of a network dynamic int8 changes: its linear layers but those `left_out`."""
    every = weights(network)
    touched = [weight for name, weight in every.items() if weight.dim() == 2 and name not in left_out]
    share = sum(weight.numel() for weight in touched) / sum(p.numel() for p in network.parameters())
    return f"dynamic int8 touches {len(touched)} of {len(every)} layers, {share:.2%} of the weights"


def float_note(names: Sequence[str], total: int) -> tuple[str, ...]:
    """Says which of the `total` layers stayed in floating point, if any did."""
    if not names:
        return ()
    rest = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return (f"{len(names)} of {total} layers stay in FP32: {', '.join(names[:FEW])}{rest}",)


def local_paths() -> list[str]:
    """Lists folders of this machine that compilers and tracers leave in what they write, longest first."""
    found = {sys.prefix, sys.base_prefix, sysconfig.get_path("purelib"), tempfile.gettempdir(), *site.getsitepackages()}
    found |= {str(path) for path in (Path(__file__).parents[2], Path.cwd(), Path.home())}
    return sorted((path for path in found if path != "/"), key=len, reverse=True)


def refuse_local_paths(folder: Path) -> None:
    """Raises `ValueError` where a file below `folder` holds a path of this machine."""
    for path in (p for p in folder.rglob("*") if p.is_file()):
        content = path.read_bytes()
        for local in local_paths():
            if local.encode() + b"/" in content:
                raise ValueError(f"{path.name} carries the path '{local}' of the machine that built it")
