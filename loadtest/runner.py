"""A run from beginning to end: survey, blocks in turn, figures, and a folder that appears whole or not at all.

    survey      which variants are ready, what they take
    ceiling     what the load generator reaches against a server that answers at once
    measure     for each block: load (first calls, warm-up, steady state), between two looks at server and machine;
                again where the machine was not the same before and after (see `canary`)
    search      for the highest rate of each variant, if asked for (see `capacity`)
    write       results.json, samples.npz and report.html beside `--out`, then renamed to it

The users run in this process, on one thread; its CPU time is part of the results.
"""

from loadtest.measure.block import Bench, Payloads  # makes this a Locust process, so before all else

# isort: split
import datetime
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from loadtest.analysis.decision import Decision, decide
from loadtest.analysis.results import Measurement, Results, make_cells
from loadtest.analysis.warnings import make_warnings
from loadtest.client.discovery import Subjects, find
from loadtest.client.payloads import Payload, Source, make_inputs, make_payloads
from loadtest.interrupt import Interrupted, Sleep
from loadtest.measure import accuracy, ceiling
from loadtest.measure.accuracy import Accuracy, Check
from loadtest.measure.checkpoint import Journal
from loadtest.measure.max_rate import search_all
from loadtest.measure.noise_probe import Canary, judge
from loadtest.plan import PLAN, Plan, schedule
from loadtest.progress import narrate
from loadtest.report.page import write_report
from loadtest.users.recorder import Samples, join
from protos.errors import UsageError
from protos.support import atomic, machine, options

LIBRARIES = ("locust", "gevent", "grpcio", "protobuf", "numpy", "plotly")
"""Those whose versions are saved with the results."""

RESULTS, SAMPLES, REPORT = "results.json", "samples.npz", "report.html"
TRIALS = "trials.npz"
"""The samples of the searches' trials."""

ROWS_OF_CHECK = 8
"""Images in one request, where accuracy is checked."""


def run(plan: Plan, console: Console, sleep: Sleep) -> tuple[Results, Decision]:
    """Carries out a plan and writes `plan.out`; progress goes to `console`.

    Raises `UsageError` before any load where the plan cannot be carried out, and whatever `sleep` raises. Blocks
    that were measured until then are kept (see `journal`), and the same plan goes on with them.
    """
    _check_free(plan.out)
    started, where = _now(), machine.describe(*LIBRARIES)
    found = find(plan, sleep)
    payloads, source = _payloads(plan, found)
    checks = _checks(plan, found) if plan.check_accuracy else {}
    facts = {name: subject.facts for name, subject in found.by_name.items()}
    journal = Journal(plan, facts)
    try:
        origin = time.perf_counter() - (time.time() - journal.began)
        bench = Bench(plan, found.by_name, payloads, origin, sleep)
        ceilings = ceiling.measure(bench, plan.ceiling) if plan.ceiling else ()
        measurements = _measure_all(bench, journal, console)
        searches, trials = search_all(bench, journal, console) if plan.find_max_rate else ((), None)
        checked = tuple(_check_accuracy(plan, variant, check, console, sleep) for variant, check in checks.items())
        cells = make_cells(plan, measurements, facts, ceilings)
        results = Results(
            started=started,
            finished=_now(),
            server=", ".join(found.servers),
            inputs=source,
            metrics_url=found.metrics[0].url,
            plan=plan,
            machine=where,
            ceilings=ceilings,
            cells=cells,
            accuracy=checked,
            skipped=dict(found.skipped),
            warnings=make_warnings(
                cells,
                found.skipped,
                [page.missing for page in found.metrics if page.missing],
                where.cores if plan.on_one_machine else None,
                checked,
            ),
            searches=searches,
        )
        decision = decide(results)
        _write(results, decision, join([measurement.samples for measurement in measurements]), trials, sleep)
    except Interrupted as interrupt:
        if kept := journal.kept():
            interrupt.left = f"'{journal.folder}' keeps what was measured, {kept} blocks: the same command goes on"
        raise
    finally:
        if not journal.kept():
            journal.remove()
    journal.remove()
    return results, decision


def _measure_all(bench: Bench, journal: Journal, console: Console) -> list[Measurement]:
    """Every block of the plan, but those that the journal has; again where the machine was not the same."""
    blocks, canary, reruns = schedule(bench.plan, tuple(bench.subjects)), Canary(), 0
    readings, measurements = [canary.measure() for _ in range(3)], list[Measurement]()
    with closing(narrate(blocks, bench.plan.warmup + bench.plan.duration, console)) as turns:
        for number, block in enumerate(turns, 1):
            kept, again = journal.load(str(number), block), 0
            while kept is None:
                measured = bench.measure(block)
                readings.append(canary.measure())
                judgement = judge(readings, again, reruns, bench.plan.reruns * len(blocks))
                if judgement == "rerun":
                    again, reruns = again + 1, reruns + 1
                    continue
                kept = replace(measured, canary_seconds=readings[-1], reruns=again, steady=judgement == "steady")
                journal.keep(str(number), kept)
            measurements.append(kept)
    return measurements


def _checks(plan: Plan, found: Subjects) -> dict[str, Check]:
    """What to ask of each variant of the first server."""
    ours = {each.variant: each.metadata for each in found.by_name.values() if not each.target.name}
    return accuracy.prepare(plan.repository, plan.model, ours)


def _check_accuracy(plan: Plan, variant: str, check: Check, console: Console, sleep: Sleep) -> Accuracy:
    """The test split over the wire, from as many clients as the plan's largest load has."""
    console.print(f"{variant}, {len(check.test)} test images over the wire", highlight=False, markup=False)
    clients = max((plan.users_of(load) for load in plan.loads), default=plan.connections)
    return accuracy.check_accuracy(plan.targets[0].address, check, clients, ROWS_OF_CHECK, plan.deadline, sleep)


def _payloads(plan: Plan, found: Subjects) -> tuple[Payloads, Source]:
    """The requests for each subject."""
    payloads = dict[tuple[str, int], Sequence[Payload]]()
    for name, subject in found.by_name.items():
        for rows in {plan.rows_of(load) for load in plan.loads} | ({plan.rows} if plan.find_max_rate else set()):
            inputs = make_inputs(plan.model, subject.metadata, plan.repository, plan.seed, rows, plan.form)
            payloads[name, rows] = make_payloads(plan.model, subject.variant, subject.metadata, inputs, name)
    return payloads, inputs.source


def _write(results: Results, decision: Decision, samples: Samples, trials: Samples | None, sleep: Sleep) -> None:
    """The run's folder, whole or not at all."""
    plan = results.plan
    with atomic.new_folder(plan.out) as folder:
        samples.save(folder / SAMPLES)
        if trials:
            trials.save(folder / TRIALS)
        results.save(folder / RESULTS)
        (folder / PLAN).write_text(options.to_toml(plan, without=("out",)))
        write_report(results, decision, samples, folder / REPORT)
        sleep(0)  # the last moment to give up


def _check_free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out: '{out}' is there already and not an empty folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out: {error}") from error


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
