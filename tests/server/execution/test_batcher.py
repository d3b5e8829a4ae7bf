"""What waits and how it is grouped: room, order, limits, and the delay that only those pay who have company."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import pytest

from protos.errors import OverloadedError, UnavailableError, UsageError
from server.execution import batcher
from server.execution.batcher import Batcher, BatchLimit, make_limits
from tests.support.serving import eventually

FOR_EVER = 3600.0


@dataclass(eq=False)
class Item:
    rows: int = 1
    admitted: float = 0.0


def put(queue: Batcher[Item], *rows: int) -> list[Item]:
    items = [Item(count, perf_counter()) for count in rows]
    for item in items:
        queue.put(item)
    return items


def taken(queue: Batcher[Item]) -> list[int]:
    return [item.rows for item in queue.take()]


class Waiter:
    """A worker that waits once."""

    def __init__(self, queue: Batcher[Item]) -> None:
        self.answers: list[bool] = []
        self._thread = threading.Thread(target=lambda: self.answers.append(queue.wait()), daemon=True)
        self._thread.start()

    def ended(self) -> list[bool]:
        self._thread.join(30)
        return self.answers


async def asleep(queue: Batcher[Item]) -> None:
    """Until the worker of `queue` sleeps."""
    await eventually(lambda: queue._wanted != batcher.NEVER)


def sleeping(queue: Batcher[Item]) -> Waiter:
    """A worker that waits in its sleep."""
    waiter = Waiter(queue)
    asyncio.run(asleep(queue))
    return waiter


@pytest.mark.parametrize(
    ("limit", "rows", "batches"),
    [
        (1, [1, 1], [[1], [1]]),
        (4, [1, 1, 1], [[1, 1, 1]]),
        (4, [1, 2, 1, 1], [[1, 2, 1], [1]]),
        (4, [3, 2, 1], [[3], [2, 1]]),  # the third does not overtake the second
        (4, [9, 1, 9], [[9], [1], [9]]),
    ],
)
def test_a_batch_is_what_waits_in_its_order_up_to_the_limit(
    limit: int, rows: list[int], batches: list[list[int]]
) -> None:
    queue: Batcher[Item] = Batcher(8, BatchLimit(limit))
    put(queue, *rows)
    assert [taken(queue) for _ in batches] == batches
    assert taken(queue) == []


def test_what_is_discarded_gives_its_place_back_and_is_not_taken() -> None:
    queue: Batcher[Item] = Batcher(2, BatchLimit(8))
    first, _ = put(queue, 1, 2)
    with pytest.raises(OverloadedError, match="2 requests are waiting"):
        put(queue, 3)
    assert queue.discard(first)
    assert not queue.discard(first)
    put(queue, 3)
    assert taken(queue) == [2, 3]


def test_a_worker_that_sleeps_is_woken_by_the_first_item() -> None:
    queue: Batcher[Item] = Batcher(2, BatchLimit(8))
    waiter = sleeping(queue)
    put(queue, 1)
    assert waiter.ended() == [True]


def test_after_close_nothing_is_admitted_and_what_waits_is_taken_before_the_end() -> None:
    queue: Batcher[Item] = Batcher(2, BatchLimit(8))
    put(queue, 1)
    queue.close()
    with pytest.raises(UnavailableError):
        put(queue, 1)
    assert queue.wait()
    assert taken(queue) == [1]
    assert not queue.wait()


def test_close_wakes_a_worker_that_sleeps() -> None:
    queue: Batcher[Item] = Batcher(2, BatchLimit(8))
    waiter = sleeping(queue)
    queue.close()
    assert waiter.ended() == [False]


def test_a_lone_request_does_not_pay_for_the_delay() -> None:
    queue: Batcher[Item] = Batcher(8, BatchLimit(8, FOR_EVER))
    for _ in range(3):  # one in flight, again and again
        waiter = sleeping(queue)
        put(queue, 1)
        assert waiter.ended() == [True]
        assert taken(queue) == [1]


def company(limit: int, delay: float, rows: int, clock: Callable[[], float] = perf_counter) -> Batcher[Item]:
    """A queue that has just given a batch of so many rows."""
    queue: Batcher[Item] = Batcher(64, BatchLimit(limit, delay), clock)
    put(queue, *[1] * rows)
    assert queue.wait()
    queue.take()
    return queue


def test_with_a_delay_as_many_are_awaited_as_were_in_play() -> None:
    queue = company(8, FOR_EVER, 3)
    put(queue, 1)
    waiter = sleeping(queue)
    assert queue._wanted == 4  # the three that were answered, and the one that came meanwhile
    put(queue, 1, 1)
    assert waiter.answers == []
    put(queue, 1)
    assert waiter.ended() == [True]
    assert taken(queue) == [1] * 4


def test_a_batch_that_is_full_does_not_wait_for_the_delay() -> None:
    queue = company(2, FOR_EVER, 6)
    assert queue.wait()
    assert taken(queue) == [1, 1]


def test_the_delay_ends_the_wait() -> None:
    queue = company(8, 0.05, 3)
    put(queue, 1)
    assert queue.wait()
    assert taken(queue) == [1]


def test_the_delay_is_not_paid_when_the_last_batch_was_long_ago() -> None:
    passed = 0.0
    queue = company(8, 60.0, 3, lambda: perf_counter() + passed)
    waiter = sleeping(queue)
    passed = 61.0
    put(queue, 1)
    assert waiter.ended() == [True]


def test_a_worker_that_wakes_up_late_loses_no_signal() -> None:
    queue = company(2, 1e-9, 2)
    for _ in range(2000):  # the delay passes while the last one comes
        waiter = threading.Thread(target=put, args=(queue, 1, 1))
        waiter.start()
        assert queue.wait()
        assert taken(queue)
        waiter.join()
        while len(queue):
            assert queue.wait()
            queue.take()


@pytest.mark.parametrize("text", ["toy", "toy=", "toy=0", "toy=-1", "=4", "toy=4:", "toy=4:x", "toy=4:-1", "toy=4,5"])
def test_a_limit_of_another_form_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match=r"--batch: got '.*', expected MODEL=ROWS"):
        make_limits(16, 0.0, (text,))
