"""What a loaded artifact comes with: the rows of one execution, found or as they were given."""

import asyncio
import errno
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from protos.errors import IntegrityError, NoRoomError
from protos.repository import read_entry, scan
from protos.v1 import inference_pb2 as pb
from server.execution.batcher import BatchLimit, make_limits
from server.execution.threads import Slots
from server.hosting.hosted import passes
from server.hosting.loading import Loader
from tests.support import toy
from tests.support.server.connection import connected

FOUND = {16, 32, 64}


def limits_of(repository: Path, limits: Mapping[str, BatchLimit]) -> dict[str, BatchLimit]:
    """Loads all variants, and returns what each came with."""
    loader, found = Loader(repository, 1, Slots(1), limits), {}
    for entry in scan(repository):
        loaded = loader.open(entry)
        loaded.runtime.close()
        found[entry.name] = loaded.limit
    loader.close()
    return found


def test_the_rows_are_found_for_those_that_were_given_none(repository: Path) -> None:
    found = limits_of(repository, make_limits(0, 0.25, ("toy/fp32-openvino=7",)))
    assert found["fp32-openvino"] == BatchLimit(7, 0.25)
    assert found["fp32-onnxruntime"].rows in FOUND
    assert found["fp32-onnxruntime"].delay == 0.25


def test_rows_that_were_given_are_kept(repository: Path) -> None:
    found = limits_of(repository, make_limits(5, 0.0, ()))
    assert found == {"fp32-onnxruntime": BatchLimit(5), "fp32-openvino": BatchLimit(5)}


def test_an_engine_that_fails_in_larger_batches_serves_in_the_smallest(
    repository: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(execute: Callable[[int], float]) -> int:
        raise MemoryError("no room for 32 rows")

    monkeypatch.setattr("server.hosting.loading.best_rows", fails)
    found = limits_of(repository, make_limits(0, 0.0, ()))
    assert {limit.rows for limit in found.values()} == {16}
    assert caplog.messages[0].endswith("it gets up to 16 rows: MemoryError('no room for 32 rows')")


@pytest.mark.parametrize(("wanted", "told"), [(5, "batches of up to 5 rows"), (1, "no batches")])
def test_the_log_says_what_was_given(
    wanted: int, told: str, repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with connected(repository, batch_max=wanted):
            assert [*batches_by_log(caplog).values()] == [told, told]

    caplog.set_level(logging.INFO, "server.hosting.registry")
    asyncio.run(run())


def test_log_and_configuration_say_what_was_found(repository: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async with connected(repository, batch_max=0) as client:
            for name, told in batches_by_log(caplog).items():
                asked = pb.ModelConfigRequest(name="toy", version=name)
                config = (await client.stub.ModelConfig(asked, timeout=30)).config
                (rows,) = config.dynamic_batching.preferred_batch_size
                assert rows in FOUND
                assert told == f"batches of up to {rows} rows"

    caplog.set_level(logging.INFO, "server.hosting.registry")
    asyncio.run(run())


def batches_by_log(caplog: pytest.LogCaptureFixture) -> dict[str, str]:
    """What the log says of each variant that became READY."""
    said = [record.getMessage() for record in caplog.records]
    matches = [match for text in said if (match := re.fullmatch(r"variant toy/(\S+) READY in [\d.]+ s, (.*)", text))]
    assert len(matches) == 2
    return {match[1]: match[2] for match in matches}


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (MemoryError(), True),
        (OSError(errno.EMFILE, "Too many open files"), True),
        (RuntimeError("can't start new thread"), True),
        (RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Exception: std::bad_alloc"), True),
        (ImportError("libopenvino.so: failed to map segment from shared object"), True),
        (NoRoomError("there is no room"), True),
        (FileNotFoundError(errno.ENOENT, "No such file"), False),
        (IntegrityError("file 'model.onnx' was altered"), False),
        (RuntimeError("unsupported operator"), False),
    ],
)
def test_what_lacked_for_the_moment_is_told_from_what_is_wrong(error: Exception, passing: bool) -> None:
    assert passes(error) == passing
    told = IntegrityError("'golden.npz' cannot be read")
    told.__cause__ = error
    assert passes(told) == passing


def test_a_manifest_that_could_not_be_read_for_the_moment_is_not_a_broken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_text(path: Path) -> str:
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    folder = toy.repository(tmp_path, ("onnxruntime",)) / "toy" / "fp32-onnxruntime"
    monkeypatch.setattr(Path, "read_text", read_text)
    broken = read_entry(folder).broken
    assert str(broken) == "'manifest.json' cannot be read: Too many open files"
    assert broken is not None
    assert passes(broken)
