"""The sentences of a decision, as templates for `str.format`: the report's page fills in the same (`web/decide.js`)."""

from collections.abc import Mapping

from loadtest.analysis.comparison import Figure
from loadtest.plan import Constraint

HEADINGS: Mapping[Constraint, str] = {
    "p99": "p99 within {:g} ms",
    "rate": "{:g} requests/s",
    "max_drop": "at most {:g} points below FP32",
    "max_memory": "at most {:g} MB of memory",
    "max_size": "at most {:g} MB on disk",
}
"""What tables call a constraint with its limit."""

VALUES: Mapping[Constraint, str] = {
    "p99": "{:.2f}",
    "rate": "{:,.0f}",
    "max_drop": "{:.2f}",
    "max_memory": "{:.1f}",
    "max_size": "{:.2f}",
}
"""How tables show a value."""

MISSED: Mapping[Constraint, str] = {
    "p99": "{:.2f} more than the {:g} allowed",
    "rate": "{:,.0f} fewer than the {:g} asked for",
    "max_drop": "{:.2f} more than the {:g} allowed",
    "max_memory": "{:.1f} more than the {:g} allowed",
    "max_size": "{:.2f} more than the {:g} allowed",
}
"""By how much a value misses which limit."""

COMPARED: Mapping[Figure, str] = {
    "throughput": "takes {:.2f} times as long per answer",
    "p99": "its p99 is {:.2f} times as long",
    "p50": "its p50 is {:.2f} times as long",
}
"""How many times the winner's time another variant takes."""

NOT_SURE = "not 95% sure"
LIMITED = "but the load generator was the limit"
NO_MORE = "and no more arrived"
FEWER = "{:,.0f} fewer than arrived"
UNCOMPARED = "too few calls to compare it"
LESS_ACCURATE, LARGER = "less accurate", "larger"
STOPPED = "stopped after round {}"
BETWEEN, AT_MOST, AT_LEAST = " ({:.2f} to {:.2f})", " (at most {:.2f})", " (at least {:.2f})"
"""Intervals, of which one end may not be known."""
