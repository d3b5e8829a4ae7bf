"""`pareto-loadtest compare runs/A runs/B`: what got slower from one run to another, with significance.

For each variant and load in both runs the figures of the rounds are compared: p50, p99 where every round has one, and
seconds per answer where the server sets the pace. The rounds of two runs are not pairs, as those of one run are
(`paired_comparison`): nothing ties round 3 of one to round 3 of the other. A difference is claimed only where
two agree:

    the Mann-Whitney test, Holm's correction for all comparisons made, p at most 5%
    the bootstrap interval of the ratio of the medians does not contain 1

Both see how the rounds of a run differ among themselves, and not what differs between two evenings on one machine: a
neighbour, another clock. Hence the noise probe's readings of both runs are compared too, and what else differed
(machine, versions, flags) is named beside the answer. Run two, three times before and after to be sure.
"""

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table

from loadtest import stats
from loadtest.analysis.paired_comparison import RESAMPLES, SEED, Verdict, holm
from loadtest.analysis.results import Cell, Results, load_results
from loadtest.measure.noise_probe import TOLERANCE
from loadtest.plan import Load
from protos.errors import UsageError

Key = tuple[str, Load]
"""Variant and load of a cell."""

OF_NO_MATTER = ("target", "out", "metrics_url", "repository", "seed", "wait", "variants", "users", "rates", "offline")
"""Flags that may differ: where a run was and what else was in it; loads and variants in one only are named anyway."""


@dataclass(frozen=True)
class Change:
    """One figure of one cell in both runs, in milliseconds; a ratio above 1 says that the second run is slower."""

    variant: str
    load: str
    figure: str
    before: float
    """Median over the rounds of the first run."""
    after: float
    ratio: float
    interval: tuple[float, float] | None
    """`stats.CONFIDENCE` interval of the ratio; None with too few rounds."""
    p: float | None
    """Corrected for the number of comparisons; None with too few rounds."""
    rounds: tuple[int, int]
    verdict: Verdict
    """What the second run is. "tied": no difference was shown, there may be one."""


@dataclass(frozen=True)
class Changes:
    """All that can be said of two runs."""

    changes: tuple[Change, ...]
    left_out: tuple[str, ...]
    """Cells that cannot be compared, each with the reason."""
    differences: tuple[str, ...]
    """What else was not the same."""

    @property
    def exit_code(self) -> int:
        """1 where something got slower; 0 where nothing was shown to; 2 where nothing could have been."""
        verdicts = {change.verdict for change in self.changes}
        if verdicts <= {"too few rounds"}:
            return 2
        return 1 if "slower" in verdicts else 0

    def notes(self) -> Iterator[str]:
        """Says what was not compared, what else was not the same, and how many rounds are missing."""
        yield from (f"left out: {text}" for text in self.left_out)
        yield from (f"not the same: {text}" for text in self.differences)
        if short := sum(each.verdict == "too few rounds" for each in self.changes):
            total = len(self.changes)
            yield (
                f"too few rounds: {short} of {total} comparisons could not have shown any difference;"
                f" {total} comparisons need {rounds_needed(total)} rounds in each run"
            )

    def document(self) -> str:
        """Returns all of it as JSON, in one line."""
        return json.dumps(asdict(self) | {"slower": sum(each.verdict == "slower" for each in self.changes)})


def compare_runs(before: Path, after: Path) -> Changes:
    """Compares two run folders; `UsageError` where one is none, or where no cell is in both."""
    runs = _read(before), _read(after)
    cells = tuple({(cell.variant, cell.load): cell for cell in run.cells} for run in runs)
    common = [key for key in cells[0] if key in cells[1]]
    if not common:
        raise UsageError(f"'{before}' and '{after}' have no variant under the same load in common")
    left_out, comparable = [], []
    for key in common:
        if reasons := [*_invalid_reasons("first", cells[0][key]), *_invalid_reasons("second", cells[1][key])]:
            left_out.append(f"{_name(key)}: {', '.join(reasons)}")
        else:
            comparable.append(key)
    for mine, others, which in ((cells[0], cells[1], "first"), (cells[1], cells[0], "second")):
        left_out += [f"{_name(key)}: only in the {which} run" for key in mine if key not in others]
    figures = [(key, *figure) for key in comparable for figure in _figures(key[1], cells[0][key], cells[1][key])]
    return Changes(_judge(figures), tuple(left_out), tuple(_differences(*runs)))


def _read(folder: Path) -> Results:
    path = folder / "results.json"
    try:
        return load_results(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"'{path}': {error}") from None


def rounds_needed(comparisons: int) -> int:
    """Returns how many rounds of each run it takes to show a difference: 4 for one comparison, 6 for 15, 7 for 48.

    If nothing changed, all rounds of one run are slower than all of the other with probability 2 / C(2n, n).
    """
    return next(n for n in range(1, 99) if _can_differ(n, n, comparisons))


def table(changes: Changes) -> Table:
    """Returns a row for each figure, the slowest first."""
    grid = Table(title="second run against the first", box=box.SIMPLE_HEAD, collapse_padding=True)
    grid.add_column("variant", overflow="fold")
    grid.add_column("load")
    grid.add_column("figure", no_wrap=True)
    for heading in ("first", "second", "ratio", "95% interval"):
        grid.add_column(heading, justify="right", no_wrap=True)
    grid.add_column("the second is")
    for each in sorted(changes.changes, key=lambda each: -each.ratio):
        interval = "n/a" if each.interval is None else f"{each.interval[0]:.3f} to {each.interval[1]:.3f}"
        figures = (f"{each.before:.3f}", f"{each.after:.3f}", f"{each.ratio:.3f}", interval)
        style = "red" if each.verdict == "slower" else None
        grid.add_row(each.variant, each.load, each.figure, *figures, each.verdict, style=style)
    return grid


