"""How many rows one execution of an engine should have, found by timing it.

What a call costs whatever its rows, as laying out the weights anew, weighs less the more rows share it, until it
weighs nothing: from there on larger batches only make their members wait. So the rows are doubled as long as that
pays.
"""

from collections.abc import Callable

from protos.server_defaults import LARGEST_BATCH, SMALLEST_BATCH

GAIN = 1.05
"""How many times the rows per second a doubling has to bring."""
TURNS = 3
"""How often two sizes are timed, in turns: what slows the machine for a moment then slows both. The fastest counts."""
BUDGET_SECONDS = 0.5
"""About what all of it may take. A call so long that it does not fit has little to gain by being longer."""


def best_rows(execute: Callable[[int], float]) -> int:
    """Returns the rows from `SMALLEST_BATCH` to `LARGEST_BATCH` beyond which the engine gains nothing.

    `execute` calls the engine once with so many rows, and returns the seconds that it took.
    """
    rows, left = SMALLEST_BATCH, BUDGET_SECONDS - execute(1)
    if rows * (BUDGET_SECONDS - left) > left:
        return rows
    seconds = execute(rows)
    left -= seconds
    while rows < LARGEST_BATCH and (turns := min(TURNS, int(left / (3 * seconds)))) > 1:
        times = [(execute(rows), execute(2 * rows)) for _ in range(turns)]
        seconds, doubled = map(min, zip(*times, strict=True))
        if 2 * seconds < GAIN * doubled:
            break
        left -= sum(map(sum, times))
        rows, seconds = 2 * rows, doubled
    return rows
