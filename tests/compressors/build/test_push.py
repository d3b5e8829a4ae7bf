"""`pareto-compress push`: what it refuses before anything is sent, in which order it sends, and what it shows."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from compressors.__main__ import main
from compressors.build.push import push
from protos.repository import GOLDEN, MANIFEST
from protos.stores.oci import Artifact
from tests.support import toy, toy_detector
from tests.support.stores.servers import Registry

FIRST, SECOND = "fp32-onnxruntime", "fp32-openvino"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return toy.repository(tmp_path / "models")


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """An address in a registry, where nothing is yet."""
    (folder := tmp_path / "store").mkdir()
    registry = Registry(folder)
    with registry.running():
        yield registry.url


def test_a_broken_variant_is_named_and_nothing_is_sent(
    root: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "toy" / SECOND / "model.onnx").write_bytes(b"damaged")
    assert main(["push", url, "--repository", str(root)]) == 2
    assert capsys.readouterr().err.startswith(
        f"pareto-compress: nothing is sent: variant 'toy/{SECOND}': file 'model.onnx' has 7 bytes, expected "
    )
    assert Artifact(url).list() == {}


def test_a_model_without_its_golden_set_is_not_sent(root: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "toy" / GOLDEN).unlink()
    assert main(["push", url, "--repository", str(root)]) == 2
    assert f"variant 'toy/{FIRST}': '{GOLDEN}' of model 'toy' is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["{url}", "--models", "toy,other"], "pareto-compress: got model 'other', expected one of ['toy']\n"),
        (["ftp://user:hidden@host"], "pareto-compress: got a URL of another scheme, expected a folder or one of "),
        (["oci://127.0.0.1:9/team/models"], "pareto-compress: oci://127.0.0.1:9/team/models: HTTPConnectionPool("),
    ],
)
def test_what_cannot_be_pushed_is_one_line_and_exit_code_2(
    root: Path, url: str, asked: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", *(part.format(url=url) for part in asked), "--repository", str(root)]) == 2
    text = capsys.readouterr().err
    assert (text.startswith(said), text.count("\n"), "hidden" in text) == (True, 1, False)


def test_what_was_sent_and_what_was_there_is_a_table_on_standard_output(
    root: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    push(root, url, [], delete=False)
    shutil.rmtree(root / "toy" / SECOND)
    toy.publish_variant(root, "onnxruntime", "other")
    assert main(["push", url, "--models", "toy", "--delete", "--repository", str(root)]) == 0
    shown = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [[name, sent, kept, removed] for name, sent, _, kept, removed in shown] == [
        ["toy", "0", "3", "0"],
        [f"toy/{FIRST}", "0", "2", "0"],
        [f"toy/{SECOND}", "0", "0", "2"],
        ["toy/other-onnxruntime", "2", "0", "0"],
    ]


def test_manifests_are_sent_when_all_other_files_are_there(
    root: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    send = Artifact.send

    def noted(self: Artifact, path: str, source: Path) -> None:
        send(self, path, source)
        order.append(path.rpartition("/")[2])

    monkeypatch.setattr(Artifact, "send", noted)
    push(root, url, [], delete=False)
    assert (len(order), order[-2:]) == (7, [MANIFEST, MANIFEST])
    assert MANIFEST not in order[:-2]


def test_another_model_at_the_store_is_left_alone(root: Path, url: str, tmp_path: Path) -> None:
    push(root, url, [], delete=False)
    before = Artifact(url).list()
    push(toy_detector.repository(tmp_path / "others"), url, [], delete=True)
    after = Artifact(url).list()
    assert before.items() <= after.items()
    assert {path.partition("/")[0] for path in after} == {"toy", "detector"}
