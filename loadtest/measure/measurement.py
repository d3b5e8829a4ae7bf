"""What measuring gives: the record of a block, a ceiling of the load generator, a search, and steady calls."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.client.failures import Failure
from loadtest.client.metrics_page import Deltas
from loadtest.measure.host import Conditions
from loadtest.measure.rate_search import Found, Objective
from loadtest.plan import Block, Load
from loadtest.users.recorder import STATUSES, STEADY, Rows, Samples

OK = STATUSES.index("OK")
OBJECT_LEVELS = (0, 1, 10, 100)
"""Numbers of objects in an image for which latency is measured."""


@dataclass(frozen=True)
class Record:
    """What is known of one block beside its calls; times are those of its steady state."""

    block: Block
    answered: int
    """Successful answers."""
    seconds: float
    thread_seconds: float
    """CPU time of the one thread that runs all users."""
    process_seconds: float
    """CPU time of the whole load generator, gRPC's own threads included."""
    lag_seconds: tuple[float, ...]
    """How late each sampled timer of the load generator was."""
    server: Deltas | None
    """What the server did over the whole block, warm-up included; None without a metrics page."""
    conditions: Conditions
    """What the machine did over the whole block."""
    failures: tuple[Failure, ...] = ()
    """What was said of the calls that failed."""
    due: int = 0
    """Calls of an open loop that were due in the steady state."""


@dataclass(frozen=True, kw_only=True)
class Measurement(Record):
    """A record and the calls of its block."""

    samples: Samples


@dataclass(frozen=True)
class StretchRecord:
    """What is known of a few seconds of slices under one load, beside their calls."""

    load: Load
    number: int
    """From 1, of those under this load."""
    first_round: int
    last_round: int
    begun: float
    """Seconds since the run began."""
    conditions: Conditions
    probe_seconds: float
    """How long the noise probe took right after it."""
    server: dict[str, Deltas]
    """What the server did for each variant; empty without a metrics page."""
    lag_seconds: dict[str, tuple[float, ...]]
    """How late each sampled timer of the load generator was during each variant's slices."""
    failures: dict[str, tuple[Failure, ...]]
    """What was said of the calls to each variant that failed."""


@dataclass(frozen=True, kw_only=True)
class MeasuredStretch(StretchRecord):
    """A record and the calls and slices of its stretch."""

    samples: Samples


@dataclass(frozen=True)
class Stop:
    """A variant that got no more slices under a load."""

    variant: str
    load: Load
    round: int
    """Its last one."""
    reason: str
    alpha: float
    """In which share of runs the look at which it stopped may claim something wrong (`decision.race`)."""


@dataclass(frozen=True)
class Interleaved:
    """All that was measured under the loads of a plan."""

    stretches: tuple[MeasuredStretch, ...]
    blocks: tuple[Measurement, ...]
    """Without a break, of the open loops."""
    stops: tuple[Stop, ...]
    samples: Samples
    """The calls and slices of both."""


@dataclass(frozen=True)
class Ceiling:
    """The load generator alone: one load against a server that answers at once."""

    load: Load
    rps: float
    p50_ms: float | None
    us_per_request: float | None
    """CPU time of the load generator's process."""


@dataclass(frozen=True)
class Search:
    """What a search for the highest rate of one variant found."""

    variant: str
    objective: Objective
    found: Found
    failure_texts: tuple[Failure, ...] = ()
    """What was said of the calls of all trials that failed."""


@dataclass(frozen=True)
class ObjectLatency:
    """How long a variant took for images with about so many objects."""

    variant: str
    level: int
    fewest: int
    """Annotated objects in the emptiest of its images."""
    most: int
    images: int
    samples: int
    p50_ms: float | None
    """None, as the next, with fewer samples than it takes."""
    p99_ms: float | None


def steady(rows: Rows) -> Rows:
    """Returns the successful calls of the steady state, of which percentiles are made."""
    return np.compress((rows["phase"] == STEADY) & (rows["status"] == OK), rows)


def steady_latencies(rows: Rows) -> NDArray[np.float64]:
    """Returns the latencies in seconds of the successful calls of the steady state."""
    latencies: NDArray[np.float64] = steady(rows)["latency"]
    return latencies
