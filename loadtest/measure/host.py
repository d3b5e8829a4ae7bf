"""What the machine was doing while a block was measured: two readings, and what lies between them.

    before = read()
    ...            the block
    during = between(before, read(), server_seconds)

All of it is of the machine that the load generator runs on. A figure that this system does not give (steal outside
Linux, throttling outside a cgroup) is None, never zero. In a container the shares are still those of the whole
machine: that is where the neighbours are. The kernel counts in hundredths of a second, so blocks of a second or
more are told apart well, shorter ones are not.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from protos.support import cgroup


@dataclass(frozen=True)
class Reading:
    """Counters that only rise, in seconds, and the load average. CPU times are summed over the machine's cores."""

    at: float
    """The time of `time.perf_counter`."""
    busy: float
    """CPU time of all processes on this machine; steal is not in it."""
    total: float
    """CPU time there was: busy, idle and steal."""
    own: float
    """CPU time of this process."""
    steal: float | None
    """CPU time in which this virtual machine was ready to run and its host ran others."""
    throttled: float | None
    """Time in which a quota held this process's cgroup, or one above it, back; summed over cores."""
    load: float | None
    """Load average over the last minute."""


@dataclass(frozen=True)
class Conditions:
    """What lies between two readings; shares are of all cores of the machine, from 0 to 1."""

    seconds: float
    steal: float | None
    throttled_seconds: float | None
    load: float | None
    """At the end; it looks back a minute."""
    own: float | None
    """Share of the run itself: this process and what was named as belonging to the run."""
    others: float | None
    """Share of everything else: the neighbours that can be seen from here."""


def read(cgroups: Path = cgroup.ROOT, membership: Path = cgroup.MEMBERSHIP) -> Reading:
    """The counters now."""
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
    """What happened from one reading to the next.

    `with_seconds` is the CPU time that other processes of the run took meanwhile on this machine: the server, if it
    is here, and workers. None if they are here but do not say: then nothing can be said of own and others.
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
