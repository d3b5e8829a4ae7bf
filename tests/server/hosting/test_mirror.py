"""A mirror holds what its store holds: fetched once, whole, and in step. Every store is a server on a real socket."""

import hashlib
import shutil
from collections.abc import Set
from multiprocessing.pool import ThreadPool
from pathlib import Path

import pytest
import s3fs

from compressors.build.push import Row, push
from protos.errors import IntegrityError, StoreError
from protos.repository import DEFAULT, EVERYTHING, GOLDEN, MANIFEST, TEST, promote, read_entry, scan, verify
from protos.stores.store import Item
from server.hosting.mirror import Mirror, by_folder
from tests.support import toy
from tests.support.stores.servers import PASSWORD, S3, Place, Registry, damage, htpasswd, log_in

FIRST, SECOND = "fp32-onnxruntime", "fp32-openvino"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def contents(root: Path) -> dict[str, bytes]:
    """What a server reads of a repository: each file by its path."""
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    return {
        name: path.read_bytes() for name, path in files.items() if not path.name.startswith(".") and path.name != TEST
    }


def sent(rows: dict[str, Row]) -> dict[str, int]:
    return {name: row.sent for name, row in rows.items() if row.sent}


def synced(place: Place, cache: Path, only: Set[str] = EVERYTHING) -> Path:
    """Syncs as a new process would, and returns the folder of the copy."""
    mirror = Mirror(place.url, cache, only)
    mirror.sync()
    return mirror.root


def test_what_is_pushed_changed_and_deleted_is_in_the_mirror_after_each_sync(
    place: Place, root: Path, cache: Path
) -> None:
    assert sent(push(root, place.url, [], delete=False)) == {"toy": 3, f"toy/{FIRST}": 2, f"toy/{SECOND}": 2}
    mirror = Mirror(place.url, cache)
    mirror.sync()
    assert contents(mirror.root) == contents(root)

    assert sent(push(root, place.url, [], delete=False)) == {}
    toy.publish_variant(root, "onnxruntime", factor=3.0, tolerance=100.0)
    promote(root, "toy", SECOND)
    assert sent(push(root, place.url, ["toy"], delete=False)) == {"toy": 1, f"toy/{FIRST}": 2}
    mirror.sync()
    assert contents(mirror.root) == contents(root)

    shutil.rmtree(root / "toy" / FIRST)
    push(root, place.url, [], delete=False)
    mirror.sync()
    assert contents(mirror.root) != contents(root)
    assert push(root, place.url, [], delete=True)[f"toy/{FIRST}"] == Row(removed=2)
    mirror.sync()
    assert contents(mirror.root) == contents(root)
    shared = [content for path, content in contents(root).items() if not path.endswith(MANIFEST)]
    known = {hashlib.sha256(content).hexdigest() for content in shared}
    assert {path.name for path in (cache / "files").iterdir()} == known


def test_a_variant_with_a_golden_set_of_its_own_has_it_in_the_mirror(s3: S3, root: Path, cache: Path) -> None:
    name = toy.publish_pixels(root)
    push(root, s3.url, [], delete=False)
    assert (synced(s3, cache) / "toy" / name / GOLDEN).read_bytes() == (root / "toy" / name / GOLDEN).read_bytes()


def test_a_second_process_fetches_nothing(s3: S3, root: Path, cache: Path) -> None:
    push(root, s3.url, [], delete=False)
    before = s3.requests("GET")
    synced(s3, cache)
    first = s3.requests("GET")
    assert first - before == 5  # two manifests, the golden set, the default, the one network that both variants have
    assert contents(synced(s3, cache)) == contents(root)
    assert s3.requests("GET") == first


def test_two_that_share_a_cache_fetch_each_file_once(s3: S3, root: Path, cache: Path) -> None:
    push(root, s3.url, [], delete=False)
    before = s3.requests("GET")
    with ThreadPool(2) as pool:
        folders = pool.starmap(synced, [(s3, cache)] * 2)
    assert [contents(folder) for folder in folders] == [contents(root)] * 2
    assert s3.requests("GET") - before == 5


def test_only_what_is_named_is_fetched_with_its_models_own_files(s3: S3, root: Path, cache: Path) -> None:
    toy.publish_variant(root, "onnxruntime", "other", factor=1.0)
    push(root, s3.url, [], delete=False)
    before = s3.requests("GET")
    copy = synced(s3, cache, {f"toy/{FIRST}"})
    assert s3.requests("GET") - before == 4  # a manifest, its network, the golden set, the default
    assert {*contents(copy)} == {
        f"toy/{name}" for name in (GOLDEN, DEFAULT, f"{FIRST}/{MANIFEST}", f"{FIRST}/model.onnx")
    }


@pytest.mark.parametrize(
    ("only", "folders"),
    [
        (EVERYTHING, {("a",), ("a", "x"), ("a", "y"), ("b",), ("b", "x")}),
        ({"b"}, {("b",), ("b", "x")}),
        ({"a/y", "b"}, {("a",), ("a", "y"), ("b",), ("b", "x")}),
        ({"c", "a/z"}, set()),
    ],
)
def test_models_and_variants_are_named_as_in_a_folder(only: Set[str], folders: set[tuple[str, ...]]) -> None:
    paths = ("a/golden.npz", "a/x/manifest.json", "a/y/manifest.json", "b/x/manifest.json")
    assert {*by_folder({path: Item(1, "stamp") for path in paths}, only)} == folders


