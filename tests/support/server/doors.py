"""The two doors of one server (`--front`), and every difference between them that a client or an operator meets.

All other tests of the wire run through both and expect the same: the fixture `front` of `tests/conftest.py` sets the
door of each server that a test starts. A test of a difference asks `expected` what its own door does.
"""

from typing import Any, Literal

Door = Literal["grpcio", "native"]
DOORS: tuple[Door, ...] = ("grpcio", "native")

SILENCE = "silence"
"""Of a call that the server never ends; its client has to."""
_NO_MESSAGE = {
    "grpcio": SILENCE,
    "native": "INTERNAL",
    "why": "grpc.aio takes a stream that ends before its message for a call that was given up, and says nothing",
}

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
    "floods that are cut off": {
        "grpcio": {"pings", "continuations"},
        "native": {
            "resets",
            "requests and resets",
            "overflowing windows",
            "data after the end",
            "continuations",
            "empty data",
        },
        "why": "gRPC refuses the streams that are too many, and goes on; the front ends the connection, but for pings. "
        "Others may be cut off as well, by how much of them has come at once",
    },
    "a call with no message": _NO_MESSAGE,
    "a call with half a header": _NO_MESSAGE,
    "a call with half a message": _NO_MESSAGE,
    "a call with a length of 4 GiB": _NO_MESSAGE,
    "a call with an unknown compression": {
        "grpcio": SILENCE,
        "native": "UNIMPLEMENTED",
        "why": "grpc.aio drops what it cannot unpack, and then is as silent as without a message",
    },
    "a call with an unknown flag": {
        "grpcio": "NOT_FOUND",
        "native": "INTERNAL",
        "why": "gRPC hands over an empty message, in which no model is named",
    },
}
"""By a short name: what each door does, and why."""


def expected(name: str, door: str) -> Any:
    """Returns what a door does where the doors differ."""
    return DIFFERENCES[name][door]
