"""Floods of streams and of frames harm nobody but who sends them."""

import pytest

from tests.support.server.bystanders import unharmed
from tests.support.server.doors import expected
from tests.support.server.floods import FLOODS
from tests.support.server.http2 import Connection, pack
from tests.support.serving import ServerProcess

SIZES = {
    "resets": 50_000,
    "requests and resets": 2_000,
    "overflowing windows": 5_000,
    "unknown flags": 2_000,
    "data after the end": 2_000,
    "pings": 10_000,
    "settings": 10_000,
    "continuations": 10_000,
    "empty data": 10_000,
}
"""Streams, or frames: more than any limit that a door has. `make storms` sends more."""


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_harms_nobody_else(server: ServerProcess, front: str, flood: str) -> None:
    frames = pack(*FLOODS[flood](SIZES[flood]))
    with unharmed(server) as others, Connection(server.grpc_address) as client:
        client.send(frames)
        cut_off = client.cut_off()
        others.burst()  # all of it was read, and none of it is over
    assert cut_off or flood not in expected("floods that are cut off", front)
