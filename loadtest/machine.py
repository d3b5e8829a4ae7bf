"""The machine and the versions that a result is true for."""

import importlib.metadata
import os
import platform
from dataclasses import dataclass
from pathlib import Path

LIBRARIES = ("locust", "gevent", "grpcio", "protobuf", "numpy", "plotly")


@dataclass(frozen=True)
class Machine:
    """Where the load came from. A server on the same machine shares its cores with the generator."""

    cpu: str
    cores: int
    """Cores that this process may use."""
    memory_bytes: int
    os: str
    python: str
    libraries: dict[str, str]
    load_average: tuple[float, float, float]
    """Over 1, 5 and 15 minutes, before the run began: not near 0 means that others were at work."""


def describe() -> Machine:
    """The machine that this process runs on, now."""
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        os=platform.platform(),
        python=platform.python_version(),
        libraries={name: importlib.metadata.version(name) for name in LIBRARIES},
        load_average=os.getloadavg(),
    )


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
