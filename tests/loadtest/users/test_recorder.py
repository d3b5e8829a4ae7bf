"""Raw samples: what a listener of Locust's request event keeps of each call."""

import io
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np

from loadtest.client.oip import CallError
from loadtest.plan import Block
from loadtest.users.recorder import (
    AFTER,
    AFTER_CALL,
    FIRST,
    FIRST_CALL,
    LATE,
    PHASES,
    SAMPLE,
    SLICE,
    STATUSES,
    STEADY,
    STEADY_CALL,
    WARMUP,
    WARMUP_CALL,
    Recorder,
    Samples,
    join,
    load_samples,
    merge,
)
from tests.support.loadtest.cells import closed

LOADS = ("closed-1", "closed-8")


def recorded(*ends_and_milliseconds: tuple[float, float], name: str = "a") -> Recorder:
    """A recorder that was told of calls that ended at these times and took so long."""
    recorder = Recorder()
    with patch("loadtest.users.recorder.perf_counter", side_effect=[end for end, _ in ends_and_milliseconds]):
        for _, milliseconds in ends_and_milliseconds:
            recorder.on_request(request_type="ModelInfer", name=name, response_time=milliseconds, response_length=0)
    return recorder


def test_latency_and_start_are_kept_unrounded_in_seconds() -> None:
    samples = recorded((10.5, 2.601)).samples(origin=10.0, window=(10.0, 11.0))
    assert samples.rows["latency"].tolist() == [2.601 / 1000]
    np.testing.assert_allclose(samples.rows["due"], [0.5 - 0.002601], atol=1e-12)


def test_calls_belong_to_the_phase_in_which_they_started() -> None:
    recorder = recorded((1.0, 500.0), (2.4, 500.0), (2.6, 500.0), (3.4, 500.0), (4.0, 500.0))
    samples = recorder.samples(origin=0.0, window=(2.0, 3.0))
    assert samples.rows["phase"].tolist() == [WARMUP, WARMUP, STEADY, STEADY, AFTER]


def test_a_first_call_is_apart_even_in_the_steady_state() -> None:
    recorder = Recorder()
    for context in (FIRST_CALL, {}):
        recorder.on_request(name="a", response_time=1.0, context=context)
    assert recorder.samples(origin=0.0, window=(0.0, float("inf"))).rows["phase"].tolist() == [FIRST, STEADY]


def test_a_call_whose_user_tells_the_phase_belongs_to_that_whatever_the_time() -> None:
    recorder = Recorder()
    for context in (FIRST_CALL, WARMUP_CALL, STEADY_CALL, AFTER_CALL):
        recorder.on_request(name="a", response_time=1.0, context=context)
    assert recorder.samples(origin=0.0, window=(0.0, 0.0)).rows["phase"].tolist() == [FIRST, WARMUP, STEADY, AFTER]


def test_a_recorder_is_emptied_between_two_slices_and_still_knows_whose_first_calls_it_heard_of() -> None:
    recorder = Recorder()
    recorder.on_request(name="a", response_time=1.0, exception=CallError("UNAVAILABLE", "gone"), context=FIRST_CALL)
    recorder.clear()
    assert (len(recorder), recorder.failures, recorder.first_calls) == (0, (), 1)
    recorder.on_request(name="a", response_time=1.0, context=STEADY_CALL)
    assert recorder.samples(0.0, (0.0, 0.0)).rows["status"].tolist() == [0]


def test_a_request_that_was_sent_late_is_late_by_that_and_belongs_to_when_it_was_due() -> None:
    recorder = Recorder()
    with patch("loadtest.users.recorder.perf_counter", return_value=5.0):
        recorder.on_request(name="a", response_time=3000.0, context={LATE: 2.5})
    (row,) = recorder.samples(origin=1.0, window=(2.0, 3.0)).rows
    assert (row["due"], row["late"], row["latency"], row["phase"]) == (1.0, 2.5, 3.0, STEADY)


def test_answers_count_by_when_they_came_and_failures_do_not() -> None:
    recorder = recorded((1.9, 1000.0), (2.0, 1000.0), (2.9, 1.0), (3.0, 1.0))
    assert recorder.answered((2.0, 3.0)) == 2
    recorder.on_request(name="a", response_time=1.0, exception=CallError("UNAVAILABLE", "gone"))
    assert recorder.answered((0.0, float("inf"))) == 4


def test_calls_in_time_are_those_due_in_the_window_that_succeeded_soon_enough() -> None:
    recorder = recorded((2.4, 500.0), (2.6, 500.0), (3.1, 501.0), (3.6, 500.0))
    with patch("loadtest.users.recorder.perf_counter", return_value=2.9):
        recorder.on_request(name="a", response_time=1.0, exception=CallError("UNAVAILABLE", "gone"))
    assert recorder.within((2.0, 3.0), 0.5) == 1
    assert recorder.within((2.0, 3.0), 0.6) == 2


def test_users_are_waited_for_until_each_has_had_its_first_call() -> None:
    recorder, slept = Recorder(), list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        recorder.on_request(name="a", response_time=1.0, context={})
        recorder.on_request(name="a", response_time=1.0, context=FIRST_CALL)

    recorder.wait_for_users(3, 600.0, sleep)
    assert (recorder.first_calls, len(slept)) == (3, 3)


def test_users_are_waited_for_no_longer_than_asked() -> None:
    recorder = Recorder()
    with patch("loadtest.users.recorder.perf_counter", side_effect=[0.0, 1.0, 2.0, 3.0]):
        recorder.wait_for_users(1, 2.5, lambda _: None)
    assert recorder.first_calls == 0


