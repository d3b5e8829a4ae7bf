"""The page's own decisions are Python's: a thousand sets of limits over made-up runs, decided by both."""

import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome

import loadtest.report
from loadtest.analysis.comparison import FIGURES, Comparison, Figure, Verdict
from loadtest.analysis.results import Cell, Results
from loadtest.decision.constraints import Ends
from loadtest.decision.decision import decide
from loadtest.measure.measurement import Stop
from loadtest.plan import Load
from loadtest.report.live import live, live_script
from loadtest.stats import GeneratorLimit
from tests.support.loadtest.cells import cell, closed, comparison, results

SCRIPT = (Path(loadtest.report.__file__).parent / "web" / "decide.js").read_text()
Limits = dict[str, float | None]
RUNS, SETS = 25, 40
NAMES = ("fp32-pytorch", "fp32-openvino", "int8-openvino", "int8-onnxruntime", "half-pytorch", "channels50-int8-x")
LOADS = (closed(1), closed(8), Load("server", 100.0), Load("server", 200.0), Load("offline", 32))
VALUES: Mapping[str, Sequence[float]] = {
    "p99": (0.0, 1e-3, 2.0, 5.0, 9.0, 9.9, 20.0),
    "rate": (50.0, 100.0, 196.0, 200.0, 1500.0, 1e6),
    "max_drop": (0.0, 0.5, 1.0, 2.0, 5.0),
    "max_memory": (10.0, 50.0, 200.0),
    "max_size": (0.5, 2.0, 12.5),
}
"""Limits at which made-up figures lie, and such as none or all meet."""
REASONS = (
    "no call was answered",
    "decided",
    "takes 1.30 times as long per answer (1.10 to 1.40), clear",
    "its p99 is 3.00 times as long (1.50 to 6.00), clear",
    "p99 at 1 user is 25.00 ms (24.00 to 26.00), 5.00 more than the 20 allowed",
    "50.0 MB of memory, 40.0 more than the 10 allowed; 2.00 MB on disk, 1.50 more than the 0.5 allowed",
)
DECIDED = """
const judged = (each) => [
  each.constraint, each.state, each.value, each.interval, each.limit, each.text, heading(each), shown(each),
];
const told = ({ loads, shown }) => [shown, loads.map(({ load, winner, runner_up, standings }) => [
  load, winner, runner_up,
  standings.map(({ variant, place, reasons, judgements }) => [variant, place, reasons, judgements.map(judged)]),
])];
return JSON.stringify(given[0].map(([data, sets]) => sets.map((limits) => told(decide(data, limits)))));
"""


def facts_of(rng: random.Random, name: str) -> Cell:
    """A cell that has a variant's facts: some are not known, some are those of other variants."""
    drop = rng.choice([None, (-0.005, 0.004), (0.001, 0.012), (0.02, 0.05)])
    quality = rng.choice([None, 0.97, 0.98, 0.98, rng.uniform(0.9, 1.0)])
    made = cell(name, quality=quality, megabytes=rng.choice([None, 10, 50, rng.uniform(5, 300)]), drop_interval=drop)
    size = rng.choice([None, 500_000, 2_000_000, rng.randrange(20_000_000)])
    return made if quality is None else replace(made, facts=replace(made.facts, artifact_bytes=size))


def cell_of(rng: random.Random, of: Cell, load: Load) -> Cell:
    """The variant under a load: some calls failed, or the generator was the limit, or samples were too few."""
    p99 = rng.choice([None, 2.0, 9.0, 9.0, rng.uniform(0.5, 30.0)])
    about = 9.0 if p99 is None else p99
    interval: Ends = rng.choice([(0.9 * about, 1.1 * about), (0.8 * about, None), (None, None), (about, about)])
    rps, failures = rng.choice([100.0, 196.0, rng.uniform(20.0, 2000.0)]), rng.choice([0, 0, 0, 0, 1, 7])
    limit: GeneratorLimit | None = rng.choice([None, None, None, "thread", "ceiling"])
    made = cell(of.variant, p99, load=load, rps=rps, p99_interval=interval, failures=failures, generator_limit=limit)
    return replace(made, facts=of.facts, asked_rps=load.level if load.scenario == "server" else None)


def comparisons_of(rng: random.Random, names: Sequence[str], load: Load) -> Iterator[Comparison]:
    pairs = [(a, b) for a in names for b in names if a != b]
    verdicts: tuple[Verdict, ...] = ("clear", "clear", "likely", "too close to call")
    for figure in FIGURES:
        for pair in {frozenset(pair): pair for pair in rng.sample(pairs, len(pairs))}.values():
            if rng.random() < 0.8:
                ratio = rng.choice([1.0, 1.125, rng.uniform(1.0, 4.0)])
                interval = (ratio / rng.uniform(1.0, 2.0), ratio * rng.uniform(1.0, 2.0))
                yield Comparison(load, figure, *pair, ratio, interval, rng.choice(verdicts), 50)


def random_run(seed: int) -> Results:
    """A run in which anything may have gone wrong."""
    rng = random.Random(seed)
    loads, names = rng.sample(LOADS, rng.randint(1, 3)), rng.sample(NAMES, rng.randint(1, len(NAMES)))
    facts = [facts_of(rng, name) for name in names]
    shows = tuple(each for load in loads for each in comparisons_of(rng, names, load))
    run = results(*(cell_of(rng, of, load) for load in loads for of in facts), comparisons=shows)
    where = [(name, load) for name in names for load in loads if rng.random() < 0.3]
    return replace(run, stops=tuple(Stop(*each, rng.randrange(1, 99), rng.choice(REASONS), 0.01) for each in where))


