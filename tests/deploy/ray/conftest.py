"""One cluster for all tests, since it takes a quarter of a minute to start."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.ray.cluster import Cluster, cluster
from tests.support import toy


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two variants that serve, and one that fails its golden check."""
    root = toy.repository(tmp_path_factory.mktemp("models"), ("onnxruntime",))
    toy.publish_variant(root, "onnxruntime", recipe="other")
    toy.publish_variant(root, "onnxruntime", recipe="wrong", factor=3.0)
    return root


@pytest.fixture(scope="session")
def ray(models: Path) -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="ray") as folder, cluster(Path(folder), models) as running:
        yield running
