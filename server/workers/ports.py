"""One port for several processes: held by the supervisor, listened on by its workers, closed to all others.

With SO_REUSEPORT the kernel deals new connections out to all processes of one user that listen on a port,
even to those of another server. The first to take the port must therefore make sure that it is alone. It
keeps a socket that is bound but does not listen: it gets no connections, and the port stays taken while
workers start or die.

Linux only. Source: https://man7.org/linux/man-pages/man7/socket.7.html
"""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from protos.errors import UsageError
from server.observability.metrics_page import join


@contextmanager
def reserved(host: str, port: int) -> Iterator[int]:
    """The number of a port on which, during the block, only sockets with SO_REUSEPORT can listen; 0 takes a free one.

    Raises `UsageError` where any process listens on it, or has reserved it.
    """
    with ExitStack() as sockets:
        try:
            for family, _, _, _, found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
                address = str(found[0])
                port = port or _free(family, address)
                sockets.enter_context(_hold(family, address, port))
        except OSError:
            raise UsageError(f"--port: {join(host, port)} is in use, or cannot be listened on") from None
        yield port


def _free(family: socket.AddressFamily, address: str) -> int:
    with socket.socket(family) as found:  # a socket of its own: one bound to 0 gives its port up when it is shut down
        found.bind((address, 0))
        port: int = found.getsockname()[1]
        return port


def _hold(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    held = socket.socket(family)
    try:
        # Past connections that linger in TIME_WAIT shall not count; with this they do not. To listen for a
        # moment is then the test: it fails where somebody else does, and nobody can who comes later.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((address, port))
        held.listen()
        held.shutdown(socket.SHUT_RDWR)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        held.close()
        raise
    return held
