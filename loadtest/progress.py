"""What is measured now, how far the run is, and how long it will still take; for a person, on stderr."""

import math
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Column

from loadtest.measure.measurement import Stop
from loadtest.plan import Block, Load, Plan

SAY_SECONDS = 5.0
"""Where there is no terminal, a line comes at most this often."""
DRAW_SECONDS = 0.5
BAR_WIDTH = 10


class Progress:
    """A bar on a terminal, else a line now and then. It moves between slices only: drawing costs the generator CPU."""

    def __init__(
        self, console: Console, plan: Plan, variants: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        text = TextColumn("{task.description}", markup=False, table_column=Column(overflow="fold"))
        columns = (BarColumn(BAR_WIDTH), TextColumn("{task.percentage:>3.0f}%"), text)
        self._bar = Bar(*columns, console=console, auto_refresh=False, disable=not console.is_terminal)
        self._console, self._plan, self._variants = console, plan, variants
        self._left = {load: plan.rounds * len(variants) for load in plan.loads}
        """Slices that are still to come under each load."""
        self._task = self._bar.add_task("", total=sum(self._left.values()))
        self._said, self._all, self._last = -math.inf, sum(self._left.values()), ""
        self._time = _TimeLeft(plan, len(variants), clock)

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def round_begins(self, load: Load, round_: int, variants: int) -> None:
        """Says where the run is; `variants` take part in this round."""
        now = self._time.round_begins(load, variants)
        if now - self._said >= (DRAW_SECONDS if self._console.is_terminal else SAY_SECONDS):
            self._said = now
            self._says(
                f"{load.name}, round {round_} of {self._plan.rounds}, {variants} of {len(self._variants)} variants,"
                f" {self._time.text(self._left)}"
            )
        self._left[load] -= variants

    def stretch_ends(self, load: Load, round_: int, going: int, stops: Sequence[Stop], result: str) -> None:
        """Takes the load's last round, how many variants go on and the stretch's `result`; says why others stop."""
        self._time.stretch_ends(load, going)
        self._left[load] = (self._plan.rounds - round_) * going
        self._last = f"{load.name}: {result}"
        for stop in stops:
            self._print(f"{stop.variant}, {load.name}: stopped after round {stop.round}, {stop.reason}")

    def block_begins(self, block: Block) -> None:
        """Says which variant is measured without a break."""
        self._says(f"{block.variant}, {block.load.name}, sustained, {self._time.text(self._left)}")
        self._time.block_begins(block.load)

    def _says(self, text: str) -> None:
        """Shows what is done now, and the last result."""
        done = self._all - sum(self._left.values())
        said = [text, *([f"last, {self._last}"] if self._last else [])]
        self._bar.update(self._task, completed=done, description="\n".join(said), refresh=True)
        if not self._console.is_terminal:
            self._print(f"[{done / max(1, self._all):.0%}] {'; '.join(said)}")

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


class _TimeLeft:
    """How long what is left will take, by the rounds after each load's first: that one warms up."""

    def __init__(self, plan: Plan, variants: int, clock: Callable[[], float]) -> None:
        self._plan, self._clock = plan, clock
        self._seconds, self._slices = dict.fromkeys(plan.loads, 0.0), dict.fromkeys(plan.loads, 0)
        self._cold, self._going = set(plan.loads), dict.fromkeys(plan.loads, variants)
        self._round: tuple[Load, int, float] | None = None
        """The load, the slices and the beginning of the round under way."""

    def round_begins(self, load: Load, variants: int) -> float:
        """Takes a round's beginning; returns the time."""
        now = self._clock()
        self._round_ends(now)
        self._round = load, variants, now
        return now

    def stretch_ends(self, load: Load, going: int) -> None:
        """Takes how many variants go on; what lies between two stretches counts as part of the last round."""
        self._round_ends(self._clock())
        self._going[load] = going

    def block_begins(self, load: Load) -> None:
        """Takes one of the load's blocks off those to come."""
        self._going[load] -= 1

    def text(self, left: dict[Load, int]) -> str:
        """Says how long so many slices under each load, and the blocks after them, will take."""
        each = {load: self._seconds[load] / count for load, count in self._slices.items() if count}
        unknown = sum(each.values()) / len(each) if each else self._plan.slice
        seconds = sum(count * each.get(load, unknown) for load, count in left.items())
        seconds += self._plan.warmup * sum(self._going[load] for load in self._cold)
        blocks = sum(count for load, count in self._going.items() if load.scenario == "server")
        seconds += (self._plan.warmup + self._plan.sustained) * blocks if self._plan.sustained else 0.0
        return f"{'at most ' if self._plan.until_decided else ''}{_minutes(seconds)} left"

    def _round_ends(self, now: float) -> None:
        if self._round is None:
            return
        load, slices, begun = self._round
        if load not in self._cold:
            self._seconds[load] += now - begun
            self._slices[load] += slices
        self._cold.discard(load)
        self._round = None


def _minutes(seconds: float) -> str:
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s" if seconds >= 60 else f"{seconds:.0f} s"
