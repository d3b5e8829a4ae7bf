"""Packed files: small on disk, the same when loaded, and nothing more than the manifest says."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from protos import packing, repository
from protos.errors import IntegrityError, ManifestError
from protos.manifest import File, from_json, to_json
from server import runtimes
from tests.support import toy


def packed(root: Path, folder: Path) -> Path:
    """The toy's FP32 variant for ONNX Runtime, published again with its file packed."""
    entry = repository.scan(toy.repository(root))[0]
    assert entry.variant is not None
    folder.mkdir()
    (folder / "model.onnx").write_bytes((entry.folder / "model.onnx").read_bytes())
    packing.pack(folder)
    return repository.publish(root, dataclasses.replace(entry.variant, files=repository.describe_files(folder)), folder)


@pytest.fixture
def variant(tmp_path: Path) -> Path:
    return packed(tmp_path / "models", tmp_path / "artifact")


def test_it_is_stored_packed_and_answers_as_before(variant: Path) -> None:
    assert sorted(path.name for path in variant.iterdir()) == ["manifest.json", "model.onnx.xz"]
    loaded = repository.verify(repository.read_entry(variant))
    assert loaded.entry == "model.onnx"
    assert loaded.artifact_bytes == (variant / "model.onnx.xz").stat().st_size
    adapter = runtimes.load(variant, loaded, 1)
    np.testing.assert_allclose(adapter.infer({"input": toy.images(3)})["logits"], toy.answer(toy.images(3)), rtol=1e-6)
    assert from_json(to_json(loaded)) == loaded


def test_nothing_stays_in_the_temporary_folder(variant: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "artifact"))
    (tmp_path / "artifact" / "model.onnx.xz").unlink()
    runtimes.load(variant, repository.verify(repository.read_entry(variant)), 1)
    assert list((tmp_path / "artifact").iterdir()) == []


@pytest.mark.parametrize("size", [0, 1, 999_999, 1_000_001, 5_000_000])
def test_what_unpacks_to_another_size_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "zeros").write_bytes(bytes(1_000_000))
    packing.pack(tmp_path)
    (file,) = repository.describe_files(tmp_path)
    assert file.unpacked_bytes == 1_000_000
    target = tmp_path / "unpacked"
    with pytest.raises(IntegrityError, match=rf"'zeros\.xz' does not unpack to {size} bytes"):
        packing.unpack(tmp_path, (dataclasses.replace(file, unpacked_bytes=size),), target)
    assert (target / "zeros").stat().st_size <= size + 1
    packing.unpack(tmp_path, (file,), tmp_path / "good")
    assert (tmp_path / "good" / "zeros").read_bytes() == bytes(1_000_000)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "no xz": lambda content: b"PK\3\4" + content,
    "cut off": lambda content: content[:-20],
    "empty": lambda content: b"",
    "a flipped byte": lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_a_broken_variant_with_its_reason(tmp_path: Path, damage: str) -> None:
    (tmp_path / "noise").write_bytes(np.random.default_rng(0).bytes(10_000))
    packing.pack(tmp_path)
    (file,) = repository.describe_files(tmp_path)
    (tmp_path / "noise.xz").write_bytes(DAMAGE[damage]((tmp_path / "noise.xz").read_bytes()))
    with pytest.raises(IntegrityError, match="does not unpack to 10000 bytes"):
        packing.unpack(tmp_path, (file,), tmp_path / "unpacked")


def test_files_that_are_not_packed_lie_beside_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "model.bin").write_bytes(b"weights")
    packing.pack(tmp_path)
    (tmp_path / "model.xml").write_text("graph")
    packing.unpack(tmp_path, repository.describe_files(tmp_path), tmp_path / "unpacked")
    assert (tmp_path / "unpacked" / "a" / "model.bin").read_bytes() == b"weights"
    assert (tmp_path / "unpacked" / "model.xml").read_text() == "graph"


def test_an_entry_must_be_what_one_of_the_files_is_loaded_as(variant: Path) -> None:
    data = json.loads((variant / "manifest.json").read_text())
    with pytest.raises(ManifestError, match=r"'model\.onnx\.xz' is not among its files"):
        from_json(json.dumps(data | {"entry": "model.onnx.xz"}))


def test_a_name_alone_does_not_make_a_file_packed() -> None:
    assert File("data.xz", "0", 1).loaded_as == "data.xz"
    assert File("data.xz", "0", 1, unpacked_bytes=3).loaded_as == "data"
