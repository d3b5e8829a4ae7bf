"""`pareto-loadtest compare runs/A runs/B`: what got slower from one run to another, with intervals that hold together.

For each variant and load in both runs the figures of their reports are compared: p50, p95, p99, and ms per answer where
the server sets the pace. Round 3 of one run has nothing to do with round 3 of the other, so they are no pairs as in
`comparison`; `figure_intervals` says how well each run knows its figures, however its rounds hang together. The
intervals hold together (Bonferroni): of 100 pairs of runs between which nothing changed, at most 5 show any clear
difference, and at most 20 a likely one.

Not seen is what differs between two evenings on one machine, such as a neighbour or another clock of the CPU. So the
CPU-speed checks (`noise_probe`) of both runs are compared too, and whatever else differed (machine, versions, flags) is
named. To be sure, run several times before and after.
"""

import io
import itertools
import json
import statistics
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from loadtest import stats
from loadtest.analysis.comparison import ALPHA, LIKELY, Verdict
from loadtest.analysis.figure_intervals import FEWEST_PARTS, Ends, Estimate, estimates, mean_correlation, ratio_interval
from loadtest.analysis.results import Cell, Results, load_results
from loadtest.measure.noise_probe import TOLERANCE
from loadtest.plan import Load
from loadtest.users.recorder import Samples, load_samples
from protos.errors import UsageError

UNBOUNDED = "its calls are too few, or its rounds too unlike, to bound it"
"""Why a figure that both runs have cannot be compared."""
Direction = Literal["slower", "faster"]
Run = tuple[Results, Samples]

MAY_DIFFER = (
    *("target", "out", "metrics_url", "repository", "seed", "wait", "variants", "users", "rates", "offline"),
    *("tls_client_cert", "tls_client_key", "token_file"),
)
"""Flags whose difference is not named; loads and variants that are in one run only are named anyway."""


@dataclass(frozen=True)
class Change:
    """One figure of one cell in both runs, in milliseconds; a ratio above 1 says that the second run is slower."""

    variant: str
    load: str
    figure: str
    before: float
    """As the first run's report shows it."""
    after: float
    ratio: float
    interval: Ends
    """Holds the true ratio, together with those of all other comparisons; None where nothing bounds it."""
    verdict: Verdict
    direction: Direction
    """What the second run was measured to be; where it is too close to call, that decides nothing."""

    def fails(self, tolerance: float) -> bool:
        """Returns whether the second run is slower beyond doubt, by more than this share."""
        low = self.interval[0]
        return low is not None and low > 1 + tolerance

    @property
    def said(self) -> str:
        """Returns the verdict on the second run."""
        named = {"clear": self.direction, "likely": f"likely {self.direction}"}
        return named.get(self.verdict, self.verdict)

    @property
    def interval_text(self) -> str:
        """Returns the interval for people."""
        low, high = (None if each is None else f"{each:.3f}" for each in self.interval)
        if low is None:
            return f"up to {high}"
        return f"from {low}" if high is None else f"{low} to {high}"

    def __str__(self) -> str:
        return (
            f"{self.variant}, {self.load}, {self.figure}: {self.before:.3f}, then {self.after:.3f}:"
            f" {self.ratio:.3f} times ({self.interval_text}), {self.said}"
        )


@dataclass(frozen=True)
class LeftOut:
    """What could not be compared."""

    variant: str
    what: str
    """The load, and the figure where it is only one."""
    reason: str

    def __str__(self) -> str:
        return f"{self.variant}, {self.what}: {self.reason}"


@dataclass(frozen=True)
class Changes:
    """All that can be said of two runs."""

    changes: tuple[Change, ...]
    left_out: tuple[LeftOut, ...]
    differences: tuple[str, ...]
    """What else was not the same."""
    tolerance: float = 0.0
    """Slower by less than this share is no failure."""

    @property
    def failures(self) -> int:
        """Returns how many figures are slower beyond doubt, by more than the tolerance."""
        return sum(each.fails(self.tolerance) for each in self.changes)

    @property
    def exit_code(self) -> int:
        """Returns 1 where something got slower, 0 where nothing was shown to, 2 where nothing could be compared."""
        return min(self.failures, 1) if self.changes else 2

    @property
    def summary(self) -> str:
        """Returns the verdict in one sentence."""
        if not self.changes:
            return "Nothing could be compared"
        slower = f"{self.failures} of {len(self.changes)} figures" if self.failures else "No figure"
        more = f" by more than {self.tolerance:.1%}" if self.tolerance else ""
        said = Counter(each.said for each in self.changes)
        return f"{slower} got slower{more} beyond doubt: " + ", ".join(f"{said[name]} {name}" for name in sorted(said))

    def notes(self) -> Iterator[str]:
        """Says what was not compared, and what else was not the same."""
        for reason in dict.fromkeys(each.reason for each in self.left_out):
            names = (f"{each.variant}, {each.what}" for each in self.left_out if each.reason == reason)
            yield f"left out: {'; '.join(names)}: {reason}"
        yield from (f"not the same: {text}" for text in self.differences)

    def document(self) -> str:
        """Returns the comparison as one line of JSON."""
        return json.dumps(asdict(self) | {"slower": self.failures}, allow_nan=False)


