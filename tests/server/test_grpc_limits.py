"""gRPC's own limits do not hit who keeps to the rules: keep-alive pings as tritonclient sends them, bursts of calls."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
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


def stream_with_a_pause(stub: GRPCInferenceServiceStub, over: threading.Event) -> list[str]:
    """The models that answered: one request, then nothing until `over`, then another."""

    def requests() -> Iterator[pb.ModelInferRequest]:
        yield request()
        over.wait(60)
        yield request()

    return [answer.infer_response.model_name for answer in stub.ModelStreamInfer(requests(), timeout=60)]


@pytest.fixture
def pause() -> Iterator[threading.Event]:
    """Is over when many pings have been sent."""
    over = threading.Event()
    timer = threading.Timer(PINGS_SECONDS, over.set)
    timer.start()
    yield over
    timer.cancel()


def test_pings_do_not_end_a_stream_that_is_silent(server: ServerProcess, pause: threading.Event) -> None:
    with pinging(server) as (stub, _):
        assert stream_with_a_pause(stub, pause) == ["toy", "toy"]


def test_pings_do_not_end_a_connection_without_calls(server: ServerProcess) -> None:
    with pinging(server) as (stub, states):
        stub.ModelInfer(request(), timeout=30)
        sleep(PINGS_SECONDS)
        stub.ModelInfer(request(), timeout=30)
    assert states[-1] == grpc.ChannelConnectivity.READY
    assert states.count(grpc.ChannelConnectivity.READY) == 1


def test_the_interval_is_a_setting_of_the_door_that_counts_pings(
    repository: Path, front: str, pause: threading.Event
) -> None:
    with serving(repository, "--ping-interval", "60") as server, pinging(server) as (stub, _):
        if not doors.expected("pings are struck", front):
            assert stream_with_a_pause(stub, pause) == ["toy", "toy"]
            return
        with pytest.raises(grpc.RpcError) as caught:
            stream_with_a_pause(stub, threading.Event())
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, "Too many pings")


def test_the_strikes_are_a_setting_of_which_0_forgives_all(repository: Path, pause: threading.Event) -> None:
    flags = ("--ping-interval", "60", "--ping-strikes", "0")
    with serving(repository, *flags) as server, pinging(server) as (stub, _):
        assert stream_with_a_pause(stub, pause) == ["toy", "toy"]


def test_of_a_burst_no_call_is_answered_but_by_the_server_itself(stub: GRPCInferenceServiceStub) -> None:
    calls = [stub.ModelInfer.future(request(), timeout=60) for _ in range(BURST)]
    assert {call.code() for call in calls} <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
