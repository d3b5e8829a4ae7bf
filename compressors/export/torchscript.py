"""TorchScript artifacts: traced and frozen, in static int8 from FX graph-mode quantization.

int8 uses the fbgemm/oneDNN kernels that torch's own quantized tensors run on x86.
Source: https://docs.pytorch.org/docs/stable/quantization.html (FX graph mode, static; eager mode, dynamic)
"""

import copy
import zipfile
from dataclasses import replace
from functools import partial, singledispatch
from pathlib import Path

import torch
from torch import nn
from torch.ao.quantization import QConfig, QConfigMapping, get_default_qconfig_mapping, observer, quantize_dynamic
from torch.ao.quantization.backend_config import BackendConfig, get_native_backend_config
from torch.ao.quantization.fx.custom_config import PrepareCustomConfig
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

from compressors.export import float_parts, measured
from compressors.export.exporters import BATCH_RANGE, Exported, Job, dynamic_note, float_note
from compressors.export.half import Half
from compressors.export.lowerings import BFloat16, DynamicInt8, Float16, Lowering, StaticInt8
from compressors.networks.layers import weights
from compressors.networks.pixels import Floats

ENTRY = "model.pt"

_OBSERVERS = {"min-max": observer.MinMaxObserver, "mean-min-max": observer.MovingAverageMinMaxObserver}
"""What watches activations for ranges other than torch's own choice, which is a histogram."""

WHOLE = PrepareCustomConfig().set_non_traceable_module_classes([Floats])
"""What is not looked into: pixels have no ranges to be found."""

_NORMALIZATIONS = {nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d}


def export(job: Job) -> Exported:
    """Writes `model.pt`."""
    step, notes = job.lowering, tuple[str, ...]()
    if isinstance(step, StaticInt8):
        layers = measured.modules_with_weights(job.network)
        choice = measured.choose(job, "torchscript", ENTRY, layers, partial(_save_to_be_timed, job))
        notes = (*float_note(step.float_layers, len(weights(job.network))), *choice.notes)
        job = replace(job, lowering=replace(step, float_layers=choice.layers))
    lowered = _save(job)
    if isinstance(step, DynamicInt8):  # what it quantizes is no nn.Linear any more
        notes = (dynamic_note(job.network, left_out=weights(lowered)), BATCH_RANGE)
    return Exported(ENTRY, notes)


def _save(job: Job) -> nn.Module:
    """Writes the artifact and returns the network that was traced for it."""
    lowered = _lowered(job.lowering, job)
    with torch.no_grad():
        frozen = torch.jit.freeze(torch.jit.trace(lowered, job.example[:1]))
    traced = job.folder / "traced.pt"
    frozen.save(str(traced))
    _without_source_ranges(traced, job.folder / ENTRY)
    traced.unlink()
    return lowered


def _save_to_be_timed(job: Job, floating: tuple[str, ...], folder: Path) -> None:
    _save(measured.to_be_timed(job, floating, folder))


@singledispatch
def _lowered(lowering: Lowering, job: Job) -> nn.Module:
    """Returns the network as it is to be traced; FP32, for which nothing is registered below, as it is."""
    return job.network


@_lowered.register
def _half(lowering: Float16 | BFloat16, job: Job) -> nn.Module:
    return Half(job.network, lowering.precision)


@_lowered.register
def _dynamic_int8(lowering: DynamicInt8, job: Job) -> nn.Module:
    torch.backends.quantized.engine = "x86"
    quantized: nn.Module = quantize_dynamic(copy.deepcopy(job.network), {nn.Linear}, dtype=torch.qint8)
    return quantized


@_lowered.register
def _static_int8(lowering: StaticInt8, job: Job) -> nn.Module:
    torch.backends.quantized.engine = "x86"
    backend = None if lowering.fuse else _without_folding()
    with torch.no_grad():
        network = copy.deepcopy(job.network)
        observers = _observers(lowering)
        float_parts.named(lowering.float_layers, weights(network))
        for layer in lowering.float_layers:
            observers.set_module_name(layer, None)
        lowered = {name for name, _ in network.named_modules()} - {*lowering.float_layers}
        prepared = prepare_fx(network, observers, (job.example,), WHOLE, backend_config=backend)
        if job.float_tail:
            # Kernels of int8 layers have no float outputs, so those are rounded.
            float_parts.take_observers_out(prepared, lambda node: str(node.target) in lowered)
        for batch in job.calibration_batches():
            prepared(batch)
        converted: nn.Module = convert_fx(prepared, backend_config=backend)
    return converted


def _observers(step: StaticInt8) -> QConfigMapping:
    """Returns what watches activations, and what finds the scales of weights."""
    activations = _OBSERVERS.get(step.ranges, observer.HistogramObserver).with_args(
        reduce_range=step.range == "reduced"
    )
    per_tensor = step.granularity == "per-tensor"
    weights = observer.default_weight_observer if per_tensor else observer.default_per_channel_weight_observer
    return get_default_qconfig_mapping("x86").set_global(QConfig(activations, weights))


def _without_folding() -> BackendConfig:
    """Returns the backend's patterns but those that join batch normalization with the layer before it."""
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
