"""What `pareto-loadtest tune` prints: the ranking in 80 columns, what to know about it, or one JSON document."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.table import Table

from loadtest.analysis.grouped_warning import lines
from loadtest.analysis.results import Cell, Results
from loadtest.tune.candidates import DEFAULT, Configuration, counted
from loadtest.tune.verdict import Place, Verdict

HEADINGS = ("threads x\nworkers x\nbatch-max", "p50\nms", "p99\nms", "answers\nper s", "CPU µs\neach", "MB")
CLOSE = {"too close to call": "too close"}
"""How the table shortens a verdict."""


def table(verdict: Verdict, results: Results) -> Table:
    """Returns a row for each configuration, by rank; bold is the one to use, dim what may not be used."""
    title = f"{results.plan.variants[0]} of {results.plan.model}, {results.cells[0].load.name}"
    # lines between the columns would take more than 80
    grid = Table(title=title, box=None, collapse_padding=True, pad_edge=False)
    for heading in HEADINGS:
        grid.add_column(heading, justify="right", no_wrap=True)
    grid.add_column(f"times the default's\n{_figure(verdict)}", no_wrap=True)
    grid.add_column()
    for place in verdict.places:
        best = place.configuration == verdict.best
        grid.add_row(*_row(place, best), style="dim" if place.unmet else "bold" if best else None)
    return grid


def notes(verdict: Verdict, results: Results, left_out: Mapping[Configuration, str]) -> Iterator[str]:
    """Yields what has to be known beside the ranking, a line each."""
    for configuration, reason in left_out.items():
        yield f"left out: {configuration.label}: {reason}"
    yield from _unmet(verdict.places)
    yield from (f"warning: {line}" for line in lines(results.warnings))
    yield _sharing(results.cells, results.machine.cores)
    if verdict.best and verdict.best.workers > 1:
        yield (
            f"its {verdict.best.workers} workers shared {results.cells[0].connections} connections as the kernel dealt"
            " them out, once: another deal gives other figures, and few connections an uneven one"
        )


def document(verdict: Verdict, results: Results, left_out: Mapping[Configuration, str], report: Path) -> str:
    """Returns the result as JSON."""
    return json.dumps(
        {
            "model": results.plan.model,
            "variant": results.plan.variants[0],
            "load": results.cells[0].load.name,
            "cores": results.machine.cores,
            "best": verdict.best and _settings(verdict.best),
            "verdict": verdict.sentence,
            "configurations": [_described(place) for place in verdict.places],
            "left_out": [_settings(each) | {"reason": reason} for each, reason in left_out.items()],
            "failures": results.failures,
            "report": str(report),
        }
    )


def _unmet(places: Sequence[Place]) -> Iterator[str]:
    """Yields which configurations may not be used, a line for each constraint."""
    without = dict[str, list[str]]()
    for place in places:
        failed = ("calls without a failure",) if place.cell.failures else ()
        for what in (*failed, *(each.heading for each in place.judgements if not each.admits)):
            without.setdefault(what, []).append(place.configuration.label)
    yield from (f"not to be used, without {what}: {', '.join(labels)}" for what, labels in without.items())


def _row(place: Place, best: bool) -> list[str]:
    settings, cell = place.configuration, place.cell
    ratio, verdict = _against(place)
    return [
        f"{settings.threads} x {settings.workers} x {settings.batch_max}",
        *(_shown(each, ".2f") for each in (cell.latency_ms.p50, cell.latency_ms.p99)),
        *(_shown(each, ",.0f") for each in (cell.throughput_rps, cell.server.cpu_us_per_request)),
        _shown(cell.facts.memory_bytes and cell.facts.memory_bytes / 1e6, ",.0f"),
        ratio,
        ", ".join(filter(None, (verdict, "use" if best else "no" if place.unmet else ""))),
    ]


def _against(place: Place) -> tuple[str, str]:
    """Returns the ratio to the default with its interval, and the verdict."""
    if place.configuration == DEFAULT:
        return "the default", ""
    if place.against is None or place.times is None:
        return "too few calls", ""
    by = "p50: " if place.against.figure == "p50" else ""
    verdict = by + CLOSE.get(place.against.verdict, place.against.verdict)
    return "{:.2f} ({:.2f} to {:.2f})".format(*place.times), verdict


def _figure(verdict: Verdict) -> str:
    """Returns what most configurations are compared by."""
    figures = [place.against.figure for place in verdict.places if place.against]
    return max(figures, key=figures.count, default="figures")


def _sharing(cells: Sequence[Cell], cores: int) -> str:
    taken = [cell.generator_process_cpu for cell in cells]
    most = f"{min(taken):.1f} to {max(taken):.1f} of the {counted(cores, 'core')}"
    return f"the load generator took {most} that it shares with the servers"


def _described(place: Place) -> dict[str, object]:
    cell = place.cell
    against: dict[str, object] | None = None
    if place.against and place.times:
        ratio, *interval = place.times
        against = {"figure": place.against.figure, "times_the_default": ratio, "interval": interval}
        against["verdict"] = place.against.verdict
    return _settings(place.configuration) | {
        "flags": list(place.configuration.flags),
        "p50_ms": cell.latency_ms.p50,
        "p99_ms": cell.latency_ms.p99,
        "throughput_rps": cell.throughput_rps,
        "server_cpu_us_per_request": cell.server.cpu_us_per_request,
        "memory_bytes": cell.facts.memory_bytes,
        "generator_limit": cell.generator_limit,
        "rounds": cell.rounds,
        "may_not_be_used": list(place.unmet),
        "against_default": against,
    }


def _settings(configuration: Configuration) -> dict[str, object]:
    return dict(vars(configuration))


def _shown(value: float | None, form: str) -> str:
    return "n/a" if value is None else format(value, form)
