"""Which variants are faster than others under one load, and which are tied: ranks by the p50 of each round.

Cells that are not valid or have no p50 are left out. A round in which one of the others has no p50 is dropped for all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.analysis.paired_comparison import compare_all, rounds_needed
from loadtest.analysis.results import Cell
from loadtest.analysis.validity import invalid_reason, is_valid
from loadtest.plan import Load


@dataclass(frozen=True)
class Place:
    """A variant, its rank from 1, and how much slower it is than the first: median over the rounds, and interval."""

    rank: int
    cell: Cell
    ratio: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Ranking:
    """The ranks of one load."""

    load: Load
    places: tuple[Place, ...]
    left_out: tuple[tuple[Cell, str], ...]
    """Cells that were not ranked, with the reason."""
    rounds: int
    """How many rounds have a p50 of every ranked cell."""
    needed: int
    """How many rounds it takes to show any difference among so many variants."""

    @property
    def enough(self) -> bool:
        """Whether there are enough rounds to show a difference, if there is anything to compare."""
        return len(self.places) < 2 or self.rounds >= self.needed


def rank_cells(cells: Sequence[Cell], load: Load) -> Ranking:
    """Ranks the cells of one load."""
    mine = [cell for cell in cells if cell.load == load]
    able = [cell for cell in mine if is_valid(cell) and cell.latency_ms.p50 is not None]
    left_out = tuple((cell, invalid_reason(cell)) for cell in mine if cell not in able)
    p50s = [{each.round: each.latency_ms.p50 for each in cell.rounds} for cell in able]
    shared = [number for number in (p50s[0] if p50s else {}) if all(p50.get(number) for p50 in p50s)]
    needed = rounds_needed(max(1, len(able) * (len(able) - 1) // 2))
    if not shared:
        return Ranking(load, (), left_out, 0, needed)
    ranked = compare_all({cell.variant: [p50[n] or 0.0 for n in shared] for cell, p50 in zip(able, p50s, strict=True)})
    named, places = {cell.variant: cell for cell in able}, list[Place]()
    for rank, variants in enumerate(ranked.ranks, 1):
        for variant in variants:
            against = ranked.comparisons.get((ranked.ranks[0][0], variant))
            slower = against.interval and (1 / against.interval[1], 1 / against.interval[0]) if against else None
            places.append(Place(rank, named[variant], 1 / against.ratio if against else None, slower))
    return Ranking(load, tuple(places), left_out, len(shared), needed)
