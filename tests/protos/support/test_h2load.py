"""h2load itself against gRPC servers, and what is made of what it prints."""

import itertools
import socket
import threading
import time
from pathlib import Path

from protos.support import h2load
from tests.support.loadtest.foreign import speaking

STATUS_UNIMPLEMENTED = 12


def run(address: str, connections: int = 2, streams: int = 2) -> h2load.Run:
    return h2load.run(f"http://{address}", b"request", connections, streams, seconds=1.0, deadline=10.0)


def test_a_message_goes_behind_a_byte_and_its_length() -> None:
    assert h2load.framed(b"") == b"\0\0\0\0\0"
    assert h2load.framed(b"x" * 258) == b"\0\0\0\1\2" + b"x" * 258


def test_the_command_line_has_so_many_calls_on_each_of_so_many_connections() -> None:
    assert h2load.command("http://[::1]:8001", 8, 4, 2.2, 10.0, Path("body"), Path("log")) == [
        *("h2load", "-v", "-d", "body", "--log-file", "log", "-c", "8", "-m", "4", "-D", "2200ms"),
        *("-H", "te: trailers", "-H", "content-type: application/grpc", "-H", "grpc-timeout: 10000m"),
        "http://[::1]:8001/inference.GRPCInferenceService/ModelInfer",
    ]


def test_a_log_is_read_by_its_first_three_columns() -> None:
    read = h2load.read_log("1795732570674890\t200\t2365\tnew\n1795732570674833\t-1\t2963\tnew\n")
    assert read.start.tolist() == [1795732570674890, 1795732570674833]
    assert (read.status.tolist(), read.taken.tolist()) == ([200, -1], [2365, 2963])
    assert h2load.read_log("").start.size == 0


def test_every_call_that_ended_was_answered_in_full() -> None:
    asked: list[tuple[str, bytes]] = []

    def answer(method: str, request: bytes) -> bytes:
        asked.append((method, request))
        return b"x" * 10

    with speaking(answer) as address:
        ended = run(address)
    count = ended.log.start.size
    assert set(asked) == {("ModelInfer", b"request")}
    assert 0 < count <= len(asked) <= count + 4  # those under way at its end
    assert set(ended.log.status.tolist()) == {200}
    assert 15 * count <= ended.body_bytes <= 15 * (count + 4)
    assert (ended.failures, ended.exit_code) == ([], 0)


def test_so_many_calls_are_in_flight_as_asked_for() -> None:
    under_way, seen, lock = 0, [], threading.Lock()

    def count(by: int) -> None:
        nonlocal under_way
        with lock:
            under_way += by
            seen.append(under_way)

    def answer(method: str, request: bytes) -> bytes:
        count(+1)
        time.sleep(0.01)
        count(-1)
        return b""

    with speaking(answer) as address:
        run(address, connections=2, streams=3)
    assert max(seen) == 6


def test_each_call_that_fails_by_grpc_is_found_though_http_says_200() -> None:
    number = itertools.count(1)
    with speaking(lambda method, request: None if next(number) % 5 == 0 else b"answer") as address:
        ended = run(address)
    count = ended.log.start.size
    assert count >= 5
    assert set(ended.failures) == {(STATUS_UNIMPLEMENTED, "no such method")}
    assert count // 5 - 1 <= len(ended.failures) <= (count + 4) // 5
    assert set(ended.log.status.tolist()) == {200}


def test_a_server_that_is_gone_answers_nothing() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        ended = run(f"127.0.0.1:{taken.getsockname()[1]}")
    assert (ended.log.start.size, ended.body_bytes, ended.failures) == (0, 0, [])


def test_a_server_that_says_nothing_answers_nothing() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        ended = run(f"127.0.0.1:{silent.getsockname()[1]}")
    assert (ended.log.start.size, ended.body_bytes, ended.failures) == (0, 0, [])
