"""One server for each door, for all clients that are hostile to it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

from tests.support.serving import ServerProcess, serving


@pytest.fixture(scope="session")
def attacked(repository: Path) -> Iterator[Callable[[str], ServerProcess]]:
    """The server of each door, started when a test first needs it."""
    with ExitStack() as running:

        @cache
        def of(front: str) -> ServerProcess:
            return running.enter_context(serving(repository, "--front", front))

        yield of


@pytest.fixture
def server(attacked: Callable[[str], ServerProcess], front: str) -> ServerProcess:
    """A server as it is started without flags."""
    return attacked(front)
