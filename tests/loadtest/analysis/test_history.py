"""The history of a folder's runs: a line each, never rewritten."""

import json
import logging
import subprocess
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.analysis.history import CellFigures, Entry, append, entry_of, read_history
from protos.errors import UsageError
from tests.support.loadtest.cells import cell, results

ENTRY = Entry(
    "2026-01-01T00:01:00+00:00",
    "x",
    "toy",
    "c0ffee",
    "2 cores",
    "a-x",
    "1 user",
    (CellFigures("a-x", "1 user", 1, None, 9, 0.9),),
)


def test_a_line_has_what_the_run_found() -> None:
    won = cell("a-x", 8.0, 0.75, rps=50.0)
    entry = entry_of(results(won, cell("b-x", None, None)), won)
    assert entry.cells == (
        CellFigures("a-x", "1 user", 2.0, 8.0, 50.0, 0.75),
        CellFigures("b-x", "1 user", 1.0, None, 100.0, None),
    )
    assert (entry.run, entry.model, entry.winner, entry.winner_load) == ("x", "toy", "a-x", "1 user")
    assert (entry.finished, entry.machine) == ("2026-01-01T00:01:00+00:00", "2 cores of Some CPU (avx2)")


def test_the_commit_is_the_working_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert entry_of(results(), None).commit is None
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["git", *identity, "commit", "-q", "--allow-empty", "-m", "a"], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert entry_of(results(), None).commit == head


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert entry_of(results(), None).commit is None


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    later = replace(ENTRY, run="y", commit=None)
    append(ENTRY, path)
    append(later, path)
    assert read_history(path) == [ENTRY, later]


def test_runs_that_end_together_do_not_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    large = replace(ENTRY, cells=ENTRY.cells * 500)
    with ProcessPoolExecutor(4) as pool:
        [*pool.map(append, [large] * 40, [path] * 40)]
    assert read_history(path) == [large] * 40


def test_lines_of_others_are_skipped_with_a_warning_and_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "history.jsonl"
    foreign = b'\xff{\n[]\n{"finished": 3}\n\n' + b"[" * 100_000 + b"\n" + json.dumps({"half": "a line"}).encode()[:9]
    path.write_bytes(foreign)
    with caplog.at_level(logging.WARNING):
        append(ENTRY, path)
        assert read_history(path) == [ENTRY]
    assert path.read_bytes().startswith(foreign + b"\n")
    skipped = [record.message.split(" is skipped")[0].rpartition(": ")[2] for record in caplog.records]
    assert skipped == [f"line {number}" for number in (1, 2, 3, 5, 6)]


def test_a_history_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    append(ENTRY, tmp_path)
    assert "the run is not in the history" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"), [(None, "No such file"), ("", "got no line of a run"), ("{}\n", "got no")]
)
def test_without_any_run_that_is_said(text: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_history(path)
