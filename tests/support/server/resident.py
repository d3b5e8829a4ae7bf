"""The resident memory of a server, now and all the while."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from tests.support.serving import ServerProcess

LOOK_SECONDS = 0.005


def resident(server: ServerProcess) -> int:
    """Bytes."""
    return int(psutil.Process(server.pid).memory_info().rss)


@contextmanager
def sampling(server: ServerProcess) -> Iterator[list[int]]:
    """Looks at it all the while; yields what was seen so far."""
    taken, over = [resident(server)], threading.Event()

    def look() -> None:
        while not over.wait(LOOK_SECONDS):
            taken.append(resident(server))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield taken
    finally:
        over.set()
        looking.join()
