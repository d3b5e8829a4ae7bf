"""What a run and a history print for a person, in the width of the terminal; no number is ever cut.

A run ends with what to ship, or without constraints with the frontier.
"""

import itertools
import json
import math
from collections.abc import Iterator, Sequence

from rich.table import Table

from loadtest.analysis.grouped_warning import lines
from loadtest.analysis.history import Entry
from loadtest.analysis.max_rates import fastest
from loadtest.analysis.ranking import by_p50
from loadtest.analysis.results import Cell, Results
from loadtest.analysis.validity import is_valid
from loadtest.decision.decision import Decision, LoadDecision, Standing
from loadtest.report.table import BRIEF, LEAVE_OUT, SEARCH_COLUMNS, Column, search_row, titled
from protos.support.terminal import Screen, fits, fitting, table

LAST = 10
"""How many runs the table of a history has."""
HISTORY = ("finished", "run", "commit", "variant", "load", "p50 ms", "p99 ms", "rps")


def show(results: Results, decision: Decision, screen: Screen) -> None:
    """Prints the tables, the warnings and the decision of a run."""
    screen.say(", ".join(filter(None, [f"{results.plan.model} on {results.plan.target}", results.way_in])))
    for each in tables(results, decision, screen.width):
        screen.print("", each)
    if results.searches:
        screen.print("", searches_table(results, screen.width))
    screen.print()
    for line in lines(results.warnings):
        screen.say(f"warning: {line}")
    for line in decision_lines(decision):
        screen.say(line, indent="    ")
    if best := fastest(results.searches):
        screen.say(f"Highest rate: {best.search.variant}: {best.sentence}")


def document(results: Results, decision: Decision, files: dict[str, str]) -> str:
    """Returns what a script asks for: where the `files` are, how many calls failed, and what to ship under which load.

    `frontier` has the variants that nothing beats under each load, where no constraint was given.
    """
    shown = decision.shown
    found: dict[str, object] = {
        "failures": results.failures,
        "warnings": [*lines(results.warnings)],
        "asked": decision.asked,
    }
    found["load"] = shown.load.name if shown and decision.asked else None
    found["winner"] = shown.winner.variant if shown and shown.winner else None
    found["frontier"] = {
        each.load.name: [standing.variant for standing in each.at("frontier")] for each in decision.loads
    }
    best = fastest(results.searches)
    return json.dumps(files | found | {"highest_rate": best.search.variant if best else None})


def tables(results: Results, decision: Decision, width: int) -> Iterator[Table]:
    """Yields a table for each load with a row for each cell, the best p50 first; red where it is not valid.

    Leaves out as many of the `LEAVE_OUT` as it must to fit into `width` characters. If that is not enough, it folds
    names.
    """
    columns = [column for column in titled(BRIEF, results.cells) if column.title != "load"]
    for load, cells in itertools.groupby(by_p50(results.cells), lambda cell: cell.load):
        mine = [*cells]
        winners = {each.winner.variant for each in decision.loads if each.load == load and each.winner}
        for count in range(len(LEAVE_OUT) + 1):
            shown = [column for column in columns if column.title not in LEAVE_OUT[:count]]
            made = _table(load.name, mine, shown, winners)
            if fits(made, width):
                break
        yield made


def _table(title: str, cells: Sequence[Cell], columns: Sequence[Column], winners: set[str]) -> Table:
    rows = [[column.text(cell, brief=True) for column in columns] for cell in cells]
    made = table(title, [column.title for column in columns], rows, right=range(1, len(columns)), narrow=True)
    for cell, row in zip(cells, made.rows, strict=True):
        row.style = ("bold" if cell.variant in winners else None) if is_valid(cell) else "red"
    return made


def decision_lines(decision: Decision) -> Iterator[str]:
    """Yields the decision, what ships last: before it the first reason why not of the others, and the best elsewhere.

    Without constraints the frontier of each load.
    """
    if decision.shown is None:
        return
    if not decision.asked:
        for each in decision.loads:
            known = ", the fastest first" if each.standings else ": none, p99 or accuracy is not known"
            yield f"Frontier at {each.load.name}{known}"
            yield from (f"  {standing.variant}: {standing.sentence}" for standing in each.standings)
        return
    shown = decision.shown
    yield f"For {decision.asked}, at {shown.load.name}:"
    yield from (_why_not(each, shown) for each in shown.standings if each is not shown.winner)
    for other in (each for each in decision.loads if each is not shown):
        best, said = other.standings[0], "ship" if other.winner else "ship nothing; nearest"
        yield f"At {other.load.name}: {said} {best.variant}: {best.sentence}"
    yield ""
    if shown.winner:
        yield f"Ship {shown.winner.variant}: {shown.winner.sentence}"
    else:
        yield f"Ship nothing: no variant meets all constraints at {shown.load.name}"


def _why_not(standing: Standing, shown: LoadDecision) -> str:
    label = "not" if standing in shown.losers else standing.place
    return f"  {label} {standing.variant}: {standing.reasons[0]}"


def searches_table(results: Results, width: int) -> Table:
    """Returns what was found of each variant's highest rate, the columns those of `SEARCH_COLUMNS`."""
    objective = results.searches[0].objective
    title = f"highest rate with p99 within {objective.p99_ms:g} ms, failures {100 * objective.error_rate:g}%"
    return fitting(title, SEARCH_COLUMNS, [search_row(search) for search in results.searches], range(1, 4), width)


def history_table(entries: Sequence[Entry], width: int) -> Table:
    """Returns a row for each of the last runs, with its winner's figures or, without one, those of its lowest p50.

    The commits are left out where they do not fit into `width` characters.
    """
    last = entries[-LAST:]
    title, rows = f"the last {len(last)} of {len(entries)} runs", [_row(entry) for entry in last]
    made = fitting(title, HISTORY, rows, range(5, 8), width, folded=(1, 3))
    if not fits(made, width):
        without = [[*row[:2], *row[3:]] for row in (HISTORY, *rows)]
        made = fitting(title, without[0], without[1:], range(4, 7), width, folded=(1, 2))
    for before, after, row in zip(last, last[1:], made.rows, strict=False):
        row.end_section = before.machine != after.machine
    return made


def _row(entry: Entry) -> tuple[str, ...]:
    winner = entry.winner, entry.winner_load
    mine = [cell for cell in entry.cells if (cell.variant, cell.load) == winner] or entry.cells
    best = min(mine, key=lambda cell: math.inf if cell.p50_ms is None else cell.p50_ms, default=None)
    said = (entry.finished[:16].replace("T", " "), entry.run, (entry.commit or "")[:10])
    if best is None:
        return (*said, *[""] * 5)
    return (*said, best.variant, best.load, _number(best.p50_ms), _number(best.p99_ms), f"{best.throughput_rps:,.0f}")


def last_run(entries: Sequence[Entry]) -> str:
    """Says what the last run of a history decided."""
    last = entries[-1]
    if last.winner:
        return f"Ship {last.winner}, as the last run ({last.run}) decided at {last.winner_load}"
    return f"The last run ({last.run}) has no winner: no constraint was given, or no variant met all"


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"
