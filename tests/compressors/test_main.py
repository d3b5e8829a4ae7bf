"""pareto-compress as a person runs it: what it prints, and how it ends."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import toy


def compress(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "compressors", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return toy.repository(tmp_path / "models")


def test_list_shows_every_variant_with_its_figures(root: Path) -> None:
    listed = compress("list", root)
    assert listed.returncode == 0
    assert "fp32-onnxruntime │ 75.00%" in listed.stdout
    assert "fp32-openvino" in listed.stdout


def test_list_shows_broken_variants_with_their_reason(root: Path) -> None:
    (root / "toy" / "fp32-openvino" / "manifest.json").unlink()
    assert "BROKEN fp32-openvino: 'manifest.json' is missing" in compress("list", root).stdout


def test_list_speaks_markdown_json_and_csv(root: Path) -> None:
    markdown = compress("list", root, "--format", "markdown").stdout.splitlines()
    assert markdown[0].startswith("| variant | top-1 |")
    assert markdown[2].startswith("| fp32-onnxruntime | 75.00% |")
    records = json.loads(compress("list", root, "--format", "json").stdout)
    assert [record["variant"] for record in records] == ["fp32-onnxruntime", "fp32-openvino"]
    assert records[0]["quality"]["value"] == 0.75
    header, *rows = compress("list", root, "--format", "csv").stdout.splitlines()
    assert header.startswith("model,variant,top1,")
    assert rows[0].startswith("toy,fp32-onnxruntime,0.75,")


def test_plot_writes_a_page_for_each_model(root: Path, tmp_path: Path) -> None:
    plotted = compress("plot", root, "--out", tmp_path / "plots")
    assert plotted.stdout.split() == [str(tmp_path / "plots" / "toy.html")]
    assert "Plotly.newPlot" in (tmp_path / "plots" / "toy.html").read_text()


def test_remeasure_shows_this_hosts_figures_and_list_shows_them_again(root: Path) -> None:
    remeasured = compress("remeasure", root)
    assert remeasured.returncode == 0
    assert "fp32-onnxruntime │ 75.00%" in remeasured.stdout
    assert remeasured.stdout.endswith("Nothing is otherwise than where it was built.\n")
    assert "calls each, interleaved" in compress("list", root, "--host").stdout
    assert "not measured on this host" not in compress("list", root, "--host").stdout


def test_verify_passes_what_is_whole(root: Path) -> None:
    verified = compress("verify", root)
    assert verified.stdout.split() == ["ok", "toy/fp32-onnxruntime", "ok", "toy/fp32-openvino"]
    assert verified.returncode == 0


def test_verify_names_an_altered_file_and_a_wrong_answer(root: Path) -> None:
    with (root / "toy" / "fp32-openvino" / "model.onnx").open("ab") as stream:
        stream.write(b"x")
    toy.publish_variant(root, "onnxruntime", factor=2.1)
    verified = compress("verify", root)
    assert "BROKEN  toy/fp32-onnxruntime: golden outputs differ by 0.0" in verified.stdout
    assert "BROKEN  toy/fp32-openvino: file 'model.onnx' has" in verified.stdout
    assert verified.returncode == 1


def test_promote_sets_the_default(root: Path) -> None:
    assert compress("promote", "toy", "fp32-openvino", "--repository", root).returncode == 0
    assert (root / "toy" / "default").read_text() == "fp32-openvino\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "nowhere"], "pareto-compress: repository 'nowhere' is not a folder"),
        (["verify", "nowhere"], "pareto-compress: repository 'nowhere' is not a folder"),
        (["promote", "a", "b", "--repository", "nowhere"], "pareto-compress: repository 'nowhere' is not a folder"),
        (["plot", "nowhere"], "pareto-compress: repository 'nowhere' is not a folder"),
        (["build", "--onnx", "x.onnx"], "pareto-compress: --name is missing"),
        (["build", "--study", "mnist"], "pareto-compress: got study 'mnist', expected one of digits"),
        (["build", "--study", "digits", "--data", "x"], "pareto-compress: the digits are part of scikit-learn"),
        (["build", "--study", "resnet18-cifar10", "--data", "nowhere"], "pareto-compress: --data nowhere: expected"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    ended = compress(*arguments)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith(message)
    assert ended.stdout == ""
    assert list(tmp_path.iterdir()) == []
