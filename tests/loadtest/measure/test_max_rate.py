"""The search for the highest rate against a real server whose highest rate is known by construction."""

import signal
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from loadtest.measure.measurement import Search
from loadtest.measure.rate_search import Found, Objective, Trial
from loadtest.report.terminal import searches_table
from loadtest.users.recorder import load_samples
from protos.v1 import inference_pb2 as pb
from tests.support.loadtest.cells import results
from tests.support.loadtest.foreign import MODEL, Answer, foreign, zeros
from tests.support.loadtest.runs import loadtest, results_of
from tests.support.processes import finished, python, started

SERVICE_SECONDS = 0.002
MOST_RPS = 1 / SERVICE_SECONDS
"""Requests per second of one worker at most: a sleep is never shorter than it was asked to be."""

LIMIT_MS = 200.0
"""Reached within any trial that has half as many requests again as can be served, and by no hiccup of a machine."""

QUICK = """
import sys
from loadtest.__main__ import main
from loadtest.measure import max_rate, rate_search
from protos.support import significance
significance.CONFIDENCE = 0.8
rate_search.MOST_TRIALS, rate_search.WIDTH, max_rate.START = 6, 1.5, 0.7
sys.exit(main(sys.argv[1:]))
"""
"""A coarse search, of few trials with half the samples."""


