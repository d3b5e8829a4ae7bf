"""TorchScript artifacts: traced and frozen, in int8 from FX graph-mode quantization.

int8 uses the fbgemm/oneDNN kernels that torch's own quantized tensors run on x86.
Source: https://docs.pytorch.org/docs/stable/quantization.html (FX graph mode, static)
"""

import copy
import zipfile
from pathlib import Path

import torch
from torch import nn
from torch.ao.quantization import get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

from compressors.export import Job

ENTRY = "model.pt"


def export(job: Job) -> str:
    """Writes `model.pt`."""
    network = job.network if job.calibration is None else _quantize(job)
    with torch.no_grad():
        frozen = torch.jit.freeze(torch.jit.trace(network, job.example[:1]))
    traced = job.folder / "traced.pt"
    frozen.save(str(traced))
    _without_source_ranges(traced, job.folder / ENTRY)
    traced.unlink()
    return ENTRY


def _quantize(job: Job) -> nn.Module:
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
