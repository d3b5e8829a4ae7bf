"""The page under clients that are many, slow or odd: few connections, few pages, and whoever asks is answered."""

import asyncio
import gzip
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.metrics_core import Metric

from server.observability.metrics_page import CONNECTIONS, QUESTION_BYTES, Page
from tests.support.serving import eventually, scrape

MANY = 200
QUESTION = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


class Readings:
    """Counts how often a registry is read, and makes its page large: 3,000 series."""

    def __init__(self) -> None:
        self.count = 0
        self.registry = CollectorRegistry()
        self.registry.register(self)
        gauge = Gauge("numbered", "Series.", ("number",), registry=self.registry)
        for number in range(3000):
            gauge.labels(str(number)).set(number)

    def collect(self) -> list[Metric]:
        self.count += 1
        return []


@pytest.fixture
def readings() -> Readings:
    return Readings()


@pytest.fixture
def address(readings: Readings) -> Iterator[str]:
    page = Page("127.0.0.1", 0, readings.registry)
    readings.count = 0  # a registry reads its collectors once when they are registered
    yield page.address
    asyncio.run(page.close())


def connect(address: str) -> socket.socket:
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def ask(address: str, question: bytes) -> bytes:
    """All that is answered."""
    with connect(address) as connection:
        connection.sendall(question)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


@pytest.fixture
def crowd(request: pytest.FixtureRequest, address: str) -> Iterator[list[socket.socket]]:
    """Many connections that sent `request.param` and wait; in one the other side may have hung up already."""
    with ExitStack() as opened:
        sockets = [opened.enter_context(closing(connect(address))) for _ in range(MANY)]
        for connection in sockets:
            try:
                connection.sendall(request.param)
            except ConnectionError:
                assert is_closed(connection)
        yield sockets


HALVES = pytest.mark.parametrize("crowd", [b"", b"GET /met", QUESTION[:-2]], indirect=True)


@HALVES
def test_few_half_open_scrapes_are_held_at_once(crowd: list[socket.socket]) -> None:
    asyncio.run(eventually(lambda: sum(map(is_closed, crowd)), MANY - CONNECTIONS))


@HALVES
def test_half_open_scrapes_that_hang_up_cost_no_page(
    crowd: list[socket.socket], address: str, readings: Readings
) -> None:
    for connection in crowd:
        connection.close()
    assert scrape(address)
    assert readings.count == 1


@pytest.mark.parametrize("crowd", [b"", b"GET /met", QUESTION[:-2], QUESTION], indirect=True)
def test_a_scrape_is_answered_whole_while_others_hold_connections(crowd: list[socket.socket], address: str) -> None:
    assert len(scrape(address)) == 3000


def test_scrapes_that_wait_together_get_one_page(address: str, readings: Readings) -> None:
    with ExitStack() as opened:
        sockets = [opened.enter_context(closing(connect(address))) for _ in range(CONNECTIONS)]
        for connection in sockets:
            connection.sendall(QUESTION)
        for connection in sockets:
            assert connection.recv(1 << 16).startswith(b"HTTP/1.0 200 OK")
    assert readings.count <= 4  # the first one's, that of all others, and what a slow machine needs


def test_a_scrape_shows_what_was_counted_before_it(address: str, readings: Readings) -> None:
    gauge = Gauge("fresh", "A value.", registry=readings.registry)
    for value in range(5):
        gauge.set(value)
        assert scrape(address)["fresh", ()] == value


def test_a_question_without_an_end_is_given_up_in_a_while(address: str) -> None:
    assert ask(address, QUESTION[:-2]) == b""


@pytest.mark.parametrize(
    ("question", "status"),
    [
        (b"hello\r\n\r\n", b"400 Bad Request"),
        (b"\xff \xff \xff\r\n\r\n", b"400 Bad Request"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", b"405 Method Not Allowed"),
        (b"GET /metrics HTTP/1.1\r\nno header\r\n\r\n", b"200 OK"),
    ],
)
def test_odd_questions_are_answered_with_their_status(address: str, question: bytes, status: bytes) -> None:
    assert ask(address, question).startswith(b"HTTP/1.0 " + status)


def test_a_question_that_is_too_long_is_not_read_to_its_end(address: str) -> None:
    with pytest.raises(ConnectionError):
        ask(address, QUESTION[:-2] + b"X: " + bytes(1000 * QUESTION_BYTES))


def test_format_and_compression_are_those_that_were_asked_for(address: str) -> None:
    wanted = {"Accept": "application/openmetrics-text; version=1.0.0", "Accept-Encoding": "gzip"}
    with urllib.request.urlopen(urllib.request.Request(f"http://{address}/metrics", headers=wanted)) as response:
        assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        assert response.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(response.read()).endswith(b"# EOF\n")
