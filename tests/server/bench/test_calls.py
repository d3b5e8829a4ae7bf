"""Unary calls by h2load to a real server, and to ones that misbehave."""

import itertools
import socket

import pytest

from protos.errors import UsageError
from protos.tensors import encode_request
from server.bench import calls
from server.bench.calls import answer_bytes, spread
from server.bench.load import Load
from server.bench.targets import Target
from tests.support import toy
from tests.support.loadtest.foreign import speaking
from tests.support.serving import ServerProcess

REQUEST = encode_request(toy.MODEL, "fp32-onnxruntime", {"input": toy.images(1)}).SerializeToString()


def load(address: str, answer: int, request: bytes = REQUEST) -> Load:
    return Load(address, in_flight=6, connections=4, seconds=1.0, payloads=[request], answer_bytes=answer)


def test_calls_are_timed_after_the_settling_and_their_cost_is_the_clients(server: ServerProcess) -> None:
    length = answer_bytes(Target("ours", server.grpc_address), REQUEST)
    sample = calls.drive(load(server.grpc_address, length))
    assert sample.failures == []
    assert 0 < len(sample.latencies_us) <= sample.calls
    assert min(sample.latencies_us) > 0
    assert min(sample.seconds, sample.cpu_seconds) > 0


def test_a_round_with_a_failed_call_has_no_latencies() -> None:
    number = itertools.count(1)
    with speaking(lambda method, request: None if next(number) == 3 else b"answer") as address:
        sample = calls.drive(load(address, len(b"answer")))
    assert (sample.latencies_us, sample.failures) == ([], ["UNIMPLEMENTED"])


def test_an_answer_without_its_message_is_a_failure() -> None:
    with speaking(lambda method, request: b"") as address:
        sample = calls.drive(load(address, len(b"answer")))
    assert sample.latencies_us == []
    assert set(sample.failures) == {"no message"}
    assert sample.calls / 2 < len(sample.failures) <= sample.calls  # 5 of the 11 bytes are there


def test_a_server_that_is_gone_is_a_failure() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        sample = calls.drive(load(f"127.0.0.1:{taken.getsockname()[1]}", 1))
    assert (sample.latencies_us, sample.calls, sample.failures) == ([], 0, ["no call was answered"])


def test_an_answer_is_as_long_as_its_message() -> None:
    with speaking(lambda method, request: request * 2) as address:
        assert answer_bytes(Target("other", address), b"12345") == 10


def test_a_server_that_does_not_answer_is_one_clear_line(server: ServerProcess) -> None:
    request = encode_request(toy.MODEL, "nope", {"input": toy.images(1)}).SerializeToString()
    with pytest.raises(UsageError, match=r"^other: got NOT_FOUND: model 'toy': .*, expected an answer$"):
        answer_bytes(Target("other", server.grpc_address), request)


def test_calls_are_spread_evenly_over_as_many_connections_as_can_be() -> None:
    assert [spread(in_flight, 8) for in_flight in (1, 3, 8, 12, 13, 32, 128)] == [1, 3, 8, 6, 1, 8, 8]