def compare_runs(before: Path, after: Path, tolerance: float = 0.0) -> Changes:
    """Compares two run folders; `UsageError` where one is none, or where no cell is in both."""
    runs = _read(before), _read(after)
    first, second = ({(cell.variant, cell.load): cell for cell in run.cells} for run, _ in runs)
    if not first.keys() & second.keys():
        raise UsageError(f"'{before}' and '{after}' have no variant under the same load in common")
    pairs = [*itertools.chain(*(_pairs(key, first.get(key), second.get(key), *runs) for key in {**first, **second}))]
    found = [each for each in pairs if isinstance(each, _Pair)]
    correlations = {name: _correlation(found, name) for name in {pair.figure for pair in found}}
    judged = [_judge(pair, correlations[pair.figure], len(found)) for pair in found]
    changes = tuple(each for each in judged if isinstance(each, Change))
    left_out = tuple(each for each in (*pairs, *judged) if isinstance(each, LeftOut))
    return Changes(changes, left_out, tuple(_differences(runs[0][0], runs[1][0])), tolerance)


@dataclass(frozen=True)
class _Pair:
    """One figure of one cell in both runs."""

    cell: Cell
    figure: str
    before: Estimate
    after: Estimate


def _read(folder: Path) -> Run:
    path = folder / "results.json"
    try:
        results = load_results(path)
        path = folder / "samples.npz"
        samples = load_samples(io.BytesIO(path.read_bytes()))
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UsageError(f"'{path}': {error}") from None
    names = {(variant, load) for variant in samples.variants for load in samples.loads}
    if lacking := [cell for cell in results.cells if (cell.variant, cell.load.key) not in names]:
        raise UsageError(f"'{path}': got no calls of {lacking[0].variant}, expected all of results.json")
    return results, samples


def _why_not(first: Cell | None, second: Cell | None) -> str:
    """Says why a cell cannot be compared; nothing where it can."""
    if first is None or second is None:
        return f"only in the {'first' if first else 'second'} run"
    named = ("first", first), ("second", second)
    return ", ".join(reason for which, cell in named for reason in _invalid_reasons(which, cell))


def _invalid_reasons(which: str, cell: Cell) -> Iterator[str]:
    if cell.generator_limit:
        yield f"{stats.LIMIT_TEXTS[cell.generator_limit]} in the {which} run"
    if cell.failures:
        yield f"{cell.failures} of {cell.requests} calls failed in the {which} run"


def _pairs(
    key: tuple[str, Load], first: Cell | None, second: Cell | None, before: Run, after: Run
) -> Iterator[_Pair | LeftOut]:
    """Yields each figure of a cell, in both runs or with the reason why not."""
    if reason := _why_not(first, second):
        yield LeftOut(key[0], key[1].name, reason)
    if reason or not first or not second:
        return
    both = zip(estimates(first, before[1]), estimates(second, after[1]), strict=True)
    for (figure, one), (_, other) in both:
        if one and other:
            yield _Pair(first, figure, one, other)
        else:
            short = " and ".join(which for which, found in (("first", one), ("second", other)) if not found)
            reason = f"too few calls, or fewer than {FEWEST_PARTS} rounds, in the {short} run"
            yield LeftOut(first.variant, f"{first.load.name}, {figure}", reason)


def _correlation(pairs: Sequence[_Pair], figure: str) -> float:
    """Returns how many times as much as independent rounds would make it a figure varies, over all cells."""
    return mean_correlation([each for p in pairs if p.figure == figure for each in (p.before, p.after)])


def _judge(pair: _Pair, correlation: float, comparisons: int) -> Change | LeftOut:
    """Returns the verdict on one figure; where no number of calls could have shown anything, that."""
    sure, likely = (
        ratio_interval(pair.before, pair.after, correlation, alpha / comparisons) for alpha in (ALPHA, LIKELY)
    )
    variant, load, before, after = pair.cell.variant, pair.cell.load.name, pair.before.value, pair.after.value
    if sure == (None, None):
        return LeftOut(variant, f"{load}, {pair.figure}", UNBOUNDED)
    verdict: Verdict = "clear" if _excludes_one(sure) else "likely" if _excludes_one(likely) else "too close to call"
    direction: Direction = "slower" if after > before else "faster"
    return Change(variant, load, pair.figure, before, after, after / before, sure, verdict, direction)


def _excludes_one(interval: Ends) -> bool:
    low, high = interval
    return (low is not None and low > 1) or (high is not None and high < 1)


def _differences(first: Results, second: Results) -> Iterator[str]:
    """Says what was not the same in both runs, beside what was measured."""
    runs = first, second
    told = ({"server": run.server, "way in": run.way_in or "not known", "inputs": run.inputs} for run in runs)
    yield from _unequal("", *told)
    yield from _unequal("machine: ", *(asdict(run.machine) for run in runs), but=("libraries", "load_average"))
    yield from _unequal("version of ", *(run.machine.libraries for run in runs))
    yield from _unequal("plan: ", *(asdict(run.plan) for run in runs), but=MAY_DIFFER)
    facts = [{cell.variant: asdict(cell.facts) for cell in run.cells} for run in runs]
    for variant in sorted(facts[0].keys() & facts[1].keys()):
        yield from _unequal(f"{variant}: ", facts[0][variant], facts[1][variant])
    before, after = _noise_probe(first), _noise_probe(second)
    if before and after and abs(after / before - 1) > TOLERANCE:
        yield (
            f"the CPU-speed check, the same piece of work, took {after / before:.2f} times as long in the second run:"
            f" the machine itself was not the same, and differences of up to {max(after / before, before / after):.2f}"
            " times prove nothing"
        )


def _unequal(
    what: str, first: Mapping[str, object], second: Mapping[str, object], *, but: Sequence[str] = ()
) -> Iterator[str]:
    for name in dict.fromkeys((*first, *second)):
        if name not in but and first.get(name) != second.get(name):
            yield f"{what}{name}: {first.get(name)} in the first run, {second.get(name)} in the second"


def _noise_probe(run: Results) -> float | None:
    """Returns the median of the noise probe over a run."""
    readings = [each.probe_seconds for each in run.stretches]
    return statistics.median(readings) if readings else None
