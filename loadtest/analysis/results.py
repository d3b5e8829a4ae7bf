"""From what was measured to `results.json`: one cell for each variant and load, over all rounds.

    requests, failures   every call that was sent, first calls and warm-up included: the server counts them too
    throughput_rps       successful answers per second of steady state
    latency_ms           percentiles of the successful calls that were due in the steady state, from when they were
                         due (in a closed loop: sent) until their answer
    service_ms           the same from when they were sent
    samples              how many calls those percentiles are made of; under an open loop they, and the throughput, are
                         of its unbroken block where there is one
    failure_texts        the different texts of failed calls with status and count; at most 20, then "(other texts)"

None (null in the file) stands for what was not measured. Nothing is rounded.
"""

import dataclasses
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from loadtest import stats
from loadtest.analysis.comparison import Comparison
from loadtest.analysis.grouped_warning import GroupedWarning
from loadtest.analysis.percentiles import LatencyMs, percentiles, quantile_interval
from loadtest.client.failures import Failure, merge
from loadtest.client.metrics_page import Deltas, Facts
from loadtest.client.payloads import Source
from loadtest.generator.opinion import SecondOpinion
from loadtest.measure.accuracy import Accuracy
from loadtest.measure.host import Conditions
from loadtest.measure.measurement import OK, Ceiling, Interleaved, ObjectLatency, Search, Stop, steady
from loadtest.plan import Load, Plan
from loadtest.users.recorder import FIRST, STATUSES, STEADY, Rows
from protos.support import significance
from protos.support.machine import Machine
from protos.support.strict import decode
from protos.telemetry import STAGES, Stage

SCHEMA = 4


@dataclass(frozen=True)
class ServerSide:
    """The server's own measurements, warm-up included."""

    requests: int | None
    queue_ms_mean: float | None
    compute_ms_mean: float | None
    cpu_us_per_request: float | None
    handler_ms_mean: float | None = None
    """From a parsed request to its finished answer, queue and engine included."""
    batch_rows_mean: float | None = None
    """Rows in one execution of the engine."""
    stage_ms_mean: dict[Stage, float] = field(default_factory=dict)
    """By stage; empty where the server does not say."""


@dataclass(frozen=True)
class Stretch:
    """A few seconds of slices under one load: what the machine and the server did meanwhile."""

    load: Load
    first_round: int
    last_round: int
    begun: float
    """Seconds since the run began."""
    conditions: Conditions
    probe_seconds: float
    """How long the noise probe took right after it."""
    server: dict[str, ServerSide]
    """By variant."""


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
    p99_interval_ms: tuple[float | None, float | None]
    """Between these the true p99 lies, with 95% confidence; None where there are too few samples to bound it."""
    service_ms: LatencyMs
    late_ms_p99: float | None
    """How late requests were sent."""
    lag_ms_p99: float | None
    """How late timers of the load generator were: this much of any latency may not be the server's."""
    first_call_ms: float | None
    """Median of the first calls, each of which opened a connection."""
    generator_cpu: float
    """Share of its slices, or of the block without a break, in which the thread that runs the users had a core."""
    generator_process_cpu: float
    """Cores that the load generator used in this time, gRPC's own threads included."""
    generator_us_per_request: float | None
    """CPU time of the load generator per call in this time, warm-up included."""
    cores_used: float | None
    """Cores that load generator and server used together."""
    ceiling_rps: float | None
    """Answers per second that the load generator gets from a server that answers at once."""
    generator_limit: stats.GeneratorLimit | None
    """By which rule the load generator may have been the limit (`stats.generator_limit`)."""
    rounds: int
    """Slices; a variant that was stopped has fewer than others."""
    server: ServerSide
    facts: Facts
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
    """What the servers call themselves."""
    inputs: Source
    metrics_url: str | None
    plan: Plan
    machine: Machine
    ceilings: tuple[Ceiling, ...]
    cells: tuple[Cell, ...]
    accuracy: tuple[Accuracy, ...]
    skipped: dict[str, str]
    """Variants that were not measured, each with the reason."""
    warnings: tuple[GroupedWarning, ...]
    stretches: tuple[Stretch, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    """Of every two variants under each load, by each figure for which they had calls enough."""
    stops: tuple[Stop, ...] = ()
    """Variants that got fewer rounds than the plan has, with the reason."""
    searches: tuple[Search, ...] = ()
    objects: tuple[ObjectLatency, ...] = ()
    """Latency by the number of objects, where the task has them."""
    second_opinion: SecondOpinion | None = None
    way_in: str = ""
    """What takes requests in, of those servers that are ours."""
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
    plan: Plan,
    measured: Interleaved,
    facts: Mapping[str, Facts],
    ceilings: Sequence[Ceiling] = (),
    *,
    loads: Sequence[Load] = (),
    alpha: float = 1 - significance.CONFIDENCE,
) -> tuple[Cell, ...]:
    """Returns a cell for each variant and load, in the order of `facts` and then of the `loads`, or else all.

    `alpha` is the share of runs in which the interval of a p99 may be wrong.
    """
    reached = {ceiling.load: ceiling.rps for ceiling in ceilings}
    keys = itertools.product(facts, loads or plan.loads)
    return tuple(_cell(plan, name, load, measured, facts[name], reached.get(load), alpha) for name, load in keys)


