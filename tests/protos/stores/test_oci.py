"""A registry whose tokens have a scope and an end. It is a real one, as is what a client does with it."""

from collections.abc import Iterator
from multiprocessing.pool import ThreadPool
from pathlib import Path

import pytest

from compressors.build.push import push
from protos.errors import StoreError
from protos.stores.store import open_store
from tests.support import toy
from tests.support.stores.servers import PASSWORD, Registry, log_in
from tests.support.stores.tokens import Tokens


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[Tokens]:
    (folder := tmp_path / "tokens").mkdir()
    made = Tokens(folder, PASSWORD)
    with made.running():
        yield made


@pytest.fixture
def registry(tmp_path: Path, tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """An empty registry that wants tokens, and a user who has logged in to it."""
    (folder := tmp_path / "store").mkdir()
    made = Registry(folder, tokens.settings)
    monkeypatch.setenv("HOME", str(tmp_path))
    log_in(tmp_path, made.url, PASSWORD)
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return toy.repository(tmp_path / "models")


def test_what_is_pushed_by_tokens_can_be_read_by_them(registry: Registry, root: Path, tmp_path: Path) -> None:
    with registry.running():
        push(root, registry.url, [], delete=False)
        store = open_store(registry.url)
        assert "toy/golden.npz" in store.list()
        store.fetch("toy/golden.npz", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == (root / "toy/golden.npz").read_bytes()


def test_files_are_fetched_when_the_token_that_they_were_listed_by_is_good_no_more(
    registry: Registry, tokens: Tokens, root: Path, tmp_path: Path
) -> None:
    store = open_store(registry.url)
    with registry.running():
        push(root, registry.url, [], delete=False)
        listed = store.list()
    tokens.change_key()
    with registry.running(), ThreadPool(8) as pool:
        fetched = {path: tmp_path / str(number) for number, path in enumerate(listed)}
        pool.starmap(store.fetch, fetched.items())
    assert {path: file.read_bytes() for path, file in fetched.items()} == {p: (root / p).read_bytes() for p in listed}


def test_a_list_does_not_need_the_token_of_the_one_before(registry: Registry, tokens: Tokens) -> None:
    store = open_store(registry.url)
    with registry.running():
        assert store.list() == {}
    tokens.change_key()
    with registry.running():
        assert store.list() == {}


def test_a_list_is_by_the_password_that_docker_has_by_now(registry: Registry, tmp_path: Path) -> None:
    log_in(tmp_path, registry.url, "wrong")
    store = open_store(registry.url)
    with registry.running():
        with pytest.raises(PermissionError):
            store.list()
        log_in(tmp_path, registry.url, PASSWORD)
        assert store.list() == {}


def test_who_gets_no_token_is_told_to_log_in(registry: Registry, root: Path, tmp_path: Path) -> None:
    log_in(tmp_path, registry.url, "wrong")
    with registry.running(), pytest.raises(StoreError) as caught:
        push(root, registry.url, [], delete=False)
    said = "got 401 Unauthorized, expected credentials by `docker login` that allow it"
    assert str(caught.value) == f"{registry.url}: {said}"
