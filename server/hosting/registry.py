"""The variants that this server hosts, and the state of each.

    LOADING --> READY --> UNLOADING --> UNLOADED, or gone where the repository has it no more
       '-----> FAILED -------------------'

With `--max-memory` LOADING leads to COLD, which is served as READY is: a request has it loaded first, and
`server.hosting.residency` chooses what leaves memory for it. It is COLD again where it could not be loaded for the
moment; without `--max-memory` it is FAILED then, until the watch or a client has it loaded again.

Every variant of the repository is registered before any is loaded: a broken one is a row with its reason,
never a gap. Loading happens in a thread, while the server already answers; one variant that cannot be loaded
never hurts another, nor the older publication of itself that still serves. State changes on the event loop
only, and by one change at a time: `server.hosting.sync` takes care of that.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

from protos.errors import NotFoundError, VariantError
from protos.repository import FIRST_DEFAULT, Entry, default_variant, is_named, scan
from protos.support.failures import has_path, telling_line
from protos.support.machine import measured
from server.execution.engine import Engine
from server.execution.threads import Plan, Slots
from server.hosting.hosted import Hosted, trouble_of
from server.hosting.loading import Loaded, Loader, latest
from server.hosting.memory import Memory
from server.observability.metrics import Metrics, State, VariantMetrics
from server.settings import Settings

logger = logging.getLogger(__name__)


class Registry:
    """All variants of the repository that `settings` name. `changed` is awaited after each change of a state.

    Raises `UsageError` where `--max-memory` leaves nothing for variants.
    """

    def __init__(
        self, settings: Settings, plan: Plan, metrics: Metrics, changed: Callable[["Registry"], Awaitable[None]]
    ) -> None:
        self.root, self.plan = Path(settings.repository), plan
        self._settings, self._metrics, self._changed = settings, metrics, changed
        self.room: Callable[[Hosted], AbstractAsyncContextManager[None]] = lambda hosted: nullcontext()
        """In what each variant is loaded; `server.hosting.residency` puts its own in the place of this."""
        self._slots = Slots(plan.slots)
        self._loader = Loader(self.root, plan.threads, self._slots, settings.batch_limits())
        self._models: dict[str, dict[str, Hosted]] = {}
        self.only, self._pinned = {*settings.only}, {*settings.pin}
        entries = scan(self.root, self.only)
        self.memory = Memory(settings)
        self._defaults = {model: default_variant(self.root, model) for model in {entry.model for entry in entries}}
        for entry in entries:
            self.register(entry)
        self._started = False
        self.draining = False

    @property
    def ready(self) -> bool:
        """Start-up loading has finished, something can answer, and the server is not about to stop."""
        return self._started and not self.draining and any(hosted.available for hosted in self.all())

    def unknown(self) -> str:
        """Returns, in words, a name in the settings that the repository lacks now; empty where there is none."""
        known = {*self._models, *(hosted.label for hosted in self.all())}
        for flag, named in (("--only", self.only), ("--pin", self._pinned)):
            if missing := named - known:
                return f"{flag}: got '{min(missing)}', which the repository does not hold"
        return ""

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
        hosted = Hosted(entry, VariantMetrics(self._metrics, entry.model, entry.name, self.memory.limited))
        hosted.metrics.set_state("LOADING")
        hosted.metrics.set_default(entry.name == self.default(entry.model))
        self._models.setdefault(entry.model, {})[entry.name] = hosted
        return hosted

    async def load(self, hosted: Hosted, entry: Entry) -> str:
        """Serves `entry` in place of what served before, or returns why it cannot: then that goes on serving.

        With `--max-memory` one that is neither pinned nor in memory becomes COLD, if its manifest can be read.
        """
        async with hosted.turn:
            hosted.entry, variant = entry, entry.variant
            lazy = self.memory.limited and hosted.served is None and not self.pinned(hosted)
            if not lazy or variant is None or self.memory.lacks(variant):
                return await self._load(hosted)
            hosted.trouble = None
            hosted.metrics.describe(variant)
            hosted.state = "COLD"
            hosted.metrics.set_state("COLD")
            if self._started:  # else there are thousands, and all are told of at the end
                await self._changed(self)
            return ""

    async def warm(self, hosted: Hosted) -> bool:
        """Loads a variant that is COLD: it is READY or FAILED then, or False says that it is as it was, for now."""
        async with hosted.turn:
            if hosted.state == "COLD":
                hosted.entry = await asyncio.to_thread(latest, hosted.entry)
                await self._load(hosted)
            return hosted.state != "COLD"

    def again(self, hosted: Hosted) -> bool:
        """Returns whether the watch is to load it again: it could not be loaded for the moment, some time ago.

        One that is COLD and not pinned waits for a request.
        """
        waits = hosted.state == "COLD" and not self.pinned(hosted)
        return not waits and hosted.trouble is not None and not hosted.rest

    async def evict(self, hosted: Hosted) -> bool:
        """Makes a READY variant COLD and gives its memory back; False where a request for it is under way."""
        hosted.state = "COLD"  # before the look: a request that begins in another thread from now on finds no engine
        if hosted.metrics.in_flight:
            hosted.state = "READY"
            return False
        engine, hosted.served = hosted.engine, None
        hosted.metrics.set_state("COLD")
        hosted.metrics.evicted()
        logger.info("variant %s COLD", hosted.label)
        await self._retire(engine)
        return True

    def pinned(self, hosted: Hosted) -> bool:
        """Returns whether it is to stay in memory."""
        return is_named(self._pinned, hosted.entry.model, hosted.entry.name)

    async def unload(self, hosted: Hosted) -> None:
        """Refuses what comes, executes what is queued, gives the engine back; the row stays, its metrics go."""
        async with hosted.turn:
            engine, hosted.trouble = hosted.engine, None
            await self._set(hosted, "UNLOADING")
            hosted.served = None
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

    async def _load(self, hosted: Hosted) -> str:
        try:
            if hosted.entry.variant is not None and (lacking := self.memory.lacks(hosted.entry.variant)):
                raise VariantError(lacking)
            async with self.room(hosted):
                loaded = await self._loader.load(hosted.entry)
                engine = self._engine(hosted, loaded)
        except Exception as error:
            return await self._fail(hosted, error)
        await self._swap(hosted, loaded, engine)
        return ""

    def _engine(self, hosted: Hosted, loaded: Loaded) -> Engine:
        room, limit = self._settings.queue_size, loaded.limit
        try:
            return Engine(loaded.runtime, hosted.label, room, self._slots, hosted.metrics, limit)
        except BaseException:  # no thread could be had
            loaded.runtime.close()
            raise

    async def _swap(self, hosted: Hosted, loaded: Loaded, engine: Engine) -> None:
        old, hosted.entry, hosted.trouble = hosted.engine, loaded.entry, None
        hosted.served = engine, loaded.variant
        hosted.metrics.describe(loaded.variant)
        hosted.metrics.loaded(loaded.seconds, engine.depth)
        rows = engine.limit.rows
        batches = f"batches of up to {rows} rows" if rows > 1 else "no batches"
        logger.info("variant %s READY in %.2f s, %s", hosted.label, loaded.seconds, batches)
        if measured(loaded.variant.machine) == "elsewhere":
            told = "variant %s was measured on %s, not on this CPU: its latency will be another"
            logger.warning(told, hosted.label, loaded.variant.machine.processor)
        await self._set(hosted, "READY")
        await self._retire(old)

    async def _retire(self, engine: Engine | None) -> None:
        """Lets an engine execute what it has accepted, as far as the time for draining allows."""
        if engine is not None:
            try:
                await asyncio.to_thread(engine.close, self._settings.drain_timeout)
            except RuntimeError:  # no thread can be had: what is queued fails, and this one does not wait
                engine.close(0.0)

    async def _fail(self, hosted: Hosted, error: Exception) -> str:
        known = isinstance(error, VariantError)
        line = str(error) if known else telling_line(error)
        for root in (self.root.resolve(), self.root):
            line = line.replace(f"{root}/", "")
        # A client reads the reason: no path of this machine, which a text of a library may hold.
        cause = error.strerror if isinstance(error, OSError) else "" if has_path(line) else line
        reason = line if known else f"its artifact could not be loaded: {cause}".removesuffix(": ")
        before, hosted.trouble = hosted.trouble, trouble_of(error, reason, hosted.trouble)
        if not hosted.trouble.passes:
            traceback = None if known and error.__cause__ is None else error
            logger.error("variant %s FAILED: %s", hosted.label, line, exc_info=traceback)
        elif before is None or before.reason != reason:  # it is tried several times
            logger.warning("variant %s cannot be loaded now: %s", hosted.label, line)
        cold = hosted.trouble.passes and self.memory.limited and hosted.entry.variant is not None
        if hosted.engine is None:
            await self._set(hosted, "COLD" if cold else "FAILED")
        return reason

    async def _set(self, hosted: Hosted, state: State) -> None:
        was_available, hosted.state = hosted.available, state
        hosted.metrics.set_state(state)
        if not (was_available and hosted.available):  # else nobody has to be told
            await self._changed(self)
