"""`history.jsonl`: a line for each run of a folder, for figures over weeks.

A run appends its line beside its own folder in one write to the end of the file, so that runs that end together do not
mix theirs. No line is ever changed: what cannot be read is skipped with a warning.
"""

import dataclasses
import json
import logging
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from loadtest.analysis.results import Cell, Results
from protos.errors import UsageError
from protos.support.strict import decode

HISTORY = "history.jsonl"
GIT_SECONDS = 10
"""How long git may take to name the commit."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CellFigures:
    """One variant under one load; None for what was not measured."""

    variant: str
    load: str
    p50_ms: float | None
    p99_ms: float | None
    throughput_rps: float
    quality: float | None


@dataclass(frozen=True)
class Entry:
    """One run."""

    finished: str
    run: str
    """The name of its folder."""
    model: str
    commit: str | None
    """What git calls the state of the working folder, without changes that were not committed; None outside git."""
    machine: str
    winner: str | None
    """The variant to ship; None where no constraint was given, or where no variant met them."""
    winner_load: str | None
    """The load for which it was chosen."""
    cells: tuple[CellFigures, ...]


def entry_of(results: Results, winner: Cell | None) -> Entry:
    """Returns the line of a run whose `winner` is to ship."""
    machine, figures = results.machine, list[CellFigures]()
    for each in results.cells:
        latency, rps, quality = each.latency_ms, each.throughput_rps, each.facts.quality
        figures.append(CellFigures(each.variant, each.load.name, latency.p50, latency.p99, rps, quality))
    return Entry(
        finished=results.finished,
        run=results.plan.out.name,
        model=results.plan.model,
        commit=_commit(),
        machine=f"{machine.cores} cores of {machine.processor}",
        winner=winner.variant if winner else None,
        winner_load=winner.load.name if winner else None,
        cells=tuple(figures),
    )


def append(entry: Entry, path: Path) -> None:
    """Appends a line to `path`; a failure is a warning: the run itself is whole."""
    line = json.dumps(dataclasses.asdict(entry), allow_nan=False) + "\n"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            torn = size and os.pread(descriptor, 1, size - 1) != b"\n"  # a power cut left half a line
            os.write(descriptor, ("\n" * bool(torn) + line).encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        _log.warning("'%s': the run is not in the history: %s", path, error)


def read_history(path: Path) -> list[Entry]:
    """Returns the runs in the order of the file; `UsageError` where there are none."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UsageError(f"'{path}': {error}") from None
    entries = list[Entry]()
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                entries.append(decode(Entry, json.loads(line), f"line {number}"))
        except (ValueError, RecursionError) as error:
            _log.warning("'%s': line %d is skipped: %s", path, number, error)
    if not entries:
        raise UsageError(f"'{path}': got no line of a run, expected what `pareto-loadtest run` appends")
    return entries


def _commit() -> str | None:
    """Returns the commit of the working folder."""
    if (git := shutil.which("git")) is None:
        return None
    try:
        asked = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=GIT_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return asked.stdout.strip() or None if asked.returncode == 0 else None
