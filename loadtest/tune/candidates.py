"""The configurations of a server that are worth measuring.

    threads      of one execution of the engine, inside a process
    workers      processes that share the port; each executes one batch of a variant at a time
    batch_max    rows of one execution, of requests that wait together; 0: as many as the server finds that pay

The server refuses workers x threads that do not fit the cores; its execution slots follow from the two.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from loadtest.tune.settings import Settings
from protos.errors import UsageError
from protos.manifest import Variant
from protos.server_defaults import BATCH_MAX, LARGEST_BATCH, SMALLEST_BATCH, THREADS, WORKERS


@dataclass(frozen=True, order=True)
class Configuration:
    """What one server is started with."""

    threads: int = THREADS
    workers: int = WORKERS
    batch_max: int = BATCH_MAX

    @property
    def flags(self) -> tuple[str, ...]:
        """Returns the flags of `pareto-serve` that make it: none for the default."""
        changed = [each for each in fields(self) if getattr(self, each.name) != each.default]
        return tuple(itertools.chain(*(self._flag(each.name) for each in changed)))

    @property
    def label(self) -> str:
        """Returns what people read: the flags, or `the default`."""
        return " ".join(self.flags) or "the default"

    @property
    def all_flags(self) -> tuple[str, ...]:
        """Returns the flags of `pareto-serve` with those that are the server's defaults."""
        return tuple(itertools.chain(*(self._flag(each.name) for each in fields(self))))

    @property
    def name(self) -> str:
        """Returns the name for results, such as `threads 2 batch-max 1`; empty for the default."""
        return " ".join(self.flags).replace("--", "")

    @property
    def processes(self) -> int:
        """Returns how many processes it takes: with several workers there is one more, which supervises them."""
        return self.workers + (self.workers > 1)

    def _flag(self, name: str) -> tuple[str, str]:
        return "--" + name.replace("_", "-"), str(getattr(self, name))


DEFAULT = Configuration()

START_SECONDS = 3.0
"""What one server needs to start, about."""


def worth_measuring(settings: Settings, variant: Variant, cores: int) -> list[Configuration]:
    """Returns the configurations to measure, the default first; `UsageError` where there is nothing to choose from."""
    load = settings.load
    batch_max: Sequence[int] = settings.batch_max
    if not batch_max:
        most_rows = load.level if load.scenario == "closed" else math.inf
        batch_max = batch_limits(most_rows) if variant.joins_requests else (BATCH_MAX,)
    found = candidates(cores, batch_max, settings.threads, settings.workers)
    if len(found) == 1:
        raise UsageError(
            f"got only the default to measure on {counted(cores, 'core')} at {load.name},"
            " expected other --threads, --workers, --batch-max or --users"
        )
    return found


def candidates(
    cores: int, batch_max: Sequence[int], threads: Sequence[int] = (), workers: Sequence[int] = ()
) -> list[Configuration]:
    """Returns the configurations that fit the cores, the default first.

    Without values of one's own, threads and workers are powers of two up to the cores. Raises `UsageError` for values
    that fit no server on these cores.
    """
    for flag, values in (("--threads", threads), ("--workers", workers)):
        if too_many := [each for each in values if each > cores]:
            raise UsageError(f"{flag}: got {too_many[0]}, expected at most the {counted(cores, 'available core')}")
    powers = sorted({cores, *(2**n for n in range(cores.bit_length()))})
    grid = itertools.product(threads or powers, workers or powers, batch_max)
    fitting = {Configuration(*values) for values in grid if values[0] * values[1] <= cores}
    return [DEFAULT, *sorted(fitting - {DEFAULT})]


def batch_limits(most_rows: float) -> list[int]:
    """Returns limits that differ under a load of which at most so many rows wait at once.

    They are the server's own, 1 and the largest that the server would find. The server's own is at least the smallest
    that it would find: where that holds all rows, the largest is the same.
    """
    return [BATCH_MAX, *[1] * (most_rows > 1), *[LARGEST_BATCH] * (most_rows > SMALLEST_BATCH)]


def plan_text(settings: Settings, configurations: Sequence[Configuration], cores: int) -> str:
    """Says before any work what will be measured, and about how long that takes."""
    tried = (
        f"{each.name.replace('_', '-')} {', '.join(map(str, sorted({getattr(c, each.name) for c in configurations})))}"
        for each in fields(Configuration)
    )
    seconds = len(configurations) * (settings.duration + START_SECONDS / cores)
    return (
        f"{settings.variant} of {settings.model}, {settings.load.name}: {len(configurations)} configurations that fit"
        f" {counted(cores, 'core')} ({'; '.join(tried)}), {settings.duration:g} s each at most, about"
        f" {math.ceil(seconds / 60)} min"
    )


def counted(number: int, noun: str) -> str:
    """Returns a number with its noun: `1 core`, `2 cores`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
