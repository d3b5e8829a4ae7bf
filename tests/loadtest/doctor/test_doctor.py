"""What the doctor finds in our own server, in bare ones, and in ones that answer nonsense or not at all."""

import io
import json
import signal
import socket
import threading
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse
from rich.console import Console

from loadtest.__main__ import main
from loadtest.client.failures import LONGEST_TEXT
from loadtest.doctor import probe, variant_checks
from loadtest.doctor.findings import Diagnosis, Finding, Settings
from loadtest.doctor.server_checks import MODELS, check_server
from loadtest.interrupt import Interrupted
from protos.errors import UsageError
from protos.tensors import encode_response
from protos.v1 import inference_pb2 as pb
from tests.support import toy
from tests.support.loadtest.foreign import MODEL, Answer, Speech, foreign, metadata, speaking, zeros
from tests.support.serving import ServerProcess, serving

NOWHERE = Path("no-such-repository")


def diagnose(address: str, model: str | None = None, repository: Path = NOWHERE, deadline: float = 5.0) -> Diagnosis:
    settings = Settings(model=model, repository=repository, deadline=deadline)
    return check_server(address, settings, Console(file=io.StringIO()), lambda _: None)


def diagnose_foreign(answer: Answer = zeros, versions: tuple[str, ...] = (), model: str | None = MODEL) -> Diagnosis:
    with foreign(versions, answer) as server:
        return diagnose(server.address, model)


def diagnose_speaking(speech: Speech, model: str | None = MODEL, deadline: float = 5.0) -> Diagnosis:
    with speaking(speech) as address:
        return diagnose(address, model, deadline=deadline)


def of(diagnosis: Diagnosis, what: str) -> Finding:
    """The one finding on that."""
    (found,) = (finding for finding in diagnosis.findings if finding.what == what)
    return found


def with_verdict(diagnosis: Diagnosis, verdict: str) -> set[str]:
    """All but the metrics page: which port is above a free one nobody knows."""
    return {f.what for f in diagnosis.findings if f.verdict == verdict and not f.what.startswith("metrics page")}


@pytest.fixture(scope="module")
def ours(server: ServerProcess) -> Diagnosis:
    return diagnose(server.grpc_address)


@pytest.fixture(scope="module")
def bare() -> Diagnosis:
    return diagnose_foreign()


def test_our_own_server_lacks_nothing_and_fails_in_nothing(ours: Diagnosis) -> None:
    assert (ours.model, ours.ready_for_load, ours.would_fail) == (toy.MODEL, True, [])
    assert ours.way_in == "ModelInfer by grpcio"
    assert with_verdict(ours, "fails") == set()
    assert with_verdict(ours, "absent") <= {"deadline already past"}  # as far as so quick a model can tell


@pytest.mark.parametrize(
    ("what", "seen"),
    [
        ("ModelMetadata", "takes input FP32 [-1, 3, 4, 4]; answers logits FP32 [-1, 3]"),
        ("ModelReady", "2 of 2 versions: fp32-onnxruntime, fp32-openvino"),
        ("payload", "synthetic"),
        ("contents of answers", "raw"),
        ("typed contents in a request", "understood, answered raw"),
        ("rows of a request", "1, 2, 8, 32 answered"),
        ("size of a message", "64 MiB taken, the load generator's own limit"),
        ("ModelStreamInfer", "2 of 2 answered in Triton's wrapper"),
        ("ids on a stream", "got back ['doctor-1', 'doctor-2']"),
        (
            "dialect",
            "ModelStreamInfer answers ModelStreamInferResponse;"
            " RepositoryModelLoadRequest.model_name is field 2, as Triton's",
        ),
    ],
)
def test_what_is_seen_of_our_own_server(ours: Diagnosis, what: str, seen: str) -> None:
    assert of(ours, what).seen == seen


