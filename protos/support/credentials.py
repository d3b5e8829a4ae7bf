"""Certificates, keys and tokens in files, checked the same way by the server and by its clients."""

import ssl
from pathlib import Path
from typing import NoReturn

from protos.errors import UsageError


def check_certificates(certificate: Path | None, key: Path | None, authority: Path | None) -> None:
    """Raises `OSError` or `ValueError` where the PEM files do not fit together: gRPC takes any, and fails each call."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if certificate is not None:
        context.load_cert_chain(certificate, key, password=_no_password)
    if authority is not None:
        context.load_verify_locations(authority)


def read_tokens(path: Path) -> tuple[bytes, ...]:
    """Returns the tokens of `--token-file`, one a line; raises `UsageError` where there are none."""
    try:
        tokens = tuple(line.strip() for line in path.read_bytes().splitlines() if line.strip())
    except OSError as error:
        raise UsageError(f"--token-file: '{path}' cannot be read: {error.strerror}") from None
    if not tokens:
        raise UsageError(f"--token-file: '{path}' is empty, expected one token a line")
    return tokens


def _no_password() -> NoReturn:
    """Instead of a question on the terminal."""
    raise ValueError("the key has a password")
