"""`pareto-loadtest tune` from beginning to end.

find       the variant in the repository, and the configurations that are worth measuring
start      the default's server, and where the memory allows it one for each other configuration
measure    all of them as `run` measures variants, each a target of its own
decide     which one to use (see `verdict`)
stop       all servers, however it ends
"""

from loadtest.runner import REPORT, check_out, run  # patches the process, so before all else

# isort: split
from loadtest.interrupt import Sleep
from loadtest.tune.candidates import plan_text, worth_measuring
from loadtest.tune.servers import find_variant, standing_by
from loadtest.tune.settings import Settings
from loadtest.tune.table import document, notes, table
from loadtest.tune.verdict import make_verdict
from protos.support.machine import available_cores
from protos.support.terminal import Screen


def tune(settings: Settings, as_json: bool, sleep: Sleep) -> int:
    """Measures and prints; returns the exit code. Raises `UsageError` before any load, and whatever `sleep` raises."""
    progress, cores = Screen(stderr=True), available_cores()
    check_out(settings.out)
    where = settings.repository, settings.model, settings.variant
    configurations = worth_measuring(settings, find_variant(*where), cores)
    progress.say(plan_text(settings, configurations, cores))
    with standing_by(*where, sleep) as servers:
        servers.start_all(configurations, cores, progress.say)
        plan = settings.plan(servers.target)
        results, _ = run(plan, progress, sleep, lambda: servers.memory(settings.variant))
        names = {server.target.name_of(settings.variant): each for each, server in servers.ready.items()}
    verdict, report = make_verdict(results, names), plan.out / REPORT
    screen = Screen(stderr=as_json)
    screen.print(table(verdict, results))
    for line in (*notes(verdict, results, servers.left_out), verdict.sentence):
        screen.say(line)
    screen.report(report)
    if as_json:
        print(document(verdict, results, servers.left_out, report))
    return 0 if verdict.best and not results.failures else 1
