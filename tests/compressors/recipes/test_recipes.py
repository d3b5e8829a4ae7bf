"""Network steps, each carried out on a small network: what comes out, and what an interruption leaves."""

import dataclasses
from pathlib import Path

import pytest
import torch

from compressors.data.datasets import Form
from compressors.networks import zoo
from compressors.networks.layers import weighted
from compressors.recipes import recipes
from compressors.recipes.recipes import StepContext
from compressors.recipes.steps import (
    FIRST_STEPS,
    ChannelPruning,
    Clustering,
    ElementPruning,
    FineTune,
    Fit,
    FoldInput,
    NetworkStep,
    QuantizationAwareTraining,
    Student,
    Train,
    WeightRounding,
)
from protos.manifest import Preprocessing
from tests.support.compressors.small import Small, dataset, interrupted

FIT = Fit(epochs=1, batch=32, learning_rate=0.05)
STEPS: list[NetworkStep] = [
    FineTune(FIT),
    QuantizationAwareTraining(FIT),
    ChannelPruning(0.5, FIT, rounds=2),
    ElementPruning(0.5, "local", FIT, rounds=2),
    ElementPruning(0.5),
    Clustering(4),
    Clustering(4, FIT),
    WeightRounding(),
]


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StepContext:
    monkeypatch.setitem(zoo.NETWORKS, "small", Small)
    torch.manual_seed(0)
    return StepContext("small", dataset(), 0, Small().eval(), tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_each_step_makes_a_new_network_that_comes_back_from_its_weights(step: NetworkStep, at: StepContext) -> None:
    before = {name: tensor.clone() for name, tensor in at.base().state_dict().items()}
    made = recipes.apply(step, at)
    assert not made.training
    assert all(parameter.requires_grad for parameter in made.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in at.base().state_dict().items())
    assert any(not torch.equal(made.get_parameter(name), before[name]) for name, _ in made.named_parameters())
    inputs = torch.rand(4, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(at.restore(made.state_dict())(inputs), made(inputs))


def test_every_network_step_has_a_name_and_is_carried_out() -> None:
    named = {step for step in recipes.STEPS.values() if issubclass(step, NetworkStep)}
    assert named == {*FIRST_STEPS, Student, FoldInput, *map(type, STEPS)}
    assert named < recipes.apply.registry.keys()


def test_gradual_pruning_ends_at_the_very_share_with_its_zeros_held(at: StepContext) -> None:
    made = recipes.apply(ElementPruning(0.8, "global", FIT, rounds=3), at)
    weights = torch.cat([layer.weight.flatten() for _, layer in weighted(made)])
    assert int((weights == 0).sum()) == round(0.8 * weights.numel())


def test_gradual_channel_pruning_ends_at_the_widths_of_one_shot(at: StepContext) -> None:
    once = recipes.apply(ChannelPruning(0.5, FIT), at)
    gradually = recipes.apply(ChannelPruning(0.5, FIT, rounds=3), dataclasses.replace(at, checkpoint=_other(at)))
    shapes = [[tensor.shape for tensor in network.state_dict().values()] for network in (once, gradually)]
    assert shapes[0] == shapes[1]
    assert once.get_parameter("stem.0.weight").shape == (8, 3, 3, 3)


def test_levels_grow_to_the_final_one() -> None:
    assert recipes.equal_levels(0.6, 3) == pytest.approx([0.2, 0.4, 0.6])
    assert recipes.cubic_levels(0.8, 2) == pytest.approx([0.7, 0.8])
    assert recipes.equal_levels(0.7, 7)[-1] == recipes.cubic_levels(0.7, 7)[-1] == 0.7


@pytest.mark.parametrize("step", [ElementPruning(0.5, "local", FIT, 3), ChannelPruning(0.5, FIT, 3)], ids=repr)
def test_finished_rounds_are_not_done_again(step: NetworkStep, at: StepContext) -> None:
    whole = recipes.apply(step, dataclasses.replace(at, checkpoint=_other(at)))
    with pytest.raises(KeyboardInterrupt):  # in the third round of three batches each
        recipes.apply(step, dataclasses.replace(at, data=interrupted(at.data, stop=8)))
    counted = interrupted(at.data, stop=0)
    made = recipes.apply(step, dataclasses.replace(at, data=counted))
    assert len(counted.reads) == 3
    assert all(torch.equal(one, other) for one, other in zip(made.parameters(), whole.parameters(), strict=True))


def test_fine_tuning_after_clustering_leaves_the_weights_and_moves_the_rest(at: StepContext) -> None:
    plain, tuned = recipes.apply(Clustering(4), at), recipes.apply(Clustering(4, FIT), at)
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter, tuned.get_parameter(name)) == (parameter.ndim > 1), name


def test_training_is_by_the_named_teacher_and_fine_tuning_by_the_parent(at: StepContext) -> None:
    """With all weight on the teacher, one that always answers the same teaches just that."""

    def stubborn(inputs: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[0.0, 0.0, 50.0]]).expand(len(inputs), 3)

    how = Fit(epochs=4, batch=16, learning_rate=0.1, distillation=1.0)
    inputs = torch.from_numpy(at.data.inputs(at.data.test))
    taught = recipes.apply(Train(how, teacher="x"), dataclasses.replace(at, parent=None, teacher=stubborn))
    tuned = recipes.apply(FineTune(how, teacher="x"), dataclasses.replace(at, teacher=stubborn))
    by_parent = recipes.apply(FineTune(how), at)
    with torch.no_grad():
        assert taught(inputs).argmax(1).eq(2).all()
        assert tuned(inputs).argmax(1).eq(2).all()
        assert not by_parent(inputs).argmax(1).eq(2).all()


@pytest.mark.parametrize("form", [None, Preprocessing((8, 8), (0.1, 0.2, 0.3), (0.5, 1.0, 2.0), "NCHW")])
def test_a_teacher_is_given_inputs_of_its_own_normalization(at: StepContext, form: Preprocessing | None) -> None:
    seen: list[torch.Tensor] = []
    at.base().register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    how = Fit(epochs=1, batch=96, learning_rate=0.05, distillation=0.5)
    student = Student(how, "plain:4", input=Form(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))
    recipes.apply(student, dataclasses.replace(at, parent_form=form))
    known = dataclasses.replace(at.data, preprocessing=form or at.data.preprocessing)
    (inputs,), expected = seen, torch.from_numpy(known.inputs(known.train))
    in_any_order = [each.float().sum((2, 3)).sort(0).values for each in (inputs, expected)]
    torch.testing.assert_close(*in_any_order, rtol=0, atol=1e-3)


def _other(at: StepContext) -> Path:
    folder = at.checkpoint.parent / "other"
    folder.mkdir()
    return folder / "checkpoint.pt"
