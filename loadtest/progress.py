"""What is measured now, how far the run is, and how long it will still take; for a person, on stderr."""

import time
from collections.abc import Generator, Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from loadtest.plan import Block


def narrate(blocks: Sequence[Block], seconds: float, console: Console) -> Generator[Block]:
    """Yields the blocks, each announced before it is measured: by a bar on a terminal, else by a line.

    A block takes at least `seconds`. Nothing is drawn meanwhile: that would cost the load generator CPU.
    """
    columns = (BarColumn(), TextColumn("{task.completed}/{task.total}"), TextColumn("{task.description}"))
    off = not blocks or not console.is_terminal
    with Progress(*columns, console=console, auto_refresh=False, disable=off) as progress:
        task, began = progress.add_task("", total=len(blocks)), time.monotonic()
        for done, block in enumerate(blocks):
            each = max(seconds, (time.monotonic() - began) / done) if done else seconds
            left = _minutes(each * (len(blocks) - done))
            text = f"{block.variant}, {block.load.name}, round {block.round}, {left} left"
            progress.update(task, completed=done, description=text, refresh=True)
            if not console.is_terminal:
                console.print(f"[{done + 1}/{len(blocks)}] {text}", highlight=False, markup=False, soft_wrap=True)
            yield block
        progress.update(task, completed=len(blocks), description="done", refresh=True)


def _minutes(seconds: float) -> str:
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s" if seconds >= 60 else f"{seconds:.0f} s"
