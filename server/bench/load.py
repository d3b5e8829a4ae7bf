"""Closed-loop load on one server: so many calls are in flight, and each that is answered is followed by the next."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Mode = Literal["unary", "stream"]

TIMEOUT = 30.0
"""Seconds; every call has a deadline, as a careful client's has."""
SETTLING = 0.15
"""The share of the time at the start whose latencies do not count."""


@dataclass(frozen=True)
class Load:
    """What is asked of one server for `seconds`."""

    address: str
    in_flight: int
    connections: int
    """The most connections that the calls are spread over."""
    seconds: float
    payloads: Sequence[bytes]
    """Serialized requests."""
    answer_bytes: int
    """Length of the message that answers any of them."""


@dataclass(frozen=True)
class Sample:
    """What came of one load."""

    latencies_us: list[float]
    """Latencies of the calls that ended after the settling; none where calls failed that cannot be told from others."""
    seconds: float
    """The time in which the latencies were collected."""
    calls: int
    """All calls that ended, settling included: what the CPU was spent on."""
    cpu_seconds: float
    """CPU time of the process that asked, which is not the server's."""
    failures: list[str] = field(default_factory=list)
    """What the calls that failed ended with: the names of their gRPC statuses, and what else h2load tells."""
