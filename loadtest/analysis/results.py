"""From measured blocks to `results.json`: one cell for each variant and load, over all rounds.

    requests, failures   every call that was sent, first calls and warm-up included: the server counts them too
    throughput_rps       successful answers per second of steady state
    latency_ms           percentiles of the successful calls that were due in the steady state, from when they were
                         due (in a closed loop: sent) until their answer
    service_ms           the same from when they were sent
    samples              how many calls those percentiles are made of
    failure_texts        the different texts of failed calls with status and count; at most 20, then "(other texts)"

None (null in the file) stands for what was not measured. Nothing is rounded.
"""

import dataclasses
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtest import stats
from loadtest.client.failures import Failure, merge
from loadtest.client.metrics_page import Deltas, Facts
from loadtest.client.payloads import Source
from loadtest.generator.opinion import SecondOpinion
from loadtest.measure.accuracy import Accuracy
from loadtest.measure.host import Conditions
from loadtest.measure.measurement import OK, Ceiling, Measurement, ObjectLatency, Search, steady, steady_latencies
from loadtest.plan import Load, Plan
from loadtest.users.recorder import FIRST, STATUSES, STEADY, Rows, join
from protos.support import significance
from protos.support.machine import Machine
from protos.support.strict import decode

SCHEMA = 2


@dataclass(frozen=True)
class LatencyMs:
    """Percentiles in milliseconds; None where there are fewer samples than `significance.samples_needed`."""

    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True)
class ServerSide:
    """The server's own measurements of blocks, warm-up included."""

    requests: int | None
    queue_ms_mean: float | None
    compute_ms_mean: float | None
    cpu_us_per_request: float | None
    handler_ms_mean: float | None = None
    """From a parsed request to its finished answer, queue and engine included."""
    batch_rows_mean: float | None = None
    """Rows in one execution of the engine."""


@dataclass(frozen=True)
class Round:
    """One block of a cell."""

    round: int
    users_begun: int
    requests: int
    failures: int
    samples: int
    seconds: float
    throughput_rps: float
    latency_ms: LatencyMs
    generator_cpu: float
    generator_process_cpu: float
    conditions: Conditions
    canary_seconds: float | None
    reruns: int
    steady: bool
    server: ServerSide


@dataclass(frozen=True)
class Cell:
    """One variant under one load."""

    model: str
    variant: str
    load: Load
    connections: int
    """One for each user."""
    rows: int
    """Rows of each request."""
    requests: int
    failures: int
    statuses: dict[str, int]
    samples: int
    seconds: float
    throughput_rps: float
    asked_rps: float | None
    """Requests that were due per second of steady state; None where the server sets the pace."""
    latency_ms: LatencyMs
    service_ms: LatencyMs
    late_ms_p99: float | None
    """How late requests were sent."""
    lag_ms_p99: float | None
    """How late timers of the load generator were: this much of any latency may not be the server's."""
    first_call_ms: float | None
    """Median of the first calls, each of which opened a connection."""
    generator_cpu: float
    """Share of the steady state in which the thread that runs the users had a core."""
    generator_process_cpu: float
    """Cores that the load generator used in the steady state, gRPC's own threads included."""
    generator_us_per_request: float | None
    """CPU time of the load generator per call of the steady state."""
    cores_used: float | None
    """Cores that load generator and server used together."""
    ceiling_rps: float | None
    """Answers per second that the load generator gets from a server that answers at once."""
    generator_limit: stats.GeneratorLimit | None
    """By which rule the load generator may have been the limit (`stats.generator_limit`)."""
    reruns: int
    """Blocks that were measured again, because the machine had changed meanwhile."""
    unsteady: int
    """Rounds in which the machine changed all the same."""
    server: ServerSide
    facts: Facts
    rounds: tuple[Round, ...]
    failure_texts: tuple[Failure, ...] = ()
    """What was said of the calls that failed, the most frequent first."""

    @property
    def generator_limited(self) -> bool:
        """Returns whether the load generator may have been the limit."""
        return self.generator_limit is not None


@dataclass(frozen=True)
class Results:
    """A whole run, as saved in `results.json`."""

    started: str
    finished: str
    server: str
    inputs: Source
    metrics_url: str | None
    plan: Plan
    machine: Machine
    ceilings: tuple[Ceiling, ...]
    cells: tuple[Cell, ...]
    accuracy: tuple[Accuracy, ...]
    skipped: dict[str, str]
    """Variants that were not measured, each with the reason."""
    warnings: tuple[str, ...]
    searches: tuple[Search, ...] = ()
    objects: tuple[ObjectLatency, ...] = ()
    """Latency by the number of objects, where the task has them."""
    second_opinion: SecondOpinion | None = None
    schema: int = SCHEMA

    @property
    def failure_texts(self) -> Iterator[tuple[str, str, Failure]]:
        """Yields what servers said of failed calls: the variant, what was done with it, and one text."""
        for cell in self.cells:
            yield from ((cell.variant, cell.load.name, each) for each in cell.failure_texts)
        for search in self.searches:
            yield from ((search.variant, "search for the highest rate", each) for each in search.failure_texts)
        for checked in self.accuracy:
            yield from ((checked.variant, "accuracy over the wire", each) for each in checked.failure_texts)

    @property
    def failures(self) -> int:
        """Failed calls of the whole run."""
        checked = sum(sum(each.failures.values()) for each in self.accuracy)
        return sum(cell.failures for cell in self.cells) + checked

    def to_json(self) -> str:
        """Returns the text of `results.json`."""
        return json.dumps(dataclasses.asdict(self), indent=2, default=str, allow_nan=False) + "\n"

    def save(self, path: Path) -> None:
        """Writes `results.json`."""
        path.write_text(self.to_json())


