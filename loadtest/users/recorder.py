"""Raw samples: one row for each call, kept as it was measured.

`Recorder` listens to Locust's `request` event and appends to plain arrays, which costs about a microsecond a call.
When a block ends its rows are labelled: the first call of each user (which opens a connection), the warm-up, the
steady state, and what started after it. Results are made of steady rows only; the others are kept beside them.
"""

import io
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import IO, Any

import grpc
import numpy as np

from loadtest.client.failures import Failure, Tally
from loadtest.client.oip import WRONG_ANSWER, CallError
from loadtest.interrupt import Sleep
from loadtest.plan import Block, Load

STATUSES = (*(code.name for code in grpc.StatusCode), WRONG_ANSWER, "EXCEPTION")
"""Names of the values of `status`: gRPC's codes by number, then what only a client can see."""

FIRST, WARMUP, STEADY, AFTER = range(4)
PHASES = ("first", "warmup", "steady", "after")
"""Names of the values of `phase`."""

PHASE, LATE = "phase", "late"
"""Keys of the context with which a user fires a request event: the phase of the call, where the user knows it, and how
many seconds after it was due it was sent."""
FIRST_CALL, WARMUP_CALL, STEADY_CALL, AFTER_CALL = ({PHASE: phase} for phase in (FIRST, WARMUP, STEADY, AFTER))
_BY_WINDOW = 255
"""The phase of a call that its time will tell."""

POLL_SECONDS = 0.01

SAMPLE = np.dtype(
    [
        ("variant", "u2"),  # index into `Samples.variants`
        ("load", "u2"),  # index into `Samples.loads`
        ("round", "u2"),
        ("phase", "u1"),
        ("status", "u1"),
        ("due", "f8"),  # seconds since the run began; in a closed loop a request is due when it is sent
        ("late", "f8"),  # seconds from then until it was sent
        ("latency", "f8"),  # seconds from when it was due until its answer
    ]
)

SLICE = np.dtype(
    [
        ("variant", "u2"),  # index into `Samples.variants`
        ("load", "u2"),  # index into `Samples.loads`
        ("round", "u2"),  # from 1; 0 is the long block of an open loop
        ("begun", "f8"),  # seconds since the run began
        ("seconds", "f8"),  # of steady state, on average over the users
        ("answered", "u4"),  # successful answers to steady calls
        ("whole", "f8"),  # seconds from the first call to the last answer
        ("calls", "u4"),  # in these seconds, warm-up included
        ("thread", "f8"),  # CPU seconds of the thread that runs the users, in the whole slice
        ("process", "f8"),  # CPU seconds of the load generator's process
        ("server", "f8"),  # CPU seconds of the server's processes; nan where it does not say
    ]
)

Rows = np.ndarray[tuple[int], np.dtype[np.void]]


@dataclass(frozen=True)
class Samples:
    """Rows of dtype `SAMPLE` and slices of dtype `SLICE`, and the names behind their numbers of variants and loads."""

    rows: Rows
    variants: tuple[str, ...]
    loads: tuple[str, ...] = ()
    slices: Rows = field(default_factory=lambda: np.zeros(0, SLICE))

    def of(self, variant: str, load: Load, phase: int | None = None) -> Rows:
        """Returns the rows of one cell, in all phases or in one."""
        rows = self._of(self.rows, variant, load)
        return rows if phase is None else np.compress(rows["phase"] == phase, rows)

    def of_figures(self, variant: str, load: Load) -> Rows:
        """Returns the rows of which a cell's figures are made: those of its block without a break, or else all."""
        rows = self.of(variant, load)
        has_block = bool((self.slices_of_figures(variant, load)["round"] == 0).any())
        return np.compress(rows["round"] == 0, rows) if has_block else rows

    def slices_of_figures(self, variant: str, load: Load) -> Rows:
        """Returns the slices of the same: the block's one, or else all."""
        slices = self.slices_of(variant, load)
        block = np.compress(slices["round"] == 0, slices)
        return block if len(block) else slices

    def slices_of(self, variant: str, load: Load) -> Rows:
        """Returns the slices of one cell."""
        return self._of(self.slices, variant, load)

    def _of(self, rows: Rows, variant: str, load: Load) -> Rows:
        mine = (rows["variant"] == self.variants.index(variant)) & (rows["load"] == self.loads.index(load.key))
        return np.compress(mine, rows)

    def as_warmup(self) -> "Samples":
        """Returns the calls of a slice that only warms up: none is steady."""
        rows = self.rows.copy()
        rows["phase"][rows["phase"] == STEADY] = WARMUP
        return replace(self, rows=rows, slices=self.slices[:0])

    def to_bytes(self) -> bytes:
        """Returns the text of a file for `load_samples`, not compressed: that would keep a worker from its users."""
        np.savez(file := io.BytesIO(), allow_pickle=False, **self._arrays())
        return file.getvalue()

    def save(self, path: Path | IO[bytes]) -> None:
        """Writes an .npz that explains itself: rows and the names behind each number."""
        np.savez_compressed(path, allow_pickle=False, **self._arrays())

    def _arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        names = {"variants": self.variants, "loads": self.loads, "phases": PHASES, "statuses": STATUSES}
        return {"rows": self.rows, "slices": self.slices} | {name: np.array(texts) for name, texts in names.items()}


