"""From a folder of the repository to a runtime that may serve: verified, loaded, warmed up and checked.

One thread loads, one artifact after the other: libraries import their parts while they load an artifact, and
some (torch) import in cycles, which fail where two threads enter them from different ends.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from protos.manifest import Variant
from protos.repository import Entry, fingerprint, load_golden, read_entry, verify
from server import runtimes
from server.execution.threads import Slots
from server.runtimes.golden import check_golden


@dataclass(frozen=True)
class Loaded:
    """A runtime and the entry that it was made from; `seconds` is from the first byte read to the last check."""

    entry: Entry
    variant: Variant
    runtime: runtimes.Runtime
    seconds: float


class Loader:
    """Loads from `root`, for engines of `threads` threads; golden checks wait for a slot as executions do."""

    def __init__(self, root: Path, threads: int, slots: Slots) -> None:
        self._root, self._threads, self._slots = root, threads, slots
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
                if fingerprint(entry.folder) in (None, entry.fingerprint):
                    raise
            else:
                if fingerprint(entry.folder) in (None, entry.fingerprint):
                    return loaded
                loaded.runtime.close()
            entry = read_entry(entry.folder)

    def _open(self, entry: Entry) -> Loaded:
        began = perf_counter()
        variant = verify(entry)
        golden = load_golden(self._root, entry.model)
        runtime = runtimes.load(entry.folder, variant, self._threads)
        try:
            with self._slots:
                check_golden(runtime, variant, golden)
        except BaseException:
            runtime.close()
            raise
        return Loaded(entry, variant, runtime, perf_counter() - began)
