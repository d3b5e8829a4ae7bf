"""Storms: floods at full size, many calls and many connections, beside well-behaved clients whom nothing may harm.

`make storms` runs it against a real server behind each door, which takes minutes; the suite sends less
(`tests/server/faults`). For each storm are printed what became of its own connections or calls, what it cost the
server, and what harm it did: calls of others that were not answered; requests, descriptors or threads that were left.
Over many calls and many connections, memory, descriptors and threads have to stay flat, as in a soak.
"""

import argparse
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import psutil

from tests.server.stress.flatness import Trend, trend
from tests.server.stress.soak import ALLOWED, MEBIBYTE, SAMPLES
from tests.support import toy
from tests.support.server.bystanders import unharmed
from tests.support.server.doors import DOORS
from tests.support.server.floods import FLOODS
from tests.support.server.http2 import Connection, call, pack
from tests.support.serving import ServerProcess, serving

FRAMES, CALLS, CONNECTIONS = 50_000, 200_000, 20_000
CALLS_AT_ONCE, CALLS_OF_A_CONNECTION = 100, 1_000


@dataclass(frozen=True)
class Storm:
    """What one storm did."""

    name: str
    ends: Counter[str]
    """What became of its connections, or of its calls."""
    harm: str
    """To others, or to the server; empty where there was none."""
    seconds: float
    cpu_seconds: float
    """Of the server, for the calls of others as well."""
    growth: float
    """Bytes of memory that the server had more at the end."""
    trends: tuple[Trend, ...]

    def __str__(self) -> str:
        """One line, and one more for each trend."""
        cost = f"{self.seconds:6.1f} s, server {self.cpu_seconds:6.1f} s CPU, {self.growth / MEBIBYTE:+6.1f} MiB"
        line = f"{self.name:20} {cost}, {dict(self.ends)}: {self.harm or 'no harm'}"
        return "\n".join([line, *(f"    {each}" for each in self.trends)])


def flood(server: ServerProcess, name: str, frames: int) -> Storm:
    """Sends one of `FLOODS` on one connection."""
    return _observed(server, name, _flood(server.grpc_address, name, frames), 1)


def many_calls(server: ServerProcess, count: int) -> Storm:
    """Makes calls, many at once and many on one connection."""
    return _observed(server, "many calls", _calls(server.grpc_address, count), count)


def many_connections(server: ServerProcess, count: int) -> Storm:
    """Makes connections one after the other, each for one call."""
    return _observed(server, "many connections", _connections(server.grpc_address, count), count)


def storms(server: ServerProcess, share: float) -> Iterator[Storm]:
    """Sends every storm, one after the other, each at `share` of its full size."""
    for name in FLOODS:
        yield flood(server, name, round(share * FRAMES))
    yield many_calls(server, round(share * CALLS))
    yield many_connections(server, round(share * CONNECTIONS))


def _observed(server: ServerProcess, name: str, steps: Iterator[str], count: int) -> Storm:
    """One storm of `count` steps, each of which is named by how it ended."""
    process, ends, harm, points = psutil.Process(server.pid), Counter[str](), "", defaultdict(list)
    began, cpu, memory = perf_counter(), _cpu_seconds(process), process.memory_info().rss
    try:
        with unharmed(server) as others:
            for number, end in enumerate(steps):
                ends[end] += 1
                if count == 1:  # at its worst now
                    others.burst()
                if count >= SAMPLES and number % (count // SAMPLES) == 0:
                    for what, value in _sizes(process).items():
                        points[what].append((perf_counter(), value))
    except AssertionError as error:
        harm = str(error)
    trends = tuple(trend(what, values, ALLOWED[what]) for what, values in points.items())
    harm = harm or ", ".join(f"{each.name} grow" for each in trends if each.grows)
    grown = process.memory_info().rss - memory
    return Storm(name, ends, harm, perf_counter() - began, _cpu_seconds(process) - cpu, grown, trends)


def _flood(address: str, name: str, count: int) -> Iterator[str]:
    with Connection(address) as client:
        client.send(pack(*FLOODS[name](count)))
        yield "cut off" if client.cut_off() else "open"


def _calls(address: str, count: int) -> Iterator[str]:
    for _ in range(count // CALLS_OF_A_CONNECTION):
        with Connection(address) as client:
            for first in range(1, 2 * CALLS_OF_A_CONNECTION, 2 * CALLS_AT_ONCE):
                streams = range(first, first + 2 * CALLS_AT_ONCE, 2)
                client.send(pack(*(frame for stream in streams for frame in call(stream))))
                yield from map(client.end_of, streams)


def _connections(address: str, count: int) -> Iterator[str]:
    for _ in range(count):
        with Connection(address) as client:
            client.send(pack(*call(1)))
            yield client.end_of(1)


def _sizes(process: psutil.Process) -> dict[str, float]:
    with process.oneshot():
        return {
            "bytes": process.memory_info().rss,
            "descriptors": process.num_fds(),
            "threads": process.num_threads(),
        }


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def main() -> int:
    """Prints every storm; the exit code is 1 where one of them did harm."""
    parser = argparse.ArgumentParser(prog="storms", description=__doc__)
    parser.add_argument("--front", choices=DOORS, action="append", help="both where it is not said")
    parser.add_argument("--share", type=float, default=1.0, help="of each storm's full size")
    wanted = parser.parse_args()
    harmful = False
    with tempfile.TemporaryDirectory() as folder:
        repository = toy.repository(Path(folder), ("onnxruntime",))
        for front in wanted.front or DOORS:
            print(f"--front {front}")
            with serving(repository, "--front", front) as server:
                for storm in storms(server, wanted.share):
                    print(storm, flush=True)
                    harmful |= bool(storm.harm)
    return 1 if harmful else 0


if __name__ == "__main__":
    sys.exit(main())
