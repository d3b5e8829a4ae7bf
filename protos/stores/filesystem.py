"""Folders of an object store, by fsspec: S3 (s3fs) and Google Cloud Storage (gcsfs).

An object appears whole or not at all, several do not: who writes sends a manifest after the files that it names.
https://filesystem-spec.readthedocs.io
"""

import re
from base64 import b64decode
from hashlib import sha256
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs

from protos.stores.store import Item


class Filesystem:
    """One folder."""

    def __init__(self, url: str) -> None:
        self._files, root = url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
        self._root = root.rstrip("/") + "/"

    def list(self) -> dict[str, Item]:
        """Returns all files by path, as they are now; none where there is no such folder."""
        self._files.invalidate_cache()
        found = self._files.find(self._root.rstrip("/"), detail=True)
        return {name.removeprefix(self._root): self._item(info) for name, info in found.items()}

    def fetch(self, path: str, target: Path) -> None:
        """Writes a file to `target`."""
        self._files.get_file(self._root + path, str(target))

    def send(self, path: str, source: Path) -> None:
        """Sends one file, which a reader sees at once."""
        self._files.put_file(str(source), self._root + path)

    def remove(self, path: str) -> None:
        """Removes a file at once."""
        self._files.rm_file(self._root + path)

    def finish(self) -> None:
        """Does nothing: all is there already."""

    def _item(self, info: dict[str, Any]) -> Item:
        """Returns what a listing says of a file; its stamp is all of that: times, tags, versions."""
        return Item(info["size"], sha256(repr(sorted(info.items())).encode()).hexdigest(), self._digest(info))

    def _digest(self, info: dict[str, Any]) -> str | None:
        """Returns the MD5 of an object; an ETag of S3 is none where the object came in parts."""
        if "md5Hash" in info:  # Google's
            return "md5:" + b64decode(info["md5Hash"]).hex()
        tag = info.get("ETag", "").strip('"')
        return f"md5:{tag}" if re.fullmatch("[0-9a-f]{32}", tag) else None
