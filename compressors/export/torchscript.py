"""TorchScript artifacts: traced and frozen, in static int8 from FX graph-mode quantization.

int8 uses the fbgemm/oneDNN kernels that torch's own quantized tensors run on x86.
Source: https://docs.pytorch.org/docs/stable/quantization.html (FX graph mode, static; eager mode, dynamic)
"""

import copy
import zipfile
from functools import singledispatch
from pathlib import Path

import torch
from torch import nn
from torch.ao.quantization import QConfig, QConfigMapping, get_default_qconfig_mapping, quantize_dynamic
from torch.ao.quantization.backend_config import BackendConfig, get_native_backend_config
from torch.ao.quantization.observer import (
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    default_per_channel_weight_observer,
    default_weight_observer,
)
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

from compressors.export.exporters import BATCH_RANGE, Exported, Job, dynamic_note
from compressors.export.half import Half
from compressors.export.lowerings import BFloat16, DynamicInt8, Float16, Float32, Lowering, StaticInt8
from compressors.networks.layers import weights

ENTRY = "model.pt"

_OBSERVERS = {"min-max": MinMaxObserver, "mean-min-max": MovingAverageMinMaxObserver}
"""What watches activations for ranges other than torch's own choice, which is a histogram."""

_NORMALIZATIONS = {nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d}

Lowered = tuple[nn.Module, tuple[str, ...]]
"""The network as it is to be traced, and the notes on it."""


def export(job: Job) -> Exported:
    """Writes `model.pt`."""
    lowered, notes = _lowered(job.lowering, job)
    with torch.no_grad():
        frozen = torch.jit.freeze(torch.jit.trace(lowered, job.example[:1]))
    traced = job.folder / "traced.pt"
    frozen.save(str(traced))
    _without_source_ranges(traced, job.folder / ENTRY)
    traced.unlink()
    return Exported(ENTRY, notes)


@singledispatch
def _lowered(lowering: Lowering, job: Job) -> Lowered:
    """Lowers the network."""
    raise TypeError(f"{type(lowering).__name__} is not for TorchScript")


@_lowered.register
def _float32(lowering: Float32, job: Job) -> Lowered:
    return job.network, ()


@_lowered.register
def _float16(lowering: Float16, job: Job) -> Lowered:
    return Half(job.network, torch.float16), job.instructions_note()


@_lowered.register
def _bfloat16(lowering: BFloat16, job: Job) -> Lowered:
    return Half(job.network, torch.bfloat16), job.instructions_note()


@_lowered.register
def _dynamic_int8(lowering: DynamicInt8, job: Job) -> Lowered:
    torch.backends.quantized.engine = "x86"
    quantized: nn.Module = quantize_dynamic(copy.deepcopy(job.network), {nn.Linear}, dtype=torch.qint8)
    note = dynamic_note(job.network, left_out=weights(quantized))  # what it quantizes is no nn.Linear any more
    return quantized, (note, BATCH_RANGE, *job.instructions_note())


@_lowered.register
def _static_int8(lowering: StaticInt8, job: Job) -> Lowered:
    torch.backends.quantized.engine = "x86"
    backend = None if lowering.fuse else _without_folding()
    with torch.no_grad():
        network = copy.deepcopy(job.network)
        prepared = prepare_fx(network, _observers(lowering), (job.example,), backend_config=backend)
        for batch in job.calibration_batches():
            prepared(batch)
        converted: nn.Module = convert_fx(prepared, backend_config=backend)
    return converted, job.instructions_note()


def _observers(step: StaticInt8) -> QConfigMapping:
    """What watches activations, and what finds the scales of weights."""
    activations = _OBSERVERS.get(step.ranges, HistogramObserver)
    weights = default_weight_observer if step.granularity == "per-tensor" else default_per_channel_weight_observer
    mapping = get_default_qconfig_mapping("x86")
    return mapping.set_global(QConfig(activations.with_args(reduce_range=step.range == "reduced"), weights))


def _without_folding() -> BackendConfig:
    """The backend's patterns but those that join batch normalization with the layer before it."""
    patterns = get_native_backend_config().configs
    apart = [p for p in patterns if not isinstance(p.pattern, tuple) or not _NORMALIZATIONS & {*p.pattern[1:]}]
    return BackendConfig("unfused").set_backend_pattern_configs(apart)


def _without_source_ranges(archive: Path, target: Path) -> None:
    """Copies an archive without the records that point each operation to a line of this machine's files."""
    reader = torch._C.PyTorchFileReader(str(archive))
    with zipfile.ZipFile(archive) as source:
        names = [name.partition("/")[2] for name in source.namelist()]
    writer = torch._C.PyTorchFileWriter(str(target))
    for name in names:
        if not name.endswith(".debug_pkl") and not name.startswith(".data/") and name != "version":
            record = reader.get_record(name)
            writer.write_record(name, record, len(record))
    writer.write_end_of_file()
