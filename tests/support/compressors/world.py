"""A small world to build in: a network and a data set that a study can name, and quick tools."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from compressors import study
from compressors.build import pipeline
from compressors.build.pipeline import Build, Tools
from compressors.data import datasets
from compressors.export import exporters
from compressors.measure import footprint, latency
from compressors.networks import zoo
from protos import repository
from protos.manifest import Footprint, Variant
from tests.support.compressors import small


class Inline(Executor):
    """Carries a call out where it is submitted: small exports need no process of their own."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments, **keywords))
        except Exception as error:
            future.set_exception(error)
        return future


class NoProbe(footprint.MemoryProbe):
    """Measures nothing: that takes processes of its own, see test_footprint."""

    def measure(self, manifest: Path, artifact: Path) -> Footprint:
        return Footprint(gzip_bytes=1, load_peak_bytes=1)


QUICK = Tools(
    export=exporters.export,
    pool=lambda workers: nullcontext(Inline()),
    memory_probe=NoProbe,
    latencies=lambda runtimes, inputs, seed, share: latency.latencies(runtimes, inputs, seed, share=0.0),
)
"""One block of calls to time, and exports in this process."""


@contextmanager
def small_world() -> Iterator[None]:
    """The network and the data set `small`; builds are quick, also those of a whole program."""
    everything = small.dataset()
    source = datasets.Source(everything.train, everything.test, everything.labels, everything.preprocessing)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(zoo.NETWORKS, "small", small.Small)
        patch.setitem(datasets.DATASETS, "small", lambda path, form, seed: source)
        patch.setattr(pipeline, "TOOLS", QUICK)
        yield


def start(path: Path, given: Tools = QUICK) -> Build:
    """The build of a study of one model, into a repository beside it."""
    (declared,) = study.load(str(path))
    return Build(declared, path.parent / "models", pipeline.read_data(declared, None), given)


def published(built: Build) -> dict[str, Variant]:
    """The variants in the build's repository by name, verified."""
    return {entry.name: repository.verify(entry) for entry in repository.scan(built.root)}
