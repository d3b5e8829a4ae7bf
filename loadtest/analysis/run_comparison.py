"""`pareto-loadtest compare runs/A runs/B`: what got slower from one run to another, with significance.

For each variant and load in both runs the rounds are compared: p50, p99 where every round has one, and seconds per
answer where the server sets the pace. Round 3 of one run has nothing to do with round 3 of the other, so they are not
pairs as in `paired_comparison`. A difference is claimed only where two things agree:

    the Mann-Whitney test, with Holm's correction for all comparisons made: p at most 5%
    the bootstrap interval of the ratio of the medians does not contain 1

Neither sees what differs between two evenings on one machine, such as a neighbour or another clock of the CPU. So the
noise probe's readings of both runs are compared too, and whatever else differed (machine, versions, flags) is named.
To be sure, run several times before and after.
"""

import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich import box
from rich.table import Table

from loadtest import stats
from loadtest.analysis.paired_comparison import RESAMPLES, SEED, Verdict, bootstrap_interval, holm, verdict_of
from loadtest.analysis.results import Cell, Results, Round, load_results
from loadtest.measure.noise_probe import TOLERANCE
from loadtest.plan import Load
from protos.errors import UsageError
from protos.support import significance

Key = tuple[str, Load]
"""Variant and load of a cell."""
_Measured = tuple[Key, str, list[float], list[float]]
"""A cell, what is compared of it, and the values in the rounds of both runs."""

MAY_DIFFER = (
    *("target", "out", "metrics_url", "repository", "seed", "wait", "variants", "users", "rates", "offline"),
    *("tls_client_cert", "tls_client_key", "token_file"),
)
"""Flags whose difference is not named; loads and variants that are in one run only are named anyway."""


@dataclass(frozen=True)
class Change:
    """One measure of one cell in both runs, in milliseconds; a ratio above 1 says that the second run is slower."""

    variant: str
    load: str
    figure: str
    before: float
    """Median over the rounds of the first run."""
    after: float
    ratio: float
    interval: tuple[float, float] | None
    """`significance.CONFIDENCE` interval of the ratio; None with too few rounds."""
    p: float | None
    """Corrected for the number of comparisons; None with too few rounds."""
    rounds: tuple[int, int]
    verdict: Verdict
    """What the second run is. "tied": no difference was shown, though there may be one."""


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
        """1 where something got slower, 0 where nothing was shown to, 2 where no difference could have been shown."""
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
        """Returns the comparison as one line of JSON."""
        return json.dumps(asdict(self) | {"slower": sum(each.verdict == "slower" for each in self.changes)})


def compare_runs(before: Path, after: Path) -> Changes:
    """Compares two run folders; `UsageError` where one is none, or where no cell is in both."""
    runs = _read(before), _read(after)
    first, second = ({(cell.variant, cell.load): cell for cell in run.cells} for run in runs)
    common = [key for key in first if key in second]
    if not common:
        raise UsageError(f"'{before}' and '{after}' have no variant under the same load in common")
    left_out, measured = list[str](), list[_Measured]()
    for key in common:
        if reasons := [*_invalid_reasons("first", first[key]), *_invalid_reasons("second", second[key])]:
            left_out.append(f"{_name(key)}: {', '.join(reasons)}")
        else:
            measured += _measures(key, first[key], second[key])
    left_out += [f"{_name(key)}: only in the first run" for key in first if key not in second]
    left_out += [f"{_name(key)}: only in the second run" for key in second if key not in first]
    corrected = holm([_mann_whitney_p(before, after) for _, _, before, after in measured])
    changes = tuple(_change(*each, p, len(measured)) for each, p in zip(measured, corrected, strict=True))
    return Changes(changes, tuple(left_out), tuple(_differences(*runs)))


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
    """Returns a row for each comparison, the slowest first."""
    grid = Table(title="second run against the first", box=box.SIMPLE_HEAD, collapse_padding=True)
    grid.add_column("variant", overflow="fold")
    grid.add_column("load")
    grid.add_column("figure", no_wrap=True)
    for heading in ("first", "second", "ratio", "95% interval"):
        grid.add_column(heading, justify="right", no_wrap=True)
    grid.add_column("the second is")
    for each in sorted(changes.changes, key=lambda each: -each.ratio):
        interval = "n/a" if each.interval is None else f"{each.interval[0]:.3f} to {each.interval[1]:.3f}"
        numbers = (f"{each.before:.3f}", f"{each.after:.3f}", f"{each.ratio:.3f}", interval)
        style = "red" if each.verdict == "slower" else None
        grid.add_row(each.variant, each.load, each.figure, *numbers, each.verdict, style=style)
    return grid


