"""A run from beginning to end: survey, blocks in turn, figures, and a folder that appears whole or not at all.

    survey      which variants are ready, what they take
    measure     for each block: metrics, load (first calls, warm-up, steady state), metrics
    write       results.json, samples.npz and report.html beside `--out`, then renamed to it

The users run in this process, on one thread; its CPU time is part of the results.
"""

from loadtest.locustfile import swarm  # makes this a Locust process, so before all else

# isort: split
import datetime
import logging
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from loadtest.arrivals import poisson
from loadtest.cautions import make_warnings
from loadtest.client import Client
from loadtest.interrupt import Sleep
from loadtest.payloads import Payload, Source, make_inputs, make_payloads
from loadtest.plan import Block, Plan, schedule
from loadtest.progress import narrate
from loadtest.recorder import Recorder, join
from loadtest.report import write_report
from loadtest.results import Measurement, Results, make_cells
from loadtest.scrape import Facts, Page, ScrapeError, deltas, scrape
from loadtest.survey import Survey, survey, wait_until_ready
from protos import machine
from protos.errors import UsageError

LIBRARIES = ("locust", "gevent", "grpcio", "protobuf", "numpy", "plotly")
"""Those whose versions are saved with the results."""

RESULTS, SAMPLES, REPORT = "results.json", "samples.npz", "report.html"

Payloads = Mapping[tuple[str, int], Sequence[Payload]]
"""Requests by variant and rows in each."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Metrics:
    """The server's metrics page, if it has one."""

    url: str | None
    missing: str | None
    """Why there is none."""

    def read(self) -> Page | None:
        """The page now; None where the server has none or is gone."""
        if self.url is None:
            return None
        try:
            return scrape(self.url)
        except ScrapeError as error:
            logger.warning("%s", error)
            return None


def run(plan: Plan, console: Console, sleep: Sleep) -> Results:
    """Carries out a plan and writes `plan.out`; progress goes to `console`.

    Raises `UsageError` before any load where the plan cannot be carried out, and whatever `sleep` raises;
    nothing is written then.
    """
    with _output(plan.out) as folder:
        started, where = _now(), machine.describe(*LIBRARIES)
        found, payloads, source = _prepare(plan, sleep)
        metrics = _find_metrics(plan)
        facts = _facts(plan.model, found, metrics.read())
        origin, measurements = time.perf_counter(), list[Measurement]()
        blocks = schedule(plan, tuple(found.ready))
        with closing(narrate(blocks, plan.warmup + plan.duration, console)) as turns:
            for block in turns:
                measurements.append(_measure(plan, block, found, payloads, metrics, origin, sleep))
        cells = make_cells(plan, measurements, facts)
        results = Results(
            started=started,
            finished=_now(),
            server=found.server,
            inputs=source,
            metrics_url=metrics.url,
            plan=plan,
            machine=where,
            cells=cells,
            skipped=dict(found.skipped),
            warnings=make_warnings(
                cells,
                found.skipped,
                [metrics.missing] if metrics.missing else [],
                where.cores if plan.on_one_machine else None,
            ),
        )
        samples = join([measurement.samples for measurement in measurements])
        samples.save(folder / SAMPLES)
        results.save(folder / RESULTS)
        write_report(results, samples, folder / REPORT)
        sleep(0)  # the last moment to give up
    return results


def _prepare(plan: Plan, sleep: Sleep) -> tuple[Survey, Payloads, Source]:
    """What the server has, and the requests for each variant that is ready."""
    client = Client(plan.target, plan.deadline)
    try:
        wait_until_ready(client, plan.wait, sleep)
        found = survey(client, plan.model, plan.variants)
    finally:
        client.close()
    for variant, reason in found.skipped.items():
        logger.warning("variant '%s' is left out: %s", variant, reason)
    payloads = dict[tuple[str, int], Sequence[Payload]]()
    for variant, metadata in found.ready.items():
        for rows in {plan.rows_of(load) for load in plan.loads}:
            inputs = make_inputs(plan.model, metadata, plan.repository, plan.seed, rows, plan.form)
            payloads[variant, rows] = make_payloads(plan.model, variant, metadata, inputs)
    return found, payloads, inputs.source


def _find_metrics(plan: Plan) -> _Metrics:
    """The page that was asked for, which must be there; or the one above the target's port, which may be."""
    if plan.metrics_url:
        try:
            scrape(plan.metrics_url)
        except ScrapeError as error:
            raise UsageError(f"--metrics-url: {error}") from error
        return _Metrics(plan.metrics_url, None)
    host, _, port = plan.target.rpartition(":")
    url = f"http://{host}:{int(port) + 1}/metrics"
    try:
        scrape(url)
    except ScrapeError as error:
        missing = f"no server-side figures: {error}; --metrics-url says where the page is"
        logger.warning("%s", missing)
        return _Metrics(None, missing)
    return _Metrics(url, None)


def _facts(model: str, found: Survey, page: Page | None) -> dict[str, Facts]:
    return {variant: page.facts(model, variant) if page else Facts() for variant in found.ready}


def _measure(
    plan: Plan,
    block: Block,
    found: Survey,
    payloads: Payloads,
    metrics: _Metrics,
    origin: float,
    sleep: Sleep,
) -> Measurement:
    """One block. Calls under way at its end are waited for, so that every call sent has its sample."""
    recorder, before, load, users = Recorder(), metrics.read(), block.load, plan.users_of(block.load)
    requests, times = payloads[block.variant, plan.rows_of(load)], _arrivals(plan, block)
    with swarm(plan.target, requests, users, plan.deadline, recorder.on_request, plan.transport, times) as running:
        recorder.wait_for_users(users, plan.deadline, sleep)
        begun = running.begin() + plan.warmup
        sleep(begun - time.perf_counter())
        ready, opened = recorder.first_calls, _clocks()
        sleep(plan.duration)
        closed = _clocks()
    seconds, thread, process = (end - start for start, end in zip(opened, closed, strict=True))
    window = (begun, begun + seconds)
    after = metrics.read()
    return Measurement(
        block=block,
        samples=recorder.samples(origin, window, block, tuple(found.ready), tuple(load.key for load in plan.loads)),
        answered=recorder.answered(window),
        users_begun=ready,
        seconds=seconds,
        thread_seconds=thread,
        process_seconds=process,
        lag_seconds=tuple(running.lags),
        server=deltas(before, after, plan.model, block.variant) if before and after else None,
    )


def _arrivals(plan: Plan, block: Block) -> Sequence[float] | None:
    """When the requests of a block are due, in seconds after it begins; None where the server sets the pace."""
    if block.load.scenario != "server":
        return None
    random = np.random.default_rng([plan.seed, block.round, zlib.crc32(block.variant.encode())])
    warmup = poisson(block.load.level, plan.warmup, random)
    return [*warmup, *(plan.warmup + poisson(block.load.level, plan.duration, random))]


@contextmanager
def _output(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out` that takes its place when the block ends well, and is removed if not."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out: '{out}' is there already and not an empty folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise UsageError(f"--out: {error}") from error
    try:
        folder.chmod(0o755)
        yield folder
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _clocks() -> tuple[float, float, float]:
    """Seconds of wall time, of CPU time of this thread, which runs all users, and of this process."""
    return time.perf_counter(), time.thread_time(), time.process_time()


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
