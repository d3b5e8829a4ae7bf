"""Cells with given figures, for tests of what is made of them."""

from dataclasses import replace
from pathlib import Path

from loadtest.analysis.results import Cell, LatencyMs, Results, Round, ServerSide
from loadtest.analysis.warnings import make_warnings
from loadtest.client.metrics_page import Facts
from loadtest.measure.host import Conditions
from loadtest.plan import Load, Plan
from loadtest.stats import GeneratorLimit
from protos.support.machine import Machine

PLAN = Plan(target="localhost:1", model="toy", out=Path("runs/x"), users=(1,))
CALM = Conditions(4.5, steal=0.0, throttled_seconds=None, load=0.5, own=0.4, others=0.01)
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
    users_begun: int | None = None,
    megabytes: float | None = None,
    p50s: tuple[float, ...] = (),
) -> Cell:
    """A cell named `<recipe>-<runtime>` of two rounds, the second the worse; p50 and p95 are parts of `p99`.

    `p50s` makes it a cell of so many rounds with these medians.
    """
    recipe, _, runtime = variant.rpartition("-")
    memory = None if megabytes is None else int(megabytes * 1e6)
    latency = LatencyMs(p99 / 4, p99 / 2, p99) if p99 else LatencyMs(1.0, 2.0, None)
    samples = 900 if p99 else 120
    worst = 0.97 if generator_limit == "thread" else 0.5
    rounds = tuple(
        Round(number, begun, 500, 0, samples // 2, 4.5, rps, latency, cpu, 1.5 * cpu, CALM, 0.03, 0, True, server)
        for number, begun, cpu in ((1, users, 0.5), (2, users if users_begun is None else users_begun, worst))
    )
    if p50s:
        rounds = tuple(
            replace(rounds[0], round=i, latency_ms=LatencyMs(p50, 2 * p50, None)) for i, p50 in enumerate(p50s, 1)
        )
    return Cell(
        model="toy",
        variant=variant,
        load=closed(users),
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
        service_ms=latency,
        late_ms_p99=0.0,
        lag_ms_p99=0.25,
        first_call_ms=5.0,
        generator_cpu=(0.5 + worst) / 2,
        generator_process_cpu=1.5 * (0.5 + worst) / 2,
        generator_us_per_request=250.0,
        cores_used=cores_used,
        ceiling_rps=6000.0,
        generator_limit=generator_limit,
        reruns=0,
        unsteady=0,
        server=server,
        facts=Facts(recipe, runtime, "fp32", metric, quality, 1.0, 1000, memory) if quality is not None else Facts(),
        rounds=rounds,
    )


def results(*cells: Cell, users: tuple[int, ...] = (1,)) -> Results:
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
    )
