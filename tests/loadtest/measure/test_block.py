"""One block against a real server: a trial of a rate that the server cannot carry ends early."""

import json
import threading
import time
from typing import Any

import grpc
import pytest

from protos.v1 import inference_pb2 as pb
from tests.support.loadtest.foreign import MODEL, foreign, zeros
from tests.support.processes import finished, python

RATE, SECONDS = 2000.0, 10.0

TRIAL = """
import json, sys, time
from pathlib import Path
from loadtest.measure.block import RunContext
from loadtest.client.credentials import PLAIN
from loadtest.client.discovery import discover
from loadtest.client.payloads import make_inputs, make_payloads
from loadtest.measure.rate_search import Objective
from loadtest.plan import Block, Load, Plan
from loadtest.users.recorder import STEADY
address, model, rate, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
plan = Plan(target=address, model=model, out=Path("none"), rates=(rate,), duration=seconds, warmup=0.1)
found = discover(plan, time.sleep, PLAIN)
served = found.by_name["1"]
inputs = make_inputs(model, served.metadata, Path("none"), 0, 1, "tensor")
payloads = {("1", 1): make_payloads(model, "1", served.metadata, inputs, "1")}
context = RunContext(plan, found.by_name, payloads, 0.0, time.sleep, PLAIN)
measured = context.measure(Block("1", Load("server", rate), 1), Objective(100.0))
rows = measured.samples.rows
print(json.dumps({
    "seconds": measured.seconds, "due": measured.due, "calls": len(rows), "failed": int((rows["status"] != 0).sum()),
    "steady": int((rows["phase"] == STEADY).sum()), "slow": int((rows["latency"] > 0.1).sum()),
}))
"""


@pytest.fixture(scope="module")
def ended() -> tuple[dict[str, Any], int]:
    """What a trial at four times the rate that can be served measured, and how many requests the server got."""
    turn = threading.Lock()

    def answer(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        with turn:
            time.sleep(0.002)
        return zeros(request, context)

    with foreign(("1",), answer) as server:
        process = finished(python(TRIAL, server.address, MODEL, str(RATE), str(SECONDS)))
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout), len(server.requests)


def test_a_trial_ends_once_more_calls_are_late_than_may_be(ended: tuple[dict[str, Any], int]) -> None:
    measured, _ = ended
    assert measured["seconds"] < SECONDS / 2
    assert measured["slow"] > 0.011 * RATE * SECONDS


def test_what_was_due_after_the_early_end_counts_neither_as_due_nor_as_sent(
    ended: tuple[dict[str, Any], int],
) -> None:
    measured, _ = ended
    assert measured["steady"] <= measured["due"] < 1.2 * RATE * measured["seconds"]


def test_an_early_end_leaves_no_call_behind(ended: tuple[dict[str, Any], int]) -> None:
    measured, received = ended
    assert measured["calls"] == received  # each was answered, or the server would still hold it
    assert measured["failed"] == 0
