"""An answer that costs the load generator more, in a process of its own: users patch the standard library."""

import json

from tests.support.loadtest.foreign import MODEL, foreign
from tests.support.processes import finished, python

EXTRA = 0.005
SCRIPT = """
from loadtest.measure.block import RunContext
import json, sys, time
from pathlib import Path
from loadtest.client.credentials import PLAIN
from loadtest.client.discovery import discover
from loadtest.client.payloads import make_inputs, make_payloads
from loadtest.generator import generator_share
from loadtest.plan import Block, Load, Plan

plan = Plan(target=sys.argv[1], model=sys.argv[2], out=Path("x"), users=(1, 4), duration=0.3, warmup=0.05)
found = discover(plan, time.sleep)
(name, served), = found.by_name.items()
payloads = make_payloads(plan.model, name, served.metadata, make_inputs(plan.model, served.metadata, Path("x"), 0))
context = RunContext(plan, found.by_name, {(name, 1): payloads}, time.perf_counter(), time.sleep, PLAIN)
for load in plan.loads:
    for extra in (0.0, float(sys.argv[3])):
        with generator_share.costly(context, Block(name, load, 0), extra) as costly:
            taken = costly.measure(Block(name, load, 0))
        assert taken.answered and not taken.failures
        print(json.dumps([each / taken.answered for each in (taken.thread_seconds, taken.process_seconds)]))
"""


def test_a_costly_answer_takes_the_users_thread_of_one_user_and_another_thread_of_several() -> None:
    with foreign(("1",)) as server:
        done = finished(python(SCRIPT, server.address, MODEL, str(EXTRA)))
    assert done.returncode == 0, done.stderr
    one, costly_one, four, costly_four = (json.loads(line) for line in done.stdout.splitlines())
    assert costly_one[0] > EXTRA * 0.9 > 2 * one[0]  # the last answer's may lie outside the window
    beside, beside_costly = four[1] - four[0], costly_four[1] - costly_four[0]
    assert beside_costly > beside + 1e-4  # as much as there was to have: the debt grows faster than a core can pay
    assert costly_four[0] < EXTRA / 2