def random_limits(rng: random.Random) -> Limits:
    """Limits of some constraints, or of none."""
    share = rng.choice([0.0, 0.3, 0.6, 1.0])
    return {
        name: None if rng.random() >= share else rng.choice([*values, rng.uniform(0, 2) * values[-1]])
        for name, values in VALUES.items()
    }


def told(run: Results, limits: Limits) -> list[object]:
    """Python's decision as `DECIDED` returns the page's."""
    decision = decide(replace(run, plan=replace(run.plan, **limits)))
    loads = [
        [
            each.load.key,
            each.winner and each.winner.variant,
            each.runner_up and each.runner_up.variant,
            [
                [
                    standing.variant,
                    standing.place,
                    [*standing.reasons],
                    [
                        [j.constraint, j.state, j.value, [*j.interval], j.limit, j.text, j.heading, j.shown]
                        for j in standing.judgements
                    ],
                ]
                for standing in each.standings
            ],
        ]
        for each in decision.loads
    ]
    return [decision.shown and decision.shown.load.key, loads]


def in_page(browser: Chrome, body: str, *arguments: object) -> Any:
    """What the body returns where the page's script has been read; `given` are the arguments."""
    script = f"const [run, ...given] = JSON.parse(arguments[0]); {SCRIPT} {body}"
    return browser.execute_script(script, json.dumps([live(results(cell("a-x"))), *arguments]))


def test_page_and_python_decide_alike_under_a_thousand_sets_of_limits(browser: Chrome) -> None:
    rng, runs = random.Random(15), [random_run(seed) for seed in range(RUNS)]
    given = [(run, [random_limits(rng) for _ in range(SETS)]) for run in runs]
    answers = json.loads(in_page(browser, DECIDED, [(live(run), sets) for run, sets in given]))
    places = set[str]()
    for (run, sets), found in zip(given, answers, strict=True):
        for limits, answer in zip(sets, found, strict=True):
            assert answer == told(run, limits), limits
            places |= {standing[1] for load in answer[1] for standing in load[3]}
    assert places == {"winner", "runner-up", "close", "beaten", "nearest", "ruled out", "frontier"}


@pytest.mark.parametrize("form", ["{:.2f}", "{:.1f}", "{:,.0f}", "{:g}", "{:.2%}"])
def test_numbers_are_written_as_python_writes_them(browser: Chrome, form: str) -> None:
    """Halves too, which Python rounds to even."""
    rng = random.Random(1)
    values = [0.0, 0.5, 1.5, 2.5, 0.25, 0.125, 0.375, 0.875, 0.005, 1.005, 2.675, 999.995, 1234567.5, 999999.5, 1e-5]
    values += [123456.5, 0.00012345, 1e7, 1e15] + [math.exp(rng.uniform(-14, 16)) for _ in range(500)]
    found = in_page(browser, "return given[0].map((value) => format(given[1], value))", values, form)
    assert found == [form.format(value) for value in values]


def test_the_data_names_what_others_draw_from() -> None:
    shows: tuple[Figure, ...] = ("p99", "p95")
    int8 = cell("int8-x", 2.0, 0.97, drop_interval=(0.002, 0.018), megabytes=50)
    cells = (cell("fp32-pytorch", 8.0, 0.98), int8, replace(cell("fp32-pytorch", 9.0, 0.98, users=8), asked_rps=3.0))
    run = results(
        *cells, users=(1, 8), comparisons=tuple(comparison("int8-x", "fp32-pytorch", 4.0, figure=f) for f in shows)
    )
    run = replace(run, plan=replace(run.plan, p99=20.0), stops=(Stop("int8-x", closed(1), 9, "decided", 0.01),))
    data = json.loads(live_script(run))
    assert data["limits"] == {"p99": 20.0, "rate": None, "max_drop": None, "max_memory": None, "max_size": None}
    assert [(each["key"], each["name"]) for each in data["loads"]] == [("closed-1", "1 user"), ("closed-8", "8 users")]
    assert [(each["name"], each["quality"], each["drop_interval"]) for each in data["variants"]] == [
        ("fp32-pytorch", 0.98, [0.0, 0.0]),
        ("int8-x", 0.97, [0.002, 0.018]),
    ]
    assert [(c["variant"], c["load"], c["p99"], c["asked_rps"]) for c in data["cells"]] == [
        ("fp32-pytorch", "closed-1", 8.0, None),
        ("int8-x", "closed-1", 2.0, None),
        ("fp32-pytorch", "closed-8", 9.0, 3.0),
    ]
    assert data["comparisons"]["closed-1"] == {"p50": [], "p99": [[1, 0, 4.0, 2.0, 8.0, 0]], "throughput": []}
    assert data["stops"] == [{"variant": "int8-x", "load": "closed-1", "round": 9, "reason": "decided"}]
    assert data["baseline"] == "fp32-pytorch"


def test_a_name_cannot_end_the_script_element_that_the_data_stands_in() -> None:
    assert "<" not in live_script(results(cell("</script><b>-x")))
