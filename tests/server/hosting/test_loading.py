"""What a loaded artifact comes with: the rows of one execution, found or as they were given."""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from protos.repository import scan
from protos.v1 import inference_pb2 as pb
from server.execution.batcher import BatchLimit, make_limits
from server.execution.threads import Slots
from server.hosting.loading import Loader
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
