"""From a repository on this disk to where servers fetch it: `pareto-compress push`.

Manifests go last, so that nobody reads one whose files are not there. What is there already is not sent again: the
store's listing has a hash of each file, or else the manifest beside it is the same. One push to an address at a time.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path

from rich.table import Table

from compressors.progress import track
from protos import repository
from protos.errors import NotFoundError, VariantError
from protos.manifest import Variant
from protos.repository import DEFAULT, GOLDEN, MANIFEST, TEST, Entry
from protos.stores.store import Item, Store, failing, open_store
from protos.support import terminal

CONNECTIONS = 8
"""Files that are sent at a time."""


@dataclass
class Row:
    """What became of one variant's files, or of one model's own."""

    sent: int = 0
    bytes: int = 0
    kept: int = 0
    removed: int = 0


def push(root: Path, url: str, models: Sequence[str], delete: bool) -> dict[str, Row]:
    """Sends these models, or all where none is named; returns what was done, by `model` and `model/variant`.

    With `delete`, what is there of these models and not here is removed. Raises `UsageError`, `NotFoundError` or
    `VariantError` for what is not fit to be sent, before anything is, and `StoreError`.
    """
    files = _files(root, _verified(root, models))
    store = open_store(url)
    with failing(url):
        return _push(store, files, delete)


def table(rows: dict[str, Row]) -> Table:
    """Returns what `push` did, for a person."""
    lines = [
        (name, str(row.sent), f"{row.bytes / 1e6:.2f}", str(row.kept), str(row.removed)) for name, row in rows.items()
    ]
    headings = ("pushed", "files sent", "MB sent", "there already", "removed")
    return terminal.fitting("", headings, lines, right=range(1, 5), width=terminal.Screen().width)


def _verified(root: Path, models: Sequence[str]) -> list[Variant]:
    """Returns the variants of these models, each with its files and golden set whole; raises what is wrong with any."""
    entries = repository.scan(root)
    known = sorted({entry.model for entry in entries})
    if unknown := sorted({*models} - {*known}):
        raise NotFoundError(f"got model '{unknown[0]}', expected one of {known}")
    wanted = [entry for entry in entries if entry.model in (models or known)]
    broken = {f"{entry.model}/{entry.name}": why for entry in wanted if (why := _broken(root, entry))}
    if broken:
        raise VariantError("nothing is sent: " + "; ".join(f"variant '{name}': {why}" for name, why in broken.items()))
    return [entry.variant for entry in wanted if entry.variant]


def _broken(root: Path, entry: Entry) -> str:
    try:
        repository.load_golden(root, entry.model, repository.verify(entry))
    except VariantError as error:
        return str(error)
    return ""


def _files(root: Path, variants: Iterable[Variant]) -> dict[str, Path]:
    """Returns the files to send by their paths there, in the order in which to send them: manifests last."""
    files, own, manifests = list[str](), dict[str, None](), list[str]()
    for variant in variants:
        folder = f"{variant.model}/{variant.variant}"
        files += [f"{folder}/{file.path}" for file in variant.files]
        files += [f"{folder}/{GOLDEN}"] if variant.golden and variant.golden.own else []
        own |= dict.fromkeys(f"{variant.model}/{name}" for name in (GOLDEN, TEST, DEFAULT))
        manifests.append(f"{folder}/{MANIFEST}")
    return {path: root / path for path in (*files, *own, *manifests) if (root / path).is_file()}


def _push(store: Store, files: dict[str, Path], delete: bool) -> dict[str, Row]:
    there = store.list()
    kept = {path for path, source in files.items() if _is_there(there, path, source, files)}
    rows = defaultdict[str, Row](Row)
    for path, source in files.items():
        row = rows[_row(path)]
        row.sent, row.kept = row.sent + (path not in kept), row.kept + (path in kept)
        row.bytes += 0 if path in kept else source.stat().st_size
    unsent = [path for path in files if path not in kept]
    _send(store, {path: files[path] for path in unsent})
    models = {path.partition("/")[0] for path in files}
    gone = [path for path in there if path not in files and path.partition("/")[0] in models] if delete else []
    for path in sorted(gone, key=_is_manifest, reverse=True):
        store.remove(path)
        rows[_row(path)].removed += 1
    if unsent or gone:
        store.finish()
    return dict(sorted(rows.items()))


def _is_there(there: dict[str, Item], path: str, source: Path, files: dict[str, Path]) -> bool:
    """Returns whether the store has that file; where it cannot tell its hash, whether it has the manifest beside it."""
    if path not in there:
        return False
    holds = there[path].holds(source)
    manifest = f"{_row(path)}/{MANIFEST}"
    if holds is None and path != manifest:
        return manifest in files and manifest in there and there[manifest].holds(files[manifest]) is True
    return holds is True


def _send(store: Store, unsent: dict[str, Path]) -> None:
    """Sends files, several at a time, and manifests when all others are there."""
    with ThreadPool(CONNECTIONS) as pool:

        def send() -> Iterator[None]:
            for manifests in (False, True):
                part = [item for item in unsent.items() if _is_manifest(item[0]) == manifests]
                yield from pool.imap_unordered(lambda item: store.send(*item), part)

        for _ in track(send(), len(unsent), "sending"):
            pass


def _is_manifest(path: str) -> bool:
    return path.count("/") == 2 and path.endswith(f"/{MANIFEST}")


def _row(path: str) -> str:
    """Returns `model/variant` of a variant's file, `model` of a model's own."""
    return "/".join(path.split("/")[:2]) if path.count("/") > 1 else path.partition("/")[0]
