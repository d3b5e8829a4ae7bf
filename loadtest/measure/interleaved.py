"""The measurement of a plan's loads, finely interleaved: a round is one short slice of each variant in random order.

Drift, neighbours and the CPU's clock change over seconds; within a round they are nearly the same for all variants and
cancel in their ratios. Rounds come in stretches of `STRETCH_SECONDS`, under each load in turn. A stretch is what the
checkpoint keeps, and between two of them the noise probe runs and the server's metrics page is read.

An open loop's queue grows for longer than a slice: after the slices each variant gets one unbroken block of
`--sustained` seconds under each of these loads, round 0, from which its percentiles are made.
"""

from loadtest.users.slices import ClosedTurn, OpenTurn, StandingUsers, Turn, standing_users  # before all else

# isort: split
import math
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from loadtest.client.failures import Failure, merge
from loadtest.client.metrics_page import Deltas, Page, cpu_seconds, deltas, read_pages
from loadtest.measure import host
from loadtest.measure.block import RunContext, clocks
from loadtest.measure.checkpoint import Checkpoint
from loadtest.measure.measurement import Interleaved, MeasuredStretch, Measurement, Stop, steady_latencies
from loadtest.measure.noise_probe import NoiseProbe
from loadtest.plan import Block, Load, Plan, order
from loadtest.progress import Progress
from loadtest.users.arrivals import poisson
from loadtest.users.recorder import SAMPLE, SLICE, STEADY, Recorder, Rows, Samples, join

STRETCH_SECONDS = 5.0
"""A stretch ends with the first round that ends after this time."""

NEVER = np.zeros(0)

Look = Callable[[Load, Interleaved], Sequence[Stop]]
"""Returns the variants that need no more slices, by all that was measured under a load so far."""


@dataclass
class _LoadState:
    """How far one load is."""

    going: tuple[str, ...]
    stretches: list[MeasuredStretch] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)

    @property
    def rounds(self) -> int:
        """Returns the last round that was measured."""
        return self.stretches[-1].last_round if self.stretches else 0

    @property
    def measured(self) -> Interleaved:
        """Returns all slices so far."""
        samples = join([each.samples for each in self.stretches])
        return Interleaved(tuple(self.stretches), (), tuple(self.stops), samples)

    def stop(self, stops: Sequence[Stop]) -> None:
        """Takes variants out."""
        self.stops += stops
        gone = {stop.variant for stop in stops}
        self.going = tuple(name for name in self.going if name not in gone)


def measure_loads(context: RunContext, checkpoint: Checkpoint, console: Console, look: Look) -> Interleaved:
    """Measures all loads of the plan, those parts excepted that the checkpoint has."""
    plan, variants = context.plan, tuple(context.variants)
    states = {load: _LoadState(variants) for load in plan.loads}
    if not states:
        return Interleaved((), (), (), Samples(np.zeros(0, SAMPLE), variants))
    with Progress(console, plan, variants) as progress:
        with _Slices.standing(context) as slices:
            while going := [load for load in states if states[load].going and states[load].rounds < plan.rounds]:
                for load in going:
                    _next_stretch(slices, checkpoint, load, states[load], progress, look)
        blocks = [_sustained(context, checkpoint, progress, block) for block in _blocks(plan, states)]
    stretches = tuple(stretch for state in states.values() for stretch in state.stretches)
    stops = tuple(stop for state in states.values() for stop in state.stops)
    samples = join([*(each.samples for each in stretches), *(each.samples for each in blocks)])
    return Interleaved(stretches, tuple(blocks), stops, samples)


def _next_stretch(
    slices: "_Slices", checkpoint: Checkpoint, load: Load, state: _LoadState, progress: Progress, look: Look
) -> None:
    number = len(state.stretches) + 1
    name = f"{load.key}-{number}"
    stretch = checkpoint.read_stretch(name)
    if stretch is None:
        stretch = slices.stretch(load, number, state.rounds + 1, state.going, progress)
        checkpoint.keep(name, stretch)
    state.stretches.append(stretch)
    stops = look(load, state.measured)
    state.stop(stops)
    progress.stretch_ends(load, state.rounds, len(state.going), stops, _fastest(stretch.samples))


