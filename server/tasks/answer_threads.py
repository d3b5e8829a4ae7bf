"""Threads for answers that take too long to be made on the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from protos.errors import OverloadedError
from server.execution.engine import Observer

P = ParamSpec("P")
R = TypeVar("R")


class AnswerThreads:
    """Makes answers in `threads` threads; while more than `queue_size` wait for one, no request should begin."""

    def __init__(self, threads: int, queue_size: int) -> None:
        self._pool = ThreadPoolExecutor(threads, "answers")
        self._room = threads + queue_size
        self._under_way = 0  # counted on the event loop

    def check_room(self, observer: Observer) -> None:
        """Raises `OverloadedError`, and tells `observer`, where answers are made slower than engines compute.

        A request is refused before its execution, never after it. Those that engines have accepted before may still
        come, and wait.
        """
        if self._under_way >= self._room:
            observer.rejected("queue_full")
            raise OverloadedError(f"{self._under_way} answers are being made, {self._room} at most")

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Returns what the function returns in a thread; where its caller goes away before that begins, it is left."""
        self._under_way += 1
        try:
            return await asyncio.wrap_future(self._pool.submit(function, *args, **kwargs))
        finally:
            self._under_way -= 1

    def close(self) -> None:
        """Ends the threads; what waits for them is left undone."""
        self._pool.shutdown(wait=False, cancel_futures=True)
