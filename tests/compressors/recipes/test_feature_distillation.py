"""Feature review: the published loss, on the layers that are named, and nothing of it left behind."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from compressors.build import teachers
from compressors.networks import zoo
from compressors.recipes import feature_distillation, recipes, train
from compressors.recipes.recipes import StepContext
from compressors.recipes.steps import FineTune, Fit, Review
from protos.errors import UsageError
from tests.support.compressors.small import Small, dataset, interrupted

HOW = Review(weight=1.0, stages=("stem", "block"))
FIT = Fit(epochs=2, batch=32, learning_rate=0.05)


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StepContext:
    monkeypatch.setitem(zoo.NETWORKS, "small", Small)
    torch.manual_seed(1)
    return StepContext("small", dataset(), 0, Small().eval(), tmp_path / "checkpoint.pt")


def test_the_loss_is_the_mean_of_four_sizes_each_for_half_as_much() -> None:
    ours, theirs = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    theirs[0, 0, 0, 0] = 64.0
    # The one bright pixel's square error over 64, 16, 4 and 1 pixels; pooling divides its value by what it covers.
    expected = (64**2 / 64 + 16**2 / 16 / 2 + 4**2 / 4 / 4 + 1**2 / 8) / (1 + 1 / 2 + 1 / 4 + 1 / 8)
    assert feature_distillation.hierarchical_context(ours, theirs).item() == pytest.approx(expected)


def test_features_of_equal_mean_differ_only_at_full_size() -> None:
    ours = torch.tensor([1.0, -1.0] * 32).reshape(1, 1, 8, 8)
    assert feature_distillation.hierarchical_context(ours, torch.zeros(1, 1, 8, 8)).item() == pytest.approx(1 / 1.875)


def test_stages_of_other_widths_and_sizes_are_compared() -> None:
    student = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1))
    teacher = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 10, 3, 4, 1))
    images = torch.rand(2, 3, 16, 16)
    with feature_distillation.distilling(student, teacher, Review(2.0, ("0", "1")), images[:1]) as reviewer:
        student(images)
        teacher(images)
        loss = reviewer.loss()
    loss.backward()
    assert loss > 0
    assert student[0].weight.grad is not None
    assert student[0].weight.grad.abs().max() > 0
    assert not any(module._forward_hooks for module in (*student.modules(), *teacher.modules()))


def test_training_makes_the_loss_smaller_and_leaves_nothing_in_the_network(at: StepContext) -> None:
    torch.manual_seed(2)
    student, images = Small(), torch.from_numpy(at.data.inputs(at.data.test))

    def loss(reviewer: feature_distillation.FeatureDistillation) -> float:
        with torch.no_grad():
            student(images)
            at.base()(images)
            return float(reviewer.loss())

    with feature_distillation.distilling(student, at.base(), HOW, images[:1]) as reviewer:
        before = loss(reviewer)
        train.fit(student, at.data, dataclasses.replace(FIT, epochs=8), 0, at.checkpoint, at.base(), reviewer)
        assert loss(reviewer) < 0.75 * before
    assert student.state_dict().keys() == Small().state_dict().keys()


def test_an_interrupted_one_ends_with_the_same_weights(at: StepContext) -> None:
    step = FineTune(FIT, review=HOW)
    whole = recipes.apply(step, at)
    with pytest.raises(KeyboardInterrupt):  # in the second epoch of three batches each, after one example
        recipes.apply(step, dataclasses.replace(at, data=interrupted(at.data, stop=6)))
    assert at.checkpoint.exists()
    resumed = recipes.apply(step, at)
    assert all(torch.equal(one, other) for one, other in zip(whole.parameters(), resumed.parameters(), strict=True))


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (("stem", "layer9"), r"review\.stages: got 'layer9', expected a layer such as 'stem'"),
        (("stem", "classifier"), r"expected layers that each give one \(N, C, H, W\)"),
    ],
)
def test_what_is_no_stage_is_named(at: StepContext, stages: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipes.apply(FineTune(FIT, review=Review(1.0, stages)), at)


def test_a_teacher_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="got 'a/b', whose layers review cannot see, expected NETWORK:a/b"):
        FineTune(FIT, teacher="a/b", review=HOW)
    with pytest.raises(ValueError, match="weight: got 0"):
        Review(0, ("stem",))
    with pytest.raises(ValueError, match="stages: got 2 and 1"):
        Review(1.0, ("stem", "block"), ("stem",))


def test_a_state_dict_is_a_teacher_with_layers(at: StepContext, tmp_path: Path) -> None:
    torch.save(at.base().state_dict(), tmp_path / "w.pt")
    images = torch.from_numpy(at.data.inputs(at.data.test))
    teacher = teachers.load(f"small:{tmp_path / 'w.pt'}", tmp_path, images[:2], 3, [[2, 3]])
    assert isinstance(teacher, Small)
    with torch.no_grad():
        assert torch.equal(teacher(images), at.base()(images))
    with pytest.raises(UsageError, match=r"teacher 'small:no\.pt' is not a file"):
        teachers.fingerprint("small:no.pt", tmp_path)
    with pytest.raises(UsageError, match="cannot take inputs"):
        teachers.load(f"plain_cnn:{tmp_path / 'w.pt'}", tmp_path, images[:2], 3, [[2, 3]])
