"""Who may call: TLS, mutual TLS, bearer tokens; all from files that are read again when they change.

    TLS          --tls-cert, --tls-key    the server shows who it is, and nobody can listen
    mutual TLS   --tls-client-ca          a client needs a certificate of one of these authorities
    tokens       --token-file             a call needs `authorization: Bearer <one of the lines>`

The files are checked when a connection is made (certificates) or a call arrives (tokens, at most once a
second). Where they do not fit, as a new certificate whose key is yet to come, the log is told and the last good
ones stay in use; connections that exist are not closed. Health (`grpc.health.v1`) needs no token, since probes
have none; reflection does. The metrics page has a port of its own and neither: keep that one inside.

Source: https://grpc.io/docs/guides/auth/
"""

import hmac
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Generic, TypeVar

import grpc
from prometheus_client import Counter

from protos.errors import UsageError
from protos.support.credentials import check_certificates, read_tokens
from server.api.edge import Context, Handler
from server.settings import Settings

OPEN = "/grpc.health.v1.Health/"
"""What the methods begin with that need no token."""

CHECK_SECONDS = 1.0
"""How long tokens are taken for unchanged."""

Value = TypeVar("Value")

logger = logging.getLogger(__name__)


class Files(Generic[Value]):
    """`value` is what `read` makes of `paths`; it raises `UsageError` where they do not fit."""

    def __init__(self, paths: Sequence[Path], read: Callable[[], Value]) -> None:
        self._paths, self._read = paths, read
        self._told = ""
        self._fingerprints = [*map(_fingerprint, paths)]
        self.value = read()

    def changed(self) -> bool:
        """Reads the files again if they changed; whether there is a new value. Any thread may call it."""
        fingerprints = [*map(_fingerprint, self._paths)]
        if fingerprints == self._fingerprints:
            return False
        try:
            value = self._read()
        except UsageError as error:
            if str(error) != self._told:  # a file may stay wrong for many connections
                logger.error("%s; what was read before stays in use", error)
            self._told = str(error)
            return False
        if [*map(_fingerprint, self._paths)] != fingerprints:  # written while they were read: the next call sees
            return False
        self._fingerprints, self.value, self._told = fingerprints, value, ""
        logger.info("%s: read again", ", ".join(map(str, self._paths)))
        return True


def _fingerprint(path: Path) -> tuple[int, int, int] | None:
    """What changes with the file that is used; mounted secrets change by a link. None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """What gRPC is to listen with, None for plain text; `UsageError` where the files do not fit."""
    certificate, key, authority = settings.tls_cert, settings.tls_key, settings.tls_client_ca
    if certificate is None or key is None:
        return None
    paths = [path for path in (certificate, key, authority) if path is not None]
    files = Files(paths, lambda: _configuration(certificate, key, authority))

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        """Called for each connection, by a thread of gRPC; None leaves all as it is."""
        return files.value if files.changed() else None

    return grpc.dynamic_ssl_server_credentials(
        files.value,
        fetch,  # type: ignore[arg-type]  # the stubs do not know of None
        require_client_authentication=authority is not None,
    )


def _configuration(certificate: Path, key: Path, authority: Path | None) -> grpc.ServerCertificateConfiguration:
    """gRPC would take anything, and fail each connection; OpenSSL says beforehand whether the files fit."""
    try:
        check_certificates(certificate, key, authority)
        pair = (key.read_bytes(), certificate.read_bytes())
        return grpc.ssl_server_certificate_configuration([pair], authority.read_bytes() if authority else None)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        names = ", ".join(str(path) for path in (certificate, key, authority) if path)
        raise UsageError(f"--tls-cert, --tls-key, --tls-client-ca: {names} do not fit together: {error}") from None


class Tokens(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Refuses calls without a token, before their message is received; stands in front of `Edge`."""

    def __init__(self, path: Path, handled: Counter) -> None:
        self._files = Files([path], lambda: read_tokens(path))
        self._checked = monotonic()
        self._handled = handled

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Refuses a call without a valid token."""
        method, handler = handler_call_details.method, await continuation(handler_call_details)
        if handler is None or method.startswith(OPEN) or self._knows(handler_call_details):
            return handler
        return self._refusal(method, handler)

    def _knows(self, call: grpc.HandlerCallDetails) -> bool:
        if monotonic() - self._checked >= CHECK_SECONDS:
            self._checked = monotonic()
            self._files.changed()
        return any(self._fits(value) for name, value in call.invocation_metadata or () if name == "authorization")

    def _fits(self, authorization: str | bytes) -> bool:
        """In a time that tells nothing but the length of a token."""
        text = authorization if isinstance(authorization, bytes) else authorization.encode()
        scheme, _, token = text.partition(b" ")
        if scheme.lower() != b"bearer":
            return False
        fits = [hmac.compare_digest(token.strip(), known) for known in self._files.value]  # all: none ends the search
        return any(fits)

    def _refusal(self, method: str, handler: Handler) -> Handler:
        """A streaming one, whatever `handler` is: it waits for no message."""
        _, service, name = method.split("/")
        streams = "bidi_stream" if handler.request_streaming else "server_stream"
        code = grpc.StatusCode.UNAUTHENTICATED
        count = self._handled.labels(streams if handler.response_streaming else "unary", service, name, code.name)

        async def refuse(requests: object, context: Context) -> None:
            count.inc()
            await context.abort(code, "a valid bearer token is needed")

        return grpc.stream_stream_rpc_method_handler(refuse)
