"""A registry of containers, by oras: one artifact whose layers are the files, each with its path as the title.

A layer's digest is its SHA-256. A tag moves from one manifest to the next at once, so that a reader never sees half of
a push. Registries on this machine are asked by HTTP, all others by HTTPS, as Docker does; credentials are Docker's.
https://github.com/opencontainers/image-spec/blob/main/manifest.md#guidelines-for-artifact-usage
"""

import functools
import threading
from pathlib import Path
from typing import Any

import requests
from oras.container import Container
from oras.defaults import annotation_title, default_manifest_media_type
from oras.oci import ManifestConfig, NewLayer, NewManifest
from oras.provider import Registry, temporary_empty_config
from requests.adapters import HTTPAdapter

from protos.stores.store import Item

ARTIFACT_TYPE = "application/vnd.paretoserve.repository.v1"
FILE_TYPE = "application/octet-stream"
SECONDS = 30
"""How long a connection may be silent."""
TRIES = 3
"""How often a connection is tried; oras by itself tries for 131 s, each time without an end."""


class _Client(Registry):  # type: ignore[misc]
    """What oras has, for several threads, and with a new token where one is refused: oras would send the same again."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.session.mount(f"{self.prefix}://", HTTPAdapter(max_retries=TRIES))
        self.session.request = functools.partial(self.session.request, timeout=SECONDS)
        self._authenticate, self._turn = self.auth.authenticate_request, threading.Lock()
        self.auth.authenticate_request = self._renew

    def do_request(
        self, url: str, method: str = "GET", headers: dict[str, str] | None = None, **options: Any
    ) -> requests.Response:
        """Asks once. The headers are a copy: oras writes a token into what it gets, which its threads share."""
        answer: requests.Response = Registry.do_request.__wrapped__(
            self, url, method, headers={**(headers or {})}, **options
        )
        return answer

    def _renew(
        self, refusal: requests.Response, headers: dict[str, str], refresh: bool = True
    ) -> tuple[dict[str, str], bool]:
        """Returns the headers with a token for just what was refused: the one before has run out, or was for less."""
        with self._turn:  # or a thread would take the token of another, which may be for less
            headers, changed = self._authenticate(refusal, headers, refresh=True)
        if not changed:
            got = f"got {refusal.status_code} {refusal.reason}"
            raise PermissionError(f"{got}, expected credentials by `docker login` that allow it")
        return headers, changed


class Artifact:
    """One artifact of a registry, by its tag."""

    def __init__(self, url: str) -> None:
        self._container = Container(url.removeprefix("oci://"))
        self._layers: dict[str, dict[str, Any]] = {}

    def list(self) -> dict[str, Item]:
        """Returns all files by path; none where the registry has no such artifact."""
        self._client = self._connect()  # each time, since Docker's credentials may be others by now
        layers = self._manifest().get("layers", [])
        self._layers = {layer["annotations"][annotation_title]: layer for layer in layers}
        return {path: Item(layer["size"], layer["digest"], layer["digest"]) for path, layer in self._layers.items()}

    def fetch(self, path: str, target: Path) -> None:
        """Writes a file of the last `list` to `target`."""
        self._client.download_blob(self._container, self._layers[path]["digest"], str(target))

    def send(self, path: str, source: Path) -> None:
        """Sends one file, unless the registry has it; a reader sees it after `finish`."""
        self._layers[path] = NewLayer(str(source), FILE_TYPE) | {"annotations": {annotation_title: path}}
        self._client.upload_blob(str(source), self._container, self._layers[path]).raise_for_status()

    def remove(self, path: str) -> None:
        """Leaves a file out of the next manifest; its layer stays until the registry collects what nobody names."""
        del self._layers[path]

    def finish(self) -> None:
        """Moves the tag to a manifest of all files that were listed or sent, and not removed."""
        config, _ = ManifestConfig()
        with temporary_empty_config() as empty:
            self._client.upload_blob(empty, self._container, config).raise_for_status()
        manifest = NewManifest() | {"artifactType": ARTIFACT_TYPE, "config": config}
        manifest["layers"] = [self._layers[path] for path in sorted(self._layers)]
        self._client.upload_manifest(manifest, self._container).raise_for_status()

    def _manifest(self) -> dict[str, Any]:
        asked = f"{self._client.prefix}://{self._container.manifest_url()}"
        response = self._client.do_request(asked, "GET", headers={"Accept": default_manifest_media_type})
        if response.status_code == requests.codes.not_found:
            return {}
        response.raise_for_status()
        return dict(response.json())

    def _connect(self) -> _Client:
        """A client that speaks the registry's kind of authentication, which oras has to be told."""
        host = self._container.registry
        insecure = host.partition(":")[0] == "localhost" or host.startswith("127.")
        challenge = requests.get(f"http{'' if insecure else 's'}://{host}/v2/", timeout=SECONDS).headers
        basic = challenge.get("WWW-Authenticate", "").lower().startswith("basic")
        client = _Client(insecure=insecure, auth_backend="basic" if basic else "token")
        client.auth.load_configs(self._container)
        return client
