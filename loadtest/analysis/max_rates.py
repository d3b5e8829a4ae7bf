"""Which variant carries the highest rate, of those that were searched for it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.measure.measurement import Search
from loadtest.measure.rate_search import describe


@dataclass(frozen=True)
class Fastest:
    """The variant with the highest rate, and those whose intervals reach its own: they may be as fast."""

    search: Search
    rivals: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """Says how high the rate is, and which variants were not told apart."""
        rivals = f"; not told apart from {', '.join(self.rivals)}" if self.rivals else ""
        return f"{describe(self.search.found)}{rivals}"


def fastest(searches: Sequence[Search]) -> Fastest | None:
    """Returns the variant whose crossing, or where none broke whose rate to rely on, is highest; None if none held."""
    known = [search for search in searches if search.found.held is not None]
    if not known:
        return None
    best = max(known, key=lambda search: search.found.crossing or search.found.held or 0.0)
    least, _ = _ends(best)
    return Fastest(best, tuple(s.variant for s in known if s is not best and _ends(s)[1] >= least))


def _ends(search: Search) -> tuple[float, float]:
    """Returns between which rates the crossing lies; without one, above the rate to rely on."""
    return search.found.interval or (search.found.held or 0.0, math.inf)
