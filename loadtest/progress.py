"""What is measured now, how far the run is, and how long it will still take; for a person, on stderr."""

import math
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from loadtest.measure.measurement import Stop
from loadtest.plan import Load, Plan

SAY_SECONDS = 5.0
"""Where there is no terminal, a line comes at most this often."""
DRAW_SECONDS = 0.5


class Progress:
    """A bar on a terminal, else a line now and then. It moves between slices only: drawing costs the generator CPU."""

    def __init__(self, console: Console, plan: Plan, variants: Sequence[str]) -> None:
        columns = (BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.description}"))
        self._bar = Bar(*columns, console=console, auto_refresh=False, disable=not console.is_terminal)
        self._console, self._plan, self._variants = console, plan, variants
        self._left = {load: plan.rounds * len(variants) for load in plan.loads}
        """Slices that are still to come under each load."""
        self._task = self._bar.add_task("", total=sum(self._left.values()))
        self._begun, self._said, self._measured, self._all = time.monotonic(), -math.inf, 0, sum(self._left.values())

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def round_begins(self, load: Load, round_: int, variants: int) -> None:
        """Says where the run is; `variants` take part in this round."""
        now, left = time.monotonic(), sum(self._left.values())
        if now - self._said >= (DRAW_SECONDS if self._console.is_terminal else SAY_SECONDS):
            self._said = now
            each = (now - self._begun) / self._measured if self._measured else self._plan.slice
            self.says(
                f"{load.name}, round {round_} of {self._plan.rounds}, {variants} of {len(self._variants)} variants,"
                f" {_minutes(each * left)} left"
            )
        self._left[load] -= variants
        self._measured += variants

    def stretch_ends(self, load: Load, round_: int, going: int, stops: Sequence[Stop]) -> None:
        """Takes the load's last round and how many variants go on, and says why others stop."""
        self._left[load] = (self._plan.rounds - round_) * going
        for stop in stops:
            self._print(f"{stop.variant}, {load.name}: stopped after round {stop.round}, {stop.reason}")

    def says(self, text: str) -> None:
        """Shows what is done now."""
        done = self._all - sum(self._left.values())
        self._bar.update(self._task, completed=done, description=text, refresh=True)
        if not self._console.is_terminal:
            self._print(f"[{done / max(1, self._all):.0%}] {text}")

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def _minutes(seconds: float) -> str:
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s" if seconds >= 60 else f"{seconds:.0f} s"
