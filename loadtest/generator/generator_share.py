"""What the server gives if the load generator takes nothing: extrapolated from what it gives when that takes more.

On one machine the two share the cores. So each answer is made to cost the load generator half as much CPU time again
and twice as much, in turns, and the seconds for each answer are fitted by a line over the CPU time that the generator
was measured to take for it. Where that is zero the line says what the server alone would do. It is flat where cores are
idle.

With one user the generator's work and the server's follow each other, so more of it is done on the users' thread. With
several they overlap, and there more work would make the users wait for each other, which no share of the machine does:
a thread beside them does it then, outside the interpreter's lock, and only competes for cores.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from functools import partial

import gevent
from gevent import monkey

from loadtest.client.payloads import Payload
from loadtest.generator.opinion import WithoutGenerator, extrapolate
from loadtest.measure.block import RunContext
from loadtest.measure.measurement import Measurement
from loadtest.plan import Block
from protos.v1 import inference_pb2 as pb

TURNS = 4
SHARES = (0.0, 0.5, 1.0)
"""CPU time added to each answer, in terms of what it costs the load generator anyway."""
WARMUP_SECONDS = 0.1

IDLE_SECONDS = 0.0005
CHUNK = 200
"""Iterations of PBKDF2 in a piece of the work beside the users: about a tenth of a millisecond."""


@dataclass(frozen=True, kw_only=True)
class _Costly(Payload):
    """A payload whose answer costs the load generator more."""

    spend: Callable[[], None]

    def fault(self, response: pb.ModelInferResponse) -> str | None:
        """Spends what an answer costs, and returns what is wrong with it, or None."""
        self.spend()
        return super().fault(response)


class _Beside:
    """Spends CPU time on a thread of its own, which asks for the interpreter's lock ten thousand times a second."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._owed, self._done = seconds, 0.0, False

    def __enter__(self) -> Callable[[], None]:
        self._work = gevent.get_hub().threadpool.spawn(self._spend)
        return self._owe

    def __exit__(self, *_: object) -> None:
        self._done = True
        self._work.get()

    def _owe(self) -> None:
        self._owed += self._seconds

    def _spend(self) -> None:
        sleep: Callable[[float], None] = monkey.get_original("time", "sleep")
        begun = time.thread_time()
        while not self._done:
            if time.thread_time() - begun < self._owed:
                hashlib.pbkdf2_hmac("sha256", b"", b"", CHUNK)
            else:
                sleep(IDLE_SECONDS)


def measure(context: RunContext, block: Block, seconds: float) -> WithoutGenerator | None:
    """Measures a block `TURNS` times with each of `SHARES`, `seconds` with each, warm-ups apart.

    Returns None where a call fails, or the fit says nothing.
    """
    plan, taken = replace(context.plan, duration=seconds / TURNS, warmup=WARMUP_SECONDS), list[Measurement]()
    raw = list[Measurement]()
    for turn in range(TURNS):
        for share in SHARES if turn % 2 == 0 else reversed(SHARES):  # what drifts meets all shares alike
            with costly(replace(context, plan=plan), block, share * _cost(*raw)) as heavier:
                taken.append(heavier.measure(block))
            if taken[-1].failures or not taken[-1].answered:
                return None
            raw += [] if share else taken[-1:]
    bounds = extrapolate([_cost(each) for each in taken], [each.seconds / each.answered for each in taken])
    rps = sum(each.answered for each in raw) / sum(each.seconds for each in raw)
    return WithoutGenerator(rps, _cost(*raw) * 1e6, *bounds) if bounds else None


def _cost(*taken: Measurement) -> float:
    """Returns the load generator's CPU time for each answer in seconds; 0 before anything was measured."""
    return sum(each.process_seconds for each in taken) / max(1, sum(each.answered for each in taken))


@contextmanager
def costly(context: RunContext, block: Block, seconds: float) -> Iterator[RunContext]:
    """Yields a context in which each answer costs the load generator so many `seconds` of CPU time more."""
    alone = context.plan.users_of(block.load) == 1 or not seconds
    with nullcontext(partial(_spend_here, seconds)) if alone else _Beside(seconds) as spend:
        payloads = {key: [_costlier(each, spend) for each in payloads] for key, payloads in context.payloads.items()}
        yield replace(context, payloads=payloads)


def _costlier(payload: Payload, spend: Callable[[], None]) -> Payload:
    return _Costly(**{each.name: getattr(payload, each.name) for each in fields(payload)}, spend=spend)


def _spend_here(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