def _fastest(samples: Samples) -> str:
    """Names the variant with the lowest p50 of all in a stretch."""
    rows = (samples.rows[samples.rows["variant"] == number] for number in range(len(samples.variants)))
    known = zip(samples.variants, map(steady_latencies, rows), strict=True)
    p50 = {name: float(np.median(latencies)) for name, latencies in known if len(latencies)}
    best = min(p50, key=p50.__getitem__, default=None)
    return f"{best} fastest, p50 {1e3 * p50[best]:.2f} ms" if best else "no call was answered"


def _blocks(plan: Plan, states: Mapping[Load, _LoadState]) -> Iterator[Block]:
    """Yields the unbroken blocks: of each open load, for each variant that was not stopped under it."""
    for load, state in states.items():
        if load.scenario == "server" and plan.sustained:
            yield from (Block(name, load, 0) for name in state.going)


def _sustained(context: RunContext, checkpoint: Checkpoint, progress: Progress, block: Block) -> Measurement:
    name = f"sustained-{block.load.key}-{tuple(context.variants).index(block.variant)}"
    kept = checkpoint.read(name, block)
    if kept is None:
        progress.block_begins(block)
        kept = replace(context, plan=replace(context.plan, duration=context.plan.sustained)).measure(block)
        kept = replace(kept, samples=replace(kept.samples, slices=_as_slice(kept)))
        checkpoint.keep(name, kept)
    return kept


def _as_slice(measured: Measurement) -> Rows:
    """Returns the steady state of a block as its one slice."""
    rows = measured.samples.rows
    calls = int((rows["phase"] == STEADY).sum())
    server = measured.server.cpu_seconds if measured.server else None
    row = np.zeros(1, SLICE)
    row["variant"] = measured.samples.variants.index(measured.block.variant)
    row["load"] = measured.samples.loads.index(measured.block.load.key)
    row["begun"] = rows["due"].min() if len(rows) else 0.0
    row["seconds"] = row["whole"] = measured.seconds
    row["answered"], row["calls"] = measured.answered, calls
    row["thread"], row["process"] = measured.thread_seconds, measured.process_seconds
    row["server"] = math.nan if server is None else server * calls / max(1, len(rows))
    return row


