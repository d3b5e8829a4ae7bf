"""A detector small enough to build in milliseconds, in SCRFD's form: every box can be worked out by hand.

`detector` takes an RGB image of 64 x 64. Each of its 8 x 8 cells of 8 x 8 pixels holds two boxes: the whole cell, whose
score is the cell's mean red, and its upper half, whose score is its mean green. Their IoU is 0.5, and the one key point
of each is the middle of the cell. The levels of strides 16 and 32 find nothing.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from protos.manifest import (
    Decoding,
    Golden,
    Network,
    Preprocessing,
    Quality,
    Recipe,
    Sources,
    Step,
    TensorSpec,
    Variant,
)
from protos.repository import GoldenSet, describe_files, promote, publish, save_golden
from tests.support import toy

MODEL, VARIANT, SIDE, STRIDES = "detector", "fp32-onnxruntime", 64, (8, 16, 32)
DISTANCES = np.float32([[0, 0, 1, 1], [0, 0, 1, 0.5]])
"""Of the two boxes of a cell, from its upper left corner."""


def boxes_of(stride: int) -> int:
    """How many boxes a level has."""
    return 2 * (SIDE // stride) ** 2


RAW = tuple(
    TensorSpec(f"{kind}_{stride}", "FP32", (-1, boxes_of(stride), width))
    for kind, width in (("score", 1), ("bbox", 4), ("kps", 2))
    for stride in STRIDES
)


def raw(images: np.ndarray) -> dict[str, np.ndarray]:
    """What `detector` answers for images (N, 3, 64, 64)."""
    rows, outputs = len(images), {}
    cells = images.reshape(rows, 3, 8, 8, 8, 8).mean(axis=(3, 5))[:, :2].transpose(0, 2, 3, 1)
    for stride in STRIDES:
        count = boxes_of(stride)
        outputs[f"score_{stride}"] = cells.reshape(rows, -1, 1) if stride == 8 else np.zeros((rows, count, 1))
        outputs[f"bbox_{stride}"] = np.tile(DISTANCES, (rows, count // 2, 1))
        outputs[f"kps_{stride}"] = np.full((rows, count, 2), 0.5)
    return {spec.name: outputs[spec.name].astype(np.float32) for spec in RAW}


def repository(root: Path) -> Path:
    """Publishes `detector` as its default variant; returns `root`."""
    golden = np.random.default_rng(1).random((2, 3, SIDE, SIDE), np.float32)
    save_golden(root, MODEL, GoldenSet({"input": golden}, raw(golden)))
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(_graph(), Path(folder) / "model.onnx")
        variant = Variant(
            model=MODEL,
            variant=VARIANT,
            recipe=Recipe("fp32", (Step("constant", {}),)),
            runtime="onnxruntime",
            precision="fp32",
            entry="model.onnx",
            inputs=(TensorSpec("input", "FP32", (-1, 3, SIDE, SIDE)),),
            outputs=RAW,
            preprocessing=Preprocessing((SIDE, SIDE), (0.0,) * 3, (1.0,) * 3, "NCHW", "letterbox"),
            labels=("cell",),
            files=describe_files(Path(folder)),
            golden=Golden(measured_error=0.0, tolerance=1e-3),
            machine=toy.MACHINE,
            sources=Sources(study="0" * 64, parent_weights="0" * 64, seed=0),
            network=Network(parameters=1, nonzero_parameters=1),
            quality=Quality("ap", 0.75, "toy", 12, parent=0.75, fp32=0.75, agreement=1.0),
            task="detection",
            decoding=Decoding("scrfd", max_detections=5, keypoints=1),
        )
        publish(root, variant, Path(folder))
    promote(root, MODEL, VARIANT)
    return root


def _graph() -> onnx.ModelProto:
    nodes, constants = (
        [],
        {"from": np.int64([0]), "to": np.int64([2]), "channels": np.int64([1]), "zero": np.float32(0)},
    )
    for stride in STRIDES:
        s, count = f"_{stride}", boxes_of(stride)
        constants[f"shape{s}"] = np.int64([0, count, 1])
        constants[f"distances{s}"] = np.tile(DISTANCES, (1, count // 2, 1))
        constants[f"middles{s}"] = np.full((1, count, 2), 0.5, np.float32)
        constants[f"factor{s}"] = np.float32(stride == 8)
        nodes += [
            helper.make_node("AveragePool", ["input"], [f"means{s}"], kernel_shape=[stride] * 2, strides=[stride] * 2),
            helper.make_node("Slice", [f"means{s}", "from", "to", "channels"], [f"two{s}"]),
            helper.make_node("Transpose", [f"two{s}"], [f"last{s}"], perm=[0, 2, 3, 1]),
            helper.make_node("Reshape", [f"last{s}", f"shape{s}"], [f"means_of_boxes{s}"]),
            helper.make_node("Mul", [f"means_of_boxes{s}", f"factor{s}"], [f"score{s}"]),
            helper.make_node("Mul", [f"score{s}", "zero"], [f"nothing{s}"]),
            helper.make_node("Add", [f"nothing{s}", f"distances{s}"], [f"bbox{s}"]),
            helper.make_node("Add", [f"nothing{s}", f"middles{s}"], [f"kps{s}"]),
        ]
    graph = helper.make_graph(
        nodes,
        MODEL,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, ["batch", *spec.shape[1:]]) for spec in RAW],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
