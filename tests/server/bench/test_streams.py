"""Streams to a real server: what counts as an answer."""

from protos.tensors import encode_request
from server.bench import streams
from server.bench.load import Load
from tests.support import toy
from tests.support.serving import ServerProcess


def load(server: ServerProcess, variant: str) -> Load:
    request = encode_request(toy.MODEL, variant, {"input": toy.images(1)}).SerializeToString()
    return Load(server.grpc_address, in_flight=3, connections=2, seconds=0.2, payloads=[request], answer_bytes=0)


def test_each_stream_has_one_request_under_way(server: ServerProcess) -> None:
    sample = streams.drive(load(server, "fp32-onnxruntime"))
    assert sample.failures == []
    assert 0 < len(sample.latencies_us) <= sample.calls
    assert min(sample.seconds, sample.cpu_seconds) > 0


def test_a_message_that_tells_an_error_is_no_answer(server: ServerProcess) -> None:
    sample = streams.drive(load(server, "nope"))
    assert sample.failures == ["error_message"] * 3
    assert (sample.latencies_us, sample.calls) == ([], 0)
