"""A master and workers as on several machines: of their own commands and working folders, one with another clock.

A time namespace shifts the clock of one worker: `perf_counter` counts from when a machine was started, and no two
machines were started together.
"""

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest

from loadtest.users.recorder import STATUSES, load_samples
from protos.v1 import inference_pb2 as pb
from tests.support.loadtest.foreign import MODEL, Answer, foreign, zeros
from tests.support.loadtest.runs import until
from tests.support.serving import ROOT, quiet_port

AHEAD = 100_000
"""By so many seconds the clock of the second worker is ahead."""
ANOTHER_CLOCK = ("unshare", "--user", "--map-root-user", "--time", "--monotonic", str(AHEAD))
CALLS = 10
"""Of each worker, before a test goes on."""


class Machines:
    """A master and its workers, or a process alone, with two users, each of which sends five calls a second."""

    def __init__(self, folder: Path, stack: ExitStack, answer: Answer, alone: bool = False) -> None:
        self.served = list[float]()
        """When the server had each request, in seconds since 1970."""
        self._peers, self._offset = Counter[str](), time.time() - time.perf_counter()
        self._folder, self._stack, self._then, port = folder, stack, answer, str(quiet_port())
        server = stack.enter_context(foreign(("1",), self._answer))
        locust = (sys.executable, "-m", "locust", "-f", str(ROOT / "loadtest/locustfile.py"))
        ours = ("--host", server.address, "--model", MODEL, "--rate", "5", "--samples", "raw")
        bind = ("--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--expect-workers", "2")
        run = ("--headless", "-u", "2", "-r", "2", "--stop-timeout", "15")  # so that calls under way are waited for
        worker = (*locust, *ours, "--worker", "--master-port", port)
        self.workers = [] if alone else [self._start("a", *worker), self._start("b", *ANOTHER_CLOCK, *worker)]
        self.master = self._start("master", *locust, *ours, *run, *(() if alone else bind))
        until(lambda: sorted(self._peers.values(), reverse=True)[1:2] >= [CALLS])

    def _answer(self, request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        self.served.append(time.perf_counter() + self._offset)
        self._peers[context.peer()] += 1
        return self._then(request, context)

    def _start(self, name: str, *command: str) -> "subprocess.Popen[bytes]":
        (self._folder / name).mkdir()
        log = self._stack.enter_context((self._folder / name / "log").open("w"))
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, cwd=self._folder / name, env=environment, stdout=log, stderr=log)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process

    def log(self, name: str = "master") -> str:
        """What master or worker wrote so far."""
        return (self._folder / name / "log").read_text()

    def end(self) -> int:
        """Ends the test; returns the master's exit code."""
        self.master.terminate()
        return self.master.wait(60)


@contextmanager
def machines(folder: Path, answer: Answer = zeros, alone: bool = False) -> Iterator[Machines]:
    """A test that runs, stopped at the end by force if need be."""
    with ExitStack() as stack:
        yield Machines(folder, stack, answer, alone)


def test_calls_lie_where_the_server_saw_them_whatever_clock_a_worker_has(tmp_path: Path) -> None:
    with machines(tmp_path) as test:
        assert test.end() == 0, test.log()
        assert [worker.wait(60) for worker in test.workers] == [0, 0], test.log("a") + test.log("b")
        ((ahead, error),) = re.findall(r"its clock is (\S+) s ahead, to within (\S+) s", test.log())
    rows, served = load_samples(tmp_path / "master/raw.npz").rows, np.sort(test.served)
    slack = float(error) + 5e-3  # wall clocks are set while a test runs
    first = np.searchsorted(served, rows["due"] - slack)
    last = np.searchsorted(served, rows["due"] + rows["latency"] + slack)
    assert float(ahead) == pytest.approx(AHEAD, abs=float(error))
    assert (first < last).all()
    assert 2 * CALLS <= len(rows) == len(served)


@pytest.mark.long
@pytest.mark.parametrize("alone", [True, False], ids=["one process", "two workers"])
def test_the_samples_are_what_the_server_did(alone: bool, tmp_path: Path) -> None:
    """Every fifth call fails, and every third takes a tenth of a second."""
    turns, did = itertools.count(), Counter[str]()

    def answer(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        turn = next(turns)
        slow, fails = turn % 3 == 0, turn % 5 == 0
        did["slow"] += slow
        did["INTERNAL" if fails else "OK"] += 1
        time.sleep(0.1 * slow)
        if fails:
            context.abort(grpc.StatusCode.INTERNAL, "a fault")
        return zeros(request, context)

    with machines(tmp_path, answer, alone) as test:
        assert test.end() == 1, test.log()  # Locust's code where calls failed
    rows = load_samples(tmp_path / "master/raw.npz").rows
    assert Counter(STATUSES[each] for each in rows["status"]) == {name: did[name] for name in ("OK", "INTERNAL")}
    assert (rows["latency"] > 0.1).sum() >= did["slow"]


@pytest.mark.long
@pytest.mark.parametrize(("end", "said"), [(signal.SIGKILL, "setting state to missing"), (signal.SIGTERM, " quit. ")])
def test_a_worker_that_ends_too_early_is_named_and_the_run_fails(end: int, said: str, tmp_path: Path) -> None:
    with machines(tmp_path) as test:
        lost, other = test.workers
        lost.send_signal(end)
        lost.wait()
        dead = time.time()
        until(lambda: said in test.log())
        assert test.end() == 2
        assert other.wait(60) == 0, test.log("b")
    assert len(re.findall(r"ERROR.* worker \S+ was lost: its calls of the last \S+ s are missing", test.log())) == 1
    later = load_samples(tmp_path / "master/raw.npz").rows["due"] > dead
    assert later.any()
    assert (np.array(test.served) > dead).sum() == later.sum()
