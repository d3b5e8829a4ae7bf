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
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from functools import partial

import gevent
from gevent import monkey

from loadtest.client.payloads import Payload
from loadtest.generator.opinion import WithoutGenerator, cycle, extrapolate
from loadtest.measure.block import RunContext
from loadtest.measure.measurement import Measurement, steady
from loadtest.plan import Block
from protos.v1 import inference_pb2 as pb

TURNS = 8
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


def measure(context: RunContext, block: Block, seconds: float, rps: float | None = None) -> WithoutGenerator | None:
    """Measures a block `TURNS` times with each of `SHARES`, `seconds` with each, warm-ups apart.

    The bounds are those of `rps`, the throughput to show beside them; without it, of what is measured here. Returns
    None where a call fails, or the fit says nothing.
    """
    context = replace(context, plan=replace(context.plan, duration=seconds / TURNS, warmup=WARMUP_SECONDS))
    taken, users = {share: list[Measurement]() for share in SHARES}, context.plan.users_of(block.load)
    for turn in range(TURNS):
        for share in SHARES if turn % 2 == 0 else reversed(SHARES):  # what drifts meets all shares alike
            with costly(context, block, share * _cost(taken[0.0]) if share else 0.0) as heavier:
                measured = heavier.measure(block)
            if measured.answered > 2 * users:  # else there is no request after the next
                taken[share].append(measured)
            if measured.failures or not taken[0.0]:
                return None
    costs = [_cost(each) for each in taken.values() for _ in each]  # one for each of `paces`
    paces = [cycle(steady(each.samples.rows)["due"], users) for part in taken.values() for each in part]
    if not all(taken.values()) or (bounds := extrapolate(costs, paces)) is None:
        return None
    raw = rps or sum(each.answered for each in taken[0.0]) / sum(each.seconds for each in taken[0.0])
    typical = raw * statistics.median(paces[: len(taken[0.0])])
    return WithoutGenerator(raw, costs[0] * 1e6, typical / bounds[1], typical / bounds[0] if bounds[0] > 0 else None)


def _cost(taken: Sequence[Measurement]) -> float:
    """Returns the load generator's CPU time for each answer, in seconds: one for all turns.

    A neighbour slows down both it and the answers, which a line through single turns would take for its own effect.
    """
    return statistics.median(each.process_seconds / each.answered for each in taken)


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
