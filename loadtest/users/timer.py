"""A timer that wakes a greenlet to a tenth of a millisecond.

gevent's own sleep is up to a millisecond late, which is half of the mean time between two arrivals at 500 per second.
Linux' timerfd is a file descriptor that becomes readable on time, so that a loop can wait for it without spinning.
Source: https://man7.org/linux/man-pages/man2/timerfd_create.2.html (Python has it from 3.13 on: `os.timerfd_create`)
"""

import ctypes
import math
import os
import time

from gevent.socket import wait_read

_LIBC = ctypes.CDLL(None, use_errno=True)
_ABSOLUTE = 1  # TFD_TIMER_ABSTIME


class _Spec(ctypes.Structure):
    """struct itimerspec: an interval, which stays 0, and the time of the first expiration."""

    _fields_ = (("interval", ctypes.c_long * 2), ("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Timer:
    """One greenlet's timer."""

    def __init__(self) -> None:
        flags = os.O_NONBLOCK | os.O_CLOEXEC
        self._fd = _checked(_LIBC.timerfd_create(time.CLOCK_MONOTONIC, flags))  # the clock of `perf_counter`

    def wait_until(self, due: float) -> None:
        """Returns at `due`, a time of `perf_counter`; at once where that is past."""
        if due <= time.perf_counter():
            return
        part, whole = math.modf(due)
        spec = _Spec(seconds=int(whole), nanoseconds=int(part * 1e9))
        _checked(_LIBC.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(spec), None))
        wait_read(self._fd)
        os.read(self._fd, 8)

    def close(self) -> None:
        """Gives the descriptor back."""
        os.close(self._fd)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
