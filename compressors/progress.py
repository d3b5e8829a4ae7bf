"""What a person sees of long work, on stderr: a bar on a terminal, a line for each finished thing anywhere."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from protos.support.failures import telling_line, without_paths

T = TypeVar("T")

console = Console(stderr=True, highlight=False, log_path=False, soft_wrap=True)


def say(text: str) -> None:
    """Prints a line with the time of day."""
    console.log(text, markup=False)


def first_line(error: BaseException) -> str:
    """Returns the line of an error that tells what was wrong, without paths of this machine."""
    return without_paths(telling_line(error))


def minutes(seconds: float) -> str:
    """Returns a time for people: in seconds below two minutes, else in minutes."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def track(items: Iterable[T], total: int, description: str) -> Iterator[T]:
    """Yields `items` beside a bar that goes away when they are done; without the bar where stderr is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield from progress.track(items, total=total, description=description)
