"""Load, unload and `--watch`: each compares one model's folder with the registry, while the variants serve.

    published anew    is registered and loaded
    changed           is loaded, and only then takes the place of what serves; in-flight requests finish there
    vanished          is unloaded; requests for it are NOT_FOUND from then on
    cannot be loaded  is FAILED with its reason; where an older publication serves, that goes on

Changes happen one at a time and go on when the client that asked goes away. What was unloaded on request
stays so until a load is requested: the watch does not bring it back.

A name that a client sends is compared with the names of folders. It never becomes part of a path.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from protos.errors import ControlError, NotFoundError
from protos.repository import Entry, Snapshot, default_variant, scan_model, snapshot
from server.hosting.hosted import Hosted
from server.hosting.registry import Registry

RESCAN_SECONDS = 0.2
"""While a variant is published again there is a moment between two renames in which it seems to have vanished."""

logger = logging.getLogger(__name__)


class RepositorySync:
    """Keeps `registry` in step with its repository; built inside a running event loop."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._unloaded: set[str] = set()

    async def start(self) -> None:
        """Loads what the registry found; other changes wait for it."""
        async with self._turn:
            await self._registry.load_all()

    async def load(self, model: str) -> None:
        """Brings `model` in step with the repository, what failed before included.

        Raises `NotFoundError` where neither has it, `ControlError` with the reasons where some of it cannot be loaded.
        """
        await asyncio.shield(self._begin(self._load(model)))

    async def unload(self, model: str) -> None:
        """Unloads all variants of `model`; `NotFoundError` where there is none of that name."""
        await asyncio.shield(self._begin(self._unload(model)))

    def watch(self, seconds: float) -> None:
        """Follows the repository from now on, compared every so many seconds, until `close`."""
        self._begin(self._watch(seconds))

    async def close(self) -> None:
        """Gives up the changes that are under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, change: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(change)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _watch(self, seconds: float) -> None:
        trouble = ""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self._follow()
                trouble = ""
            except Exception as error:  # a disk that is away for a while; the watch has to outlive it
                if str(error) != trouble:
                    known = isinstance(error, OSError)
                    logger.warning("the repository could not be followed: %s", error, exc_info=not known)
                trouble = str(error)

    async def _load(self, model: str) -> None:
        async with self._turn:
            self._unloaded.discard(model)
            failed = await self._refresh(model, again=True)
        if not self._registry.of(model):
            raise NotFoundError(f"got model '{model}', which the repository does not hold")
        if failed:
            reasons = (f"variant '{model}/{name}' is not loaded: {reason}" for name, reason in failed.items())
            raise ControlError("; ".join(reasons))

    async def _unload(self, model: str) -> None:
        async with self._turn:
            variants = self._registry.of(model)
            if not variants:
                raise NotFoundError(f"got model '{model}', expected one of {self._registry.models()}")
            self._unloaded.add(model)
            served = [hosted for hosted in variants.values() if hosted.state != "UNLOADED"]
            await asyncio.gather(*(self._registry.unload(hosted) for hosted in served))

    async def _follow(self) -> None:
        found = await asyncio.to_thread(snapshot, self._registry.root, self._registry.only)
        for model in sorted({*found, *self._registry.models()} - self._unloaded):
            rows = self._registry.of(model)
            known = Snapshot(self._registry.default(model), {n: row.entry.fingerprint for n, row in rows.items()})
            if found.get(model) != known or any(map(self._registry.again, rows.values())):
                async with self._turn:
                    await self._refresh(model, again=False)

    async def _refresh(self, model: str, again: bool) -> dict[str, str]:
        """Brings `model` in step, with `again` also what failed before; returns why variants could not be loaded."""
        entries = await self._scan(model)
        for hosted in self._registry.of(model).values():
            if hosted.entry.name not in entries:
                await self._registry.unload(hosted)
                await self._registry.forget(hosted)
        due = [(row, entry) for entry in entries.values() if (row := self._due(entry, again)) is not None]
        if entries:
            default = await asyncio.to_thread(default_variant, self._registry.root, model)
            await self._registry.set_default(model, default)
        reasons = {entry.name: await self._registry.load(row, entry) for row, entry in due}
        return {name: reason for name, reason in reasons.items() if reason}

    def _due(self, entry: Entry, again: bool) -> Hosted | None:
        """Returns the row that `entry` has to be loaded into, or None where what it holds is loaded already."""
        hosted = self._registry.of(entry.model).get(entry.name)
        if hosted is None or hosted.state == "UNLOADED":
            return self._registry.register(entry)
        if hosted.trouble is None or hosted.served is not None:
            held = hosted.entry.variant if hosted.state == "COLD" else hosted.variant
            if held is not None and held == entry.variant:  # published again as it was
                hosted.entry, hosted.trouble = entry, None
                return None
        retry = self._registry.again(hosted) or (again and hosted.trouble is not None)
        return hosted if retry or hosted.entry.fingerprint != entry.fingerprint else None

    async def _scan(self, model: str) -> dict[str, Entry]:
        entries = await self._read(model)
        if self._registry.of(model).keys() - entries.keys():
            await asyncio.sleep(RESCAN_SECONDS)
            return await self._read(model)
        return entries

    async def _read(self, model: str) -> dict[str, Entry]:
        entries = await asyncio.to_thread(scan_model, self._registry.root, model, self._registry.only)
        return {entry.name: entry for entry in entries}
