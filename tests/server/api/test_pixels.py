"""A variant whose network takes pixels: those of its size are the tensor, all other images become them."""

import asyncio
import io
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image

from protos.tensors import decode_response, encode_request
from protos.v1 import inference_pb2 as pb
from tests.support import toy
from tests.support.server.connection import Client, connected

pytestmark = pytest.mark.usefixtures("front")

PIXELS = np.random.default_rng(3).integers(0, 256, (2, 4, 4, 3), np.uint8)
LARGE = np.random.default_rng(4).integers(0, 256, (2, 30, 17, 3), np.uint8)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = toy.repository(tmp_path_factory.mktemp("pixels"), ("onnxruntime",))
    return root, toy.publish_pixels(root)


async def ask(client: Client, variant: str, array: np.ndarray) -> np.ndarray:
    answer = await client.stub.ModelInfer(encode_request("toy", variant, {"input": array}), timeout=30)
    logits: np.ndarray = decode_response(answer)["logits"]
    return logits


def by_hand(pixels: np.ndarray) -> np.ndarray:
    return toy.answer(pixels.transpose(0, 3, 1, 2) / np.float32(255))


def test_pixels_of_its_size_are_the_tensor_and_wait_for_no_image_thread(published: tuple[Path, str]) -> None:
    async def run() -> None:
        root, variant = published
        async with connected(root) as client:
            client.server.application.images.close()  # no thread is left that could read an image
            np.testing.assert_allclose(await ask(client, variant, PIXELS), by_hand(PIXELS), rtol=1e-5)

    asyncio.run(run())


def test_images_of_other_sizes_and_files_become_such_pixels(published: tuple[Path, str]) -> None:
    async def run() -> None:
        root, variant = published
        small = [np.asarray(Image.fromarray(each).resize((4, 4), Image.Resampling.BILINEAR)) for each in LARGE]
        files = np.empty(2, np.object_)
        for row, each in enumerate(LARGE):
            Image.fromarray(each).save(stream := io.BytesIO(), "PNG")
            files[row] = stream.getvalue()
        async with connected(root) as client:
            for sent in (LARGE, files):
                np.testing.assert_allclose(await ask(client, variant, sent), by_hand(np.stack(small)), rtol=1e-5)

    asyncio.run(run())


def test_floats_are_refused_with_what_was_expected(published: tuple[Path, str]) -> None:
    async def run() -> None:
        root, variant = published
        async with connected(root) as client:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ask(client, variant, toy.images(2))
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "FP32" in str(caught.value.details())
            assert "UINT8" in str(caught.value.details())

    asyncio.run(run())


def test_the_metadata_says_that_it_takes_pixels(published: tuple[Path, str]) -> None:
    async def run() -> None:
        root, variant = published
        async with connected(root) as client:
            (given,) = (await client.stub.ModelMetadata(pb.ModelMetadataRequest(name="toy", version=variant))).inputs
            assert (given.name, given.datatype, list(given.shape)) == ("input", "UINT8", [-1, 4, 4, 3])

    asyncio.run(run())
