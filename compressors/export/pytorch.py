"""PyTorch artifacts: a `torch.export` program in floating point, an AOTInductor package in int8.

int8 is torchao's PT2E quantization: the exported graph is annotated for the x86 kernels of Inductor,
calibrated, converted, and compiled ahead of time, since its quantized graph is not meant to run eagerly.
Sources: https://docs.pytorch.org/docs/stable/export.html,
https://docs.pytorch.org/ao/stable/pt2e_quantization/pt2e_quant_x86_inductor.html
"""

import re
import shutil
import struct
import subprocess
import tempfile
import zipfile
from dataclasses import replace
from functools import singledispatch
from pathlib import Path

import torch
from torch import nn

from compressors.export import float_parts
from compressors.export.exporters import BATCH_RANGE, FREE_BATCH, Exported, Job, dynamic_note, float_note, local_paths
from compressors.export.half import Half
from compressors.export.lowerings import BFloat16, DynamicInt8, Float16, Lowering, StaticInt8
from compressors.networks.layers import weights

ENTRY = "model.pt2"

_INDUCTOR = {
    "freezing": True,  # weights become constants: they are packed for the int8 kernels at compile time
    "cpp.dynamic_threads": True,  # the thread count is that of the server's plan, not of this machine
    # Any x86-64 with AVX2, where the default is this machine's own instructions: on a CPU without them the process
    # would end (SIGILL). It costs nothing: convolutions are oneDNN's, which looks at the CPU when it runs.
    "cpp.march": "x86-64-v3",
    "cpp.simdlen": 256,
}
_PT_GNU_STACK, _PF_X = 0x6474E551, 1
"""From elf(5): the program header of the stack, and the flag of what is executable."""


def export(job: Job) -> Exported:
    """Writes `model.pt2`."""
    _write(job.lowering, job)
    notes: tuple[str, ...] = ()
    if isinstance(job.lowering, DynamicInt8):
        compiled = "compiled ahead of time, unlike FP32: what it gains is the compiler's too"
        notes = (dynamic_note(job.network), BATCH_RANGE, compiled)
    if isinstance(job.lowering, StaticInt8):
        notes = float_note(job.lowering.float_layers, len(weights(job.network)))
    return Exported(ENTRY, notes)


@singledispatch
def _write(lowering: Lowering, job: Job) -> None:
    """Lowers the network and writes the artifact; FP32, for which nothing is registered below, as it is."""
    _save(job.network, job)


@_write.register
def _half(lowering: Float16 | BFloat16, job: Job) -> None:
    _save(Half(job.network, lowering.precision), job)


@_write.register
def _int8(lowering: StaticInt8 | DynamicInt8, job: Job) -> None:
    _compile(_quantized(job, lowering), job)


def _program(network: nn.Module, job: Job) -> torch.export.ExportedProgram:
    return torch.export.export(network, (job.example,), dynamic_shapes=(FREE_BATCH,), strict=True)


def _save(network: nn.Module, job: Job) -> None:
    program = _program(network, job)
    program.example_inputs = None  # two images of a detector are larger than it is
    _forget_sources(program)
    torch.export.save(program, job.folder / ENTRY)


def _quantized(job: Job, step: StaticInt8 | DynamicInt8) -> nn.Module:
    """Returns the network with quantization in its graph, for Inductor to lower."""
    # Imported where it is needed: torchao takes seconds, and floating point has no use for it.
    from torchao.quantization.pt2e.observer import MinMaxObserver, MovingAverageMinMaxObserver
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
        X86InductorQuantizer,
        get_default_x86_inductor_quantization_config,
    )

    dynamic, reduced = isinstance(step, DynamicInt8), isinstance(step, DynamicInt8) or step.range == "reduced"
    config = get_default_x86_inductor_quantization_config(is_dynamic=dynamic, reduce_range=reduced)
    ranges = step.ranges if isinstance(step, StaticInt8) else "default"
    if observer := {"min-max": MinMaxObserver, "mean-min-max": MovingAverageMinMaxObserver}.get(ranges):
        watched = replace(config.input_activation, observer_or_fake_quant_ctr=observer.with_args(eps=2**-12))
        config = replace(config, input_activation=watched, output_activation=watched)
    quantizer = X86InductorQuantizer()
    # Left to itself, it would round the inputs of convolutions in each call too, and compute them in FP32 all the same.
    quantizer.set_module_type_qconfig(nn.Linear, config) if dynamic else quantizer.set_global(config)
    floating = step.float_layers if isinstance(step, StaticInt8) else ()
    float_parts.named(floating, weights(job.network))
    for layer in floating:
        quantizer.set_module_name_qconfig(layer, None)
    prepared = prepare_pt2e(_program(job.network, job).module(), quantizer)
    if job.float_tail:
        float_parts.take_observers_out(prepared, lambda node: False)
    with torch.no_grad():
        for batch in [job.example] if dynamic else job.calibration_batches():
            prepared(batch)
    converted: nn.Module = convert_pt2e(prepared)
    return converted


def _compile(quantized: nn.Module, job: Job) -> None:
    with torch.no_grad():
        program = torch.export.export(quantized, (job.example,), dynamic_shapes=(FREE_BATCH,))
        package = torch._inductor.aoti_compile_and_package(
            program, package_path=str(job.folder / "compiled.pt2"), inductor_configs=dict(_INDUCTOR)
        )
    _without_build_traces(Path(package), job.folder / ENTRY)
    Path(package).unlink()


def _forget_sources(program: torch.export.ExportedProgram) -> None:
    """Removes the stack traces of every node: they name files of this machine."""
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                for key in ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node"):
                    node.meta.pop(key, None)


def _without_build_traces(package: Path, target: Path) -> None:
    """Copies an AOTInductor package without generated sources, debug symbols and paths of this machine."""
    with zipfile.ZipFile(package) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as stripped:
        for name in source.namelist():
            if not name.endswith(".cpp"):
                content = source.read(name)
                stripped.writestr(zipfile.ZipInfo(name), _neutral(content) if name.endswith(".so") else content)


def _neutral(library: bytes) -> bytes:
    """Strips a shared library of debug symbols; folders in its messages become dots, as many as they were long."""
    if strip := shutil.which("strip"):  # comes with the compiler that made the library
        with tempfile.NamedTemporaryFile(suffix=".so") as file:
            Path(file.name).write_bytes(library)
            subprocess.run([strip, "--strip-debug", file.name], check=True)
            library = Path(file.name).read_bytes()
    for path in local_paths():
        folders = re.escape(path.encode()) + rb"/(?:[\w.+-]+/)*"
        library = re.sub(folders, lambda match: b"." * len(match.group()), library)
    return _without_executable_stack(library)


def _without_executable_stack(library: bytes) -> bytes:
    """Clears the flag by which an ELF library asks for an executable stack; glibc 2.41 and later would not load it.

    AOTInductor's assembly of the weights does not say that it needs none, and the linker then assumes that it does.
    """
    cleared = bytearray(library)
    (table,) = struct.unpack_from("<Q", library, 32)
    size, count = struct.unpack_from("<HH", library, 54)
    for header in range(table, table + size * count, size):
        kind, flags = struct.unpack_from("<II", library, header)
        if kind == _PT_GNU_STACK:
            struct.pack_into("<I", cleared, header + 4, flags & ~_PF_X)
    return bytes(cleared)
