"""A service that gives tokens for a registry, to who knows the password.

https://distribution.github.io/distribution/spec/auth/token/
"""

import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from google.auth import crypt, jwt

from tests.support import certificates
from tests.support.stores import services
from tests.support.stores.servers import USER

SECONDS = 300
"""How long a token is good."""


class Tokens:
    """Such a service; `realm` is its address, and a registry trusts what the certificate in `trusted` has signed."""

    def __init__(self, folder: Path, password: str) -> None:
        self.folder, self.password, self.realm = folder, password, ""
        self.trusted = folder / "trusted.crt"
        self.change_key()

    def change_key(self) -> None:
        """Signs with another key from now on: a registry that is started after it refuses all tokens from before."""
        self._key = certificates.self_signed(self.folder, "tokens")
        self.trusted.write_bytes(self._key.certificate.read_bytes())

    @property
    def settings(self) -> dict[str, dict[str, str]]:
        """What a registry has to be told."""
        trusted = str(self.trusted)
        return {"token": {"realm": self.realm, "service": "models", "issuer": "tokens", "rootcertbundle": trusted}}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Answers, as long as the block lasts."""
        tokens = self

        class Handler(services.Service):
            def do_GET(self) -> None:
                known = b64encode(f"{USER}:{tokens.password}".encode()).decode()
                if self.headers["Authorization"] != f"Basic {known}":
                    self.send_error(401)
                    return
                self.answer({"token": tokens._token(parse_qs(urlsplit(self.path).query))})

        with services.running(Handler) as address:
            self.realm = f"{address}/token"
            yield

    def _token(self, asked: dict[str, list[str]]) -> str:
        """A token for just what is asked."""
        scopes = [scope.split(":") for scope in asked.get("scope", [])]
        access = [{"type": kind, "name": name, "actions": actions.split(",")} for kind, name, actions in scopes]
        claims = {"iss": "tokens", "aud": asked["service"][0], "exp": int(time.time()) + SECONDS, "access": access}
        chain = ["".join(self._key.certificate.read_text().splitlines()[1:-1])]
        signer = crypt.RSASigner.from_string(self._key.key.read_text())
        return jwt.encode(signer, claims, {"x5c": chain}).decode()
