"""Which variants are in memory under `--max-memory`: the pinned ones, and those that were asked for last.

    a request for a COLD variant waits --> those not asked for longest leave, until there is room --> it is loaded

Room is made before anything is loaded, for a request or not, and once a second where what is loaded has grown. A
variant with requests under way does not leave, and neither does one whose newer publication could not be loaded: it
could not come back.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from weakref import WeakKeyDictionary

from protos.errors import NoRoomError, OverloadedError, UnavailableError
from server.hosting.memory import held_bytes, load_bytes, megabytes, resident_bytes
from server.hosting.registry import Hosted, Registry
from server.settings import Settings

LOOK_SECONDS = 1.0
"""Between two looks at the memory: what is loaded grows with the batches that it gets."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.02, 0.2
"""Before what could not be loaded is tried again while a request waits: a busy variant may leave by then."""
VAIN_SECONDS = 60.0
"""How long a variant has no other leave for it again after that was not enough."""

logger = logging.getLogger(__name__)


class Residency:
    """Keeps the process of `registry` below its limit; built inside a running event loop."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        self._registry, self._memory = registry, registry.memory
        self._wait, self._queue_size = settings.cold_wait, settings.queue_size
        registry.room = self._room
        self._keeping = [asyncio.create_task(self._keep())] if self._memory.limited else []
        self._turn = asyncio.Lock()
        self._loading: dict[Hosted, asyncio.Task[None]] = {}
        self._waiting: Counter[Hosted] = Counter()
        self._held: WeakKeyDictionary[Hosted, int] = WeakKeyDictionary()
        self._vain: WeakKeyDictionary[Hosted, float] = WeakKeyDictionary()
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
            cold = UnavailableError(f"variant '{hosted.label}' is COLD: {hosted.reason or 'it is being loaded'}")
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

    async def _load(self, hosted: Hosted) -> None:
        began, pause = monotonic(), FIRST_PAUSE_SECONDS
        try:
            while hosted.state == "COLD":  # else it was unloaded, or need not be loaded any more
                if await self._registry.warm(hosted):
                    self._seconds += 0.2 * (monotonic() - began - self._seconds)
                    return
                if not self._waiting[hosted]:
                    return
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        finally:
            del self._loading[hosted]

    @asynccontextmanager
    async def _room(self, hosted: Hosted) -> AsyncIterator[None]:
        """A block in which the entry of `hosted` may be loaded; raises `NoRoomError` where no room can be made now."""
        variant = hosted.entry.variant
        if not self._memory.limited or variant is None:
            yield
            return
        needed = load_bytes(variant)
        async with self._turn:
            if not await self._make_room(needed, hosted):
                raise NoRoomError(f"there is no room for its {megabytes(needed)} below --max-memory")
            before = resident_bytes()
            yield
            self._held[hosted] = held_bytes(variant, resident_bytes() - before)

    async def _make_room(self, needed: int, hosted: Hosted | None = None) -> bool:
        """Has idle variants leave until `needed` bytes fit below the limit; False where they do not.

        None leaves where all that may hold too little, by what each took when it was loaded. Where that turns out to
        have been wrong, none leaves for the same `hosted` for a while.
        """
        memory = self._memory
        if memory.fits(needed):
            return True
        await memory.give_back()
        idle = [each for each in self._registry.all() if self._may_leave(each)]
        held = sum(self._held.get(each, 0) for each in idle)
        if not memory.fits(needed - held) or (hosted and monotonic() < self._vain.get(hosted, 0.0)):
            return memory.fits(needed)
        for each in sorted(idle, key=lambda each: each.metrics.last_asked):
            if memory.fits(needed):
                return True
            if self._may_leave(each) and await self._registry.evict(each):  # it may be another's turn by now
                await memory.give_back(freed=True)
        if hosted and not memory.fits(needed):
            self._vain[hosted] = monotonic() + VAIN_SECONDS
        return memory.fits(needed)

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
                taken = f"{megabytes(resident_bytes())} of {megabytes(self._memory.limit)}"
                logger.warning("the server takes %s, and no idle variant can leave enough", taken)
