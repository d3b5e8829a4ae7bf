"""What servers said of calls that failed: the different texts, counted, bounded and made fit to be shown."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

LONGEST_TEXT = 320
"""At most so many characters of what a server said are kept: it may say anything."""

MOST_TEXTS = 20
"""After so many different texts, new ones count as `OTHERS`."""

OTHERS = "(other texts)"


@dataclass(frozen=True)
class Failure:
    """Calls that failed with one status and one text."""

    status: str
    text: str
    count: int


class Tally:
    """Counts failures as they come; a call costs one look into a dictionary."""

    def __init__(self) -> None:
        self._counts = Counter[tuple[str, str]]()

    def add(self, status: str, text: str, count: int = 1) -> None:
        """Counts `count` calls."""
        key = (status, text)
        if key not in self._counts and len(self._counts) >= MOST_TEXTS:
            key = (status, OTHERS)
        self._counts[key] += count

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Returns what was counted, the most frequent first."""
        shown = Counter[tuple[str, str]]()
        for (status, text), count in self._counts.items():
            shown[status, plain(text)] += count
        return tuple(Failure(*key, count) for key, count in shown.most_common())


def merge(failures: Iterable[Failure]) -> tuple[Failure, ...]:
    """Returns the failures of several blocks as those of one."""
    tally = Tally()
    for failure in sorted(failures, key=lambda each: -each.count):
        tally.add(failure.status, failure.text, failure.count)
    return tally.failures


def plain(text: str) -> str:
    """Returns a server's text on one line, of bounded length, without control characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * LONGEST_TEXT]).split())
    return line if len(line) <= LONGEST_TEXT else line[:LONGEST_TEXT] + "..."
