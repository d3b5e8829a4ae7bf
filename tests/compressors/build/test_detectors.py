"""A detector from training to the repository: scenes, SCRFD, FP32 and int8, and what is measured of them."""

import numpy as np
import pytest
from torch import nn

from compressors.build.pipeline import Build
from compressors.data import datasets, scenes
from compressors.measure import remeasure
from compressors.networks import zoo
from compressors.networks.scrfd import STRIDES, Head, MobileNet, Pafpn, Scrfd
from compressors.report import table
from protos import repository
from protos.manifest import Decoding, Variant
from protos.tasks.table import TASKS
from server import runtimes
from server.runtimes.golden import check_golden
from tests.support.compressors.world import published, small_world, start

STUDY = """
models = { found = "small_boxes" }
data = "few_scenes"
calibration = 4
runtimes = ["onnxruntime", "openvino"]

[recipes.fp32]
step = "train"
fit = { epochs = 1, batch = 4, learning_rate = 0.01 }

[recipes.int8]
step = "static-int8"
parent = "fp32"
"""


def small_boxes(classes: int) -> Scrfd:
    """The smallest SCRFD without key points."""
    backbone = MobileNet((8, 8, 8, 8, 8), (1, 1, 1, 1))
    return Scrfd(backbone, Pafpn(backbone.widths, 8), [Head(nn.ReLU(), 8, classes, keypoints=0) for _ in STRIDES])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    folder = tmp_path_factory.mktemp("detectors")
    (folder / "s.toml").write_text(STUDY)
    with small_world(), pytest.MonkeyPatch.context() as patch:
        parts = datasets.boxes(scenes.scenes(12, 5, side=64), (32, 32))
        patch.setitem(datasets.DATASETS, "few_scenes", lambda path, form, seed: parts)
        patch.setitem(zoo.NETWORKS, "small_boxes", small_boxes)
        patch.setitem(zoo.DECODINGS, "small_boxes", Decoding("scrfd"))
        made = start(folder / "s.toml")
        made.check()
        made.run()
    assert made.failures == {}
    return made


@pytest.fixture
def variants(built: Build) -> dict[str, Variant]:
    return published(built)


def test_every_variant_is_one_of_detection_with_its_decoding_and_outputs(variants: dict[str, Variant]) -> None:
    assert len(variants) == 4
    for variant in variants.values():
        assert (variant.task, variant.decoding) == ("detection", Decoding("scrfd"))
        shapes = {spec.name: spec.shape for spec in variant.outputs}
        assert shapes == {
            **{f"score_{stride}": (-1, 2 * (32 // stride) ** 2, 1) for stride in (8, 16, 32)},
            **{f"bbox_{stride}": (-1, 2 * (32 // stride) ** 2, 4) for stride in (8, 16, 32)},
        }


def test_average_precision_is_that_of_the_published_artifact(built: Build, variants: dict[str, Variant]) -> None:
    test, task = repository.load_evaluation_set(built.root, "found", "detection"), TASKS["detection"]
    for name, variant in variants.items():
        assert variant.quality is not None
        runtime = runtimes.load(built.root / "found" / name, variant, 1)
        outputs = runtime.infer({"input": built.networks.questions(built.study.reference).inputs[:]})
        answers = task.answers(outputs, test.images, variant.preprocessing, variant.decoding)
        scores = task.scores(answers, test.truth)
        assert variant.quality.value == pytest.approx(scores["ap"], abs=1e-6)
        assert variant.quality.others == pytest.approx({k: v for k, v in scores.items() if k != "ap"}, abs=1e-6)


def test_the_golden_inputs_are_answered_as_measured(built: Build, variants: dict[str, Variant]) -> None:
    golden = repository.load_golden(built.root, "found")
    assert golden.outputs.keys() == {spec.name for spec in variants["fp32-openvino"].outputs}
    for name, variant in variants.items():
        check_golden(runtimes.load(built.root / "found" / name, variant, 1), variant, golden)


def test_the_test_split_holds_the_files_and_what_fp32_found(built: Build) -> None:
    test = repository.load_evaluation_set(built.root, "found", "detection")
    assert test.images.tolist() == built.dataset.test.as_sent().tolist()
    assert test.truth["settings"].tolist() == ["easy", "medium", "hard"]
    assert len(test.take(np.array([4, 1])).truth["counts"]) == 2


def test_the_table_shows_average_precision_and_no_top1(built: Build) -> None:
    heading = table.show(repository.scan(built.root), "csv").splitlines()[0].split(",")
    assert heading[:6] == ["model", "variant", "ap", "ap_easy", "ap_medium", "ap_hard"]
    assert "top1" not in heading


def test_measured_again_it_is_the_same(built: Build, variants: dict[str, Variant]) -> None:
    entries = [entry for entry in repository.scan(built.root) if entry.name == "int8-onnxruntime"]
    again = remeasure.remeasure(built.root, "found", entries).variants["int8-onnxruntime"].quality
    built_quality = variants["int8-onnxruntime"].quality
    assert again is not None
    assert built_quality is not None
    assert (again.value, again.lost) == (pytest.approx(built_quality.value, abs=1e-6), built_quality.lost)
