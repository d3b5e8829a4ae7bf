"""Students: another network in the place of the model's, compared with the model as any other variant."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from compressors.build.pipeline import Build
from compressors.networks.plain import Branches
from compressors.networks.zoo import NETWORKS
from protos import repository
from protos.errors import UsageError
from protos.manifest import Variant
from server import runtimes
from server.runtimes.golden import check_golden
from tests.support.compressors.world import published, start

STUDY = """
models = { small = "small" }
data = "small"
calibration = 8
runtimes = ["onnxruntime"]
[recipes.fp32]
step = "train"
fit = { epochs = 6, batch = 16, learning_rate = 0.1 }
[recipes.student]
step = "student"
network = "plain:8/2,8"
seed = 3
branches = true
input = { mean = [0, 0, 0], std = [0.25, 0.25, 0.25] }
fit = { epochs = 6, batch = 16, learning_rate = 0.1 }
[recipes.student-int8]
step = "static-int8"
parent = "student"
[recipes.pixels]
step = "fold-input"
parent = "student"
[recipes.pixels-int8]
step = "static-int8"
parent = "pixels"
[recipes.taught]
step = "student"
parent = "student"
network = "plain:8/2,12"
fit = { epochs = 6, batch = 16, learning_rate = 0.1, distillation = 0.9 }
"""

pytestmark = pytest.mark.usefixtures("world")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("students")
    (folder / "small.toml").write_text(STUDY)
    return folder


@pytest.fixture
def build(folder: Path) -> Build:
    built = start(folder / "small.toml")
    built.run()
    assert built.failures == {}
    return built


def variant(built: Build, recipe: str) -> Variant:
    return published(built)[f"{recipe}-onnxruntime"]


def test_a_student_is_a_variant_of_the_model_of_its_own_size_compared_with_fp32(build: Build) -> None:
    student, reference = variant(build, "student"), variant(build, "fp32")
    assert student.model == reference.model
    assert student.network.parameters == 9 * (3 * 8 + 8 * 8) + 2 * (8 + 8) + 8 * 3 + 3
    assert student.quality is not None
    assert student.quality.fp32 == reference.quality.value  # type: ignore[union-attr]
    assert student.quality.lost is not None
    assert student.quality.value > 0.9
    assert student.golden is not None
    assert student.golden.own
    assert student.golden.measured_error < 1e-3


def test_what_is_made_of_a_student_is_of_its_network_and_its_inputs(build: Build) -> None:
    student, int8 = variant(build, "student"), variant(build, "student-int8")
    assert [step.name for step in int8.recipe.steps] == ["student", "static-int8"]
    assert int8.network == student.network
    assert int8.preprocessing == student.preprocessing
    assert student.preprocessing.mean == (0.0, 0.0, 0.0)
    assert variant(build, "fp32").preprocessing.mean == (0.4, 0.4, 0.4)


def test_a_folded_student_answers_the_pixels_of_the_test_split(build: Build) -> None:
    student, pixels, int8 = (variant(build, recipe) for recipe in ("student", "pixels", "pixels-int8"))
    assert [spec.datatype for spec in pixels.inputs] == ["UINT8"]
    assert [spec.shape for spec in pixels.inputs] == [(-1, 8, 8, 3)]
    assert (pixels.preprocessing.layout, int8.preprocessing) == ("NHWC", pixels.preprocessing)
    assert pixels.quality is not None
    assert pixels.quality.value == student.quality.value  # type: ignore[union-attr]
    assert int8.latency is not None


def test_each_variant_keeps_its_tolerance_on_its_own_golden_set(build: Build) -> None:
    for entry in repository.scan(build.root):
        found = repository.verify(entry)
        golden = repository.load_golden(build.root, "small", found)
        (given,) = golden.inputs.values()
        assert given.dtype == (np.uint8 if "pixels" in entry.name else np.float32)
        with closing(runtimes.load(entry.folder, found, 1)) as adapter:
            check_golden(adapter, found, golden)


def test_no_branch_is_left(build: Build) -> None:
    recipe = next(recipe for recipe in build.study.recipes if recipe.name == "student")
    assert not any(isinstance(module, Branches) for module in build.networks.of(recipe).network.modules())


def test_a_student_has_the_model_s_inputs_whatever_its_teacher_s_are(build: Build) -> None:
    taught = variant(build, "taught")
    assert taught.preprocessing == variant(build, "fp32").preprocessing
    assert taught.quality is not None
    assert taught.quality.value > 0.9


@pytest.mark.usefixtures("flat")
def test_what_cannot_be_folded_is_refused_before_any_training(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(STUDY.replace('"plain:8/2,8"', '"flat"').replace("branches = true", ""))
    with pytest.raises(
        UsageError, match=r"^recipe 'pixels' of 'small': fold-input: got Flatten on the network's input"
    ):
        start(tmp_path / "small.toml").check()


@pytest.fixture
def flat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "flat", lambda classes: nn.Sequential(nn.Flatten(), nn.Linear(192, classes)))


def test_a_student_that_breaks_the_contract_is_refused_before_any_training(tmp_path: Path) -> None:
    text = STUDY.replace('"plain:8/2,12"', '"scrfd_500m_kps"')
    (tmp_path / "small.toml").write_text(text)
    with pytest.raises(UsageError):
        start(tmp_path / "small.toml").check()
