"""`pareto-compress shrink` as a whole, on a network and images that this project has never seen."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from compressors import __main__ as program
from compressors.export import measured
from compressors.networks import user_network
from compressors.shrink import halving, ladder
from protos import repository
from protos.errors import UsageError
from tests.support.compressors import foreign
from tests.support.compressors.world import small_world


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a user: a network's file, its weights, and images; the search is a small one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(ladder, "DEPTHS", ((1, 2),))
    monkeypatch.setattr(ladder, "WIDTHS", (8, 16))
    monkeypatch.setattr(halving, "MOST_EPOCHS", 6)
    monkeypatch.setattr(measured, "SECONDS", 0.0)
    Path("theirs.py").write_text(foreign.RESNET20.replace("ResNet(3", "ResNet(1"))  # its eight layers are enough here
    torch.manual_seed(0)
    torch.save(user_network.factory("theirs:resnet20")(10).state_dict(), "resnet20.th")
    np.savez("photos.npz", **foreign.images(600))
    with small_world():
        yield tmp_path
    sys.modules.pop("theirs", None)


def shrink(*words: str) -> int:
    """Runs `pareto-compress shrink` in this process."""
    common = ["--model", "theirs:resnet20", "--weights", "resnet20.th", "--name", "mine", "--data", "photos.npz"]
    common += ["--calibration", "32", "--repository", "models", "--budget", "5m"]
    given = [w for pair in zip(common[::2], common[1::2], strict=True) if pair[0] not in words for w in pair]
    arguments = program._parser().parse_args(["shrink", *given, "--runtimes", "onnxruntime", *words])
    return int(arguments.run(arguments))


def cached(root: Path) -> dict[Path, int]:
    """The finished steps of all builds, and when each was made."""
    return {path: path.stat().st_mtime_ns for path in (root / ".build").glob("*/*") if path.is_dir()}


def test_a_student_stands_beside_the_users_own_and_a_second_search_repeats_nothing(
    user: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = shrink("--faster", "2")
    printed = capsys.readouterr().out
    variants = {e.name: repository.verify(e) for e in repository.scan(user / "models")}
    recipes = ("fp32", "int8", "student", "student-int8")
    assert variants.keys() == {f"{recipe}-onnxruntime" for recipe in recipes}
    assert repository.default_variant(user / "models", "mine") == "fp32-onnxruntime"
    student = variants["student-int8-onnxruntime"]
    assert [step.name for step in student.recipe.steps][-3:] == ["student", "fold-input", "static-int8"]
    assert student.network.macs < variants["fp32-onnxruntime"].network.macs  # type: ignore[operator]
    assert student.quality.value > variants["fp32-onnxruntime"].quality.value  # type: ignore[union-attr]
    verdict = printed.splitlines()[-1]
    assert verdict.startswith("Found: student-" if code == 0 else "Not found. The nearest: student-")
    assert "McNemar p" in printed
    before = cached(user / "models")
    assert shrink("--faster", "2") == code
    assert capsys.readouterr().out.splitlines()[-1] == verdict
    assert cached(user / "models") == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--latency", "50us", "--faster", "5"], "--latency: got it with --faster"),
        (["--latency", "50"], "--latency: got '50', expected a time such as 100us or 0.5ms"),
        (["--weights", "none.th"], "there is no file 'none.th'"),
        (["--data", "none.npz"], "--data none.npz: there is no such file"),
        (["--data", "few.npz"], r"--data: got 48 training images beside 32 for calibration, expected 100 or more"),
        (["--data", "seven.npz"], "'linear.bias' has shape"),
    ],
)
def test_what_does_not_fit_is_one_line_before_any_work(user: Path, words: list[str], message: str) -> None:
    np.savez("seven.npz", **foreign.images(600, classes=7))
    np.savez("few.npz", **foreign.images(120))
    with pytest.raises(UsageError, match=message) as error:
        shrink(*words)
    assert "\n" not in str(error.value)
    assert not (user / "models").exists()


@pytest.mark.long
def test_a_latency_that_no_student_has_is_told_after_the_users_own_model_was_built(user: Path) -> None:
    with pytest.raises(UsageError, match=r"no student within 0\.001 ms: the smallest, plain:8/2,16/2,32/2,32, takes"):
        shrink("--latency", "1us")
    assert {e.name for e in repository.scan(user / "models")} == {"fp32-onnxruntime", "int8-onnxruntime"}
