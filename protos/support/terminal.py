"""What programs print for a person: as wide as the terminal, `NARROW` where there is none, and nothing is cut."""

import os
import sys
import textwrap
from collections.abc import Collection, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

NARROW = 80
"""Characters of a line where no terminal and no COLUMNS says otherwise."""
CELL = 10
"""Characters of a line in a cell that is broken between words."""


class Screen(Console):
    """Standard output or standard error; text is printed as it is, without markup and colours of its own."""

    def __init__(self, stderr: bool = False) -> None:
        stream = sys.stderr if stderr else sys.stdout
        known = stream.isatty() or os.environ.get("COLUMNS", "").isdigit()
        width = None if known else NARROW
        super().__init__(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)

    def on_broken_pipe(self) -> None:
        """Leaves the error to `protos.support.program.quiet_end`."""
        raise

    def report(self, path: Path) -> None:
        """Prints where a report is; a path is never broken."""
        self.print(f"Report: {path}", soft_wrap=True)

    def say(self, text: str, indent: str = "  ") -> None:
        """Prints a line, broken between words where it is too long; what follows the break is indented."""
        self.print(wrapped(text, self.width, indent), soft_wrap=True)


def fitting(
    title: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Collection[int],
    width: int,
    folded: Collection[int] = (0,),
) -> Table:
    """Returns a table for `width` characters, with the columns `right` aligned to the right.

    Where it must be narrower, texts are broken between words, and at last those of the columns `folded` anywhere.
    """
    whole = table(title, headings, rows, right, folded)
    return whole if fits(whole, width) else table(title, headings, rows, right, folded, narrow=True)


def table(
    title: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Collection[int],
    folded: Collection[int] = (0,),
    narrow: bool = False,
) -> Table:
    """Returns a table; with `narrow` texts are broken between words, except those of the columns `folded`."""
    made = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    made.collapse_padding = True
    for i, heading in enumerate(headings):
        shown = Text(heading.replace(" ", "\n") if narrow else heading)
        made.add_column(shown, justify="right" if i in right else "left", no_wrap=i not in folded, overflow="fold")
    for row in rows:
        made.add_row(*(Text(wrapped(t, CELL, "") if narrow and i not in folded else t) for i, t in enumerate(row)))
    return made


def fits(shown: Table, width: int) -> bool:
    """Returns whether a table needs no more than `width` characters, if nothing of it is folded."""
    return Console(width=10_000).measure(shown).maximum <= width


def wrapped(text: str, width: int, indent: str = "  ") -> str:
    """Returns a line broken between words into lines of at most `width`; longer words stay whole."""
    return textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
