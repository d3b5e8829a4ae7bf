"""Where finished steps are kept: `<repository>/.build/<model>/<key>/`, one folder for each, that appears whole.
Beside them lies the log of each variant that the last build failed to make, `<variant>.log`.

A key is a hash of everything that a step's result depends on; equal key, equal result.
"""

import contextlib
import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from protos.errors import UsageError
from protos.support import atomic

FORMAT = 1
"""Part of every key: raised when a step's code changes what its result means."""


def key(*parts: object) -> str:
    """Returns a short hash over JSON-like parts and dataclasses: equal parts, equal key, in any process."""
    return hashlib.sha256(json.dumps([FORMAT, *parts], sort_keys=True, default=vars).encode()).hexdigest()[:16]


class Cache:
    """The finished steps of one model in one repository."""

    def __init__(self, root: Path, model: str) -> None:
        self._folder = root / ".build" / model

    def folder(self, step_key: str) -> Path:
        """Returns where the result of a step is, if it is finished."""
        return self._folder / step_key

    def log(self, variant: str) -> Path:
        """Returns the file that holds all that is known of a variant's failure, if its last build failed."""
        return self._folder / f"{variant}.log"

    def work(self, step_key: str) -> Path:
        """Makes the folder for what a step keeps while it is not finished, such as checkpoints."""
        folder = self._folder / f"{step_key}.work"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextlib.contextmanager
    def appearing(self, step_key: str) -> Iterator[Path]:
        """Yields a staging folder that becomes the step's when the block ends well; then its work folder goes."""
        with atomic.new_folder(self.folder(step_key)) as staging:
            yield staging
        shutil.rmtree(self._folder / f"{step_key}.work", ignore_errors=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps a second build of the same model out; raises `UsageError` where there is one already."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"another build is at work in '{self._folder}'") from None
            yield