@dataclass
class _Slices:
    """Measures stretches of slices with users that stand by."""

    context: RunContext
    users: StandingUsers
    recorder: Recorder
    probe: NoiseProbe = field(default_factory=NoiseProbe)
    warm: set[tuple[str, Load]] = field(default_factory=set)
    pages: dict[str, Page | None] = field(default_factory=dict)
    """The metrics pages as they were last read; nobody sends anything between two stretches."""
    _cpu: dict[str | None, float] = field(default_factory=dict)
    """The CPU time of the server that was asked last, after its slice: it rests until the next."""

    @classmethod
    @contextmanager
    def standing(cls, context: RunContext) -> Iterator["_Slices"]:
        """Yields one whose users stand by as long as the `with` block runs."""
        plan, recorder = context.plan, Recorder()
        hosts = {name: served.target.address for name, served in context.variants.items()}
        rows = {plan.rows_of(load) for load in plan.loads}
        payloads = {name: {each: context.payloads[name, each] for each in rows} for name in hosts}
        with standing_users(
            hosts,
            payloads,
            max(map(plan.users_of, plan.loads), default=0),
            recorder.on_request,
            context.sleep,
            deadline=plan.deadline,
            transport=plan.transport,
            credentials=context.credentials,
        ) as users:
            yield cls(context, users, recorder)

    def stretch(
        self, load: Load, number: int, first: int, variants: Sequence[str], progress: Progress
    ) -> MeasuredStretch:
        """Measures rounds from `first` on, for `STRETCH_SECONDS` or until the last round."""
        plan, begun, idle = self.context.plan, time.perf_counter(), host.read()
        self.pages, self._cpu = self.pages or self._read_pages(), {}
        parts = list[Samples]()
        lags = {variant: list[float]() for variant in variants}
        failures = {variant: list[Failure]() for variant in variants}
        for round_ in range(first, plan.rounds + 1):
            progress.round_begins(load, round_, len(variants))
            for variant in order(plan, load, round_, variants):
                parts += self._slices(variant, load, round_, lags[variant], failures[variant])
            last = round_
            if time.perf_counter() - begun > STRETCH_SECONDS:
                break
        before, self.pages = self.pages, self._read_pages()
        done = host.read()
        return MeasuredStretch(
            load=load,
            number=number,
            first_round=first,
            last_round=last,
            begun=begun - self.context.origin,
            conditions=host.between(idle, done, self._server_seconds(parts)),
            probe_seconds=self.probe.measure(),
            server=self._moved(before),
            lag_seconds={variant: tuple(each) for variant, each in lags.items()},
            failures={variant: merge(said) for variant, said in failures.items() if said},
            samples=join(parts),
        )

    def _slices(
        self, variant: str, load: Load, round_: int, lags: list[float], failures: list[Failure]
    ) -> Iterator[Samples]:
        """Yields a slice of a variant, after its warm-up where that is its first under this load."""
        plan = self.context.plan
        if (variant, load) not in self.warm and plan.warmup:
            times = poisson(load.level, plan.warmup, np.random.default_rng()) if load.scenario == "server" else NEVER
            yield self._slice(Block(variant, load, round_), self._turn(load, plan.warmup, times), failures).as_warmup()
        self.warm.add((variant, load))
        ticks, turn = len(self.users.lags), self._turn(load, plan.slice, _arrivals(plan, variant, load, round_))
        yield self._slice(Block(variant, load, round_), turn, failures)
        lags += self.users.lags[ticks:]

    def _turn(self, load: Load, seconds: float, times: NDArray[np.float64]) -> Turn:
        users, rows = self.context.plan.users_of(load), self.context.plan.rows_of(load)
        if load.scenario == "server":
            return OpenTurn(users, rows, seconds, times.tolist())
        return ClosedTurn(users, rows, seconds)

    def _slice(self, block: Block, turn: Turn, failures: list[Failure]) -> Samples:
        """Lets a variant's users work; returns their calls and the slice."""
        url = self.context.variants[block.variant].metrics_url
        server, opened = self._cpu.pop(url, None) or cpu_seconds(url), clocks()
        self.users.take(block.variant, turn)
        whole, thread, process = (end - start for start, end in zip(opened, clocks(), strict=True))
        self._cpu = {url: cpu_seconds(url)}
        names, keys = tuple(self.context.variants), tuple(each.key for each in self.context.plan.loads)
        samples = self.recorder.samples(self.context.origin, (0.0, 0.0), block, names, keys)
        failures += self.recorder.failures
        self.recorder.clear()
        where = names.index(block.variant), keys.index(block.load.key), block.round, opened[0] - self.context.origin
        row = (*where, turn.seconds, turn.answered, whole, len(samples.rows), thread, process, self._cpu[url] - server)
        return replace(samples, slices=np.array([row], SLICE))

    def _read_pages(self) -> dict[str, Page | None]:
        return read_pages(each.metrics_url for each in self.context.variants.values())

    def _moved(self, before: Mapping[str, Page | None]) -> dict[str, Deltas]:
        """Returns what the servers did for each variant between these pages and the last ones."""
        moved = dict[str, Deltas]()
        for name, served in self.context.variants.items():
            then, now = (pages.get(served.metrics_url or "") for pages in (before, self.pages))
            if then and now:
                moved[name] = deltas(then, now, self.context.plan.model, served.variant)
        return moved

    def _server_seconds(self, parts: list[Samples]) -> float | None:
        """Returns the CPU time of the server on this machine in these slices; None where it does not say."""
        if not self.context.plan.on_one_machine:
            return 0.0
        total = float(sum(part.slices["server"].sum() for part in parts))
        return None if np.isnan(total) else total


def _arrivals(plan: Plan, variant: str, load: Load, round_: int) -> NDArray[np.float64]:
    """Returns when the requests of a slice are due: its part of one Poisson process over the whole duration."""
    if load.scenario != "server":
        return NEVER
    random = np.random.default_rng([plan.seed, zlib.crc32(f"{variant} {load.key}".encode())])
    times = poisson(load.level, plan.rounds * plan.slice, random) - (round_ - 1) * plan.slice
    return np.compress((times >= 0) & (times < plan.slice), times)
