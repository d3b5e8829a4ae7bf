"""Detection in the offline stage: which outputs are a detector's, what is learned from, how answers are judged."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from compressors.data import scenes
from compressors.data.datasets import Dataset
from compressors.networks import scrfd
from compressors.recipes.steps import Fit
from compressors.tasks.detection import StudiedDetection
from protos.errors import UsageError
from protos.manifest import Decoding, Preprocessing

SIDE = 64
HOW = Preprocessing((SIDE, SIDE), (0.5,) * 3, (128 / 255,) * 3, "NCHW", "letterbox")
FIT = Fit(epochs=1, batch=4, learning_rate=0.01)
TASK = StudiedDetection()


@pytest.fixture(scope="module")
def data() -> Dataset:
    made = scenes.scenes(6, 3, side=SIDE, seed=0)
    return Dataset("scenes", made.train, made.train, made.test, made.labels, HOW, "detection", Decoding("scrfd"))


def outputs_of(network: scrfd.Scrfd, rows: int) -> dict[str, np.ndarray]:
    with torch.no_grad():
        answers = network.eval()(torch.zeros(rows, 3, SIDE, SIDE))
    return {name: answer.numpy() for name, answer in zip(network.outputs, answers, strict=True)}


def test_outputs_of_a_detector_for_the_classes_of_the_data_are_right(data: Dataset) -> None:
    assert TASK.fault(outputs_of(scrfd.scrfd_500m_kps(1, keypoints=0), 2), data) is None


@pytest.mark.parametrize(
    ("decoding", "classes", "message"),
    [
        (Decoding("scrfd"), 3, "the network tells 3 classes apart, the data has 1"),
        (Decoding("ultralytics"), 1, "decoder 'ultralytics': got outputs score_8"),
        (Decoding("scrfd", keypoints=5), 1, "decoder 'scrfd': got outputs score_8"),
        (None, 1, "--decoder is missing"),
    ],
    ids=["classes", "another decoder", "no key points", "no decoder"],
)
def test_other_outputs_are_named(data: Dataset, decoding: Decoding | None, classes: int, message: str) -> None:
    outputs = outputs_of(scrfd.scrfd_500m_kps(classes, keypoints=0), 2)
    fault = TASK.fault(outputs, replace(data, decoding=decoding))
    assert fault is not None
    assert fault.startswith(message)


def test_an_epoch_has_each_image_once_and_follows_from_seed_and_epoch(data: Dataset) -> None:
    first, again, other = (list(TASK.batches(data, FIT, 0, epoch)) for epoch in (0, 0, 1))
    assert [len(batch.inputs) for batch in first] == [4, 2]
    assert all(torch.equal(one.inputs, two.inputs) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first[0].inputs, other[0].inputs)
    assert first[0].inputs.shape[1:] == (3, SIDE, SIDE)


def test_objects_that_count_in_no_setting_are_not_learned(data: Dataset) -> None:
    none = replace(data.train.objects, counting=np.zeros_like(data.train.objects.counting))  # type: ignore[attr-defined]
    (batch, *_) = TASK.batches(replace(data, train=replace(data.train, objects=none)), FIT, 0, 0)  # type: ignore[type-var]
    assert sum(len(truth.boxes) for truth in batch.truths) == 0


def test_soft_labels_are_refused_before_the_first_batch(data: Dataset) -> None:
    with pytest.raises(UsageError, match="taught by features"):
        next(iter(TASK.batches(data, replace(FIT, distillation=0.5), 0, 0)))


def test_the_loss_of_a_batch_reaches_every_part_of_the_network(data: Dataset) -> None:
    network = scrfd.scrfd_500m_kps(1, keypoints=0).train()
    next(iter(TASK.batches(data, FIT, 0, 0))).loss(network, None).backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []
