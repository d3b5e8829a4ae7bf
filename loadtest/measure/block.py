"""One block: load on one variant for a while, and everything that is measured meanwhile."""

from loadtest.users.users import swarm  # makes this a Locust process, so before all else

# isort: split
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
from loadtest.plan import Block, Plan
from loadtest.users.arrivals import poisson
from loadtest.users.recorder import Recorder

Payloads = Mapping[tuple[str, int], Sequence[Payload]]
"""Requests by a variant's name in the results and the rows in each request."""


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

    def measure(self, block: Block) -> Measurement:
        """Measures one block. It waits for the calls under way at its end, so every call sent has its sample."""
        plan, load, users = self.plan, block.load, self.plan.users_of(block.load)
        requests, times = self.payloads[block.variant, plan.rows_of(load)], _arrivals(plan, block)
        served, recorder = self.variants[block.variant], Recorder()
        address, before, idle = served.target.address, read_again(served.metrics_url), host.read()
        how = (plan.deadline, recorder.on_request, plan.transport, times, self.credentials)
        with swarm(address, requests, users, *how) as running:
            recorder.wait_for_users(users, plan.deadline, self.sleep)
            begun = running.begin() + plan.warmup
            self.sleep(begun - time.perf_counter())
            ready, opened = recorder.first_calls, _clocks()
            self.sleep(plan.duration)
            closed = _clocks()
        after, done = read_again(served.metrics_url), host.read()
        seconds, thread, process = (end - start for start, end in zip(opened, closed, strict=True))
        window, loads = (begun, begun + seconds), tuple(each.key for each in plan.loads)
        server = deltas(before, after, plan.model, served.variant) if before and after else None
        server_seconds = (server.cpu_seconds if server else None) if plan.on_one_machine else 0.0
        return Measurement(
            block=block,
            answered=recorder.answered(window),
            users_begun=ready,
            seconds=seconds,
            thread_seconds=thread,
            process_seconds=process,
            lag_seconds=tuple(running.lags),
            server=server,
            conditions=host.between(idle, done, server_seconds),
            failures=recorder.failures,
            samples=recorder.samples(self.origin, window, block, tuple(self.variants), loads),
        )


def _arrivals(plan: Plan, block: Block) -> Sequence[float] | None:
    """Seconds after a block's beginning at which its requests are due, or None where the server sets the pace."""
    if block.load.scenario != "server":
        return None
    random = np.random.default_rng([plan.seed, block.round, zlib.crc32(block.variant.encode())])
    warmup = poisson(block.load.level, plan.warmup, random) if plan.warmup else ()
    return [*warmup, *(plan.warmup + poisson(block.load.level, plan.duration, random))]


def _clocks() -> tuple[float, float, float]:
    """Wall time, CPU time of this thread, which runs all users, and CPU time of this process, in seconds."""
    return time.perf_counter(), time.thread_time(), time.process_time()
