"""`pareto-loadtest tune` from beginning to end.

find       the variant in the repository, and the configurations that are worth measuring
start      the default's server, and where the memory allows it one for each other configuration
measure    all of them as `run` measures variants, each a target of its own
decide     which one to use (see `verdict`)
stop       all servers, however it ends
"""

from loadtest.runner import REPORT, check_out, run  # patches the process, so before all else

# isort: split
import sys

from rich.console import Console

from loadtest.interrupt import Sleep
from loadtest.tune.candidates import plan_text, worth_measuring
from loadtest.tune.servers import find_variant, standing_by
from loadtest.tune.settings import Settings
from loadtest.tune.table import document, notes, table
from loadtest.tune.verdict import make_verdict
from protos.support.machine import available_cores

TABLE_WIDTH = 80
"""Columns of the table where standard output is not a terminal."""


def tune(settings: Settings, sleep: Sleep) -> int:
    """Measures and prints; returns the exit code. Raises `UsageError` before any load, and whatever `sleep` raises."""
    progress, cores = Console(stderr=True), available_cores()
    check_out(settings.out)
    where = settings.repository, settings.model, settings.variant
    configurations = worth_measuring(settings, find_variant(*where), cores)
    _say(progress, plan_text(settings, configurations, cores))
    with standing_by(*where, sleep) as servers:
        servers.start_all(configurations, cores, lambda text: _say(progress, text))
        plan = settings.plan(servers.target)
        results, _ = run(plan, progress, sleep, lambda: servers.memory(settings.variant))
        names = {server.target.name_of(settings.variant): each for each, server in servers.ready.items()}
    verdict, report = make_verdict(results, names), plan.out / REPORT
    if settings.json:
        print(document(verdict, results, servers.left_out, report))
    else:
        out = Console(width=None if sys.stdout.isatty() else TABLE_WIDTH)
        out.print(table(verdict, results))
        for line in (*notes(verdict, results, servers.left_out), verdict.sentence, f"Report: {report}"):
            _say(out, line)
    return 0 if verdict.best and not results.failures else 1


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
