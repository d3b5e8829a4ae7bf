"""A soak: mixed traffic and faults against a real server, whose resources have to stay flat.

`make soak` runs it for ten minutes through each front, `make soak ARGS="--front native --seconds 1800"` for half an
hour through one; the suite runs it for seconds, and again with a server that leaks on purpose
(`tests.server.stress.leaky`). Looked at are, for each process, memory, descriptors and threads, and the
number of series on the metrics page. Meanwhile a variant is published again and again, so that loading and
unloading is part of it. What is allowed to grow is in `ALLOWED`: a leak smaller than that needs a longer run.
"""

import argparse
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from time import monotonic

import psutil

from tests.server.stress.flatness import Trend, trend
from tests.server.stress.traffic import Traffic
from tests.support import toy
from tests.support.serving import ServerProcess, serving

FRONTS = ("grpcio", "native")
SAMPLES = 100
CLIENTS = 4
MEBIBYTE = 2**20
ALLOWED = {"bytes": 8.0 * MEBIBYTE, "descriptors": 6.0, "threads": 4.0, "series": 0.5}
"""What each may grow by in the time after the warm-up."""

Points = dict[tuple[str, str], list[tuple[float, float]]]
"""(seconds, value) by process and quantity."""


@dataclass(frozen=True)
class Findings:
    """What a soak saw: all trends, and calls that ended as they should not, by kind and outcome."""

    calls: int
    trends: tuple[Trend, ...]
    unexpected: dict[tuple[str, str], int]

    @property
    def growing(self) -> set[str]:
        """What grew, of whichever process."""
        return {each.name.split()[-1] for each in self.trends if each.grows}


def soak(repository: Path, seconds: float, *flags: str, program: str = "server") -> Findings:
    """Soaks a server of `repository`, which holds `toy` and is written to; `flags` and `program` as in `serving`."""
    points: Points = defaultdict(list)
    with serving(repository, "--watch", "0.5", *flags, program=program) as server:
        traffic = Traffic(server.grpc_address, CLIENTS)
        try:
            with _publishing(repository, min(seconds / 10, 5.0)):
                _observe(server, seconds, points)
        finally:
            traffic.stop()
    trends = (trend(f"{process} {what}", values, ALLOWED[what]) for (process, what), values in points.items())
    return Findings(traffic.calls.total(), tuple(trends), traffic.unexpected())


def _observe(server: ServerProcess, seconds: float, points: Points) -> None:
    """`SAMPLES` looks at the server, evenly over the time."""
    began = monotonic()
    supervisor = psutil.Process(server.pid)
    processes = [supervisor, *supervisor.children()]
    for n in range(SAMPLES):
        threading.Event().wait(max(0.0, began + seconds * n / SAMPLES - monotonic()))
        now = monotonic() - began
        points["page", "series"].append((now, len(server.metrics())))
        for number, process in enumerate(processes):
            with process.oneshot():
                seen = process.memory_info().rss, process.num_fds(), process.num_threads()
            for what, value in zip(("bytes", "descriptors", "threads"), seen, strict=True):
                points[f"process {number}", what].append((now, value))


@contextmanager
def _publishing(repository: Path, pause: float) -> Iterator[None]:
    """Publishes one variant anew whenever `pause` seconds have passed; the watch loads it, for its manifest differs."""
    over = threading.Event()

    def publish() -> None:
        tolerances = cycle([1e-3, 2e-3])
        while not over.wait(pause):
            toy.publish_variant(repository, "onnxruntime", tolerance=next(tolerances))

    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        yield
    finally:
        over.set()
        publisher.join()


def main() -> int:
    """Prints every trend by front; the exit code is 1 where something grew, or a call ended as it should not."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--workers", default="1")
    parser.add_argument("--front", choices=FRONTS, help="only this one (default: one after the other)")
    wanted = parser.parse_args()
    failed = False
    for front in [wanted.front] if wanted.front else FRONTS:
        with tempfile.TemporaryDirectory() as folder:
            found = soak(toy.repository(Path(folder)), wanted.seconds, "--workers", wanted.workers, "--front", front)
        print(f"--front {front}", *found.trends, sep="\n")
        print(f"{found.calls} calls, unexpected: {found.unexpected or 'none'}", flush=True)
        failed |= bool(found.growing or found.unexpected)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
