"""A short soak: the server stays flat, and one that does not is found out."""

from pathlib import Path

import pytest

from tests.server.stress.soak import ALLOWED, FRONTS, soak
from tests.support import toy


@pytest.mark.parametrize("front", [FRONTS[0], *(pytest.param(front, marks=pytest.mark.long) for front in FRONTS[1:])])
def test_under_mixed_traffic_and_faults_nothing_grows(tmp_path: Path, front: str) -> None:
    found = soak(toy.repository(tmp_path), 12.0, "--front", front)
    assert found.unexpected == {}
    assert found.growing == set(), "\n".join(map(str, found.trends))


def test_a_leak_of_every_kind_is_caught(tmp_path: Path) -> None:
    found = soak(toy.repository(tmp_path), seconds=6.0, program="tests.server.stress.leaky")
    assert found.unexpected == {}
    assert found.growing == set(ALLOWED), "\n".join(map(str, found.trends))