def load_samples(path: Path | io.BytesIO) -> Samples:
    """Reads what `Samples.save` or `Samples.to_bytes` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        variants, loads = (tuple(map(str, arrays[name])) for name in ("variants", "loads"))
        return Samples(arrays["rows"], variants, loads, arrays["slices"])


class Recorder:
    """The calls of one block, or of a test by hand."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._variant, self._phase, self._status = array("H"), array("B"), array("B")
        self._ended, self._latency, self._late = array("d"), array("d"), array("d")
        self._tally = Tally()
        self.first_calls = 0
        """Users that had an answer, or a failure, so far."""

    def __len__(self) -> int:
        return len(self._latency)

    def on_request(
        self,
        name: str,
        response_time: float,
        exception: BaseException | None = None,
        context: dict[str, Any] | None = None,
        **_: object,
    ) -> None:
        """Takes Locust's `request` event: `name` is the variant, `response_time` is in milliseconds."""
        self._ended.append(perf_counter())
        self._latency.append(response_time / 1000)
        self._late.append(context.get(LATE, 0.0) if context else 0.0)
        self._phase.append(context.get(PHASE, _BY_WINDOW) if context else _BY_WINDOW)
        self._variant.append(self._names.setdefault(name, len(self._names)))
        self._status.append(0 if exception is None else self._failed(exception))
        self.first_calls += context is FIRST_CALL

    def _failed(self, exception: BaseException) -> int:
        """Keeps what was said, and returns the number of the status."""
        status, text = "EXCEPTION", repr(exception)
        if isinstance(exception, CallError):
            status, text = exception.status, exception.details
        self._tally.add(status, text)
        return STATUSES.index(status)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Returns what was said of the calls that failed."""
        return self._tally.failures

    def clear(self) -> None:
        """Forgets the calls so far and what was said of them, but not how many first ones there were."""
        self._tally = Tally()
        for values in (self._variant, self._phase, self._status, self._ended, self._latency, self._late):
            del values[:]

    def wait_for_users(self, users: int, seconds: float, sleep: Sleep) -> None:
        """Returns once `users` first calls have ended, at the latest after `seconds`."""
        end = perf_counter() + seconds
        while self.first_calls < users and perf_counter() < end:
            sleep(POLL_SECONDS)

    def answered(self, window: tuple[float, float]) -> int:
        """Returns the number of successful answers within `window`, times of `perf_counter`."""
        ended = np.array(self._ended)
        return int(((ended >= window[0]) & (ended < window[1]) & (np.array(self._status) == 0)).sum())

    def within(self, window: tuple[float, float], seconds: float) -> int:
        """Returns the number of successful calls that were due within `window` and took at most `seconds`."""
        latency = np.array(self._latency)
        due = np.array(self._ended) - latency
        good = (np.array(self._status) == 0) & (latency <= seconds)
        return int((good & (due >= window[0]) & (due < window[1])).sum())

    def samples(
        self,
        origin: float,
        window: tuple[float, float],
        block: Block | None = None,
        variants: tuple[str, ...] = (),
        loads: tuple[str, ...] = (),
    ) -> Samples:
        """Returns all calls so far; where users did not tell the phase, those that were due within `window` are steady.

        `origin` and `window` are times of `perf_counter`. `variants` and `loads` fix the numbering, so that blocks
        can be joined; by default variants are numbered in order of appearance.
        """
        variants = variants or tuple(self._names)
        rows = np.zeros(len(self), SAMPLE)
        due = np.array(self._ended) - np.array(self._latency)
        numbers = np.array([variants.index(name) for name in self._names], "u2")
        rows["variant"] = numbers[np.array(self._variant)] if len(self) else 0
        rows["load"], rows["round"] = (loads.index(block.load.key), block.round) if block else (0, 0)
        told, by_window = np.array(self._phase), np.select([due < window[0], due < window[1]], [WARMUP, STEADY], AFTER)
        rows["phase"] = np.where(told == _BY_WINDOW, by_window, told)
        rows["status"] = self._status
        rows["due"], rows["late"], rows["latency"] = due - origin, self._late, self._latency
        return Samples(rows, variants, loads)


def merge(parts: Sequence[Samples]) -> Samples:
    """Returns the rows of all parts, each with its own numbers for names, in the order in which they were due."""
    variants = tuple(dict.fromkeys(name for part in parts for name in part.variants))
    loads = tuple(dict.fromkeys(name for part in parts for name in part.loads))
    rows = [np.zeros(0, SAMPLE), *(part.rows.copy() for part in parts)]
    for part, renumbered in zip(parts, rows[1:], strict=True):
        for column, names, of_all in (("variant", part.variants, variants), ("load", part.loads, loads)):
            if names:  # loads by hand have none
                renumbered[column] = np.array([of_all.index(name) for name in names], "u2")[renumbered[column]]
    merged = np.concatenate(rows)
    return Samples(merged[np.argsort(merged["due"], kind="stable")], variants, loads)


def join(parts: list[Samples]) -> Samples:
    """Returns the rows of all parts, which share one numbering."""
    names = parts[0] if parts else Samples(np.zeros(0, SAMPLE), ())
    rows = np.concatenate([names.rows[:0], *(part.rows for part in parts)])
    return replace(names, rows=rows, slices=np.concatenate([names.slices[:0], *(part.slices for part in parts)]))
