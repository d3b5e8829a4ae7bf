"""Recipes for detectors: what works unchanged on a network of several outputs, and what a larger teacher adds."""

from pathlib import Path

import pytest
import torch

from compressors.build import teachers
from compressors.data import scenes
from compressors.data.datasets import Dataset
from compressors.networks import zoo
from compressors.recipes import recipes
from compressors.recipes.recipes import StepContext
from compressors.recipes.steps import ChannelPruning, FineTune, Fit, NetworkStep, Review
from protos.manifest import Decoding, Preprocessing

SIDE = 64
HOW = Preprocessing((SIDE, SIDE), (0.5,) * 3, (128 / 255,) * 3, "NCHW", "letterbox")
FIT = Fit(epochs=1, batch=2, learning_rate=0.01)
STAGES = Review(1.0, ("backbone.stages.1", "backbone.stages.2", "backbone.stages.3"))


@pytest.fixture
def at(tmp_path: Path) -> StepContext:
    made = scenes.scenes(4, 2, side=SIDE, seed=0)
    data = Dataset("scenes", made.train, made.train, made.test, made.labels, HOW, "detection", Decoding("scrfd"))
    student = zoo.create("scrfd_500m_boxes", 1, seed=0).eval()
    return StepContext("scrfd_500m_boxes", data, 0, student, tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("step", [FineTune(FIT), ChannelPruning(0.5, FIT)], ids=["fine-tuning", "channels"])
def test_a_detector_is_trained_and_keeps_its_outputs(at: StepContext, step: NetworkStep) -> None:
    images = torch.from_numpy(at.data.inputs(at.data.test))
    made = recipes.apply(step, at)
    with torch.no_grad():
        answers, before = made(images), at.base()(images)
    assert [answer.shape for answer in answers] == [answer.shape for answer in before]
    assert not torch.equal(answers[0], before[0])
    assert all(torch.isfinite(answer).all() for answer in answers)


def test_a_larger_teacher_s_features_change_what_is_learned(at: StepContext, tmp_path: Path) -> None:
    torch.save(zoo.create("scrfd_10g_kps", 1, seed=1).state_dict(), tmp_path / "teacher.pt")
    example, name = torch.from_numpy(at.data.inputs(at.data.test)), f"scrfd_10g_kps:{tmp_path / 'teacher.pt'}"
    large = zoo.create("scrfd_10g_kps", 1, seed=1).eval()
    teacher = teachers.load(name, tmp_path, example, 1, teachers.shapes_of(large, example))
    taught = StepContext(at.network_name, at.data, 0, at.base(), tmp_path / "taught.pt", teacher)
    alone = recipes.apply(FineTune(FIT), at).state_dict()
    guided = recipes.apply(FineTune(FIT, teacher=name, review=STAGES), taught).state_dict()
    assert guided.keys() == alone.keys()  # the adapters are gone
    deepest = "backbone.stages.3.5.pointwise.conv.weight"
    assert not torch.equal(guided[deepest], alone[deepest])
