"""Three servers behind Envoy: what it costs, how it shares calls out, and what clients see of deaths and replacements.

    make replicas       # five minutes; fails where a client saw an error, or a server got a tenth more than another

What Envoy costs is measured beside the same server without it, in turns, with h2load and one connection. For the rest
the engines are slow on purpose (`tests.server.stress.slow`), so that three servers can be loaded to four fifths of
what they can do, and one more be started, on two cores.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from signal import SIGKILL
from statistics import median
from time import monotonic, sleep

import numpy as np
import psutil

from protos.support import h2load
from protos.tensors import encode_request
from tests.deploy.envoy.balancing import answered, balancing
from tests.server.stress.slow import EXECUTION_SECONDS
from tests.support import toy
from tests.support.serving import ServerProcess, eventually, serving
from tests.support.steady import SteadyLoad

SERVERS, ROWS, LOAD = 3, 4, 0.8
"""How many servers, the rows of a batch, and the share of what all of them can do."""
CAPACITY = SERVERS * ROWS / EXECUTION_SECONDS
SLOW = ("--batch-max", str(ROWS), "--drain-notice", "1", "--queue-size", "512")
"""The queues hold what two servers cannot do while the third is started anew."""
REQUEST = encode_request("toy", "fp32-onnxruntime", {"input": toy.images(1)})
IN_FLIGHT = (1, 8, 32)


class Fleet:
    """Slow servers behind one Envoy."""

    def __init__(self, models: Path, folder: Path, everything: ExitStack, count: int) -> None:
        self._models, self._everything = models, everything
        self.servers = [self.start() for _ in range(count)]
        self.envoy = everything.enter_context(balancing(folder, self._addresses()))

    def replace(self, index: int, die: bool) -> None:
        """Puts a new server in the place of one, which dies at once, or is asked to end once the new one has calls."""
        old = self.servers[index]
        if die:
            old.signal(SIGKILL)
        self.servers[index] = self.start()
        self.route()
        if not die:
            old.signal()
            assert old.wait() == 0, old.log

    def route(self) -> None:
        """Gives calls to `servers`, and to no other."""
        self.envoy.route_to(self._addresses())
        asyncio.run(eventually(self.envoy.healthy, {*self._addresses()}))

    def start(self) -> ServerProcess:
        """One more, which gets no call yet."""
        return self._everything.enter_context(serving(self._models, *SLOW, program="tests.server.stress.slow"))

    def _addresses(self) -> list[str]:
        return [server.grpc_address for server in self.servers]


@contextmanager
def fleet(models: Path) -> Iterator[Fleet]:
    """Starts it, and ends all of it."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as everything:
        yield Fleet(models, Path(folder), everything, SERVERS)


def cost(models: Path, rounds: int, seconds: float) -> None:
    """Prints what calls through Envoy are and take beside calls without it."""
    with tempfile.TemporaryDirectory() as folder, serving(models) as server, ExitStack() as with_it:
        envoy = with_it.enter_context(balancing(Path(folder), [server.grpc_address]))
        pids = (envoy.pid, server.pid)
        found = in_turns({"direct": (server.grpc_address, pids), "Envoy": (envoy.address, pids)}, rounds, seconds)
    print("| in flight | way | RPC/s | p50 ms | Envoy CPU us | server CPU us |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for (way, calls), turns in found.items():
        rps, p50, envoys, servers = (median(column) for column in zip(*turns, strict=True))
        print(f"| {calls} | {way} | {rps:,.0f} | {p50:.2f} | {envoys:.0f} | {servers:.0f} |")


def in_turns(
    ways: Mapping[str, tuple[str, Sequence[int]]], rounds: int, seconds: float
) -> dict[tuple[str, int], list[tuple[float, ...]]]:
    """What `turn` gives by each way, an address and the processes behind it, and number of calls in flight."""
    found: dict[tuple[str, int], list[tuple[float, ...]]] = {}
    for _, calls, way in product(range(rounds), IN_FLIGHT, ways):
        address, pids = ways[way]
        found.setdefault((way, calls), []).append(turn(address, calls, seconds, pids))
    return found


def turn(address: str, calls: int, seconds: float, pids: Sequence[int]) -> tuple[float, ...]:
    """RPC/s, p50 in ms, and the microseconds of CPU that each process took for an answer."""
    before = [cpu(pid) for pid in pids]
    run = h2load.run(f"http://{address}", REQUEST.SerializeToString(), 1, calls, seconds, 30.0)
    spent = [cpu(pid) - was for pid, was in zip(pids, before, strict=True)]
    assert not run.failures, run.failures[0]
    answers = len(run.log.taken)
    return answers / seconds, float(np.median(run.log.taken)) / 1e3, *(1e6 * each / answers for each in spent)


def cpu(pid: int) -> float:
    """The seconds of CPU that a process has taken."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def balance(servers: Fleet) -> list[str]:
    """Prints how the calls of one connection were shared out; returns what is wrong with that."""
    before = [answered(server) for server in servers.servers]
    with SteadyLoad(servers.envoy.address, REQUEST, LOAD * CAPACITY) as load:
        load.wait_for(3000)
    shares = [answered(server) - was for server, was in zip(servers.servers, before, strict=True)]
    apart = max(shares) / min(shares) - 1
    print(f"one connection, {LOAD * CAPACITY:.0f} calls/s: {shares} answers, {apart:.1%} apart; {dict(load.outcomes)}")
    return [f"a server got {apart:.1%} more than another"] if apart > 0.1 else []


def disturb(servers: Fleet, die: bool, seconds: float, pause: float) -> list[str]:
    """Replaces one server after the other under load, as `Fleet.replace` does; returns what clients saw of it."""
    replaced, ends, what = 0, monotonic() + seconds, "killed" if die else "replaced"
    with SteadyLoad(servers.envoy.address, REQUEST, LOAD * CAPACITY) as load:
        while monotonic() < ends:
            next_one = monotonic() + pause
            servers.replace(replaced % SERVERS, die)
            replaced += 1
            sleep(max(0.0, next_one - monotonic()))
    p50, p99, most = (1e3 * np.percentile(load.seconds, share) for share in (50, 99, 100))
    retried = servers.envoy.stats("upstream_rq_retry$")
    print(
        f"{replaced} servers {what} in {seconds:.0f} s under {load.sent} calls: {dict(load.outcomes)},"
        f" p50 {p50:.0f} ms, p99 {p99:.0f}, longest {most:.0f}; calls asked again so far: {sum(retried.values()):.0f}"
    )
    return [f"{count} x {text}" for text, count in load.texts.items()]


def main() -> int:
    """Prints a table and a line for each part; the exit code is 1 where something is not as it should be."""
    parser = argparse.ArgumentParser(prog="replicas", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="of killing, and of replacing")
    parser.add_argument("--pause", type=float, default=10, help="seconds from one to the next")
    parser.add_argument("--rounds", type=int, default=5, help="of calls with Envoy and without")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = toy.repository(Path(folder), ("onnxruntime",))
        if given.rounds:
            cost(models, given.rounds, 2.0)
        with fleet(models) as servers:
            wrong = balance(servers)
            for die in (True, False):
                wrong += disturb(servers, die, given.seconds, given.pause)
    print(*wrong, sep="\n", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
