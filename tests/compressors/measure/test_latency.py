"""When a p50 is known, what a share of the time gives, and what the raw samples say."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from compressors.measure import latency
from compressors.measure.latency import BATCH_ROUNDS, BATCHES, BLOCK_CALLS
from protos.manifest import Latency, Throughput
from server.runtimes import Array

ROWS = {name: {"x": np.zeros((1, 1), np.float32)} for name in "ab"}


@dataclass
class Noting:
    """A runtime that does nothing, and notes into a common list who was called with how many rows."""

    name: str
    calls: list[tuple[str, int]] = field(default_factory=list)

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        self.calls.append((self.name, len(inputs["x"])))
        return {}

    def close(self) -> None: ...


def test_calls_are_interleaved_and_the_first_of_a_block_is_not_timed() -> None:
    calls: list[tuple[str, int]] = []
    samples = latency.latencies({name: Noting(name, calls) for name in "ab"}, ROWS, seed=0, share=0.0)
    assert {name: seconds.shape for name, seconds in samples.items()} == {"a": (1, BLOCK_CALLS), "b": (1, BLOCK_CALLS)}
    warm_up, block = 4, BLOCK_CALLS + 1
    names = [name for name, _ in calls[warm_up:]]
    assert names in (["a"] * block + ["b"] * block, ["b"] * block + ["a"] * block)


def test_all_have_rounds_until_each_is_known_or_its_share_is_spent() -> None:
    """Six blocks is the least that an interval takes, and 299 calls the least for a p99."""
    samples = latency.latencies({name: Noting(name) for name in "ab"}, ROWS, seed=0, share=2.0)
    for seconds in samples.values():
        assert seconds.size >= 299
        within = latency.summary(seconds).known_within
        assert within is not None
        assert within <= latency.KNOWN or seconds.sum() >= 0.5  # the noise of a machine may need all of its time


def test_a_summary_is_of_the_raw_samples() -> None:
    """300 samples in six blocks, whose medians are 25.5, 75.5, ... 275.5 ms: the interval is from the least to the
    greatest."""
    seconds = np.arange(1, 301).reshape(6, 50) / 1000
    assert latency.summary(seconds) == Latency(
        p50_ms=150.5, p95_ms=285.05, p99_ms=297.01, batch=1, threads=1, samples=300, known_within=pytest.approx(0.8306)
    )


def test_what_takes_more_samples_than_there_are_is_absent() -> None:
    found = latency.summary(np.full((1, 58), 0.002))
    assert (found.p50_ms, found.p95_ms, found.p99_ms, found.known_within) == (2.0, None, None, None)
    assert latency.summary(np.full((2, 149), 0.002)).p95_ms == 2.0
    assert latency.summary(np.full((2, 149), 0.002)).p99_ms is None


def test_throughput_is_that_of_the_best_batch() -> None:
    seconds = np.array([[0.001] * 3, [0.002, 0.002, 9.0], [0.01] * 3])
    assert latency.best_throughput(seconds) == Throughput(2000.0, batch=4, threads=1)


@pytest.mark.parametrize(("share", "sizes"), [(0.0, 1), (60.0, len(BATCHES))])
def test_larger_batches_are_for_those_whose_time_allows_it(share: float, sizes: int) -> None:
    runtime = Noting("a")
    seconds = latency.batch_seconds({"a": runtime}, ROWS, seed=0, share=share)
    assert seconds["a"].shape == (sizes, BATCH_ROUNDS)
    assert {rows for _, rows in runtime.calls} == set(BATCHES[:sizes])
