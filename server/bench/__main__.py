"""`python -m server.bench`: our server beside bare ones and peers, in interleaved rounds. `--help` lists what it takes.

Each cell (a server, how it is called, with what, so many calls in flight) is measured once in each round, so that a
machine that slows down slows all of them down. The load comes from one process of its own; with few cores it shares
them with the server, and its CPU is in the table. Compare ratios within one run, not numbers of two machines.

Ours are called in all ways, peers and bare batching by unary calls of tensors, which is what all of them take.
"""

import argparse
import contextlib
import json
import multiprocessing
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path

import numpy as np

from protos.errors import ParetoServeError, UsageError
from protos.manifest import Variant, from_json
from protos.repository import GOLDEN, MANIFEST
from protos.support import h2load, machine, options
from server.bench import calls, comparison, engine_loop, payloads, streams, table, targets
from server.bench.engine_loop import EngineSpeed
from server.bench.load import Load, Mode
from server.bench.payloads import Form
from server.bench.table import BARE, FLOOR, OURS, Cell, Key
from server.bench.targets import Target

BATCHES = (1, 2, 4, 8, 16, 32)
DRIVERS = {"unary": calls.drive, "stream": streams.drive}


@dataclass(frozen=True)
class Options:
    """What a benchmark can be told."""

    repository: Path = field(default=Path("models"), metadata=options.EXISTING_FOLDER)
    """The folder of built variants."""
    model: str = "digits"
    """The model to measure."""
    variant: str = "channels50-int8-onnxruntime"
    """Its variant to measure."""
    in_flight: tuple[int, ...] = (1, 8, 32, 128)
    """Calls in flight."""
    modes: tuple[Mode, ...] = ("unary", "stream")
    """unary, stream or both."""
    form: tuple[Form, ...] = ("tensor",)
    """What a request holds: tensor, jpeg or both."""
    ours: tuple[str, ...] = (
        "--front grpcio",
        "--front native",
        "--front grpcio --batch-max 1",
        "--front native --batch-max 1",
        "--front grpcio --workers 2",
        "--front native --workers 2",
    )
    """Flags of our server; each set is a server of its own."""
    peer: tuple[str, ...] = ()
    """Other servers of the protocol, as NAME=HOST:PORT[/VERSION][@PID]; they serve the same model, and the variant
    as VERSION or under its own name (Triton takes numbers only). With PID, of their top process, their CPU is known."""
    connections: int = field(default=8, metadata=options.between(1, 1024))
    """The most connections that the calls in flight are spread over."""
    rounds: int = field(default=5, metadata=options.between(1, 1000))
    """How often each cell is measured."""
    seconds: float = field(default=2.0, metadata=options.between(0.05, 3600.0))
    """How long each cell is measured in each round."""
    out: str = ""
    """A file for the raw samples, as JSON."""


