"""What a person sees of long work, on stderr: a bar on a terminal, a line for each finished thing anywhere."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")

console = Console(stderr=True, highlight=False, log_path=False, soft_wrap=True)


def say(text: str) -> None:
    """Prints a line with the time of day."""
    console.log(text, markup=False)


def first_line(error: BaseException) -> str:
    """Returns the first line of an error, or its kind where it says nothing: libraries' texts can fill a screen."""
    return (str(error).strip() or type(error).__name__).partition("\n")[0]


def track(items: Iterable[T], total: int, description: str) -> Iterator[T]:
    """Yields `items` beside a bar that goes away when they are done; without the bar where stderr is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield from progress.track(items, total=total, description=description)
