"""What a container may use: the files of this process's cgroup, in both versions, and what they say of the CPU.

Sources: https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files,
https://docs.kernel.org/scheduler/sched-bwc.html (cgroup v1)
"""

import math
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def cpu_quota(root: Path = ROOT, membership: Path = MEMBERSHIP) -> float:
    """Returns the cores that the strictest quota on this process allows; infinite where there is none."""
    return min((_quota(folder) for folder in _cpu_folders(root, membership)), default=math.inf)


def throttled_seconds(root: Path = ROOT, membership: Path = MEMBERSHIP) -> float | None:
    """Returns how long quotas have held back this process's cgroup and those above it; None where no file says so."""
    found = [seconds for folder in _cpu_folders(root, membership) for seconds in _throttled(folder / "cpu.stat")]
    return sum(found) if found else None


def _cpu_folders(root: Path, membership: Path) -> Iterator[Path]:
    """Yields the folders of this process's CPU controllers and all above them, up to the controller's root."""
    lines = membership.read_text().splitlines() if membership.is_file() else ["0::/"]
    for _, controllers, own in (line.split(":", 2) for line in lines):
        if controllers and "cpu" not in controllers.split(","):
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
    words = dict(line.split() for line in stat.read_text().splitlines()) if stat.is_file() else {}
    units = {"throttled_usec": 1e-6, "throttled_time": 1e-9}  # cgroup v2, v1
    return [int(words[name]) * unit for name, unit in units.items() if name in words]