def load_results(path: Path) -> Results:
    """Reads what `Results.save` wrote; `ValueError` names what does not fit."""
    document = json.loads(path.read_text())
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise ValueError(f"got schema {schema}, expected {SCHEMA}")
    return decode(Results, document, path.name)


def make_cells(
    plan: Plan, measurements: Sequence[Measurement], facts: Mapping[str, Facts], ceilings: Sequence[Ceiling] = ()
) -> tuple[Cell, ...]:
    """Returns a cell for each variant and load, in the order of `facts` and then of the plan's loads."""
    cells, reached = list[Cell](), {ceiling.load: ceiling.rps for ceiling in ceilings}
    for variant, load in itertools.product(facts, plan.loads):
        parts = [each for each in measurements if (each.block.variant, each.block.load) == (variant, load)]
        cells.append(_cell(plan, variant, load, parts, facts[variant], reached.get(load)))
    return tuple(cells)


def _cell(
    plan: Plan, variant: str, load: Load, parts: Sequence[Measurement], facts: Facts, ceiling: float | None
) -> Cell:
    rows = join([part.samples for part in parts]).rows
    first = np.compress((rows["phase"] == FIRST) & (rows["status"] == OK), rows["latency"])
    return Cell(
        model=plan.model,
        variant=variant,
        load=load,
        connections=plan.users_of(load),
        rows=plan.rows_of(load),
        statuses={STATUSES[status]: count for status, count in sorted(Counter(rows["status"].tolist()).items())},
        first_call_ms=float(np.median(first)) * 1e3 if len(first) else None,
        ceiling_rps=ceiling,
        generator_limit=next(filter(None, (_limit(part, ceiling) for part in parts)), None),
        unsteady=sum(not part.steady for part in parts),
        facts=facts,
        rounds=tuple(_round(part) for part in parts),
        failure_texts=merge(failure for part in parts for failure in part.failures),
        **_both(parts, rows),
        **_pace(parts, rows, load),
    )


def _round(part: Measurement) -> Round:
    return Round(
        round=part.block.round,
        users_begun=part.users_begun,
        conditions=part.conditions,
        canary_seconds=part.canary_seconds,
        steady=part.steady,
        **_both([part], part.samples.rows),
    )


def _both(parts: Sequence[Measurement], rows: Rows) -> dict[str, Any]:
    """Returns the fields that a cell and a round share, of these blocks and all their calls."""
    latencies, seconds = steady_latencies(rows), sum(part.seconds for part in parts)
    return {
        "requests": len(rows),
        "failures": int((rows["status"] != OK).sum()),
        "samples": len(latencies),
        "seconds": seconds,
        "throughput_rps": sum(part.answered for part in parts) / seconds,
        "latency_ms": _percentiles(latencies),
        "generator_cpu": sum(part.thread_seconds for part in parts) / seconds,
        "generator_process_cpu": sum(part.process_seconds for part in parts) / seconds,
        "reruns": sum(part.reruns for part in parts),
        "server": _server_side([part.server for part in parts if part.server]),
    }


def _pace(parts: Sequence[Measurement], rows: Rows, load: Load) -> dict[str, Any]:
    """Returns a cell's fields on how punctual its calls were and what they cost generator and server."""
    taken, calls = steady(rows), int((rows["phase"] == STEADY).sum())
    seconds, process = sum(part.seconds for part in parts), sum(part.process_seconds for part in parts)
    server_us = _server_side([part.server for part in parts if part.server]).cpu_us_per_request
    lags = np.array([lag for part in parts for lag in part.lag_seconds])
    return {
        "asked_rps": calls / seconds if load.scenario == "server" else None,
        "service_ms": _percentiles(taken["latency"] - taken["late"]),
        "late_ms_p99": significance.quantile(taken["late"] * 1e3, 0.99),
        "lag_ms_p99": significance.quantile(lags * 1e3, 0.99),
        "generator_us_per_request": _ratio(process, calls, 1e6),
        "cores_used": None if server_us is None else (process + server_us * 1e-6 * calls) / seconds,
    }


def _limit(part: Measurement, ceiling: float | None) -> stats.GeneratorLimit | None:
    reached = None if part.block.load.scenario == "server" else ceiling
    return stats.generator_limit(part.thread_seconds / part.seconds, part.answered / part.seconds, reached)


def _percentiles(latencies: NDArray[np.float64]) -> LatencyMs:
    return LatencyMs(*(significance.quantile(latencies * 1e3, q) for q in (0.5, 0.95, 0.99)))


def _server_side(deltas: Sequence[Deltas]) -> ServerSide:
    requests = _sum(delta.requests for delta in deltas)
    return ServerSide(
        requests=None if requests is None else round(requests),
        queue_ms_mean=_ratio(_sum(d.queue_seconds for d in deltas), _sum(d.queue_count for d in deltas), 1e3),
        compute_ms_mean=_ratio(_sum(d.compute_seconds for d in deltas), _sum(d.compute_count for d in deltas), 1e3),
        cpu_us_per_request=_ratio(_sum(d.cpu_seconds for d in deltas), requests, 1e6),
        handler_ms_mean=_ratio(_sum(d.handler_seconds for d in deltas), _sum(d.handler_count for d in deltas), 1e3),
        batch_rows_mean=_ratio(_sum(d.batch_rows for d in deltas), _sum(d.batch_count for d in deltas), 1.0),
    )


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _ratio(part: float | None, whole: float | None, scale: float) -> float | None:
    return part / whole * scale if part is not None and whole else None
