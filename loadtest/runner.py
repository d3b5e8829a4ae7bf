"""A run from beginning to end.

    discover    which variants are ready, what they take
    ceiling     what the load generator reaches against a server that answers at once
    measure     all loads, in slices (see `interleaved`)
    objects     latency by how many objects an image holds, where the task has them (see `objects`)
    search      the highest rate that each variant holds, with `--find-max-rate` (see `max_rate`)
    check       the accuracy over the wire, with `--check-accuracy` (see `accuracy`)
    opinion     what h2load says of one variant, and what the server alone could do (see `second_opinion`)
    write       results.json, samples.npz and report.html beside `--out`, then renamed to it, and a line of history

The users run in this process, on one thread; its CPU time is part of the results.
"""

from loadtest.measure.block import Payloads, RunContext  # makes this a Locust process, so before all else

# isort: split
import datetime
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from loadtest.analysis import history
from loadtest.analysis.comparison import ALPHA, FIGURES, Comparison, Slices, compare_all
from loadtest.analysis.results import Results, make_cells, make_stretches
from loadtest.analysis.warnings import make_warnings
from loadtest.client.credentials import read_credentials
from loadtest.client.discovery import Discovery, discover
from loadtest.client.metrics_page import Facts
from loadtest.client.payloads import Payload, Source, form_of, make_inputs, make_payloads
from loadtest.decision.decision import Decision, decide
from loadtest.decision.race import Race, alphas_of
from loadtest.generator import second_opinion
from loadtest.interrupt import Sleep
from loadtest.measure import accuracy, ceiling, objects
from loadtest.measure.accuracy import Accuracy, Check
from loadtest.measure.checkpoint import ROOM, checkpointed
from loadtest.measure.interleaved import measure_loads
from loadtest.measure.max_rate import search_all
from loadtest.measure.measurement import Interleaved
from loadtest.plan import PLAN, Plan
from loadtest.report.page import write_report
from loadtest.users.recorder import Samples
from protos.errors import UsageError
from protos.support import atomic, machine, options, program

LIBRARIES = ("locust", "gevent", "grpcio", "protobuf", "numpy", "plotly")
"""Libraries whose versions are saved with the results."""
RESULTS, SAMPLES, TRIALS, REPORT = "results.json", "samples.npz", "trials.npz", "report.html"
"""Files of a run's folder; `TRIALS` has the samples of the searches."""

ROWS_OF_CHECK = 8
"""Images in one request of an accuracy check."""

ReadMemory = Callable[[], Mapping[str, int]]
"""Returns how many bytes the server of each variant takes by now, by the variant's name in the results."""


def run(plan: Plan, console: Console, sleep: Sleep, memory: ReadMemory | None = None) -> tuple[Results, Decision]:
    """Carries out a plan and writes `plan.out`; progress goes to `console`.

    Raises `UsageError` before any load where the plan cannot be carried out, and whatever `sleep` raises. The blocks
    measured until then are kept (see `checkpoint`), and the same plan goes on with them.

    With `memory` the plan's servers live no longer than this run, so that no other can go on with it, and what they
    take counts in place of the manifests' figures.
    """
    check_out(plan.out)
    credentials = read_credentials(plan)
    started, where = _now(), machine.describe(*LIBRARIES)
    with program.doing(f"connecting to {plan.target}"):
        found = discover(plan, sleep, credentials)
    metadata = next(iter(found.by_name.values())).metadata
    plan = replace(plan, form=form_of(plan.form, plan.model, metadata, plan.repository))
    with program.doing(f"making requests for {len(found.by_name)} variants"):
        payloads, source = _payloads(plan, found)
    ours = {each.variant: each.metadata for each in found.by_name.values() if not each.target.name}
    checks = accuracy.prepare(plan.repository, plan.model, ours) if plan.check_accuracy else {}
    facts = _facts(found, memory)
    with checkpointed(plan, facts, resumable=memory is None) as checkpoint:
        origin = time.perf_counter() - (time.time() - checkpoint.began)
        context = RunContext(plan, found.by_name, payloads, origin, sleep, credentials)
        with program.doing(f"measuring what the load generator can do, {plan.ceiling:g} s for each load"):
            ceilings = ceiling.measure(context, plan.ceiling) if plan.ceiling else ()
        measured = measure_loads(context, checkpoint, console, Race(plan, facts).look)
        searches, trials = search_all(context, checkpoint, console) if plan.find_max_rate else ((), None)
        with program.doing("measuring latency by the number of objects, where images have them"):
            by_objects, no_objects = objects.measure(context)
        checked = tuple(_check_accuracy(context, name, check, console) for name, check in checks.items())
        cells = make_cells(plan, measured, _facts(found, memory), ceilings)
        second = second_opinion.ask(context, cells, console)
        stretches = make_stretches(measured)
        warnings = make_warnings(
            cells,
            found.skipped,
            servers=len(found.servers),
            no_figures=found.no_figures,
            no_objects=no_objects,
            cores=where.cores if plan.on_one_machine else None,
            accuracy=checked,
            stretches=stretches,
        )
        results = Results(
            started=started,
            finished=_now(),
            server=", ".join(found.servers),
            inputs=source,
            metrics_url=next(iter(found.by_name.values())).metrics_url,
            plan=plan,
            machine=where,
            ceilings=ceilings,
            cells=cells,
            accuracy=checked,
            skipped=dict(found.skipped),
            warnings=warnings,
            stretches=stretches,
            comparisons=tuple(_compare(plan, measured)),
            stops=measured.stops,
            searches=searches,
            objects=by_objects,
            second_opinion=second,
            way_in=", ".join(found.ways_in),
        )
        decision = decide(results)
        checkpoint.release()
        with program.doing("writing the report"):
            _write(results, decision, measured.samples, trials, sleep)
        winner = decision.shown.winner.cell if decision.shown and decision.shown.winner else None
        history.append(history.entry_of(results, winner), plan.out.parent / history.HISTORY)
    return results, decision


