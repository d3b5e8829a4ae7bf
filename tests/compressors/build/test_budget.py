"""How the time of a build is shared, and what it says of the rest."""

import pytest

from compressors.build.budget import EVALUATION_SECONDS, Budget
from compressors.measure.latency import SECONDS


def test_without_a_budget_each_variant_has_its_usual_time() -> None:
    budget = Budget(None)
    assert (budget.evaluation(3), budget.timing(3)) == (EVALUATION_SECONDS, SECONDS)


def test_half_of_the_time_is_for_the_accuracy_of_all_that_are_left() -> None:
    budget = Budget(600.0)
    assert [budget.evaluation(left) for left in (10, 1)] == pytest.approx([30.0, 300.0], rel=0.01)
    assert budget.timing(10) == pytest.approx(30.0, rel=0.01)


def test_a_budget_that_is_spent_leaves_the_least() -> None:
    budget = Budget(-1.0)
    assert (budget.evaluation(3), budget.timing(3)) == (0.0, 0.0)


def test_what_is_left_is_told_in_minutes() -> None:
    assert Budget(None).remaining(1, 12) == "about 72 s left at most"
