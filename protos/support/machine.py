"""The machine that a figure was measured on, and the cores that this process may really use.

A container's quota and an affinity mask count, the machine's size does not.
Source: https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files
"""

import importlib.metadata
import os
import platform
from dataclasses import dataclass
from pathlib import Path

_INSTRUCTION_SETS = (
    "avx2", "fma", "avx512f", "avx512bw", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile",
    "amx_int8", "amx_bf16",
)  # fmt: skip
"""Those that decide how fast int8 and bf16 run on x86, by their names in /proc/cpuinfo."""


@dataclass(frozen=True)
class Machine:
    """What every result carries; memory in bytes."""

    cpu: str
    cores: int
    instruction_sets: tuple[str, ...]
    memory_bytes: int
    system: str
    python: str
    libraries: dict[str, str]
    load_average: tuple[float, float, float]
    """Over 1, 5 and 15 minutes, when it was described: not near 0 means that others were at work."""


def describe(*libraries: str) -> Machine:
    """This machine, with the versions of those `libraries` (distribution names) that are installed."""
    info = _cpuinfo()
    flags = set(info.get("flags", "").split())
    return Machine(
        cpu=info.get("model name", platform.processor() or platform.machine()),
        cores=available_cores(),
        instruction_sets=tuple(name for name in _INSTRUCTION_SETS if name in flags),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        libraries=versions(*libraries),
        load_average=os.getloadavg(),
    )


def versions(*libraries: str) -> dict[str, str]:
    """Distribution name to version, for those that are installed."""
    installed = {}
    for name in libraries:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def available_cores(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int:
    """Whole cores under the affinity mask and the cgroup v2 quotas of this process and its parents; at least 1."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    for folder in _cgroup_folders(root, membership):
        cores = min(cores, _quota(folder / "cpu.max"))
    return max(1, int(cores))


def _cgroup_folders(root: Path, membership: Path) -> list[Path]:
    """The folder of this process's cgroup and all above it, up to `root`."""
    lines = membership.read_text().splitlines() if membership.is_file() else []
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    folder = root / own
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]


def _quota(path: Path) -> float:
    """Cores that one `cpu.max` ("150000 100000", "max 100000") allows; infinite where it says nothing."""
    words = path.read_text().split() if path.is_file() else []
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0] != "max" else float("inf")


def _cpuinfo() -> dict[str, str]:
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
