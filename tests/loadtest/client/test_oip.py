"""The client against a real server, one that misbehaves included."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import numpy as np
import pytest

from loadtest.client.oip import WRONG_ANSWER, CallError, Client
from loadtest.client.payloads import Payload, make_inputs, make_payloads
from protos.tensors import encode_response
from protos.v1 import inference_pb2 as pb
from tests.support.loadtest.foreign import MODEL, Answer, ForeignServer, foreign, metadata, zeros


@pytest.fixture
def payload(tmp_path) -> Payload:  # noqa: ANN001
    return make_payloads(MODEL, "v1", metadata(), make_inputs(MODEL, metadata(), tmp_path, seed=0))[0]


@contextmanager
def client_of(server: ForeignServer, deadline: float = 10.0) -> Iterator[Client]:
    client = Client(server.address, deadline)
    try:
        yield client
    finally:
        client.close()


def failure(answer: Answer, payload: Payload, deadline: float = 10.0) -> CallError:
    with foreign(("v1",), answer) as server, client_of(server, deadline) as client:
        with pytest.raises(CallError) as error:
            client.infer(payload)
        return error.value


def test_the_bytes_of_a_payload_go_out_as_they_are(payload: Payload) -> None:
    with foreign(("v1",)) as server, client_of(server) as client:
        response = client.infer(payload)
    assert response.outputs[0].shape == [1, 2]
    assert server.requests == [pb.ModelInferRequest.FromString(payload.request)]


def test_a_status_of_the_server_is_the_error_s_status(payload: Payload) -> None:
    def refuse(_: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        raise AssertionError

    error = failure(refuse, payload)
    assert (error.status, str(error)) == ("RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED: full")


def test_an_answer_of_another_variant_is_a_failure(payload: Payload) -> None:
    def other(*_: object) -> pb.ModelInferResponse:
        return encode_response(MODEL, "v2", {"scores": np.zeros((1, 2), np.float32)})

    assert failure(other, payload).status == WRONG_ANSWER


def test_an_answer_with_too_few_rows_is_a_failure(payload: Payload) -> None:
    def short(*_: object) -> pb.ModelInferResponse:
        return encode_response(MODEL, "v1", {"scores": np.zeros((0, 2), np.float32)})

    assert failure(short, payload).status == WRONG_ANSWER


def test_a_call_that_is_not_answered_ends_at_its_deadline(payload: Payload) -> None:
    ended = threading.Event()

    def hang(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        context.add_callback(ended.set)
        ended.wait(30)
        return zeros(request, context)

    assert failure(hang, payload, deadline=0.2).status == "DEADLINE_EXCEEDED"


def test_a_server_that_is_gone_is_unavailable(payload: Payload) -> None:
    with foreign() as server:
        pass
    with client_of(server) as client:
        for call in (lambda: client.infer(payload), client.server, lambda: client.model(MODEL)):
            with pytest.raises(CallError) as error:
                call()
            assert error.value.status == "UNAVAILABLE"


def test_every_client_has_a_connection_of_its_own(payload: Payload) -> None:
    peers = set()

    def note(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        peers.add(context.peer())
        return zeros(request, context)

    with foreign(("v1",), note) as server, client_of(server) as first, client_of(server) as second:
        for _ in range(2):
            first.infer(payload)
            second.infer(payload)
    assert len(peers) == 2
