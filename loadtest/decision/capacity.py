"""What a rate takes of each variant: server CPU for an answer, and the highest rate that one server carries.

The page computes replicas, vCPUs, memory and cost from this, for the rate and the price that its reader gives
(`report/web/capacity.js`). A server is one like the one that was measured, with all cores of its machine.

    CPU           seconds of the server's CPU for a thousand answers, at the load with the most answers per second
    highest rate  what `--find-max-rate` found for this p99; else the most answers per second that were measured with
                  a p99 within the limit, of measurements without a failed call; without a limit, of all of those

Where the load generator may have been the limit, no higher rate of arrivals broke the limit, or none was tried, it
carries at least that.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from loadtest.analysis.results import Cell, Results
from loadtest.decision.decision import Decision
from loadtest.measure.measurement import Search

SEARCHED = "--find-max-rate"
HEADINGS = ("variant", "CPU-seconds per thousand answers", "highest rate per second", "known from")
PRICE = 0.04
"""An example of what a vCPU costs in an hour, in whatever currency."""


@dataclass(frozen=True)
class Rate:
    """Answers per second of one server."""

    at: str
    """The load, or `SEARCHED`."""
    rate: float
    p99: float | None
    """In milliseconds; of a search the one that held."""
    at_least: bool

    @property
    def text(self) -> str:
        """Returns the rate for people."""
        return f"{'at least ' if self.at_least else ''}{self.rate:,.{0 if self.rate >= 10 else 2}f}"


@dataclass(frozen=True)
class Capacity:
    """What is known of one variant."""

    variant: str
    cpu_seconds: float | None
    """Of the server, for a thousand answers."""
    cpu_at: str | None
    """The load at which that was measured."""
    memory_mb: float | None
    rates: tuple[Rate, ...]
    """What a search found comes first, then the highest."""

    def highest(self, p99: float | None) -> Rate | None:
        """Returns the rate within a p99, or without a limit; None where none is known."""
        return next((each for each in self.rates if _fits(each, p99)), None)

    def row(self, p99: float | None) -> list[str]:
        """Returns the texts of `HEADINGS`."""
        best = self.highest(p99)
        cpu = "n/a" if self.cpu_seconds is None else f"{self.cpu_seconds:.3f}"
        return [self.variant, cpu, *((best.text, best.at) if best else ("n/a", "n/a"))]


def _fits(rate: Rate, p99: float | None) -> bool:
    if rate.at == SEARCHED:
        return rate.p99 == p99
    return p99 is None or (rate.p99 is not None and rate.p99 <= p99)


def capacities(results: Results) -> tuple[Capacity, ...]:
    """Returns what is known of each variant, in the order of the results."""
    searches = {search.variant: search for search in results.searches}
    names = dict.fromkeys([cell.variant for cell in results.cells] + [*searches])
    return tuple(_capacity(name, _cells_of(results, name), searches.get(name)) for name in names)


def default_rate(results: Results, decision: Decision) -> float:
    """Returns the rate that is asked for, or else the most answers per second of the winner, or else of any variant."""
    if results.plan.rate is not None:
        return results.plan.rate
    if decision.shown and decision.shown.winner:
        return _whole(decision.shown.winner.cell.throughput_rps)
    rates = [each.rate for capacity in capacities(results) for each in capacity.rates]
    return _whole(max(rates, default=1.0))


def page_data(results: Results) -> dict[str, object]:
    """Returns what the page computes from; no `cores` where the server has a machine of its own."""
    cores = results.machine.cores if results.plan.on_one_machine else None
    variants = [asdict(each) for each in capacities(results)]
    return {"cores": cores, "p99": results.plan.p99, "searched": SEARCHED, "variants": variants}


def _cells_of(results: Results, variant: str) -> list[Cell]:
    """Returns the measurements of one row in each request, or where there are none of those, of many."""
    mine = [cell for cell in results.cells if cell.variant == variant]
    return [cell for cell in mine if cell.load.scenario != "offline"] or mine


def _capacity(variant: str, cells: Sequence[Cell], search: Search | None) -> Capacity:
    by_rate = sorted(cells, key=lambda cell: -cell.throughput_rps)
    known = next((cell for cell in by_rate if cell.server.cpu_us_per_request is not None), None)
    memory = next((cell.facts.memory_bytes for cell in cells), None)
    cpu = known.server.cpu_us_per_request if known else None
    return Capacity(
        variant=variant,
        cpu_seconds=None if cpu is None else cpu / 1e3,
        cpu_at=known.load.name if known else None,
        memory_mb=None if memory is None else memory / 1e6,
        rates=(*_found(search), *(_measured(cell) for cell in by_rate if cell.throughput_rps and not cell.failures)),
    )


def _found(search: Search | None) -> Iterator[Rate]:
    held = search.found.held if search else None
    if search and held:
        yield Rate(SEARCHED, held, search.objective.p99_ms, at_least=search.found.crossing is None)


def _measured(cell: Cell) -> Rate:
    at_least = cell.generator_limited or cell.load.scenario == "server"
    return Rate(cell.load.name, cell.throughput_rps, cell.latency_ms.p99, at_least)


def _whole(rate: float) -> float:
    return math.floor(rate) if rate >= 1 else rate
