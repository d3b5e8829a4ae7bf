"""What a run says of itself while it lasts, on a terminal and elsewhere, and how long it says it will take."""

import io
from collections.abc import Iterator
from dataclasses import replace

import pytest
from rich.console import Console

from loadtest.measure.measurement import Stop
from loadtest.plan import Block, Load, Plan
from loadtest.progress import Progress
from tests.support.loadtest.cells import PLAN, closed

ROUNDS = replace(PLAN, users=(1, 8), duration=1.0, slice=0.1, warmup=0.5)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Told:
    """The progress of two variants on a console of this width, and what it printed."""

    def __init__(self, plan: Plan = ROUNDS, terminal: bool = False) -> None:
        self.clock = Clock()
        self.console = Console(file=io.StringIO(), width=80, force_terminal=terminal, color_system=None)
        self.progress = Progress(self.console, plan, ("a", "b"), self.clock)

    def rounds(self, load: Load, first: int, last: int, seconds: float) -> None:
        """Begins these rounds, each of which takes so long."""
        for number in range(first, last + 1):
            self.progress.round_begins(load, number, 2)
            self.clock.now += seconds

    @property
    def lines(self) -> list[str]:
        assert isinstance(self.console.file, io.StringIO)
        return self.console.file.getvalue().splitlines()


@pytest.fixture
def told() -> Iterator[Told]:
    found = Told()
    with found.progress:
        yield found


def test_the_first_round_is_said_at_once_and_the_next_ones_not_within_seconds(told: Told) -> None:
    told.rounds(closed(1), 1, 5, 0.1)
    assert told.lines == ["[0%] 1 user, round 1 of 10, 2 of 2 variants, 6 s left"]  # 40 slices and 4 warm-ups


def test_a_variant_that_stops_is_named_with_the_reason_and_its_further_slices_count_as_done(told: Told) -> None:
    told.rounds(closed(1), 1, 5, 0.1)
    told.progress.stretch_ends(closed(1), 5, 1, [Stop("a", closed(1), 5, "[b] beats it", 0.01)], "b fastest")
    told.clock.now += 9
    told.progress.round_begins(closed(8), 1, 2)
    assert told.lines[1] == "a, 1 user: stopped after round 5, [b] beats it"
    assert told.lines[2].startswith("[38%] 8 users, round 1 of 10, 2 of 2 variants, ")


def test_the_last_result_is_said_with_what_is_measured_next(told: Told) -> None:
    told.rounds(closed(1), 1, 5, 0.1)
    told.progress.stretch_ends(closed(1), 5, 2, [], "b fastest, p50 0.42 ms")
    told.clock.now += 9
    told.progress.round_begins(closed(8), 1, 2)
    assert told.lines[-1].endswith(" left; last, 1 user: b fastest, p50 0.42 ms")


def test_the_time_left_is_estimated_by_the_rounds_after_the_first_which_warms_up(told: Told) -> None:
    told.rounds(closed(1), 1, 1, 60.0)
    told.rounds(closed(1), 2, 5, 0.6)  # 0.3 s a slice
    told.progress.stretch_ends(closed(1), 5, 2, [], "")
    told.clock.now += 5
    told.progress.round_begins(closed(8), 1, 2)
    assert ", 10 s left;" in told.lines[-1]  # 30 slices and 2 warm-ups


def test_of_a_run_that_stops_early_only_the_most_is_known() -> None:
    told = Told(replace(ROUNDS, until_decided=True, p99=20.0))
    told.progress.round_begins(closed(1), 1, 2)
    assert told.lines == ["[0%] 1 user, round 1 of 10, 2 of 2 variants, at most 6 s left"]


def test_blocks_without_a_break_are_part_of_the_time_left() -> None:
    told, load = Told(replace(ROUNDS, users=(), rates=(100.0,), sustained=3.0)), Load("server", 100.0)
    told.rounds(load, 1, 1, 1.0)
    told.rounds(load, 2, 10, 0.2)
    told.progress.stretch_ends(load, 10, 2, [], "")
    told.progress.block_begins(Block("a", load, 0))
    told.progress.block_begins(Block("b", load, 0))
    assert [line.split(";")[0] for line in told.lines[-2:]] == [
        "[100%] a, 100 per second, sustained, 7 s left",
        "[100%] b, 100 per second, sustained, 4 s left",
    ]


def test_a_terminal_of_80_columns_shows_all_of_it() -> None:
    told = Told(replace(ROUNDS, until_decided=True, p99=20.0), terminal=True)
    with told.progress:
        told.rounds(closed(1), 1, 1, 1.0)
        told.progress.stretch_ends(closed(1), 1, 2, [], "channels50-int8-torchscript fastest, p50 0.42 ms")
        told.progress.round_begins(closed(8), 1, 2)
    shown = " ".join(" ".join(told.lines).split())
    assert "8 users, round 1 of 10, 2 of 2 variants, at most " in shown
    assert "last, 1 user: channels50-int8-torchscript fastest, p50 0.42 ms" in shown
    assert "…" not in shown
