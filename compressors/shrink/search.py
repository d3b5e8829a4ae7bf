"""The command as a whole: the user's own model is built, networks are proposed, candidates trained, the last published.

The budget is for all of it: what building the user's model and measuring take, trainings have less. How long they have
is kept with the proposals, so that the same command, begun again, does the same trainings and repeats none.
"""

import time
from dataclasses import dataclass

from compressors.build.cache import Cache, key
from compressors.build.pipeline import Build
from compressors.build.trained_networks import TRAINED_BY
from compressors.data.datasets import Dataset
from compressors.networks import zoo
from compressors.progress import minutes, say
from compressors.settings import ShrinkOptions
from compressors.shrink import ladder, students
from compressors.shrink.halving import Candidate, Product, affordable, halve
from compressors.shrink.kept import kept
from compressors.shrink.proposals import within
from compressors.shrink.random_weights import RandomWeights
from compressors.shrink.rungs import Rungs, judged
from compressors.shrink.students import Settings
from compressors.shrink.verdict import Asked, Verdict, to_beat, verdict
from compressors.study import Study
from protos import repository
from protos.errors import UsageError
from protos.manifest import Variant
from protos.support import machine

COLUMNS = ("top1", "points_vs_fp32", "drop_interval", "mcnemar_p", "p50_ms", "times_faster", "megabytes")
"""What the table shows of the user's variants and the student's."""
TIMES = 5.0
"""How many times faster than the user's own a student is to be, where nobody says otherwise."""
LEAST_IMAGES = 100
"""Training images, beside those for calibration, of which fewer are no use to train a network from nothing."""
PUBLISHING = 0.1
"""Share of the budget that is kept for publishing, at least; as long as the user's own model took, otherwise."""


@dataclass(frozen=True)
class Plan:
    """What follows from measurements on this machine: who may be trained, how, and how long all of it may take."""

    candidates: tuple[Candidate, ...]
    settings: Settings
    seconds: float


class Search:
    """The search for a student of the model that `study` loads; its time begins now.

    Raises `UsageError` for what does not fit, before any work, and where latency or budget leave nothing to train.
    `builds` are those of the user's own model and, once it is found, of the student beside it.
    """

    def __init__(self, asked: ShrinkOptions, study: Study, data: Dataset) -> None:
        self._asked, self._study, self._data = asked, study, data
        self._begun = time.monotonic()
        self._own = Build(study, asked.repository, data)
        self.builds = [self._own]
        self._own.check()
        _check(data)

    def run(self) -> Verdict:
        """Builds the user's model, finds a student, publishes both; returns how they compare."""
        self._say("your own model")
        self._own.run()
        beat = self._to_beat(self._own)
        self._say(
            f"a student is to take {self._wanted(beat).most_ms:.3f} ms or less, {beat.variant} takes {_p50(beat)}"
        )
        cache = Cache(self._asked.repository, self._study.model)
        with cache.locked():
            product, settings = self._search(cache, beat)
        how = students.fit(self._data, product.epochs, product.candidate.distilled, settings)
        self._say(f"the student, {product.candidate.title}: {product.epochs} epochs, on all training images")
        build = Build(students.with_student(self._study, product.candidate.network, how), self._own.root, self._data)
        self.builds.append(build)
        build.run()
        beat = self._to_beat(build)  # as it was timed beside the student
        found = [v for v in _published(build) if v.recipe.name in students.PUBLISHED]
        return verdict(found, beat, self._wanted(beat))

    def _search(self, cache: Cache, beat: Variant) -> tuple[Product, Settings]:
        """Returns the best candidate, and how it is trained."""
        rungs = Rungs(self._study, judged(self._data), cache, self._asked.repository, self._say)
        asked = (self._asked.latency, self._asked.faster, self._asked.max_drop, self._asked.budget)
        origin = (zoo.identity(self._study.network_name), self._study.reference.chain(), self._study.runtimes)
        here = (machine.describe().cpu, machine.available_cores(), machine.versions(*TRAINED_BY))
        step_key = key("shrink", asked, origin, self._data.fingerprint, here)
        plan = kept(cache, step_key, Plan, lambda: self._plan(rungs, beat))
        longer = len(self._data.train) / rungs.images
        product = halve(plan.candidates, plan.seconds, lambda c, n: rungs.train(c, n, plan.settings), longer)
        return product, plan.settings

    def _plan(self, rungs: Rungs, beat: Variant) -> Plan:
        reserve = max(PUBLISHING * self._asked.budget, self._spent)  # the student is built as the user's own was
        if self._spent + reserve >= self._asked.budget:
            took = f"your own model took {minutes(self._spent)} to build, and to build a student is kept as long"
            raise UsageError(f"--budget: {took}: got {minutes(self._asked.budget)}, expected more")
        size = self._data.preprocessing.resize
        probe = RandomWeights(self._study, self._data, self._own.root, beat)
        proposals = within(ladder.ladder(size), self._wanted(beat).most_ms, probe.p50_ms)
        settings = rungs.settings(proposals[0].network)
        candidates = [rungs.candidate(p.network, distilled, settings) for p in proposals for distilled in (False, True)]
        seconds = self._asked.budget - self._spent - reserve
        return Plan(tuple(affordable(candidates, seconds)), settings, seconds)

    def _wanted(self, beat: Variant) -> Asked:
        return Asked(self._asked.latency or _p50(beat) / (self._asked.faster or TIMES), self._asked.max_drop)

    def _to_beat(self, build: Build) -> Variant:
        own = [v for v in _published(build) if v.recipe.name not in students.PUBLISHED]
        if not own:
            raise UsageError(f"your own model could not be built: {next(iter(build.failures.values()))}")
        return to_beat(own, self._asked.max_drop)

    @property
    def _spent(self) -> float:
        return time.monotonic() - self._begun

    def _say(self, text: str) -> None:
        say(f"{text}; {minutes(max(0.0, self._asked.budget - self._spent))} of the budget are left")


def _published(build: Build) -> list[Variant]:
    """Returns the variants that a build has published, with their figures."""
    recipes = {recipe.name for recipe in build.study.recipes}
    found = [e.variant for e in repository.scan_model(build.root, build.study.model) if e.variant]
    return [v for v in found if v.recipe.name in recipes and v.variant not in build.failures]


def _check(data: Dataset) -> None:
    """Raises `UsageError` for data that no student can be trained with."""
    if len(data.train) < LEAST_IMAGES:
        raise UsageError(
            f"--data: got {len(data.train)} training images beside {len(data.calibration)} for calibration,"
            f" expected {LEAST_IMAGES} or more to train a student with"
        )


def _p50(variant: Variant) -> float:
    assert variant.latency is not None
    return variant.latency.p50_ms
