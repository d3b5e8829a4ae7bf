"""How long the pool waits before it replaces a dead worker."""

from itertools import pairwise

from server.workers.respawn import FIRST_PAUSE_SECONDS, HEALTHY_SECONDS, LONGEST_PAUSE_SECONDS, BackOff


def test_the_pause_doubles_with_each_death_up_to_a_limit() -> None:
    back_off = BackOff()
    taken = [back_off.after(lived=1.0) for _ in range(12)]
    assert taken[0] == FIRST_PAUSE_SECONDS
    assert all(later == min(2 * sooner, LONGEST_PAUSE_SECONDS) for sooner, later in pairwise(taken))
    assert taken[-1] == LONGEST_PAUSE_SECONDS


def test_the_pause_is_the_first_again_after_a_worker_that_lived_for_a_while() -> None:
    back_off = BackOff()
    for _ in range(12):
        back_off.after(lived=1.0)
    assert back_off.after(lived=HEALTHY_SECONDS) == FIRST_PAUSE_SECONDS
    assert back_off.after(lived=1.0) == 2 * FIRST_PAUSE_SECONDS
