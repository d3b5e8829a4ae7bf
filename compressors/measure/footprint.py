"""What an artifact takes beyond its size on disk: compressed for transport, and in memory while it is loaded.

Memory is measured in a process that has loaded nothing before: each runtime has one that imports its library and
then forks for each variant (`python -m compressors.measure.footprint RUNTIME MODULE...`), which costs the import
once. In the fork the libraries' code is made resident and the kernel's high-water mark is set back, so that only what
the artifact itself adds is counted. Needs Linux.
Sources: https://docs.kernel.org/filesystems/proc.html (clear_refs, VmHWM), madvise(2)
"""

import ctypes
import importlib
import os
import subprocess
import sys
import zlib
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from protos.manifest import Footprint, RuntimeName, Variant, from_json
from protos.tensors import DTYPES
from server import runtimes

_GZIP_LEVEL, _GZIP_FORMAT = 6, 31
"""What `gzip` itself does when it is told nothing."""
_CHUNK = 1 << 20
_MADV_POPULATE_READ = 22


class MemoryProbe(ExitStack):
    """Measures the footprint of artifacts; its processes end with the `with` block that it is used in."""

    def __init__(self) -> None:
        super().__init__()
        self._processes: dict[RuntimeName, subprocess.Popen[str]] = {}

    def measure(self, manifest: Path, artifact: Path) -> Footprint:
        """Returns the footprint of the variant of `manifest`, whose files lie in `artifact`.

        Raises `RuntimeError` with what went wrong when it was loaded.
        """
        variant = from_json(manifest.read_text())
        process = self._process(variant.runtime)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{manifest.resolve()}\t{artifact.resolve()}\n")
        process.stdin.flush()
        packed = sum(gzip_bytes(artifact / file.path) for file in variant.files)
        answer = process.stdout.readline().strip()
        if not answer.isdecimal():
            raise RuntimeError(f"loading it in a process of its own: {answer or 'the process ended'}")
        return Footprint(gzip_bytes=packed, load_peak_bytes=int(answer))

    def _process(self, runtime: RuntimeName) -> subprocess.Popen[str]:
        from compressors.export.exporters import EXPORTERS  # the measuring process must not import torch for it

        if runtime not in self._processes:
            command = [sys.executable, "-m", "compressors.measure.footprint", runtime, *EXPORTERS[runtime].late_imports]
            pipe, here = subprocess.PIPE, Path(__file__).parents[2]
            self._processes[runtime] = self.enter_context(  # leaving it closes its input, at which it ends
                subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, cwd=here)
            )
        return self._processes[runtime]


def gzip_bytes(path: Path) -> int:
    """Returns the size of a file after gzip."""
    packer, size = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_FORMAT), 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            size += len(packer.compress(chunk))
    return size + len(packer.flush())


def load_peak_bytes(variant: Variant, artifact: Path) -> int:
    """Returns the most resident memory that loading the artifact and answering one row adds to this process."""
    inputs = {spec.name: np.zeros((1, *spec.shape[1:]), DTYPES[spec.datatype]) for spec in variant.inputs}
    _populate_libraries()
    Path("/proc/self/clear_refs").write_text("5")
    before = _high_water_bytes()
    adapter = runtimes.load(artifact, variant, threads=1)
    adapter.infer(inputs)
    return _high_water_bytes() - before


def _populate_libraries() -> None:
    """Maps all pages of the libraries' files: a fork starts without them, and what it then touches would count."""
    libc = ctypes.CDLL(None)
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, *_, path = line.split()
        if path.endswith(".so") or ".so." in path:
            first, last = (int(address, 16) for address in span.split("-"))
            libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _MADV_POPULATE_READ)


def _high_water_bytes() -> int:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def _serve(runtime: str, *late_imports: str) -> None:
    """Answers each line "manifest<TAB>artifact" with the bytes that a fork measured, or with what went wrong."""
    for module in (runtimes.RUNTIMES[runtime].partition(":")[0], *late_imports):
        importlib.import_module(module)
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            _answer(*map(Path, line.rstrip("\n").split("\t")))
            os._exit(0)
        if status := os.waitpid(child, 0)[1]:
            print(f"it ended with status {status}", flush=True)


def _answer(manifest: Path, artifact: Path) -> None:
    try:
        print(load_peak_bytes(from_json(manifest.read_text()), artifact), flush=True)
    except Exception as error:
        print(type(error).__name__, str(error).strip().partition("\n")[0], flush=True)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
