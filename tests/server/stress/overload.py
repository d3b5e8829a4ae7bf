"""Open-loop overload: three times what a server can do, and what it keeps to meanwhile and afterwards.

`make overload` runs it for half a minute; the suite runs it for seconds. Three phases against a real server
whose engine is slow on purpose (`tests.server.stress.slow`):

    before     closed loop: as many requests as the server can answer, its capacity
    overload   open loop: a request whenever its time has come, answered or not; health is asked all the while
    after      closed loop again: whether it does what it did before

A full queue holds `QUEUE` requests, and before it one batch is executed: nobody who is accepted waits longer
than that takes at the pace of the server, so `Findings.bound` is known before the overload is measured.
Latencies count from the intended start. Answers are compared with the model's.
"""

import argparse
import asyncio
import itertools
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import grpc
import numpy as np
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.tensors import decode_response, encode_request
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from tests.server.stress.flatness import Trend, trend
from tests.server.stress.soak import ALLOWED
from tests.support import toy
from tests.support.serving import Samples, ServerProcess, serving

FACTOR = 3
QUEUE, ROWS = 64, 4
FLAGS = ("--queue-size", str(QUEUE), "--batch-max", str(ROWS))
USERS = QUEUE // 2
"""Of the closed loop: enough for full batches, too few to be refused."""
PROBE_SECONDS = 0.05
TIMEOUT = 60.0
HEALTH_SECONDS, SLACK = 0.1, 0.1
"""Of the promises that depend on the machine: each probe's answer, and by what share rates and times may be off."""

IMAGES = [toy.images(1, seed) for seed in range(16)]
REQUESTS = [encode_request("toy", "", {"input": image}) for image in IMAGES]


@dataclass
class Phase:
    """How the requests of one phase ended: their codes, WRONG for a wrong answer; of those answered, the seconds."""

    codes: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    pushbacks: list[str] = field(default_factory=list)
    """Of the refused: when to come again, in ms."""
    seconds: float = 0.0

    @property
    def goodput(self) -> float:
        """Right answers per second."""
        return self.codes["OK"] / self.seconds

    def percentile(self, share: float) -> float:
        return float(np.percentile(self.latencies, share))


@dataclass(frozen=True)
class Findings:
    """What was seen; times are seconds."""

    before: Phase
    overload: Phase
    after: Phase
    offered: float
    """Requests per second that the overload really was."""
    queue_mean: float
    """Of the accepted requests of the overload, as the server measured it."""
    health: list[float]
    """Each probe's time; infinite where it was not SERVING."""
    memory: Trend

    @property
    def bound(self) -> float:
        """The longest that an accepted request can take: a full queue, the batch before it, and its own."""
        return (QUEUE + 2 * ROWS) / self.before.goodput

    def broken(self) -> list[str]:
        """The promises that were not kept."""
        kept = {
            "OK or RESOURCE_EXHAUSTED, and no other code": self.overload.codes.keys() <= {"OK", "RESOURCE_EXHAUSTED"},
            "accepted p99 within the bound": self.overload.percentile(99) <= (1 + SLACK) * self.bound,
            "memory flat": not self.memory.grows,
            "health within 100 ms": max(self.health) <= HEALTH_SECONDS,
            "goodput back": self.after.goodput >= (1 - SLACK) * max(self.before.goodput, self.overload.goodput),
        }
        return [promise for promise, holds in kept.items() if not holds]


def overload(repository: Path, seconds: float) -> Findings:
    """Overloads a slow server of `repository`, which holds `toy`, for so long."""
    with serving(repository, *FLAGS, program="tests.server.stress.slow") as server:
        return asyncio.run(_overload(server, seconds))


async def _overload(server: ServerProcess, seconds: float) -> Findings:
    async with _channel(server) as channel, _channel(server) as other:
        stub = GRPCInferenceServiceStub(channel)
        before = await _closed_loop(stub, seconds / 6)
        page, over = server.metrics(), asyncio.Event()
        observing = asyncio.create_task(_observe(server, other, over))
        during, offered = await _open_loop(stub, FACTOR * before.goodput, seconds)
        over.set()
        health, memory = await observing
        queue_mean = _queue_mean(page, await asyncio.to_thread(server.metrics))
        after = await _closed_loop(stub, seconds / 6)
    return Findings(before, during, after, offered, queue_mean, health, trend("bytes", memory, ALLOWED["bytes"]))


def _channel(server: ServerProcess) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(server.grpc_address, [("grpc.use_local_subchannel_pool", 1)])


