"""Whole runs with made-up calls, for tests of what is made of raw samples."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from loadtest.analysis.percentiles import percentiles
from loadtest.analysis.results import Cell, Results
from loadtest.plan import Load
from loadtest.users.recorder import SAMPLE, SLICE, STEADY, Samples, join
from tests.support.loadtest.cells import cell, closed, results

Levels = Mapping[str, Sequence[float]]
"""A variant's latency in milliseconds, round by round."""


def made_run(
    levels: Levels,
    *,
    load: Load | None = None,
    calls: int = 60,
    spread: float = 0.5,
    sustained: bool = False,
    **more: Any,
) -> tuple[Results, Samples]:
    """A run of one load: in each round `calls` latencies, evenly spread around the variant's level.

    `sustained` makes all of it one block without a break.
    """
    where = load or closed(1)
    cells, parts = list[Cell](), list[Samples]()
    for number, (variant, rounds) in enumerate(levels.items()):
        shape = 1 + spread * np.linspace(-1, 1, calls)
        latencies = np.outer(rounds, shape) / 1e3
        rows, slices = np.zeros(latencies.size, SAMPLE), np.zeros(len(rounds), SLICE)
        rows["variant"], slices["variant"] = number, number
        rows["phase"], rows["latency"] = STEADY, latencies.ravel()
        rows["due"] = np.arange(latencies.size)
        slices["round"] = np.arange(1, len(rounds) + 1)
        rows["round"] = np.repeat(slices["round"], calls)
        slices["answered"], slices["seconds"] = calls, latencies.sum(axis=1)
        if sustained:
            rows["round"], slices = 0, slices[:1].copy()
            slices["round"], slices["answered"], slices["seconds"] = 0, latencies.size, latencies.sum()
        parts.append(Samples(rows, tuple(levels), (where.key,), slices))
        made = cell(variant, load=where, **more)
        rps = float(slices["answered"].sum() / slices["seconds"].sum())
        cells.append(replace(made, latency_ms=percentiles(rows["latency"]), throughput_rps=rps, rounds=len(rounds)))
    return results(*cells), join(parts)


def save(run: tuple[Results, Samples], folder: Path) -> Path:
    """The folder, with what `compare` reads of a run."""
    folder.mkdir()
    run[0].save(folder / "results.json")
    run[1].save(folder / "samples.npz")
    return folder
