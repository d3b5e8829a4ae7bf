"""TorchScript artifacts: traced and frozen, in int8 from FX graph-mode quantization.

int8 uses the fbgemm/oneDNN kernels that torch's own quantized tensors run on x86.
Source: https://docs.pytorch.org/docs/stable/quantization.html (FX graph mode, static)
"""

import copy
import zipfile
from functools import singledispatch
from pathlib import Path

import torch
from torch import nn
from torch.ao.quantization import get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

from compressors.export import Exported, Job
from compressors.lowerings import Float32, Lowering, StaticInt8

ENTRY = "model.pt"


def export(job: Job) -> Exported:
    """Writes `model.pt`."""
    lowered = _lowered(job.lowering, job)
    with torch.no_grad():
        frozen = torch.jit.freeze(torch.jit.trace(lowered, job.example[:1]))
    traced = job.folder / "traced.pt"
    frozen.save(str(traced))
    _without_source_ranges(traced, job.folder / ENTRY)
    traced.unlink()
    return Exported(ENTRY)


@singledispatch
def _lowered(lowering: Lowering, job: Job) -> nn.Module:
    """The network as it is to be traced."""
    raise TypeError(f"{type(lowering).__name__} is not for TorchScript")


@_lowered.register
def _float32(lowering: Float32, job: Job) -> nn.Module:
    return job.network


@_lowered.register
def _static_int8(lowering: StaticInt8, job: Job) -> nn.Module:
    torch.backends.quantized.engine = "x86"
    with torch.no_grad():
        prepared = prepare_fx(copy.deepcopy(job.network), get_default_qconfig_mapping("x86"), (job.example,))
        for batch in job.calibration_batches():
            prepared(batch)
        converted: nn.Module = convert_fx(prepared)
    return converted


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
