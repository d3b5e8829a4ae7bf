"""A variant that takes few rows at a time is asked so, and answers any number of rows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from protos import repository
from protos.manifest import from_json, to_json
from server import runtimes
from server.runtimes import Array
from tests.support import toy


@pytest.mark.parametrize(("size", "calls"), [(1, [1, 1, 1, 1, 1]), (2, [2, 2, 1]), (8, [5])])
def test_no_call_has_more_rows_than_the_artifact_takes(size: int, calls: list[int]) -> None:
    seen: list[int] = []

    def infer(inputs: dict[str, Array]) -> dict[str, Array]:
        seen.append(len(inputs["input"]))
        return {"logits": toy.answer(inputs["input"])}

    images = toy.images(5)
    np.testing.assert_array_equal(runtimes.in_batches(infer, {"input": images}, size)["logits"], toy.answer(images))
    assert seen == calls


def test_the_manifest_says_how_many_rows_an_artifact_takes(tmp_path: Path) -> None:
    entry = repository.scan(toy.repository(tmp_path, ("onnxruntime",)))[0]
    free = repository.verify(entry)
    assert "max_batch" not in to_json(free)
    fixed = from_json(to_json(replace(free, max_batch=1)))
    loaded, images = runtimes.load(entry.folder, fixed, 1), toy.images(3)
    assert isinstance(loaded, runtimes.SmallBatches)
    np.testing.assert_allclose(loaded.infer({"input": images})["logits"], toy.answer(images), rtol=1e-6)
    loaded.close()
