"""The two doors of one server (`--front`), and every difference between them that a client or an operator meets.

All other tests of the wire run through both and expect the same: the fixture `front` of `tests/conftest.py` sets the
door of each server that a test starts. A test of a difference asks `expected` what its own door does.
"""

from typing import Any, Literal

Door = Literal["grpcio", "native"]
DOORS: tuple[Door, ...] = ("grpcio", "native")

DIFFERENCES: dict[str, dict[str, Any]] = {
    "pushback": {
        "grpcio": True,
        "native": False,
        "why": "the front keeps trailers `grpc-*` for itself: a full queue cannot say when to come again",
    },
    "deflate": {
        "grpcio": "OK",
        "native": "UNIMPLEMENTED",
        "why": "the front unpacks gzip only; no client sends deflate unless it is told to",
    },
    "takes in what is too large": {
        "grpcio": False,
        "native": True,
        "why": "the front bounds neither a message nor what it unpacks to: it is refused when all of it is in memory",
    },
    "refusals at the end are counted": {
        "grpcio": False,
        "native": True,
        "why": "grpc.aio refuses the calls of a server that stops itself; of the front's calls each reaches the server",
    },
    "pings are struck": {
        "grpcio": True,
        "native": False,
        "why": "--ping-interval and --ping-strikes are gRPC's own; the front answers any ping",
    },
    "takes connections while it drains": {
        "grpcio": False,
        "native": True,
        "why": "the front cannot close its port and go on: until the end it takes connections, and refuses their calls",
    },
    "calls that it has not handed over when it stops": {
        "grpcio": {"UNAVAILABLE", "CANCELLED"},
        "native": {"UNAVAILABLE"},
        "why": "gRPC cancels them itself, on a busy machine in 1 of 3 stops under load; none of them was accepted",
    },
    "the end waits for slow clients": {
        "grpcio": False,
        "native": True,
        "why": "gRPC closes a connection when the last answer is written, not when it has left: of 12 MiB that a "
        "client had not read, some were lost in 1 of 15 stops, on a stream in 5 of 15; for the front the server waits",
    },
}
"""By a short name: what each door does, and why."""


def expected(name: str, door: str) -> Any:
    """Returns what a door does where the doors differ."""
    return DIFFERENCES[name][door]