def _name(key: Key) -> str:
    return f"{key[0]}, {key[1].name}"


def _invalid_reasons(which: str, cell: Cell) -> Iterator[str]:
    """Says why a cell is no evidence."""
    if cell.generator_limited:
        yield f"limited by the generator in the {which} run"
    if cell.failures:
        yield f"{cell.failures} of {cell.requests} calls failed in the {which} run"


def _figures(load: Load, *cells: Cell) -> Iterator[tuple[str, list[float], list[float]]]:
    """Names of figures of which less is better, and their values in the rounds of both runs."""
    latencies = [[each.latency_ms for each in cell.rounds] for cell in cells]
    answers = [[each.throughput_rps for each in cell.rounds] for cell in cells]
    figures: list[tuple[str, list[list[float | None]]]] = [
        ("p50 ms", [[each.p50 for each in run] for run in latencies]),
        ("p99 ms", [[each.p99 for each in run] for run in latencies]),
    ]
    if load.scenario != "server":
        figures.append(("ms per answer", [[1e3 / rps if rps else None for rps in run] for run in answers]))
    for name, values in figures:
        first, second = ([value for value in run if value is not None] for run in values)
        if (len(first), len(second)) == tuple(map(len, values)):
            yield name, first, second


def _judge(figures: Sequence[tuple[Key, str, list[float], list[float]]]) -> tuple[Change, ...]:
    corrected = holm([_mann_whitney_p(first, second) for _, _, first, second in figures])
    return tuple(
        _change(key, figure, first, second, p, len(figures))
        for (key, figure, first, second), p in zip(figures, corrected, strict=True)
    )


def _change(
    key: Key, figure: str, first: Sequence[float], second: Sequence[float], p: float, comparisons: int
) -> Change:
    """The verdict on one figure; `p` is corrected for the number of comparisons already."""
    before, after = statistics.median(first), statistics.median(second)
    interval: tuple[float, float] | None = None
    verdict: Verdict = "too few rounds"
    if enough := _can_differ(len(first), len(second), comparisons):
        low, high = interval = _interval(first, second)
        claimed = p <= 1 - stats.CONFIDENCE and not low <= 1 <= high
        verdict = ("slower" if low > 1 else "faster") if claimed else "tied"
    return Change(
        variant=key[0],
        load=key[1].name,
        figure=figure,
        before=before,
        after=after,
        ratio=after / before,
        interval=interval,
        p=p if enough else None,
        rounds=(len(first), len(second)),
        verdict=verdict,
    )


def _can_differ(first: int, second: int, comparisons: int) -> bool:
    """Whether so many rounds of each run can show a difference at all: where all of one are slower than the other's."""
    return 2 / math.comb(first + second, first) <= (1 - stats.CONFIDENCE) / comparisons


def _mann_whitney_p(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided and exact; with ties, by permutations."""
    from scipy.stats import PermutationMethod, mannwhitneyu  # takes a second to import

    distinct = len({*first, *second}) == len(first) + len(second)
    method = "exact" if distinct else PermutationMethod(n_resamples=RESAMPLES, rng=np.random.default_rng(SEED))
    return float(mannwhitneyu(first, second, method=method).pvalue)


def _interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Returns the interval of the ratio of the medians, by the bootstrap's percentiles."""
    from scipy.stats import bootstrap  # takes a second to import

    interval = bootstrap(
        (np.log(first), np.log(second)),
        _difference_of_medians,
        n_resamples=RESAMPLES,
        confidence_level=stats.CONFIDENCE,
        method="percentile",
        rng=SEED,
    ).confidence_interval
    return float(np.exp(interval.low)), float(np.exp(interval.high))


def _difference_of_medians(
    first: NDArray[np.float64], second: NDArray[np.float64], axis: int = -1
) -> NDArray[np.float64]:
    difference: NDArray[np.float64] = np.median(second, axis) - np.median(first, axis)
    return difference


def _differences(first: Results, second: Results) -> Iterator[str]:
    """What was not the same in both runs, beside what was measured."""
    runs = first, second
    yield from _unequal("", *({"server": run.server, "inputs": run.inputs} for run in runs))
    yield from _unequal("machine: ", *(_without(asdict(run.machine), ("libraries", "load_average")) for run in runs))
    yield from _unequal("version of ", *(run.machine.libraries for run in runs))
    yield from _unequal("plan: ", *(_without(asdict(run.plan), OF_NO_MATTER) for run in runs))
    facts = [{cell.variant: asdict(cell.facts) for cell in run.cells} for run in runs]
    for variant in sorted(facts[0].keys() & facts[1].keys()):
        yield from _unequal(f"{variant}: ", facts[0][variant], facts[1][variant])
    before, after = _noise_probe(first), _noise_probe(second)
    if before and after and abs(after / before - 1) > TOLERANCE:
        yield (
            f"the noise probe, the same piece of work, took {after / before:.2f} times as long in the second run:"
            " the machine itself was not the same"
        )


def _unequal(what: str, first: Mapping[str, object], second: Mapping[str, object]) -> Iterator[str]:
    for name in dict.fromkeys((*first, *second)):
        if first.get(name) != second.get(name):
            yield f"{what}{name}: {first.get(name)} in the first run, {second.get(name)} in the second"


def _without(flags: Mapping[str, object], names: Sequence[str]) -> dict[str, object]:
    return {name: value for name, value in flags.items() if name not in names}


def _noise_probe(run: Results) -> float | None:
    """Returns the median of the noise probe over all blocks of a run."""
    readings = [each.canary_seconds for cell in run.cells for each in cell.rounds]
    known = [reading for reading in readings if reading is not None]
    return statistics.median(known) if known else None
