"""How many executions run at once: one plan from the cores that this process may really use.

Engines that assume more cores than they get contend with each other. Executions of all variants share
`slots`; slots x threads fits the cores.
"""

from dataclasses import dataclass

from protos.errors import UsageError


@dataclass(frozen=True)
class Plan:
    """At most `slots` executions run at once, each computing with `threads` threads, on `cores` cores."""

    cores: int
    threads: int
    slots: int


def make_plan(threads: int, cores: int) -> Plan:
    """The plan for engines of `threads` threads; `UsageError` where one alone would not fit."""
    if threads > cores:
        raise UsageError(f"--threads: {threads} came, expected at most the {cores} available cores")
    return Plan(cores, threads, cores // threads)
