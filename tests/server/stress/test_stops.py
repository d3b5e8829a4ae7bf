"""SIGTERM under load, twice in a row through each door; `make stops` does it more often."""

from pathlib import Path

import pytest

from tests.server.stress.stops import stop


@pytest.mark.parametrize("time", [1, 2])
def test_a_server_that_is_stopped_under_load_loses_no_accepted_call(repository: Path, front: str, time: int) -> None:
    assert stop(repository, front) == []
