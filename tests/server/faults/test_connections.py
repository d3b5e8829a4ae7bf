"""Connections that say nothing, little, or something else than gRPC keep no answer from anyone else."""

import socket
import ssl
from contextlib import ExitStack

import pytest
from hyperframe.frame import SettingsFrame

from tests.support.server.bystanders import unharmed
from tests.support.server.http2 import PREFACE, Connection, call, pack
from tests.support.serving import ServerProcess

CONNECTIONS = 300
SLOW_CONNECTIONS = 20
CALLS = 50
"""Of others, while the connections are open."""
SECONDS = 30.0


def connect(server: ServerProcess) -> socket.socket:
    host, _, port = server.grpc_address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=SECONDS)


def tls_hello() -> bytes:
    """What a client sends first that was told to use TLS."""
    sent = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), sent, server_hostname="toy")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()


@pytest.mark.parametrize(
    "opening",
    [b"", PREFACE[:10], PREFACE, PREFACE + pack(SettingsFrame())],
    ids=["nothing", "half a preface", "no settings", "no call"],
)
def test_silent_connections_harm_nobody(server: ServerProcess, opening: bytes) -> None:
    with unharmed(server) as others, ExitStack() as connections:
        for _ in range(CONNECTIONS):
            connections.enter_context(connect(server)).sendall(opening)
        others.ask(CALLS)


def test_clients_that_send_byte_by_byte_are_answered_and_harm_nobody(server: ServerProcess) -> None:
    frames = pack(*call(1))
    with unharmed(server), ExitStack() as connections:
        clients = [connections.enter_context(Connection(server.grpc_address)) for _ in range(SLOW_CONNECTIONS)]
        for at in range(len(frames)):
            for client in clients:
                client.send(frames[at : at + 1])
        assert {client.end_of(1) for client in clients} == {"OK"}


OTHER_PROTOCOLS = {
    "HTTP/1.1": b"GET / HTTP/1.1\r\nHost: toy\r\n\r\n",
    "TLS": tls_hello(),
    "noise": bytes(range(255, -1, -1)) * 16,
    "noise after the preface": PREFACE + bytes(range(255, -1, -1)) * 16,
}


@pytest.mark.parametrize("protocol", OTHER_PROTOCOLS)
def test_who_does_not_speak_http2_is_cut_off_and_harms_nobody(server: ServerProcess, protocol: str) -> None:
    with unharmed(server):
        for _ in range(20):
            with connect(server) as connection:
                connection.sendall(OTHER_PROTOCOLS[protocol])
                assert cut_off(connection)


def cut_off(connection: socket.socket) -> bool:
    """Returns True as soon as the server has closed a connection; `TimeoutError` where it does not."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True
