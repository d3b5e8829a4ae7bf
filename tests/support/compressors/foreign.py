"""What a user brings who has never seen this project: ResNet-20 for CIFAR-10 as He et al. 2015 describe it
(https://arxiv.org/abs/1512.03385, section 4.2, option A shortcuts), written here from the paper, and a script's data.

The text is what stands in the user's own file; the lambdas in it are what public code has, and no pickle takes.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

RESNET20 = """
import torch
import torch.nn.functional as F
from torch import nn


class Shortcut(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Block(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        more = (after - before) // 2
        same = stride == 1 and before == after
        self.shortcut = nn.Sequential() if same else Shortcut(
            lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, more, more))
        )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self, depth, num_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        blocks, width = [], 16
        for stage, after in enumerate((16, 32, 64)):
            for i in range(depth):
                blocks.append(Block(width, after, 2 if stage and i == 0 else 1))
                width = after
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(64, num_classes)

    def forward(self, x):
        x = self.blocks(F.relu(self.bn1(self.conv1(x))))
        return self.linear(F.avg_pool2d(x, x.size()[3]).flatten(1))


def resnet20(num_classes=10):
    return ResNet(3, num_classes)


def fixed():
    return ResNet(3, 10)


def not_a_network():
    return "resnet"
"""


def images(rows: int = 120, classes: int = 10, seed: int = 0) -> dict[str, np.ndarray]:
    """Noise (rows, 32, 32, 3) whose brightest band is its label."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(rows) % classes)
    pixels = generator.integers(0, 150, (rows, 32, 32, 3), dtype=np.uint8)
    for row, label in enumerate(labels):
        pixels[row, 3 * label : 3 * label + 3] += 100
    return {"images": pixels, "labels": labels}


def graph(
    batch: int | str = 1,
    classes: int = 10,
    reshape: tuple[int, ...] = (0, -1),
    opset: int = 17,
    size: tuple[int | str, ...] = (3, 32, 32),
    before: Sequence[onnx.NodeProto] = (),
    after: Sequence[onnx.NodeProto] = (),
    **more: np.ndarray,
) -> onnx.ModelProto:
    """A convolution, pooling and a classifier from an input that is called "logits", to make it harder.

    `before` are nodes from "logits" to "image", `after` from "scores" to "given"; `more` are further initializers.
    """
    generator = np.random.default_rng(0)
    weights = {
        "w": generator.normal(size=(8, 3, 3, 3)).astype(np.float32),
        "shape": np.array(reshape, np.int64),
        "fc": generator.normal(size=(8, classes)).astype(np.float32),
        **more,
    }
    nodes = [
        *before,
        helper.make_node("Conv", ["image" if before else "logits", "w"], ["input"]),
        helper.make_node("Relu", ["input"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["pooled"]),
        helper.make_node("Reshape", ["pooled", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "fc"], ["scores"]),
        *after,
    ]
    made = helper.make_graph(
        nodes,
        "theirs",
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, *size])],
        [helper.make_tensor_value_info("given" if after else "scores", TensorProto.FLOAT, [batch, classes])],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
