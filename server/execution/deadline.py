"""Whether a call that ended early ran out of time or was given up."""

from time import perf_counter
from typing import Literal

LATE_SECONDS = 0.02


def ran_out(remaining: float | None, timeout: float | None) -> bool:
    """Whether a call ended by its deadline, of whose `timeout` seconds `remaining` were left; None: no deadline.

    gRPC cancels a handler alike when a client gives up and when its deadline passes. Only the time tells
    which: the client's clock runs out first, the wire rounds a timeout up by as much as 1%, and a busy machine starts
    the server's clock `LATE_SECONDS` late.
    """
    return remaining is not None and remaining <= 0.01 * (timeout or 0) + LATE_SECONDS


def why_given_up(since: float, deadline: float | None) -> Literal["expired", "cancelled"]:
    """Why a caller is cancelled now that has waited `since` then, both times of `perf_counter`."""
    if deadline is None:
        return "cancelled"
    return "expired" if ran_out(deadline - perf_counter(), deadline - since) else "cancelled"
