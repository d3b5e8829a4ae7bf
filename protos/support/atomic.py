"""Files and folders that appear whole or not at all, also when the power fails: write beside, fsync, rename."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Yields a path beside `target`; the file written there takes the place of `target` when the block ends well."""
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        yield temporary
        _fsync(temporary)
        temporary.rename(target)
        _fsync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder beside `target`, which takes the place of `target` when the block ends well.

    A reader never sees a mixture of the old folder and the new one; for the moment between two renames it sees
    neither. A failure leaves the old one in place. What a power cut left beside `target` is removed first.
    """
    staging, old = (target.with_name(f".{target.name}.{suffix}") for suffix in ("tmp", "old"))
    for leftover in (staging, old):
        shutil.rmtree(leftover, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
        for path in [*staging.rglob("*"), staging]:
            _fsync(path)
        _replace(target, staging, old)
        _fsync(target.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_text(target: Path, text: str) -> None:
    """Writes a file in UTF-8."""
    with new_file(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _replace(target: Path, staging: Path, old: Path) -> None:
    """Renames `staging` to `target`; a folder that is there already goes, or comes back if this fails."""
    if target.exists():
        target.rename(old)
    try:
        staging.rename(target)
    except BaseException:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
