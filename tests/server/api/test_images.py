"""Images as clients have them: exact against Pillow and NumPy by hand, refused before they do harm."""

import asyncio
import io
import struct
import threading
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image

from protos.errors import InvalidInputError, OverloadedError
from protos.manifest import TensorSpec
from protos.repository import scan
from protos.support.machine import available_cores
from protos.tensors import Array, decode_response, encode_request
from protos.v1 import inference_pb2 as pb
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from server.api.images import Images, accepted
from server.observability.metrics import REASONS
from tests.support import toy
from tests.support.server.connection import connected
from tests.support.server.standins import Gate, Record, host, running
from tests.support.serving import ServerProcess, eventually

PIXELS = np.random.default_rng(3).integers(0, 256, (2, 4, 4, 3), np.uint8)
LARGE = np.random.default_rng(4).integers(0, 256, (2, 30, 17, 3), np.uint8)
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def file(pixels: Array, form: str = "PNG", mode: str = "RGB", **options: int | bool) -> bytes:
    """One encoded image of uint8 pixels (H, W, 3)."""
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, form, **options)
    return stream.getvalue()


def files(*contents: bytes, column: bool = False) -> Array:
    array = np.empty(len(contents), np.object_)
    array[:] = contents
    return array.reshape(-1, 1) if column else array


def request(array: Array) -> pb.ModelInferRequest:
    return encode_request("toy", "", {"input": array})


def ask(stub: GRPCInferenceServiceStub, array: Array) -> Array:
    logits: Array = decode_response(stub.ModelInfer(request(array), timeout=30))["logits"]
    return logits


def refusal(stub: GRPCInferenceServiceStub, message: pb.ModelInferRequest) -> str:
    """The text of a request that has to be an INVALID_ARGUMENT."""
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(message, timeout=30)
    assert caught.value.code() == INVALID
    text: str = caught.value.details()
    return text


def by_hand(images: Sequence[Array]) -> Array:
    """What `toy`, whose mean is 0 and whose deviation is 1, is to be given."""
    small = [np.asarray(Image.fromarray(pixels).resize((4, 4), Image.Resampling.BILINEAR)) for pixels in images]
    return np.stack(small).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)


@pytest.mark.parametrize("pixels", [PIXELS, LARGE], ids=["of the right size", "resized"])
def test_uint8_images_answer_exactly_as_the_tensor_made_by_hand(stub: GRPCInferenceServiceStub, pixels: Array) -> None:
    np.testing.assert_array_equal(ask(stub, pixels), ask(stub, by_hand(list(pixels))))


@pytest.mark.parametrize("column", [False, True])
def test_png_files_answer_exactly_as_their_pixels(stub: GRPCInferenceServiceStub, column: bool) -> None:
    np.testing.assert_array_equal(ask(stub, files(*map(file, LARGE), column=column)), ask(stub, LARGE))


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_jpeg_files_answer_as_the_pixels_that_pillow_decodes(
    stub: GRPCInferenceServiceStub, options: dict[str, bool]
) -> None:
    jpegs = [file(pixels, "JPEG", **options) for pixels in LARGE]
    decoded = np.stack([np.asarray(Image.open(io.BytesIO(jpeg))) for jpeg in jpegs])
    np.testing.assert_array_equal(ask(stub, files(*jpegs)), ask(stub, decoded))


def test_files_of_one_request_may_differ_in_size_and_format(stub: GRPCInferenceServiceStub) -> None:
    mixed = [file(PIXELS[0]), file(LARGE[0], "JPEG"), file(LARGE[1][:5])]
    together = ask(stub, files(*mixed))
    np.testing.assert_allclose(together, np.concatenate([ask(stub, files(one)) for one in mixed]), rtol=1e-6)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_every_mode_of_8_bits_is_converted_to_rgb_as_pillow_does(stub: GRPCInferenceServiceStub, mode: str) -> None:
    one = file(LARGE[0], "JPEG" if mode == "CMYK" else "PNG", mode)
    pixels = np.asarray(Image.open(io.BytesIO(one)).convert("RGB"))
    np.testing.assert_array_equal(ask(stub, files(one)), ask(stub, pixels[None]))


