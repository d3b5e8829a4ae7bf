"""From slices and blocks to cells, with every figure worked out by hand."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from loadtest.analysis.percentiles import LatencyMs
from loadtest.analysis.results import Cell, Results, ServerSide, make_cells, make_stretches
from loadtest.client.failures import Failure
from loadtest.client.metrics_page import Deltas, Facts
from loadtest.measure.host import Conditions
from loadtest.measure.measurement import Interleaved, MeasuredStretch, Measurement
from loadtest.plan import Block, Load
from loadtest.users.recorder import AFTER, FIRST, SAMPLE, SLICE, STEADY, WARMUP, Samples, join
from protos.support.machine import Machine
from tests.support.loadtest.cells import NO_SERVER, PLAN, cell, closed

UNAVAILABLE, DEADLINE_EXCEEDED = 14, 4
LOADS = (closed(1), closed(8), Load("server", 50))
CALM = Conditions(5.0, steal=0.0, throttled_seconds=None, load=0.5, own=0.4, others=0.01)

DELTAS = Deltas(
    requests=10.0, queue_seconds=0.02, queue_count=10.0, compute_seconds=0.05, compute_count=10.0, cpu_seconds=0.004
)

Calls = Sequence[tuple[int, int, float]]
"""Phase, status, and latency in seconds."""


def samples_of(calls: Calls, variant: str, load: Load, round_: int, **of_slice: float) -> Samples:
    """Calls, and the one slice that they were made in: 2 s, half of them on a core, on a server that tells nothing."""
    where = ("a", "b").index(variant), LOADS.index(load), round_
    rows = np.array([(*where, phase, status, 0.0, 0.0, latency) for phase, status, latency in calls], SAMPLE)
    slices = np.zeros(1, SLICE)
    slices["variant"], slices["load"], slices["round"] = where
    slices["answered"] = sum((phase, status) == (STEADY, 0) for phase, status, _ in calls)
    slices["calls"] = len(calls)
    seconds = of_slice.get("seconds", 2.0)
    for name, value in ({"whole": seconds, "thread": 1.0, "server": math.nan, "seconds": seconds} | of_slice).items():
        slices[name] = value
    return Samples(rows, ("a", "b"), tuple(load.key for load in LOADS), slices)


def stretch(
    *calls: tuple[int, int, float],
    variant: str = "a",
    load: Load = LOADS[0],
    round_: int = 1,
    server: Deltas | None = None,
    failures: tuple[Failure, ...] = (),
    **of_slice: float,
) -> MeasuredStretch:
    """A stretch of one slice."""
    return MeasuredStretch(
        load=load,
        number=round_,
        first_round=round_,
        last_round=round_,
        begun=5.0 * round_,
        conditions=CALM,
        probe_seconds=0.025,
        server={variant: server} if server else {},
        lag_seconds={variant: (0.001,)},
        failures={variant: failures} if failures else {},
        samples=samples_of(calls, variant, load, round_, **of_slice),
    )


def block(*calls: tuple[int, int, float], server: Deltas | None = None, **of_slice: float) -> Measurement:
    """What came without a break after the slices of an open loop."""
    return Measurement(
        block=Block("a", LOADS[2], 0),
        answered=len(calls),
        seconds=2.0,
        thread_seconds=1.0,
        process_seconds=1.0,
        lag_seconds=(),
        server=server,
        conditions=CALM,
        samples=samples_of(calls, "a", LOADS[2], 0, **of_slice),
    )


def measured(*parts: MeasuredStretch | Measurement) -> Interleaved:
    """A run of these."""
    stretches = tuple(part for part in parts if isinstance(part, MeasuredStretch))
    blocks = tuple(part for part in parts if isinstance(part, Measurement))
    return Interleaved(stretches, blocks, (), join([part.samples for part in parts]))


def made(*parts: MeasuredStretch | Measurement, load: Load = LOADS[0]) -> Cell:
    """The cell of `a` under a load."""
    (found,) = make_cells(PLAN, measured(*parts), {"a": Facts()}, loads=(load,))
    return found


def calls_of(*milliseconds: float) -> list[tuple[int, int, float]]:
    """Steady calls that were answered."""
    return [(STEADY, 0, each / 1e3) for each in milliseconds]


def test_texts_of_failures_are_those_of_all_stretches() -> None:
    full, gone = Failure("RESOURCE_EXHAUSTED", "full", 2), Failure("UNAVAILABLE", "gone", 3)
    found = made(stretch(failures=(full, gone)), stretch(round_=2, failures=(full,)))
    assert found.failure_texts == (replace(full, count=4), gone)


def test_percentiles_are_made_of_successful_steady_calls_only() -> None:
    others = [(FIRST, 0, 9.0), (WARMUP, 0, 9.0), (AFTER, 0, 9.0), (STEADY, UNAVAILABLE, 9.0)]
    found = made(stretch(*calls_of(1.0, 2.0, 3.0, 4.0, 5.5), *others))
    assert found.samples == 5
    assert found.latency_ms == LatencyMs(p50=3.0, p95=None, p99=None)


def test_requests_and_failures_count_every_call() -> None:
    calls = [(FIRST, UNAVAILABLE, 1.0), (WARMUP, 0, 1.0), (STEADY, 0, 1.0), (AFTER, DEADLINE_EXCEEDED, 1.0)]
    found = made(stretch(*calls))
    assert (found.requests, found.failures) == (4, 2)
    assert found.statuses == {"OK": 2, "DEADLINE_EXCEEDED": 1, "UNAVAILABLE": 1}


def test_throughput_is_successful_steady_calls_by_steady_seconds_over_all_slices() -> None:
    found = made(
        stretch((STEADY, 0, 1.0), (STEADY, 0, 1.0), (STEADY, UNAVAILABLE, 1.0), seconds=2.0, whole=3.0),
        stretch((STEADY, 0, 1.0), (WARMUP, 0, 1.0), round_=2, seconds=4.0),
    )
    assert (found.seconds, found.throughput_rps, found.rounds, found.asked_rps) == (6.0, 0.5, 2, None)


def test_an_open_loop_s_figures_are_of_its_block_without_a_break_and_its_counts_of_all() -> None:
    slices = stretch(*calls_of(1, 1, 1), load=LOADS[2], server=DELTAS)
    found = made(slices, block(*calls_of(7, 8, 9, 10, 11), server=DELTAS, process=1.0), load=LOADS[2])
    assert (found.samples, found.latency_ms.p50) == (5, 9.0)
    assert (found.asked_rps, found.throughput_rps, found.generator_process_cpu) == (2.5, 2.5, 0.5)
    assert (found.requests, found.rounds, found.server.requests) == (8, 1, 20)


def test_without_such_a_block_an_open_loop_s_figures_are_of_its_slices() -> None:
    found = made(stretch(*calls_of(1, 2, 3, 4), (STEADY, UNAVAILABLE, 1.0), load=LOADS[2]), load=LOADS[2])
    assert (found.samples, found.asked_rps, found.throughput_rps) == (4, 2.5, 2.0)


def test_the_first_call_is_the_median_over_users_and_stretches() -> None:
    found = made(
        stretch((FIRST, 0, 0.003), (FIRST, 0, 0.009)),
        stretch((FIRST, 0, 0.004), (FIRST, UNAVAILABLE, 8.0), round_=2),
    )
    assert found.first_call_ms == 4.0


def test_whether_the_generator_was_the_limit_is_asked_of_all_slices_together() -> None:
    found = made(stretch(thread=1.0), stretch(thread=1.85, round_=2))
    assert (found.generator_cpu, found.generator_limited) == (0.7125, False)
    assert made(stretch(thread=1.85), stretch(thread=1.8, round_=2)).generator_limited


def test_a_generator_is_limited_by_its_thread_and_not_by_what_grpc_s_own_threads_use() -> None:
    found = made(stretch((STEADY, 0, 0.1), thread=1.0, process=3.0))
    assert (found.generator_cpu, found.generator_process_cpu, found.generator_limited) == (0.5, 1.5, False)


def test_a_generator_just_at_the_limit_is_not_beyond_it() -> None:
    assert made(stretch(thread=1.8)).generator_limited is False


def test_cpu_by_calls_is_that_of_whole_slices_by_all_their_calls() -> None:
    found = made(stretch((STEADY, 0, 0.1), (STEADY, UNAVAILABLE, 0.1), (WARMUP, 0, 0.1), process=0.003, server=DELTAS))
    assert found.generator_us_per_request == pytest.approx(1000.0)
    assert found.server.cpu_us_per_request is None


def test_cores_used_are_the_generator_s_and_the_server_s_in_the_slices() -> None:
    parts = [samples_of(calls_of(1.0) * 4, "a", LOADS[0], round_, process=1.0, server=2.0) for round_ in (1, 2)]
    (found,) = make_cells(PLAN, Interleaved((), (), (), join(parts)), {"a": Facts()}, loads=LOADS[:1])
    assert found.cores_used == pytest.approx((1.0 + 2.0) / 2.0)
    assert found.server.cpu_us_per_request == pytest.approx(4.0 / 8 * 1e6)


def test_without_the_server_s_cpu_the_cores_used_are_unknown() -> None:
    assert made(stretch(process=1.0)).cores_used is None


def test_server_means_are_sums_by_counts_over_all_stretches() -> None:
    more = replace(DELTAS, requests=30.0, compute_seconds=0.03, compute_count=30.0)
    found = made(stretch(server=DELTAS), stretch(server=more, round_=2)).server
    assert found.requests == 40
    assert found.compute_ms_mean == pytest.approx(2.0)
    assert found.queue_ms_mean == pytest.approx(2.0)


def test_the_servers_handler_and_batches_have_means() -> None:
    seen = replace(DELTAS, handler_seconds=0.08, handler_count=10.0, batch_rows=10.0, batch_count=4.0)
    found = made(stretch(server=seen)).server
    assert found.handler_ms_mean == pytest.approx(8.0)
    assert found.batch_rows_mean == 2.5


def test_the_server_s_stages_have_means_by_answers() -> None:
    parts = [
        stretch(round_=round_, server=replace(DELTAS, handler_count=10.0, stage_seconds=seconds))
        for round_, seconds in enumerate([{"receive": 0.03, "encode": 0.01}, {"receive": 0.01, "encode": 0.01}], 1)
    ]
    assert made(*parts).server.stage_ms_mean == {"receive": pytest.approx(2.0), "encode": pytest.approx(1.0)}


def test_each_stretch_has_what_the_server_and_the_machine_did_in_it() -> None:
    parts = [stretch(server=DELTAS), stretch(round_=2, server=replace(DELTAS, compute_seconds=0.1)), stretch(round_=3)]
    found = make_stretches(measured(*parts))
    assert [(each.first_round, each.last_round, each.begun) for each in found] == [(1, 1, 5), (2, 2, 10), (3, 3, 15)]
    assert [each.server["a"].compute_ms_mean for each in found[:2]] == [pytest.approx(5.0), pytest.approx(10.0)]
    assert (found[2].server, found[2].conditions, found[2].probe_seconds) == ({}, CALM, 0.025)


def test_without_a_metrics_page_server_figures_are_absent() -> None:
    assert made(stretch()).server == NO_SERVER


def test_a_server_that_counted_nothing_has_no_means() -> None:
    nothing = Deltas(
        requests=0.0, queue_seconds=0.0, queue_count=0.0, compute_seconds=None, compute_count=None, cpu_seconds=None
    )
    found = made(stretch(server=nothing)).server
    assert found == ServerSide(requests=0, queue_ms_mean=None, compute_ms_mean=None, cpu_us_per_request=None)


def test_there_is_a_cell_for_each_variant_and_load() -> None:
    parts = [stretch(variant=variant, load=load) for load in LOADS[1::-1] for variant in "ba"]
    cells = make_cells(replace(PLAN, users=(1, 8)), measured(*parts), {"a": Facts(), "b": Facts(quality=0.5)})
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
