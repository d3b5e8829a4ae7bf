"""Training: it learns, it is repeatable, and an interruption changes nothing."""

from pathlib import Path

import pytest
import torch

from compressors.recipes import train
from compressors.recipes.steps import Fit
from compressors.tasks.classification import augmented
from tests.support.compressors.small import Dataset, Small, dataset, interrupted

HOW = Fit(epochs=3, batch=16, learning_rate=0.1, shift=1, flip=True)


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
