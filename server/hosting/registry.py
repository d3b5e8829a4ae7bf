"""The variants that this server hosts, and the state of each.

    LOADING --> READY --> UNLOADING --> UNLOADED, or gone where the repository has it no more
       '-----> FAILED -------------------'

Every variant of the repository is registered before any is loaded: a broken one is a row with its reason,
never a gap. Loading happens in a thread, while the server already answers; one variant that cannot be loaded
never hurts another, nor the older publication of itself that still serves. State changes on the event loop
only, and by one change at a time: `server.hosting.sync` takes care of that.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from protos.errors import NotFoundError, UnavailableError, VariantError
from protos.manifest import Variant
from protos.repository import FIRST_DEFAULT, Entry, default_variant, scan
from protos.support.failures import has_path, telling_line
from protos.support.machine import measured
from server.execution.engine import Engine
from server.execution.threads import Plan, Slots
from server.hosting.loading import Loaded, Loader
from server.observability.metrics import Metrics, State, VariantMetrics
from server.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Hosted:
    """One variant, as it stands now."""

    entry: Entry
    """What the repository held when it was last read; while a newer one fails, not what serves."""
    metrics: VariantMetrics
    state: State | Literal["UNLOADED"] = "LOADING"
    reason: str = ""
    """Why `entry` could not be loaded."""
    served: tuple[Engine, Variant] | None = None
    """What answers its requests: one value, since threads read it while another publication takes its place."""

    @property
    def engine(self) -> Engine | None:
        """What executes it, while something does."""
        return self.served and self.served[0]

    @property
    def variant(self) -> Variant | None:
        """What serves, while something does."""
        return self.served and self.served[1]

    @property
    def described(self) -> Variant | None:
        """The variant that serves, else the one that should; None where the manifest cannot be read."""
        return self.variant or self.entry.variant

    @property
    def label(self) -> str:
        """`model/variant`, as health and log name it."""
        return f"{self.entry.model}/{self.entry.name}"

    def serving(self) -> tuple[Engine, Variant]:
        """Returns what answers its requests; `UnavailableError` with the reason unless it is READY."""
        served = self.served
        if self.state != "READY" or served is None:
            because = f": {self.reason}" if self.reason else ""
            raise UnavailableError(f"variant '{self.label}' is {self.state}{because}")
        return served


class Registry:
    """All variants of the repository that `settings` name. `changed` is awaited after each change of a state."""

    def __init__(
        self, settings: Settings, plan: Plan, metrics: Metrics, changed: Callable[["Registry"], Awaitable[None]]
    ) -> None:
        self.root, self.plan = Path(settings.repository), plan
        self._settings, self._metrics, self._changed = settings, metrics, changed
        self._slots = Slots(plan.slots)
        self._loader = Loader(self.root, plan.threads, self._slots, settings.batch_limits())
        self._models: dict[str, dict[str, Hosted]] = {}
        entries = scan(self.root)
        self._defaults = {model: default_variant(self.root, model) for model in {entry.model for entry in entries}}
        for entry in entries:
            self.register(entry)
        self._started = False
        self.draining = False

    @property
    def ready(self) -> bool:
        """Start-up loading has finished, something can answer, and the server is not about to stop."""
        return self._started and not self.draining and any(hosted.state == "READY" for hosted in self.all())

    def all(self) -> list[Hosted]:
        """Every variant, by model and name."""
        return [hosted for model in self.models() for hosted in self.of(model).values()]

    def models(self) -> list[str]:
        """The names of all models."""
        return sorted(self._models)

    def of(self, model: str) -> dict[str, Hosted]:
        """The variants of a model by name, whatever their state; none where there is no such model."""
        return dict(sorted(self._models.get(model, {}).items()))

    def default(self, model: str) -> str:
        """The variant that an empty version means; it need not exist."""
        return self._defaults.get(model, FIRST_DEFAULT)

    def find(self, model: str, name: str) -> Hosted:
        """One variant, whatever its state; an empty name means the default. Raises `NotFoundError`."""
        variants = self._models.get(model)
        if variants is None:
            raise NotFoundError(f"got model '{model}', expected one of {self.models()}")
        hosted = variants.get(name or self.default(model))
        if hosted is None:
            got = f"got variant '{name}'" if name else f"its default '{self.default(model)}' is missing"
            raise NotFoundError(f"model '{model}': {got}, expected one of {list(self.of(model))}")
        return hosted

    def choose(self, model: str, name: str) -> list[Hosted]:
        """One variant; all of a model where `name` is empty; all where both are. Raises `NotFoundError`."""
        if not model and name:
            raise NotFoundError(f"got variant '{name}' of no model")
        if model and not name and model in self._models:
            return list(self.of(model).values())
        return [self.find(model, name)] if model else self.all()

    async def load_all(self) -> None:
        """Loads every variant that was registered, at start-up."""
        for hosted in self.all():
            await self.load(hosted, hosted.entry)
        self._started = True
        await self._changed(self)

    async def close(self) -> None:
        """Unloads every variant; what is queued is executed first, as far as the time allows."""
        self._loader.close()
        serving = [hosted for hosted in self.all() if hosted.engine is not None]
        for hosted in serving:
            await self._set(hosted, "UNLOADING")
        await asyncio.gather(*(self._retire(hosted.engine) for hosted in serving))

    def register(self, entry: Entry) -> Hosted:
        """Adds a row for `entry`, LOADING, in place of one of that name that was unloaded."""
        hosted = Hosted(entry, VariantMetrics(self._metrics, entry.model, entry.name))
        hosted.metrics.set_state("LOADING")
        hosted.metrics.set_default(entry.name == self.default(entry.model))
        self._models.setdefault(entry.model, {})[entry.name] = hosted
        return hosted

    async def load(self, hosted: Hosted, entry: Entry) -> str:
        """Serves `entry` in place of what served before, or returns why it cannot: then that goes on serving."""
        hosted.entry = entry
        try:
            loaded = await self._loader.load(entry)
        except Exception as error:
            return await self._fail(hosted, error)
        await self._swap(hosted, loaded)
        return ""

    async def unload(self, hosted: Hosted) -> None:
        """Refuses what comes, executes what is queued, gives the engine back; the row stays, its metrics go."""
        engine, hosted.served, hosted.reason = hosted.engine, None, ""
        await self._set(hosted, "UNLOADING")
        await self._retire(engine)
        hosted.metrics.remove()
        hosted.state = "UNLOADED"
        logger.info("variant %s UNLOADED", hosted.label)
        await self._changed(self)

    async def forget(self, hosted: Hosted) -> None:
        """Removes the row of an unloaded variant, and with the last row the model."""
        variants = self._models[hosted.entry.model]
        del variants[hosted.entry.name]
        if not variants:
            del self._models[hosted.entry.model]
            self._defaults.pop(hosted.entry.model, None)
        await self._changed(self)

    async def set_default(self, model: str, variant: str) -> None:
        """Makes an empty version of `model` mean `variant` from now on."""
        self._defaults[model] = variant
        for hosted in self.of(model).values():
            if hosted.state != "UNLOADED":  # its metrics are gone
                hosted.metrics.set_default(hosted.entry.name == variant)
        await self._changed(self)

    async def _swap(self, hosted: Hosted, loaded: Loaded) -> None:
        old, hosted.entry, hosted.reason = hosted.engine, loaded.entry, ""
        room, limit = self._settings.queue_size, loaded.limit
        engine = Engine(loaded.runtime, hosted.label, room, self._slots, hosted.metrics, limit)
        hosted.served = engine, loaded.variant
        hosted.metrics.follow_queue(engine.depth)
        hosted.metrics.describe(loaded.variant, loaded.seconds)
        batches = f"batches of up to {limit.rows} rows" if limit.rows > 1 else "no batches"
        logger.info("variant %s READY in %.2f s, %s", hosted.label, loaded.seconds, batches)
        if measured(loaded.variant.machine) == "elsewhere":
            told = "variant %s was measured on %s, not on this CPU: its latency will be another"
            logger.warning(told, hosted.label, loaded.variant.machine.processor)
        await self._set(hosted, "READY")
        await self._retire(old)

    async def _retire(self, engine: Engine | None) -> None:
        """Lets an engine execute what it has accepted, as far as the time for draining allows."""
        if engine is not None:
            await asyncio.to_thread(engine.close, self._settings.drain_timeout)

    async def _fail(self, hosted: Hosted, error: Exception) -> str:
        known = isinstance(error, VariantError)
        line = str(error) if known else telling_line(error)
        for root in (self.root.resolve(), self.root):
            line = line.replace(f"{root}/", "")
        # A client reads the reason: no path of this machine, which a text of a library may hold.
        cause = "" if has_path(line) else f": {line}"
        hosted.reason = line if known else f"its artifact could not be loaded{cause}"
        traceback = None if known and error.__cause__ is None else error
        logger.error("variant %s FAILED: %s", hosted.label, line, exc_info=traceback)
        if hosted.engine is None:
            await self._set(hosted, "FAILED")
        return hosted.reason

    async def _set(self, hosted: Hosted, state: State) -> None:
        hosted.state = state
        hosted.metrics.set_state(state)
        await self._changed(self)
