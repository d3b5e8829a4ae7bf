"""The repository: whole or not at all, and what is damaged is listed with its reason."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from protos import repository
from protos.errors import IntegrityError, ManifestError, NotFoundError, VariantError
from protos.manifest import File
from tests.support import toy

VARIANTS = ["fp32-onnxruntime", "fp32-openvino"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return toy.repository(tmp_path / "models")


def test_scan_lists_what_was_published(root: Path) -> None:
    entries = repository.scan(root)
    assert [(e.model, e.name) for e in entries] == [("toy", name) for name in VARIANTS]
    assert all(repository.verify(entry) == entry.variant for entry in entries)


def test_scan_of_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        repository.scan(tmp_path / "nowhere")


def _flip_byte(folder: Path) -> None:
    path = folder / "model.onnx"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


def _truncate(folder: Path) -> None:
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1])


def _edit_manifest(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DAMAGE: dict[str, tuple[Callable[[Path], object], type[VariantError], str]] = {
    "a flipped byte": (_flip_byte, IntegrityError, "'model.onnx' was altered"),
    "a truncated file": (_truncate, IntegrityError, "'model.onnx' has .* bytes, expected"),
    "a missing file": (lambda f: (f / "model.onnx").unlink(), IntegrityError, "'model.onnx' is missing"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), ManifestError, "'manifest.json' is missing"),
    "an empty manifest": (lambda f: (f / "manifest.json").write_text(""), ManifestError, "not JSON"),
    "a binary manifest": (lambda f: (f / "manifest.json").write_bytes(b"\xff"), ManifestError, "cannot be read"),
    "another schema": (lambda f: _edit_manifest(f, schema=99), ManifestError, "schema 99, expected 2"),
    "no golden error": (lambda f: _edit_manifest(f, golden=None), ManifestError, "'golden' is missing"),
    "another variant's": (lambda f: _edit_manifest(f, variant="x"), ManifestError, "is of 'toy/x'"),
    "a path out of the folder": (
        lambda f: _edit_manifest(
            f, entry="../a", files=[{"path": "../a", "sha256": "0", "bytes": 1}]
        ),
        ManifestError,
        "lies outside",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "error", "reason"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_listed_with_its_reason(
    root: Path, damage: Callable[[Path], object], error: type[VariantError], reason: str
) -> None:
    damage(root / "toy" / "fp32-openvino")
    good, broken = repository.scan(root)
    repository.verify(good)
    with pytest.raises(error, match=reason):
        repository.verify(broken)


def test_hidden_folders_are_no_variants(root: Path) -> None:
    (root / "toy" / ".fp32-pytorch.half").mkdir()
    (root / ".build" / "toy").mkdir(parents=True)
    assert [entry.name for entry in repository.scan(root)] == VARIANTS


def test_publishing_what_the_manifest_does_not_say_changes_nothing(root: Path, tmp_path: Path) -> None:
    folder = root / "toy" / "fp32-openvino"
    before = {path: path.read_bytes() for path in folder.iterdir()}
    variant = repository.scan(root)[1].variant
    assert variant is not None
    wrong = dataclasses.replace(variant, files=(File("model.onnx", "0" * 64, variant.files[0].bytes),))
    artifact = shutil.copytree(folder, tmp_path / "artifact")
    with pytest.raises(IntegrityError, match="was altered"):
        repository.publish(root, wrong, artifact)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in (root / "toy").iterdir() if path.name.startswith(".")] == []


def test_publishing_again_replaces_the_variant(root: Path) -> None:
    toy.publish_variant(root, "openvino", factor=3.0)
    variant = repository.verify(repository.scan(root)[1])
    assert variant.recipe.steps[0].parameters == {"factor": 3.0}


def test_leftovers_of_an_interruption_are_removed_by_the_next_publication(root: Path) -> None:
    leftover = root / "toy" / ".fp32-openvino.tmp"
    leftover.mkdir()
    toy.publish_variant(root, "openvino")
    assert not leftover.exists()


def test_a_scan_of_one_model_lists_what_the_whole_scan_does(root: Path) -> None:
    assert repository.scan_model(root, "toy") == repository.scan(root)


@pytest.mark.parametrize("name", ["nope", "", "..", "../models", "toy/fp32-openvino", "a\0", "x" * 100_000])
def test_a_scan_of_no_model_lists_nothing_whatever_its_name(root: Path, name: str) -> None:
    assert repository.scan_model(root, name) == []


def test_a_snapshot_is_another_after_each_publication_promotion_and_golden_set_and_only_then(root: Path) -> None:
    snapshots = [repository.snapshot(root)]
    for change in (
        lambda: toy.publish_variant(root, "onnxruntime"),
        lambda: repository.promote(root, "toy", "fp32-openvino"),
        lambda: repository.save_golden(root, "toy", repository.load_golden(root, "toy")),
        lambda: shutil.rmtree(root / "toy" / "fp32-openvino"),
        lambda: (root / "toy" / "fp32-onnxruntime" / "manifest.json").unlink(),
    ):
        assert repository.snapshot(root) == snapshots[-1]
        change()
        assert repository.snapshot(root) != snapshots[-1]
        snapshots.append(repository.snapshot(root))
    assert snapshots[-1] == {"toy": repository.Snapshot("fp32-openvino", {"fp32-onnxruntime": None})}


def test_a_snapshot_has_the_fingerprints_of_the_scan(root: Path) -> None:
    fingerprints = {entry.name: entry.fingerprint for entry in repository.scan(root)}
    assert repository.snapshot(root)["toy"] == repository.Snapshot("fp32-onnxruntime", fingerprints)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a b", "-x", "a\0"])
def test_names_that_are_no_folder_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected letters"):
        repository.check_name(name)


def test_the_golden_set_survives_the_disk(root: Path) -> None:
    golden = repository.load_golden(root, "toy")
    assert (golden.inputs.keys(), golden.outputs.keys(), len(golden)) == ({"input"}, {"logits"}, 4)
    np.testing.assert_array_equal(golden.outputs["logits"], toy.answer(golden.inputs["input"]))


@pytest.mark.parametrize("missing", ["input.input", "output.logits"])
def test_a_golden_set_has_inputs_and_outputs(root: Path, missing: str) -> None:
    with np.load(root / "toy" / "golden.npz") as arrays:
        kept = {name: array for name, array in arrays.items() if name != missing}
    np.savez(root / "toy" / "golden.npz", **kept)
    with pytest.raises(IntegrityError, match="expected inputs, outputs, as many"):
        repository.load_golden(root, "toy")


@pytest.mark.parametrize("content", [None, b"", b"PK\3\4 not a zip"])
def test_a_golden_set_that_cannot_be_read_is_named(root: Path, content: bytes | None) -> None:
    path = root / "toy" / "golden.npz"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"'golden\.npz' of model 'toy'"):
        repository.load_golden(root, "toy")


def test_a_pickle_in_the_golden_set_is_not_read(root: Path) -> None:
    np.savez(root / "toy" / "golden.npz", **{"input.input": np.array([{}]), "output.logits": np.zeros(1)})
    with pytest.raises(IntegrityError, match="its contents are damaged") as caught:
        repository.load_golden(root, "toy")
    assert "allow_pickle=False" in str(caught.value.__cause__)


def test_the_test_split_survives_the_disk(root: Path) -> None:
    test, made = repository.load_evaluation_set(root, "toy", "classification"), toy.evaluation_set()
    np.testing.assert_array_equal(test.images, made.images)
    np.testing.assert_array_equal(test.truth["labels"], made.truth["labels"])
    np.testing.assert_array_equal(test.reference["best"], made.reference["best"])


def test_images_of_many_sizes_survive_the_disk_as_their_files(root: Path) -> None:
    made, files = toy.evaluation_set(), np.empty(12, np.object_)
    files[:] = [bytes(range(length)) for length in range(12)]
    repository.save_evaluation_set(root, "toy", replace(made, images=files))
    assert repository.load_evaluation_set(root, "toy", "classification").images.tolist() == files.tolist()


def test_a_part_of_the_test_split_has_the_truth_and_the_answers_of_its_images(root: Path) -> None:
    made, rows = toy.evaluation_set(), np.array([7, 3])
    part = made.take(rows)
    np.testing.assert_array_equal(part.images, made.images[rows])
    np.testing.assert_array_equal(part.truth["labels"], made.truth["labels"][rows])
    np.testing.assert_array_equal(part.reference["best"], made.reference["best"][rows])


@pytest.mark.parametrize("content", [None, b"", b"PK\3\4 not a zip"])
def test_a_test_split_that_cannot_be_read_is_named(root: Path, content: bytes | None) -> None:
    path = root / "toy" / "test.npz"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"'test\.npz' of model 'toy'"):
        repository.load_evaluation_set(root, "toy", "classification")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"images.pixels": np.zeros((12, 3, 4, 4), np.uint8)},
            r"got images uint8 \[12, 3, 4, 4\], expected uint8 \(N, H",
        ),
        ({"images.pixels": np.zeros((12, 4, 4, 3), np.float32)}, r"got images float32 \[12, 4, 4, 3\]"),
        ({"truth.labels": np.zeros(11, np.int64)}, r"got labels int64 \[11\], expected int64 \[12\]"),
        ({"reference.best": np.zeros(12, np.float32)}, r"got classes float32 \[12\], expected int64 \[12, 1 or more\]"),
        ({"truth.labels": None}, "'labels' is missing"),
    ],
)
def test_arrays_that_are_no_test_split_are_named(
    root: Path, changes: dict[str, np.ndarray | None], message: str
) -> None:
    with np.load(root / "toy" / "test.npz") as arrays:
        changed = dict(arrays) | changes
    np.savez(root / "toy" / "test.npz", **{name: array for name, array in changed.items() if array is not None})
    with pytest.raises(IntegrityError, match=rf"'test\.npz' of model 'toy': {message}"):
        repository.load_evaluation_set(root, "toy", "classification")


def test_a_test_split_is_written_whole_or_not_at_all(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(stream: BinaryIO, **arrays: np.ndarray) -> None:
        stream.write(b"half")
        raise OSError("disk full")

    before = {path: path.read_bytes() for path in (root / "toy").glob("*.npz")}
    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        repository.save_evaluation_set(root, "toy", toy.evaluation_set())
    assert {path: path.read_bytes() for path in (root / "toy").iterdir() if path.suffix in (".npz", ".tmp")} == before


def test_a_damaged_test_split_is_no_matter_of_the_variants(root: Path) -> None:
    before = (repository.scan(root), repository.snapshot(root))
    (root / "toy" / "test.npz").write_bytes(b"damaged")
    assert (repository.scan(root), repository.snapshot(root)) == before


def test_promote_sets_the_default(root: Path) -> None:
    assert repository.default_variant(root, "toy") == "fp32-onnxruntime"
    repository.promote(root, "toy", "fp32-openvino")
    assert repository.default_variant(root, "toy") == "fp32-openvino"


def test_a_default_that_is_no_text_is_a_variant_that_does_not_exist(root: Path) -> None:
    (root / "toy" / "default").write_bytes(b"\xfffp32-openvino")
    assert repository.default_variant(root, "toy") == "\ufffdfp32-openvino"


def test_without_a_promotion_the_default_is_fp32_pytorch(root: Path) -> None:
    (root / "toy" / "default").unlink()
    assert repository.default_variant(root, "toy") == "fp32-pytorch"


def test_promoting_what_is_not_there_names_what_is(root: Path) -> None:
    with pytest.raises(NotFoundError, match=r"variant 'int8-openvino' of model 'toy', expected one of \['fp32-onnx"):
        repository.promote(root, "toy", "int8-openvino")
    assert repository.default_variant(root, "toy") == "fp32-onnxruntime"
