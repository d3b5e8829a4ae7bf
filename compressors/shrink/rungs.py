"""Trainings of candidates that are judged on images kept from the training split; the test split is not looked at.

Each is kept in the cache with its accuracy and the time that it took, so that a search which is begun again repeats
none, and one that was interrupted within a training goes on from its last epoch.
"""

import time
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
from compressors.shrink import students
from compressors.shrink.halving import Candidate, Outcome
from compressors.shrink.kept import kept
from compressors.shrink.speed import epoch_seconds
from compressors.study import Study
from protos.support import machine
from protos.tasks.table import TASKS

MOST_JUDGES, LEAST_JUDGES = 5000, 500
"""Images that judge, a tenth of the training images: at most so many, and at least so many or a fifth of them."""
MIRRORED = 0.02
"""Mirrored images mean the same where the user's network loses no more on them than this share."""


def judged(data: Dataset) -> Dataset:
    """Returns the data of the rungs: a part of the training images, drawn at random, is in the place of the test split.

    What is trained there never sees it.
    """
    count = len(data.train)
    held = min(MOST_JUDGES, max(count // 10, min(LEAST_JUDGES, count // 5)))
    order = np.random.default_rng(0).permutation(count)
    return replace(data, train=data.train.take(order[held:]), test=data.train.take(order[:held]))


class Rungs:
    """Trains candidates for a user's own model, the reference of `study`, on `data` as `judged` returns it."""

    def __init__(self, study: Study, data: Dataset, cache: Cache, root: Path) -> None:
        self._study, self._data, self._cache = study, data, cache
        self._networks = Networks(study, data, cache, root, recipes.apply)

    @property
    def images(self) -> int:
        """How many images an epoch has."""
        return len(self._data.train)

    def candidate(self, network: str, distilled: bool, flip: bool) -> Candidate:
        """Returns a network as a candidate, with how long an epoch of it takes here."""
        step = students.training(self._study, network, students.fit(self._data, 1, distilled, flip)).step
        assert isinstance(step, Student)
        teacher = self._networks.reference.network if distilled else None
        seconds = epoch_seconds(step, self._study.network_name, self._study.seed, self._data, teacher)
        made = Candidate(network, distilled, seconds)
        say(f"{made.title}: an epoch takes {seconds:.1f} s")
        return made

    def flips(self) -> bool:
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

    def train(self, candidate: Candidate, epochs: int, flip: bool) -> Outcome:
        """Returns what a training of the candidate came to, of an earlier one where it is kept."""
        how = students.fit(self._data, epochs, candidate.distilled, flip)
        name = f"{candidate.title}, {epochs} epochs"
        recipe = students.training(self._study, candidate.network, how, name)
        origin = (zoo.identity(self._study.network_name), self._study.seed, self._data.fingerprint)
        step_key = key("rung", *origin, recipe.chain(), machine.versions(*TRAINED_BY))

        def make() -> Outcome:
            say(f"{candidate.title}: {epochs} epochs, about {minutes(epochs * candidate.epoch_seconds)}")
            start = time.monotonic()
            trained = self._networks.of(recipe)
            return Outcome(self._networks.metric(trained), time.monotonic() - start)

        return kept(self._cache, step_key, Outcome, make)
