"""The machine that something was measured on, and the cores that this process may really use."""

import contextlib
import functools
import importlib.metadata
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from protos.support import cgroup

_INSTRUCTION_SETS = (
    "avx2", "fma", "avx512f", "avx512bw", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile",
    "amx_int8", "amx_bf16",
)  # fmt: skip
"""The ones that decide how fast int8 and bf16 run on x86, by their names in /proc/cpuinfo."""
VNNI = ("avx_vnni", "avx512_vnni", "amx_int8")
"""With one of these, four 8-bit products are summed in 32 bits at once; without, two in 16 bits, which may saturate."""


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
    """The load over 1, 5 and 15 minutes when it was described; not near 0 means that other processes were at work."""

    @property
    def processor(self) -> str:
        """The CPU and, in brackets, its instruction sets."""
        return f"{self.cpu} ({' '.join(self.instruction_sets)})"


def describe(*libraries: str) -> Machine:
    """Describes this machine, with the versions of those `libraries` (distribution names) that are installed."""
    return Machine(
        cpu=_cpu_name(),
        cores=available_cores(),
        instruction_sets=instruction_sets(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        libraries=versions(*libraries),
        load_average=os.getloadavg(),
    )


def instruction_sets() -> tuple[str, ...]:
    """Returns those of this CPU's instruction sets that decide how int8 and bf16 are computed."""
    flags = set(_cpuinfo().get("flags", "").split())
    return tuple(name for name in _INSTRUCTION_SETS if name in flags)


def measured(machine: Machine) -> Literal["here", "elsewhere"]:
    """Returns "here" where `machine` has this host's CPU and instruction sets, so that its figures hold on this one."""
    return "here" if (machine.cpu, machine.instruction_sets) == (_cpu_name(), instruction_sets()) else "elsewhere"


def versions(*libraries: str) -> dict[str, str]:
    """Returns the version of each library that is installed, by its distribution name."""
    installed = {}
    for name in libraries:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return installed


def available_cores(root: Path = cgroup.ROOT, membership: Path = cgroup.MEMBERSHIP) -> int:
    """Returns the whole cores that the affinity mask and the cgroup quotas of this process allow; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(cores, cgroup.cpu_quota(root, membership))))


def _cpu_name() -> str:
    return _cpuinfo().get("model name", platform.processor() or platform.machine())


@functools.cache
def _cpuinfo() -> dict[str, str]:
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