def test_failures_keep_their_status() -> None:
    recorder = Recorder()
    failures = [None, CallError("UNAVAILABLE", "gone"), CallError("WRONG_ANSWER", "rows"), ValueError("bug")]
    for failure in failures:
        recorder.on_request(name="a", response_time=1.0, exception=failure)
    rows = recorder.samples(0.0, (0.0, 1.0)).rows
    assert [STATUSES[status] for status in rows["status"]] == ["OK", "UNAVAILABLE", "WRONG_ANSWER", "EXCEPTION"]


def test_status_numbers_are_those_of_grpc() -> None:
    assert [STATUSES.index(name) for name in ("OK", "DEADLINE_EXCEEDED", "UNAVAILABLE")] == [0, 4, 14]


def test_a_block_s_rows_bear_its_labels_in_the_run_s_numbering() -> None:
    samples = recorded((1.0, 1.0), name="b").samples(0.0, (0.0, 9.0), Block("b", closed(8), 2), ("a", "b"), LOADS)
    assert samples.variants == ("a", "b")
    assert samples.rows[["variant", "load", "round"]].tolist() == [(1, 1, 2)]


def test_by_hand_variants_are_numbered_as_they_came() -> None:
    recorder = Recorder()
    for name in ("b", "a", "b"):
        recorder.on_request(name=name, response_time=1.0)
    samples = recorder.samples(0.0, (0.0, 1.0))
    assert (samples.variants, samples.rows["variant"].tolist()) == (("b", "a"), [0, 1, 0])


def test_a_recorder_that_heard_of_nothing_has_no_rows() -> None:
    assert len(Recorder().samples(0.0, (0.0, 1.0), Block("a", closed(1), 1), ("a",), LOADS).rows) == 0


def test_a_cell_s_rows_are_found_over_rounds_and_by_phase() -> None:
    parts = [
        recorded((0.5, 1.0), (1.5, 1.0), name=name).samples(
            0.0, (1.0, 2.0), Block(name, closed(users), round_), ("a", "b"), LOADS
        )
        for name, users, round_ in [("a", 1, 1), ("b", 1, 1), ("a", 8, 1), ("a", 1, 2)]
    ]
    samples = join(parts)
    assert len(samples.rows) == 8
    assert samples.of("a", closed(1))["round"].tolist() == [1, 1, 2, 2]
    assert samples.of("a", closed(1), STEADY)["round"].tolist() == [1, 2]


def sliced(variant: int, load: int, round_: int) -> Samples:
    """A steady call, a first one, and the slice in which they were made."""
    rows = np.array([(variant, load, round_, phase, 0, 0.0, 0.0, 0.001) for phase in (FIRST, STEADY)], SAMPLE)
    slices = np.array([(variant, load, round_, 0.5, 0.1, 1, 0.2, 2, 0.05, 0.06, 0.07)], SLICE)
    return Samples(rows, ("a", "b"), LOADS, slices)


def test_slices_are_joined_with_their_calls_and_found_by_cell() -> None:
    samples = join([sliced(0, 0, 1), sliced(1, 0, 1), sliced(0, 1, 1), sliced(0, 0, 2)])
    assert samples.slices_of("a", closed(1))["round"].tolist() == [1, 2]
    assert samples.slices_of("b", closed(8))["round"].tolist() == []


def test_figures_are_made_of_the_block_without_a_break_even_if_it_has_no_call() -> None:
    samples = join([sliced(0, 0, 1), sliced(0, 0, 0)])
    silent = replace(samples, rows=samples.rows[samples.rows["round"] > 0])
    for each, calls in ((samples, 2), (silent, 0)):
        assert each.slices_of_figures("a", closed(1))["round"].tolist() == [0]
        assert each.of_figures("a", closed(1))["round"].tolist() == [0] * calls


def test_a_slice_that_only_warms_up_has_no_steady_call_and_no_figures() -> None:
    warmup = sliced(0, 0, 1).as_warmup()
    assert warmup.rows["phase"].tolist() == [FIRST, WARMUP]
    assert len(warmup.slices) == 0


def test_samples_come_back_from_disk_with_the_names_of_their_numbers(tmp_path: Path) -> None:
    samples = sliced(1, 1, 2)
    samples.save(tmp_path / "samples.npz")
    loaded = load_samples(tmp_path / "samples.npz")
    assert (loaded.rows.tolist(), loaded.slices.tolist()) == (samples.rows.tolist(), samples.slices.tolist())
    assert (loaded.variants, loaded.loads) == (("a", "b"), LOADS)
    with np.load(tmp_path / "samples.npz", allow_pickle=False) as arrays:
        assert (tuple(arrays["phases"]), tuple(arrays["statuses"])) == (PHASES, STATUSES)


def test_parts_that_number_names_in_their_own_way_are_merged_in_the_order_in_which_calls_were_due() -> None:
    blocks = [("a", 1, 5.0), ("b", 8, 3.0), ("a", 8, 4.0)]
    parts = [
        recorded((end, 0.0), name=name).samples(
            origin=0.0, window=(0.0, 9.0), block=Block(name, closed(users), 1), loads=(closed(users).key,)
        )
        for name, users, end in blocks
    ]
    merged = merge([load_samples(io.BytesIO(part.to_bytes())) for part in parts])
    assert (merged.variants, merged.loads) == (("a", "b"), LOADS)
    assert [merged.variants[number] for number in merged.rows["variant"]] == ["b", "a", "a"]
    assert [merged.loads[number] for number in merged.rows["load"]] == ["closed-8", "closed-8", "closed-1"]
    assert merged.rows["due"].tolist() == [3.0, 4.0, 5.0]


def test_nothing_merged_or_joined_is_nothing() -> None:
    for whole in (merge([]), join([])):
        assert (len(whole.rows), whole.variants, whole.loads) == (0, (), ())
