"""The report without plots: `report.md` for where Markdown is read, `measurements.csv` for a spreadsheet.

Numbers in the Markdown are rounded as in the page; the CSV has them as they were measured, empty where they were not.
"""

import csv
import io
from collections.abc import Iterator, Sequence

from loadtest.analysis.grouped_warning import lines
from loadtest.analysis.max_rates import fastest
from loadtest.analysis.ranking import Ranking, by_p50
from loadtest.analysis.results import Results
from loadtest.decision.capacity import HEADINGS, capacities
from loadtest.decision.decision import Decision, LoadDecision
from loadtest.generator.opinion import sentences
from loadtest.report.flips import Gallery
from loadtest.report.table import BRIEF, COLUMNS, SEARCH_COLUMNS, search_row, titled
from protos.support import options, significance
from protos.support.markdown import inert, table


def measurements_csv(results: Results) -> str:
    """Returns all columns of the report's table, the rule by which the generator may have been the limit, and capacity.

    The last column is the variant's highest rate within the plan's p99 (`capacity`), the same in all of its rows.
    """
    rates = {each.variant: each.highest(results.plan.p99) for each in capacities(results)}
    writer = csv.writer(text := io.StringIO(), lineterminator="\n")
    writer.writerow([*(each.title for each in titled(COLUMNS, results.cells)), "generator limit", HEADINGS[2]])
    for cell in results.cells:
        best = rates[cell.variant]
        row = [*(column.value(cell) for column in COLUMNS), cell.generator_limit, best and best.rate]
        writer.writerow(row)
    return text.getvalue()


def markdown(results: Results, decision: Decision, ranked: Sequence[Ranking], seen: Gallery) -> str:
    """Returns decisions, slowdowns, capacity, all measurements, changed predictions, machine, plan and warnings."""
    machine, way_in = results.machine, f", {results.way_in}" if results.way_in else ""
    sections = [
        f"# {results.plan.model}: which variant to ship",
        f"{results.server or 'A server without a name'} at {results.plan.target}{way_in}, measured {results.started} on"
        f" {machine.cores} cores of {machine.cpu}.",
        *_searches(results),
    ]
    if results.cells:
        heads = [column.title for column in titled(BRIEF, results.cells)]
        sections += [*_decision(decision), "## Slowdown against the fastest", *(_ranks(each) for each in ranked)]
        sections.append("## All measurements")
        sections.append(table(heads, [[column.text(cell) for column in BRIEF] for cell in by_p50(results.cells)]))
    sections += ["## Cost and capacity", table(HEADINGS, [each.row(results.plan.p99) for each in capacities(results)])]
    if failed := [[*where, each.count, inert(each.status), inert(each.text)] for *where, each in results.failure_texts]:
        sections += ["## What failed", table(["variant", "load", "calls", "status", "text"], failed)]
    if seen.flips:
        heads = ["variant", *seen.task.kinds.values(), f"{seen.metric}, 95%", "points below FP32, 95%"]
        rows = [
            [each.accuracy.variant, *each.counts.values(), *(significance.percent(i) or "n/a" for i in each.intervals)]
            for each in seen.flips
        ]
        sections += ["## Changed predictions against FP32", table(heads, rows)]
    if results.objects:
        heads = ["variant", "objects", "samples", "p50 ms", "p99 ms"]
        shown = [
            [o.variant, f"{o.fewest} to {o.most}", o.samples, _ms(o.p50_ms), _ms(o.p99_ms)] for o in results.objects
        ]
        sections += ["## Latency by the number of objects in an image", table(heads, shown)]
    if said := tuple(sentences(results.second_opinion)):
        sections += ["## A second opinion", *said]
    if results.warnings:
        sections += ["## Warnings", "\n".join(f"- {inert(line)}" for line in lines(results.warnings))]
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
    if decision.asked and decision.shown:
        yield from _card(decision.shown)
    for each in decision.loads:
        yield f"### {each.load.name}"
        yield (
            _standings(each)
            if decision.asked
            else "\n".join(f"- **{each.variant}**: {each.sentence}" for each in each.standings)
        )


def _card(decided: LoadDecision) -> Iterator[str]:
    if decided.winner:
        yield f"Ship **{decided.winner.variant}**: {decided.winner.sentence}."
    else:
        yield f"No answer: no variant meets all constraints at {decided.load.name}."
    for words, each in (("Runner-up", decided.runner_up), ("Nearest", decided.nearest)):
        if each:
            yield f"{words}: {each.variant}: {each.sentence}."


def _standings(decided: LoadDecision) -> str:
    """Returns a table with a row for each variant and a column for each constraint."""
    heads = [each.heading for each in decided.standings[0].judgements]
    rows = [
        [each.variant, *(f"{j.shown} {j.state}" for j in each.judgements), each.verdict] for each in decided.standings
    ]
    return table(["variant", *heads, "verdict"], rows)


def _ms(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"


def _ranks(ranked: Ranking) -> str:
    rows = [[each.cell.variant, _ms(each.cell.latency_ms.p50), each.against] for each in ranked.places]
    rows += [[cell.variant, _ms(cell.latency_ms.p50), f"not compared: {why}"] for cell, why in ranked.left_out]
    return f"{ranked.load.name}:\n\n{table(['variant', 'p50 ms', 'slowdown'], rows)}"
