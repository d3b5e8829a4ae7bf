"""What the load generator's machine did while something was measured: two readings, and what lies between them.

    before = read()
    ...            seconds of load
    during = between(before, read(), server_seconds)

What this system does not say (steal outside Linux, throttling outside a cgroup) is None, never zero. In a container
the shares are still those of the whole machine: that is where the neighbours are. The kernel counts in hundredths of a
second, which suits a second or more.

Memory, too, is read here: what processes take (`memory_of`) and what is left (`memory_left`).
"""

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from protos.support import cgroup


@dataclass(frozen=True)
class Reading:
    """Counters that only rise, in seconds, and the last minute's load average. CPU times are sums over all cores."""

    at: float
    """The time of `time.perf_counter`."""
    busy: float
    """CPU time of all processes on this machine, without steal."""
    total: float
    """CPU time there was: busy, idle and steal."""
    own: float
    """CPU time of this process."""
    steal: float | None
    """CPU time in which this virtual machine was ready to run and its host ran others."""
    throttled: float | None
    """Time for which a quota held back this process's cgroup or one above it; summed over cores."""
    load: float | None


@dataclass(frozen=True)
class Conditions:
    """What lies between two readings; shares are of all cores of the machine, from 0 to 1."""

    seconds: float
    steal: float | None
    throttled_seconds: float | None
    load: float | None
    """Load average at the end, over the minute before."""
    own: float | None
    """Share of the run itself: load generator and server."""
    others: float | None
    """Share of all other processes."""


@dataclass(frozen=True)
class Memory:
    """Resident memory of a process and all below it, in bytes."""

    own: int
    """What no other process can have."""
    shared: int
    """What processes may have in common, such as the files of libraries: of the one that has most of it."""

    @property
    def total(self) -> int:
        """Returns what they take together."""
        return self.own + self.shared


def memory_of(pid: int) -> Memory:
    """Returns the memory of a process and all below it; none of those that have ended."""
    own, shared = 0, 0
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                taken = process.memory_info()
                in_common = getattr(taken, "shared", 0)  # Linux says it
                own, shared = own + taken.rss - in_common, max(shared, in_common)
    return Memory(own, shared)


def memory_left() -> float:
    """Returns the bytes that this process and its children can still take: of the machine, and of its cgroup."""
    return min(float(psutil.virtual_memory().available), cgroup.memory_left())


def read(cgroups: Path = cgroup.ROOT, membership: Path = cgroup.MEMBERSHIP) -> Reading:
    """Reads the counters."""
    cpu = psutil.cpu_times()._asdict()
    within = cpu.get("guest", 0.0) + cpu.get("guest_nice", 0.0)  # the kernel counts guests in user and nice, too
    total, steal = sum(cpu.values()) - within, cpu.get("steal")
    return Reading(
        at=time.perf_counter(),
        busy=total - cpu["idle"] - cpu.get("iowait", 0.0) - (steal or 0.0),
        total=total,
        own=time.process_time(),
        steal=steal,
        throttled=cgroup.throttled_seconds(cgroups, membership),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    )


def between(before: Reading, after: Reading, with_seconds: float | None = 0.0) -> Conditions:
    """Returns what happened from one reading to the next.

    `with_seconds` is the CPU time that the server took meanwhile on this machine; None where it is here but does not
    say, so that own and others are not known.
    """
    total, busy = after.total - before.total, after.busy - before.busy
    own = None if with_seconds is None else after.own - before.own + with_seconds
    return Conditions(
        seconds=after.at - before.at,
        steal=_share(_moved(before.steal, after.steal), total),
        throttled_seconds=_moved(before.throttled, after.throttled),
        load=after.load,
        own=_share(own, total),
        others=None if own is None else _share(max(0.0, busy - own), total),
    )


def _moved(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _share(part: float | None, total: float) -> float | None:
    return None if part is None or total <= 0 else part / total
