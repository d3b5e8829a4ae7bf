"""How many executions run at once: one plan from the cores that this program may really use.

Executions of all variants of one worker share its `slots`; workers x slots x threads fits the cores, so that none
waits for another's core.
"""

from dataclasses import dataclass

from protos.errors import UsageError


@dataclass(frozen=True)
class Plan:
    """Each of `workers` processes runs at most `slots` executions at once, each of `threads` threads, on `cores`."""

    cores: int
    threads: int
    slots: int
    workers: int = 1

    def __str__(self) -> str:
        return f"{self.cores} cores, workers x slots x threads = {self.workers} x {self.slots} x {self.threads}"


def make_plan(threads: int, cores: int, workers: int = 1) -> Plan:
    """Returns the plan for engines of `threads` threads; `UsageError` where one in each worker would not fit."""
    if threads > cores:
        raise UsageError(f"--threads: got {threads}, expected at most the {cores} available cores")
    if workers * threads > cores:
        most = f"{cores // threads} ({cores} available cores / {threads} threads)"
        raise UsageError(f"--workers: got {workers}, expected at most {most}")
    return Plan(cores, threads, cores // (threads * workers), workers)
