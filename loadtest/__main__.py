"""`pareto-loadtest`: loads the variants of a model on a running server and reports which to ship.

    pareto-loadtest run --target 127.0.0.1:8001 --model digits --users 1,8 --duration 3 --out runs/demo
    pareto-loadtest compare runs/before runs/after
    pareto-loadtest history runs
    pareto-loadtest doctor 127.0.0.1:8001
    pareto-loadtest tune --repository models --model digits --variant int8-openvino --p99 20ms

Progress goes to stderr; tables, and last what to ship and where the report is, to stdout. With `--json` all of that
goes to stderr, and stdout is one JSON document. The exit codes:

    run, replay    0 every variant was measured and every call answered, 1 not so, 2 the plan cannot be carried out,
                   128 + signal when interrupted
    compare        0 nothing was shown to be slower, 1 something was, 2 the runs cannot be compared
    history        0, 2 there is none
    doctor         0 `run` could load a variant, 1 it could not, 2 nobody answers
    tune           0 it names the settings to use, 1 none meets the constraints or calls failed, 2 it cannot be carried
                   out, 128 + signal when interrupted
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from loadtest import units
from loadtest.doctor import findings
from loadtest.interrupt import Interrupted, interruptible
from loadtest.plan import PLAN, Plan
from loadtest.tune.settings import Settings as Tuning
from protos.errors import UsageError
from protos.support import atomic, options, program


@dataclass(frozen=True)
class Comparing:
    """What `compare` takes beside the two runs."""

    tolerance: float = field(default=0.0, metadata=units.SHARE)
    """share by which a figure may get slower, such as 5%: only what is slower by more beyond doubt makes the exit code
    1 and fails in --junit"""
    markdown: Path | None = field(default=None, metadata={"metavar": "FILE"})
    """also write a summary in Markdown"""
    junit: Path | None = field(default=None, metadata={"metavar": "FILE"})
    """also write JUnit XML: a test case for each comparison"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    with program.quiet_end():
        flags = _parser().parse_args(arguments)
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC is imported later; what it would log is in its errors
        logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(message)s")
        logging.getLogger("locust").setLevel(logging.ERROR)  # its warnings are on how users are spawned
        try:
            return _command(flags)
        except UsageError as error:
            print(f"pareto-loadtest: {error}", file=sys.stderr)
            return 2
        except Interrupted as interrupt:
            print(f"pareto-loadtest: {interrupt}, {interrupt.left}", file=sys.stderr)
            return 128 + interrupt.signum


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pareto-loadtest", description="Load tests of served variants.")
    program.add_version(parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    measure = commands.add_parser("run", help="measure every variant of a model and write a report")
    measure.usage = "%(prog)s --target HOST:PORT --model NAME --out DIR [flag ...]"
    measure.add_argument("--plan", type=Path, metavar="FILE", help="a .toml with the values of flags that are left out")
    again = commands.add_parser("replay", help="measure as an earlier run did; flags change its plan")
    again.usage = "%(prog)s RUN --out DIR [flag ...]"
    again.add_argument("run", type=Path, help="the folder of that run")
    for loading in (measure, again):
        options.add_flags(loading, Plan)
    two = commands.add_parser("compare", help="say what got slower from one run to another, with significance")
    two.add_argument("before", type=Path, help="the folder of the first run")
    two.add_argument("after", type=Path, help="the folder of the second run")
    options.add_flags(two, Comparing)
    past = commands.add_parser("history", help="list the runs of a folder, and plot their figures")
    past.add_argument("history", type=Path, help="the folder that holds the runs, or its history.jsonl")
    past.add_argument("--out", type=Path, metavar="FILE", help="the page (default: history.html beside history.jsonl)")
    diagnose = commands.add_parser("doctor", help="say what a server of the protocol speaks, and what would fail")
    diagnose.add_argument("doctor", metavar="HOST:PORT", help="gRPC address of the server")
    diagnose.add_argument("-v", "--verbose", action="store_true", help="name the checks that passed, too")
    options.add_flags(diagnose, findings.Settings)
    tuning = commands.add_parser("tune", help="find the server settings that serve one variant best")
    tuning.set_defaults(tune=True)
    options.add_flags(tuning, Tuning)
    for each in (measure, again, two, past, diagnose, tuning):
        each.add_argument("--json", action="store_true", help="print one JSON document; all words go to stderr")
    return parser


def _command(flags: argparse.Namespace) -> int:
    if "doctor" in flags:
        return _diagnose(flags.doctor, options.read(findings.Settings, flags), flags.verbose, flags.json)
    if "before" in flags:
        return _compare(flags.before, flags.after, options.read(Comparing, flags), flags.json)
    if "history" in flags:
        return _history(flags.history, flags.out, flags.json)
    if "tune" in flags:
        return _tune(options.read(Tuning, flags), flags.json)
    if file := flags.run / PLAN if "run" in flags else flags.plan:
        options.fill(flags, Plan, file)
    return _run(options.read(Plan, flags), flags.json)


def _diagnose(target: str, settings: findings.Settings, verbose: bool, as_json: bool) -> int:
    with interruptible() as sleep:
        from loadtest.doctor.server_checks import check_server
        from protos.support.terminal import Screen

        diagnosis = check_server(target, settings, Screen(stderr=True), sleep)
    screen = Screen(stderr=as_json)
    for line in findings.lines(diagnosis, verbose):
        screen.say(line, indent=" " * 10)
    if as_json:
        print(diagnosis.document())
    return 0 if diagnosis.ready_for_load else 1


def _compare(before: Path, after: Path, settings: Comparing, as_json: bool) -> int:
    with program.doing(f"comparing {before.name} with {after.name}"):
        from loadtest.analysis.run_comparison import compare_runs
        from loadtest.report import changes as shown
        from protos.support.terminal import Screen

        changes = compare_runs(before, after, settings.tolerance)
    _write("--markdown", settings.markdown, shown.markdown(changes))
    _write("--junit", settings.junit, shown.junit(changes))
    screen = Screen(stderr=as_json)
    for table in shown.tables(changes, screen.width):
        screen.print(table, "")
    for text in (*changes.notes(), changes.summary):
        screen.say(text)
    if settings.markdown:
        screen.report(settings.markdown)
    if as_json:
        print(changes.document())
    return changes.exit_code


def _history(path: Path, out: Path | None, as_json: bool) -> int:
    from loadtest.analysis.history import HISTORY, read_history

    file = path / HISTORY if path.is_dir() else path
    entries = read_history(file)
    page = out or file.with_suffix(".html")
    with program.doing(f"drawing {len(entries)} runs"):
        from loadtest.report import history, terminal
        from protos.support.terminal import Screen

        _write("--out", page, history.page(entries))
    screen = Screen(stderr=as_json)
    screen.print(terminal.history_table(entries, screen.width), "")
    screen.say(terminal.last_run(entries))
    screen.report(page)
    if as_json:
        print(json.dumps({"runs": [asdict(entry) for entry in entries], "report": str(page)}))
    return 0


def _tune(settings: Tuning, as_json: bool) -> int:
    with interruptible() as sleep:
        with program.doing("loading Locust"):
            from loadtest.tune.tune import tune  # patches the process: before all else, and only if needed

        return tune(settings, as_json, sleep)


def _write(flag: str, path: Path | None, text: str) -> None:
    """Writes a file that a flag names, or none; `UsageError` where it cannot be written."""
    try:
        if path:
            atomic.write_text(path, text)
    except (OSError, ValueError) as error:  # a path may hold a null byte
        raise UsageError(f"{flag}: '{path}' cannot be written: {error}") from None


def _run(plan: Plan, as_json: bool) -> int:
    with interruptible() as sleep:
        with program.doing("loading Locust"):
            from loadtest.runner import REPORT, RESULTS, run  # patches the process: before all else, and only if needed

            # isort: split
            from loadtest.report import terminal
            from protos.support.terminal import Screen

        sleep(0)  # for a signal that was sent meanwhile
        results, decision = run(plan, Screen(stderr=True), sleep)
    screen = Screen(stderr=as_json)
    terminal.show(results, decision, screen)
    screen.report(plan.out / REPORT)
    if as_json:
        files = {"results": str(plan.out / RESULTS), "report": str(plan.out / REPORT)}
        print(terminal.document(results, decision, files))
    holds = all(checked.holds for checked in results.accuracy)
    return 0 if holds and not results.failures and not results.skipped else 1


if __name__ == "__main__":
    sys.exit(main())
