"""A copy on this disk of a repository that is kept elsewhere, which the rest of the server takes for an ordinary one.

    <cache>/files/<sha256>                  every file once, however many variants, repositories and servers have it
    <cache>/<hash of address and --only>/   the copy, laid out as a repository: manifests, and hard links to these files
    <cache>/<...>/<model>/<variant>/.stamp  what the store said of the files that this copy was made of

A variant is fetched when its stamp is another, and of it the files that no other one has brought. It appears whole or
not at all, once everything is there; what vanished at the store leaves the copy. A process that is killed leaves whole
files, which the next one takes, or parts, which it removes.

The copy is what the store holds, damage included: a file is kept under the hash that it has, not the one that it should
have. The server checks hashes against the manifest before it loads anything, and lists such a variant with the reason.

One process at a time fills a cache. A server of several workers has this in its supervisor, and the workers follow the
copy. Not covered: disks without hard links.
"""

import fcntl
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from hashlib import sha256
from multiprocessing.pool import ThreadPool
from pathlib import Path, PurePosixPath

from protos import repository
from protos.errors import StoreError, VariantError
from protos.manifest import from_json
from protos.repository import DEFAULT, EVERYTHING, GOLDEN, MANIFEST
from protos.stores.store import Item, failing, open_store
from protos.support import atomic

CONNECTIONS = 8
"""Files that are fetched at a time."""
STAMP = ".stamp"

Folder = tuple[str, ...]
"""(model,) or (model, variant)."""
Files = dict[str, Item]

logger = logging.getLogger(__name__)


