"""A repository, and stores that it can be put into: each test has an empty place of its own."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support import toy
from tests.support.stores import servers
from tests.support.stores.servers import S3, Place

Stores = dict[str, Callable[[Path], AbstractContextManager[Place]]]
OTHERS: Stores = {"gs": servers.google, "hf": servers.hugging_face, "oci": servers.registry}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository to be altered."""
    return toy.repository(tmp_path / "models")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with servers.s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(s3_server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3:
    """A folder of a bucket that no other test has, and its credentials in the environment."""
    _enter(s3_server, monkeypatch)
    return S3(f"{s3_server.url}/{tmp_path.name}/models", s3_server.environment, s3_server.metrics)


@pytest.fixture(params=["s3", *OTHERS])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """An empty place in each kind of store."""
    if request.param == "s3":
        yield request.getfixturevalue("s3")
        return
    (folder := tmp_path / "store").mkdir()
    with OTHERS[request.param](folder) as made:
        _enter(made, monkeypatch)
        yield made


def _enter(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives clients here and in programs that are started what they need, and nothing of this machine's user."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "HF_", "STORAGE_"))]:
        monkeypatch.delenv(name)
    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
