"""SIGTERM and SIGINT: the first asks the program to end, the second ends it."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

NUMBERS = (signal.SIGTERM, signal.SIGINT)

logger = logging.getLogger(__name__)


@contextmanager
def stop_signals(last_act: Callable[[], None] = lambda: None) -> Iterator[asyncio.Event]:
    """The event is set by SIGTERM or SIGINT; the next one ends the process at once, with 128 + its number.

    `last_act` is what must not be left undone even then; it must not block.
    """
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def handle(number: int) -> None:
        if stop.is_set():
            logger.warning("forced to end by a second signal")
            last_act()
            os._exit(128 + number)  # no engine, thread or client can hold this up
        stop.set()

    for number in NUMBERS:
        loop.add_signal_handler(number, handle, number)
    try:
        yield stop
    finally:
        for number in NUMBERS:
            loop.remove_signal_handler(number)
