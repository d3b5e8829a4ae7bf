"""What a container may use: the files of this process's cgroup, in both versions, on CPU and memory.

Sources: https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files and #memory-interface-files,
https://docs.kernel.org/scheduler/sched-bwc.html, https://docs.kernel.org/admin-guide/cgroup-v1/memory.html (cgroup v1)
"""

import math
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def cpu_quota(root: Path = ROOT, membership: Path = MEMBERSHIP) -> float:
    """Returns the cores that the strictest quota on this process allows; infinite where there is none."""
    return min((_quota(folder) for folder in _folders("cpu", root, membership)), default=math.inf)


def throttled_seconds(root: Path = ROOT, membership: Path = MEMBERSHIP) -> float | None:
    """Returns how long quotas have held back this process's cgroup and those above it; None where no file says so."""
    found = [seconds for folder in _folders("cpu", root, membership) for seconds in _throttled(folder / "cpu.stat")]
    return sum(found) if found else None


def memory_left(root: Path = ROOT, membership: Path = MEMBERSHIP) -> float:
    """Returns the bytes that the strictest limit on this process still allows; infinite where there is none."""
    return min((_memory_left(folder) for folder in _folders("memory", root, membership)), default=math.inf)


def _folders(controller: str, root: Path, membership: Path) -> Iterator[Path]:
    """Yields the folders of this process's cgroups with that controller and all above them, up to its root."""
    lines = membership.read_text().splitlines() if membership.is_file() else ["0::/"]
    for _, controllers, own in (line.split(":", 2) for line in lines):
        if controllers and controller not in controllers.split(","):
            continue
        top = root / controllers  # without controllers it is cgroup v2's one tree
        folder = top / own.lstrip("/")
        yield from (folder, *(above for above in folder.parents if above.is_relative_to(top)))


def _quota(folder: Path) -> float:
    """Returns the cores that one folder allows: "150000 100000" or "max 100000" (v2), two files (v1)."""
    files = [folder / "cpu.max", folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"]
    words = [word for file in files if file.is_file() for word in file.read_text().split()]
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0] not in ("max", "-1") else math.inf


def _throttled(stat: Path) -> list[float]:
    """Returns the seconds, if that file has them."""
    words = _table(stat)
    units = {"throttled_usec": 1e-6, "throttled_time": 1e-9}  # cgroup v2, v1
    return [int(words[name]) * unit for name, unit in units.items() if name in words]


def _memory_left(folder: Path) -> float:
    """Returns what one folder's limit leaves; files that were read and can be forgotten do not count as used."""
    limits = [folder / "memory.max", folder / "memory.limit_in_bytes"]
    used = [folder / "memory.current", folder / "memory.usage_in_bytes"]
    words = [next((file.read_text().strip() for file in files if file.is_file()), "max") for files in (limits, used)]
    if "max" in words:
        return math.inf
    stat = _table(folder / "memory.stat")
    cached = stat.get("total_inactive_file", stat.get("inactive_file", "0"))  # cgroup v1, v2
    return int(words[0]) - int(words[1]) + int(cached)


def _table(file: Path) -> dict[str, str]:
    """Returns the values of a file of names and values by name; nothing where there is no such file."""
    return dict(line.split() for line in file.read_text().splitlines()) if file.is_file() else {}
