"""Teachers: found before any work starts, known by what they are, and of use."""

from pathlib import Path

import pytest
import torch

from compressors import study
from compressors.build import teachers
from compressors.build.pipeline import Build
from protos.errors import UsageError
from tests.support.compressors.small import Small, dataset
from tests.support.compressors.world import start

STUDENT = """
models = { student = "small" }
data = "small"
calibration = 8
runtimes = ["torchscript"]
[recipes.fp32]
step = "train"
teacher = "TEACHER"
fit = { epochs = 2, batch = 16, learning_rate = 0.1, distillation = 0.5 }
"""
TEACHER = STUDENT.replace("student", "teacher").replace('teacher = "TEACHER"', "").replace(", distillation = 0.5", "")


pytestmark = pytest.mark.usefixtures("world")


def built(folder: Path, text: str) -> Build:
    (folder / "small.toml").write_text(text)
    build = start(folder / "small.toml")
    build.run()
    assert build.failures == {}
    return build


def test_a_changed_teacher_teaches_again_and_the_same_one_does_not(tmp_path: Path) -> None:
    text = STUDENT.replace("TEACHER", "teacher/fp32-torchscript")
    built(tmp_path, TEACHER)
    first = built(tmp_path, text).networks.reference
    assert built(tmp_path, text).networks.reference.key == first.key
    built(tmp_path, TEACHER.replace("epochs = 2", "epochs = 3"))
    other = built(tmp_path, text).networks.reference
    assert other.key != first.key
    assert other.weights_sha256 != first.weights_sha256


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "teacher/int8-torchscript",
            r"got teacher 'teacher/int8-torchscript', expected a \.pt2 file or MODEL/VARIANT",
        ),
        ("nobody", "got teacher 'nobody'"),
        ("../teacher/fp32-torchscript", "got teacher .*, expected"),
        ("no.pt2", r"teacher 'no\.pt2' is not a file"),
    ],
)
def test_an_unknown_teacher_is_an_error_before_any_work(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "small.toml").write_text(STUDENT.replace("TEACHER", name))
    with pytest.raises(UsageError, match=message):
        teachers.check(study.load(str(tmp_path / "small.toml")), tmp_path / "models")


def test_a_model_of_the_study_may_teach_those_after_it(tmp_path: Path) -> None:
    models = '{ student = "small", other = "small" }'
    text = STUDENT.replace('{ student = "small" }', models).replace("[recipes.fp32]", "[recipes.taught]")
    text += '[recipes.fp32]\nstep = "train"\nfit = { epochs = 1, batch = 16, learning_rate = 0.1 }\n'
    path = tmp_path / "small.toml"
    path.write_text(text.replace('"TEACHER"', '"student/fp32-torchscript"\nmodels = ["other"]'))
    teachers.check(study.load(str(path)), tmp_path / "models")
    path.write_text(text.replace('"TEACHER"', '"other/fp32-torchscript"\nmodels = ["student"]'))
    with pytest.raises(UsageError, match="got teacher 'other/fp32-torchscript'"):
        teachers.check(study.load(str(path)), tmp_path / "models")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network, images = Small().eval(), torch.zeros(2, 3, 8, 8)
    batch = {0: torch.export.Dim("batch", min=1, max=4096)}
    torch.export.save(torch.export.export(network, (images,), dynamic_shapes=(batch,)), tmp_path / "t.pt2")
    return tmp_path / "t.pt2"


def test_a_file_is_a_teacher(program: Path, tmp_path: Path) -> None:
    data = dataset()
    images = torch.from_numpy(data.inputs(data.test))
    torch.manual_seed(0)
    with torch.no_grad():
        expected = Small().eval()(images)
        answer = teachers.load(str(program), tmp_path, images[:2], 3, [[2, 3]])(images)
    torch.testing.assert_close(answer, expected)


def test_a_teacher_of_other_classes_or_inputs_is_named(program: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"answers \[2, 3\], expected \[2, 10\]"):
        teachers.load(str(program), tmp_path, torch.zeros(2, 3, 8, 8), 10, [[2, 10]])
    with pytest.raises(UsageError, match=r"cannot take inputs \[2, 3, 9, 9\]"):
        teachers.load(str(program), tmp_path, torch.zeros(2, 3, 9, 9), 3, [[2, 3]])
