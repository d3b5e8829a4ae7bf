"""A warning of a run as data: one cause, all that it affects with the worst first, and what to do about it.

Each kind has its own value, by which the worst is known:

    not measured        none: the variant was there and not ready
    failed calls        the share of its calls that failed
    failed images       how many requests of the accuracy check failed
    accuracy            how far the metric over the wire is from the one at build
    generator           the share of a core that the users' thread had, or of the ceiling that was reached
    shared cores        how many cores load generator and server used together
    other programs      the share of all cores that neither of them used
    steal               the share of all cores that the host gave to others
    throttled           seconds in each second for which a quota held the load generator back
    other clients       how many calls the server counted that were not sent, or the other way round
    few samples         how many samples there are
    objects             none: latency by objects was not measured
    server figures      none: the server's metrics page was not read
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "not measured",
    "failed calls",
    "failed images",
    "accuracy",
    "generator",
    "shared cores",
    "other programs",
    "steal",
    "throttled",
    "other clients",
    "few samples",
    "objects",
    "server figures",
]

_APART = "put the load generator on a machine of its own"
_MEANING: Mapping[Kind, tuple[str, str, str]] = {
    "not measured": ("No measurement", "variant", "see why the server does not have it ready"),
    "failed calls": ("Calls failed", "measurement", "see What failed in the report, and the server's log"),
    "failed images": ("Requests with test images failed", "variant", "see the server's log"),
    "accuracy": ("Accuracy over the wire is not that at build", "variant", "see whether the server serves this build"),
    "generator": ("The load generator may have been the limit", "measurement", f"{_APART}, or ask for less load"),
    "shared cores": ("Load generator and server competed for the cores of one machine", "measurement", _APART),
    "other programs": ("Other programs used the CPU", "measurement", "rerun on an idle machine"),
    "steal": ("The host gave this machine's CPU to others", "measurement", "rerun where the CPU is not shared"),
    "throttled": ("A CPU quota held the load generator back", "measurement", "raise the quota of its container"),
    "other clients": (
        "The server counted other calls than were sent",
        "measurement",
        "stop its other clients, or see whether --metrics-url is its own page",
    ),
    "few samples": ("Too few samples for p99", "measurement", "raise --duration"),
    "objects": ("No latency by objects", "variant", "see the server's log"),
    "server figures": ("No server-side figures", "server", "say with --metrics-url where its metrics page is"),
}
"""Cause, what is affected, and what to do, the worst kind first."""

MOST_LINES = 7
"""A reader gets at most so many lines."""


@dataclass(frozen=True)
class Affected:
    """A measurement; without a load a variant, or a server."""

    name: str
    load: str | None
    """What people call the load."""
    value: float | None
    text: str
    """The value in words."""

    @property
    def where(self) -> str:
        """Returns name and load."""
        return self.name if self.load is None else f"{self.name} at {self.load}"


@dataclass(frozen=True)
class GroupedWarning:
    """One cause with all that it affects."""

    kind: Kind
    cause: str
    noun: str
    """What is affected: measurement, variant, server."""
    of: int
    """How many of them the run has."""
    affected: tuple[Affected, ...]
    """The worst first."""
    remedy: str

    @property
    def line(self) -> str:
        """Returns cause, count, the worst and what to do, in one sentence."""
        preposition, plural = "in" if self.noun == "measurement" else "for", "" if self.of == 1 else "s"
        worst, count = self.affected[0], len(self.affected)
        said = f"{'worst: ' if count > 1 else ''}{worst.where}, {worst.text}"
        return f"{self.cause} {preposition} {count} of {self.of} {self.noun}{plural} ({said}): {self.remedy}"


def group(found: Mapping[Kind, tuple[int, Iterable[Affected]]]) -> tuple[GroupedWarning, ...]:
    """Returns a warning for each kind with something affected; with each kind comes how many could have been."""
    made = list[GroupedWarning]()
    for kind, (cause, noun, remedy) in _MEANING.items():
        of, affected = found[kind]
        sign = 1 if kind == "few samples" else -1
        worst = sorted(affected, key=lambda each: sign * (each.value or 0.0))
        made += [GroupedWarning(kind, cause, noun, of, tuple(worst), remedy)] if worst else []
    return tuple(made)


def lines(warnings: Sequence[GroupedWarning]) -> list[str]:
    """Returns a line for each warning, at most `MOST_LINES`: the last then names the causes that are left."""
    shown, rest = split(warnings)
    more = [f"{len(rest)} more: {'; '.join(each.cause for each in rest)} (see results.json)"] if rest else []
    return [*(each.line for each in shown), *more]


def split(warnings: Sequence[GroupedWarning]) -> tuple[Sequence[GroupedWarning], Sequence[GroupedWarning]]:
    """Returns the warnings that are shown, and those for which one of `MOST_LINES` is kept where they are more."""
    shown = len(warnings) if len(warnings) <= MOST_LINES else MOST_LINES - 1
    return warnings[:shown], warnings[shown:]
