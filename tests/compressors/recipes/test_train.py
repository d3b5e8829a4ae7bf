"""Training: it learns, it is repeatable, and an interruption changes nothing."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from compressors.recipes import train
from compressors.recipes.steps import Fit
from compressors.tasks.classification import LabelledBatch, augmented
from tests.support.compressors.small import Dataset, Small, dataset, interrupted

HOW = Fit(epochs=3, batch=16, learning_rate=0.1, shift=1, flip=True)
COMPILED = Fit(epochs=2, batch=40, learning_rate=0.1, distillation=0.5, smoothing=0.1, compiled=True)
"""Batches of 40, 40 and 16: the last one has another shape."""


def trained(checkpoint: Path, how: Fit = HOW, data: Dataset | None = None) -> Small:
    torch.manual_seed(0)
    network = Small()
    train.fit(network, data or dataset(), how, seed=5, checkpoint=checkpoint, teacher=None)
    return network


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def accuracy(network: torch.nn.Module) -> float:
    data = dataset()
    with torch.no_grad():
        predictions = network(torch.from_numpy(data.inputs(data.test))).argmax(1).numpy()
    return float((predictions == data.test.labels).mean())


def test_it_learns_and_leaves_no_checkpoint(tmp_path: Path) -> None:
    network = trained(tmp_path / "c.pt", Fit(epochs=12, batch=16, learning_rate=0.1))
    assert accuracy(network) > 0.9
    assert not network.training
    assert list(tmp_path.iterdir()) == []


def test_the_seed_decides_the_result(tmp_path: Path) -> None:
    assert same(trained(tmp_path / "a.pt"), trained(tmp_path / "b.pt"))


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole.pt")
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "half.pt", data=interrupted(dataset(), stop=15))  # in the third epoch of six batches each
    assert same(trained(tmp_path / "half.pt"), whole)


def test_with_all_weight_on_the_teacher_labels_do_not_matter(tmp_path: Path) -> None:
    teacher = trained(tmp_path / "t.pt", Fit(epochs=12, batch=16, learning_rate=0.1))
    data = dataset()
    data.train.labels[:] = 0
    torch.manual_seed(1)
    student = Small()
    how = Fit(epochs=12, batch=16, learning_rate=0.1, distillation=1.0)
    train.fit(student, data, how, 5, tmp_path / "s.pt", teacher)
    assert accuracy(student) > 0.85


def test_augmentation_moves_whole_images_and_mirrors_them() -> None:
    image = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    how = Fit(epochs=1, batch=1, learning_rate=0.1, shift=1, flip=True)
    seen = {tuple(augmented(image, how, torch.Generator().manual_seed(seed)).flatten().tolist()) for seed in range(300)}
    assert len(seen) == 2 * 3 * 3
    assert tuple(image.flatten().tolist()) in seen
    assert tuple(image.flip(3).flatten().tolist()) in seen
    assert (0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 4.0, 5.0) in seen


def test_without_augmentation_images_stay_as_they_are() -> None:
    images = torch.rand(4, 3, 8, 8)
    how = Fit(epochs=1, batch=1, learning_rate=0.1)
    assert torch.equal(augmented(images, how, torch.Generator()), images)


def test_smoothed_labels_are_those_of_the_paper() -> None:
    """0.9 of the true class and 0.1 shared by all three: 0.9 + 0.1 / 3 of the true one."""
    logits = torch.tensor([[2.0, 0.0, 0.0]])
    batch = LabelledBatch(torch.zeros(1), torch.tensor([0]), distillation=0.0, smoothing=0.1)
    log = functional.log_softmax(logits, 1)[0]
    expected = -(0.9 * log[0] + 0.1 * log.mean())
    assert batch.loss(lambda inputs: logits, None).item() == pytest.approx(expected.item())


def test_weight_decay_may_leave_biases_and_norms_alone(tmp_path: Path) -> None:
    """Decay so strong that, at this rate, each step takes a tenth off what it pulls at."""
    how = Fit(epochs=3, batch=16, learning_rate=1e-4, weight_decay=1e3)

    def norm(network: torch.nn.Module) -> float:
        return network.get_parameter("stem.0.weight").norm().item()

    both, weights = (trained(tmp_path / "c.pt", replace(how, decay_biases=decay)) for decay in (True, False))
    assert both.get_parameter("stem.1.weight").mean().item() < 0.5
    assert weights.get_parameter("stem.1.weight").mean().item() == pytest.approx(1, abs=0.01)
    assert norm(weights) < 0.5 * norm(Small())


def test_the_rate_is_at_its_peak_after_the_warm_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []

    class Recorded(torch.optim.SGD):
        def step(self, *arguments: object, **keywords: object) -> None:  # type: ignore[override]
            rates.append(self.param_groups[0]["lr"])
            super().step(*arguments, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.optim, "SGD", Recorded)
    trained(tmp_path / "c.pt", Fit(epochs=5, batch=16, learning_rate=0.1, warm_up=0.1))
    assert len(rates) == 30
    assert max(rates) == rates[2] == pytest.approx(0.1)


def compiled(checkpoint: Path, data: Dataset | None = None, how: Fit = COMPILED) -> Small:
    torch.manual_seed(1)
    teacher = Small().eval()
    torch.manual_seed(0)
    network = Small()
    train.fit(network, data or dataset(), how, 5, checkpoint, teacher)
    return network


@pytest.mark.long
def test_a_compiled_training_is_the_same_within_noise(tmp_path: Path) -> None:
    """Of batches that are all alike: each other shape is compiled anew, for a quarter of a minute."""
    how = replace(COMPILED, batch=48)
    made, plain = compiled(tmp_path / "a.pt", how=how), compiled(tmp_path / "b.pt", how=replace(how, compiled=False))
    assert made.state_dict().keys() == plain.state_dict().keys()
    assert_within_noise(made, plain)


@pytest.mark.long
def test_a_compiled_training_goes_on_where_it_was_interrupted_whatever_its_last_batch(tmp_path: Path) -> None:
    whole, plain = compiled(tmp_path / "a.pt"), compiled(tmp_path / "b.pt", how=replace(COMPILED, compiled=False))
    with pytest.raises(KeyboardInterrupt):
        compiled(tmp_path / "half.pt", interrupted(dataset(), stop=5))  # in the second epoch of three batches
    assert same(compiled(tmp_path / "half.pt"), whole)
    assert_within_noise(whole, plain)


def assert_within_noise(made: torch.nn.Module, plain: torch.nn.Module) -> None:
    inputs = torch.from_numpy(dataset().inputs(dataset().test))
    with torch.no_grad():
        one, other = made(inputs), plain(inputs)
    assert math.sqrt(functional.mse_loss(one, other)) < 0.1 * float(other.std())


def test_without_a_compiler_it_trains_as_it_is_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    with torch._inductor.config.patch({"cpp.cxx": ("/no/such/compiler",)}):
        network = compiled(tmp_path / "a.pt")
    assert "not compiled, no C++ compiler" in capsys.readouterr().err
    assert same(network, compiled(tmp_path / "b.pt", how=replace(COMPILED, compiled=False)))
