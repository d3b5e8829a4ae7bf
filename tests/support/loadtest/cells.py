"""Cells with given figures, for tests of what is made of them."""

from dataclasses import replace
from pathlib import Path

from loadtest.analysis.comparison import Comparison, Figure, Verdict
from loadtest.analysis.percentiles import LatencyMs
from loadtest.analysis.results import Cell, Results, ServerSide
from loadtest.analysis.warnings import make_warnings
from loadtest.client.metrics_page import Facts
from loadtest.plan import Load, Plan
from loadtest.stats import GeneratorLimit
from protos.support.machine import Machine

PLAN = Plan(target="localhost:1", model="toy", out=Path("runs/x"), users=(1,))
NO_SERVER = ServerSide(requests=None, queue_ms_mean=None, compute_ms_mean=None, cpu_us_per_request=None)


def closed(users: int) -> Load:
    """So many users, each waiting for its answers."""
    return Load("closed", users)


def cell(
    variant: str,
    p99: float | None = 1.0,
    quality: float | None = 0.9,
    *,
    metric: str = "top1",
    rps: float = 100.0,
    users: int = 1,
    failures: int = 0,
    generator_limit: GeneratorLimit | None = None,
    server: ServerSide = NO_SERVER,
    cores_used: float | None = None,
    megabytes: float | None = None,
    p99_interval: tuple[float | None, float | None] | None = None,
    load: Load | None = None,
    drop_interval: tuple[float, float] | None = None,
) -> Cell:
    """A cell named `<recipe>-<runtime>`; p50 and p95 are parts of `p99`, whose interval is 10% to either side."""
    recipe, _, runtime = variant.rpartition("-")
    memory = None if megabytes is None else int(megabytes * 1e6)
    facts = Facts(recipe, runtime, "fp32", metric, quality, 1.0, 1000, memory, drop_interval=drop_interval)
    latency = LatencyMs(p99 / 4, p99 / 2, p99) if p99 else LatencyMs(1.0, 2.0, None)
    samples = 900 if p99 else 120
    bounds = (0.9 * p99, 1.1 * p99) if p99 else (None, None)
    return Cell(
        model="toy",
        variant=variant,
        load=load or closed(users),
        connections=users,
        rows=1,
        requests=1000,
        failures=failures,
        statuses={"OK": 1000 - failures} | ({"UNAVAILABLE": failures} if failures else {}),
        samples=samples,
        seconds=9.0,
        throughput_rps=rps,
        asked_rps=None,
        latency_ms=latency,
        p99_interval_ms=bounds if p99_interval is None else p99_interval,
        service_ms=latency,
        late_ms_p99=0.0,
        lag_ms_p99=0.25,
        first_call_ms=5.0,
        generator_cpu=0.97 if generator_limit else 0.5,
        generator_process_cpu=0.75,
        generator_us_per_request=250.0,
        cores_used=cores_used,
        ceiling_rps=6000.0,
        generator_limit=generator_limit,
        rounds=50,
        server=server,
        facts=facts if quality is not None else Facts(),
    )


def comparison(
    faster: str, slower: str, ratio: float, verdict: Verdict = "clear", figure: Figure = "throughput", users: int = 1
) -> Comparison:
    """What was shown of two variants; the interval lets go of 1 where the verdict is clear."""
    low = ratio**0.5 if verdict == "clear" else 1 / ratio
    return Comparison(closed(users), figure, faster, slower, ratio, (low, ratio**1.5), verdict, 50)


def results(*cells: Cell, users: tuple[int, ...] = (1,), comparisons: tuple[Comparison, ...] = ()) -> Results:
    """A run of these cells."""
    return Results(
        started="2026-01-01T00:00:00+00:00",
        finished="2026-01-01T00:01:00+00:00",
        server="pareto-serve 0.1.0",
        inputs="golden",
        metrics_url=None,
        plan=replace(PLAN, users=users),
        machine=Machine("Some CPU", 2, ("avx2",), 2**31, "Linux", "3.11", {"locust": "2.47"}, (0.5, 0.25, 0.125)),
        ceilings=(),
        cells=cells,
        accuracy=(),
        skipped={},
        warnings=make_warnings(cells, {}),
        comparisons=comparisons,
    )