async def _ask(stub: GRPCInferenceServiceStub, number: int, intended: float, phase: Phase) -> None:
    """One request that was to start at `intended`."""
    which = number % len(REQUESTS)
    try:
        response = await stub.ModelInfer(REQUESTS[which], timeout=TIMEOUT)
    except grpc.aio.AioRpcError as error:
        phase.codes[error.code().name] += 1
        phase.pushbacks.append(dict(error.trailing_metadata() or ()).get("grpc-retry-pushback-ms", ""))
        return
    phase.latencies.append(perf_counter() - intended)
    right = np.allclose(decode_response(response)["logits"], toy.answer(IMAGES[which]), atol=1e-4)
    phase.codes["OK" if right else "WRONG"] += 1


async def _closed_loop(stub: GRPCInferenceServiceStub, seconds: float) -> Phase:
    """So many users, each with one request under way."""
    phase, numbers, began = Phase(), itertools.count(), perf_counter()

    async def user() -> None:
        while (now := perf_counter()) < began + seconds:
            await _ask(stub, next(numbers), now, phase)

    await asyncio.gather(*(user() for _ in range(USERS)))
    phase.seconds = perf_counter() - began
    return phase


async def _open_loop(stub: GRPCInferenceServiceStub, rate: float, seconds: float) -> tuple[Phase, float]:
    """`rate` requests per second, evenly; also the rate that it came to."""
    phase, calls, began = Phase(), [], perf_counter()
    for number in range(round(rate * seconds)):
        intended = began + number / rate
        if (early := intended - perf_counter()) > 0:
            await asyncio.sleep(early)
        calls.append(asyncio.create_task(_ask(stub, number, intended, phase)))
    offered = len(calls) / (perf_counter() - began)
    await asyncio.gather(*calls)
    phase.seconds = perf_counter() - began
    return phase, offered


async def _observe(
    server: ServerProcess, channel: grpc.aio.Channel, over: asyncio.Event
) -> tuple[list[float], list[tuple[float, float]]]:
    """Until `over`: the time of each answer to the health question, and (seconds, bytes) of the server."""
    ask: Callable[..., Awaitable[health_pb2.HealthCheckResponse]] = health_pb2_grpc.HealthStub(channel).Check
    process, health, memory = psutil.Process(server.pid), [], []
    while not over.is_set():
        asked = perf_counter()
        answer = await ask(health_pb2.HealthCheckRequest(service="toy"), timeout=TIMEOUT)
        serving = answer.status == health_pb2.HealthCheckResponse.SERVING
        health.append(perf_counter() - asked if serving else float("inf"))
        memory.append((asked, float(process.memory_info().rss)))
        await asyncio.sleep(PROBE_SECONDS)
    return health, memory


def _queue_mean(before: Samples, after: Samples) -> float:
    """Seconds that a request waited, of those between two looks at the page."""

    def grown(name: str) -> float:
        key = (f"pareto_queue_duration_seconds_{name}", (("model", "toy"), ("variant", "fp32-onnxruntime")))
        return after[key] - before[key]

    return grown("sum") / grown("count")


def table(found: Findings) -> str:
    """For people."""
    lines = [f"{'phase':10} {'answered/s':>10} {'refused/s':>10} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}"]
    for name, phase in (("before", found.before), ("overload", found.overload), ("after", found.after)):
        refused = phase.codes["RESOURCE_EXHAUSTED"] / phase.seconds
        times = " ".join(f"{phase.percentile(share) * 1e3:8.1f}" for share in (50, 99, 100))
        lines.append(f"{name:10} {phase.goodput:10.1f} {refused:10.1f} {times}")
    p50, p99, longest = (float(np.percentile(found.health, share)) * 1e3 for share in (50, 99, 100))
    return "\n".join(
        [
            *lines,
            f"offered {found.offered:.1f}/s; bound of the accepted: {found.bound * 1e3:.0f} ms",
            f"mean wait in the queue: {found.queue_mean * 1e3:.1f} ms",
            f"health: {len(found.health)} probes, p50 {p50:.1f}, p99 {p99:.1f}, max {longest:.1f} ms",
            f"memory: {found.memory}",
        ]
    )


def summary(found: Findings) -> dict[str, object]:
    """For programs."""
    return {
        "offered_rps": found.offered,
        "goodput_rps": [phase.goodput for phase in (found.before, found.overload, found.after)],
        "codes": dict(found.overload.codes),
        "accepted_p99_seconds": found.overload.percentile(99),
        "bound_seconds": found.bound,
        "queue_mean_seconds": found.queue_mean,
        "health_p99_seconds": float(np.percentile(found.health, 99)),
        "health_max_seconds": max(found.health),
        "memory_growth_bytes": found.memory.growth,
        "broken": found.broken(),
    }


def main() -> int:
    """Prints a table, then one line of JSON; the exit code is 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="overload", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = overload(toy.repository(Path(folder), ("onnxruntime",)), wanted.seconds)
    print(table(found))
    for promise in found.broken():
        print(f"broken: {promise}", file=sys.stderr)
    print(json.dumps(summary(found)))
    return 1 if found.broken() else 0


if __name__ == "__main__":
    sys.exit(main())
