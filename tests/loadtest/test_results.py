"""From blocks to cells, with every figure worked out by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest

from loadtest.plan import Block
from loadtest.recorder import AFTER, FIRST, SAMPLE, STEADY, WARMUP, Samples
from loadtest.results import LatencyMs, Measurement, Results, ServerSide, make_cells, make_warnings
from loadtest.scrape import Deltas, Facts
from protos.machine import Machine
from tests.loadtest.cells import NO_SERVER, PLAN, cell

UNAVAILABLE, DEADLINE_EXCEEDED = 14, 4

DELTAS = Deltas(
    requests=10.0, queue_seconds=0.02, queue_count=10.0, compute_seconds=0.05, compute_count=10.0, cpu_seconds=0.004
)


def block(
    *calls: tuple[int, int, float],
    variant: str = "a",
    users: int = 1,
    round_: int = 1,
    seconds: float = 2.0,
    cpu: float = 1.0,
    server: Deltas | None = None,
) -> Measurement:
    """A block of calls (phase, status, latency in seconds)."""
    number = ("a", "b").index(variant)
    rows = np.array([(number, users, round_, phase, status, 0.0, latency) for phase, status, latency in calls], SAMPLE)
    return Measurement(Block(variant, users, round_), Samples(rows, ("a", "b")), seconds, cpu, server)


def test_percentiles_are_made_of_successful_steady_calls_only() -> None:
    steady = [(STEADY, 0, milliseconds / 1000) for milliseconds in (1.0, 2.0, 3.0, 4.0, 5.5)]
    others = [(FIRST, 0, 9.0), (WARMUP, 0, 9.0), (AFTER, 0, 9.0), (STEADY, UNAVAILABLE, 9.0)]
    (made,) = make_cells(PLAN, [block(*steady, *others)], {"a": Facts()})
    assert made.samples == 5
    assert made.latency_ms == LatencyMs(p50=3.0, p95=None, p99=None)


def test_requests_and_failures_count_every_call() -> None:
    calls = [(FIRST, UNAVAILABLE, 1.0), (WARMUP, 0, 1.0), (STEADY, 0, 1.0), (AFTER, DEADLINE_EXCEEDED, 1.0)]
    (made,) = make_cells(PLAN, [block(*calls)], {"a": Facts()})
    assert (made.requests, made.failures) == (4, 2)
    assert made.statuses == {"OK": 2, "DEADLINE_EXCEEDED": 1, "UNAVAILABLE": 1}


def test_throughput_is_successful_steady_calls_by_steady_seconds_over_all_rounds() -> None:
    blocks = [
        block((STEADY, 0, 1.0), (STEADY, 0, 1.0), (STEADY, UNAVAILABLE, 1.0), seconds=2.0),
        block((STEADY, 0, 1.0), (WARMUP, 0, 1.0), round_=2, seconds=4.0),
    ]
    (made,) = make_cells(PLAN, blocks, {"a": Facts()})
    assert (made.seconds, made.throughput_rps) == (6.0, 0.5)
    assert [(each.round, each.requests, each.throughput_rps) for each in made.rounds] == [(1, 3, 1.0), (2, 2, 0.25)]


def test_the_first_call_is_the_median_over_users_and_rounds() -> None:
    blocks = [
        block((FIRST, 0, 0.003), (FIRST, 0, 0.009)),
        block((FIRST, 0, 0.004), (FIRST, UNAVAILABLE, 8.0), round_=2),
    ]
    (made,) = make_cells(PLAN, blocks, {"a": Facts()})
    assert made.first_call_ms == 4.0


def test_a_cell_is_generator_limited_when_one_of_its_rounds_was() -> None:
    blocks = [block(cpu=1.0), block(cpu=1.85, round_=2)]
    (made,) = make_cells(PLAN, blocks, {"a": Facts()})
    assert (made.generator_cpu, made.generator_limited) == (0.7125, True)


def test_a_generator_just_at_the_limit_is_not_beyond_it() -> None:
    (made,) = make_cells(PLAN, [block(cpu=1.8)], {"a": Facts()})
    assert made.generator_limited is False


def test_server_means_are_sums_by_counts_over_all_rounds() -> None:
    more = replace(DELTAS, requests=30.0, compute_seconds=0.03, compute_count=30.0, cpu_seconds=0.036)
    (made,) = make_cells(PLAN, [block(server=DELTAS), block(server=more, round_=2)], {"a": Facts()})
    assert made.server.requests == 40
    assert made.server.compute_ms_mean == pytest.approx(2.0)
    assert made.server.queue_ms_mean == pytest.approx(2.0)
    assert made.server.cpu_us_per_request == pytest.approx(1000.0)


def test_without_a_metrics_page_server_figures_are_absent() -> None:
    (made,) = make_cells(PLAN, [block()], {"a": Facts()})
    assert made.server == NO_SERVER


def test_a_server_that_counted_nothing_has_no_means() -> None:
    nothing = Deltas(
        requests=0.0, queue_seconds=0.0, queue_count=0.0, compute_seconds=None, compute_count=None, cpu_seconds=None
    )
    (made,) = make_cells(PLAN, [block(server=nothing)], {"a": Facts()})
    assert made.server == ServerSide(requests=0, queue_ms_mean=None, compute_ms_mean=None, cpu_us_per_request=None)


def test_there_is_a_cell_for_each_variant_and_number_of_users() -> None:
    blocks = [block(variant=variant, users=users) for users in (8, 1) for variant in "ba"]
    cells = make_cells(replace(PLAN, users=(1, 8)), blocks, {"a": Facts(), "b": Facts(top1=0.5)})
    assert [(each.variant, each.users) for each in cells] == [("a", 1), ("a", 8), ("b", 1), ("b", 8)]
    assert [each.facts.top1 for each in cells] == [None, None, 0.5, 0.5]


def test_warnings_name_what_was_skipped_failed_limited_and_too_short() -> None:
    cells = [cell("a-x", failures=2), cell("b-x", generator_limited=True, users=8), cell("c-x", p99=None)]
    assert make_warnings(cells, {"d-x": "not ready"}, ["no page"]) == (
        "d-x was not measured: not ready",
        "no page",
        "a-x, 1 user: 2 of 1000 calls failed (2 UNAVAILABLE)",
        "b-x, 8 users: the load generator used 97% of a core and may have been the limit;"
        " the cell is left out of the frontier",
        "c-x, 1 user: 900 samples are too few for p99",
    )


def test_a_server_that_counted_other_calls_than_were_sent_is_warned_of() -> None:
    counted = replace(NO_SERVER, requests=1001)
    (warning,) = make_warnings([cell("a-x", server=counted)], {})
    assert warning.startswith("a-x, 1 user: 1000 calls were sent but the server counted 1001")
    assert make_warnings([cell("a-x", server=replace(NO_SERVER, requests=1000))], {}) == ()


def test_results_are_json_with_null_for_what_was_not_measured() -> None:
    results = Results(
        started="then",
        finished="now",
        server="s",
        inputs="golden",
        metrics_url=None,
        plan=PLAN,
        machine=Machine("cpu", 2, (), 1, "os", "3", {}, (0.0, 0.0, 0.0)),
        cells=(cell("a-x", p99=None),),
        skipped={},
        warnings=(),
    )
    document = json.loads(results.to_json())
    assert document["cells"][0]["latency_ms"] == {"p50": 1.0, "p95": 2.0, "p99": None}
    assert document["cells"][0]["server"]["compute_ms_mean"] is None
    assert document["plan"]["out"] == "runs/x"
    assert document["machine"]["cores"] == 2
