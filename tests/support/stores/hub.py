"""A stand-in for Hugging Face's Hub, which cannot be reached here: the few calls that its real client makes.

It has one branch and no large-file storage: every file comes in the commit itself.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

from tests.support.stores import services


@contextmanager
def running(model: str) -> Iterator[str]:
    """The address of a Hub with one model of that name."""
    files: dict[str, bytes] = {}

    class Handler(services.Service):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
            if path.startswith(tree := f"/api/models/{model}/tree/main"):
                self.answer(_tree(files, path.removeprefix(tree).strip("/"), query.get("recursive", [""])[0].lower()))
            elif path.startswith(content := f"/{model}/resolve/main/"):
                self.send(files[path.removeprefix(content)])
            else:
                self.answer({"id": model, "sha": hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if "/preupload/" in self.path:
                asked = [file["path"] for file in json.loads(body)["files"]]
                self.answer({"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in asked]})
                return
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "deletedFile":
                    del files[line["value"]["path"]]
            self.answer(
                {"success": True, "commitOid": "0" * 40, "commitUrl": f"http://{self.headers['Host']}/{model}/commit/0"}
            )

    with services.running(Handler) as address:
        yield address


def _tree(files: dict[str, bytes], under: str, recursive: str) -> list[dict[str, object]]:
    prefix = f"{under}/" if under else ""
    below = {path: content for path, content in files.items() if path.startswith(prefix)}
    if recursive not in ("true", "1"):
        names = {path.removeprefix(prefix).split("/")[0] for path in below if "/" in path.removeprefix(prefix)}
        folders: list[dict[str, object]] = [
            {"type": "directory", "path": prefix + n, "oid": "0" * 40, "size": 0} for n in names
        ]
        return folders + [_entry(p, c) for p, c in below.items() if "/" not in p.removeprefix(prefix)]
    return [_entry(path, content) for path, content in below.items()]


def _entry(path: str, content: bytes) -> dict[str, object]:
    oid = hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()
    return {"type": "file", "path": path, "size": len(content), "oid": oid}
