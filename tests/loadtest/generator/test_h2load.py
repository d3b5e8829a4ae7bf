"""h2load itself against real servers as a plan has it, and the pace that it saw."""

import socket
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest

from loadtest.generator import h2load
from loadtest.generator.h2load import NoOpinionError
from loadtest.generator.opinion import Pace
from loadtest.plan import Plan
from protos.support.h2load import Log
from protos.tensors import encode_request
from protos.v1 import inference_pb2 as pb
from tests.support import certificates, toy
from tests.support.loadtest.cells import PLAN
from tests.support.loadtest.foreign import foreign
from tests.support.loadtest.runs import requests_of
from tests.support.serving import ServerProcess, serving

VARIANT = "fp32-onnxruntime"
REQUEST = encode_request(toy.MODEL, VARIANT, {"input": toy.images(1)}).SerializeToString()


def load(address: str, request: bytes = REQUEST, plan: Plan = PLAN) -> Log:
    return h2load.run(plan, address, request, 4, 0.3)


def test_a_pace_is_made_of_half_a_second_after_the_warm_up() -> None:
    start = np.array([0, 100, 200_000, 300_000, 400_000, 500_000, 690_000, 700_000])  # microseconds
    taken = np.array([300, 200_000, 1000, 2000, 3000, 4000, 20_000, 50_000])
    calls = Log(start + 1_795_732_570_000_000, np.full(8, 200), taken)
    # the second to the sixth ended within 200 to 700 ms, the third to the seventh began then
    assert h2load.pace(calls, 0.5) == Pace(10.0, 3.0)


def test_the_server_answered_every_call_that_h2load_says_was_answered(server: ServerProcess) -> None:
    before = requests_of(server)
    calls = load(server.grpc_address)
    counted = requests_of(server)[VARIANT] - before.get(VARIANT, 0.0)
    assert len(calls.taken) <= counted <= len(calls.taken) + 4  # those under way at its end
    assert calls.taken.size > 0
    assert (calls.taken > 0).all()


def test_a_call_that_fails_by_grpc_is_no_answer_though_http_says_200(server: ServerProcess) -> None:
    request = encode_request(toy.MODEL, "no-such", {"input": toy.images(1)}).SerializeToString()
    with pytest.raises(NoOpinionError, match=r"its calls failed \(gRPC status 5: model 'toy': got variant 'no-such'"):
        load(server.grpc_address, request)


def test_one_failed_call_among_many_is_found() -> None:
    def fifth(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        if len(server.requests) == 5:
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone fishing")
        return pb.ModelInferResponse()

    with foreign(answer=fifth) as server, pytest.raises(NoOpinionError, match=r"gRPC status 14: gone fishing"):
        load(server.address)


def test_a_server_that_is_gone_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        with pytest.raises(NoOpinionError, match="0 of its 0 calls were answered"):
            load(f"127.0.0.1:{taken.getsockname()[1]}")


def test_tls_is_spoken_where_the_plan_does(repository: Path, tmp_path: Path) -> None:
    root = certificates.authority(tmp_path, "root")
    pair = certificates.issue(root, tmp_path, "server")
    flags = ("--tls-cert", str(pair.certificate), "--tls-key", str(pair.key))
    with serving(repository, *flags, ready=False) as server:
        assert load(server.grpc_address, plan=replace(PLAN, tls_ca=root.certificate)).taken.size > 0


def test_what_h2load_cannot_send_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file := tmp_path / "file").write_text("x")
    h2load.check_plan(PLAN)
    cases: list[tuple[Plan, str]] = [
        (replace(PLAN, transport="stream"), "it sends calls, not what ModelStreamInfer wants"),
        (replace(PLAN, tls_client_cert=file, tls_client_key=file), "it has no certificate to show"),
        (
            replace(PLAN, token_file=file),
            "it takes a token only as an argument, which everyone on",
        ),
    ]
    for plan, reason in cases:
        with pytest.raises(NoOpinionError, match=reason):
            h2load.check_plan(plan)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoOpinionError, match=r"it is not installed \(Debian's nghttp2-client\)"):
        h2load.check_plan(PLAN)
