"""Who may compute next: the one that has waited longest, and never more than there are slots."""

import asyncio
import threading

from server.execution.threads import Slots
from tests.support.serving import eventually


def enter(slots: Slots, number: int, entered: list[int], leave: threading.Event) -> threading.Thread:
    """A thread that takes its turn, tells so, and stays until `leave`; it holds a slot or waits for one on return."""

    def run() -> None:
        with slots:
            entered.append(number)
            assert leave.wait(30)

    before = len(entered) + slots.waiting()
    thread = threading.Thread(target=run)
    thread.start()
    asyncio.run(eventually(lambda: len(entered) + slots.waiting() == before + 1))
    return thread


def test_turns_come_in_the_order_of_arrival() -> None:
    slots, entered, leave = Slots(1), list[int](), threading.Event()
    threads = [enter(slots, number, entered, leave) for number in range(6)]
    assert (entered, slots.waiting()) == ([0], 5)
    leave.set()
    for thread in threads:
        thread.join(30)
    assert (entered, slots.waiting()) == ([0, 1, 2, 3, 4, 5], 0)


def test_one_that_leaves_and_comes_back_is_behind_those_that_waited() -> None:
    slots, order, leave = Slots(1), list[int](), threading.Event()
    leave.set()
    with slots:
        waiter = enter(slots, 1, order, leave)
    with slots:
        order.append(0)
    waiter.join(30)
    assert order == [1, 0]


def test_as_many_as_there_are_slots_enter_at_once() -> None:
    slots, entered, leave = Slots(2), list[int](), threading.Event()
    threads = [enter(slots, number, entered, leave) for number in range(3)]
    assert (entered, slots.waiting()) == ([0, 1], 1)
    leave.set()
    for thread in threads:
        thread.join(30)
    assert entered == [0, 1, 2]


def test_a_failure_inside_gives_the_slot_back() -> None:
    slots = Slots(1)
    try:
        with slots:
            raise RuntimeError
    except RuntimeError:
        pass
    with slots:
        assert slots.waiting() == 0
