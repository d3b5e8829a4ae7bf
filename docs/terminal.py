"""Makes an animated picture (SVG) of a program's output: its lines push up as they came, long waits shortened.

make demo 2>&1 | .venv/bin/python docs/terminal.py "make demo" docs/terminal.svg
"""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path

COLUMNS, ROWS = 110, 24
LETTER, LINE, MARGIN = 7.3, 17, 14
"""Pixels: the width of a letter, the height of a line, the space around the text."""
LONGEST_WAIT, LAST_WAIT = 0.25, 8.0
"""Seconds: what a longer wait is shortened to, and how long the last lines stand."""

PICTURE = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">
<style>
text {{ font: 12px ui-monospace, Menlo, Consolas, monospace; fill: #e2e8f0; white-space: pre }}
text:first-child {{ fill: #7dd3fc }}
g {{ animation: output {seconds:.1f}s step-end infinite }}
@keyframes output {{ {moves} }}
</style>
<rect width="100%" height="100%" rx="8" fill="#0f172a"/>
<svg x="{margin}" y="{margin}" width="{inner_width}" height="{inner_height}"><g>
{lines}
</g></svg>
</svg>
"""


def timed(lines: Iterable[str]) -> Iterator[tuple[float, str]]:
    """Yields each line with the seconds at which it is to appear."""
    at, last = 0.0, time.monotonic()
    for line in lines:
        now = time.monotonic()
        at, last = at + min(now - last, LONGEST_WAIT), now
        yield at, line.rstrip().expandtabs()[:COLUMNS]


def picture(command: str, output: Sequence[tuple[float, str]]) -> str:
    """Returns the picture of a command and the lines that it printed, each with its time."""
    shown = [(0.0, f"$ {command}"), *output]
    seconds = shown[-1][0] + LAST_WAIT
    pushed = {f"{100 * at / seconds:.2f}%": (ROWS - count) * LINE for count, (at, _) in enumerate(shown, 1)}
    width, height = round(COLUMNS * LETTER), ROWS * LINE
    return PICTURE.format(
        width=width + 2 * MARGIN,
        height=height + 2 * MARGIN,
        inner_width=width,
        inner_height=height,
        margin=MARGIN,
        seconds=seconds,
        moves=" ".join(f"{share} {{ transform: translateY({y}px) }}" for share, y in pushed.items()),
        lines="\n".join(f'<text y="{LINE * i + 13}">{escape(text)}</text>' for i, (_, text) in enumerate(shown)),
    )


if __name__ == "__main__":
    command, path = sys.argv[1:]
    Path(path).write_text(picture(command, list(timed(sys.stdin))), encoding="utf-8")
