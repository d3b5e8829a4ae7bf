"""Requests that show how one variant of any server answers: the right ones, the large ones, and the wrong ones.

A server that takes a wrong request for a right one is told apart from one that refuses it with another status than
the protocol's: the first hides a mistake in a payload, the second only counts it under another name.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.client.oip import MESSAGE_BYTES
from loadtest.client.payloads import Payload, outputs_of, wire_version
from loadtest.doctor.findings import Finding, Verdict, make_finding
from loadtest.doctor.probe import NOT_ASKED, OIP, Probe, Reply
from protos.errors import InvalidInputError
from protos.tensors import CONTENTS_FIELD, Array, decode_response, encode_request
from protos.v1 import inference_pb2 as pb

UNKNOWN_MODEL = "pareto-loadtest-doctor"
"""A model that no server has."""
UNKNOWN_VERSION = "987654321"
"""A version that no model has; a number, since Triton takes no other."""

ROWS = (2, 8, 32)
LATE_CALLS = 5
CLOCK_SECONDS = 0.02
"""gRPC's libraries keep deadlines to some milliseconds: an answer that is quicker may well be in time."""
MEBIBYTES = (1, 5, 16, MESSAGE_BYTES // 2**20)
"""Sizes of whole messages that are tried: below and above gRPC's default limit of 4, and up to the load generator's."""
UNREAD = ("RESOURCE_EXHAUSTED", "UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED", NOT_ASKED)
"""How a call ends whose message the server did not read; every other status says that it did."""
MESSAGE_SECONDS = 10.0
"""After so long no larger message is tried."""

STREAM = "ModelStreamInfer"


@dataclass(frozen=True)
class ModelUnderTest:
    """The variant that is checked, the connection to its server, and one row for it."""

    probe: Probe
    model: str
    variant: str
    metadata: pb.ModelMetadataResponse
    row: dict[str, Array]

    @property
    def label(self) -> str:
        """How findings name it."""
        return f"{self.model}/{self.variant}"

    @property
    def free_batch(self) -> bool:
        """Whether a request may hold as many rows as it likes."""
        return all(tensor.shape[:1] == [-1] for tensor in self.metadata.inputs)

    def request(self, tensors: dict[str, Array] | None = None, request_id: str = "") -> pb.ModelInferRequest:
        """Returns a request with these tensors, or with the one row."""
        return encode_request(self.model, wire_version(self.variant), tensors or self.row, request_id)

    def infer(self, request: pb.ModelInferRequest) -> Reply[pb.ModelInferResponse]:
        """Sends one request."""
        return self.probe.ask(request, pb.ModelInferResponse)

    def infer_on_stream(self, *requests: pb.ModelInferRequest) -> Reply[pb.ModelStreamInferResponse]:
        """Sends requests on one stream whose answers are in Triton's wrapper."""
        return self.probe.ask_on_stream(requests, pb.ModelStreamInferResponse, OIP + STREAM)

    def finding(self, what: str, verdict: Verdict, seen: str, means: str = "") -> Finding:
        """Returns a finding on this variant."""
        return make_finding(self.label, what, verdict, seen, means)

    def fault(self, reply: Reply[pb.ModelInferResponse], rows: int = 1) -> str:
        """Says what is wrong with the reply to a request of so many rows; empty where nothing is."""
        return str(reply) if reply.message is None else self.fault_of_answer(reply.message, rows)

    def fault_of_answer(self, response: pb.ModelInferResponse, rows: int = 1) -> str:
        """Says what is wrong with an answer to so many rows; empty where nothing is."""
        if fault := Payload(self.variant, b"", rows, outputs_of(self.metadata)).fault(response):
            return fault
        try:
            decode_response(response)
        except InvalidInputError as error:
            return str(error)
        return ""


def check_variant(tested: ModelUnderTest) -> Iterator[Finding]:
    """Makes all checks; the right request is the first, and where it fails the last."""
    reply = tested.infer(tested.request())
    if fault := tested.fault(reply):
        yield tested.finding("ModelInfer", "fails", fault, "every call of a load test fails")
        return
    yield tested.finding("ModelInfer", "ok", "one row was answered with the outputs that the metadata declares")
    if reply.message and reply.message.raw_output_contents:
        yield tested.finding("contents of answers", "ok", "raw")
    else:
        means = "typed answers take longer to write and to read than raw ones, which adds to the latency"
        yield tested.finding("contents of answers", "ok", "typed, although the request was raw", means)
    yield _typed_contents(tested)
    yield _rows(tested)
    yield from _wrong_requests(tested)
    yield check_deadline(tested)
    yield _message_size(tested)
    yield from _stream(tested)


def _typed_contents(tested: ModelUnderTest) -> Finding:
    what, request = "typed contents in a request", tested.request()
    for tensor, array in zip(request.inputs, tested.row.values(), strict=True):
        if tensor.datatype not in CONTENTS_FIELD:
            return tested.finding(what, "absent", f"the protocol has none for {tensor.datatype}")
        getattr(tensor.contents, CONTENTS_FIELD[tensor.datatype]).extend(array.ravel().tolist())
    del request.raw_input_contents[:]
    reply = tested.infer(request)
    if reply.message is None:
        return tested.finding(what, "absent", str(reply), "nothing: requests are sent raw")
    kind = "raw" if reply.message.raw_output_contents else "typed"
    fault = tested.fault(reply)
    return tested.finding(what, "fails" if fault else "ok", fault or f"understood, answered {kind}")


def _rows(tested: ModelUnderTest) -> Finding:
    what = "rows of a request"
    if not tested.free_batch:
        seen = "the first dimension of its inputs is not free"
        return tested.finding(what, "absent", seen, "every request is one row")
    answered = "1"
    for rows in ROWS:
        request = tested.request({name: np.repeat(tensor, rows, axis=0) for name, tensor in tested.row.items()})
        if fault := tested.fault(tested.infer(request), rows):
            means = f"requests of {rows} rows fail, of {answered.split()[-1]} do not"
            return tested.finding(what, "fails", f"{answered} answered; {rows}: {fault}", means)
        answered += f", {rows}"
    return tested.finding(what, "ok", f"{answered} answered")


def _wrong_requests(tested: ModelUnderTest) -> Iterator[Finding]:
    (name, array), *_ = tested.row.items()
    datatype = tested.request(tested.row | {name: np.zeros(array.shape, "<f4" if array.dtype == "<i4" else "<i4")})
    shape = tested.request(tested.row | {name: np.stack([array, array], axis=-1)})
    model, version = tested.request(), tested.request()
    model.model_name, version.model_version = UNKNOWN_MODEL, UNKNOWN_VERSION
    unnoticed = "a mistake in a payload is not noticed"
    ignored = "versions are ignored: variants under one model name cannot be compared"
    for what, request, status, if_answered in (
        ("wrong datatype", datatype, "INVALID_ARGUMENT", unnoticed),
        ("wrong shape", shape, "INVALID_ARGUMENT", unnoticed),
        ("unknown model", model, "NOT_FOUND", "a wrong model name is not noticed"),
        ("unknown version", version, "NOT_FOUND", ignored),
    ):
        reply = tested.infer(request)
        if reply.status == "OK":
            yield tested.finding(what, "fails", "answered as if it were right", if_answered)
        else:
            yield _refused(tested, what, reply, status)


def check_deadline(tested: ModelUnderTest, clock_seconds: float = CLOCK_SECONDS) -> Finding:
    """Checks that calls end whose deadline is over: several, since a quick answer may win against gRPC's clock."""
    what, request, seconds = "deadline already past", tested.request(), list[float]()
    for _ in range(LATE_CALLS):
        started = time.perf_counter()
        reply = tested.probe.ask_too_late(request)
        if reply.status != "OK":
            return _refused(tested, what, reply, "DEADLINE_EXCEEDED")
        seconds.append(time.perf_counter() - started)
    seen = f"{LATE_CALLS} calls were answered anyway, the quickest in {min(seconds) * 1e3:.1f} ms"
    if min(seconds) < clock_seconds:
        return tested.finding(what, "absent", f"{seen}: too quick to tell")
    means = "calls that were given up are executed anyway: under overload the server works for nobody"
    return tested.finding(what, "fails", seen, means)


def _refused(tested: ModelUnderTest, what: str, reply: Reply[pb.ModelInferResponse], status: str) -> Finding:
    """Judges how a request was refused: the protocol does it with `status`."""
    if reply.status in (status, NOT_ASKED):
        return tested.finding(what, "ok" if reply.status == status else "fails", str(reply))
    return tested.finding(what, "fails", str(reply), f"it counts as {reply.status} in results, not as {status}")


def _message_size(tested: ModelUnderTest) -> Finding:
    """Finds how large a message may be.

    The messages are for a model that is not there: gRPC refuses one that is too large before the server reads it, and
    nothing is executed for the others. They hold one BYTES element, which no server takes long to read.
    """
    what, taken, stopped, end = "size of a message", 0, "", time.monotonic() + MESSAGE_SECONDS
    for size in MEBIBYTES:
        if time.monotonic() > end:
            stopped = f"{size} MiB was not tried after {MESSAGE_SECONDS:g} s"
            break
        text = np.array([bytes(size * 2**20 - 1024)], np.object_)  # and the rest for its headers
        reply = tested.infer(encode_request(UNKNOWN_MODEL, "", {"text": text}))
        if reply.status in UNREAD:
            stopped = f"{size} MiB: {reply}"
            break
        taken = size
    if not stopped:
        return tested.finding(what, "ok", f"{taken} MiB taken, the load generator's own limit")
    seen, row_bytes = f"{taken} MiB taken; {stopped}", sum(map(len, tested.request().raw_input_contents))
    if not tested.free_batch:
        return tested.finding(what, "ok", seen)
    rows = max(1, taken * 2**20 // max(1, row_bytes))
    return tested.finding(what, "fails", seen, f"requests of more than {rows} rows ({taken} MiB) may fail")


def _stream(tested: ModelUnderTest) -> Iterator[Finding]:
    """Checks ModelStreamInfer: in which dialect, whether answers bear their request's id, and where errors go."""
    right = [tested.request(request_id=f"doctor-{number}") for number in (1, 2)]
    reply = tested.infer_on_stream(*right)
    answers = [each.infer_response for each in reply.messages if each.infer_response.outputs]
    if not answers or reply.status in ("UNIMPLEMENTED", NOT_ASKED):
        yield _no_wrapped_answers(tested, reply, right)
        return
    complete = reply.status == "OK" and len(answers) == 2 and not any(map(tested.fault_of_answer, answers))
    seen = f"{len(answers)} of 2 answered in Triton's wrapper" + ("" if reply.status == "OK" else f", then {reply}")
    yield tested.finding(STREAM, "ok" if complete else "fails", seen, "" if complete else "streamed calls may fail")
    ids = sorted(each.id for each in answers)
    echoed = ids == [each.id for each in right]
    means = "" if echoed else "answers on a stream cannot be told apart: one request at a time"
    yield tested.finding("ids on a stream", "ok" if echoed else "fails", f"got back {ids}", means)
    yield _errors_on_a_stream(tested, right)


def _no_wrapped_answers(
    tested: ModelUnderTest, reply: Reply[pb.ModelStreamInferResponse], right: Sequence[pb.ModelInferRequest]
) -> Finding:
    """Judges a stream on which no answer came in Triton's wrapper."""
    if reply.status in ("UNIMPLEMENTED", NOT_ASKED):
        return tested.finding(STREAM, "absent", str(reply), "unary calls only")
    bare = tested.probe.ask_on_stream(right, pb.ModelInferResponse, OIP + STREAM)
    if any(each.outputs for each in bare.messages):
        seen = f"{len(bare.messages)} of 2 answered, not in Triton's wrapper: as MLServer does"
        return tested.finding(STREAM, "fails", seen, "streamed answers are not understood")
    error = next((each.error_message for each in reply.messages if each.error_message), str(reply))
    return tested.finding(STREAM, "fails", error, "unary calls only")


def _errors_on_a_stream(tested: ModelUnderTest, right: Sequence[pb.ModelInferRequest]) -> Finding:
    what, wrong = "errors on a stream", tested.request(request_id="doctor-wrong")
    wrong.model_name = UNKNOWN_MODEL
    reply = tested.infer_on_stream(right[0], wrong, right[1])
    errors = [each.error_message for each in reply.messages if each.error_message]
    answered = sum(bool(each.infer_response.outputs) for each in reply.messages)
    if errors and answered == 2:
        return tested.finding(what, "ok", f"in-band, and the stream goes on: {errors[0]}")
    seen = f"{answered} of 2 right requests answered, {len(errors)} in-band errors, the end was {reply}"
    return tested.finding(what, "fails", seen, "one wrong request costs the others on its stream")
