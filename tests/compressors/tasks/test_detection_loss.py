"""The detector's loss: values worked out by hand, and a network that learns two objects by it."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from compressors.networks.scrfd import scrfd_500m_kps
from compressors.tasks.assigner import Anchors, iou
from compressors.tasks.detection_loss import DetectionLoss, point_loss, quality_focal_loss
from protos.tasks.boxes import Truth

SIZE = (64, 64)
POSITIVE = 2 * (2 * 8 + 2)
"""The one anchor of the object below: of side 16 at (16, 16)."""
OBJECT = (8, 8, 24, 24)
NO_POINTS = (np.nan,) * 10


def truth(*objects: tuple[float, ...], points: tuple[float, ...] = NO_POINTS, label: int = 0) -> Truth:
    """One image."""
    count = len(objects)
    return Truth(
        counts=np.array([count]),
        boxes=np.array(objects, np.float32).reshape(-1, 4),
        classes=np.full(count, label),
        counting=np.ones((count, 1), np.bool_),
        areas=np.ones(count, np.float32),
        keypoints=np.array([points] * count, np.float32).reshape(count, len(points)),
    )


def outputs(
    distances: tuple[float, ...] = (1, 1, 1, 1), points: tuple[float, ...] = (0,) * 10, classes: int = 1
) -> list[torch.Tensor]:
    """What a network gives that is sure of nothing being an object, but unsure at the positive anchor, of class 0."""
    counts = (128, 32, 8)
    scores = [torch.full((1, n, classes), -100.0) for n in counts]
    boxes, keypoints = ([torch.zeros(1, n, width) for n in counts] for width in (4, 10))
    scores[0][0, POSITIVE, 0] = 0
    boxes[0][0, POSITIVE], keypoints[0][0, POSITIVE] = torch.tensor(distances), torch.tensor(points)
    return [tensor.requires_grad_() for tensor in (*scores, *boxes, *keypoints)]


def loss(given: list[torch.Tensor], *truths: Truth) -> float:
    """Returns the loss, after a backward pass that leaves finite gradients."""
    value = DetectionLoss(SIZE)(given, truths)
    value.backward()
    assert all(tensor.grad is None or torch.isfinite(tensor.grad).all() for tensor in given)
    return value.item()


@pytest.mark.parametrize(
    ("logit", "quality", "expected"),
    [
        (0, 1, math.log(2) / 4),
        (0, 0, math.log(2) / 4),
        (math.log(3), 0.5, -(math.log(3 / 4) + math.log(1 / 4)) / 2 / 16),  # a probability of 3/4
        (math.log(3), 0.75, 0),
    ],
)
def test_quality_focal_loss(logit: float, quality: float, expected: float) -> None:
    value = quality_focal_loss(torch.tensor([[float(logit)]] * 2), torch.tensor([[float(quality)]] * 2))
    assert value.item() == pytest.approx(2 * expected, abs=1e-6)


def test_points_are_a_square_that_turns_into_a_line() -> None:
    found = torch.zeros(2, 2, requires_grad=True)
    value = point_loss(found, torch.tensor([[1, 1 / 18], [math.nan, -1]]))
    assert value.tolist() == pytest.approx([1 - 1 / 18 + 1 / 72, 1 - 1 / 18])
    value.sum().backward()
    assert found.grad is not None
    assert found.grad.flatten().tolist() == pytest.approx([-1, -0.5, 0, 1])


def test_a_box_that_fits_leaves_the_loss_of_its_score() -> None:
    assert loss(outputs(), truth(OBJECT)) == pytest.approx(math.log(2) / 4)


def test_a_box_that_is_too_large_costs_its_distance_iou_twice() -> None:
    """2x3 strides instead of 2x2: an IoU of 2/3, centres 1/2 apart, and a diagonal whose square is 13."""
    score, box = math.log(2) * (2 / 3 - 1 / 2) ** 2, 1 - 2 / 3 + 1 / 4 / 13
    assert loss(outputs((1, 1, 1, 2)), truth(OBJECT)) == pytest.approx(score + 2 * box)


def test_points_count_where_they_are_annotated() -> None:
    points = (24.0, 16.0, *(np.nan,) * 6, 16.0, 16.0)  # (1, 0) and (0, 0) in strides from the centre
    found = (0.0,) * 9 + (2.0,)
    expected = math.log(2) / 4 + 0.1 * (1 - 1 / 18 + 2 - 1 / 18)
    assert loss(outputs(points=found), truth(OBJECT, points=points)) == pytest.approx(expected)
    assert loss(outputs(points=found), truth(OBJECT)) == pytest.approx(math.log(2) / 4)
    assert loss(outputs(points=found), truth(OBJECT, points=())) == pytest.approx(math.log(2) / 4)


def test_the_score_of_another_class_is_wrong() -> None:
    """The anchor's logit of class 0 is 0, that of class 1 is -100."""
    expected = math.log(2) / 4 + 100
    assert loss(outputs(classes=2), truth(OBJECT, label=1)) == pytest.approx(expected)


def test_an_image_without_objects_has_the_loss_of_its_scores_alone() -> None:
    given = outputs()
    assert loss(given, truth()) == pytest.approx(math.log(2) / 4)
    assert all(tensor.grad is None or not tensor.grad.any() for tensor in given[3:])


def test_the_positives_of_a_batch_share_its_divisor() -> None:
    given = [torch.cat([tensor] * 3).detach().requires_grad_() for tensor in outputs()]
    value = loss(given, truth(OBJECT), truth(), truth(OBJECT))
    assert value == pytest.approx(3 * math.log(2) / 4 / 2)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Layers this small gain nothing from a second one, and wait for it where cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_network_learns_two_objects(one_thread: None) -> None:
    objects = torch.tensor([[8, 16, 32, 40], [30, 20, 60, 50]])
    images = torch.full((2, 3, *SIZE), -0.5)
    for image, (left, top, right, bottom) in zip(images, objects.tolist(), strict=True):
        image[:, top:bottom, left:right] = 0.8
    torch.manual_seed(0)
    network, anchors = scrfd_500m_kps(keypoints=0).train(), Anchors.of(SIZE)
    optimizer = torch.optim.SGD(network.parameters(), 0.01, 0.9)
    losses = []
    for _ in range(60):
        value = DetectionLoss(SIZE)(network.logits(images), [truth(box, points=()) for box in objects.tolist()])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert np.median(losses[3:8]) < losses[0]
    assert losses[-1] < losses[0] / 3
    with torch.no_grad():
        answers = network(images)  # in training mode: running statistics come too late for so few steps
    scores, distances = torch.cat(answers[:3], 1)[:, :, 0], torch.cat(answers[3:], 1)
    best, image = scores.argmax(1), torch.arange(2)
    centres, sides = anchors.centres[best], distances[image, best] * anchors.strides[best, None]
    found = torch.cat([centres - sides[:, :2], centres + sides[:, 2:]], 1)
    assert (iou(found, objects) > 0.5).all()
