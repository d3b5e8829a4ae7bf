"""Workers as a test sees them: their processes, and connections of which it is known who serves them."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import grpc
import psutil

from tests.support.serving import ServerProcess, connect

MOST_CONNECTIONS = 64
"""Enough: all of them go to one of two workers once in 2**63 times."""


def pids(server: ServerProcess) -> dict[int, int]:
    """The process of each worker now, by its number."""
    return {int(number): int(pid) for number, pid in re.findall(r"worker (\d+) has pid (\d+)", server.log)}


def family(server: ServerProcess) -> list[psutil.Process]:
    """The supervisor and all that it and its workers started."""
    supervisor = psutil.Process(server.pid)
    return [supervisor, *supervisor.children(recursive=True)]


@contextmanager
def to_each_worker(server: ServerProcess, least: int) -> Iterator[list[tuple[int, grpc.Channel]]]:
    """At least `least` connections, each with the number of its worker; every worker has one."""
    with ExitStack() as channels:
        opened: list[tuple[int, grpc.Channel]] = []
        known = _served(server)
        while len(opened) < least or {number for number, _ in opened} != pids(server).keys():
            assert len(opened) < MOST_CONNECTIONS
            channel = channels.enter_context(connect(server.grpc_address))
            grpc.channel_ready_future(channel).result(30)
            served = _served(server)
            (number,) = (number for number, peer in served - known)
            opened.append((number, channel))
            known = served
        yield opened


def _served(server: ServerProcess) -> set[tuple[int, object]]:
    """The connections on the server's port: who serves it, and where the client is."""
    port = int(server.grpc_address.rpartition(":")[2])
    return {
        (number, connection.raddr)
        for number, pid in pids(server).items()
        for connection in psutil.Process(pid).net_connections("tcp")
        if connection.laddr.port == port and connection.status == psutil.CONN_ESTABLISHED
    }
