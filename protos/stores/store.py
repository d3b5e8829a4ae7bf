"""A repository at an address, as its reader and its writer see it; the libraries behind are optional extras.

    s3://BUCKET/FOLDER        S3 and what speaks it        extra s3
    gs://BUCKET/FOLDER        Google Cloud Storage         extra gs
    hf://ACCOUNT/NAME         a model of Hugging Face      extra hf
    oci://HOST/NAME[:TAG]     a registry of containers     extra oci

It has the paths of a repository on disk, `<model>/<variant>/manifest.json` and so on. Credentials are found by each
library in its own way (environment, files, the cloud's metadata); an address holds none, and no text here quotes one
that was refused. Hashes guard against damage, not malice: who may write there decides what the server executes.
"""

import hashlib
import importlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from protos.errors import StoreError, UsageError
from protos.support.failures import telling_line


@dataclass(frozen=True)
class Item:
    """One file of a store."""

    bytes: int
    stamp: str
    """What is another text once the file has changed."""
    digest: str | None = None
    """What the store says its hash is: `sha256:...`, `md5:...`, or `git:...` of a blob; None where it says nothing."""

    @property
    def sha256(self) -> str | None:
        """Its SHA-256 in hexadecimal, where the store knows it."""
        algorithm, _, digest = (self.digest or "").partition(":")
        return digest if algorithm == "sha256" else None

    def holds(self, content: Path) -> bool | None:
        """Returns whether a file on this disk has the same content, by size and hash; None where nobody can tell."""
        if self.bytes != content.stat().st_size:
            return False
        if self.digest is None:
            return None
        algorithm, _, digest = self.digest.partition(":")
        if algorithm == "git":
            blob = content.read_bytes()
            return hashlib.sha1(b"blob %d\0%b" % (len(blob), blob)).hexdigest() == digest
        with content.open("rb") as stream:
            return hashlib.file_digest(stream, algorithm).hexdigest() == digest


class Store(Protocol):
    """What can be done at an address, `list` before all else; paths are relative to it.

    Methods raise what their library raises.
    """

    def list(self) -> dict[str, Item]:
        """Returns all files by path, as they are now; none where there is no such address."""

    def fetch(self, path: str, target: Path) -> None:
        """Writes a file of the last `list` to `target`, unverified. Several threads may call it."""

    def send(self, path: str, source: Path) -> None:
        """Sends one file. A reader may see it at once, or after `finish`."""

    def remove(self, path: str) -> None:
        """Removes a file that `list` had, at once or at `finish`."""

    def finish(self) -> None:
        """Makes all that was sent and removed what readers see."""


@dataclass(frozen=True)
class Kind:
    """One scheme: the form of its addresses, in words and as a pattern, and the class that opens them."""

    form: str
    pattern: str
    opened_by: str


_FOLDER = r"[\w-][\w.-]*(/[\w=+-][\w.=+-]*)*/?"
KINDS = {
    "s3": Kind("s3://BUCKET/FOLDER", _FOLDER, "protos.stores.filesystem:Filesystem"),
    "gs": Kind("gs://BUCKET/FOLDER", _FOLDER, "protos.stores.filesystem:Filesystem"),
    "hf": Kind("hf://ACCOUNT/NAME[@REVISION]", r"[\w.-]+/[\w.-]+(@[\w.-]+)?(/[\w.-]+)*", "protos.stores.hub:Hub"),
    "oci": Kind(
        "oci://HOST[:PORT]/NAME[:TAG]", r"[\w.-]+(:\d+)?(/[a-z0-9._-]+)+(:[\w.-]+)?", "protos.stores.oci:Artifact"
    ),
}
"""Scheme, which is also the name of the extra, to what it is."""

TALKATIVE = (
    *("aiobotocore", "botocore", "fsspec", "gcsfs", "google", "httpcore", "httpcore2", "httpx", "httpx2"),
    *("huggingface_hub", "oras", "requests", "s3fs", "urllib3"),
)
"""Loggers of libraries, which in debug write whole requests, with the tokens in their headers."""


def is_url(text: str) -> bool:
    """Returns whether a text is an address rather than a path on this disk."""
    return "://" in text


def check(url: str) -> Kind:
    """Returns the kind of an address; raises `UsageError`, which does not quote it, where it is none of `KINDS`."""
    scheme, _, rest = url.partition("://")
    if scheme not in KINDS:
        expected = ", ".join(kind.form for kind in KINDS.values())
        raise UsageError(f"got a URL of another scheme, expected a folder or one of {expected}")
    kind = KINDS[scheme]
    if not re.fullmatch(kind.pattern, rest):
        raise UsageError(
            f"got another {scheme} URL, expected {kind.form}, without credentials: those are the library's"
        )
    return kind


def open_store(url: str) -> Store:
    """Returns the store at an address; nothing is asked yet. `UsageError` where its extra is not installed."""
    kind = check(url)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    module, _, name = kind.opened_by.partition(":")
    scheme = url.partition("://")[0]
    try:
        with failing(url):
            return cast(Store, getattr(importlib.import_module(module), name)(url))
    except ImportError:
        raise UsageError(f"{scheme}:// needs a library: pip install 'paretoserve[{scheme}]'") from None


@contextmanager
def failing(url: str) -> Iterator[None]:
    """Raises `StoreError` in one line without secrets for whatever a library raises in the `with` block."""
    try:
        yield
    except (StoreError, ImportError):
        raise
    except Exception as error:  # each library fails in ways of its own
        raise StoreError(f"{url}: {without_secrets(telling_line(error))}") from None


def without_secrets(text: str) -> str:
    """Returns a text in which URLs have neither credentials nor queries, which may be signed."""
    return re.sub(r"\?[^\s'\"]*", "", re.sub(r"://[^/\s@]*@", "://", text))
