"""McNemar's exact test, with values that can be counted by hand."""

import pytest

from protos.support.significance import mcnemar_p


@pytest.mark.parametrize(
    ("lost", "gained", "p"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        (0, 6, 2 / 64),
        (1, 9, 22 / 1024),
        (9, 1, 22 / 1024),
        (8, 2, 2 * (1 + 10 + 45) / 1024),
    ],
)
def test_mcnemars_p_is_exact(lost: int, gained: int, p: float) -> None:
    assert mcnemar_p(lost, gained) == p


def test_many_flips_need_no_approximation() -> None:
    """Worth a test, as the numbers of ways are beyond any float."""
    assert mcnemar_p(5000, 5000) == 1.0
    assert mcnemar_p(0, 900) == 2.0**-899
