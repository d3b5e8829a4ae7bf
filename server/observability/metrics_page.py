"""The metrics page: a registry, served by prometheus_client from threads and a port of its own."""

import asyncio

from prometheus_client import CollectorRegistry, start_http_server

from protos.errors import UsageError


class Page:
    """Answers from its construction to `close`; `UsageError` where the port cannot be had."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise UsageError(f"--metrics-port: {join(host, port)} cannot be listened on: {error.strerror}") from None
        self.address = join(host, self._server.server_port)

    async def close(self) -> None:
        """Answers no more."""
        await asyncio.to_thread(self._server.shutdown)
        self._server.server_close()
        self._thread.join()


def join(host: str, port: int) -> str:
    """ "host:port", with brackets where the host is an address of IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
