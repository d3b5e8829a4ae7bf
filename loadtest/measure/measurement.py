"""What measuring gives: the record of one block, a ceiling of the load generator, a search, and steady calls."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.client.metrics_page import Deltas
from loadtest.measure.host import Conditions
from loadtest.measure.rate_search import Found, Objective
from loadtest.plan import Block, Load
from loadtest.users.recorder import STATUSES, STEADY, Rows, Samples

OK = STATUSES.index("OK")


@dataclass(frozen=True)
class Record:
    """What is known of one block beside its calls: its steady state, and what load generator and server used."""

    block: Block
    answered: int
    """Successful answers within the steady state."""
    users_begun: int
    """Users whose first call had ended when the steady state began."""
    seconds: float
    """Length of the steady state."""
    thread_seconds: float
    """CPU time in the steady state of the one thread that runs all users."""
    process_seconds: float
    """CPU time in the steady state of the whole load generator, gRPC's own threads included."""
    lag_seconds: tuple[float, ...]
    """How late each sampled timer of the load generator was."""
    server: Deltas | None
    """What the server did over the whole block, warm-up included; None without a metrics page."""
    conditions: Conditions
    """What the machine did over the whole block."""
    canary_seconds: float | None = None
    """How long the noise probe took right after the block."""
    reruns: int = 0
    """How often the block was measured before and thrown away, because the machine had changed."""
    steady: bool = True
    """Whether the noise probe took the usual time before and after."""


@dataclass(frozen=True, kw_only=True)
class Measurement(Record):
    """A record and the calls of its block."""

    samples: Samples


@dataclass(frozen=True)
class Ceiling:
    """The load generator alone: one load against a server that answers at once."""

    load: Load
    rps: float
    """Answers per second."""
    p50_ms: float | None
    """The part of a latency that is the generator's, gRPC's and the kernel's."""
    us_per_request: float | None
    """CPU time of the load generator's process."""


@dataclass(frozen=True)
class Search:
    """What a search for the highest rate of one variant found."""

    variant: str
    objective: Objective
    found: Found


def steady(rows: Rows) -> Rows:
    """The successful calls of the steady state: percentiles are made of these."""
    return np.compress((rows["phase"] == STEADY) & (rows["status"] == OK), rows)


def steady_latencies(rows: Rows) -> NDArray[np.float64]:
    """The latencies of the same calls in seconds, from when they were due."""
    latencies: NDArray[np.float64] = steady(rows)["latency"]
    return latencies
