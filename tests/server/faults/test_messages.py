"""Messages that are none end with a status, or with what `doors` says, and harm nobody else."""

import gzip

import pytest

from tests.support.server.bystanders import unharmed
from tests.support.server.doors import SILENCE, expected
from tests.support.server.http2 import BLOCK, REQUEST, Connection, block, call, message, pack
from tests.support.serving import ServerProcess

GZIP = block(("grpc-encoding", "gzip"))
SNAPPY = block(("grpc-encoding", "snappy"))

OK, INTERNAL, INVALID, DIFFERS = "OK", "INTERNAL", "INVALID_ARGUMENT", None

BODIES: dict[str, tuple[str | None, bytes, bytes]] = {
    "no message": (DIFFERS, b"", BLOCK),
    "half a header": (DIFFERS, message()[:3], BLOCK),
    "half a message": (DIFFERS, message()[:-1], BLOCK),
    "a length of 4 GiB": (DIFFERS, b"\0\xff\xff\xff\xff" + REQUEST, BLOCK),
    "an unknown compression": (DIFFERS, message(REQUEST, compressed=True), SNAPPY),
    "an unknown flag": (DIFFERS, b"\x02" + message()[1:], BLOCK),
    "two messages": (OK, message() + message(), BLOCK),
    "bad gzip": (INTERNAL, message(b"no gzip", compressed=True), GZIP),
    "half of a gzip": (INTERNAL, message(gzip.compress(REQUEST)[:-10], compressed=True), GZIP),
    "gzip that nobody announced": (INTERNAL, message(gzip.compress(REQUEST), compressed=True), BLOCK),
    "no protobuf": (INVALID, message(b"\xff\xff"), BLOCK),
}
"""By what is sent in a call: how it ends, the body, and the headers."""


@pytest.mark.parametrize("what", BODIES)
def test_a_bad_message_ends_its_own_call_and_no_other(server: ServerProcess, front: str, what: str) -> None:
    status, body, headers = BODIES[what]
    wanted = status or expected(f"a call with {what}", front)
    with unharmed(server), Connection(server.grpc_address) as client:
        client.send(pack(*call(1, body, headers), *call(3)))
        assert client.end_of(3) == "OK"
        if wanted == SILENCE:
            assert 1 not in client.ends
        else:
            assert client.end_of(1) == wanted
