"""Requests that show how one variant of any server answers: the right ones, the large ones, and the wrong ones.

Each check is one question of the doctor's and yields what it found. A server that takes a wrong request for a right
one is told apart from one that says no with another status than the protocol's: the first hides a mistake in a
payload, the second only counts it under another name.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.client.oip import MESSAGE_BYTES
from loadtest.client.payloads import Payload, wire_version
from loadtest.doctor.findings import Finding, Verdict, make_finding
from loadtest.doctor.probe import NOT_ASKED, Probe, Reply
from protos.errors import InvalidInputError
from protos.tensors import CONTENTS_FIELD, Array, decode_response, encode_request
from protos.v1 import inference_pb2 as pb

OIP = "/inference.GRPCInferenceService/"

NOBODY = "pareto-loadtest-doctor"
"""A model that no server has."""
NO_VERSION = "987654321"
"""A version that no model has; a number, since Triton takes no other."""

ROWS = (2, 8, 32)
LATE_CALLS = 5
CLOCK_SECONDS = 0.02
"""gRPC's libraries keep deadlines to some milliseconds: an answer that is quicker may well be in time."""
MEBIBYTES = (1, 5, 16, MESSAGE_BYTES // 2**20)
"""Sizes of whole messages that are tried: below and above gRPC's default limit of 4, and up to the load generator's."""
UNREAD = ("RESOURCE_EXHAUSTED", "UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED", NOT_ASKED)
"""How a call ends whose message was not looked into; every other status says that it was."""
MESSAGE_SECONDS = 10.0
"""After so long no larger message is tried."""


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

    @property
    def row_bytes(self) -> int:
        """Size of one row on the wire, less its header."""
        return sum(map(len, self.request().raw_input_contents))

    def request(self, tensors: dict[str, Array] | None = None, request_id: str = "") -> pb.ModelInferRequest:
        """Returns a request with these tensors, or with the one row."""
        return encode_request(self.model, wire_version(self.variant), tensors or self.row, request_id)

    def rows(self, count: int) -> pb.ModelInferRequest:
        """Returns a request with the one row so many times."""
        return self.request({name: np.repeat(tensor, count, axis=0) for name, tensor in self.row.items()})

    def infer(self, request: pb.ModelInferRequest) -> Reply[pb.ModelInferResponse]:
        """Sends one request."""
        return self.probe.ask(OIP + "ModelInfer", request, pb.ModelInferResponse)

    def finding(self, what: str, verdict: Verdict, seen: str, means: str = "") -> Finding:
        """Returns a finding on this variant."""
        return make_finding(self.label, what, verdict, seen, means)

    def fault(self, response: pb.ModelInferResponse, rows: int) -> str | None:
        """Says what is wrong with an answer to so many rows, or None."""
        outputs = {output.name: tuple(output.shape) for output in self.metadata.outputs}
        if fault := Payload(self.variant, b"", rows, outputs).fault(response):
            return fault
        try:
            decode_response(response)
        except InvalidInputError as error:
            return str(error)
        return None


def check_variant(tested: ModelUnderTest) -> Iterator[Finding]:
    """Makes all checks; the right request is the first, and where it fails the last."""
    reply = tested.infer(tested.request())
    fault = tested.fault(reply.message, 1) if reply.message else str(reply)
    if fault:
        yield tested.finding("ModelInfer", "fails", fault, "every call of a load test fails")
        return
    yield tested.finding("ModelInfer", "ok", "one row was answered with the outputs that the metadata declares")
    yield _contents_of_answers(tested, reply)
    yield _typed_contents(tested)
    yield _batch(tested)
    yield from _wrong_tensors(tested)
    yield from _unknown(tested)
    yield check_deadline(tested)
    yield _messages(tested)
    yield from _stream(tested)


def _contents_of_answers(tested: ModelUnderTest, reply: Reply[pb.ModelInferResponse]) -> Finding:
    assert reply.message
    if reply.message.raw_output_contents:
        return tested.finding("contents of answers", "ok", "raw")
    means = "answers take longer to write and to read than raw ones: part of the latency is that"
    return tested.finding("contents of answers", "ok", "typed, although the request was raw", means)


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
    fault = tested.fault(reply.message, 1)
    kind = "raw" if reply.message.raw_output_contents else "typed"
    return tested.finding(what, "fails" if fault else "ok", fault or f"understood, answered {kind}")


def _batch(tested: ModelUnderTest) -> Finding:
    if not tested.free_batch:
        seen = "the first dimension of its inputs is not free"
        return tested.finding("rows of a request", "absent", seen, "every request is one row")
    answered, refused = [1], ""
    for rows in ROWS:
        reply = tested.infer(tested.rows(rows))
        if refused := _refusal(tested, reply, rows):
            break
        answered.append(rows)
    seen = f"{', '.join(map(str, answered))} answered" + (f"; {rows}: {refused}" if refused else "")
    means = f"requests of {rows} rows fail, of {answered[-1]} do not" if refused else ""
    return tested.finding("rows of a request", "fails" if refused else "ok", seen, means)


def _refusal(tested: ModelUnderTest, reply: Reply[pb.ModelInferResponse], rows: int) -> str:
    """Says why a request was not answered as it should be; empty where it was."""
    return str(reply) if reply.message is None else tested.fault(reply.message, rows) or ""


def _wrong_tensors(tested: ModelUnderTest) -> Iterator[Finding]:
    (name, array), *_ = tested.row.items()
    other = np.dtype("<i4") if array.dtype != np.dtype("<i4") else np.dtype("<f4")
    for what, wrong in (
        ("wrong datatype", np.zeros(array.shape, other)),
        ("wrong shape", np.stack([array, array], axis=-1)),
    ):
        reply = tested.infer(tested.request(tested.row | {name: wrong}))
        yield _no(tested, what, reply, "INVALID_ARGUMENT", "a mistake in a payload is not noticed")


def _unknown(tested: ModelUnderTest) -> Iterator[Finding]:
    request = tested.request()
    request.model_name = NOBODY
    unnoticed = "a wrong model name is not noticed"
    yield _no(tested, "unknown model", tested.infer(request), "NOT_FOUND", unnoticed)
    request = tested.request()
    request.model_version = NO_VERSION
    ignored = "versions are ignored: variants under one model name cannot be compared"
    yield _no(tested, "unknown version", tested.infer(request), "NOT_FOUND", ignored)


def check_deadline(tested: ModelUnderTest, clock_seconds: float = CLOCK_SECONDS) -> Finding:
    """Checks that calls end whose deadline is over: several, since a quick answer may win against gRPC's clock."""
    what, request = "deadline already past", tested.request()
    seconds = []
    for _ in range(LATE_CALLS):
        started = time.perf_counter()
        reply = tested.probe.ask_too_late(OIP + "ModelInfer", request, pb.ModelInferResponse)
        if reply.status != "OK":
            return _no(tested, what, reply, "DEADLINE_EXCEEDED", "")
        seconds.append(time.perf_counter() - started)
    seen = f"{LATE_CALLS} calls were answered all the same, the quickest in {min(seconds) * 1e3:.1f} ms"
    if min(seconds) < clock_seconds:
        return tested.finding(what, "absent", f"{seen}: too quick to tell")
    means = "calls that were given up are executed all the same: under overload the server works for nobody"
    return tested.finding(what, "fails", seen, means)


def _no(
    tested: ModelUnderTest, what: str, reply: Reply[pb.ModelInferResponse], status: str, if_answered: str
) -> Finding:
    """Judges the reply to a wrong request, which the protocol refuses with `status`."""
    if reply.status == status:
        return tested.finding(what, "ok", str(reply))
    if reply.status == "OK":
        return tested.finding(what, "fails", "answered as if it were right", if_answered)
    means = "" if reply.status == NOT_ASKED else f"it counts as {reply.status} in results, not as {status}"
    return tested.finding(what, "fails", str(reply), means)


def _messages(tested: ModelUnderTest) -> Finding:
    """Finds how large a message may be.

    The messages are for a model that is not there: gRPC refuses one that is too large before it is looked into, and
    nothing is executed for the others. They hold one BYTES element, which no server takes long to read.
    """
    what, taken, stopped, end = "size of a message", 0, "", time.monotonic() + MESSAGE_SECONDS
    for size in MEBIBYTES:
        if time.monotonic() > end:
            stopped = f"{size} MiB was not tried after {MESSAGE_SECONDS:g} s"
            break
        reply = tested.infer(_large(size * 2**20))
        if reply.status in UNREAD:
            stopped = f"{size} MiB: {reply}"
            break
        taken = size
    if not stopped:
        return tested.finding(what, "ok", f"{taken} MiB taken, the load generator's own limit")
    if not tested.free_batch:
        return tested.finding(what, "ok", f"{taken} MiB taken; {stopped}")
    rows = max(1, taken * 2**20 // max(1, tested.row_bytes))
    means = f"requests of more than {rows} rows ({taken} MiB) may fail"
    return tested.finding(what, "fails", f"{taken} MiB taken; {stopped}", means)


def _large(size: int) -> pb.ModelInferRequest:
    """Returns a request of nearly `size` bytes, headers included, and no more."""
    text = np.empty(1, np.object_)
    text[0] = bytes(size - 1024)
    return encode_request(NOBODY, "", {"text": text})


def _stream(tested: ModelUnderTest) -> Iterator[Finding]:
    """Checks ModelStreamInfer: in which dialect, whether answers bear their request's id, and where errors go."""
    what = "ModelStreamInfer"
    right = [tested.request(request_id=f"doctor-{number}") for number in (1, 2)]
    wrapped = tested.probe.ask_on_stream(OIP + what, right, pb.ModelStreamInferResponse)
    if wrapped.status in ("UNIMPLEMENTED", NOT_ASKED):
        yield tested.finding(what, "absent", str(wrapped), "unary calls only")
        return
    answers = [each.infer_response for each in wrapped.messages if each.infer_response.outputs]
    if not answers:
        bare = tested.probe.ask_on_stream(OIP + what, right, pb.ModelInferResponse)
        if any(each.outputs for each in bare.messages):
            seen = f"{len(bare.messages)} of 2 answered, not in Triton's wrapper: as MLServer does"
            yield tested.finding(what, "fails", seen, "streamed answers are not understood")
            return
        said = [each.error_message for each in wrapped.messages if each.error_message] or [str(wrapped)]
        yield tested.finding(what, "fails", said[0], "unary calls only")
        return
    complete = wrapped.status == "OK" and len(answers) == 2 and not any(tested.fault(each, 1) for each in answers)
    seen = f"{len(answers)} of 2 answered in Triton's wrapper" + ("" if wrapped.status == "OK" else f", then {wrapped}")
    yield tested.finding(what, "ok" if complete else "fails", seen, "" if complete else "streamed calls may fail")
    ids = sorted(each.id for each in answers)
    echoed = ids == [each.id for each in right]
    means = "" if echoed else "answers on a stream cannot be told apart: one request at a time"
    yield tested.finding("ids on a stream", "ok" if echoed else "fails", f"got back {ids}", means)
    yield _errors_on_a_stream(tested, right)


def _errors_on_a_stream(tested: ModelUnderTest, right: Sequence[pb.ModelInferRequest]) -> Finding:
    wrong = tested.request(request_id="doctor-wrong")
    wrong.model_name = NOBODY
    reply = tested.probe.ask_on_stream(
        OIP + "ModelStreamInfer", [right[0], wrong, right[1]], pb.ModelStreamInferResponse
    )
    errors = [each.error_message for each in reply.messages if each.error_message]
    answered = sum(bool(each.infer_response.outputs) for each in reply.messages)
    if errors and answered == 2:
        return tested.finding("errors on a stream", "ok", f"in-band, and the stream goes on: {errors[0]}")
    seen = f"{answered} of 2 right requests answered, {len(errors)} in-band errors, the end was {reply}"
    return tested.finding("errors on a stream", "fails", seen, "one wrong request costs the others on its stream")
