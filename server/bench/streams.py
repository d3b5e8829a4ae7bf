"""Load of streams by grpc.aio, in the process that calls: each has one request under way and waits for its answer."""

import asyncio
import time
from itertools import cycle
from time import perf_counter, perf_counter_ns

import grpc

from protos.v1 import inference_pb2 as pb
from server.bench.load import SETTLING, TIMEOUT, Load, Sample

METHOD = "/inference.GRPCInferenceService/ModelStreamInfer"


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
    stream = channel.stream_stream(METHOD, None, None)(None, timeout=load.seconds + TIMEOUT)
    try:
        while perf_counter() < until:
            start = perf_counter_ns()
            await stream.write(payload)
            answer, end = await stream.read(), perf_counter_ns()
            if not isinstance(answer, bytes):  # but the mark of an end
                failures.append("ended stream")
                return
            if pb.ModelStreamInferResponse.FromString(answer).error_message:
                failures.append("error_message")
                return
            ended.append((start, end))
        await stream.done_writing()
        await stream.read()
    except grpc.aio.AioRpcError as error:
        failures.append(error.code().name)
