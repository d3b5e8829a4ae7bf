"""Trainings of candidates that are judged on images kept from the training split; the test split is not looked at.

Each is kept in the cache with its accuracy and the time that it took, so that a search which is begun again repeats
none, and one that was interrupted within a training goes on from its last epoch.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from compressors.build.cache import Cache, key
from compressors.build.trained_networks import TRAINED_BY, Networks
from compressors.data.datasets import Dataset
from compressors.data.user_data import Split
from compressors.measure import evaluate
from compressors.networks import zoo
from compressors.progress import minutes, say
from compressors.recipes import recipes
from compressors.recipes.steps import Student
from compressors.shrink import halving, students
from compressors.shrink.halving import Candidate, Outcome
from compressors.shrink.kept import kept
from compressors.shrink.speed import epoch_seconds
from compressors.shrink.students import Settings
from compressors.study import Study
from protos.support import machine
from protos.tasks.table import TASKS

MOST_JUDGES, LEAST_JUDGES = 5000, 500
"""Images that judge, a tenth of the training images: at most so many, and at least so many or a fifth of them."""
MIRRORED = 0.02
"""Mirrored images mean the same where the user's network loses no more on them than this share."""

COMPILED, LONG = 0.7, 120.0
"""Trainings are compiled where an epoch then takes no more than this share, and the longest so many seconds or more:
compiling itself takes a quarter of a minute."""


def judged(data: Dataset) -> Dataset:
    """Returns the data of the rungs: a part of the training images, drawn at random, is in the place of the test split.

    What is trained there never sees it.
    """
    count = len(data.train)
    held = min(MOST_JUDGES, max(count // 10, min(LEAST_JUDGES, count // 5)))
    order = np.random.default_rng(0).permutation(count)
    return replace(data, train=data.train.take(order[held:]), test=data.train.take(order[:held]))


class Rungs:
    """Trains candidates for a user's own model, the reference of `study`, on `data` as `judged` returns it.

    `begins` is told of each training that begins.
    """

    def __init__(
        self, study: Study, data: Dataset, cache: Cache, root: Path, begins: Callable[[str], None] = say
    ) -> None:
        self._study, self._data, self._cache, self._begins = study, data, cache, begins
        self._networks = Networks(study, data, cache, root, recipes.apply)

    @property
    def images(self) -> int:
        """How many images an epoch has."""
        return len(self._data.train)

    def settings(self, network: str) -> Settings:
        """Returns how students are trained, by what the user's network knows and by how fast `network` is trained."""
        eager = Settings(self._flips(), compiled=False)
        plain = self._epoch_seconds(network, False, eager)
        if plain * halving.MOST_EPOCHS < LONG:
            return eager
        compiled = self._epoch_seconds(network, False, replace(eager, compiled=True))
        say(f"compiled, an epoch takes {compiled:.1f} s, else {plain:.1f} s")
        return replace(eager, compiled=compiled < COMPILED * plain)

    def candidate(self, network: str, distilled: bool, settings: Settings) -> Candidate:
        """Returns a network as a candidate, with how long an epoch of it takes here."""
        made = Candidate(network, distilled, self._epoch_seconds(network, distilled, settings))
        say(f"{made.title}: an epoch takes {made.epoch_seconds:.1f} s")
        return made

    def _epoch_seconds(self, network: str, distilled: bool, settings: Settings) -> float:
        step = students.training(self._study, network, students.fit(self._data, 1, distilled, settings)).step
        assert isinstance(step, Student)
        teacher = self._networks.reference.network if distilled else None
        return epoch_seconds(step, self._study.network_name, self._study.seed, self._data, teacher)

    def _flips(self) -> bool:
        """Returns whether mirrored images mean the same, by how many of them the user's own network knows."""
        judge, truth = TASKS[self._data.task], self._data.test.truth
        test = self._data.test
        assert isinstance(test, Split)
        mirrored = replace(self._data, test=Split(np.ascontiguousarray(test.images[..., ::-1]), test.labels))
        _, answers = evaluate.predict(evaluate.eager(self._networks.reference.network), evaluate.questions(mirrored))
        plain, flipped = (judge.scores(a, truth)[judge.metric] for a in (self._networks.reference.answers, answers))
        same = flipped >= plain - MIRRORED
        say(f"your model knows {plain:.2%} of {len(test)} images kept from training, {flipped:.2%} of them mirrored:")
        say(f"  students are trained {'with mirrored images too' if same else 'without mirrored images'}")
        return same

    def train(self, candidate: Candidate, epochs: int, settings: Settings) -> Outcome:
        """Returns what a training of the candidate came to, of an earlier one where it is kept."""
        how = students.fit(self._data, epochs, candidate.distilled, settings)
        name = f"{candidate.title}, {epochs} epochs"
        recipe = students.training(self._study, candidate.network, how, name)
        origin = (zoo.identity(self._study.network_name), self._study.seed, self._data.fingerprint)
        step_key = key("rung", *origin, recipe.chain(), machine.versions(*TRAINED_BY))

        def make() -> Outcome:
            self._begins(f"{candidate.title}: {epochs} epochs, about {minutes(epochs * candidate.epoch_seconds)}")
            start = time.monotonic()
            trained = self._networks.of(recipe)
            return Outcome(self._networks.metric(trained), time.monotonic() - start)

        return kept(self._cache, step_key, Outcome, make)
