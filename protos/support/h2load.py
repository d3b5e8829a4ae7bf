"""h2load of nghttp2, a load generator in C that knows HTTP/2 and not gRPC: how it makes calls, and what it saw of them.

A gRPC call is a POST whose body is a message behind five bytes, so h2load can send one again and again. What it counts
as a success is an answer with the HTTP status 200, which a failed gRPC call has, too: those are found in the headers
that `-v` prints, which have a `grpc-status` where no message follows. It does not check the server's certificate.
https://nghttp2.org/documentation/h2load.1.html
"""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PROGRAM = "h2load"
MISSING = "it is not installed (Debian's nghttp2-client)"

_PATH = "/inference.GRPCInferenceService/ModelInfer"
_FAILED = re.compile(r"grpc-status: ([1-9]\d*)(?:\n\[stream_id=\d+\] grpc-message: (.*))?")
_BODIES = re.compile(r"^traffic: .*\((\d+)\) data$", re.MULTILINE)


@dataclass(frozen=True)
class Log:
    """The calls of one run that ended, as arrays of the same length."""

    start: NDArray[np.int64]
    """Microseconds since 1970."""
    status: NDArray[np.int64]
    """Of HTTP; -1 where the stream broke."""
    taken: NDArray[np.int64]
    """Microseconds until the end of the answer."""


@dataclass(frozen=True)
class Run:
    """What came of one run; calls that were under way at its end are in none of it but `body_bytes`."""

    log: Log
    failures: list[tuple[int, str]]
    """Status and text of each call that failed by gRPC; its text is as the server sent it."""
    body_bytes: int
    """Bytes of all answers' bodies: the messages, each behind five bytes."""
    exit_code: int


def run(url: str, request: bytes, connections: int, streams: int, seconds: float, deadline: float) -> Run:
    """Sends a serialized request again and again: `streams` calls are in flight on each connection, for `seconds`.

    `url` is `http://HOST:PORT` or with `https`; each call has a deadline in seconds. Raises `TimeoutError` where h2load
    has not ended when the last call has to.
    """
    with tempfile.TemporaryDirectory() as folder:
        body, log, printed = (Path(folder, name) for name in ("body", "log", "printed"))
        body.write_bytes(framed(request))
        given = command(url, connections, streams, seconds, deadline, body, log)
        with printed.open("wb") as file:  # a pipe would have somebody wake up and read while it measures
            try:
                done = subprocess.run(
                    given, stdout=file, stderr=subprocess.DEVNULL, timeout=seconds + deadline, check=False
                )
            except subprocess.TimeoutExpired:
                raise TimeoutError(f"it did not end within {seconds + deadline:g} s") from None
        text = printed.read_text(errors="replace")
        calls = read_log(log.read_text() if log.exists() else "")
    bodies = _BODIES.search(text)
    failures = [(int(status), told) for status, told in _FAILED.findall(text)]
    return Run(calls, failures, int(bodies[1]) if bodies else 0, done.returncode)


def framed(message: bytes) -> bytes:
    """Returns a message as gRPC sends it: a byte that says "not compressed", the length in four, the message.

    https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
    """
    return b"\0" + len(message).to_bytes(4, "big") + message


def command(
    url: str, connections: int, streams: int, seconds: float, deadline: float, body: Path, log: Path
) -> list[str]:
    """Returns the command line that `run` starts; `body` is a file to send, `log` one to write."""
    headers = ("te: trailers", "content-type: application/grpc", f"grpc-timeout: {deadline * 1e3:.0f}m")
    return [
        *(PROGRAM, "-v", "-d", str(body), "--log-file", str(log)),
        *("-c", str(connections), "-m", str(streams), "-D", f"{seconds * 1e3:.0f}ms"),
        *(part for header in headers for part in ("-H", header)),
        f"{url}{_PATH}",
    ]


def read_log(text: str) -> Log:
    """Reads `--log-file`: a line for each call with its start, HTTP status and duration; more columns may follow."""
    rows = [line.split("\t")[:3] for line in text.splitlines()]
    return Log(*np.array(rows, np.int64).reshape(-1, 3).T)
