"""What this client shows to servers and wants to see of them: the files of `loadtest.access`, read once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from loadtest.access import Access
from protos.errors import UsageError
from protos.support.credentials import check_certificates, read_tokens


@dataclass(frozen=True)
class Credentials:
    """How to open channels, and what each call brings; by default plain text and nothing."""

    channel: grpc.ChannelCredentials | None = None
    token: str = field(default="", repr=False)

    def open(self, target: str, options: Sequence[tuple[str, int]]) -> grpc.Channel:
        """Returns a channel to `target`, HOST:PORT."""
        if self.channel is None:
            return grpc.insecure_channel(target, options)
        return grpc.secure_channel(target, self.channel, options)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Returns the headers of each call."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def hide(self, text: str) -> str:
        """Returns a server's text without the token: what was sent may come back."""
        return text.replace(self.token, "[token]") if self.token else text


PLAIN = Credentials()


def read_credentials(access: Access) -> Credentials:
    """Reads the files; raises `UsageError` where they do not fit."""
    certificate, key, authority = access.tls_client_cert, access.tls_client_key, access.tls_ca
    token = _token(access.token_file) if access.token_file else ""
    if not (access.tls or certificate or authority):
        return Credentials(None, token)
    try:
        check_certificates(certificate, key, authority)
        contents = [path.read_bytes() if path else None for path in (authority, key, certificate)]
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        names = ", ".join(str(path) for path in (authority, certificate, key) if path)
        flags = "--tls-ca, --tls-client-cert, --tls-client-key"
        raise UsageError(f"{flags}: {names} do not fit together: {error}") from None
    return Credentials(grpc.ssl_channel_credentials(*contents), token)


def _token(path: Path) -> str:
    """Returns the first token of a file, of which gRPC sends only visible ASCII."""
    token = read_tokens(path)[0].decode("latin-1")
    if not (token.isascii() and token.isprintable()):
        raise UsageError(f"--token-file: the first line of '{path}' is no token, expected visible ASCII characters")
    return token
