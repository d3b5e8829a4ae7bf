"""From a folder of the repository to a runtime that may serve: verified, loaded, warmed up, checked and timed.

One thread loads, one artifact after the other: libraries import their parts while they load an artifact, and
some (torch) import in cycles, which fail where two threads enter them from different ends.
"""

import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np

from protos.manifest import Variant
from protos.repository import Entry, fingerprint, load_golden, read_entry, verify
from protos.server_defaults import SMALLEST_BATCH
from server import runtimes
from server.execution.batch_rows import best_rows
from server.execution.batcher import BatchLimit
from server.execution.engine import limit_for
from server.execution.threads import Slots
from server.runtimes import Array, Runtime
from server.runtimes.golden import check_golden

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """A runtime and the entry that it was made from; `seconds` is from the first byte read to the last check."""

    entry: Entry
    variant: Variant
    runtime: Runtime
    limit: BatchLimit
    seconds: float


def latest(entry: Entry) -> Entry:
    """Returns `entry`, or what has been published in its place since it was read."""
    return entry if fingerprint(entry.folder) in (None, entry.fingerprint) else read_entry(entry.folder)


class Loader:
    """Loads from `root`, for engines of `threads` threads; what it executes waits for a slot, as all executions do.

    `limits` are those of `make_limits`; where they leave the rows to be found, they are found here.
    """

    def __init__(self, root: Path, threads: int, slots: Slots, limits: Mapping[str, BatchLimit]) -> None:
        self._root, self._threads, self._slots, self._limits = root, threads, slots, limits
        self._pool = ThreadPoolExecutor(1, "load")

    async def load(self, entry: Entry) -> Loaded:
        """Loads `entry` in the one thread; raises `VariantError`, or what a library raises."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self.open, entry)

    def close(self) -> None:
        """Ends the thread: loads nothing that waits, and does not wait for what is being loaded."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def open(self, entry: Entry) -> Loaded:
        """Loads `entry` in this thread; where another publication comes in between, that one."""
        while True:
            try:
                loaded = self._open(entry)
            except Exception:
                if (newer := latest(entry)) is entry:
                    raise
            else:
                if (newer := latest(entry)) is entry:
                    return loaded
                loaded.runtime.close()
            entry = newer

    def _open(self, entry: Entry) -> Loaded:
        began = perf_counter()
        variant = verify(entry)
        golden = load_golden(self._root, entry.model, variant)
        runtime = runtimes.load(entry.folder, variant, self._threads)
        try:
            with self._slots:
                check_golden(runtime, variant, golden)
            limit = limit_for(variant, self._limits)
            if not limit.rows:
                limit = replace(limit, rows=self._best_rows(runtime, entry, golden.inputs))
        except BaseException:
            runtime.close()
            raise
        return Loaded(entry, variant, runtime, limit, perf_counter() - began)

    def _best_rows(self, runtime: Runtime, entry: Entry, inputs: dict[str, Array]) -> int:
        try:
            return best_rows(partial(self._execute, runtime, inputs))
        except Exception as error:  # it answered its golden inputs, and may serve
            told = "variant %s/%s cannot execute larger batches, it gets up to %d rows: %r"
            logger.warning(told, entry.model, entry.name, SMALLEST_BATCH, error)
            return SMALLEST_BATCH

    def _execute(self, runtime: Runtime, inputs: dict[str, Array], rows: int) -> float:
        """Returns the seconds that `rows` rows take, of `inputs` again and again."""
        batch = {name: np.resize(array, (rows, *array.shape[1:])) for name, array in inputs.items()}
        with self._slots:
            began = perf_counter()
            runtime.infer(batch)
            return perf_counter() - began
