"""SCRFD: its size is the published one, and its outputs have the names, the order and the shapes of its authors'."""

import pytest
import torch
from torch import nn

from compressors.networks import scrfd, zoo
from compressors.networks.scrfd import Head, MobileNet, Pafpn, Scrfd


def parameters(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())


def test_the_small_one_has_the_published_size() -> None:
    network = scrfd.scrfd_500m_kps().eval()
    parts = (network.backbone, network.neck, network.head)
    assert [parameters(part) for part in parts] == [536_232, 24_480, 70_698]
    size = zoo.measure(network, torch.zeros(1, 3, 64, 64))
    assert size.parameters == 631_410
    assert size.macs * (640 * 480) // 64**2 == 550_159_200
    assert size.macs * (640 * 640) // 64**2 == 733_545_600


def test_the_teacher_has_the_published_size() -> None:
    size = zoo.measure(scrfd.scrfd_10g_kps().eval(), torch.zeros(1, 3, 32, 32))
    assert size.parameters == 4_229_902
    assert size.macs * (640 * 480) // 32**2 == 10_005_513_600


@pytest.mark.parametrize("make", [scrfd.scrfd_500m_kps, scrfd.scrfd_10g_kps])
@pytest.mark.parametrize("keypoints", [0, 5])
def test_outputs_have_the_shapes_of_their_names(make: type, keypoints: int) -> None:
    with torch.device("meta"):
        answers = make(classes=3, keypoints=keypoints).eval()(torch.zeros(2, 3, 64, 96))
    widths = {"score": 3, "bbox": 4, "kps": 2 * keypoints}
    expected = []
    for name in scrfd.OUTPUTS if keypoints else scrfd.OUTPUTS[:6]:
        kind, stride = name.split("_")
        expected.append((2, 2 * (64 // int(stride)) * (96 // int(stride)), widths[kind]))
    assert [tuple(answer.shape) for answer in answers] == expected


def test_probabilities_are_the_sigmoid_of_logits_and_all_else_is_equal() -> None:
    network, images = scrfd.scrfd_500m_kps().eval(), torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        answers, logits = network(images), network.logits(images)
    assert all(torch.equal(answer, logit.sigmoid()) for answer, logit in zip(answers[:3], logits[:3], strict=True))
    assert all(torch.equal(answer, logit) for answer, logit in zip(answers[3:], logits[3:], strict=True))


def test_rows_are_ordered_by_y_x_anchor() -> None:
    head = Head(nn.Identity(), 1, classes=1, keypoints=0)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        head.score.weight[:, 0, 1, 1] = torch.tensor([1.0, 10.0])  # the second anchor says ten times as much
        score, _ = head(torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]]))
    assert score[0, :, 0].tolist() == [1, 10, 2, 20, 3, 30, 4, 40, 5, 50, 6, 60]


def test_in_the_beginning_almost_nothing_is_an_object() -> None:
    torch.manual_seed(0)
    score, *_ = scrfd.scrfd_500m_kps()(torch.randn(1, 3, 64, 64))
    assert score.mean().item() == pytest.approx(0.01, abs=1e-3)


def test_in_the_beginning_a_box_is_its_anchor() -> None:
    torch.manual_seed(0)
    boxes = scrfd.scrfd_500m_kps()(torch.randn(1, 3, 64, 64))[3:6]
    for level, stride, halves in zip(boxes, (8, 16, 32), ((8, 16), (32, 64), (128, 256)), strict=True):
        for anchor, half in enumerate(halves):
            torch.testing.assert_close(
                level[:, anchor::2] * stride, torch.full_like(level[:, ::2], half), rtol=0.1, atol=4
            )


def test_a_trace_takes_other_batches_and_sizes() -> None:
    network = Scrfd(
        MobileNet((8, 8, 8, 8, 8), (1, 1, 1, 1)), Pafpn((8, 8, 8), 8), [Head(nn.ReLU(), 8, 1, 5)] * 3
    ).eval()
    images = torch.randn(3, 3, 96, 64)
    with torch.no_grad():
        traced = torch.jit.trace(network, torch.randn(1, 3, 32, 32))
        torch.testing.assert_close(traced(images), network(images))
