"""What a run says of itself where there is no terminal."""

import io
from dataclasses import replace

from rich.console import Console

from loadtest.measure.measurement import Stop
from loadtest.progress import Progress
from tests.support.loadtest.cells import PLAN, closed

ROUNDS = replace(PLAN, users=(1, 8), duration=1.0, slice=0.1)


def said(rounds: int, *stops: Stop) -> list[str]:
    """The lines of so many rounds of two variants, of the end of their stretch, and of what follows."""
    console = Console(file=io.StringIO(), width=20)
    with Progress(console, ROUNDS, ("a", "b")) as progress:
        for round_ in range(1, rounds + 1):
            progress.round_begins(closed(1), round_, 2)
        progress.stretch_ends(closed(1), rounds, 2 - len(stops), stops)
        progress.says("b, sustained")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_the_first_round_is_said_at_once_and_the_next_ones_not_within_seconds() -> None:
    first, last = said(5)
    assert first == "[0%] 1 user, round 1 of 10, 2 of 2 variants, 4 s left"
    assert last == "[25%] b, sustained"


def test_a_variant_that_stops_is_named_with_the_reason_and_its_further_slices_count_as_done() -> None:
    _, stop, last = said(5, Stop("a", closed(1), 5, "[b] beats it", 0.01))
    assert stop == "a, 1 user: stopped after round 5, [b] beats it"
    assert last == "[38%] b, sustained"
