"""Closed-loop load from a process of its own: each user has one call, or stream, in flight and waits for its answer."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from time import perf_counter, perf_counter_ns
from typing import Literal

import grpc

Mode = Literal["unary", "stream"]
PATHS: dict[Mode, str] = {
    "unary": "/inference.GRPCInferenceService/ModelInfer",
    "stream": "/inference.GRPCInferenceService/ModelStreamInfer",
}
TIMEOUT = 30.0
"""Seconds; every call has a deadline, as a careful client's has."""
SETTLING = 0.15
"""The share of the time at the start whose latencies do not count."""


@dataclass(frozen=True)
class Load:
    """What is asked of one server for `seconds`."""

    address: str
    mode: Mode
    in_flight: int
    connections: int
    seconds: float
    payloads: Sequence[bytes]


@dataclass(frozen=True)
class Sample:
    """What came of one load."""

    latencies_us: list[float]
    """Latencies of the calls that ended after the settling."""
    seconds: float
    """The time in which the latencies were collected."""
    calls: int
    """All calls that were answered, settling included: what the CPU was spent on."""
    cpu_seconds: float
    """CPU time of the process that asked, which is not the server's."""
    failures: list[str] = field(default_factory=list)
    """Codes of the calls that failed; a user whose call fails stops."""


def drive(load: Load) -> Sample:
    """Puts `load` on a server and returns what came of it; meant to be called in another process."""
    return asyncio.run(_drive(load))


async def _drive(load: Load) -> Sample:
    options = [("grpc.use_local_subchannel_pool", 1)]  # else all channels would share one connection
    channels = [grpc.aio.insecure_channel(load.address, options) for _ in range(min(load.in_flight, load.connections))]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    began, cpu = perf_counter(), time.process_time()
    ended: list[tuple[int, int]] = []
    failures: list[str] = []
    asked = zip(range(load.in_flight), cycle(channels), cycle(load.payloads))
    await asyncio.gather(
        *(_user(channel, load, payload, began + load.seconds, ended, failures) for _, channel, payload in asked)
    )
    cpu = time.process_time() - cpu
    await asyncio.gather(*(channel.close(None) for channel in channels))
    settled = int((began + SETTLING * load.seconds) * 1e9)
    latencies = [(end - start) / 1e3 for start, end in ended if end >= settled]
    seconds = (max((end for _, end in ended), default=settled) - settled) / 1e9
    return Sample(latencies, seconds, len(ended), cpu, failures)


async def _user(
    channel: grpc.aio.Channel,
    load: Load,
    payload: bytes,
    until: float,
    ended: list[tuple[int, int]],
    failures: list[str],
) -> None:
    """Asks, waits for the answer and asks again; stops at the first failure."""
    call = channel.unary_unary(PATHS["unary"], None, None)
    open_stream, seconds = channel.stream_stream(PATHS["stream"], None, None), load.seconds + TIMEOUT
    stream = open_stream(None, timeout=seconds) if load.mode == "stream" else None
    try:
        while perf_counter() < until:
            start = perf_counter_ns()
            if stream is None:
                await call(payload, timeout=TIMEOUT)
            else:
                await stream.write(payload)
                if await stream.read() is grpc.aio.EOF:  # type: ignore[attr-defined]
                    break
            ended.append((start, perf_counter_ns()))
        if stream is not None:
            await stream.done_writing()
            await stream.read()
    except grpc.aio.AioRpcError as error:
        failures.append(error.code().name)
