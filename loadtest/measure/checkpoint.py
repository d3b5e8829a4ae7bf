"""The checkpoint of a run: what was measured is kept every few seconds, so that an interrupted run can go on.

`<out>.partial/` beside the run's folder has the plan, and for each stretch of slices and each block `<name>.json`,
written last, with `<name>.npz`. A name is the stretch's load and number, or a trial's turn in a search: the same
answers make a search ask the same again.
"""

import dataclasses
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from loadtest.client.metrics_page import Facts
from loadtest.interrupt import Interrupted
from loadtest.measure.measurement import MeasuredStretch, Measurement, Record, StretchRecord
from loadtest.plan import Block, Plan
from loadtest.users.recorder import Samples, load_samples
from protos.errors import UsageError
from protos.support import atomic
from protos.support.strict import decode

Kept = TypeVar("Kept", Record, StretchRecord)

_PLAN, _RESERVE = "plan.json", "reserve"

ROOM = 8 << 20
"""Bytes that a run needs before any load, and keeps for its end: a report alone has two million."""


class Checkpoint:
    """The kept stretches and blocks of a plan."""

    def __init__(self, plan: Plan, variants: Mapping[str, Facts]) -> None:
        """Opens what an earlier run of the plan left. Raises `UsageError` if its plan or its variants differ."""
        self.folder = plan.out.with_name(f"{plan.out.name}.partial")
        about = self.folder / _PLAN
        known = {"plan": dataclasses.asdict(plan), "variants": {n: dataclasses.asdict(f) for n, f in variants.items()}}
        mine = json.loads(json.dumps(known, default=str))
        if not about.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            atomic.write_text(about, json.dumps(mine | {"began": time.time()}, indent=2) + "\n")
        kept = json.loads(about.read_text())
        if {key: kept.get(key) for key in mine} != mine:
            raise UsageError(f"--out: '{self.folder}' has another plan's figures: remove it, or take another --out")
        self._reserve = self.folder / _RESERVE
        self._reserve.write_bytes(bytes(ROOM))
        self.began: float = kept["began"]
        """The time at which the run first began, in seconds since 1970."""

    def read(self, name: str, block: Block) -> Measurement | None:
        """Returns the block of that name, or None if it was not measured before."""
        if (kept := self._read(name, Record)) is None:
            return None
        record, samples = kept
        assert record.block == block, "the plan is the same, and so is what follows from it"
        return Measurement(**vars(record), samples=samples)

    def read_stretch(self, name: str) -> MeasuredStretch | None:
        """Returns the stretch of that name, or None if it was not measured before."""
        kept = self._read(name, StretchRecord)
        return MeasuredStretch(**vars(kept[0]), samples=kept[1]) if kept else None

    def keep(self, name: str, measured: Measurement | MeasuredStretch) -> None:
        """Keeps a block or a stretch; on a disk that is full meanwhile it takes the reserve, and raises `OSError`."""
        try:
            self._keep(name, measured)
        except OSError:
            self.release()
            self._keep(name, measured)
            raise

    def release(self) -> None:
        """Gives the reserve up, for what comes last."""
        self._reserve.unlink(missing_ok=True)

    def _read(self, name: str, kind: type[Kept]) -> tuple[Kept, Samples] | None:
        described = self.folder / f"{name}.json"
        if not described.is_file():
            return None
        record = decode(kind, json.loads(described.read_text()), described.name)
        return record, load_samples(described.with_suffix(".npz"))

    def _keep(self, name: str, measured: Measurement | MeasuredStretch) -> None:
        described = self.folder / f"{name}.json"
        measured.samples.save(described.with_suffix(".npz"))
        names = (field.name for field in dataclasses.fields(measured) if field.name != "samples")
        record = {name: getattr(measured, name) for name in names}
        atomic.write_text(described, json.dumps(record, default=dataclasses.asdict))


@contextmanager
def checkpointed(plan: Plan, variants: Mapping[str, Facts], resumable: bool = True) -> Iterator[Checkpoint]:
    """Yields a run's checkpoint. At the end it is removed, unless a resumable run fails after it has kept a block.

    Raises `UsageError` where a file cannot be written, as on a full disk.
    """
    try:
        checkpoint = Checkpoint(plan, variants)
    except OSError as error:
        raise UsageError(f"--out: '{plan.out}' cannot be written: {error}") from error
    try:
        yield checkpoint
    except BaseException as error:
        left = "nothing was measured yet"
        kept = len({*checkpoint.folder.glob("*.json")} - {checkpoint.folder / _PLAN}) if resumable else 0
        if kept:
            left = f"'{checkpoint.folder}' keeps what was measured, {kept} parts: the same command goes on"
        else:
            shutil.rmtree(checkpoint.folder, ignore_errors=True)
        if isinstance(error, Interrupted) and kept:
            error.left = left
        if isinstance(error, OSError):
            raise UsageError(f"--out: {error}; {left}") from error
        raise
    shutil.rmtree(checkpoint.folder, ignore_errors=True)
