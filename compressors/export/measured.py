"""Which layers stay in FP32 because their int8 form is slower here: what `StaticInt8.exclude = "measured"` does.

A layer's int8 form costs more than its kernel: its input is quantized and its output dequantized, unless the layers
beside it are int8, too. So whole networks are timed, never a layer alone: by the adapter that will serve them, batch 1,
one thread, in rounds that go over all of them in a new order each time. What slows a round down, such as another
export on the next core, slows down both sides of a difference.

1. *Alone*: everything in int8 against the same but one layer, for each layer from both ends of the network inwards,
   and but the first two and three.
2. *Together*: what gained goes to FP32 one after another, most first, each against what was kept before; beside a layer
   that was kept, its neighbours are tried, too; the first two and three come last, for what they gain only together.
3. *The whole*: everything in int8 against the same but what was kept.

The rule: a gain of 2 or 3 counts where the lower end of the 95% interval of its median over fresh rounds is above
`MARGIN` of the time, and so is its median in each of `LOADS` loads of both sides, in which either is loaded first in
turns: of two copies of one ResNet18 the one that was loaded first was up to 2.7% slower, whatever its place in a round.
What noise may explain, and what the time does not suffice for, stays in int8.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compressors.export.exporters import FEW, Job
from compressors.export.lowerings import StaticInt8
from compressors.export.unpublished import unpublished
from compressors.measure import latency
from compressors.networks.layers import INPUT, weights
from compressors.progress import say
from protos.manifest import RuntimeName
from protos.support.significance import median_interval
from server import runtimes

SECONDS = 60.0
"""What one export may take for it, with the artifacts that are made to be timed; what is begun is finished."""
ALONE = 0.6
"""The share of the time after which no further layer is tried alone."""
MARGIN = 0.02
"""The share of the time that must be gained."""
ROUNDS_ALONE, ROUNDS, LOADS = 12, 32, 4
"""Rounds to see what may gain; rounds that decide, shared by so many loads."""
BLOCK_SECONDS, BLOCK_CALLS = 0.02, 50
"""Calls of one network in one round: as many as fit in this time, from 1 to so many."""
TOGETHER = 8
"""How many are timed against one in the same rounds, and are in memory at once."""
CALIBRATION_ROWS = 4
"""Enough to make an artifact that is only timed: ranges do not change speed."""

Layers = tuple[str, ...]
Write = Callable[[Layers, Path], None]
"""Writes the artifact, in int8 but for these layers, into a folder."""


@dataclass(frozen=True)
class Choice:
    """The layers that stay in FP32, the step's own `float_layers` among them, and the note on those that were found."""

    layers: Layers
    notes: tuple[str, ...] = ()


def choose(job: Job, runtime: RuntimeName, entry: str, layers: Sequence[str], write: Write) -> Choice:
    """Returns which of `layers`, in the network's order, stay in FP32; without `exclude`, those of the step.

    `write` makes artifacts to be timed, `entry` is their file that the runtime opens. Raises what making or loading
    them raises.
    """
    step = job.lowering
    assert isinstance(step, StaticInt8)
    if not step.exclude:
        return Choice(step.float_layers)
    tried = [layer for layer in layers if layer not in step.float_layers]
    with _one_thread(), tempfile.TemporaryDirectory(prefix="pareto-") as folder:
        search = _Search(_Networks(job, runtime, entry, step.float_layers, write, Path(folder)), tried)
        choice = search.choice()
    say(f"{runtime}: {choice.notes[0]}")
    return replace(choice, layers=(*step.float_layers, *choice.layers))


def modules_with_weights(network: nn.Module) -> list[str]:
    """Returns the paths of the modules that become int8 as a whole, in the order of the network's definition."""
    modules = dict(network.named_modules())
    return [name for name in weights(network) if name in modules]


def to_be_timed(job: Job, layers: Layers, folder: Path) -> Job:
    """Returns the job of an artifact that is only timed, with `layers` in FP32, in `folder`."""
    assert isinstance(job.lowering, StaticInt8)
    assert job.calibration is not None
    step = replace(job.lowering, exclude="", float_layers=layers)
    return replace(job, lowering=step, calibration=job.calibration[:CALIBRATION_ROWS], folder=folder)


class _Networks:
    """The network in int8 but for some layers, made once for each choice of them and loaded again and again."""

    def __init__(self, job: Job, runtime: RuntimeName, entry: str, always: Layers, write: Write, folder: Path) -> None:
        self._variant = unpublished(job, runtime, entry)
        self._always, self._write, self._folder = always, write, folder
        self._made: dict[Layers, Path] = {}
        self._inputs = {INPUT: job.example[:1].numpy()}
        self._order = np.random.default_rng(0)

    def seconds(self, choices: Sequence[Layers], rounds: int) -> dict[Layers, NDArray[np.float64]]:
        """Returns the least time of a call in each round, (rounds,), after loading all of them anew in this order."""
        paths = [self.make(choice) for choice in choices]
        with ExitStack() as stack:
            loaded = [runtimes.load(path, self._variant, latency.THREADS) for path in paths]
            for runtime in loaded:
                stack.enter_context(closing(runtime))
            first = [latency.warm_up(runtime, self._inputs) for runtime in loaded]
            calls = [int(np.clip(BLOCK_SECONDS / seconds, 1, BLOCK_CALLS)) for seconds in first]
            found = np.zeros((1 + rounds, len(choices)))  # the first round is still warming up
            for row in found:
                for i in self._order.permutation(len(choices)):
                    row[i] = np.min(latency.block(loaded[i], self._inputs, calls[i]))
        return dict(zip(choices, found[1:].T, strict=True))

    def make(self, choice: Layers) -> Path:
        """Returns the folder of the artifact with these layers in FP32, made when it is first asked for."""
        if choice not in self._made:
            path = self._folder / str(len(self._made))
            path.mkdir()
            self._write((*self._always, *choice), path)
            self._made[choice] = path
        return self._made[choice]


