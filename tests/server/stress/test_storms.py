"""Many calls and many connections, fewer than `make storms` makes: all are answered, and nothing of them is left."""

from pathlib import Path

import pytest

from tests.server.stress.storms import CALLS_OF_A_CONNECTION, many_calls, many_connections
from tests.support import toy
from tests.support.server.doors import DOORS
from tests.support.serving import serving

CALLS, CONNECTIONS = 2 * CALLS_OF_A_CONNECTION, 200


@pytest.mark.parametrize("front", [DOORS[0], *(pytest.param(door, marks=pytest.mark.long) for door in DOORS[1:])])
def test_many_calls_and_connections_are_answered_and_leave_nothing(tmp_path: Path, front: str) -> None:
    with serving(toy.repository(tmp_path, ("onnxruntime",)), "--front", front) as server:
        calls, connections = many_calls(server, CALLS), many_connections(server, CONNECTIONS)
    assert (calls.ends, calls.harm) == ({"OK": CALLS}, "")
    assert (connections.ends, connections.harm) == ({"OK": CONNECTIONS}, "")
