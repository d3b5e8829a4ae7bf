"""What a reader must know before trusting the measurements of a run: its warnings, one for each cause.

What other programs, the host and a quota took is that of the stretches in which a measurement was made. The first of a
load is left out: the server's CPU time for warming up would count as that of other programs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from loadtest import stats
from loadtest.analysis.grouped_warning import Affected, GroupedWarning, group
from loadtest.analysis.results import Cell, Stretch
from loadtest.measure.accuracy import Accuracy
from loadtest.measure.host import Conditions
from loadtest.tasks.table import title
from protos.support import significance

DISTURBED = 0.1
"""From this share of the CPU, or of the time, on it is warned of what others took."""

Reasons = Mapping[str, str]


def make_warnings(
    cells: Sequence[Cell],
    skipped: Reasons,
    *,
    servers: int = 1,
    no_figures: Reasons | None = None,
    no_objects: Reasons | None = None,
    cores: int | None = None,
    accuracy: Sequence[Accuracy] = (),
    stretches: Sequence[Stretch] = (),
) -> tuple[GroupedWarning, ...]:
    """Returns what is wrong, the worst kind first.

    There is a reason for each variant that was `skipped` or has no latency by objects, and for each server whose
    metrics page was not read. `cores` is given where load generator and server share them.
    """
    measured, variants = len(cells), len({cell.variant for cell in cells} | {*skipped})
    disturbed = [(cell, each) for cell in cells if (each := _conditions_of(cell, stretches))]
    return group(
        {
            "not measured": (variants, _named(skipped)),
            "failed calls": (measured, _failed(cells)),
            "failed images": (len(accuracy), _failed_images(accuracy)),
            "accuracy": (len(accuracy), _differing(accuracy)),
            "generator": (measured, _limited(cells)),
            "shared cores": (measured, _sharing(cells, cores) if cores else ()),
            "other programs": (measured, _taken(disturbed, lambda each: each.others, "{:.0%} of it")),
            "steal": (measured, _taken(disturbed, lambda each: each.steal, "{:.0%} of it")),
            "throttled": (measured, _taken(disturbed, _throttled, "{:.2f} s of each second")),
            "other clients": (measured, _miscounted(cells)),
            "few samples": (measured, _too_few(cells)),
            "objects": (variants, _named(no_objects or {})),
            "server figures": (servers, _named(no_figures or {})),
        }
    )


def _named(reasons: Reasons) -> Iterator[Affected]:
    return (Affected(name, None, None, reason) for name, reason in reasons.items())


def _affected(cell: Cell, value: float, text: str) -> Affected:
    return Affected(cell.variant, cell.load.name, value, text)


def _failed(cells: Iterable[Cell]) -> Iterator[Affected]:
    for cell in (each for each in cells if each.failures):
        failed = ", ".join(f"{count} {status}" for status, count in cell.statuses.items() if status != "OK")
        said = f", most often: {cell.failure_texts[0].text}" if cell.failure_texts else ""
        yield _affected(cell, cell.failures / cell.requests, f"{cell.failures} of {cell.requests}: {failed}{said}")


def _failed_images(accuracy: Iterable[Accuracy]) -> Iterator[Affected]:
    for checked in (each for each in accuracy if each.failures):
        failed = ", ".join(f"{count} {status}" for status, count in checked.failures.items())
        text = f"{failed}: {checked.first_failure}"
        yield Affected(checked.variant, None, sum(checked.failures.values()), text)


def _differing(accuracy: Iterable[Accuracy]) -> Iterator[Affected]:
    for checked in accuracy:
        if checked.differs and checked.quality is not None:
            said = f"{title([checked.metric])} {checked.quality:.2%} on {checked.samples} images"
            off = abs(checked.quality - checked.manifest_quality)
            yield Affected(checked.variant, None, off, f"{said}, {checked.manifest_quality:.2%} at build")


def _limited(cells: Iterable[Cell]) -> Iterator[Affected]:
    """Yields what shows of the rule by which the load generator may have been the limit."""
    for cell in cells:
        if cell.generator_limit == "thread":
            yield _affected(cell, cell.generator_cpu, f"its thread used {cell.generator_cpu:.0%} of a core")
        elif cell.generator_limit == "ceiling" and cell.ceiling_rps:
            got = f"{cell.throughput_rps:,.0f} requests/s, and {cell.ceiling_rps:,.0f}"
            text = f"{got} from a server that answers at once"
            yield _affected(cell, cell.throughput_rps / cell.ceiling_rps, text)


def _sharing(cells: Iterable[Cell], cores: int) -> Iterator[Affected]:
    for cell in cells:
        if cell.cores_used is not None and cell.cores_used >= stats.CORES_LIMIT * cores:
            yield _affected(cell, cell.cores_used, f"{cell.cores_used:.2f} of {cores} in use")


def _conditions_of(cell: Cell, stretches: Iterable[Stretch]) -> tuple[Conditions, ...]:
    """Returns the conditions of the stretches in which a measurement was made, but for the first."""
    mine = (each for each in stretches if each.load == cell.load and 1 < each.first_round <= cell.rounds)
    return tuple(each.conditions for each in mine)


def _taken(
    disturbed: Iterable[tuple[Cell, Sequence[Conditions]]], share: Callable[[Conditions], float | None], form: str
) -> Iterator[Affected]:
    """Yields the measurements in which the mean share over their stretches is from `DISTURBED` on."""
    for cell, conditions in disturbed:
        known = [(value, each.seconds) for each in conditions if (value := share(each)) is not None]
        mean = sum(value * seconds for value, seconds in known) / (sum(seconds for _, seconds in known) or 1.0)
        if mean >= DISTURBED:
            yield _affected(cell, mean, form.format(mean))


def _throttled(conditions: Conditions) -> float | None:
    seconds = conditions.throttled_seconds
    return None if seconds is None or not conditions.seconds else seconds / conditions.seconds


def _miscounted(cells: Iterable[Cell]) -> Iterator[Affected]:
    for cell in cells:
        counted = cell.server.requests
        if counted is not None and counted != cell.requests and not cell.failures:
            yield _affected(cell, abs(counted - cell.requests), f"{counted} and not {cell.requests}")


def _too_few(cells: Iterable[Cell]) -> Iterator[Affected]:
    needed = significance.samples_needed(0.99)
    for cell in (each for each in cells if each.latency_ms.p99 is None):
        lacks = [name for name in ("p95", "p50") if getattr(cell.latency_ms, name) is None]
        more = f", and too few for {' and '.join(lacks)}" if lacks else ""
        yield _affected(cell, cell.samples, f"{cell.samples} of {needed}{more}")
