"""Rungs: judged on images that are kept from training, trained once, gone on with after an interruption."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from compressors import study
from compressors.build.cache import Cache
from compressors.data.datasets import OWN_FORM, Dataset
from compressors.data.user_data import Split
from compressors.shrink.halving import Candidate
from compressors.shrink.rungs import Rungs, judged
from compressors.shrink.students import Settings
from tests.support.compressors import small

pytestmark = pytest.mark.usefixtures("world")
SETTINGS = Settings(flip=False, compiled=False)
CANDIDATE = Candidate("plain:8/2,16", distilled=False, epoch_seconds=0.1)


@pytest.fixture
def rungs(tmp_path: Path) -> Callable[[Dataset], Rungs]:
    """Makes the rungs of a user's own model; all of them share a cache."""
    torch.manual_seed(0)
    torch.save(small.Small().state_dict(), tmp_path / "weights.pt")
    own = study.own("m", "small", str(tmp_path / "weights.pt"), "small", OWN_FORM, 32, ("onnxruntime",))
    cache = Cache(tmp_path / "models", "m")
    return lambda data: Rungs(own, data, cache, tmp_path / "models")


@pytest.mark.parametrize(("images", "judges"), [(100, 20), (2000, 400), (3000, 500), (9000, 900), (60_000, 5000)])
def test_a_tenth_of_the_training_images_judges_and_is_not_trained_with(images: int, judges: int) -> None:
    numbered = np.arange(images, dtype=np.int64)
    data = replace(small.dataset(), train=Split(np.zeros((images, 3, 1, 1), np.uint8), numbered))
    kept = judged(data)
    assert len(kept.test) == judges
    assert sorted([*kept.train.truth["labels"], *kept.test.truth["labels"]]) == [*numbered]


def test_a_training_is_judged_on_what_was_kept_from_it(rungs: Callable[[Dataset], Rungs]) -> None:
    outcome = rungs(judged(small.dataset(600))).train(CANDIDATE, 12, SETTINGS)
    assert outcome.accuracy > 0.8  # of three classes
    assert outcome.accuracy * 120 == pytest.approx(round(outcome.accuracy * 120))
    assert outcome.seconds > 0


def test_a_training_is_not_repeated(rungs: Callable[[Dataset], Rungs]) -> None:
    data = judged(small.dataset())
    first = rungs(data).train(CANDIDATE, 2, SETTINGS)
    assert rungs(small.interrupted(data, stop=1)).train(CANDIDATE, 2, SETTINGS) == first


def test_an_interrupted_training_goes_on_from_its_last_epoch(rungs: Callable[[Dataset], Rungs]) -> None:
    data = judged(small.dataset())
    with pytest.raises(KeyboardInterrupt):
        rungs(small.interrupted(data, stop=7)).train(CANDIDATE, 4, SETTINGS)  # three steps of an epoch
    rest = small.interrupted(data, stop=0)
    rungs(rest).train(CANDIDATE, 4, SETTINGS)
    assert len(rest.reads) == 6


def test_mirrored_images_are_trained_with_where_the_users_network_knows_them(
    rungs: Callable[[Dataset], Rungs],
) -> None:
    assert rungs(judged(small.dataset())).settings(CANDIDATE.network).flip  # what is told apart are colours
