"""Slots: how many threads may compute at once, and who is next.

A slot that is given back goes straight to the thread that has waited longest. With `threading.Semaphore` a busy
variant takes the slot again before a waiter has woken up, and an idle one waits until the busy one stops.
"""

import threading
from collections import deque


class Slots:
    """At most `count` threads are inside of the `with` block at once; the others enter in their order of arrival."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._turns: deque[threading.Lock] = deque()
        self._mutex = threading.Lock()

    def waiting(self) -> int:
        """Returns how many threads wait for their turn."""
        return len(self._turns)

    def __enter__(self) -> None:
        with self._mutex:
            if self._free:  # then nobody waits
                self._free -= 1
                return
            turn = threading.Lock()
            turn.acquire()
            self._turns.append(turn)
        turn.acquire()

    def __exit__(self, *_: object) -> None:
        with self._mutex:
            if self._turns:
                self._turns.popleft().release()  # handed over: the slot is never free in between
            else:
                self._free += 1
