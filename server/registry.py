"""The variants that this server hosts, and the state of each: LOADING, then READY or FAILED; UNLOADING at the end.

Every variant of the repository is registered before any is loaded: a broken one is a row with its reason,
never a gap. Loading happens in threads, while the server already answers; one variant that cannot be loaded
never hurts another. State changes on the event loop only.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

from protos.errors import NotFoundError, UnavailableError, VariantError
from protos.manifest import Variant
from protos.repository import Entry, default_variant, load_golden, scan, verify
from server import runtimes
from server.engine import Engine
from server.metrics import Metrics, State, VariantMetrics
from server.plan import Plan
from server.slots import Slots

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Hosted:
    """One variant, as it stands now."""

    entry: Entry
    metrics: VariantMetrics
    state: State = "LOADING"
    reason: str = ""
    """Why it FAILED, in words that a client may read."""
    engine: Engine | None = None

    @property
    def label(self) -> str:
        """`model/variant`, as health and log name it."""
        return f"{self.entry.model}/{self.entry.name}"

    def serving(self) -> tuple[Engine, Variant]:
        """What answers its requests; `UnavailableError` with the reason unless it is READY."""
        if self.state != "READY" or self.engine is None or self.entry.variant is None:
            because = f": {self.reason}" if self.reason else ""
            raise UnavailableError(f"variant '{self.label}' is {self.state}{because}")
        return self.engine, self.entry.variant


class Registry:
    """All variants of one repository. `changed` is awaited after each change of a state."""

    def __init__(
        self,
        repository: Path,
        plan: Plan,
        queue_size: int,
        metrics: Metrics,
        changed: Callable[["Registry"], Awaitable[None]],
    ) -> None:
        self._root, self._plan, self._queue_size, self._changed = repository, plan, queue_size, changed
        self._slots = Slots(plan.slots)
        self._models: dict[str, dict[str, Hosted]] = {}
        for entry in scan(repository):
            hosted = Hosted(entry, VariantMetrics(metrics, entry.model, entry.name))
            hosted.metrics.set_state(hosted.state)
            self._models.setdefault(entry.model, {})[entry.name] = hosted
        self._defaults = {model: default_variant(repository, model) for model in self._models}
        self._started = False
        self.draining = False

    @property
    def ready(self) -> bool:
        """Start-up loading has finished, something can answer, and the server is not about to stop."""
        return self._started and not self.draining and any(hosted.state == "READY" for hosted in self.all())

    def all(self) -> list[Hosted]:
        """Every variant, by model and name."""
        return [hosted for variants in self._models.values() for hosted in variants.values()]

    def models(self) -> list[str]:
        """The names of all models."""
        return list(self._models)

    def variants(self, model: str) -> list[str]:
        """The names of all variants of a model that exists, whatever their state."""
        return list(self._models[model])

    def find(self, model: str, name: str) -> Hosted:
        """One variant, whatever its state; an empty name means the default. Raises `NotFoundError`."""
        variants = self._models.get(model)
        if variants is None:
            raise NotFoundError(f"model '{model}' came, expected one of {self.models()}")
        hosted = variants.get(name or self._defaults[model])
        if hosted is None:
            came = f"variant '{name}' came" if name else f"its default '{self._defaults[model]}' is missing"
            raise NotFoundError(f"model '{model}': {came}, expected one of {list(variants)}")
        return hosted

    async def load_all(self) -> None:
        """Loads every variant, one after the other: libraries import their parts while they load an artifact, and
        some (torch) import in cycles, which fail where two threads enter them from different ends.
        """
        pool = ThreadPoolExecutor(1, "load")
        try:
            await asyncio.gather(*(self._load(hosted, pool) for hosted in self.all()))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        self._started = True
        await self._changed(self)
        states = [hosted.state for hosted in self.all()]
        logger.info("%d variants are READY, %d FAILED", states.count("READY"), states.count("FAILED"))

    async def close(self, timeout: float) -> None:
        """Unloads every variant; what is queued is executed first, for at most `timeout` seconds."""
        ready = [hosted for hosted in self.all() if hosted.engine is not None]
        for hosted in ready:
            await self._set(hosted, "UNLOADING")
        await asyncio.gather(*(asyncio.to_thread(hosted.engine.close, timeout) for hosted in ready if hosted.engine))

    async def _load(self, hosted: Hosted, pool: ThreadPoolExecutor) -> None:
        entry, loop = hosted.entry, asyncio.get_running_loop()
        try:
            runtime, seconds = await loop.run_in_executor(pool, partial(self._open, entry))
        except Exception as error:
            await self._fail(hosted, error)
            return
        hosted.engine = Engine(runtime, hosted.label, self._queue_size, self._slots, hosted.metrics)
        hosted.metrics.watch_queue(hosted.engine.depth)
        hosted.metrics.loaded(seconds)
        if entry.variant is not None:
            hosted.metrics.describe(entry.variant)
        logger.info("variant %s READY in %.2f s", hosted.label, seconds)
        await self._set(hosted, "READY")

    def _open(self, entry: Entry) -> tuple[runtimes.Runtime, float]:
        """The entry's runtime, verified, loaded, warmed up and checked; and the seconds that took."""
        began = perf_counter()
        variant = verify(entry)
        golden = load_golden(self._root, entry.model)
        runtime = runtimes.load(entry.folder, variant, self._plan.threads)
        try:
            with self._slots:
                runtimes.check_golden(runtime, variant, golden)
        except BaseException:
            runtime.close()
            raise
        return runtime, perf_counter() - began

    async def _fail(self, hosted: Hosted, error: Exception) -> None:
        known = isinstance(error, VariantError)
        # The text of a library may hold paths of this machine; so may that of an OSError inside ours.
        hosted.reason = str(error).replace(f"{self._root}/", "") if known else "its artifact could not be loaded"
        logger.error("variant %s FAILED: %s", hosted.label, error, exc_info=None if known else error)
        await self._set(hosted, "FAILED")

    async def _set(self, hosted: Hosted, state: State) -> None:
        hosted.state = state
        hosted.metrics.set_state(state)
        await self._changed(self)