def _facts(found: Discovery, memory: ReadMemory | None) -> dict[str, Facts]:
    """Returns what is known of each variant, with the memory of its server where that can be read."""
    taken = memory() if memory else {}
    return {name: replace(each, memory_bytes=taken.get(name, each.memory_bytes)) for name, each in found.facts.items()}


def _compare(plan: Plan, measured: Interleaved) -> Iterator[Comparison]:
    """Yields what every figure says of every two variants under each load."""
    for load in plan.loads:
        slices = Slices(measured.samples, load)
        alphas = alphas_of(measured.stops, load, slices.variants, ALPHA / 2) if plan.until_decided else None
        for figure in FIGURES:
            yield from compare_all(slices, figure, alphas)


def _check_accuracy(context: RunContext, variant: str, check: Check, console: Console) -> Accuracy:
    """Sends the test split over the wire, from as many clients as the plan's largest load has users."""
    console.print(f"{variant}, {len(check.test)} test images over the wire", highlight=False, markup=False)
    plan = context.plan
    clients = max((plan.users_of(load) for load in plan.loads), default=plan.connections)
    how = (clients, ROWS_OF_CHECK, plan.deadline, context.sleep, context.credentials)
    return accuracy.check_accuracy(plan.targets[0].address, check, *how)


def _payloads(plan: Plan, found: Discovery) -> tuple[Payloads, Source]:
    """Makes the requests for each variant."""
    payloads = dict[tuple[str, int], Sequence[Payload]]()
    for name, served in found.by_name.items():
        for rows in {plan.rows_of(load) for load in plan.loads} | ({plan.rows} if plan.find_max_rate else set()):
            inputs = make_inputs(plan.model, served.metadata, plan.repository, plan.seed, rows, plan.form)
            payloads[name, rows] = make_payloads(plan.model, served.variant, served.metadata, inputs, name)
    return payloads, inputs.source


def _write(results: Results, decision: Decision, samples: Samples, trials: Samples | None, sleep: Sleep) -> None:
    """Writes the run's folder, whole or not at all."""
    plan = results.plan
    with atomic.new_folder(plan.out) as folder:
        samples.save(folder / SAMPLES)
        if trials:
            trials.save(folder / TRIALS)
        results.save(folder / RESULTS)
        (folder / PLAN).write_text(options.to_toml(plan, without=("out",)))
        write_report(results, decision, samples, folder / REPORT)
        sleep(0)  # the last moment to give up


def check_out(out: Path) -> None:
    """Makes the folder as the end of the run will, filled to `ROOM`, and removes it; `UsageError` where that fails."""
    try:
        there = out.exists()
        if there and (not out.is_dir() or any(out.iterdir())):
            raise UsageError(f"--out: '{out}' is there already and not an empty folder")
        with atomic.new_folder(out) as folder:
            (folder / SAMPLES).write_bytes(bytes(ROOM))
            (folder / SAMPLES).unlink()
        if not there:
            out.rmdir()
    except (OSError, ValueError) as error:  # a path may hold a null byte
        raise UsageError(f"--out: '{out}' cannot be written: {error}") from None


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
