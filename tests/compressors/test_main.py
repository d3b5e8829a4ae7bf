"""pareto-compress as a person runs it: what it prints, and how it ends."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from compressors.__main__ import main
from tests.support import toy


@dataclass(frozen=True)
class Ended:
    """What a command line printed, and its exit code."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture
def compress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Runs a command line; what it prints is 80 characters wide."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str | Path) -> Ended:
        code = main([*map(str, arguments)])
        return Ended(code, *capsys.readouterr())

    return run


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that is found without `--repository`."""
    monkeypatch.chdir(tmp_path)
    return toy.repository(tmp_path / "models")


@pytest.mark.usefixtures("root")
def test_list_shows_every_variant_with_its_figures(compress: Callable[..., Ended]) -> None:
    listed = compress("list")
    assert (listed.code, listed.stderr) == (0, "")
    assert [line.split()[:2] for line in listed.stdout.splitlines() if line.startswith("fp32-")] == [
        ["fp32-onnxruntime", "75.00%"],
        ["fp32-openvino", "75.00%"],
    ]


@pytest.mark.usefixtures("root")
def test_list_shows_more_columns_where_they_are_asked_for(compress: Callable[..., Ended]) -> None:
    assert "params" not in compress("list").stdout
    assert "M params" in compress("list", "--wide").stdout
    chosen = compress("list", "--format", "markdown", "--columns", "million_macs,top1").stdout.splitlines()
    assert chosen[0] == "| variant | M MACs | top-1 |"


@pytest.mark.usefixtures("root")
def test_a_column_that_there_is_not_is_refused_with_those_that_there_are(compress: Callable[..., Ended]) -> None:
    refused = compress("list", "--columns", "top1,p51")
    assert (refused.code, refused.stdout) == (2, "")
    assert refused.stderr.startswith("pareto-compress: --columns: got 'p51', expected some of variant, top1, top5, ")


def test_list_shows_broken_variants_with_their_reason(compress: Callable[..., Ended], root: Path) -> None:
    (root / "toy" / "fp32-openvino" / "manifest.json").unlink()
    assert "BROKEN fp32-openvino: 'manifest.json' is missing" in compress("list").stdout


@pytest.mark.usefixtures("root")
def test_list_speaks_markdown_json_and_csv(compress: Callable[..., Ended]) -> None:
    markdown = compress("list", "--format", "markdown").stdout.splitlines()
    assert markdown[0] == "| variant | top-1 | against FP32 | MB | memory MB |"
    assert markdown[2].startswith("| fp32-onnxruntime | 75.00% |")
    records = json.loads(compress("list", "--json").stdout)
    assert [record["variant"] for record in records] == ["fp32-onnxruntime", "fp32-openvino"]
    assert records[0]["quality"]["value"] == 0.75
    header, *rows = compress("list", "--format", "csv").stdout.splitlines()
    assert header.startswith("model,variant,top1,")
    assert rows[0].startswith("toy,fp32-onnxruntime,0.75,")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--json", "--wide"), "which have all columns"),
        (("--format", "csv", "--columns", "top1"), "which have all columns"),
        (("--json", "--format", "csv"), "--json: got it with --format csv, expected one of them"),
    ],
)
@pytest.mark.usefixtures("root")
def test_what_contradicts_itself_is_refused(compress: Callable[..., Ended], flags: tuple[str, ...], said: str) -> None:
    refused = compress("list", *flags)
    assert (refused.code, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert said in refused.stderr


def test_plot_writes_a_page_for_each_model(compress: Callable[..., Ended], root: Path, tmp_path: Path) -> None:
    plotted = compress("plot", "--repository", root, "--out", tmp_path / "plots")
    assert plotted.stdout == f"Report: {tmp_path / 'plots' / 'toy.html'}\n"
    assert "Plotly.newPlot" in (tmp_path / "plots" / "toy.html").read_text()


@pytest.mark.usefixtures("root")
def test_remeasure_shows_this_hosts_figures_and_list_shows_them_again(compress: Callable[..., Ended]) -> None:
    remeasured = compress("remeasure")
    assert remeasured.code == 0
    assert "fp32-onnxruntime  75.00%" in remeasured.stdout
    assert remeasured.stdout.endswith("Nothing is otherwise than where it was built.\n")
    listed = " ".join(compress("list", "--host").stdout.split())
    assert "calls each, interleaved" in listed
    assert "not measured on this host" not in listed


@pytest.mark.usefixtures("root")
def test_verify_passes_what_is_whole(compress: Callable[..., Ended]) -> None:
    verified = compress("verify")
    assert verified.stdout.split() == ["ok", "toy/fp32-onnxruntime", "ok", "toy/fp32-openvino"]
    assert verified.code == 0


def test_verify_names_an_altered_file_and_a_wrong_answer(compress: Callable[..., Ended], root: Path) -> None:
    with (root / "toy" / "fp32-openvino" / "model.onnx").open("ab") as stream:
        stream.write(b"x")
    toy.publish_variant(root, "onnxruntime", factor=2.1)
    verified = compress("verify")
    assert "BROKEN  toy/fp32-onnxruntime: golden outputs differ by 0.0" in verified.stdout
    assert "BROKEN  toy/fp32-openvino: file 'model.onnx' has" in verified.stdout
    assert verified.code == 1


def test_promote_sets_the_default(compress: Callable[..., Ended], root: Path) -> None:
    assert compress("promote", "toy", "fp32-openvino").code == 0
    assert (root / "toy" / "default").read_text() == "fp32-openvino\n"


NO_REPOSITORY = "expected a folder with MODEL/VARIANT/manifest.json, as `pareto-compress build` writes it"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list"], f"pareto-compress: --repository: got 'models', {NO_REPOSITORY}"),
        (["list", "--repository", "."], f"pareto-compress: --repository: got '.', {NO_REPOSITORY}"),
        (["verify", "--repository", "no"], f"pareto-compress: --repository: got 'no', {NO_REPOSITORY}"),
        (["promote", "a", "b"], f"pareto-compress: --repository: got 'models', {NO_REPOSITORY}"),
        (["plot"], f"pareto-compress: --repository: got 'models', {NO_REPOSITORY}"),
        (["remeasure"], f"pareto-compress: --repository: got 'models', {NO_REPOSITORY}"),
        (["build", "--onnx", "x.onnx"], "pareto-compress: --name is missing"),
        (["build", "--study", "mnist"], "pareto-compress: got study 'mnist', expected one of digits"),
        (["build", "--study", "digits", "--data", "x"], "pareto-compress: the digits are part of scikit-learn"),
        (["build", "--study", "resnet18-cifar10", "--data", "nowhere"], "pareto-compress: --data nowhere: expected"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(
    compress: Callable[..., Ended],
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = compress(*arguments)
    assert ended.code == 2
    assert ended.stderr.splitlines()[-1].startswith(message)
    assert ended.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_other_folders_is_no_repository(compress: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "some" / "thing").mkdir(parents=True)
    refused = compress("list", "--repository", tmp_path)
    assert (refused.code, refused.stderr) == (2, f"pareto-compress: --repository: got '{tmp_path}', {NO_REPOSITORY}\n")


def test_a_reader_that_takes_only_the_first_line_gets_no_traceback() -> None:
    command = f"set -o pipefail; {sys.executable} -m compressors build --help | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("usage: pareto-compress build ")
    assert (done.stdout.count("\n"), done.stderr) == (1, "")
    assert done.returncode in (0, 141)  # by which of the two was faster
