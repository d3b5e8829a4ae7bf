"""gRPC's own limits do not hit who keeps to the rules: keep-alive pings as tritonclient sends them, bursts of calls."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import sleep

import grpc
import pytest

from protos.tensors import encode_request
from protos.v1 import inference_pb2 as pb
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from tests.support import toy
from tests.support.server import doors
from tests.support.serving import ServerProcess, serving

SECONDS = 1
"""Between two pings: the least that gRPC's clients do, whatever they are told."""
PINGS_SECONDS = 6 * SECONDS
"""Time for more pings than gRPC allows on its own: the fourth would end the connection."""
KEEP_ALIVE = [
    # What tritonclient makes of its options; it cannot be imported beside our stubs.
    ("grpc.keepalive_time_ms", 1000 * SECONDS),
    ("grpc.keepalive_timeout_ms", 20000),
    ("grpc.keepalive_permit_without_calls", True),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.use_local_subchannel_pool", 1),
]


BURST = 2000
"""Calls that are sent faster than any event loop takes them; gRPC's own limit is 1,000."""


@contextmanager
def pinging(server: ServerProcess) -> Iterator[tuple[GRPCInferenceServiceStub, list[grpc.ChannelConnectivity]]]:
    """A client that pings, and the states that its connection has been in."""
    states: list[grpc.ChannelConnectivity] = []
    with grpc.insecure_channel(server.grpc_address, KEEP_ALIVE) as channel:
        channel.subscribe(states.append)
        yield GRPCInferenceServiceStub(channel), states


def request() -> pb.ModelInferRequest:
    return encode_request("toy", "", {"input": toy.images(1)})


def stream_with_a_pause(server: ServerProcess) -> list[str]:
    """The models that answered: one request, then nothing but pings, then another."""

    def requests() -> Iterator[pb.ModelInferRequest]:
        yield request()
        sleep(PINGS_SECONDS)
        yield request()

    with pinging(server) as (stub, _):
        return [answer.infer_response.model_name for answer in stub.ModelStreamInfer(requests(), timeout=60)]


def calls_with_a_pause(server: ServerProcess) -> list[grpc.ChannelConnectivity]:
    """The states of a connection with one call, then nothing but pings, then another call."""
    with pinging(server) as (stub, states):
        stub.ModelInfer(request(), timeout=30)
        sleep(PINGS_SECONDS)
        stub.ModelInfer(request(), timeout=30)
    return states


@dataclass(frozen=True)
class Pinged:
    """What came of clients that pinged for a while, all at the same time."""

    stream: "Future[list[str]]"
    connection: "Future[list[grpc.ChannelConnectivity]]"
    stream_beyond_the_interval: "Future[list[str]]"
    stream_without_strikes: "Future[list[str]]"


@pytest.fixture(scope="module")
def pinged(servers: Callable[[str], ServerProcess], repository: Path, front: str) -> Pinged:
    usual, rarely = servers(front), ("--ping-interval", "60")
    with (
        serving(repository, *rarely) as strict,
        serving(repository, *rarely, "--ping-strikes", "0") as forgiving,
        ThreadPoolExecutor() as pool,
    ):
        return Pinged(
            pool.submit(stream_with_a_pause, usual),
            pool.submit(calls_with_a_pause, usual),
            pool.submit(stream_with_a_pause, strict),
            pool.submit(stream_with_a_pause, forgiving),
        )


def test_pings_do_not_end_a_stream_that_is_silent(pinged: Pinged) -> None:
    assert pinged.stream.result() == ["toy", "toy"]


def test_pings_do_not_end_a_connection_without_calls(pinged: Pinged) -> None:
    states = pinged.connection.result()
    assert states[-1] == grpc.ChannelConnectivity.READY
    assert states.count(grpc.ChannelConnectivity.READY) == 1


def test_the_interval_is_a_setting_of_the_door_that_counts_pings(pinged: Pinged, front: str) -> None:
    if not doors.expected("pings are struck", front):
        assert pinged.stream_beyond_the_interval.result() == ["toy", "toy"]
        return
    with pytest.raises(grpc.RpcError) as caught:
        pinged.stream_beyond_the_interval.result()
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, "Too many pings")


def test_the_strikes_are_a_setting_of_which_0_forgives_all(pinged: Pinged) -> None:
    assert pinged.stream_without_strikes.result() == ["toy", "toy"]


def test_of_a_burst_no_call_is_answered_but_by_the_server_itself(stub: GRPCInferenceServiceStub) -> None:
    calls = [stub.ModelInfer.future(request(), timeout=60) for _ in range(BURST)]
    assert {call.code() for call in calls} <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
