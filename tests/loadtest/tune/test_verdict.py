"""The verdict of a tuning, and what is printed of it, on figures for which the right answer is known."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from loadtest.analysis.comparison import Comparison
from loadtest.analysis.results import Cell, Results
from loadtest.tune.candidates import DEFAULT, Configuration
from loadtest.tune.table import document, notes, table
from loadtest.tune.verdict import Verdict, make_verdict
from tests.support.loadtest.cells import cell, comparison, results

VARIANT = "int8-openvino"
TWO_THREADS, TWO_WORKERS, ALONE = Configuration(threads=2), Configuration(workers=2), Configuration(batch_max=1)
NAMES = {f"{VARIANT} @ {each.name}": each for each in (TWO_THREADS, TWO_WORKERS, ALONE)} | {VARIANT: DEFAULT}
BY = {configuration: name for name, configuration in NAMES.items()}

KEPT = cell(VARIANT, 10.0, rps=1000, megabytes=150)
FASTER = cell(BY[TWO_THREADS], 8.0, rps=1300, megabytes=160)
SLOWER = cell(BY[ALONE], 12.0, rps=800, megabytes=150)


def run(*cells: Cell, comparisons: tuple[Comparison, ...] = (), **limits: float) -> Results:
    found = results(*cells, comparisons=comparisons)
    return replace(found, plan=replace(found.plan, variants=(VARIANT,), **limits))


def verdict(*cells: Cell, comparisons: tuple[Comparison, ...] = (), **limits: float) -> Verdict:
    return make_verdict(run(*cells, comparisons=comparisons, **limits), NAMES)


def test_what_is_clearly_faster_than_the_default_is_to_be_used() -> None:
    found = verdict(KEPT, FASTER, SLOWER, comparisons=(comparison(BY[TWO_THREADS], VARIANT, 1.3),), p99=20.0)
    assert found.best == TWO_THREADS
    assert found.sentence == (
        "use: pareto-serve --repository models --threads 2 (1.30 times the default's throughput, 1.14 to 1.48, clear)"
    )
    assert [place.configuration for place in found.places] == [TWO_THREADS, DEFAULT, ALONE]


def test_a_higher_figure_alone_does_not_beat_the_default() -> None:
    close = comparison(BY[TWO_THREADS], VARIANT, 1.3, "too close to call")
    found = verdict(KEPT, FASTER, comparisons=(close,), p99=20.0)
    assert (found.best, found.sentence) == (
        DEFAULT,
        "the default is best: no configuration was shown to be faster",
    )


def test_what_is_likely_to_be_faster_is_named_beside_the_default() -> None:
    likely = comparison(BY[TWO_THREADS], VARIANT, 1.21, "likely")
    found = verdict(KEPT, FASTER, comparisons=(likely,), p99=20.0)
    assert (found.best, found.sentence) == (
        DEFAULT,
        "the default is best: no configuration was shown to be faster; --threads 2 is likely to be (1.21 times the"
        " default's throughput, 0.83 to 1.33, likely): try a longer --duration",
    )


def test_without_a_limit_of_p99_the_lowest_p99_is_best() -> None:
    found = verdict(KEPT, FASTER, comparisons=(comparison(BY[TWO_THREADS], VARIANT, 1.25, figure="p99"),))
    assert found.best == TWO_THREADS
    assert "(0.80 times the default's p99, 0.72 to 0.89, clear)" in found.sentence


def test_what_breaks_a_constraint_is_not_to_be_used_however_fast() -> None:
    shown = (comparison(BY[TWO_THREADS], VARIANT, 1.3),)
    found = verdict(KEPT, FASTER, comparisons=shown, p99=20.0, max_memory=155.0)
    assert found.best == DEFAULT
    assert found.places[-1].unmet == ("160.0 MB of memory, 5.0 more than the 155 allowed",)


def test_where_the_default_breaks_a_constraint_the_first_that_meets_all_takes_its_place() -> None:
    found = verdict(KEPT, FASTER, comparisons=(comparison(BY[TWO_THREADS], VARIANT, 1.3),), p99=9.0)
    assert found.best == TWO_THREADS
    assert found.sentence == (
        "use: pareto-serve --repository models --threads 2 (it meets the constraints; the default may not be used:"
        " p99 at 1 user is 10.00 ms (9.00 to 11.00), 1.00 more than the 9 allowed, not 95% sure)"
    )


def test_in_place_of_the_default_what_surely_meets_the_constraints_goes_first() -> None:
    unsure = cell(BY[TWO_WORKERS], 8.9, rps=1500)
    assert verdict(KEPT, unsure, FASTER, p99=9.0).best == TWO_THREADS
    alone = verdict(KEPT, unsure, p99=9.0)
    assert (alone.best, "not 95% sure; the default" in alone.sentence) == (TWO_WORKERS, True)


def test_where_none_meets_the_constraints_that_is_said() -> None:
    found = verdict(KEPT, FASTER, p99=5.0)
    assert found.best is None
    assert found.sentence.startswith("use none: no configuration meets the constraints; the first in rank is --threads")


def test_calls_that_fail_rule_a_configuration_out() -> None:
    failing = cell(BY[TWO_THREADS], 8.0, rps=1300, failures=3)
    found = verdict(KEPT, failing, comparisons=(comparison(BY[TWO_THREADS], VARIANT, 1.3),))
    assert found.best == DEFAULT
    assert found.places[-1].unmet == ("3 calls failed",)


def test_where_the_generator_limited_the_default_nothing_is_claimed() -> None:
    limited = cell(VARIANT, 10.0, rps=1000, generator_limit="ceiling")
    found = verdict(limited, FASTER, comparisons=(comparison(BY[TWO_THREADS], VARIANT, 1.3),), p99=20.0)
    assert found.best == DEFAULT
    assert found.sentence.startswith(
        "the default stays: nothing can be shown to be faster, it was limited by the generator"
    )


def test_the_table_shows_all_figures_in_80_columns() -> None:
    cells = [replace(each, throughput_rps=12 * each.throughput_rps) for each in (KEPT, FASTER)]
    ruled_out = cell(BY[TWO_WORKERS], 123.0, rps=800, megabytes=1250)
    compared = (
        comparison(BY[TWO_THREADS], VARIANT, 1.3),
        comparison(VARIANT, BY[TWO_WORKERS], 1.2, "too close to call"),
    )
    found = run(*cells, ruled_out, comparisons=compared, p99=20.0)
    console = Console(width=80)
    with console.capture() as printed:
        console.print(table(make_verdict(found, NAMES), found))
    lines = printed.get().splitlines()
    assert lines[0].strip() == "int8-openvino of toy, 1 user"
    assert [line.rstrip() for line in lines[4:]] == [
        "2 x 1 x 0  2.00   8.00  15,600    n/a   160 1.30 (1.14 to 1.48) clear, use",
        "1 x 1 x 0  2.50  10.00  12,000    n/a   150 the default",
        "1 x 2 x 0 30.75 123.00     800    n/a 1,250 0.83 (0.76 to 1.20) too close, no",
    ]


def test_what_has_to_be_known_is_said_below_the_table() -> None:
    found = run(KEPT, FASTER, SLOWER, p99=11.0)
    said = list(notes(make_verdict(found, NAMES), found, {TWO_WORKERS: "out of memory"}))
    assert said == [
        "left out: --workers 2: out of memory",
        "not to be used, without p99 within 11 ms: --batch-max 1",
        "the load generator took 0.8 to 0.8 of the 2 cores that it shares with the servers",
    ]


def test_workers_are_praised_with_a_word_on_their_connections() -> None:
    workers = cell(BY[TWO_WORKERS], 8.0, rps=1300)
    found = run(KEPT, workers, comparisons=(comparison(BY[TWO_WORKERS], VARIANT, 1.3),), p99=20.0)
    assert [each for each in notes(make_verdict(found, NAMES), found, {}) if each.startswith("its 2 workers shared 1 ")]


@pytest.mark.parametrize("figure", ["throughput", "p99"])
def test_the_document_has_settings_and_evidence(figure: str) -> None:
    limits = {"p99": 20.0} if figure == "throughput" else {}
    shown = comparison(BY[TWO_THREADS], VARIANT, 1.25, figure="throughput" if figure == "throughput" else "p99")
    found = run(KEPT, FASTER, comparisons=(shown,), **limits)
    made = json.loads(document(make_verdict(found, NAMES), found, {ALONE: "it ended with 1"}, Path("r.html")))
    assert made["best"] == {"threads": 2, "workers": 1, "batch_max": 0}
    assert made["left_out"] == [{"threads": 1, "workers": 1, "batch_max": 1, "reason": "it ended with 1"}]
    first, second = made["configurations"]
    ratio = 1.25 if figure == "throughput" else 0.8
    assert (first["flags"], second["flags"], second["against_default"]) == (["--threads", "2"], [], None)
    assert first["against_default"]["times_the_default"] == pytest.approx(ratio)
    assert (first["against_default"]["figure"], first["against_default"]["verdict"]) == (figure, "clear")
    assert (made["report"], made["failures"], made["cores"]) == ("r.html", 0, 2)
