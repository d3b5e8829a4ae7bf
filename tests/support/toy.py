"""A model small enough to build in milliseconds, published for real: what tests serve instead of a mock.

`toy` takes an RGB image (N, 3, 4, 4) and answers (N, 3): twice the mean of each channel. The label of an
image is thus its strongest channel, and every answer can be worked out by hand.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from protos.manifest import (
    Footprint,
    Golden,
    Network,
    Preprocessing,
    Quality,
    Recipe,
    RuntimeName,
    Sources,
    Step,
    TensorSpec,
    Variant,
)
from protos.repository import (
    EvaluationSet,
    GoldenSet,
    describe_files,
    promote,
    publish,
    read_entry,
    save_evaluation_set,
    save_golden,
)
from protos.support import machine

MODEL = "toy"
LABELS = ("red", "green", "blue")
MACHINE = machine.describe("onnx")
"""Described once: its load average is part of a manifest, and the same variant published twice has to be equal."""


def answer(images: np.ndarray) -> np.ndarray:
    """What `toy` answers for images (N, 3, 4, 4): (N, 3) float32."""
    return (2 * images.mean(axis=(2, 3))).astype(np.float32)


def images(rows: int, seed: int = 0) -> np.ndarray:
    """Random images (rows, 3, 4, 4), float32."""
    return np.random.default_rng(seed).random((rows, 3, 4, 4), np.float32)


def evaluation_set() -> EvaluationSet:
    """Twelve images whose strongest channel is `i % 3`; every fourth is labelled as the next channel.

    FP32 is thus right on 9 of 12, the 0.75 of every manifest.
    """
    strongest = np.arange(12) % 3
    pixels = np.full((12, 4, 4, 3), 50, np.uint8)
    pixels[np.arange(12), :, :, (strongest + 1) % 3] = 150
    pixels[np.arange(12), :, :, strongest] = 200
    labels = np.where(np.arange(12) % 4 == 3, (strongest + 1) % 3, strongest)
    return EvaluationSet("classification", pixels, {"labels": labels}, {"best": strongest[:, None]})


def repository(root: Path, runtimes: tuple[RuntimeName, ...] = ("onnxruntime", "openvino")) -> Path:
    """Publishes `toy` as fp32 in `runtimes` (those that read ONNX), the first of them the default; returns `root`."""
    golden = images(4, seed=1)
    save_golden(root, MODEL, GoldenSet({"input": golden}, {"logits": answer(golden)}))
    save_evaluation_set(root, MODEL, evaluation_set())
    for runtime in runtimes:
        publish_variant(root, runtime)
    promote(root, MODEL, f"fp32-{runtimes[0]}")
    return root


def publish_variant(
    root: Path,
    runtime: RuntimeName,
    recipe: str = "fp32",
    factor: float | list[float] = 2.0,
    tolerance: float = 1e-3,
    ballast: int = 0,
    needed: int = 3_000_000,
) -> Path:
    """Publishes one variant; a `factor` other than 2, or one for each channel, gives wrong answers.

    It has `ballast` more bytes of weights, and its manifest says that loading it takes `needed`.
    """
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(_graph(factor, ballast=ballast), Path(folder) / "model.onnx")
        variant = Variant(
            model=MODEL,
            variant=f"{recipe}-{runtime}",
            recipe=Recipe(recipe, (Step("constant", {"factor": factor}),)),
            runtime=runtime,
            precision="fp32",
            entry="model.onnx",
            inputs=(TensorSpec("input", "FP32", (-1, 3, 4, 4)),),
            outputs=(TensorSpec("logits", "FP32", (-1, 3)),),
            preprocessing=Preprocessing((4, 4), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "NCHW"),
            labels=LABELS,
            files=describe_files(Path(folder)),
            golden=Golden(measured_error=0.0, tolerance=tolerance),
            machine=MACHINE,
            sources=Sources(study="0" * 64, parent_weights="0" * 64, seed=0),
            network=Network(parameters=1, nonzero_parameters=1, macs=3),
            quality=Quality("top1", 0.75, "toy", 12, parent=0.75, fp32=0.75, agreement=1.0),
            footprint=Footprint(gzip_bytes=300, load_peak_bytes=needed),
        )
        return publish(root, variant, Path(folder))


def publish_pixels(root: Path) -> str:
    """Publishes `toy` as a network that takes pixels, with a golden set of its own; returns the variant's name."""
    pixels = np.random.default_rng(2).integers(0, 256, (4, 4, 4, 3), np.uint8)
    golden = GoldenSet({"input": pixels}, {"logits": answer(pixels.transpose(0, 3, 1, 2) / np.float32(255))})
    folder = publish_variant(root, "onnxruntime", "pixels")
    plain = read_entry(folder).variant
    assert plain is not None
    with tempfile.TemporaryDirectory() as artifact:
        onnx.save(_graph(2.0, pixels=True), Path(artifact) / "model.onnx")
        variant = replace(
            plain,
            inputs=(TensorSpec("input", "UINT8", (-1, 4, 4, 3)),),
            preprocessing=replace(plain.preprocessing, layout="NHWC"),
            files=describe_files(Path(artifact)),
            golden=Golden(measured_error=0.0, tolerance=1e-3, own=True),
        )
        publish(root, variant, Path(artifact), golden)
    return variant.variant


def _graph(factor: float | list[float], pixels: bool = False, ballast: int = 0) -> onnx.ModelProto:
    factors = (np.atleast_1d(factor) / (255 if pixels else 1)).tolist()
    given = (TensorProto.UINT8, ["batch", 4, 4, 3]) if pixels else (TensorProto.FLOAT, ["batch", 3, 4, 4])
    made = [
        helper.make_node("Transpose", ["input"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["floats"], to=TensorProto.FLOAT),
    ]
    held = [  # adds the first of so many zeros
        helper.make_node("Mul", ["means", "zero"], ["zeros"]),
        helper.make_node("Cast", ["zeros"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["ballast", "index"], ["nothing"]),
        helper.make_node("Add", ["doubled", "nothing"], ["logits"]),
    ]
    zeros = [
        helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
        helper.make_tensor("ballast", TensorProto.FLOAT, [ballast // 4], bytes(ballast), raw=True),
    ]
    graph = helper.make_graph(
        [
            *(made if pixels else []),
            helper.make_node("GlobalAveragePool", ["floats" if pixels else "input"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["means"]),
            helper.make_node("Mul", ["means", "factor"], ["doubled" if ballast else "logits"]),
            *(held if ballast else []),
        ],
        MODEL,
        [helper.make_tensor_value_info("input", *given)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor("factor", TensorProto.FLOAT, [len(factors)], factors), *(zeros if ballast else [])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
