"""Many different requests at once on each runtime: every answer is the one that its request gets alone."""

import asyncio
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from protos.manifest import RuntimeName, Variant, from_json
from server import runtimes
from server.execution.batcher import BatchLimit
from server.execution.engine import Engine
from server.execution.threads import Slots
from tests.support import toy
from tests.support.server.standins import Record


class Toy(torch.nn.Module):
    """`toy` for the runtimes that do not read ONNX."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 2 * images.mean(dim=(2, 3))


def artifact(root: Path, runtime: RuntimeName) -> tuple[Path, Variant]:
    """The folder of `toy` in a runtime, and its manifest."""
    folder = toy.publish_variant(root, "onnxruntime")
    variant = from_json((folder / "manifest.json").read_text())
    example = torch.zeros(2, 3, 4, 4)
    if runtime == "torchscript":
        torch.jit.freeze(torch.jit.trace(Toy().eval(), example)).save(str(folder / "model.pt"))
    elif runtime == "pytorch":
        batch = torch.export.Dim("batch", min=1, max=1024)
        torch.export.save(
            torch.export.export(Toy().eval(), (example,), dynamic_shapes=({0: batch},)), folder / "model.pt2"
        )
    entry = {"torchscript": "model.pt", "pytorch": "model.pt2"}.get(runtime, variant.entry)
    return folder, dataclasses.replace(variant, runtime=runtime, entry=entry)


@pytest.mark.parametrize("name", list(runtimes.RUNTIMES))
def test_every_answer_is_that_of_its_own_request(name: RuntimeName, tmp_path: Path) -> None:
    async def scenario() -> None:
        rows = [1 + index % 3 for index in range(300)]
        inputs = [toy.images(count, seed) for seed, count in enumerate(rows)]
        alone = [(await engine.infer({"input": images}, len(images))).outputs["logits"] for images in inputs]
        with slots:  # all of them wait, so that they are executed in full batches
            tasks = [asyncio.create_task(engine.infer({"input": images}, len(images))) for images in inputs]
            await asyncio.sleep(0)
        together = [answer.outputs["logits"] for answer in await asyncio.gather(*tasks)]
        for images, one, many in zip(inputs, alone, together, strict=True):
            np.testing.assert_allclose(many, one, rtol=1e-6)
            np.testing.assert_allclose(many, toy.answer(images), rtol=1e-5)

    folder, variant = artifact(tmp_path, name)
    slots, record = Slots(1), Record()
    engine = Engine(runtimes.load(folder, variant, 1), "toy/test", 512, slots, record, BatchLimit(16))
    try:
        asyncio.run(scenario())
    finally:
        engine.close(30)
    assert len(record.executions) < 300 + 60
    assert max(record.executions) == 16
