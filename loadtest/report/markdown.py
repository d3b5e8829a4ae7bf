"""The Markdown export, the report without plots: `report.md` for where Markdown is read, `cells.csv` for a spreadsheet.

Numbers in the Markdown are rounded as in the page; the CSV has them as they were measured, empty where they were not.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence

from loadtest.analysis.decision import Choice, Decision
from loadtest.analysis.max_rates import fastest
from loadtest.analysis.ranking import Ranking
from loadtest.analysis.results import Cell, Results
from loadtest.report.flips import Gallery
from loadtest.report.table import BRIEF, COLUMNS, SEARCH_COLUMNS, search_row, titled
from protos.support import options
from protos.support.markdown import table


def cells_csv(cells: Sequence[Cell]) -> str:
    """Returns all columns of the report's table, and whether the load generator may have been the limit."""
    writer = csv.writer(text := io.StringIO(), lineterminator="\n")
    writer.writerow([*(column.title for column in titled(COLUMNS, cells)), "generator limited"])
    for cell in cells:
        writer.writerow([*(column.value(cell) for column in COLUMNS), cell.generator_limited])
    return text.getvalue()


def markdown(results: Results, decision: Decision, ranked: Sequence[Ranking], seen: Gallery) -> str:
    """Returns decision, ranks, cells, flips, machine, plan and warnings."""
    machine = results.machine
    sections = [
        f"# {results.plan.model}: which variant to ship",
        f"{results.server or 'A server without a name'} at {results.plan.target}, measured {results.started} on"
        f" {machine.cores} cores of {machine.cpu}.",
        *_searches(results),
    ]
    if results.cells:
        heads = [column.title for column in titled(BRIEF, results.cells)]
        sections += [*_decision(decision), "## Ranks by p50", *(_ranks(each) for each in ranked), "## All cells"]
        sections.append(table(heads, [[column.text(cell) for column in BRIEF] for cell in results.cells]))
    if failed := [
        [*where, each.count, _inert(each.status), _inert(each.text)] for *where, each in results.failure_texts
    ]:
        sections += ["## What failed", table(["variant", "load", "calls", "status", "text"], failed)]
    if seen.flips:
        heads = ["variant", *seen.task.kinds.values(), seen.task.test]
        rows = [[each.accuracy.variant, *each.counts.values(), each.tested] for each in seen.flips]
        sections += ["## Flips against FP32", table(heads, rows)]
    if results.objects:
        heads = ["variant", "objects", "samples", "p50 ms", "p99 ms"]
        shown = [
            [o.variant, f"{o.fewest} to {o.most}", o.samples, _ms(o.p50_ms), _ms(o.p99_ms)] for o in results.objects
        ]
        sections += ["## Latency by the number of objects in an image", table(heads, shown)]
    if results.warnings:
        sections += ["## Warnings", "\n".join(f"- {warning}" for warning in results.warnings)]
    sections += ["## Plan", f"```toml\n{options.to_toml(results.plan)}```"]
    return "\n\n".join(sections) + "\n"


def _searches(results: Results) -> Iterator[str]:
    if not results.searches:
        return
    objective = results.searches[0].objective
    yield "## The highest rate that holds"
    if best := fastest(results.searches):
        yield f"**{best.search.variant}** carries the highest rate per second: {best.sentence}."
    yield f"p99 within {objective.p99_ms:g} ms, at most {100 * objective.error_rate:g}% failures:"
    yield table(SEARCH_COLUMNS, [search_row(search) for search in results.searches])


def _decision(decision: Decision) -> Iterator[str]:
    yield f"## {'For ' + decision.asked if decision.asked else 'The frontier'}"
    if decision.winner:
        yield f"Ship **{decision.winner.cell.variant}**: {_said(decision.winner)}"
        if decision.runner_up:
            yield f"Runner-up: {decision.runner_up.cell.variant}: {_said(decision.runner_up)}"
    elif decision.asked:
        yield f"No answer: {decision.why_not}."
    if decision.losers:
        yield table(["not chosen", "why not"], [[each.variant, "; ".join(each.reasons)] for each in decision.losers])
    if decision.frontier and not decision.asked:
        yield "\n".join(f"- **{c.cell.variant}**, {c.cell.load.name}: {_said(c)}" for c in decision.frontier)


def _said(choice: Choice) -> str:
    tied = f" Tied with {', '.join(choice.tied_with)}." if choice.tied_with else ""
    return f"{choice.sentence}.{tied}"


def _ms(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"


def _inert(text: str) -> str:
    """Returns a server's text with what Markdown would take for HTML or a link escaped."""
    return re.sub(r"([\\`*_<>\[\]&])", r"\\\1", text)


def _ranks(ranked: Ranking) -> str:
    note = "" if ranked.enough else f" ({ranked.rounds} rounds, {ranked.needed} needed: no difference can be shown)"
    rows = [[place.rank, place.cell.variant, place.cell.latency_ms.p50] for place in ranked.places]
    rows += [["-", f"{cell.variant}: {why}", None] for cell, why in ranked.left_out]
    ranks = table(["rank", "variant", "p50 ms"], [[a, b, "" if c is None else f"{c:.2f}"] for a, b, c in rows])
    return f"{ranked.load.name}{note}:\n\n{ranks}"
