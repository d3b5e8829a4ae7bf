"""Slices with given latencies, for tests of what is made of them."""

from collections.abc import Mapping, Sequence

import numpy as np

from loadtest.measure.host import Conditions
from loadtest.measure.measurement import Interleaved, MeasuredStretch, Stop
from loadtest.plan import Load
from loadtest.users.recorder import SAMPLE, SLICE, STEADY, Samples
from tests.support.loadtest.cells import closed

CALM = Conditions(5.0, steal=0.0, throttled_seconds=None, load=0.5, own=0.4, others=0.01)


def samples(latencies: Mapping[str, Sequence[Sequence[float]]], load: Load | None = None) -> Samples:
    """One user's calls, in ms, by variant and round: one after the other, each slice as long as its calls together."""
    load, names = load or closed(1), tuple(latencies)
    rows, slices = list[tuple[float, ...]](), list[tuple[float, ...]]()
    for number, rounds in enumerate(latencies.values()):
        for turn, calls in enumerate(rounds, 1):
            seconds = sum(calls) / 1e3
            dues = turn + np.cumsum([0.0, *calls])[:-1] / 1e3
            rows += [(number, 0, turn, STEADY, 0, due, 0.0, call / 1e3) for due, call in zip(dues, calls, strict=True)]
            slices.append(
                (
                    number,
                    0,
                    turn,
                    turn,
                    seconds,
                    len(calls),
                    seconds,
                    len(calls),
                    seconds / 9,
                    seconds / 9,
                    float("nan"),
                )
            )
    return Samples(np.array(rows, SAMPLE), names, (load.key,), np.array(slices, SLICE))


def measured(taken: Samples, load: Load | None = None, stretches: int = 1, stops: Sequence[Stop] = ()) -> Interleaved:
    """What is known after so many stretches, the last of which has all slices."""
    last = int(taken.slices["round"].max())
    empty = Samples(taken.rows[:0], taken.variants, taken.loads)
    parts = tuple(
        MeasuredStretch(load or closed(1), i, 1, last, 0.0, CALM, 0.02, {}, {}, {}, samples=empty)
        for i in range(1, stretches + 1)
    )
    return Interleaved(parts, (), tuple(stops), taken)
