"""The blocks of a run that is not finished: each is kept as soon as it is measured, so that a run can go on.

They lie beside the run's folder, in `<out>.partial/`: the plan, and for each block `<name>.json` with `<name>.npz`.
A block counts when its .json is there, which is written last. Blocks of the schedule are named by their numbers in it;
those of a search by the turn in which it asked for them, since the same answers make it ask the same again.
"""

import dataclasses
import json
import shutil
import time
from collections.abc import Mapping

from loadtest.client.metrics_page import Facts
from loadtest.measure.measurement import Measurement, Record
from loadtest.plan import Block, Plan
from loadtest.users.recorder import load_samples
from protos.errors import UsageError
from protos.support import atomic
from protos.support.strict import decode

_PLAN = "plan.json"


class Journal:
    """The kept blocks of a plan."""

    def __init__(self, plan: Plan, variants: Mapping[str, Facts]) -> None:
        """Opens what an earlier run of the plan left; `UsageError` where that was another plan, or other variants."""
        self.folder = plan.out.with_name(f"{plan.out.name}.partial")
        about = self.folder / _PLAN
        known = {"plan": dataclasses.asdict(plan), "variants": {n: dataclasses.asdict(f) for n, f in variants.items()}}
        mine = json.loads(json.dumps(known, default=str))
        if not about.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            atomic.write_text(about, json.dumps(mine | {"began": time.time()}, indent=2) + "\n")
        kept = json.loads(about.read_text())
        if {key: kept.get(key) for key in mine} != mine:
            raise UsageError(f"--out: '{self.folder}' holds blocks of another plan: remove it, or take another --out")
        self.began: float = kept["began"]
        """When the run first began, in seconds since 1970."""

    def load(self, name: str, block: Block) -> Measurement | None:
        """The block of that name, if it was measured before."""
        described = self.folder / f"{name}.json"
        if not described.is_file():
            return None
        record = decode(Record, json.loads(described.read_text()), described.name)
        assert record.block == block, "the plan is the same, and so is what follows from it"
        return Measurement(**vars(record), samples=load_samples(described.with_suffix(".npz")))

    def keep(self, name: str, measured: Measurement) -> None:
        """Writes a block."""
        described = self.folder / f"{name}.json"
        measured.samples.save(described.with_suffix(".npz"))
        record = {field.name: getattr(measured, field.name) for field in dataclasses.fields(Record)}
        atomic.write_text(described, json.dumps(record, default=dataclasses.asdict))

    def kept(self) -> int:
        """How many blocks there are."""
        return len({*self.folder.glob("*.json")} - {self.folder / _PLAN})

    def remove(self) -> None:
        """Throws all of it away."""
        shutil.rmtree(self.folder, ignore_errors=True)
