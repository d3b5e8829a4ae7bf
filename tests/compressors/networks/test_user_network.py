"""A user's own model: one command makes measured variants of it, and what does not fit is one line before that."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnxruntime.quantization import quantize_dynamic

from compressors import __main__ as program
from compressors import study
from compressors.networks import user_network
from compressors.recipes.steps import LoadFile
from protos import repository
from protos.errors import UsageError
from server import runtimes
from tests.support.compressors import foreign
from tests.support.compressors.world import small_world

NETWORK = ["--model", "theirs:resnet20", "--weights", "resnet20.th"]


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a user: a network's file, its weights as a training script leaves them, a graph, and images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("theirs.py").write_text(foreign.RESNET20)
    network = user_network.factory("theirs:resnet20")(10).eval()
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": state, "best_prec1": 91.7}, "resnet20.th")
    np.savez("photos.npz", **foreign.images())
    onnx.save(foreign.graph(), "theirs.onnx")
    with small_world():
        yield tmp_path
    sys.modules.pop("theirs", None)


def build(*words: str) -> int:
    """Runs `pareto-compress build` in this process."""
    common = ["--name", "mine", "--data", "photos.npz", "--calibration", "32", "--repository", "models"]
    chosen = [w for pair in zip(common[::2], common[1::2], strict=True) if pair[0] not in words for w in pair]
    arguments = program._parser().parse_args(["build", *words, *chosen])
    return int(arguments.run(arguments))


def answers(root: Path, name: str, inputs: np.ndarray) -> np.ndarray:
    (entry,) = [e for e in repository.scan(root) if e.name == name]
    variant = repository.verify(entry)
    return runtimes.load(entry.folder, variant, 1).infer({variant.inputs[0].name: inputs})[variant.outputs[0].name]


def test_a_foreign_resnet20_becomes_fp32_and_int8_variants(user: Path) -> None:
    assert build(*NETWORK, "--runtimes", "torchscript", "onnxruntime", "--mean", "0.5,0.5,0.5") == 0
    variants = {e.name: repository.verify(e) for e in repository.scan(user / "models")}
    assert variants.keys() == {f"{r}-{rt}" for r in ("fp32", "int8") for rt in ("torchscript", "onnxruntime")}
    fp32 = variants["fp32-onnxruntime"]
    assert fp32.network.parameters == 269_722  # 0.27 M, as the paper's table 6 has it
    assert fp32.preprocessing.mean == (0.5, 0.5, 0.5)
    assert fp32.recipe.steps[0].parameters == {
        "file": "resnet20.th",
        "sha256": repository.sha256(user / "resnet20.th"),
    }
    assert fp32.quality is not None
    assert (fp32.quality.dataset, fp32.quality.samples) == ("photos test", 40)
    network = user_network.factory("theirs:resnet20")(10)
    saved = torch.load("resnet20.th", weights_only=True)["state_dict"]
    network.load_state_dict({name.removeprefix("module."): value for name, value in saved.items()})
    inputs = np.random.default_rng(1).random((3, 3, 32, 32), np.float32)
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(inputs)).numpy()
    np.testing.assert_allclose(answers(user / "models", "fp32-onnxruntime", inputs), expected, atol=1e-4)
    assert str(user) not in (user / "models" / "mine" / "fp32-onnxruntime" / "manifest.json").read_text()


def test_a_foreign_graph_becomes_variants_where_it_can_run(user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build("--onnx", "theirs.onnx", "--max-drop", "5") == 0
    names = {e.name for e in repository.scan(user / "models")}
    assert names == {f"{r}-{rt}" for r in ("fp32", "int8", "int8-aware") for rt in ("onnxruntime", "openvino")}
    assert repository.default_variant(user / "models", "mine") == "fp32-onnxruntime"
    inputs = np.random.default_rng(1).random((3, 3, 32, 32), np.float32)
    session = onnx.reference.ReferenceEvaluator(foreign.graph("batch"))
    expected = session.run(None, {"logits": inputs})[0]
    for runtime in ("onnxruntime", "openvino"):
        np.testing.assert_allclose(answers(user / "models", f"fp32-{runtime}", inputs), expected, atol=1e-4)
    printed = capsys.readouterr().out
    assert "int8-torchscript: refused: an ONNX graph brings no PyTorch network." in " ".join(printed.split())
    capsys.readouterr()
    program._list(program._parser().parse_args(["list"]))
    assert "refused: an ONNX graph brings no PyTorch network." in " ".join(capsys.readouterr().out.split())


def test_a_graph_of_one_row_is_built_and_served_without_batching(user: Path) -> None:
    nodes = (
        onnx.helper.make_node("Concat", ["scores", "token"], ["both"], axis=1),
        onnx.helper.make_node("Slice", ["both", "zero", "ten", "one"], ["given"]),
    )
    integers = {"zero": np.array([0]), "one": np.array([1]), "ten": np.array([10])}
    graph = foreign.graph("n", size=("c", "h", "w"), after=nodes, token=np.ones((1, 2), np.float32), **integers)
    onnx.save(graph, "theirs.onnx")
    assert build("--onnx", "theirs.onnx", "--input-shape", "3,32,32") == 0
    inputs = (foreign.images()["images"][:3].transpose(0, 3, 1, 2) / 255).astype(np.float32)
    expected = onnx.reference.ReferenceEvaluator(foreign.graph("batch")).run(None, {"logits": inputs})[0]
    entries = [repository.verify(entry) for entry in repository.scan(user / "models")]
    assert len(entries) == 4
    for variant in entries:
        assert variant.max_batch == 1
        assert "its graph takes one row at a time: served without batching" in variant.notes
        given = answers(user / "models", variant.variant, inputs)
        np.testing.assert_allclose(given, expected, atol=1e-4 if variant.precision == "fp32" else 0.5)


def test_a_graph_that_is_int8_already_is_published_as_it_is(user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quantize_dynamic("theirs.onnx", "int8.onnx", op_types_to_quantize=["MatMul"])
    assert build("--onnx", "int8.onnx", "--runtimes", "onnxruntime") == 0
    (variant,) = [repository.verify(entry) for entry in repository.scan(user / "models")]
    assert (variant.variant, variant.precision) == ("int8-onnxruntime", "int8")
    assert variant.quality is not None
    assert variant.quality.fp32 is None
    assert variant.network.parameters == 8 * 27 + 80 + 1  # and a scale
    assert [step.name for step in variant.recipe.steps] == ["load"]
    assert repository.default_variant(user / "models", "mine") == "int8-onnxruntime"
    assert "int8 as it was given" in " ".join(capsys.readouterr().out.split())


def test_changed_code_makes_another_network(user: Path) -> None:
    def weights() -> set[str]:
        return {repository.verify(e).sources.parent_weights for e in repository.scan(user / "models")}

    shallow = foreign.RESNET20.replace("ResNet(3", "ResNet(1")
    Path("theirs.py").write_text(shallow)
    sys.modules.pop("theirs")
    torch.save(user_network.factory("theirs:resnet20")(10).state_dict(), "resnet20.th")
    build(*NETWORK, "--runtimes", "torchscript")
    first = weights()
    Path("theirs.py").write_text(shallow.replace("return self.linear(", "return 2 * self.linear("))
    sys.modules.pop("theirs")
    inputs = np.random.default_rng(1).random((2, 3, 32, 32), np.float32)
    before = answers(user / "models", "fp32-torchscript", inputs)
    build(*NETWORK, "--runtimes", "torchscript")
    assert weights() == first
    np.testing.assert_allclose(answers(user / "models", "fp32-torchscript", inputs), 2 * before, rtol=1e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "theirs:resnet20"], "--weights is missing"),
        (["--model", "theirs:resnet20", "--weights", "none.th"], "there is no file 'none.th'"),
        (["--model", "theirs:resnet20", "--weights", "theirs.py"], r"theirs\.py: torch\.load\(weights_only=True\)"),
        (["--model", "theirs:resnet21", "--weights", "resnet20.th"], "theirs' has no attribute 'resnet21'"),
        (["--model", "nowhere:resnet20", "--weights", "resnet20.th"], "No module named 'nowhere'"),
        (["--model", "theirs:not_a_network", "--weights", "resnet20.th"], "it makes a str, expected a torch.nn.Module"),
        ([*NETWORK, "--input-shape", "3,28,28"], r"got images of \[3, 32, 32\], expected \[3, 28, 28\]"),
        ([*NETWORK, "--input-shape", "1,32,32"], "1 channels, expected 3"),
        ([*NETWORK, "--data", "none.npz"], "--data none.npz: there is no such file"),
        ([*NETWORK, "--data", "seven.npz"], "'linear.bias' has shape"),
        (
            ["--model", "theirs:fixed", "--weights", "resnet20.th", "--data", "seven.npz"],
            "10 classes apart, the data has 7",
        ),
        (["--onnx", "theirs.onnx", "--data", "seven.npz"], "10 classes apart, the data has 7"),
        (["--onnx", "theirs.py"], r"theirs\.py: not an ONNX graph"),
        (["--onnx", "theirs.onnx", "--weights", "resnet20.th"], "got --weights with --onnx"),
        (["--study", "digits", "--mean", "0,0,0"], "got --name with --study"),
    ],
)
def test_what_does_not_fit_is_one_line_before_any_work(user: Path, words: list[str], message: str) -> None:
    np.savez("seven.npz", **foreign.images(classes=7))
    with pytest.raises(UsageError, match=message) as error:
        build(*words)
    assert "\n" not in str(error.value)
    assert not (user / "models").exists()


def test_a_study_loads_a_users_network_too(user: Path) -> None:
    Path("s.toml").write_text(
        'models = { m = "theirs:resnet20" }\ndata = "arrays"\ncalibration = 8\nruntimes = ["onnxruntime"]\n'
        'input = { std = [0.5, 0.5, 0.5] }\n[recipes.fp32]\nstep = "load"\nfile = "resnet20.th"\n'
    )
    (declared,) = study.load("s.toml")
    assert declared.form.std == (0.5, 0.5, 0.5)
    assert isinstance(declared.recipes[0].step, LoadFile)


def test_a_graph_takes_no_training(user: Path) -> None:
    Path("s.toml").write_text(
        'models = { m = "onnx" }\ndata = "arrays"\ncalibration = 8\nruntimes = ["onnxruntime"]\n[recipes.fp32]\n'
        'step = "load"\nfile = "theirs.onnx"\n[recipes.channels50]\nstep = "channel-pruning"\nparent = "fp32"\n'
        "ratio = 0.5\nfit = { epochs = 1, batch = 8, learning_rate = 0.1 }\n"
    )
    with pytest.raises(UsageError, match="step 'channel-pruning' needs a PyTorch network, an ONNX graph is none"):
        study.load("s.toml")
