"""How many executions run at once, by a plan from the cores that this program may really use, and which is next.

Executions of all variants of one worker share its `slots`; workers x slots x threads fits the cores, so that none
waits for another's core. A slot that is given back goes straight to the thread that has waited longest: with
`threading.Semaphore` a busy variant takes it again before a waiter has woken up, until it has nothing more to do.
"""

import threading
from collections import deque
from dataclasses import dataclass

from protos.errors import UsageError


@dataclass(frozen=True)
class Plan:
    """Each of `workers` processes runs at most `slots` executions at once, each of `threads` threads, on `cores`."""

    cores: int
    threads: int
    slots: int
    workers: int = 1

    def __str__(self) -> str:
        return f"{self.cores} cores, workers x slots x threads = {self.workers} x {self.slots} x {self.threads}"


def make_plan(threads: int, cores: int, workers: int = 1) -> Plan:
    """Returns the plan for engines of `threads` threads; `UsageError` where one in each worker would not fit."""
    if threads > cores:
        raise UsageError(f"--threads: got {threads}, expected at most the {cores} available cores")
    if workers * threads > cores:
        most = f"{cores // threads} ({cores} available cores / {threads} threads)"
        raise UsageError(f"--workers: got {workers}, expected at most {most}")
    return Plan(cores, threads, cores // (threads * workers), workers)


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
