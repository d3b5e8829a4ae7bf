"""SIGINT and SIGTERM while a run is prepared and measured: noted when they come, acted on where it is safe.

An exception raised at any line would end up in some greenlet or callback that only prints it. So a first signal is
noted, and raised as `Interrupted` by the next sleep, or at the latest by the end of the block. A second signal does
what it does without this module.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Sleep = Callable[[float], None]

NOTICE_SECONDS = 0.2
"""A sleep ends at most this long after a signal."""


class Interrupted(Exception):
    """A signal asked for the end of the run."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum
        self.left = "nothing was written"
        """What the run leaves behind."""


@contextmanager
def interruptible() -> Iterator[Sleep]:
    """Yields a sleep that a signal ends. After a signal the block ends with `Interrupted`, whatever it did."""
    received: list[int] = []

    def on_signal(signum: int, _: FrameType | None) -> None:
        received.append(signum)
        signal.signal(signum, previous[signal.Signals(signum)])

    def check() -> None:
        if received:
            raise Interrupted(received[0])

    def sleep(seconds: float) -> None:
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            check()
            time.sleep(min(left, NOTICE_SECONDS))
        check()

    previous = {signum: signal.signal(signum, on_signal) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield sleep
        check()
    except Interrupted:
        raise
    except BaseException:
        check()
        raise
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
