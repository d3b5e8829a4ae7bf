"""Signals are noted when they come, and raised where it is safe."""

import signal
from collections.abc import Iterator

import pytest

from loadtest.interrupt import Interrupted, interruptible

INT, TERM = signal.SIGINT, signal.SIGTERM


@pytest.fixture(autouse=True)
def terminal() -> Iterator[None]:
    """SIGINT as from a terminal: a suite that is started by nohup or in the background inherits it as ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted(*signals: signal.Signals, seconds: float | None = None, error: bool = False) -> list[str]:
    """What is done after the signals, of: reaching the next line, sleeping (if `seconds`), failing (if `error`)."""
    done = []
    try:
        with interruptible() as sleep:
            for number in signals:
                signal.raise_signal(number)
            done.append("next line")
            if seconds is not None:
                sleep(seconds)
                done.append("slept")
            if error:
                raise ValueError
    except Interrupted as interrupt:
        done.append(str(interrupt))
    return done


@pytest.mark.parametrize("number", [INT, TERM])
@pytest.mark.parametrize("seconds", [600.0, 0.0])
def test_a_signal_ends_the_next_sleep_even_one_of_nothing(number: signal.Signals, seconds: float) -> None:
    assert interrupted(number, seconds=seconds) == ["next line", number.name]


def test_a_block_that_never_sleeps_ends_with_the_signal_all_the_same() -> None:
    assert interrupted(INT) == ["next line", "SIGINT"]


def test_a_signal_goes_before_another_error() -> None:
    assert interrupted(INT, error=True) == ["next line", "SIGINT"]


def test_a_second_signal_is_not_held_back() -> None:
    assert interrupted(INT, INT) == ["SIGINT"]


def test_an_interruption_bears_its_signal() -> None:
    assert (Interrupted(TERM).signum, str(Interrupted(TERM))) == (15, "SIGTERM")


def test_afterwards_signals_do_what_they_did_before() -> None:
    before = [signal.getsignal(number) for number in (INT, TERM)]
    with interruptible() as sleep:
        sleep(0)
    assert [signal.getsignal(number) for number in (INT, TERM)] == before