def test_servers_of_different_variants_share_a_cache_and_none_takes_the_copy_of_another(
    s3: S3, root: Path, cache: Path
) -> None:
    push(root, s3.url, [], delete=False)
    names = ((FIRST, SECOND), (FIRST,), (SECOND,))
    copies = [synced(s3, cache, {f"toy/{name}" for name in some}) for some in names]
    assert [tuple(entry.name for entry in scan(copy)) for copy in copies] == [*names]
    assert len([*cache.glob("files/*")]) == 3  # the network, the golden set, the default
    assert synced(s3, cache).name == hashlib.sha256(s3.url.encode()).hexdigest()[:16]


def test_a_variant_that_is_named_leaves_the_mirror_when_the_store_has_others_and_not_it(
    s3: S3, root: Path, cache: Path
) -> None:
    push(root, s3.url, [], delete=False)
    mirror = Mirror(s3.url, cache, {f"toy/{FIRST}"})
    mirror.sync()
    shutil.rmtree(root / "toy" / FIRST)
    push(root, s3.url, [], delete=True)
    mirror.sync()
    assert contents(mirror.root) == {}


def test_files_of_an_interrupted_fetch_are_not_fetched_again(s3: S3, root: Path, cache: Path) -> None:
    push(root, s3.url, [], delete=False)
    folder = synced(s3, cache)
    shutil.rmtree(folder / "toy" / FIRST)
    (folder / ".incoming" / "part").write_bytes(b"half")
    (folder / "toy" / f".{FIRST}.tmp").mkdir()
    before = s3.requests("GET")
    assert contents(synced(s3, cache)) == contents(root)
    assert s3.requests("GET") == before + 1  # the manifest, whose hash nothing else tells
    assert not [*folder.rglob("part"), *folder.rglob("*.tmp")]


def test_a_file_that_was_damaged_in_the_cache_is_fetched_again_by_the_next_process(
    s3: S3, root: Path, cache: Path
) -> None:
    push(root, s3.url, [], delete=False)
    (synced(s3, cache) / "toy" / FIRST / "model.onnx").write_bytes(b"damaged")
    assert contents(synced(s3, cache)) == contents(root)


def test_a_file_that_was_altered_at_the_registry_breaks_its_variants_and_no_other(
    tmp_path: Path, root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.publish_variant(root, "onnxruntime", "other", factor=1.0)
    (folder := tmp_path / "store").mkdir()
    registry = Registry(folder)
    with registry.running():
        push(root, registry.url, [], delete=False)
        altered = registry.blob(hashlib.sha256((root / "toy" / FIRST / "model.onnx").read_bytes()).hexdigest())
        altered.write_bytes(altered.read_bytes()[:-1] + b"!")
        entries = {entry.name: entry for entry in scan(synced(Place(registry.url), cache))}
    verify(entries["other-onnxruntime"])
    for name in (FIRST, SECOND):
        with pytest.raises(IntegrityError, match=r"file 'model.onnx' was altered: sha256 \w+, expected \w+"):
            verify(entries[name])


def test_a_file_that_is_damaged_in_one_variant_is_fetched_from_another_that_has_it_whole(
    tmp_path: Path, root: Path, cache: Path
) -> None:
    (folder := tmp_path / "store").mkdir()
    registry = Registry(folder)
    with registry.running():
        push(root, registry.url, [], delete=False)
        damage(registry.url, f"toy/{SECOND}/model.onnx")
        copy = synced(Place(registry.url), cache)
    verify(read_entry(copy / "toy" / FIRST))


def test_a_variant_without_a_manifest_is_not_in_the_mirror_before_it_has_one(s3: S3, root: Path, cache: Path) -> None:
    push(root, s3.url, [], delete=False)
    manifest = f"{s3.url}/toy/{FIRST}/{MANIFEST}"
    files = s3fs.S3FileSystem(skip_instance_cache=True)
    files.rm(manifest)
    mirror = Mirror(s3.url, cache)
    mirror.sync()
    assert [entry.name for entry in scan(mirror.root)] == [SECOND]
    files.put_file(str(root / "toy" / FIRST / MANIFEST), manifest)
    mirror.sync()
    assert contents(mirror.root) == contents(root)


@pytest.mark.parametrize(
    "path", ["toy/../../escaped/manifest.json", "toy/fp32/../../../escaped", "/toy/a/manifest.json"]
)
def test_no_name_at_the_store_leads_out_of_the_mirror(path: str) -> None:
    assert by_folder({path: Item(1, "stamp"), "toy/.hidden/manifest.json": Item(1, "stamp")}) == {}


def test_a_store_that_holds_nothing_any_more_empties_no_mirror(s3: S3, root: Path, cache: Path) -> None:
    push(root, s3.url, [], delete=False)
    mirror = Mirror(s3.url, cache)
    mirror.sync()
    s3fs.S3FileSystem(skip_instance_cache=True).rm(s3.url, recursive=True)
    with pytest.raises(StoreError, match=r"got nothing there, expected MODEL/VARIANT/manifest.json"):
        mirror.sync()
    assert read_entry(mirror.root / "toy" / FIRST).broken is None
    assert (mirror.root / "toy" / DEFAULT).is_file()


def test_a_registry_with_a_password_is_asked_with_dockers(
    tmp_path: Path, root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder := tmp_path / "store").mkdir()
    registry = Registry(folder, htpasswd(folder))
    monkeypatch.setenv("HOME", str(tmp_path))
    with registry.running():
        log_in(tmp_path, registry.url, "wrong")
        with pytest.raises(StoreError) as caught:
            push(root, registry.url, [], delete=False)
        assert "401" in str(caught.value)
        assert "wrong" not in str(caught.value)
        log_in(tmp_path, registry.url, PASSWORD)
        push(root, registry.url, [], delete=False)
        assert contents(synced(Place(registry.url), cache)) == contents(root)
