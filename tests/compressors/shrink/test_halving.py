"""Successive halving: the best go on, and the time is kept."""

import pytest

from compressors.shrink import halving
from compressors.shrink.halving import Candidate, Outcome, Product, affordable, halve, sizes
from protos.errors import UsageError


def candidate(name: str, seconds: float = 1.0, distilled: bool = False) -> Candidate:
    return Candidate(name, distilled, seconds)


SIX = [candidate(name) for name in "abcdef"]


class Trainer:
    """Trains in no time: accuracy by the candidate's name, later letters better, at the seconds it announced."""

    def __init__(self, slower: float = 1.0) -> None:
        self.done: list[tuple[str, int]] = []
        self.seconds, self._slower = 0.0, slower

    def __call__(self, one: Candidate, epochs: int) -> Outcome:
        self.done.append((one.network, epochs))
        seconds = epochs * one.epoch_seconds * (self._slower if len(self.done) <= 6 else 1.0)
        self.seconds += seconds
        return Outcome(ord(one.network) / 1000, seconds)


def test_a_third_goes_on_to_each_rung() -> None:
    assert [sizes(n) for n in (9, 6, 4, 2, 1)] == [[9, 3, 1], [6, 2, 1], [4, 1], [2, 1], [1]]


def test_the_best_third_goes_on_and_the_best_of_all_has_half_the_time() -> None:
    trainer = Trainer()
    assert halve(SIX, 240.0, trainer) == Product(candidate("f"), 120)
    assert trainer.done == [*((name, 10) for name in "abcdef"), ("f", 30), ("e", 30)]


def test_the_first_of_equals_goes_on() -> None:
    product = halve(SIX, 240.0, lambda one, epochs: Outcome(0.5, epochs * one.epoch_seconds))
    assert product.candidate.network == "a"


def test_a_rung_shares_time_not_epochs() -> None:
    trainer = Trainer()
    halve([candidate("a"), candidate("b", 2.5)], 100.0, trainer)
    assert trainer.done == [("a", 25), ("b", 10)]


@pytest.mark.parametrize("seconds", [37.0, 100.0, 333.0, 1000.0])
@pytest.mark.parametrize("count", [1, 2, 3, 6, 9])
def test_all_trainings_together_keep_to_the_time(seconds: float, count: int) -> None:
    given = affordable([candidate(chr(97 + i), 0.7 + 0.3 * i) for i in range(count)], seconds)
    trainer = Trainer()
    product = halve(given, seconds, trainer)
    assert trainer.seconds + product.epochs * product.candidate.epoch_seconds <= seconds


def test_what_a_rung_took_too_long_the_next_ones_have_less() -> None:
    trainer = Trainer(slower=2.0)
    product = halve(SIX, 240.0, trainer)
    assert trainer.done[6:] == [("f", 1), ("e", 1)]  # the first rung took all of the time for choosing
    assert product == Product(candidate("f", 2.0), 58)


def test_the_product_has_fewer_epochs_where_it_has_more_images() -> None:
    assert halve([candidate("a")], 125.0, Trainer(), longer=1.25).epochs == 100


def test_small_data_is_not_trained_longer_than_it_is_worth() -> None:
    trainer = Trainer()
    assert halve(SIX, 1e6, trainer).epochs == halving.MOST_EPOCHS == 150
    assert trainer.done[0] == ("a", 12)
    assert trainer.done[6] == ("f", 38)


def test_the_dearest_candidates_are_left_out_where_the_time_is_short() -> None:
    six = [candidate(name, 20.0 if name in "bd" else 1.0) for name in "abcdef"]
    assert [one.network for one in affordable(six, 100.0)] == ["a", "c", "e", "f"]
    assert affordable(six, 10_000.0) == six


def test_time_that_is_too_short_for_any_training_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"--budget: 3 s are left for training, expected 2 epochs of 2 s or more, as a"
    ):
        affordable([candidate("a", 2.0), candidate("b", 3.0, distilled=True)], 3.0)