def one_worker() -> Answer:
    """Answers one request after the other, each in `SERVICE_SECONDS`: an M/D/1 queue."""
    turn = threading.Lock()

    def answer(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        with turn:
            time.sleep(SERVICE_SECONDS)
        return zeros(request, context)

    return answer


def command(address: str, out: Path, *more: str) -> list[str]:
    target = ("--target", address, "--model", MODEL, "--out", str(out), "--repository", str(out), "--find-max-rate")
    short = (
        "--duration",
        "0.5",
        "--warmup",
        "0.1",
        "--ceiling",
        "0",
        "--error-rate",
        "1%",
        "--connections",
        "4",
        "--second-opinion",
        "0",
    )
    return python(QUICK, "run", *target, *short, *more)


def search(address: str, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return finished(command(address, out, *more))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    out = tmp_path_factory.mktemp("searches") / "run"
    with foreign(("1",), one_worker()) as server:
        return search(server.address, out, "--p99", f"{LIMIT_MS}ms"), out


@pytest.fixture(scope="module")
def found(done: tuple[subprocess.CompletedProcess[str], Path]) -> dict[str, Any]:
    process, out = done
    assert process.returncode == 0, process.stderr
    (each,) = results_of(out)["searches"]
    assert (each["variant"], each["objective"]) == ("1", {"p99_ms": LIMIT_MS, "error_rate": 0.01})
    result: dict[str, Any] = each["found"]
    return result


def test_the_rate_found_is_one_that_the_server_can_serve(found: dict[str, Any]) -> None:
    low, high = found["interval"]
    assert 0 < found["held"] <= low < found["crossing"] < high
    assert low < 1.5 * MOST_RPS  # a busy machine serves less, and none so much for longer than a trial


def test_beyond_that_rate_the_objective_breaks_by_its_p99(found: dict[str, Any]) -> None:
    over = [trial for trial in found["trials"] if trial["rate"] > 1.5 * MOST_RPS]
    assert all(
        trial["ended_early"] or (trial["p99_ms"] or 0) > LIMIT_MS or trial["achieved"] < 0.98 * trial["rate"]
        for trial in over
    )
    assert found["bounded_by"] in ("p99", "generator")


def test_each_trial_is_in_the_results_and_its_calls_in_a_file(
    done: tuple[subprocess.CompletedProcess[str], Path], found: dict[str, Any]
) -> None:
    samples = load_samples(done[1] / "trials.npz")
    assert samples.variants == ("1",)
    assert set(samples.loads) == {f"server-{trial['rate']:g}" for trial in found["trials"]}
    assert set(samples.rows["round"]) == set(range(1, len(found["trials"]) + 1))


def test_a_search_says_what_it_tries_and_what_it_found(
    done: tuple[subprocess.CompletedProcess[str], Path], found: dict[str, Any]
) -> None:
    process, _ = done
    begun, ended = (
        [line for line in process.stderr.splitlines() if line.startswith(f"[1/1] 1: {words}")]
        for words in ("next, trial", "trial")
    )
    assert len(begun) == len(ended) == len(found["trials"])
    assert begun[0].endswith("so far nothing is known")
    first = found["trials"][0]
    assert ended[0].startswith(f"[1/1] 1: trial 1, {first['rate']:.4g} per second: ")
    assert f"of {first['calls']} calls failed" in ended[0]
    said = " ".join(process.stdout.split())
    assert "highest rate with p99 within 200 ms, failures 1%" in said
    assert f"{found['held']:,.1f}" in said
    assert " Highest rate: 1: half of the trials hold at " in said


def test_no_other_load_is_measured_unless_asked_for(done: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    assert results_of(done[1])["cells"] == []
    assert (done[1] / "report.html").is_file()


def test_what_no_rate_can_hold_is_not_searched(tmp_path: Path) -> None:
    slow = one_worker()

    def answer(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        if request.model_version == "broken":
            context.abort(grpc.StatusCode.INTERNAL, "broken")
        return slow(request, context)

    with foreign(("slow", "broken"), answer) as server:
        process = search(server.address, tmp_path / "run", "--p99", "1ms")
    assert process.returncode == 0, process.stderr
    searches = results_of(tmp_path / "run")["searches"]
    assert [(each["variant"], each["found"]["held"], each["found"]["bounded_by"]) for each in searches] == [
        ("slow", None, "p99"),
        ("broken", None, "errors"),
    ]
    assert [each["found"]["trials"] for each in searches] == [[], []]
    said = [{(failure["status"], failure["text"]) for failure in each["failure_texts"]} for each in searches]
    assert said == [set(), {("INTERNAL", "broken")}]
    assert process.stdout.count("none") == 2  # no rate was tried


def test_a_search_that_was_interrupted_goes_on_where_it_was(tmp_path: Path) -> None:
    out, goal = tmp_path / "run", ("--p99", f"{LIMIT_MS}ms")
    with foreign(("1",), one_worker()) as server:
        with started(command(server.address, out, *goal)) as first:
            assert first.stderr is not None
            said = next(line for line in first.stderr if ": next, trial 3," in line)
            first.send_signal(signal.SIGINT)
            assert f"keeps what was measured, {2 + 2} parts" in first.stderr.read()
        assert first.returncode == 130
        again = search(server.address, out, *goal)
    assert again.returncode == 0, again.stderr
    trials = [line for line in again.stderr.splitlines() if ": next, trial" in line]
    assert trials[0] == said.rstrip()
    (each,) = results_of(out)["searches"]
    assert len(each["found"]["trials"]) == 2 + len(trials)
    assert not out.with_name("run.partial").exists()


@pytest.mark.parametrize(
    ("found", "row"),
    [
        (Found(90.0, 105.25, (100.0, 110.0), "p99", ()), ["a", "90.0", "105.2", "100.0 to 110.0", "p99", "0"]),
        (
            Found(90.0, 105.0, (100.0, 110.0), "p99", (Trial(80.0, 80.0, 1000, 0, 30.0, False),)),
            ["a", "90.0", "105.0", "100.0 to 110.0", "p99", "1, of which 1 contradicts"],
        ),
        (Found(12345.0, None, None, "generator", ()), ["a", "12,345.0", "n/a", "n/a", "the load generator", "0"]),
        (Found(None, None, None, "too few samples", ()), ["a", "none", "n/a", "n/a", "too few samples", "0"]),
    ],
)
def test_the_table_says_what_was_found(found: Found, row: list[str]) -> None:
    run = replace(results(), searches=(Search("a", Objective(20.0), found),))
    assert [str(cell) for column in searches_table(run, 140).columns for cell in column.cells] == row


def test_a_search_without_its_objective_is_one_line() -> None:
    given = ("--target", "127.0.0.1:1", "--model", "m", "--out", "nowhere", "--find-max-rate")
    process = loadtest("run", *given)
    assert process.returncode == 2
    assert process.stderr == (
        "pareto-loadtest: --find-max-rate: got no --p99, expected the p99 that must hold, such as --p99 20ms\n"
    )
