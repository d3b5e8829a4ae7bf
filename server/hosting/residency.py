"""Which variants are in memory under `--max-memory`: the pinned ones, and those that were asked for last.

    a request for a COLD variant waits --> those not asked for longest leave, until there is room --> it is loaded

The limit is on the resident memory of this process, as the system counts it: libraries, buffers and mapped files
included, less a little for what requests take. It is looked at before each load and once a second. A variant with
requests under way does not leave, and neither does one whose newer publication could not be loaded: it could not
come back.
"""

import asyncio
import contextlib
import ctypes
import logging
import math
import os
from collections import Counter
from pathlib import Path

from protos.errors import OverloadedError, UnavailableError, UsageError
from server.hosting.registry import Hosted, Registry
from server.settings import Settings

LOOK_SECONDS = 1.0
"""Between two looks at the memory: what is loaded grows with the batches that it gets."""
SPARE = 0.02
"""The share of the limit that no variant gets: requests take memory, too."""
ROOM_SECONDS = 0.02
"""After which a load looks again whether a variant that was busy may leave for it."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

logger = logging.getLogger(__name__)


class Residency:
    """Keeps the process of `registry` below the limit of `settings`; built inside a running event loop.

    Raises `UsageError` where the process takes as much without any variant.
    """

    def __init__(self, registry: Registry, settings: Settings) -> None:
        self._registry, self._wait, self._queue_size = registry, settings.cold_wait, settings.queue_size
        self._limit = math.inf
        self._keeping: list[asyncio.Task[None]] = []
        if settings.max_memory is not None:
            self._limit = _limit(settings.max_memory * 1e6 / settings.workers)
            self._keeping.append(asyncio.create_task(self._keep()))
        self._turn = asyncio.Lock()
        self._loading: dict[Hosted, asyncio.Task[None]] = {}
        self._waiting: Counter[Hosted] = Counter()
        self._seconds = 0.1
        """What a load takes, as seen lately."""

    async def warm(self, hosted: Hosted) -> None:
        """Returns when a variant that was COLD is READY or FAILED.

        Raises `UnavailableError` where that takes longer than a request may wait, `OverloadedError` where many do.
        """
        if hosted not in self._loading:
            self._loading[hosted] = asyncio.create_task(self._load(hosted))
        if self._waiting[hosted] >= self._queue_size:
            hosted.metrics.rejected("queue_full")
            full = OverloadedError(f"{self._queue_size} requests wait for variant '{hosted.label}' to be loaded")
            full.retry_after = self._seconds
            raise full
        self._waiting[hosted] += 1
        try:
            async with asyncio.timeout(self._wait):
                await asyncio.shield(self._loading[hosted])
        except TimeoutError:
            cold = UnavailableError(f"variant '{hosted.label}' is COLD, {self._why(hosted)}")
            cold.retry_after = self._seconds
            raise cold from None
        finally:
            self._waiting[hosted] -= 1
            if not self._waiting[hosted]:
                del self._waiting[hosted]

    async def close(self) -> None:
        """Loads nothing any more."""
        tasks = [*self._loading.values(), *self._keeping]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _why(self, hosted: Hosted) -> str:
        needed = _needed(hosted)
        if self._fits(needed):
            return "it is being loaded"
        return f"and there is no room for its {_megabytes(needed)} below --max-memory"

    async def _load(self, hosted: Hosted) -> None:
        began = asyncio.get_running_loop().time()
        try:
            while hosted.state == "COLD":  # else it was unloaded, or need not be loaded any more
                async with self._turn:
                    if await self._make_room(_needed(hosted)):
                        await self._registry.warm(hosted)
                        self._seconds += 0.2 * (asyncio.get_running_loop().time() - began - self._seconds)
                        return
                if not self._waiting[hosted]:
                    return
                await asyncio.sleep(ROOM_SECONDS)
        finally:
            del self._loading[hosted]

    def _fits(self, needed: int) -> bool:
        return resident_bytes() + needed <= self._limit

    async def _make_room(self, needed: int) -> bool:
        """Has idle variants leave until `needed` bytes fit below the limit; False where they do not."""
        if self._fits(needed):
            return True
        give_back()
        idle = [hosted for hosted in self._registry.all() if self._may_leave(hosted)]
        if not self._fits(needed - sum(map(_needed, idle))):
            return False
        for hosted in sorted(idle, key=lambda hosted: hosted.metrics.last_asked):
            if self._fits(needed):
                break
            if self._may_leave(hosted) and await self._registry.evict(hosted):  # it may be another's turn by now
                give_back()
        return self._fits(needed)

    def _may_leave(self, hosted: Hosted) -> bool:
        idle = hosted.state == "READY" and not hosted.metrics.in_flight and not hosted.turn.locked()
        return idle and not hosted.reason and not self._registry.pinned(hosted)

    async def _keep(self) -> None:
        over = False
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                async with self._turn:
                    was, over = over, not await self._make_room(0)
            except OSError as error:  # too many open files; the limit has to outlive it
                logger.warning("the memory could not be looked at: %s", error)
                continue
            if over and not was:
                taken = f"{_megabytes(resident_bytes())} of {_megabytes(self._limit)}"
                logger.warning("the server takes %s, and no idle variant can leave enough", taken)


def _limit(size: float) -> float:
    if (bare := resident_bytes()) >= size:
        got = f"got {_megabytes(size)} a process, expected more than the {_megabytes(bare)}"
        raise UsageError(f"--max-memory: {got} that one takes without any variant")
    _keep_little_of_what_is_freed()
    return size * (1 - SPARE)


def resident_bytes() -> int:
    """Returns the resident memory of this process. Source: proc(5), /proc/[pid]/statm."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def give_back() -> None:
    """Has the C library return to the system what was freed; one other than glibc may not know how."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _keep_little_of_what_is_freed() -> None:
    """Fixes the limits that glibc else raises to 32 and 64 MB: so much would stay with each thread that loads.

    Source: mallopt(3)
    """
    with contextlib.suppress(AttributeError):
        for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            ctypes.CDLL(None).mallopt(parameter, 2**20)


def _needed(hosted: Hosted) -> int:
    """Returns what loading takes: as measured when it was built, else the size of its files; 0 if it is broken now."""
    variant = hosted.described
    if variant is None:
        return 0
    return variant.footprint.load_peak_bytes if variant.footprint else variant.artifact_bytes


def _megabytes(count: float) -> str:
    return f"{count / 1e6:.0f} MB"
