"""Raw samples of a test by hand, from all of its processes and machines, in one file on the master's clock."""

import errno
import io
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, time
from typing import Any, NoReturn

import numpy as np
from locust.env import Environment

from loadtest.analysis.percentiles import percentiles
from loadtest.measure.measurement import OK, steady_latencies
from loadtest.users.distributed import Worker
from loadtest.users.recorder import Recorder, Samples, load_samples, merge
from protos.support.atomic import new_file

ROOM = 1 << 20
"""Bytes that `--samples` must have room for before any load: some 100,000 calls."""


class SampleSender:
    """A worker's side: its samples go with its reports, due by the clock of the master."""

    def __init__(self, environment: Environment, worker: Worker) -> None:
        self._recorder, self._worker = Recorder(), worker
        environment.events.request.add_listener(self._recorder.on_request)  # type: ignore[no-untyped-call]
        environment.events.report_to_master.add_listener(self.send)  # type: ignore[no-untyped-call]

    def send(self, client_id: str, data: dict[str, object]) -> None:
        """Adds the samples since the last report; none are sent before the master's clock is known."""
        distance = self._worker.distance
        data["samples"] = (_take(self._recorder, distance.ahead) if distance else merge([])).to_bytes()
        data["clock"] = (distance.ahead, distance.error) if distance else (0.0, 0.0)


class SampleKeeper:
    """Writes one file at the end, due in seconds since 1970: of this process, or of a master's workers."""

    def __init__(self, environment: Environment, path: Path, stop: Callable[[Environment, str], NoReturn]) -> None:
        self._recorder, self._environment, self._path, self._stop = Recorder(), environment, path, stop
        self._parts, self._clocks = list[Samples](), dict[str, tuple[float, float]]()
        events = environment.events
        events.request.add_listener(self._recorder.on_request)  # type: ignore[no-untyped-call]
        events.test_start.add_listener(self.check)  # type: ignore[no-untyped-call]
        events.worker_report.add_listener(self.receive)  # type: ignore[no-untyped-call]
        events.quit.add_listener(self.save)  # type: ignore[no-untyped-call]  # `quitting` is before the last report

    def check(self, **_: object) -> None:
        """Ends a test whose samples could not be written in the end."""
        try:
            if self._path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            with tempfile.TemporaryFile(dir=self._path.parent, buffering=0) as file:
                file.write(bytes(ROOM))
        except OSError as error:
            self._stop(self._environment, f"--samples: '{self._path}' cannot be written: {error.strerror}")

    def receive(self, client_id: str, data: dict[str, Any]) -> None:
        """Takes the samples out of a worker's report."""
        if "samples" not in data:
            self._environment.process_exit_code = 2
            logging.error("worker %s has no --samples: its calls will be missing in '%s'", client_id, self._path)
            return
        self._parts.append(load_samples(io.BytesIO(data["samples"])))
        ahead, error = data["clock"]
        if ahead:
            self._clocks[client_id] = ahead, max(error, self._clocks.get(client_id, (0.0, 0.0))[1])

    def save(self, **_: object) -> None:
        """Writes the file; where that fails, as on a full disk, one in the folder for temporary files."""
        samples = merge([*self._parts, _take(self._recorder, 0.0)])
        samples.rows["due"] += time() - perf_counter()
        self._summarize(samples)
        try:
            with new_file(self._path) as temporary, temporary.open("wb") as file:
                samples.save(file)
        except OSError as error:
            if not len(samples.rows):
                return
            kept = Path(tempfile.mkdtemp(prefix="locust-")) / self._path.name
            samples.save(kept)
            logging.error(
                "--samples: '%s' cannot be written: %s; '%s' has the samples", self._path, error.strerror, kept
            )
            raise SystemExit(2) from None

    def _summarize(self, samples: Samples) -> None:
        """Logs what the samples say of each variant, and how far the workers' clocks were corrected."""
        for worker, (ahead, error) in self._clocks.items():
            logging.info("worker %s: its clock is %.6f s ahead, to within %.6f s", worker, ahead, error)
        for number, variant in enumerate(samples.variants):
            rows = np.compress(samples.rows["variant"] == number, samples.rows)
            p50, p95, p99 = (f"{ms:.3f}" if ms else "n/a" for ms in vars(percentiles(steady_latencies(rows))).values())
            calls, failed = len(rows), int((rows["status"] != OK).sum())
            text = "%s: %d calls, %d failed, ms: p50 %s, p95 %s, p99 %s"
            logging.info(text, variant, calls, failed, p50, p95, p99)


def _take(recorder: Recorder, ahead: float) -> Samples:
    """Returns the calls since this was asked last, due by a clock that this process's is `ahead` of."""
    taken = recorder.samples(ahead, (0.0, perf_counter()))
    recorder.clear()
    return taken
