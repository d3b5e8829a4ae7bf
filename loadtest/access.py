"""How servers are reached: in plain text, or with TLS, a certificate of the client's own, a token.

    --tls                                      the server shows who it is, certified by a public authority
    --tls-ca                                   the same, certified by an authority of one's own
    --tls-client-cert, --tls-client-key        mutual TLS: this client shows who it is, too
    --token-file                               every call brings `authorization: Bearer <the first line>`

They mirror what `pareto-serve` takes. Locust has a `--tls-cert` of its own, for its web page; hence `client` in ours.
The flags hold files' paths, never what is in them: plans, results and the arguments of workers show no secret.
"""

from dataclasses import dataclass, field
from pathlib import Path

from protos.errors import UsageError
from protos.support import options


@dataclass(frozen=True, kw_only=True)
class Access:
    """The flags on access, of `run`, `doctor` and the locustfiles; they hold for every server of a plan."""

    tls: bool = False
    """call by TLS; without --tls-ca, a public authority has to certify the server (--tls-ca and --tls-client-cert
    include this flag)"""
    tls_ca: Path | None = field(default=None, metadata=options.EXISTING_FILE)
    """certificates (PEM) of the authorities that have to certify the server"""
    tls_client_cert: Path | None = field(default=None, metadata=options.EXISTING_FILE)
    """the certificate chain (PEM) that this client shows: mutual TLS"""
    tls_client_key: Path | None = field(default=None, metadata=options.EXISTING_FILE)
    """the private key (PEM, without password) of --tls-client-cert"""
    token_file: Path | None = field(default=None, metadata=options.EXISTING_FILE)
    """file with a bearer token in its first line, sent with every call; use with TLS only"""

    def __post_init__(self) -> None:
        """Raises `UsageError` for a certificate without its key, or the other way round."""
        if (self.tls_client_cert is None) != (self.tls_client_key is None):
            raise UsageError("--tls-client-cert and --tls-client-key need each other, one of them is missing")
