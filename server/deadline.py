"""Whether a call that ended early ran out of time or was given up."""


def ran_out(remaining: float | None, timeout: float | None) -> bool:
    """Whether a call ended by its deadline, of whose `timeout` seconds `remaining` were left; None: no deadline.

    gRPC cancels a handler alike when a client gives up and when its deadline passes. Only the time tells
    which: the client's clock runs out first, and the wire rounds a timeout up by as much as 1%.
    """
    return remaining is not None and remaining <= 0.01 * (timeout or 0) + 0.002
