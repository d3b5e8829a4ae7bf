"""Latency by how many objects an image holds: fuller images have more boxes to suppress, to sort and to send.

After the slices one user sends images of the test split to each variant, one of each group in turn, so that whatever
drifts meets all groups alike. The images are as they are: where those of one group are larger, that is in its latency
too.
"""

import itertools
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from loadtest.client.failures import plain
from loadtest.client.oip import CallError, Client
from loadtest.client.payloads import Inputs, Payload, make_payloads
from loadtest.measure.measurement import OBJECT_LEVELS, ObjectLatency
from loadtest.tasks.table import TASKS, task_of
from protos.errors import IntegrityError
from protos.repository import EvaluationSet, load_evaluation_set
from protos.support import significance

if TYPE_CHECKING:
    from loadtest.measure.block import RunContext  # makes a process Locust's, which the figures alone need not be

SECONDS = 8.0
"""The most that all variants take together; each has at most `--duration`."""
MOST_IMAGES = 8
"""Of each group, those whose number of objects is nearest to it."""


def groups(counts: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    """Returns images for each of `OBJECT_LEVELS`, by numbers of objects (N,); one to which none is nearest is absent.

    Near is by ratio: 4 objects are about 10, 3 are about 1.
    """
    distances = np.abs(np.log1p(counts)[:, None] - np.log1p(OBJECT_LEVELS))
    nearest = distances.argmin(axis=1)
    found = {}
    for place, level in enumerate(OBJECT_LEVELS):
        rows = np.flatnonzero(nearest == place)
        if len(rows):
            found[level] = rows[np.argsort(distances[rows, place], kind="stable")[:MOST_IMAGES]]
    return found


def measure(context: "RunContext") -> tuple[tuple[ObjectLatency, ...], dict[str, str]]:
    """Measures each variant, and says why others were not; nothing where no test split of such images is at hand."""
    task = task_of(next(iter(context.variants.values())).metadata)
    try:
        test = (
            load_evaluation_set(context.plan.repository, context.plan.model, task)
            if TASKS[task].counts_objects
            else None
        )
    except IntegrityError:
        test = None
    if test is None:
        return (), {}
    counts, latencies, failed = TASKS[task].objects(test), list[ObjectLatency](), dict[str, str]()
    chosen, seconds = groups(counts), min(SECONDS / len(context.variants), context.plan.duration)
    for name in context.variants:
        try:
            taken = _measure(context, name, test, chosen, seconds)
        except CallError as error:
            failed[name] = plain(str(error))
            continue
        latencies += [_latency(name, level, counts[chosen[level]], taken[level]) for level in chosen]
    return tuple(latencies), failed


def _measure(
    context: "RunContext", name: str, test: EvaluationSet, chosen: Mapping[int, NDArray[np.int64]], seconds: float
) -> dict[int, list[float]]:
    """Returns the latencies in seconds at each level. The first call of each is not among them."""
    payloads = {level: itertools.cycle(_payloads(context, name, test, rows)) for level, rows in chosen.items()}
    taken = {level: list[float]() for level in chosen}
    address = context.variants[name].target.address
    with closing(Client(address, context.plan.deadline, context.credentials)) as client:
        for turn in payloads.values():
            client.infer(next(turn))
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for level, turn in payloads.items():
                context.sleep(0)  # for a signal that was sent meanwhile
                begun = time.perf_counter()
                client.infer(next(turn))
                taken[level].append(time.perf_counter() - begun)
    return taken


def _payloads(context: "RunContext", name: str, test: EvaluationSet, rows: NDArray[np.int64]) -> list[Payload]:
    served, model = context.variants[name], context.plan.model
    images = [{served.metadata.inputs[0].name: test.images[row : row + 1]} for row in rows.tolist()]
    return make_payloads(model, served.variant, served.metadata, Inputs("golden", images), name)


def _latency(name: str, level: int, counts: NDArray[np.int64], taken: Sequence[float]) -> ObjectLatency:
    milliseconds = np.array(taken) * 1e3
    return ObjectLatency(
        variant=name,
        level=level,
        fewest=int(counts.min()),
        most=int(counts.max()),
        images=len(counts),
        samples=len(taken),
        p50_ms=significance.quantile(milliseconds, 0.5),
        p99_ms=significance.quantile(milliseconds, 0.99),
    )
