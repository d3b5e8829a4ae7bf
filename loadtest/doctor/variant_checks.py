"""Requests that show how one variant of any server answers: the right ones, the large ones, and the wrong ones.

Each trial is one question of the doctor's and yields what it found. A server that takes a wrong request for a right
one is told apart from one that says no with another status than the protocol's: the first hides a mistake in a
payload, the second only counts it under another name.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.client.oip import MESSAGE_BYTES
from loadtest.client.payloads import Payload, wire_version
from loadtest.doctor.findings import Finding, Verdict, plain
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
    """The variant that is examined, and one row for it."""

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
        """A request with these tensors, or with the one row."""
        return encode_request(self.model, wire_version(self.variant), tensors or self.row, request_id)

    def rows(self, count: int) -> pb.ModelInferRequest:
        """A request with the one row so many times."""
        return self.request({name: np.repeat(tensor, count, axis=0) for name, tensor in self.row.items()})

    def fault(self, response: pb.ModelInferResponse, rows: int) -> str | None:
        """What is wrong with an answer to so many rows, or None."""
        outputs = {output.name: tuple(output.shape) for output in self.metadata.outputs}
        if fault := Payload(self.variant, b"", rows, outputs).fault(response):
            return fault
        try:
            decode_response(response)
        except InvalidInputError as error:
            return str(error)
        return None


def try_everything(probe: Probe, patient: ModelUnderTest) -> Iterator[Finding]:
    """All trials; the right request is the first, and where it fails the last."""
    reply = _infer(probe, patient.request())
    fault = patient.fault(reply.message, 1) if reply.message else str(reply)
    if fault:
        yield _finding(patient, "ModelInfer", "fails", fault, "every call of a load test fails")
        return
    yield _finding(patient, "ModelInfer", "ok", "one row was answered with the outputs that the metadata declares")
    yield _contents_of_answers(patient, reply)
    yield _typed_contents(probe, patient)
    yield _batch(probe, patient)
    yield from _wrong_tensors(probe, patient)
    yield from _unknown(probe, patient)
    yield _deadline(probe, patient)
    yield _messages(probe, patient)
    yield from _stream(probe, patient)


def _finding(patient: ModelUnderTest, what: str, verdict: Verdict, seen: str, means: str = "") -> Finding:
    return Finding(patient.label, what, verdict, plain(seen), means)


def _infer(probe: Probe, request: pb.ModelInferRequest) -> Reply[pb.ModelInferResponse]:
    return probe.ask(OIP + "ModelInfer", request, pb.ModelInferResponse)


def _contents_of_answers(patient: ModelUnderTest, reply: Reply[pb.ModelInferResponse]) -> Finding:
    assert reply.message
    if reply.message.raw_output_contents:
        return _finding(patient, "contents of answers", "ok", "raw")
    means = "answers take longer to write and to read than raw ones: part of the latency is that"
    return _finding(patient, "contents of answers", "ok", "typed, although the request was raw", means)


def _typed_contents(probe: Probe, patient: ModelUnderTest) -> Finding:
    what, request = "typed contents in a request", patient.request()
    for tensor, array in zip(request.inputs, patient.row.values(), strict=True):
        if tensor.datatype not in CONTENTS_FIELD:
            return _finding(patient, what, "absent", f"the protocol has none for {tensor.datatype}")
        getattr(tensor.contents, CONTENTS_FIELD[tensor.datatype]).extend(array.ravel().tolist())
    del request.raw_input_contents[:]
    reply = _infer(probe, request)
    if reply.message is None:
        return _finding(patient, what, "absent", str(reply), "nothing: requests are sent raw")
    fault = patient.fault(reply.message, 1)
    kind = "raw" if reply.message.raw_output_contents else "typed"
    return _finding(patient, what, "fails" if fault else "ok", fault or f"understood, answered {kind}")


def _batch(probe: Probe, patient: ModelUnderTest) -> Finding:
    if not patient.free_batch:
        seen = "the first dimension of its inputs is not free"
        return _finding(patient, "rows of a request", "absent", seen, "every request is one row")
    answered, refused = [1], ""
    for rows in ROWS:
        reply = _infer(probe, patient.rows(rows))
        if refused := _refusal(patient, reply, rows):
            break
        answered.append(rows)
    seen = f"{', '.join(map(str, answered))} answered" + (f"; {rows}: {refused}" if refused else "")
    means = f"requests of {rows} rows fail, of {answered[-1]} do not" if refused else ""
    return _finding(patient, "rows of a request", "fails" if refused else "ok", seen, means)


def _refusal(patient: ModelUnderTest, reply: Reply[pb.ModelInferResponse], rows: int) -> str:
    """Why a request was not answered as it should be; empty where it was."""
    return str(reply) if reply.message is None else patient.fault(reply.message, rows) or ""


def _wrong_tensors(probe: Probe, patient: ModelUnderTest) -> Iterator[Finding]:
    (name, array), *_ = patient.row.items()
    other = np.dtype("<i4") if array.dtype != np.dtype("<i4") else np.dtype("<f4")
    for what, wrong in (
        ("wrong datatype", np.zeros(array.shape, other)),
        ("wrong shape", np.stack([array, array], axis=-1)),
    ):
        reply = _infer(probe, patient.request(patient.row | {name: wrong}))
        yield _no(patient, what, reply, "INVALID_ARGUMENT", "a mistake in a payload is not noticed")


def _unknown(probe: Probe, patient: ModelUnderTest) -> Iterator[Finding]:
    request = patient.request()
    request.model_name = NOBODY
    unnoticed = "a wrong model name is not noticed"
    yield _no(patient, "unknown model", _infer(probe, request), "NOT_FOUND", unnoticed)
    request = patient.request()
    request.model_version = NO_VERSION
    ignored = "versions are ignored: variants under one model name cannot be compared"
    yield _no(patient, "unknown version", _infer(probe, request), "NOT_FOUND", ignored)


def _deadline(probe: Probe, patient: ModelUnderTest) -> Finding:
    """Whether a call ends whose deadline is over; several, since a quick answer may win the race with gRPC's clock."""
    what, request = "deadline already past", patient.request()
    seconds = []
    for _ in range(LATE_CALLS):
        started = time.perf_counter()
        reply = probe.ask_too_late(OIP + "ModelInfer", request, pb.ModelInferResponse)
        if reply.status != "OK":
            return _no(patient, what, reply, "DEADLINE_EXCEEDED", "")
        seconds.append(time.perf_counter() - started)
    seen = f"{LATE_CALLS} calls were answered all the same, the quickest in {min(seconds) * 1e3:.1f} ms"
    if min(seconds) < CLOCK_SECONDS:
        return _finding(patient, what, "absent", f"{seen}: too quick to tell")
    means = "calls that were given up are executed all the same: under overload the server works for nobody"
    return _finding(patient, what, "fails", seen, means)


