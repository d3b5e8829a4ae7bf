"""Runtimes that wait, fail or answer wrongly on command, and a server in this process that can host them."""

import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from protos.server_defaults import SMALLEST_BATCH
from server.execution.batcher import BatchLimit
from server.execution.engine import Engine, Reason
from server.execution.threads import Slots
from server.lifecycle import Server
from server.runtimes import Array
from server.settings import parse


class Gate:
    """Answers with what it was given, once `open` is set; `calls` holds the rows of each execution."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.calls: list[int] = []
        self.closed = False

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        self.calls.append(len(inputs["input"]))
        self.entered.set()
        assert self.open.wait(30)
        return {"logits": inputs["input"]}

    def close(self) -> None:
        self.closed = True


class Poisonable(Gate):
    """A gate that raises where an input holds a NaN, whoever else is in its batch."""

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        outputs = super().infer(inputs)
        if np.isnan(inputs["input"]).any():
            raise RuntimeError("secret of /home/someone")
        return outputs


class Forgetful(Gate):
    """A gate that never answers the last row."""

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        return {name: array[:-1] for name, array in super().infer(inputs).items()}


class Faulty:
    """Raises, or answers what `outcome` returns."""

    def __init__(self, outcome: Callable[[], dict[str, Array]]) -> None:
        self._outcome = outcome

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        return self._outcome()

    def close(self) -> None:
        pass


class Record:
    """Keeps what an engine reports."""

    def __init__(self) -> None:
        self.executions: list[int] = []
        self.rejections: list[Reason] = []

    def executed(self, rows: int, seconds: float | None) -> None:
        self.executions.append(rows)

    def rejected(self, reason: Reason) -> None:
        self.rejections.append(reason)


class Unhurried:
    """A caller without a deadline, and without headers."""

    def time_remaining(self) -> float | None:
        return None

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]]:
        return ()


def raising() -> dict[str, Array]:
    """An outcome that holds what no client may read."""
    raise RuntimeError("secret of /home/someone")


def one_row_too_few() -> dict[str, Array]:
    return {"logits": np.zeros((0, 3), np.float32)}


@asynccontextmanager
async def running(repository: Path, **settings: int | float | str) -> AsyncIterator[Server]:
    """A server in this process, loaded, on free ports, without the notice at its end; of the environment's `front`.

    Its batches have up to `SMALLEST_BATCH` rows, whatever the machine would find, where `settings` name no `batch_max`.
    """
    flags = ["--repository", str(repository), "--port", "0", "--metrics-port", "0", "--drain-notice", "0"]
    settings = {"batch_max": SMALLEST_BATCH, **settings}
    server = Server(replace(parse(flags, os.environ), **settings))  # type: ignore[arg-type]
    await server.listen()
    server.load()
    try:
        await server.loading
        yield server
    finally:
        await server.drain()
        await server.stop()


def host(server: Server, runtime: Gate | Faulty, queue_size: int = 8, rows: int = 1) -> Engine:
    """Puts `runtime` behind the default variant of `toy`, in batches of `rows` at most, in place of its engine."""
    hosted = server.registry.find("toy", "")
    replaced, variant = hosted.serving()
    assert replaced is not None
    replaced.close()
    engine = Engine(runtime, hosted.label, queue_size, Slots(1), hosted.metrics, BatchLimit(rows))
    hosted.served = engine, variant
    hosted.metrics.loaded(0.0, engine.depth)
    return engine