def _name(key: Key) -> str:
    return f"{key[0]}, {key[1].name}"


def _invalid_reasons(which: str, cell: Cell) -> Iterator[str]:
    """Says why a cell cannot be compared."""
    if cell.generator_limit:
        yield f"{stats.LIMIT_TEXTS[cell.generator_limit]} in the {which} run"
    if cell.failures:
        yield f"{cell.failures} of {cell.requests} calls failed in the {which} run"


def _measures(key: Key, *cells: Cell) -> Iterator[_Measured]:
    """Yields what is compared of a cell in both runs: less is better, and every round has a value."""
    measures: dict[str, Callable[[Round], float]] = {
        "p50 ms": lambda each: each.latency_ms.p50 or math.nan,
        "p99 ms": lambda each: each.latency_ms.p99 or math.nan,
    }
    if key[1].scenario != "server":
        measures["ms per answer"] = lambda each: 1e3 / (each.throughput_rps or math.nan)
    for name, measure in measures.items():
        before, after = ([measure(each) for each in cell.rounds] for cell in cells)
        if not any(map(math.isnan, before + after)):
            yield key, name, before, after


def _change(key: Key, name: str, first: list[float], second: list[float], p: float, comparisons: int) -> Change:
    """Returns the verdict on one measure; `p` is corrected for the number of comparisons already."""
    before, after, rounds = statistics.median(first), statistics.median(second), (len(first), len(second))
    change = partial(Change, key[0], key[1].name, name, before, after, after / before, rounds=rounds)
    if not _can_differ(*rounds, comparisons):
        return change(interval=None, p=None, verdict="too few rounds")
    logs = np.log(first), np.log(second)
    interval = bootstrap_interval(logs, lambda x, y, axis=-1: np.median(y, axis) - np.median(x, axis))
    return change(interval=interval, p=p, verdict=verdict_of(interval, p))


def _can_differ(first: int, second: int, comparisons: int) -> bool:
    """Returns whether so many rounds could show a difference if all of one run were slower than all of the other."""
    return 2 / math.comb(first + second, first) <= (1 - significance.CONFIDENCE) / comparisons


def _mann_whitney_p(first: Sequence[float], second: Sequence[float]) -> float:
    """Returns the two-sided p: exact, or by permutations where values are equal."""
    from scipy.stats import PermutationMethod, mannwhitneyu  # takes a second to import

    distinct = len({*first, *second}) == len(first) + len(second)
    method = "exact" if distinct else PermutationMethod(n_resamples=RESAMPLES, rng=np.random.default_rng(SEED))
    return float(mannwhitneyu(first, second, method=method).pvalue)


def _differences(first: Results, second: Results) -> Iterator[str]:
    """Says what was not the same in both runs, beside what was measured."""
    runs = first, second
    yield from _unequal("", *({"server": run.server, "inputs": run.inputs} for run in runs))
    yield from _unequal("machine: ", *(asdict(run.machine) for run in runs), but=("libraries", "load_average"))
    yield from _unequal("version of ", *(run.machine.libraries for run in runs))
    yield from _unequal("plan: ", *(asdict(run.plan) for run in runs), but=MAY_DIFFER)
    facts = [{cell.variant: asdict(cell.facts) for cell in run.cells} for run in runs]
    for variant in sorted(facts[0].keys() & facts[1].keys()):
        yield from _unequal(f"{variant}: ", facts[0][variant], facts[1][variant])
    before, after = _noise_probe(first), _noise_probe(second)
    if before and after and abs(after / before - 1) > TOLERANCE:
        yield (
            f"the noise probe, the same piece of work, took {after / before:.2f} times as long in the second run:"
            " the machine itself was not the same"
        )


def _unequal(
    what: str, first: Mapping[str, object], second: Mapping[str, object], *, but: Sequence[str] = ()
) -> Iterator[str]:
    for name in dict.fromkeys((*first, *second)):
        if name not in but and first.get(name) != second.get(name):
            yield f"{what}{name}: {first.get(name)} in the first run, {second.get(name)} in the second"


def _noise_probe(run: Results) -> float | None:
    """Returns the median of the noise probe over all blocks of a run."""
    readings = [each.canary_seconds for cell in run.cells for each in cell.rounds]
    known = [reading for reading in readings if reading is not None]
    return statistics.median(known) if known else None
