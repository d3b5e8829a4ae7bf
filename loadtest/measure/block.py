"""One block: load on one variant for a while, and everything that is measured meanwhile."""

from loadtest.users.users import swarm  # makes this a Locust process, so before all else

# isort: split
import bisect
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.client.credentials import Credentials
from loadtest.client.discovery import ServedVariant
from loadtest.client.metrics_page import deltas, read_again
from loadtest.client.payloads import Payload
from loadtest.interrupt import Sleep
from loadtest.measure import host
from loadtest.measure.measurement import Measurement
from loadtest.measure.rate_search import Objective
from loadtest.plan import Block, Plan
from loadtest.users.arrivals import poisson
from loadtest.users.recorder import Recorder

Payloads = Mapping[tuple[str, int], Sequence[Payload]]
"""Requests by a variant's name in the results and the rows in each request."""

CHECK_SECONDS = 0.1
"""How often a trial is checked for an objective that cannot be met any more."""


@dataclass(frozen=True)
class RunContext:
    """What all blocks of a run share, and how one of them is measured."""

    plan: Plan
    variants: Mapping[str, ServedVariant]
    payloads: Payloads
    origin: float
    """The time of `perf_counter` at which the run began."""
    sleep: Sleep
    credentials: Credentials

    def measure(self, block: Block, objective: Objective | None = None) -> Measurement:
        """Measures one block. It waits for the calls under way at its end, so every call sent has its sample.

        With an objective it ends as soon as that is broken beyond doubt: calls that are late, failed or not answered
        in time are more than `Objective.may_miss` of all that would be due. What was not sent then never is, and the
        steady state ends before the calls that could still be answered in time.
        """
        plan, load, users = self.plan, block.load, self.plan.users_of(block.load)
        requests, times = self.payloads[block.variant, plan.rows_of(load)], _arrivals(plan, block)
        served, recorder = self.variants[block.variant], Recorder()
        address, before, idle = served.target.address, read_again(served.metrics_url), host.read()
        how = (plan.deadline, recorder.on_request, plan.transport, times, self.credentials)
        with swarm(address, requests, users, *how) as running:
            recorder.wait_for_users(users, plan.deadline, self.sleep)
            begun = running.begin() + plan.warmup
            due = [begun - plan.warmup + after for after in times or () if after >= plan.warmup]
            self.sleep(begun - time.perf_counter())
            opened = clocks()
            open_seconds = self._last(opened[0] + plan.duration, recorder, due, objective)
            closed = clocks()
        after, done = read_again(served.metrics_url), host.read()
        seconds, thread, process = (end - start for start, end in zip(opened, closed, strict=True))
        window, loads = (begun, begun + seconds - open_seconds), tuple(each.key for each in plan.loads)
        server = deltas(before, after, plan.model, served.variant) if before and after else None
        server_seconds = (server.cpu_seconds if server else None) if plan.on_one_machine else 0.0
        return Measurement(
            block=block,
            answered=recorder.answered(window),
            seconds=seconds,
            thread_seconds=thread,
            process_seconds=process,
            lag_seconds=tuple(running.lags),
            server=server,
            conditions=host.between(idle, done, server_seconds),
            failures=recorder.failures,
            due=bisect.bisect_left(due, window[1]),
            samples=recorder.samples(self.origin, window, block, tuple(self.variants), loads),
        )

    def _last(self, end: float, recorder: Recorder, due: Sequence[float], objective: Objective | None) -> float:
        """Sleeps until `end`, or until the objective is broken beyond doubt; returns for how long calls were open then.

        Calls that were due so many seconds before an early end, or later, could still be answered in time.
        """
        while (left := end - time.perf_counter()) > 0:
            if objective and _missed(recorder, due, objective.p99_ms / 1000) > objective.may_miss(len(due)):
                return objective.p99_ms / 1000
            self.sleep(min(left, CHECK_SECONDS) if objective else left)
        return 0.0


def _arrivals(plan: Plan, block: Block) -> Sequence[float] | None:
    """Seconds after a block's beginning at which its requests are due, or None where the server sets the pace."""
    if block.load.scenario != "server":
        return None
    random = np.random.default_rng([plan.seed, block.round, zlib.crc32(block.variant.encode())])
    warmup = poisson(block.load.level, plan.warmup, random) if plan.warmup else ()
    return [*warmup, *(plan.warmup + poisson(block.load.level, plan.duration, random))]


def _missed(recorder: Recorder, due: Sequence[float], seconds: float) -> int:
    """Returns how many of the calls that should be answered by now were not, or failed, or took more than `seconds`."""
    until = time.perf_counter() - seconds
    return bisect.bisect_left(due, until) - recorder.within((due[0], until), seconds) if due else 0


def clocks() -> tuple[float, float, float]:
    """Wall time, CPU time of this thread, which runs all users, and CPU time of this process, in seconds."""
    return time.perf_counter(), time.thread_time(), time.process_time()
