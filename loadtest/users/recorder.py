"""Raw samples: one row for each call, kept as it was measured.

`Recorder` listens to Locust's `request` event and appends to plain arrays, which costs about a microsecond a call.
When a block ends its rows are labelled: the first call of each user (which opens a connection), the warm-up, the
steady state, and what started after it. Results are made of steady rows only; the others are kept beside them.
"""

import io
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
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

FIRST_CALL = {"first": True}
"""The context with which a user fires the request event of its first call."""
LATE = "late"
"""Key of a context: how many seconds after it was due a request was sent."""

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

Rows = np.ndarray[tuple[int], np.dtype[np.void]]


@dataclass(frozen=True)
class Samples:
    """Rows of dtype `SAMPLE`, and the names behind their numbers of variants and loads."""

    rows: Rows
    variants: tuple[str, ...]
    loads: tuple[str, ...] = ()

    def of(self, variant: str, load: Load, phase: int | None = None) -> Rows:
        """Returns the rows of one cell, in all phases or in one."""
        rows = self.rows
        chosen = (rows["variant"] == self.variants.index(variant)) & (rows["load"] == self.loads.index(load.key))
        if phase is not None:
            chosen &= rows["phase"] == phase
        return np.compress(chosen, rows)

    def to_bytes(self) -> bytes:
        """Returns the text of a file for `load_samples`, not compressed: that would keep a worker from its users."""
        np.savez(file := io.BytesIO(), allow_pickle=False, **self._arrays())
        return file.getvalue()

    def save(self, path: Path | IO[bytes]) -> None:
        """Writes an .npz that explains itself: rows and the names behind each number."""
        np.savez_compressed(path, allow_pickle=False, **self._arrays())

    def _arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        names = {"variants": self.variants, "loads": self.loads, "phases": PHASES, "statuses": STATUSES}
        return {"rows": self.rows} | {name: np.array(values) for name, values in names.items()}


def load_samples(path: Path | io.BytesIO) -> Samples:
    """Reads what `Samples.save` or `Samples.to_bytes` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return Samples(arrays["rows"], *(tuple(map(str, arrays[names])) for names in ("variants", "loads")))


class Recorder:
    """The calls of one block, or of a test by hand."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._variant, self._first, self._status = array("H"), array("B"), array("B")
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
        self._variant.append(self._names.setdefault(name, len(self._names)))
        self._first.append(context is FIRST_CALL)
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
        """Forgets the calls so far, but not how many first ones there were."""
        for values in (self._variant, self._first, self._status, self._ended, self._latency, self._late):
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
        """Returns all calls so far; the steady ones are those that were due within `window`.

        `origin` and `window` are times of `perf_counter`. `variants` and `loads` fix the numbering, so that blocks
        can be joined; by default variants are numbered in order of appearance.
        """
        variants = variants or tuple(self._names)
        rows = np.zeros(len(self), SAMPLE)
        due = np.array(self._ended) - np.array(self._latency)
        numbers = np.array([variants.index(name) for name in self._names], "u2")
        rows["variant"] = numbers[np.array(self._variant)] if len(self) else 0
        rows["load"], rows["round"] = (loads.index(block.load.key), block.round) if block else (0, 0)
        rows["phase"] = np.select(
            [np.array(self._first) == 1, due < window[0], due < window[1]], [FIRST, WARMUP, STEADY], AFTER
        )
        rows["status"] = self._status
        rows["due"], rows["late"], rows["latency"] = due - origin, self._late, self._latency
        return Samples(rows, variants, loads)


def merge(parts: Sequence[Samples]) -> Samples:
    """Returns the rows of all parts, each with its own numbers for names, in the order in which they were due."""
    variants = tuple(dict.fromkeys(name for part in parts for name in part.variants))
    loads = tuple(dict.fromkeys(name for part in parts for name in part.loads))
    rows = [np.zeros(0, SAMPLE), *(part.rows.copy() for part in parts)]
    for part, renumbered in zip(parts, rows[1:], strict=True):
        for field, names, of_all in (("variant", part.variants, variants), ("load", part.loads, loads)):
            if names:  # loads by hand have none
                renumbered[field] = np.array([of_all.index(name) for name in names], "u2")[renumbered[field]]
    merged = np.concatenate(rows)
    return Samples(merged[np.argsort(merged["due"], kind="stable")], variants, loads)


def join(parts: list[Samples]) -> Samples:
    """Returns the rows of all parts, which share one numbering."""
    names = parts[0] if parts else Samples(np.zeros(0, SAMPLE), ())
    return Samples(np.concatenate([names.rows[:0], *(part.rows for part in parts)]), names.variants, names.loads)