Cells = dict[Key, list[Cell]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one benchmark; 2 where it cannot be run as asked."""
    try:
        wanted = parse(sys.argv[1:] if arguments is None else arguments)
        peers = [targets.peer(text) for text in wanted.peer]
        if not (folder := wanted.repository / wanted.model / wanted.variant).is_dir():
            raise UsageError(f"there is no {folder}; `make demo` builds the default")
        if "unary" in wanted.modes and shutil.which(h2load.PROGRAM) is None:
            raise UsageError(f"unary calls need {h2load.PROGRAM}: {h2load.MISSING}")
        speeds, cells = measure(wanted, folder, peers)
    except (ParetoServeError, ValueError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    report(wanted, speeds, cells, [peer.name for peer in peers])
    return 0


def parse(arguments: Sequence[str]) -> Options:
    """The options that flags ask for; raises `UsageError`."""
    parser = argparse.ArgumentParser(prog="python -m server.bench", description="Measures the server's own cost.")
    options.add_flags(parser, Options)
    return options.read(Options, parser.parse_args(arguments))


def measure(wanted: Options, folder: Path, peers: list[Target]) -> tuple[list[EngineSpeed], Cells]:
    """Returns the engine's speeds, and the cells of all rounds; raises `UsageError` where a server does not answer."""
    variant = from_json((folder / MANIFEST).read_text())
    tensors = np.concatenate(payloads.rows(wanted.repository, variant, "tensor"))
    cells: Cells = {}
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool, _started(wanted, folder) as started:
        turns = list(_turns(wanted, variant, started, peers))
        print("the bare engine", file=sys.stderr)
        speeds = pool.submit(engine_loop.measure, folder, 1, BATCHES, wanted.seconds / 2, tensors).result()
        for number in range(wanted.rounds):
            for key, target, load in turns:
                print(f"round {number + 1}: {', '.join(map(str, vars(key).values()))} in flight", file=sys.stderr)
                before, sample = target.cpu_seconds(), pool.submit(DRIVERS[key.mode], load).result()
                after = target.cpu_seconds()
                used = None if before is None or after is None else after - before
                cells.setdefault(key, []).append(Cell(sample, used))
    return speeds, cells


def report(wanted: Options, speeds: list[EngineSpeed], cells: Cells, peers: Sequence[str]) -> None:
    """Prints the tables and one line of JSON; writes the raw samples where they are wanted."""
    rows = table.rows_of(speeds, cells)
    compared = comparison.comparisons(rows, speeds, peers)
    engine = ", ".join(
        f"{speed.rows_per_second:.0f} rows/s ({speed.cpu_us:.0f} us) at {speed.batch}" for speed in speeds
    )
    print(f"{wanted.model}/{wanted.variant}, the engine alone: {engine}.\n\n{table.text(rows)}\n")
    print(f"{comparison.text(compared)}\n")
    summary = {
        "machine": asdict(machine.describe("grpcio", "numpy", "protobuf", "pygrpc-native")),
        "options": asdict(wanted),
        "engine": [asdict(speed) for speed in speeds],
        "rows": [asdict(row) for row in rows],
        "comparisons": [asdict(each) for each in compared],
    }
    print(json.dumps(summary, default=str))
    if wanted.out:
        raw = [{**asdict(key), "rounds": [asdict(c) for c in kept]} for key, kept in cells.items()]
        Path(wanted.out).write_text(json.dumps({**summary, "cells": raw}, default=str))


@contextmanager
def _started(wanted: Options, folder: Path) -> Iterator[list[Target]]:
    """Our servers and the bare ones, all at once; each idles while another is measured."""
    with contextlib.ExitStack() as stack:
        alone = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # A repository of the one variant, so that loading the others takes neither time nor memory.
        (alone / wanted.model).mkdir()
        shutil.copy(wanted.repository / wanted.model / GOLDEN, alone / wanted.model)
        shutil.copytree(folder, alone / wanted.model / wanted.variant)
        started = [
            stack.enter_context(targets.bare(FLOOR, "floor", folder, 1)),
            stack.enter_context(targets.bare(BARE, "batching", folder, 16)),
        ]
        for flags in wanted.ours:
            started.append(stack.enter_context(targets.ours(f"{OURS} {flags}".strip(), alone, flags.split())))
        yield started


def _turns(
    wanted: Options, variant: Variant, started: list[Target], peers: list[Target]
) -> Iterator[tuple[Key, Target, Load]]:
    """One round: what is asked of whom, once each server has answered one of its requests."""
    asked = {form: payloads.rows(wanted.repository, variant, form) for form in wanted.form}
    for in_flight, target in product(wanted.in_flight, [*started, *peers]):
        for mode, form in product(wanted.modes, wanted.form):
            if (mode, form) == ("unary", "tensor") or not (target in peers or target.name == BARE):
                requests = payloads.requests(variant, target.version or wanted.variant, asked[form])
                length = calls.answer_bytes(target, requests[0])
                load = Load(target.address, in_flight, wanted.connections, wanted.seconds, requests, length)
                yield Key(target.name, mode, form, in_flight), target, load


if __name__ == "__main__":
    sys.exit(main())