class _Search:
    """The search for the layers that gain by FP32."""

    def __init__(self, networks: _Networks, layers: Sequence[str]) -> None:
        self._networks, self._layers = networks, layers
        self._started = time.monotonic()
        self._before = 0.0
        """Seconds of a call with everything in int8."""
        self._after = 0.0
        """Seconds of a call with those layers in FP32 that were found."""
        self._looked_at = 0

    def choice(self) -> Choice:
        """Returns the layers, of which there may be none, and the note that says so."""
        say(f"timing which of {len(self._layers)} layers are slower in int8: about {SECONDS:.0f} s at most")
        kept = self._together(self._alone())
        if kept and not self._gains((), kept):
            kept = ()
        return Choice(kept, (self._note(kept),))

    def _alone(self) -> list[Layers]:
        """Returns what gained by more than the margin, whether or not that is clear: single layers, the most first."""
        firsts = [tuple(self._layers[:count]) for count in (2, 3) if count <= len(self._layers)]
        last = len(self._layers) - 1
        inwards = sorted(range(last + 1), key=lambda place: min(place, last - place))  # ends gain most
        choices = [*firsts, *((self._layers[place],) for place in inwards)]
        gains: dict[Layers, float] = {}
        for start in range(0, len(choices), TOGETHER):
            few = list(self._made_in_time(choices[start : start + TOGETHER]))
            if not few:
                break
            seconds = self._networks.seconds([*few[: len(few) // 2], (), *few[len(few) // 2 :]], ROUNDS_ALONE)
            self._before = float(np.median(seconds[()]))
            gains |= {choice: float(np.median(seconds[()] - seconds[choice])) for choice in few}
        self._looked_at = sum(len(choice) == 1 for choice in gains)
        promising = [choice for choice, gain in gains.items() if gain > MARGIN * self._before]
        return sorted(promising, key=lambda choice: (len(choice), -gains[choice]))

    def _made_in_time(self, choices: Sequence[Layers]) -> Iterator[Layers]:
        for choice in choices:
            if self._spent() < ALONE * SECONDS:
                self._networks.make(choice)
                yield choice

    def _together(self, promising: list[Layers]) -> Layers:
        kept: Layers = ()
        tried: set[Layers] = {()}
        while promising and self._spent() < SECONDS:
            more = self._in_order({*kept, *promising.pop(0)})
            if more not in tried and self._gains(kept, more):
                promising = [*self._neighbours({*more} - {*kept}), *promising]
                kept = more
            tried.add(more)
        return kept

    def _gains(self, choice: Layers, more: Layers) -> bool:
        """Says whether `more` layers in FP32 than those of `choice` are faster, by the rule of this module."""
        sides = (choice, more)
        loads = [self._networks.seconds(sides[:: 1 if load % 2 else -1], ROUNDS // LOADS) for load in range(LOADS)]
        before, after = (np.array([seconds[side] for seconds in loads]) for side in sides)
        interval = median_interval((before - after).ravel())
        assert interval is not None
        least = min(interval[0], *np.median(before - after, axis=1))
        if not choice:
            self._before, self._after = float(np.median(before)), float(np.median(after))
        return bool(least > MARGIN * np.median(before))

    def _neighbours(self, added: set[str]) -> Iterator[Layers]:
        places = [self._layers.index(layer) for layer in added]
        for place in (max(places) + 1, min(places) - 1):
            if 0 <= place < len(self._layers):
                yield (self._layers[place],)

    def _in_order(self, layers: set[str]) -> Layers:
        return tuple(layer for layer in self._layers if layer in layers)

    def _spent(self) -> float:
        return time.monotonic() - self._started

    def _note(self, kept: Layers) -> str:
        over = "" if self._looked_at == len(self._layers) else ": its time was over"
        looked_at = f"{self._looked_at} of {len(self._layers)} layers timed{over}"
        if not kept:
            return f"no layer is clearly faster in FP32 here ({looked_at})"
        names = ", ".join(kept[:FEW]) + (f" and {len(kept) - FEW} more" if len(kept) > FEW else "")
        times = f"{_microseconds(self._after)} with, {_microseconds(self._before)} without"
        return f"{names} {'stays' if len(kept) == 1 else 'stay'} in FP32: {times} ({looked_at})"


def _microseconds(seconds: float) -> str:
    return f"{1e6 * seconds:,.0f} us"


@contextmanager
def _one_thread() -> Iterator[None]:
    """Gives torch one thread, as its adapters do for the whole process, and then its own number back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(latency.THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