def test_limits_are_found_and_what_they_mean_for_rows(repository: Path) -> None:
    with serving(repository, "--max-rows", "8", "--max-message-bytes", str(2 * 2**20)) as server:
        found = diagnose(server.grpc_address, repository=repository)
    assert of(found, "payload").seen == "golden"
    assert of(found, "rows of a request").seen.startswith("1, 2, 8 answered; 32: INVALID_ARGUMENT: ")
    assert of(found, "rows of a request").means == "requests of 32 rows fail, of 8 do not"
    assert of(found, "size of a message").seen.startswith("1 MiB taken; 5 MiB: RESOURCE_EXHAUSTED: ")
    assert of(found, "size of a message").means == "requests of more than 5461 rows (1 MiB) may fail"


def test_what_a_bare_server_does_without_is_absent(bare: Diagnosis) -> None:
    assert (bare.server, bare.way_in, bare.ready_for_load) == ("foreign 1.0", "", True)
    assert with_verdict(bare, "absent") - {"deadline already past"} == {
        *("grpc.health.v1", "reflection", "dialect"),
        *("RepositoryIndex", "ModelConfig", "ModelStatistics", "ModelStreamInfer"),
    }


def test_a_server_that_takes_everything_for_right_hides_mistakes(bare: Diagnosis) -> None:
    for what in ("wrong datatype", "wrong shape", "unknown model", "unknown version"):
        assert (of(bare, what).verdict, of(bare, what).seen) == ("fails", "answered as if it were right")
    assert f"{MODEL}/(default): wrong shape: a mistake in a payload is not noticed" in bare.would_fail


def test_without_an_index_a_model_has_to_be_named() -> None:
    found = diagnose_foreign(model=None)
    assert (found.model, found.ready_for_load) == (None, False)
    assert of(found, "RepositoryIndex").means == "which models there are is not known: name one with --model"


def test_a_model_that_is_not_there_has_the_server_s_words() -> None:
    with foreign() as server:
        found = diagnose(server.address, "other")
    assert of(found, "ModelMetadata").seen == "NOT_FOUND: no model 'other'"
    assert not found.ready_for_load


def test_a_variant_that_is_not_ready_cannot_be_loaded() -> None:
    found = diagnose_foreign(versions=("cold",))
    assert of(found, "ModelReady").seen == "0 of 1 versions: none; cold: not ready"
    assert not found.ready_for_load


def test_the_first_variant_that_is_ready_is_examined() -> None:
    found = diagnose_foreign(versions=("cold", "warm"))
    assert of(found, "ModelInfer").about == f"{MODEL}/warm"
    assert found.ready_for_load


def test_where_the_right_request_fails_no_other_is_sent() -> None:
    def short(request: pb.ModelInferRequest, _: object) -> pb.ModelInferResponse:
        return encode_response(MODEL, request.model_version, {"scores": np.zeros((0, 2), np.float32)})

    with foreign(answer=short) as server:
        found = diagnose(server.address, MODEL)
        assert len(server.requests) == 1
    assert of(found, "ModelInfer").seen == "output 'scores': got shape [0, 2], expected [-1, 2], rows 1"
    assert found.would_fail[-1] == f"{MODEL}/(default): ModelInfer: every call of a load test fails"
    assert not found.ready_for_load