def _no(
    patient: ModelUnderTest, what: str, reply: Reply[pb.ModelInferResponse], status: str, if_answered: str
) -> Finding:
    """What a request that is wrong came to: the protocol has it refused with `status`."""
    if reply.status == status:
        return _finding(patient, what, "ok", str(reply))
    if reply.status == "OK":
        return _finding(patient, what, "fails", "answered as if it were right", if_answered)
    means = "" if reply.status == NOT_ASKED else f"it counts as {reply.status} in results, not as {status}"
    return _finding(patient, what, "fails", str(reply), means)


def _messages(probe: Probe, patient: ModelUnderTest) -> Finding:
    """How large a message may be.

    The messages are for a model that is not there: gRPC refuses one that is too large before it is looked into, and
    nothing is executed for the others. They hold one BYTES element, which no server takes long to read.
    """
    what, taken, stopped, end = "size of a message", 0, "", time.monotonic() + MESSAGE_SECONDS
    for size in MEBIBYTES:
        if time.monotonic() > end:
            stopped = f"{size} MiB was not tried after {MESSAGE_SECONDS:g} s"
            break
        reply = _infer(probe, _large(size * 2**20))
        if reply.status in UNREAD:
            stopped = f"{size} MiB: {reply}"
            break
        taken = size
    if not stopped:
        return _finding(patient, what, "ok", f"{taken} MiB taken, the load generator's own limit")
    if not patient.free_batch:
        return _finding(patient, what, "ok", f"{taken} MiB taken; {stopped}")
    rows = max(1, taken * 2**20 // max(1, patient.row_bytes))
    means = f"requests of more than {rows} rows ({taken} MiB) may fail"
    return _finding(patient, what, "fails", f"{taken} MiB taken; {stopped}", means)


def _large(size: int) -> pb.ModelInferRequest:
    """A request of nearly `size` bytes, headers included, and no more."""
    text = np.empty(1, np.object_)
    text[0] = bytes(size - 1024)
    return encode_request(NOBODY, "", {"text": text})


def _stream(probe: Probe, patient: ModelUnderTest) -> Iterator[Finding]:
    """ModelStreamInfer: in which dialect, whether answers bear their request's id, and where errors go."""
    what = "ModelStreamInfer"
    right = [patient.request(request_id=f"doctor-{number}") for number in (1, 2)]
    wrapped = probe.ask_on_stream(OIP + what, right, pb.ModelStreamInferResponse)
    if wrapped.status in ("UNIMPLEMENTED", NOT_ASKED):
        yield _finding(patient, what, "absent", str(wrapped), "unary calls only")
        return
    answers = [each.infer_response for each in wrapped.messages if each.infer_response.outputs]
    if not answers:
        bare = probe.ask_on_stream(OIP + what, right, pb.ModelInferResponse)
        if any(each.outputs for each in bare.messages):
            seen = f"{len(bare.messages)} of 2 answered, not in Triton's wrapper: as MLServer does"
            yield _finding(patient, what, "fails", seen, "streamed answers are not understood")
            return
        said = [each.error_message for each in wrapped.messages if each.error_message] or [str(wrapped)]
        yield _finding(patient, what, "fails", said[0], "unary calls only")
        return
    complete = wrapped.status == "OK" and len(answers) == 2 and not any(patient.fault(each, 1) for each in answers)
    seen = f"{len(answers)} of 2 answered in Triton's wrapper" + ("" if wrapped.status == "OK" else f", then {wrapped}")
    yield _finding(patient, what, "ok" if complete else "fails", seen, "" if complete else "streamed calls may fail")
    ids = sorted(each.id for each in answers)
    echoed = ids == [each.id for each in right]
    means = "" if echoed else "answers on a stream cannot be told apart: one request at a time"
    yield _finding(patient, "ids on a stream", "ok" if echoed else "fails", f"{ids} came back", means)
    yield _errors_on_a_stream(probe, patient, right)


def _errors_on_a_stream(probe: Probe, patient: ModelUnderTest, right: Sequence[pb.ModelInferRequest]) -> Finding:
    wrong = patient.request(request_id="doctor-wrong")
    wrong.model_name = NOBODY
    reply = probe.ask_on_stream(OIP + "ModelStreamInfer", [right[0], wrong, right[1]], pb.ModelStreamInferResponse)
    errors = [each.error_message for each in reply.messages if each.error_message]
    answered = sum(bool(each.infer_response.outputs) for each in reply.messages)
    if errors and answered == 2:
        return _finding(patient, "errors on a stream", "ok", f"in-band, and the stream goes on: {errors[0]}")
    seen = f"{answered} of 2 right requests were answered, {len(errors)} in-band errors came, the end was {reply}"
    return _finding(patient, "errors on a stream", "fails", seen, "one wrong request costs the others on its stream")
