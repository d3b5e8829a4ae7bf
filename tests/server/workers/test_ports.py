"""A port that is shared by those who are meant to share it, and by nobody else."""

import re
import socket
from contextlib import ExitStack

import pytest

from protos.errors import UsageError
from server.workers.ports import reserved

HOST = "127.0.0.1"


def listener(port: int, *options: int) -> socket.socket:
    """Listens on `port` with these socket options."""
    found = socket.socket()
    try:
        for option in options:
            found.setsockopt(socket.SOL_SOCKET, option, 1)
        found.bind((HOST, port))
        found.listen()
    except OSError:
        found.close()
        raise
    return found


def worker(port: int) -> socket.socket:
    """Listens as gRPC does in a worker."""
    return listener(port, socket.SO_REUSEADDR, socket.SO_REUSEPORT)


def test_workers_share_a_reserved_port() -> None:
    with reserved(HOST, 0) as port, worker(port), worker(port):
        socket.create_connection((HOST, port)).close()


def test_the_reservation_itself_takes_no_connection() -> None:
    with reserved(HOST, 0) as port, pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, port))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("options", [(), (socket.SO_REUSEADDR,)])
def test_nobody_else_can_listen_on_it(workers: int, options: tuple[int, ...]) -> None:
    with ExitStack() as sockets:
        port = sockets.enter_context(reserved(HOST, 0))
        for _ in range(workers):
            sockets.enter_context(worker(port))
        with pytest.raises(OSError, match="in use"):
            listener(port, *options)


@pytest.mark.parametrize("workers", [0, 1])
def test_it_cannot_be_reserved_twice(workers: int) -> None:
    with ExitStack() as sockets:
        port = sockets.enter_context(reserved(HOST, 0))
        for _ in range(workers):
            sockets.enter_context(worker(port))
        with pytest.raises(UsageError, match=f"--port: {HOST}:{port} is in use"), reserved(HOST, port):
            pass


@pytest.mark.parametrize("options", [(), (socket.SO_REUSEADDR,), (socket.SO_REUSEADDR, socket.SO_REUSEPORT)])
def test_a_port_that_anyone_listens_on_cannot_be_reserved(options: tuple[int, ...]) -> None:
    with listener(0, *options) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"--port: {HOST}:{port} is in use"), reserved(HOST, port):
            pass


def test_connections_that_are_only_lingering_do_not_count() -> None:
    with listener(0, socket.SO_REUSEADDR) as before:
        port = before.getsockname()[1]
        client = socket.create_connection((HOST, port))
        before.accept()[0].close()  # the side that closes first lingers
        assert client.recv(1) == b""
        client.close()
    with pytest.raises(OSError, match="in use"):
        listener(port)  # so there is something that lingers
    with reserved(HOST, port), worker(port):
        pass


def test_a_host_of_two_addresses_is_reserved_on_both() -> None:
    addresses = {(family, address[0]) for family, _, _, _, address in socket.getaddrinfo("localhost", None)}
    with reserved("localhost", 0) as port:
        for family, address in addresses:
            with socket.socket(family) as found, pytest.raises(OSError, match="in use"):
                found.bind((address, port))


def test_an_address_of_another_machine_is_a_clear_line() -> None:
    expected = re.escape("--port: 192.0.2.1:1 is in use, or cannot be listened on")
    with pytest.raises(UsageError, match=expected), reserved("192.0.2.1", 1):
        pass