def make_stretches(measured: Interleaved) -> tuple[Stretch, ...]:
    """Returns what `results.json` keeps of the stretches."""
    return tuple(
        Stretch(
            load=each.load,
            first_round=each.first_round,
            last_round=each.last_round,
            begun=each.begun,
            conditions=each.conditions,
            probe_seconds=each.probe_seconds,
            server={variant: _server_side([moved], None) for variant, moved in each.server.items()},
        )
        for each in measured.stretches
    )


def _cell(
    plan: Plan,
    variant: str,
    load: Load,
    measured: Interleaved,
    facts: Facts,
    ceiling: float | None,
    alpha: float,
) -> Cell:
    stretches = [each for each in measured.stretches if each.load == load]
    blocks = [each for each in measured.blocks if (each.block.variant, each.block.load) == (variant, load)]
    samples = measured.samples
    rows, slices = samples.of(variant, load), samples.slices_of(variant, load)
    first = np.compress((rows["phase"] == FIRST) & (rows["status"] == OK), rows["latency"])
    server = [*(each.server.get(variant) for each in stretches), *(block.server for block in blocks)]
    failures = [*(each.failures.get(variant, ()) for each in stretches), *(block.failures for block in blocks)]
    lags = [*(each.lag_seconds.get(variant, ()) for each in stretches), *(block.lag_seconds for block in blocks)]
    known = [each for each in server if each]
    return Cell(
        model=plan.model,
        variant=variant,
        load=load,
        connections=plan.users_of(load),
        rows=plan.rows_of(load),
        requests=len(rows),
        failures=int((rows["status"] != OK).sum()),
        statuses={STATUSES[status]: count for status, count in sorted(Counter(rows["status"].tolist()).items())},
        first_call_ms=float(np.median(first)) * 1e3 if len(first) else None,
        lag_ms_p99=significance.quantile(np.array([*itertools.chain(*lags)]) * 1e3, 0.99),
        ceiling_rps=ceiling,
        rounds=int((slices["round"] > 0).sum()),
        facts=facts,
        server=_server_side(known, _ratio(float(slices["server"].sum()), float(slices["calls"].sum()), 1e6)),
        failure_texts=merge(itertools.chain(*failures)),
        **_figures(load, samples.of_figures(variant, load), samples.slices_of_figures(variant, load), ceiling, alpha),
    )


def _figures(load: Load, rows: Rows, slices: Rows, ceiling: float | None, alpha: float) -> dict[str, Any]:
    """Returns a cell's fields of the steady state."""
    taken, calls = steady(rows), int((rows["phase"] == STEADY).sum())
    seconds, whole = float(slices["seconds"].sum()), float(slices["whole"].sum())
    thread, process, server = (float(slices[name].sum()) for name in ("thread", "process", "server"))
    rps = float(slices["answered"].sum()) / seconds if seconds else 0.0
    reached = None if load.scenario == "server" else ceiling
    return {
        "samples": len(taken),
        "seconds": seconds,
        "throughput_rps": rps,
        "asked_rps": calls / seconds if load.scenario == "server" and seconds else None,
        "latency_ms": percentiles(taken["latency"]),
        "p99_interval_ms": quantile_interval(taken["latency"][np.argsort(taken["due"])] * 1e3, 0.99, alpha),
        "service_ms": percentiles(taken["latency"] - taken["late"]),
        "late_ms_p99": significance.quantile(taken["late"] * 1e3, 0.99),
        "generator_cpu": thread / whole if whole else 0.0,
        "generator_process_cpu": process / whole if whole else 0.0,
        "generator_us_per_request": _ratio(process, float(slices["calls"].sum()), 1e6),
        "cores_used": None if math.isnan(server) or not whole else (process + server) / whole,
        "generator_limit": stats.generator_limit(thread / whole if whole else 0.0, rps, reached),
    }


def _server_side(deltas: Sequence[Deltas], cpu_us: float | None) -> ServerSide:
    requests, answered = (_sum(getattr(d, name) for d in deltas) for name in ("requests", "handler_count"))
    spent = {stage: _ratio(_sum(d.stage_seconds.get(stage) for d in deltas), answered, 1e3) for stage in STAGES}
    return ServerSide(
        requests=None if requests is None else round(requests),
        queue_ms_mean=_ratio(_sum(d.queue_seconds for d in deltas), _sum(d.queue_count for d in deltas), 1e3),
        compute_ms_mean=_ratio(_sum(d.compute_seconds for d in deltas), _sum(d.compute_count for d in deltas), 1e3),
        cpu_us_per_request=cpu_us,
        handler_ms_mean=_ratio(_sum(d.handler_seconds for d in deltas), answered, 1e3),
        batch_rows_mean=_ratio(_sum(d.batch_rows for d in deltas), _sum(d.batch_count for d in deltas), 1.0),
        stage_ms_mean={stage: mean for stage, mean in spent.items() if mean is not None},
    )


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _ratio(part: float | None, whole: float | None, scale: float) -> float | None:
    return part / whole * scale if part is not None and not math.isnan(part) and whole else None
