"""Which variants are in memory under `--max-memory`: the pinned ones, and those that were asked for last.

    a request for a COLD variant waits --> those not asked for longest leave, until there is room --> it is loaded

Room is made before anything is loaded, for a request or not, and once a second where what is loaded has grown. A
variant that is in use does not leave, and neither does one whose newer publication is wrong: it could not come back.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from time import monotonic
from weakref import WeakKeyDictionary

from protos.errors import NoRoomError, OverloadedError, UnavailableError
from server.hosting.hosted import Hosted
from server.hosting.memory import held_bytes, load_bytes, megabytes, resident_bytes
from server.hosting.registry import Registry
from server.settings import Settings

LOOK_SECONDS = 1.0
"""Between two looks at the memory: what is loaded grows with the batches that it gets."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.02, 0.2
"""Between two looks for room while a request waits: a variant that is in use may leave by then."""
WORTH_ASKING = 16_000_000
"""Bytes beyond its files that a loaded variant seems to hold before the C library is asked to give back: loading takes
memory for a moment, which then counts for nobody."""
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
        self._stays = self._memory.bare
        """Bytes that are no variant's: what the process took at its start, and libraries since."""
        self._held: WeakKeyDictionary[Hosted, int] = WeakKeyDictionary()
        self._vain: WeakKeyDictionary[Hosted, float] = WeakKeyDictionary()
        """Until when nothing leaves for a variant."""
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
            cold.retry_after = max(self._seconds, hosted.rest)
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
                if not hosted.rest and await self._registry.warm(hosted):
                    self._seconds += 0.2 * (monotonic() - began - self._seconds)
                    return
                if not self._waiting[hosted]:
                    return
                await asyncio.sleep(max(pause, hosted.rest))
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        finally:
            del self._loading[hosted]

    @asynccontextmanager
    async def _room(self, hosted: Hosted) -> AsyncIterator[None]:
        """A block in which `hosted` may be loaded; raises `NoRoomError` where no room can be made for it now."""
        variant = hosted.entry.variant
        if not self._memory.limited or variant is None:
            yield
            return
        async with self._turn:
            if not await self._make_room_for(hosted, needed := load_bytes(variant)):
                raise NoRoomError(f"there is no room for its {megabytes(needed)} below --max-memory")
            before = resident_bytes()
            yield
            self._vain.pop(hosted, None)
            with suppress(OSError, RuntimeError):  # it is loaded, whether this can be done or not
                if (grown := resident_bytes() - before) > WORTH_ASKING + variant.artifact_bytes:
                    await self._memory.give_back(freed=True)  # takes 10 ms of a large heap
                    grown = resident_bytes() - before
                self._held[hosted] = held = held_bytes(variant, grown)
                self._stays += max(0, grown - held)

    async def _make_room_for(self, hosted: Hosted, needed: int) -> bool:
        """Has variants leave that are idle, the one that `hosted` is to replace last; returns whether there is room.

        None leaves where that would not be enough, as far as can be known: what stays is what the process took at its
        start, libraries, and what the others held when they were loaded. Where all have left in vain, none does so
        again for the same variant for a while.
        """
        memory = self._memory
        if memory.fits(needed):
            return True
        await memory.give_back()
        held = {each: self._held.get(each, 0) for each in self._registry.all() if each.engine is not None}
        leaving = [each for each in held if self._may_leave(each, hosted)]
        staying = sum(held.values()) - sum(held[each] for each in leaving)
        # Requests that take memory while something is loaded are taken for libraries: it cannot be more than this.
        self._stays = min(self._stays, resident_bytes() - sum(held.values()))
        enough = self._stays + staying + needed <= memory.limit
        if memory.fits(needed) or not leaving or not enough or monotonic() < self._vain.get(hosted, 0.0):
            return memory.fits(needed)
        leaving.sort(key=lambda each: (each is hosted, each.metrics.last_asked))
        if await self._leave(leaving, needed, hosted) and not memory.fits(needed):
            self._vain[hosted] = monotonic() + VAIN_SECONDS
        return memory.fits(needed)

    async def _leave(self, leaving: Iterable[Hosted], needed: int = 0, hosted: Hosted | None = None) -> bool:
        """Has them leave one by one until so much fits; returns whether none of them was in use meanwhile."""
        all_left = True
        for each in leaving:
            if self._memory.fits(needed):
                break
            if self._may_leave(each, hosted) and await self._registry.evict(each):
                await self._memory.give_back(freed=True)
            else:
                all_left = False
        return all_left

    def _may_leave(self, each: Hosted, hosted: Hosted | None = None) -> bool:
        """Returns whether a variant is idle and can come back; `hosted` is the one that is to be loaded."""
        if not each.idle or self._registry.pinned(each):
            return False
        return each is hosted or (not each.turn.locked() and (each.trouble is None or each.trouble.passes))

    async def _keep(self) -> None:
        told = ""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                trouble = await self._look()
            except Exception as error:  # no descriptor, thread or memory; the limit has to outlive it
                trouble = f"the memory cannot be looked after: {error}"
            if trouble and not told:
                logger.warning(trouble)
            told = trouble

    async def _look(self) -> str:
        """Has idle variants leave where what is loaded has grown beyond the limit; returns what is wrong then."""
        async with self._turn:
            if self._memory.fits(0):
                return ""
            await self._memory.give_back()
            idle = [each for each in self._registry.all() if self._may_leave(each)]
            await self._leave(sorted(idle, key=lambda each: each.metrics.last_asked))
            if self._memory.fits(0):
                return ""
            taken = f"{megabytes(resident_bytes())} of {megabytes(self._memory.limit)}"
            return f"the server takes {taken}, and no idle variant is left"
