"""`python -m server.bench`: our server beside bare ones and peers, in interleaved rounds. `--help` lists what it takes.

Each cell (a server, unary or stream, so many calls in flight) is measured once in each round, so that a machine
that slows down slows all of them down. The load comes from one process of its own; with few cores it shares them
with the server, and its CPU is in the table. Compare ratios within one run, not numbers of two machines.
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
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from protos.errors import UsageError
from protos.manifest import from_json
from protos.repository import GOLDEN, MANIFEST, load_golden
from protos.support import machine, options
from protos.tensors import encode_request
from server.bench import engine_loop, targets
from server.bench.engine_loop import EngineSpeed
from server.bench.load import Load, Mode, drive
from server.bench.table import Cell, Key, Row, row, text
from server.bench.targets import Target

FLOOR, BARE, ALONE = "floor", "bare batching", "--batch-max 1"
BATCHES = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Options:
    """What a benchmark can be told."""

    repository: Path = field(default=Path("models"), metadata=options.EXISTING_FOLDER)
    """The folder of built variants."""
    model: str = "digits"
    """The model to measure."""
    variant: str = "int8-onnxruntime"
    """Its variant to measure."""
    in_flight: tuple[int, ...] = (1, 8, 32)
    """Calls in flight."""
    modes: tuple[Mode, ...] = ("unary", "stream")
    """unary, stream or both."""
    ours: tuple[str, ...] = ("", "--batch-max 1", "--workers 2")
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one benchmark; 2 where it cannot be run as asked."""
    try:
        wanted = parse(sys.argv[1:] if arguments is None else arguments)
        peers = [targets.peer(text) for text in wanted.peer]
        if not (folder := wanted.repository / wanted.model / wanted.variant).is_dir():
            raise UsageError(f"there is no {folder}; `make demo` builds the default")
    except (UsageError, ValueError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    report(wanted, *measure(wanted, folder, peers))
    return 0


def parse(arguments: Sequence[str]) -> Options:
    """The options that flags ask for; raises `UsageError`."""
    parser = argparse.ArgumentParser(prog="python -m server.bench", description="Measures the server's own cost.")
    options.add_flags(parser, Options)
    return options.read(Options, parser.parse_args(arguments))


def measure(wanted: Options, folder: Path, peers: list[Target]) -> tuple[list[EngineSpeed], dict[Key, list[Cell]]]:
    """Returns the engine's speeds, and the cells of all rounds."""
    name = from_json((folder / MANIFEST).read_text()).inputs[0].name
    rows = load_golden(wanted.repository, wanted.model).inputs[name]
    payloads = {
        version: [encode_request(wanted.model, version, {name: row[None]}).SerializeToString() for row in rows]
        for version in {wanted.variant, *(peer.version for peer in peers if peer.version)}
    }
    cells: dict[Key, list[Cell]] = {}
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool, _started(wanted, folder) as started:
        print("the bare engine", file=sys.stderr)
        speeds = pool.submit(engine_loop.measure, folder, 1, BATCHES, wanted.seconds / 2, rows).result()
        for number in range(wanted.rounds):
            for key, target in _plan(wanted, [*started, *peers]):
                print(f"round {number + 1}: {key.server}, {key.mode}, {key.in_flight} in flight", file=sys.stderr)
                asked = payloads[target.version or wanted.variant]
                load = Load(target.address, key.mode, key.in_flight, wanted.connections, wanted.seconds, asked)
                before, sample, after = target.cpu_seconds(), pool.submit(drive, load).result(), target.cpu_seconds()
                used = None if before is None or after is None else after - before
                cells.setdefault(key, []).append(Cell(sample, used))
    return speeds, cells


def rows_of(speeds: list[EngineSpeed], cells: dict[Key, list[Cell]]) -> list[Row]:
    """Returns the table's rows, with the overhead of those whose parts are known."""
    measured = {key: row(key, kept) for key, kept in cells.items()}
    best = min(speed.cpu_us for speed in speeds)
    for key, found in measured.items():
        floor = measured.get(Key(FLOOR, key.mode, key.in_flight))
        if key.server != FLOOR and floor and floor.server_cpu_us is not None and found.server_cpu_us is not None:
            engine = speeds[0].cpu_us if key.in_flight == 1 or ALONE in key.server else best
            measured[key] = replace(found, overhead_us=found.server_cpu_us - floor.server_cpu_us - engine)
    return list(measured.values())


def report(wanted: Options, speeds: list[EngineSpeed], cells: dict[Key, list[Cell]]) -> None:
    """Prints the table and one line of JSON; writes the raw samples where they are wanted."""
    rows = rows_of(speeds, cells)
    engine = ", ".join(
        f"{speed.rows_per_second:.0f} rows/s ({speed.cpu_us:.0f} us) at {speed.batch}" for speed in speeds
    )
    print(f"{wanted.model}/{wanted.variant}, the engine alone: {engine}\n\n{text(rows)}")
    summary = {
        "machine": asdict(machine.describe("grpcio", "numpy", "protobuf")),
        "options": asdict(wanted),
        "engine": [asdict(speed) for speed in speeds],
        "rows": [asdict(row) for row in rows],
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
            name = f"pareto-serve {flags}".strip()
            started.append(stack.enter_context(targets.ours(name, alone, flags.split())))
        yield started


def _plan(wanted: Options, started: list[Target]) -> Iterator[tuple[Key, Target]]:
    for in_flight in wanted.in_flight:
        for target in started:
            for mode in wanted.modes:
                if mode == "unary" or target.name != BARE:
                    yield Key(target.name, mode, in_flight), target


if __name__ == "__main__":
    sys.exit(main())