def test_typed_contents_hold_images_as_raw_ones_do(stub: GRPCInferenceServiceStub) -> None:
    uint8 = request(PIXELS)
    uint8.inputs[0].contents.uint_contents.extend(PIXELS.ravel().tolist())
    png = request(files(file(PIXELS[0]), file(PIXELS[1])))
    png.inputs[0].contents.bytes_contents.extend([file(PIXELS[0]), file(PIXELS[1])])
    for message in (uint8, png):
        message.ClearField("raw_input_contents")
        answer = decode_response(stub.ModelInfer(message, timeout=30))["logits"]
        np.testing.assert_array_equal(answer, ask(stub, by_hand(list(PIXELS))))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_header(width: int, height: int) -> bytes:
    """A PNG file that says its size and then goes on with nothing that could be unpacked."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def text_bomb() -> bytes:
    """A PNG file with a compressed text of 4 MiB."""
    whole = file(PIXELS[0])
    return whole[:33] + chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 2**22)) + whole[33:]


GREY16 = io.BytesIO()
Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(GREY16, "PNG")
GIF, TIFF = file(PIXELS[0], "GIF"), file(PIXELS[0], "TIFF")
GOOD = file(LARGE[0])
JPEG = file(LARGE[0], "JPEG")

BAD_FILES = {
    "empty": (b"", "element 1: got 0 bytes that are no JPEG or PNG file"),
    "garbage": (b"\xff" * 100, "element 1: got 100 bytes that are no JPEG or PNG file"),
    "a text": (b"/etc/passwd", "element 1: got 11 bytes that are no JPEG or PNG file"),
    "a GIF": (GIF, f"element 1: got {len(GIF)} bytes that are no JPEG or PNG file"),
    "a TIFF": (TIFF, f"element 1: got {len(TIFF)} bytes that are no JPEG or PNG file"),
    "an SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no JPEG or PNG file"),
    "the first bytes of a PNG": (GOOD[:8], "element 1: got 8 bytes that are no JPEG or PNG file"),
    "the first bytes of a JPEG": (JPEG[:3], "element 1: got 3 bytes that are no JPEG or PNG file"),
    "a PNG cut off": (GOOD[: len(GOOD) // 2], "element 1: got a PNG file that is damaged or cut off"),
    "a JPEG cut off": (JPEG[:-40], "element 1: got a JPEG file that is damaged or cut off"),
    "a PNG with a flipped byte": (
        GOOD[:60] + bytes([GOOD[60] ^ 255]) + GOOD[61:],
        "element 1: got a PNG file that is damaged or cut off",
    ),
    "a PNG without pixels": (png_header(4, 4), "element 1: got a PNG file that is damaged or cut off"),
    "a PNG of no size": (png_header(0, 4), "element 1"),
    "a bomb": (png_header(50_000, 50_000), "element 1: got an image of 50000 x 50000, expected 1 to 32000000 pixels"),
    "the largest bomb": (png_header(2**31 - 1, 2**31 - 1), f"element 1: got an image of {2**31 - 1} x {2**31 - 1}"),
    "one row over the limit": (png_header(8000, 4001), "element 1: got an image of 4001 x 8000"),
    "a bomb of text": (text_bomb(), "element 1"),
    "16 bits of grey": (GREY16.getvalue(), "element 1: got an image with 16 bits a channel, expected 8"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_cannot_be_read_is_an_invalid_argument_that_names_the_element(
    stub: GRPCInferenceServiceStub, case: str
) -> None:
    content, text = BAD_FILES[case]
    assert text in refusal(stub, request(files(GOOD, content, GOOD)))
    np.testing.assert_array_equal(ask(stub, PIXELS), ask(stub, by_hand(list(PIXELS))))


@pytest.mark.parametrize("size", [(8000, 4000), (4000, 8000)])
def test_an_image_at_the_limit_is_not_a_bomb(stub: GRPCInferenceServiceStub, size: tuple[int, int]) -> None:
    assert "damaged or cut off" in refusal(stub, request(files(png_header(*size))))


BAD_SHAPES = {
    "four channels": (np.zeros((1, 4, 4, 4), np.uint8), "got shape [1, 4, 4, 4], expected [-1, -1, -1, 3]"),
    "channels first": (np.zeros((1, 3, 4, 4), np.uint8), "got shape [1, 3, 4, 4], expected [-1, -1, -1, 3]"),
    "an image that is no batch": (np.zeros((4, 4, 3), np.uint8), "of rank 3, expected rank 4"),
    "no height": (np.zeros((1, 0, 4, 3), np.uint8), "got an image of 0 x 4"),
    "no images": (np.zeros((0, 4, 4, 3), np.uint8), "got batch 0, expected 1 to 4"),
    "too many images": (np.zeros((5, 4, 4, 3), np.uint8), "got batch 5, expected 1 to 4"),
    "no files": (files(), "got batch 0, expected 1 to 4"),
    "too many files": (files(*[GOOD] * 5), "got batch 5, expected 1 to 4"),
    "two files a row": (files(GOOD, GOOD).reshape(1, 2), "got shape [1, 2], expected [-1, 1]"),
}


@pytest.mark.parametrize("case", BAD_SHAPES)
def test_a_shape_that_is_none_of_images_is_an_invalid_argument(stub: GRPCInferenceServiceStub, case: str) -> None:
    array, text = BAD_SHAPES[case]
    assert text in refusal(stub, request(array))


def claimed(datatype: str, shape: list[int], raw: bytes) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name="toy", raw_input_contents=[raw])
    message.inputs.add(name="input", datatype=datatype, shape=shape)
    return message


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (claimed("BYTES", [], b"\0\0\0\0"), "[] of rank 0, expected rank 1"),
        (claimed("UINT8", [], b"\0"), "[] of rank 0, expected rank 4"),
        (claimed("UINT8", [1, 4, 4, 3], bytes(47)), "got 47 bytes, expected 48"),
        (claimed("UINT8", [1, 2**40, 2**40, 3], bytes(48)), "got 48 bytes, expected"),
        (claimed("BYTES", [1], b"\5\0\0\0abc"), "end inside a BYTES element"),
        (claimed("BYTES", [2], b"\0\0\0\0"), "got 1 BYTES elements, expected 2"),
        (claimed("BYTES", [1], bytes(4 * 30_000)), "got more than the 1 BYTES elements of its shape"),
    ],
)
def test_contents_that_do_not_fit_the_shape_of_images_are_an_invalid_argument(
    stub: GRPCInferenceServiceStub, message: pb.ModelInferRequest, text: str
) -> None:
    assert text in refusal(stub, message)


def test_none_of_this_was_a_fault_of_the_server(server: ServerProcess) -> None:
    assert "Traceback" not in server.log
    faults = {key: value for key, value in server.metrics().items() if ("code", "INTERNAL") in key[1] and value}
    assert [key for key in faults if key[0].endswith("_total")] == []


def test_the_metadata_lists_the_tensor_that_the_model_takes(stub: GRPCInferenceServiceStub) -> None:
    (spec,) = stub.ModelMetadata(pb.ModelMetadataRequest(name="toy"), timeout=10).inputs
    assert (spec.name, spec.datatype, list(spec.shape)) == ("input", "FP32", [-1, 3, 4, 4])


def test_only_a_variant_whose_input_is_its_preprocessed_image_takes_images(repository: Path) -> None:
    variant = scan(repository)[0].variant
    assert variant is not None
    assert accepted(request(PIXELS), variant) == (TensorSpec("input", "UINT8", (-1, -1, -1, 3)),)
    assert accepted(request(by_hand(list(PIXELS))), variant) is variant.inputs
    for inputs in (
        (TensorSpec("input", "FP32", (-1, 3, 8, 8)),),
        (TensorSpec("input", "FP32", (-1, 1, 4, 4)),),
        (TensorSpec("input", "UINT8", (-1, 4, 4, 3)),),
        (*variant.inputs, TensorSpec("other", "FP32", (-1, 1))),
    ):
        other = replace(variant, inputs=inputs)
        assert accepted(request(PIXELS), other) is other.inputs


class Watched(Images):
    """Notes each file that it opens, and by which thread; opens none while `release` is cleared."""

    def __init__(self, **limits: int) -> None:
        super().__init__(**limits)
        self.opened: list[bytes] = []
        self.readers: set[str] = set()
        self.release = threading.Event()
        self.release.set()

    def _open(self, element: str, file: bytes) -> Image.Image:
        self.opened.append(file)
        self.readers.add(threading.current_thread().name)
        assert self.release.wait(30)
        return super()._open(element, file)


def alone(play: Callable[[Watched, Record], Awaitable[None]], **limits: int) -> None:
    """Plays with the reader of images, without a server."""

    async def run() -> None:
        images = Watched(**{"threads": 1, "queue_size": 1, "max_pixels": 1000, **limits})
        try:
            await play(images, Record())
        finally:
            images.close()

    asyncio.run(run())


def held_up(images: Images) -> threading.Event:
    """Keeps the only thread of `images` busy until the event is set."""
    release = threading.Event()
    images._pool.submit(release.wait, 30)
    return release


def test_too_many_waiting_images_are_refused_at_once_and_counted(repository: Path) -> None:
    variant = scan(repository)[0].variant
    assert variant is not None

    async def play(images: Images, record: Record) -> None:
        release = held_up(images)
        waiting = [asyncio.create_task(images.read(request(PIXELS), variant, record)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await images.read(request(PIXELS), variant, record)
        assert record.rejections == ["queue_full"]
        release.set()
        for task in waiting:
            inputs, sizes = await task
            np.testing.assert_array_equal(inputs["input"], by_hand(list(PIXELS)))
            assert sizes == [(4, 4)] * 2
        await images.read(request(PIXELS), variant, record)

    alone(play)


def test_images_whose_caller_went_away_are_not_read_and_give_their_place_back(repository: Path) -> None:
    variant = scan(repository)[0].variant
    assert variant is not None

    async def play(images: Watched, record: Record) -> None:
        release = held_up(images)
        waiting = [asyncio.create_task(images.read(request(files(GOOD)), variant, record)) for _ in range(2)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        release.set()
        await images.read(request(files(file(PIXELS[0]))), variant, record)
        assert images.opened == [file(PIXELS[0])]
        assert record.rejections == ["cancelled"] * 2

    alone(play)


def test_images_are_read_by_a_thread_of_their_own_while_the_loop_goes_on(repository: Path) -> None:
    variant = scan(repository)[0].variant
    assert variant is not None

    async def play(images: Watched, record: Record) -> None:
        images.release.clear()
        task = asyncio.create_task(images.read(request(files(GOOD)), variant, record))
        await eventually(lambda: images.readers, {"images_0"})  # the loop turns
        images.release.set()
        await task

    alone(play)


@pytest.mark.usefixtures("front")
@pytest.mark.parametrize(
    ("timeout", "code", "reason"),
    [(2, grpc.StatusCode.DEADLINE_EXCEEDED, "expired"), (30, grpc.StatusCode.CANCELLED, "cancelled")],
)
def test_a_request_that_ends_before_its_images_are_read_is_rejected_and_counted_as_such(
    repository: Path, timeout: float, code: grpc.StatusCode, reason: str
) -> None:
    async def run() -> None:
        async with connected(repository, threads=available_cores()) as client:
            gate = Gate()
            host(client.server, gate)
            release = held_up(client.server.application.images)
            call = client.stub.ModelInfer(request(PIXELS), timeout=timeout)
            await client.wait_for("pareto_inflight_requests")
            if reason == "cancelled":
                call.cancel()
            assert await call.code() == code
            await client.wait_for("pareto_requests_total", code=code.name)
            assert client.sample("pareto_rejected_total", reason=reason) == 1
            assert sum(client.sample("pareto_rejected_total", reason=other) for other in REASONS) == 1
            release.set()
            assert gate.calls == []

    asyncio.run(run())


def test_a_limit_of_pixels_holds_for_uint8_as_well(repository: Path) -> None:
    variant = scan(repository)[0].variant
    assert variant is not None

    async def play(images: Images, record: Record) -> None:
        with pytest.raises(InvalidInputError, match="input 'input': got an image of 30 x 17, expected 1 to 100 pixels"):
            await images.read(request(LARGE), variant, record)

    alone(play, max_pixels=100)


@pytest.mark.usefixtures("front")
def test_a_tensor_goes_to_the_engine_without_a_reader(repository: Path) -> None:
    async def run() -> None:
        async with running(repository) as server, grpc.aio.insecure_channel(server.grpc_address) as channel:
            server.application.images.close()
            answer = await GRPCInferenceServiceStub(channel).ModelInfer(request(toy.images(2)), timeout=30)
            np.testing.assert_allclose(decode_response(answer)["logits"], toy.answer(toy.images(2)), rtol=1e-5)

    asyncio.run(run())


@pytest.mark.usefixtures("front")
def test_the_engine_is_given_what_was_made_of_the_image(repository: Path) -> None:
    async def run() -> None:
        async with running(repository) as server, grpc.aio.insecure_channel(server.grpc_address) as channel:
            gate = Gate()
            gate.open.set()
            host(server, gate)
            answer = await GRPCInferenceServiceStub(channel).ModelInfer(request(files(GOOD)), timeout=30)
            np.testing.assert_array_equal(decode_response(answer)["logits"], by_hand([LARGE[0]]))

    asyncio.run(run())