def test_a_deadline_that_is_over_ends_a_call_that_takes_its_time() -> None:
    def slow(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        if context.time_remaining() is not None and context.time_remaining() < 1:
            ended = threading.Event()
            context.add_callback(ended.set)
            ended.wait(60)
        return zeros(request, context)

    found = diagnose_foreign(slow)
    assert of(found, "deadline already past").verdict == "ok"
    assert of(found, "deadline already past").seen.startswith("DEADLINE_EXCEEDED")


def test_an_answer_long_after_its_deadline_is_work_for_nobody() -> None:
    class Late(probe.Probe):
        def ask_too_late(self, request: pb.ModelInferRequest) -> probe.Reply[pb.ModelInferResponse]:
            """Sends no deadline: no server of gRPC's for Python answers a call whose deadline is over."""
            return self.ask(request, pb.ModelInferResponse)

    with foreign() as server, Late(server.address, 5.0) as asking:
        row = {"pixels": np.zeros((1, 3, 2), np.float32), "ids": np.zeros((1, 5), np.int64)}
        tested = variant_checks.ModelUnderTest(asking, MODEL, "", metadata(), row)
        found = variant_checks.check_deadline(tested, clock_seconds=0.0)
    assert found.verdict == "fails"
    assert found.means.endswith("under overload the server works for nobody")


def test_a_batch_that_is_not_free_is_left_alone() -> None:
    def speak(method: str, request: bytes) -> bytes | None:
        if method != "ModelMetadata":
            return speak_well(method, request)
        response = metadata()
        for tensor in response.inputs:
            tensor.shape[0] = 1
        return response.SerializeToString()

    found = diagnose_speaking(speak)
    assert found.ready_for_load
    assert of(found, "rows of a request").verdict == "absent"
    assert of(found, "size of a message").verdict == "ok"


def test_typed_answers_are_told() -> None:
    def typed(request: pb.ModelInferRequest, _: object) -> pb.ModelInferResponse:
        response = pb.ModelInferResponse(model_name=MODEL)
        rows = request.inputs[0].shape[0]
        response.outputs.add(name="scores", datatype="FP32", shape=[rows, 2]).contents.fp32_contents.extend(
            [0.0] * 2 * rows
        )
        return response

    found = diagnose_foreign(typed)
    assert of(found, "contents of answers").seen == "typed, although the request was raw"
    assert of(found, "rows of a request").verdict == "ok"


def speak_well(method: str, request: bytes) -> bytes | None:
    """The core of the protocol, for one row."""
    answers = {
        "ServerMetadata": pb.ServerMetadataResponse(name="speaking", extensions=["statistics"]),
        "ServerLive": pb.ServerLiveResponse(live=True),
        "ServerReady": pb.ServerReadyResponse(ready=True),
        "ModelMetadata": metadata(),
        "ModelReady": pb.ModelReadyResponse(ready=True),
        "ModelInfer": encode_response(MODEL, "1", {"scores": np.zeros((1, 2), np.float32)}),
    }
    return answers[method].SerializeToString() if method in answers else None


def test_an_extension_that_is_listed_and_not_there_fails() -> None:
    found = diagnose_speaking(speak_well)
    assert of(found, "ModelStatistics").verdict == "fails"
    assert of(found, "ModelStatistics").seen == "listed as an extension, but UNIMPLEMENTED: no such method"
    assert of(found, "ModelConfig").verdict == "absent"


def test_a_stream_of_bare_answers_is_another_dialect() -> None:
    def speak(method: str, request: bytes) -> bytes | None:
        return speak_well("ModelInfer" if method == "ModelStreamInfer" else method, request)

    found = diagnose_speaking(speak)
    assert of(found, "ModelStreamInfer").verdict == "fails"
    assert of(found, "ModelStreamInfer").seen == "1 of 2 answered, not in Triton's wrapper: as MLServer does"


def test_the_field_of_kserve_s_load_is_read_by_reflection() -> None:
    file = FileDescriptorProto(name="kserve.proto", package="inference")
    file.message_type.add(name="RepositoryModelLoadRequest").field.add(name="model_name", number=1)

    def speak(method: str, request: bytes) -> bytes | None:
        if method != "ServerReflectionInfo":
            return speak_well(method, request)
        response = ServerReflectionResponse()
        if ServerReflectionRequest.FromString(request).HasField("list_services"):
            response.list_services_response.service.add(name="inference.GRPCInferenceService")
        else:
            response.file_descriptor_response.file_descriptor_proto.append(file.SerializeToString())
        return response.SerializeToString()

    found = diagnose_speaking(speak)
    assert of(found, "reflection").seen == "inference.GRPCInferenceService"
    assert of(found, "dialect").seen == "RepositoryModelLoadRequest.model_name is field 1, as KServe's"


@pytest.mark.parametrize("model", [None, MODEL])
def test_answers_that_are_no_messages_are_findings(model: str | None) -> None:
    found = diagnose_speaking(lambda method, request: b"\xff", model)
    assert of(found, "ServerMetadata").seen == "NONSENSE: got 1 bytes that are no ServerMetadataResponse"
    assert with_verdict(found, "ok") == set()
    assert not found.ready_for_load


def test_empty_answers_are_findings() -> None:
    found = diagnose_speaking(lambda method, request: b"")
    assert of(found, "ServerLive").seen == "no"
    assert of(found, "payload").verdict == "fails"
    assert not found.ready_for_load


def test_messages_that_make_no_sense_are_findings() -> None:
    name = "\x1b[2J[red]" + "x" * 10 * LONGEST_TEXT

    def speak(method: str, request: bytes) -> bytes | None:
        if method == "RepositoryIndex":
            models = [pb.RepositoryIndexResponse.ModelIndex(name=f"{name}{number}") for number in range(1000)]
            return pb.RepositoryIndexResponse(models=models).SerializeToString()
        if method == "ModelMetadata":
            response = metadata()
            response.inputs[0].shape[:] = [-1, 10**12]
            return response.SerializeToString()
        return speak_well(method, request)

    found = diagnose_speaking(speak, model=None)
    assert of(found, "RepositoryIndex").means == f"only the first {MODELS} of 1000 were asked about"
    payloads = [finding for finding in found.findings if finding.what == "payload"]
    assert len(payloads) == MODELS
    assert "has 1000000000005 elements, expected at most 16777216" in payloads[0].seen
    assert all(f.about.isprintable() and len(f.seen) <= LONGEST_TEXT + 3 for f in found.findings)


def test_a_server_that_falls_silent_is_soon_asked_no_more() -> None:
    released, calls = threading.Event(), list[str]()

    def speak(method: str, request: bytes) -> bytes | None:
        calls.append(method)
        if method != "ServerMetadata":
            released.wait(60)
        return speak_well(method, request)

    with speaking(speak) as address:
        try:
            found = diagnose(address, MODEL, deadline=1.0)
        finally:
            released.set()
    assert len(calls) == 1 + probe.PATIENCE
    assert of(found, "ModelMetadata").seen == f"NOT_ASKED: {probe.PATIENCE} calls before were not answered"


def test_a_server_that_answers_slowly_is_not_asked_for_ever() -> None:
    with foreign() as server, probe.Probe(server.address, 5.0, total_seconds=0.0) as asking:
        reply = asking.ask(pb.ServerLiveRequest(), pb.ServerLiveResponse)
    assert (reply.status, reply.details) == (probe.NOT_ASKED, "0 s are over")


def test_a_server_that_never_answers_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    released = threading.Event()

    def silent(method: str, request: bytes) -> None:
        released.wait(60)

    with speaking(silent) as address:
        try:
            code = main(["doctor", address, "--deadline", "0.2"])
        finally:
            released.set()
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith(f"pareto-loadtest: {address} does not answer: DEADLINE_EXCEEDED: ")
    assert err.count("\n") == 1


def test_where_nobody_listens_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as bound:  # and not listening, so that nobody else can take its port
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        assert main(["doctor", address]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"pareto-loadtest: {address} does not answer: UNAVAILABLE: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "address", ["nowhere", ":8001", "host:", "host:70000", "http://host:1", "dns:///host:1", "ipv6:host:1"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match=f"got '{address}', expected HOST:PORT"):
        diagnose(address)


def test_a_signal_ends_it_between_two_questions() -> None:
    def interrupted(_: float) -> None:
        raise Interrupted(signal.SIGINT)

    with foreign() as server, pytest.raises(Interrupted):
        check_server(server.address, Settings(model=MODEL), Console(file=io.StringIO()), interrupted)


def test_json_is_alone_on_standard_output_and_the_exit_code_the_answer(
    server: ServerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", server.grpc_address, "--model", toy.MODEL, "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert (document["target"], document["ready_for_load"]) == (server.grpc_address, True)
    assert {"about", "what", "verdict", "seen", "means"} == document["findings"][0].keys()
    assert err.startswith("server: ServerMetadata: ok\n")
    assert err.splitlines()[-1].startswith("Ready for a load test")


def test_what_would_fail_is_said_in_words_and_by_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with foreign() as server:
        assert main(["doctor", server.address, "--model", "other"]) == 1
    out = capsys.readouterr().out
    assert "\nother: 0 of 1 checks passed\n  fails   ModelMetadata: " in out
    assert "\n          so requests cannot be made for it\n" in out
    assert out.splitlines()[-1].startswith("A load test would fail: ")