class Mirror:
    """The copy of the repository at `url`, or of what `only` names of it, under the folder `cache`.

    Raises `UsageError` where the address cannot be used. A name of `only` that the store lacks is left out of the copy.
    """

    def __init__(self, url: str, cache: Path, only: Set[str] = EVERYTHING) -> None:
        self._url, self._store, self._only = url, open_store(url), only
        self._cache, self._blobs = cache, cache / "files"
        self.root = cache / sha256("\n".join([url, *sorted(only)]).encode()).hexdigest()[:16]
        """The folder of the copy."""
        self._incoming = self.root / ".incoming"
        self._checked = False
        self._fetched: list[int] = []

    def sync(self) -> None:
        """Makes the copy what the store holds now; raises `StoreError`, and then leaves whole what there was."""
        try:
            with self._alone(), failing(self._url):
                self._sync()
        except OSError as error:
            raise StoreError(f"--repository-cache: '{self._cache}' cannot be used: {error.strerror}") from None

    def follow(self, seconds: float) -> None:
        """Begins to bring the copy up to date every so many seconds, in a thread that ends with the process."""
        threading.Thread(target=self._follow, args=(seconds,), name="mirror", daemon=True).start()

    def _follow(self, seconds: float) -> None:
        trouble = ""
        while True:
            time.sleep(seconds)
            try:
                self.sync()
            except Exception as error:  # the store may be back the next time; the thread has to outlive it
                if str(error) != trouble:
                    known = isinstance(error, StoreError)
                    logger.warning("%s; what is served stays served", error, exc_info=not known)
                trouble = str(error)
            else:
                if trouble:
                    logger.info("%s can be read again", self._url)
                trouble = ""

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps other processes out of the cache, and removes what one that was killed has left."""
        self._blobs.mkdir(parents=True, exist_ok=True)
        with (self._cache / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logger.info("waiting for another process that fills '%s'", self._cache)
                fcntl.flock(lock, fcntl.LOCK_EX)
            for pattern in (self._incoming.name, ".*.tmp", ".*.old", "*/.*.tmp", "*/.*.old"):
                for leftover in self.root.glob(pattern):
                    _delete(leftover)
            self._incoming.mkdir(parents=True)
            yield

    def _sync(self) -> None:
        began, self._fetched = time.monotonic(), []
        held = self._store.list()
        listed = by_folder(held, self._only)
        if not listed and not by_folder(held):
            raise StoreError(f"{self._url}: got nothing there, expected MODEL/VARIANT/{MANIFEST}")
        stamps = {folder: _stamp(files) for folder, files in listed.items()}
        due = {folder: files for folder, files in listed.items() if not self._is_current(folder, stamps[folder])}
        with ThreadPool(CONNECTIONS) as pool:  # its threads keep no process from ending
            contents = self._fetch(due, pool)
        for folder in sorted(contents):  # a model's own files before its variants
            self._place(folder, contents[folder], stamps[folder])
        removed = self._remove_all_but(listed)
        for blob in self._blobs.iterdir():
            if blob.stat().st_nlink == 1:
                blob.unlink()
        if due or removed or not self._checked:
            size, seconds = sum(self._fetched) / 1e6, time.monotonic() - began
            told = "%s: %d files fetched, %.1f MB, in %.2f s; %d variants, %d removed"
            variants = sum(len(folder) == 2 for folder in listed)
            logger.info(told, self._url, len(self._fetched), size, seconds, variants, removed)
        self._checked = True

    def _is_current(self, folder: Folder, stamp: str) -> bool:
        """Returns whether the copy is of that stamp; of variants that an earlier process left, whether it is whole."""
        place = self.root.joinpath(*folder)
        try:
            recorded = (place / STAMP).read_text()
        except OSError:
            return False
        return recorded == stamp and (self._checked or len(folder) == 1 or _is_whole(place))

    def _fetch(self, due: Mapping[Folder, Files], pool: ThreadPool) -> dict[Folder, dict[str, str]]:
        """Returns the hash of each file of these folders, by its path there; all of them lie in the cache then."""
        unhashed = {
            (folder, name): files[name].sha256
            for folder, files in due.items()
            for name in (MANIFEST, GOLDEN, DEFAULT)
            if name in files
        }
        contents: dict[Folder, dict[str, str]] = {folder: {} for folder in due}
        for (folder, name), found in zip(unhashed, pool.starmap(self._get, unhashed.items()), strict=True):
            contents[folder][name] = found
        named = {folder: self._named(contents[folder], due[folder]) for folder in due}
        wanted = {same: (folder, path) for folder, files in named.items() for path, same in files.items()}
        gets = [(where, expected) for (expected, _), where in wanted.items()]
        hashes = dict(zip(wanted, pool.starmap(self._get, gets), strict=True))
        return {f: {p: hashes[same] for p, same in named[f].items()} | contents[f] for f in due}

    def _named(self, content: Mapping[str, str], files: Files) -> dict[str, tuple[str, str | None]]:
        """Returns the hash that a manifest has for each file that the store has, and the one that the store has for it.

        Files that have both in common are the same: a file that is damaged at the store is not taken for a whole one.
        """
        try:
            manifest = from_json((self._blobs / content[MANIFEST]).read_text())
        except (KeyError, VariantError, UnicodeDecodeError):  # no variant, or a broken one
            return {}
        return {file.path: (file.sha256, files[file.path].digest) for file in manifest.files if file.path in files}

    def _get(self, where: tuple[Folder, str], expected: str | None) -> str:
        """Returns the hash of a file that lies in the cache then; it is fetched unless one of hash `expected` does."""
        if expected and self._has(expected):
            return expected
        path = "/".join((*where[0], where[1]))
        incoming = self._incoming / sha256(path.encode()).hexdigest()
        self._store.fetch(path, incoming)
        self._fetched.append(incoming.stat().st_size)
        found = repository.sha256(incoming)
        incoming.rename(self._blobs / found)
        return found

    def _has(self, digest: str) -> bool:
        """Returns whether the cache has that file, undamaged; `digest` may be any text."""
        blob = self._blobs / digest
        return bool(re.fullmatch("[0-9a-f]{64}", digest)) and blob.is_file() and repository.sha256(blob) == digest

    def _place(self, folder: Folder, content: Mapping[str, str], stamp: str) -> None:
        """Makes one folder of the copy that content."""
        place = self.root.joinpath(*folder)
        if len(folder) == 2:
            with atomic.new_folder(place) as staging:
                for path, digest in content.items():
                    (staging / path).parent.mkdir(parents=True, exist_ok=True)
                    # The watch knows a publication by its manifest's inode: a link has that of the one before.
                    put = shutil.copyfile if path == MANIFEST else os.link
                    put(self._blobs / digest, staging / path)
                (staging / STAMP).write_text(stamp)
            return
        place.mkdir(exist_ok=True)
        for name in (GOLDEN, DEFAULT):
            if name not in content:
                (place / name).unlink(missing_ok=True)
                continue
            with atomic.new_file(place / name) as temporary:
                os.link(self._blobs / content[name], temporary)
        atomic.write_text(place / STAMP, stamp)

    def _remove_all_but(self, listed: Mapping[Folder, Files]) -> int:
        """Removes the variants and models that the store has no more; returns how many variants."""
        removed = 0
        for model, found in repository.snapshot(self.root).items():
            gone = [variant for variant in found.fingerprints if (model, variant) not in listed]
            removed += len(gone)
            for folder in [(model, variant) for variant in gone] if (model,) in listed else [(model,)]:
                place = self.root.joinpath(*folder)
                _delete(place.rename(place.with_name(f".{place.name}.old")))
        return removed


def default_cache() -> Path:
    """Returns where programs keep what can be fetched again: https://specifications.freedesktop.org/basedir-spec/."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paretoserve"


def by_folder(listed: Mapping[str, Item], only: Set[str] = EVERYTHING) -> dict[Folder, Files]:
    """Returns the files of each variant that has a manifest, and of its model, by their paths there; none of others.

    `only` chooses variants, as in `repository.scan`.
    """
    folders: dict[Folder, Files] = {}
    for path, item in listed.items():
        parts = PurePosixPath(path).parts
        names, inner = parts[: min(2, len(parts) - 1)], "/".join(parts[2:] or parts[1:])
        if "/".join(parts) == path and ".." not in parts and names and all(map(_is_name, names)):
            folders.setdefault(names, {})[inner] = item
    variants = {
        folder: files
        for folder, files in folders.items()
        if len(folder) == 2 and MANIFEST in files and (not only or repository.is_named(only, *folder))
    }
    return variants | {(model,): _own(folders.get((model,), {})) for model, _ in variants}


def _own(files: Files) -> Files:
    return {name: files[name] for name in (GOLDEN, DEFAULT) if name in files}


def _is_name(name: str) -> bool:
    try:
        return bool(repository.check_name(name))
    except ValueError:
        return False


def _stamp(files: Files) -> str:
    return sha256(repr(sorted((path, item.stamp) for path, item in files.items())).encode()).hexdigest()


def _is_whole(place: Path) -> bool:
    try:
        return bool(repository.verify(repository.read_entry(place)))
    except VariantError:
        return False


def _delete(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()
