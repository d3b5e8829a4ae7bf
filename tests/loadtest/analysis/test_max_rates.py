"""Which of several searched variants carries the highest rate, and which may be as fast."""

from loadtest.analysis.max_rates import fastest
from loadtest.measure.measurement import Search
from loadtest.measure.rate_search import Found, Objective


def search(name: str, held: float | None, crossing: float | None = None, width: float = 5.0) -> Search:
    interval = None if crossing is None else (crossing - width, crossing + width)
    return Search(name, Objective(20.0), Found(held, crossing, interval, "p99", ()))


def test_the_highest_crossing_wins_and_overlapping_intervals_are_named() -> None:
    best = fastest([search("slow", 80.0, 90.0), search("best", 90.0, 110.0), search("near", 95.0, 104.0)])
    assert best is not None
    assert (best.search.variant, best.rivals) == ("best", ("near",))
    assert best.sentence == (
        "half of the trials hold at 110 (95% interval 105 to 115), rely on 90; not told apart from near"
    )


def test_a_variant_that_only_the_generator_bounds_may_be_faster_than_any() -> None:
    best = fastest([search("bounded", 80.0), search("found", 90.0, 110.0)])
    assert best is not None
    assert (best.search.variant, best.rivals) == ("found", ("bounded",))
    faster = fastest([search("bounded", 200.0), search("found", 90.0, 110.0)])
    assert faster is not None
    assert (faster.search.variant, faster.rivals) == ("bounded", ())
    assert faster.sentence == "rely on 200, no higher rate is known to break"


def test_where_no_rate_held_there_is_no_fastest() -> None:
    assert fastest([search("a", None)]) is None
    assert fastest([]) is None
