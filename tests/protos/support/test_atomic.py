"""A file or a folder is the old one or the new one, whatever happens in between."""

import os
from pathlib import Path

import pytest

from protos.support import atomic


def names(folder: Path) -> set[str]:
    """What lies in a folder, hidden files included."""
    return {path.name for path in folder.iterdir()}


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    atomic.write_text(tmp_path / "a", "old")
    atomic.write_text(tmp_path / "a", "new")
    assert ((tmp_path / "a").read_text(), names(tmp_path)) == ("new", {"a"})


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    atomic.write_text(tmp_path / "a", "old")

    def fail() -> None:
        with atomic.new_file(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert ((tmp_path / "a").read_text(), names(tmp_path)) == ("old", {"a"})


def test_a_failure_leaves_the_old_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_text("old")

    def fail() -> None:
        with atomic.new_folder(tmp_path / "a") as staging:
            (staging / "file").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert ((tmp_path / "a" / "file").read_text(), names(tmp_path)) == ("old", {"a"})


def test_what_a_power_cut_left_is_removed(tmp_path: Path) -> None:
    for leftover in (".a.tmp", ".a.old"):
        (tmp_path / leftover).mkdir()
        (tmp_path / leftover / "half").write_text("")
    with atomic.new_folder(tmp_path / "a") as staging:
        (staging / "file").write_text("new")
    assert (names(tmp_path), names(tmp_path / "a")) == ({"a"}, {"file"})


def test_contents_are_on_the_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = list[str]()
    sync, rename = os.fsync, Path.rename
    monkeypatch.setattr(os, "fsync", lambda descriptor: (steps.append("fsync"), sync(descriptor))[1])
    monkeypatch.setattr(Path, "rename", lambda path, to: (steps.append("rename"), rename(path, to))[1])
    atomic.write_text(tmp_path / "a", "new")
    assert steps == ["fsync", "rename", "fsync"]
