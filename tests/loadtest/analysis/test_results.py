"""From blocks to cells, with every figure worked out by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest

from loadtest.analysis.results import LatencyMs, Results, ServerSide, make_cells
from loadtest.client.failures import Failure
from loadtest.client.metrics_page import Deltas, Facts
from loadtest.measure.measurement import Ceiling, Measurement
from loadtest.plan import Block
from loadtest.users.recorder import AFTER, FIRST, SAMPLE, STEADY, WARMUP, Samples
from protos.support.machine import Machine
from tests.support.loadtest.cells import CALM, NO_SERVER, PLAN, cell, closed

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
    process_cpu: float = 0.0,
    server: Deltas | None = None,
    failures: tuple[Failure, ...] = (),
) -> Measurement:
    """A block of calls (phase, status, latency in seconds)."""
    number = ("a", "b").index(variant)
    load, late = ("closed-1", "closed-8").index(closed(users).key), 0.0
    rows = np.array(
        [(number, load, round_, phase, status, 0.0, late, latency) for phase, status, latency in calls], SAMPLE
    )
    answered = sum((phase, status) == (STEADY, 0) for phase, status, _ in calls)
    samples = Samples(rows, ("a", "b"), ("closed-1", "closed-8"))
    return Measurement(
        block=Block(variant, closed(users), round_),
        answered=answered,
        users_begun=users,
        seconds=seconds,
        thread_seconds=cpu,
        process_seconds=process_cpu,
        lag_seconds=(),
        server=server,
        conditions=CALM,
        samples=samples,
        failures=failures,
    )


def test_texts_of_failures_are_those_of_all_rounds() -> None:
    full, gone = Failure("RESOURCE_EXHAUSTED", "full", 2), Failure("UNAVAILABLE", "gone", 3)
    rounds = [block((STEADY, 0, 0.1), failures=(full, gone)), block((STEADY, 0, 0.1), round_=2, failures=(full,))]
    (made,) = make_cells(PLAN, rounds, {"a": Facts()})
    assert made.failure_texts == (replace(full, count=4), gone)


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
    assert (made.generator_cpu, made.generator_limit) == (0.7125, "thread")


@pytest.mark.parametrize(
    ("cpus", "ceiling", "rule"),
    [
        ((1.85, 1.0), 3.0, "thread"),
        ((1.0, 1.85), None, "thread"),
        ((1.0, 1.0), 0.5, "ceiling"),
        ((1.0, 1.0), 0.6, None),
    ],
)
def test_a_cell_keeps_the_rule_that_marked_its_first_limited_round(
    cpus: tuple[float, ...], ceiling: float | None, rule: str | None
) -> None:
    blocks = [block((STEADY, 0, 0.1), cpu=cpu, round_=turn) for turn, cpu in enumerate(cpus, 1)]
    ceilings = [] if ceiling is None else [Ceiling(blocks[0].block.load, ceiling, None, None)]
    (made,) = make_cells(PLAN, blocks, {"a": Facts()}, ceilings)
    assert (made.generator_limit, made.generator_limited) == (rule, rule is not None)


def test_a_generator_is_limited_by_its_thread_and_not_by_what_grpc_s_own_threads_use() -> None:
    (made,) = make_cells(PLAN, [block((STEADY, 0, 0.1), cpu=1.0, process_cpu=3.0)], {"a": Facts()})
    assert (made.generator_cpu, made.generator_process_cpu, made.generator_limit) == (0.5, 1.5, None)
    assert (made.rounds[0].generator_cpu, made.rounds[0].generator_process_cpu) == (0.5, 1.5)


def test_the_generator_s_cpu_by_requests_is_the_process_s_by_steady_calls() -> None:
    calls = [(STEADY, 0, 0.1), (STEADY, UNAVAILABLE, 0.1), (WARMUP, 0, 0.1)]
    (made,) = make_cells(PLAN, [block(*calls, process_cpu=0.001)], {"a": Facts()})
    assert made.generator_us_per_request == pytest.approx(500.0)


def test_cores_used_are_the_generator_s_and_the_server_s_in_the_steady_state() -> None:
    calls = [(STEADY, 0, 0.1)] * 5 + [(WARMUP, 0, 0.1)] * 5
    server = replace(DELTAS, requests=10.0, cpu_seconds=4.0)
    (made,) = make_cells(PLAN, [block(*calls, process_cpu=1.0, seconds=2.0, server=server)], {"a": Facts()})
    assert made.cores_used == pytest.approx((1.0 + 4.0 / 2) / 2.0)


def test_without_the_server_s_cpu_the_cores_used_are_unknown() -> None:
    (made,) = make_cells(PLAN, [block(process_cpu=1.0)], {"a": Facts()})
    assert made.cores_used is None


def test_a_generator_just_at_the_limit_is_not_beyond_it() -> None:
    (made,) = make_cells(PLAN, [block(cpu=1.8)], {"a": Facts()})
    assert made.generator_limit is None


def test_server_means_are_sums_by_counts_over_all_rounds() -> None:
    more = replace(DELTAS, requests=30.0, compute_seconds=0.03, compute_count=30.0, cpu_seconds=0.036)
    (made,) = make_cells(PLAN, [block(server=DELTAS), block(server=more, round_=2)], {"a": Facts()})
    assert made.server.requests == 40
    assert made.server.compute_ms_mean == pytest.approx(2.0)
    assert made.server.queue_ms_mean == pytest.approx(2.0)
    assert made.server.cpu_us_per_request == pytest.approx(1000.0)


def test_the_servers_handler_and_batches_have_means() -> None:
    seen = replace(DELTAS, handler_seconds=0.08, handler_count=10.0, batch_rows=10.0, batch_count=4.0)
    (made,) = make_cells(PLAN, [block(server=seen)], {"a": Facts()})
    assert made.server.handler_ms_mean == pytest.approx(8.0)
    assert made.server.batch_rows_mean == 2.5


def test_each_round_has_what_the_server_saw_in_it() -> None:
    blocks = [block(round_=1, server=DELTAS), block(round_=2, server=replace(DELTAS, compute_seconds=0.1))]
    (made,) = make_cells(PLAN, [*blocks, block(round_=3)], {"a": Facts()})
    assert [each.server.compute_ms_mean for each in made.rounds] == [pytest.approx(5.0), pytest.approx(10.0), None]


def test_without_a_metrics_page_server_figures_are_absent() -> None:
    (made,) = make_cells(PLAN, [block()], {"a": Facts()})
    assert made.server == NO_SERVER


def test_a_server_that_counted_nothing_has_no_means() -> None:
    nothing = Deltas(
        requests=0.0, queue_seconds=0.0, queue_count=0.0, compute_seconds=None, compute_count=None, cpu_seconds=None
    )
    (made,) = make_cells(PLAN, [block(server=nothing)], {"a": Facts()})
    assert made.server == ServerSide(requests=0, queue_ms_mean=None, compute_ms_mean=None, cpu_us_per_request=None)


def test_there_is_a_cell_for_each_variant_and_load() -> None:
    blocks = [block(variant=variant, users=users) for users in (8, 1) for variant in "ba"]
    cells = make_cells(replace(PLAN, users=(1, 8)), blocks, {"a": Facts(), "b": Facts(quality=0.5)})
    assert [(each.variant, each.load.level) for each in cells] == [("a", 1), ("a", 8), ("b", 1), ("b", 8)]
    assert [each.facts.quality for each in cells] == [None, None, 0.5, 0.5]


def test_results_are_json_with_null_for_what_was_not_measured() -> None:
    results = Results(
        started="then",
        finished="now",
        server="s",
        inputs="golden",
        metrics_url=None,
        plan=PLAN,
        machine=Machine("cpu", 2, (), 1, "os", "3", {}, (0.0, 0.0, 0.0)),
        ceilings=(),
        cells=(cell("a-x", p99=None),),
        accuracy=(),
        skipped={},
        warnings=(),
    )
    document = json.loads(results.to_json())
    assert document["cells"][0]["latency_ms"] == {"p50": 1.0, "p95": 2.0, "p99": None}
    assert document["cells"][0]["server"]["compute_ms_mean"] is None
    assert document["plan"]["out"] == "runs/x"
    assert document["machine"]["cores"] == 2
