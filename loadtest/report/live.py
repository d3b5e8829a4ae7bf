"""The data from which the report's page decides anew when a reader moves a limit (`web/decide.js`).

Whatever no limit changes is worked out here, so that the page holds no second copy of it: the evidence that limits are
held against, which variants were shown to be more accurate than others, the frontier of each load, and the sentences.

    model, metric   names
    limits          of the plan, by constraint; null where there is none
    loads           key, name, scenario, level, and the frontier: pairs of a variant and why it is on it
    variants        name, recipe, runtime, precision, quality (from 0 to 1) with its interval, the interval of the drop
                    below FP32 in shares, memory and size in bytes, how it was served, the evidence for the limits that
                    hold under any load, and `more_accurate_than`: numbers of variants
    cells           variant and load by name, the figures of `results.json`, `figures` in words, what failed, evidence
    comparisons     by load and figure: [faster, slower, ratio, low, high, verdict], three of them as numbers
    stops           variant, load, round, reason
    baseline        the FP32 variant that the others are compared with, or null
    rules, words    numbers and sentences of `loadtest.decision`

Numbers are not rounded: the page's decisions and its words are those of Python.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import get_args

from markupsafe import Markup

from loadtest.analysis.comparison import FIGURES, Comparison, Verdict
from loadtest.analysis.results import Cell, Results
from loadtest.analysis.validity import baseline_of, invalid_reason, title_of
from loadtest.decision import constraints, words
from loadtest.decision.accuracy import drop_interval, more_accurate
from loadtest.decision.constraints import evidence
from loadtest.decision.decision import figures_text, frontier_of
from loadtest.plan import Load
from protos.support.significance import samples_needed

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
OF_LOAD = ("p99", "rate")
"""Constraints whose evidence is another under each load."""
WORDS = {name.lower(): text for name, text in vars(words).items() if name.isupper()}


def live_script(results: Results) -> Markup:
    """Returns the data as JSON for a script element."""
    return in_script(json.dumps(live(results), separators=(",", ":"), allow_nan=False))


def in_script(document: str) -> Markup:
    """Returns JSON that cannot end the script element it stands in."""
    return Markup(document.replace("<", "\\u003c"))


def live(results: Results) -> dict[str, object]:
    """Returns the data of a run for its page, as the JSON has it."""
    cells, baseline = results.cells, baseline_of(results.cells)
    variants = [*{cell.variant: cell for cell in cells}.values()]
    numbers = {cell.variant: number for number, cell in enumerate(variants)}
    loads = [*dict.fromkeys(cell.load for cell in cells)]
    return {
        "model": results.plan.model,
        "metric": title_of(cells),
        "limits": results.plan.limits,
        "loads": [_load(load, cells, baseline) for load in loads],
        "variants": [_variant(cell, variants, baseline) for cell in variants],
        "cells": [_cell(cell, baseline) for cell in cells],
        "comparisons": {load.key: _comparisons(load, results.comparisons, numbers) for load in loads},
        "stops": [
            {"variant": each.variant, "load": each.load.key, "round": each.round, "reason": each.reason}
            for each in results.stops
        ],
        "baseline": baseline and baseline.variant,
        "verdicts": VERDICTS,
        "rules": {"kept_up": constraints.KEPT_UP, "rounding": constraints.ROUNDING, "samples": samples_needed(0.99)},
        "words": WORDS,
    }


def _load(load: Load, cells: Sequence[Cell], baseline: Cell | None) -> dict[str, object]:
    best = frontier_of([cell for cell in cells if cell.load == load], baseline)
    return {
        "key": load.key,
        "name": load.name,
        "scenario": load.scenario,
        "level": load.level,
        "frontier": [(each.variant, *each.reasons) for each in best],
    }


def _variant(cell: Cell, variants: Sequence[Cell], baseline: Cell | None) -> dict[str, object]:
    facts = cell.facts
    return {
        "name": cell.variant,
        "recipe": facts.recipe,
        "runtime": facts.runtime,
        "precision": facts.precision,
        "quality": facts.quality,
        "quality_interval": facts.quality_interval,
        "drop_interval": drop_interval(cell),
        "memory_bytes": facts.memory_bytes,
        "artifact_bytes": facts.artifact_bytes,
        "serving": facts.serving,
        "evidence": _evidence(cell, baseline, of_load=False),
        "more_accurate_than": [i for i, other in enumerate(variants) if more_accurate(cell, other)],
    }


def _cell(cell: Cell, baseline: Cell | None) -> dict[str, object]:
    return {
        "variant": cell.variant,
        "load": cell.load.key,
        **dataclasses.asdict(cell.latency_ms),
        "p99_interval": cell.p99_interval_ms,
        "rps": cell.throughput_rps,
        "asked_rps": cell.asked_rps,
        "rows": cell.rows,
        "samples": cell.samples,
        "requests": cell.requests,
        "failures": cell.failures,
        "generator_limit": cell.generator_limit,
        "ceiling_rps": cell.ceiling_rps,
        "batch_rows": cell.server.batch_rows_mean,
        "cpu_us": cell.server.cpu_us_per_request,
        "figures": figures_text(cell, baseline),
        "failed": invalid_reason(cell) if cell.failures else "",
        "evidence": _evidence(cell, baseline, of_load=True),
    }


def _evidence(cell: Cell, baseline: Cell | None, *, of_load: bool) -> dict[str, object]:
    known = evidence(cell, baseline)
    return {name: dataclasses.asdict(known[name]) for name in known if (name in OF_LOAD) == of_load}


def _comparisons(
    load: Load, comparisons: Sequence[Comparison], numbers: dict[str, int]
) -> dict[str, list[tuple[float, ...]]]:
    """Returns the comparisons under a load by the figures that may decide."""
    found: dict[str, list[tuple[float, ...]]] = {figure: [] for figure in FIGURES if figure in words.COMPARED}
    for each in comparisons:
        if each.load == load and each.figure in found:
            pair = numbers[each.faster], numbers[each.slower]
            found[each.figure].append((*pair, each.ratio, *each.interval, VERDICTS.index(each.verdict)))
    return found
