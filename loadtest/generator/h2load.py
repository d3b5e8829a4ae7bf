"""h2load of nghttp2, a load generator in C that knows HTTP/2 and not gRPC: its command for ModelInfer, and its log.

A gRPC call is a POST whose body is a message behind five bytes, so h2load can send one again and again. What it counts
as a success is an answer with the HTTP status 200, which a failed gRPC call has, too: failures are found in the headers
that `-v` prints (`grpc-status`, where the answer has no message) and by the server's own counter (`second_opinion`).

It does not check the server's certificate; the run did, right before.
https://nghttp2.org/documentation/h2load.1.html
"""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadtest.client.failures import plain
from loadtest.generator.opinion import Pace
from loadtest.plan import Plan
from protos.errors import ParetoServeError
from protos.support import significance

PROGRAM = "h2load"
WARMUP_SECONDS = 0.2

_PATH = "/inference.GRPCInferenceService/ModelInfer"
_FAILED = re.compile(r"grpc-status: ([1-9]\d*)(?:\n\[stream_id=\d+\] grpc-message: (.*))?")


class NoOpinionError(ParetoServeError):
    """There is no second opinion; the text is the reason."""


@dataclass(frozen=True)
class Log:
    """The calls of one run of h2load that ended, as arrays of the same length."""

    start: NDArray[np.int64]
    """Microseconds since 1970."""
    status: NDArray[np.int64]
    """Of HTTP; -1 where the stream broke."""
    taken: NDArray[np.int64]
    """Microseconds until the end of the answer."""


def check_plan(plan: Plan) -> None:
    """Raises `NoOpinionError` where h2load is not installed or cannot send what the plan sends."""
    if shutil.which(PROGRAM) is None:
        raise NoOpinionError("it is not installed (Debian's nghttp2-client)")
    if plan.transport == "stream":
        raise NoOpinionError("it sends calls, not what ModelStreamInfer wants")
    if plan.tls_client_cert:
        raise NoOpinionError("it has no certificate to show")
    if plan.token_file:
        raise NoOpinionError("it takes a token only as an argument, which everyone on its machine can read")


def run(plan: Plan, address: str, request: bytes, users: int, seconds: float) -> Log:
    """Has `users` clients send a serialized request, each again as soon as it has the answer, after a warm-up.

    Raises `NoOpinionError` where h2load fails, or any call does as far as its answer says.
    """
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder, "body"), Path(folder, "log")
        body.write_bytes(framed(request))
        given, most = command(plan, address, users, seconds, body, log), WARMUP_SECONDS + seconds + plan.deadline
        try:
            done = subprocess.run(given, capture_output=True, timeout=most, check=False)
        except subprocess.TimeoutExpired:
            raise NoOpinionError(f"it did not end within {most:g} s") from None
        calls = read_log(log.read_text() if log.exists() else "")
    if failed := _FAILED.search(done.stdout.decode(errors="replace")):
        raise NoOpinionError(f"its calls failed (gRPC status {failed[1]}: {plain(failed[2] or 'no details')})")
    good, ended = int((calls.status == 200).sum()), calls.status.size
    if done.returncode or not ended or good < ended:
        raise NoOpinionError(f"{good} of its {ended} calls were answered, exit code {done.returncode}")
    return calls


def framed(message: bytes) -> bytes:
    """Returns a message as gRPC sends it: a byte that says "not compressed", the length in four, the message.

    https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
    """
    return b"\0" + len(message).to_bytes(4, "big") + message


def command(plan: Plan, address: str, users: int, seconds: float, body: Path, log: Path) -> list[str]:
    """Returns h2load's command line for `users` connections with one call at a time on each."""
    headers = ("te: trailers", "content-type: application/grpc", f"grpc-timeout: {plan.deadline * 1e3:.0f}m")
    scheme = "https" if plan.tls or plan.tls_ca else "http"
    return [
        *(PROGRAM, "-v", "-d", str(body), "--log-file", str(log)),
        *("-c", str(users), "-m", "1", "-D", f"{(WARMUP_SECONDS + seconds) * 1e3:.0f}ms"),
        *(part for header in headers for part in ("-H", header)),
        f"{scheme}://{address}{_PATH}",
    ]


def read_log(text: str) -> Log:
    """Reads `--log-file`: a line for each call with its start, HTTP status and duration; more columns may follow."""
    rows = [line.split("\t")[:3] for line in text.splitlines()]
    return Log(*np.array(rows, np.int64).reshape(-1, 3).T)


def pace(calls: Log, seconds: float) -> Pace:
    """Returns answers per second after the warm-up, and the p50 of the calls that began then."""
    begun = calls.start.min() + WARMUP_SECONDS * 1e6
    ended, close = calls.start + calls.taken, begun + seconds * 1e6
    answered = ((ended >= begun) & (ended < close)).sum()
    steady = calls.taken[(calls.start >= begun) & (calls.start < close)]
    return Pace(float(answered / seconds), significance.quantile(steady / 1e3, 0.5))
