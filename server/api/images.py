"""Images as clients have them, made into the tensor that the model was trained on.

A variant whose only input is the image tensor of its manifest's preprocessing takes, under the same name,

    FP32   (N, 3, H, W)               the tensor itself; nothing here touches it. Where the manifest says that pixels
    UINT8  (N, H, W, 3)               are the network's input, those are the tensor, in place of FP32
    UINT8  (N, h, w, 3)               RGB images of any one size
    BYTES  (N) or (N, 1)              JPEG or PNG files, each of its own size

and the latter two are fitted (bilinear), scaled and normalised as the manifest says, in threads of their own
ahead of the variant's queue: a file that cannot be read (see `protos.images`) fails its own request and never a
batch.
"""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np
from PIL import Image

from protos import images
from protos.errors import ExpiredError, OverloadedError
from protos.manifest import TensorSpec, Variant
from protos.preprocessing import input_spec, normalise
from protos.tensors import Array, decode_request
from protos.v1 import inference_pb2 as pb
from server.execution.deadline import why_given_up
from server.execution.engine import Observer
from server.tasks.task import Sizes


def accepted(request: pb.ModelInferRequest, variant: Variant) -> tuple[TensorSpec, ...]:
    """What the inputs of `request` have to be: `variant.inputs` itself, or images where it says that it holds some."""
    datatype = request.inputs[0].datatype if len(request.inputs) == 1 else ""
    if datatype not in ("UINT8", "BYTES") or not _takes_images(variant):
        return variant.inputs
    if datatype == variant.inputs[0].datatype and tuple(request.inputs[0].shape[1:]) == variant.inputs[0].shape[1:]:
        return variant.inputs  # pixels, and as many as the network takes
    files = (-1, 1) if len(request.inputs[0].shape) == 2 else (-1,)
    return (TensorSpec(variant.inputs[0].name, datatype, (-1, -1, -1, 3) if datatype == "UINT8" else files),)


def _takes_images(variant: Variant) -> bool:
    """Whether the only input is what the preprocessing makes of an image."""
    return len(variant.inputs) == 1 and variant.inputs[0] == input_spec(variant.inputs[0].name, variant.preprocessing)


class Images:
    """Makes tensors of images in `threads` threads; at most `queue_size` requests wait for one of them."""

    def __init__(self, threads: int, queue_size: int, max_pixels: int) -> None:
        self._pool = ThreadPoolExecutor(threads, "images")
        self._room = threading.BoundedSemaphore(threads + queue_size)
        self._queue_size, self._max_pixels = queue_size, max_pixels

    async def read(
        self, request: pb.ModelInferRequest, variant: Variant, observer: Observer, deadline: float | None = None
    ) -> tuple[dict[str, Array], Sizes]:
        """The input (N, 3, H, W) of a request whose headers fit, and the images' own sizes.

        Once its caller is gone, the rest is left undone.

        Raises `OverloadedError` at once where too many wait, `InvalidInputError` for contents that do not fit.
        `deadline` is a time of `perf_counter`: gRPC cancels the caller then, here it only says why.
        """
        began = perf_counter()
        if not self._room.acquire(blocking=False):
            observer.rejected("queue_full")
            raise OverloadedError(f"{self._queue_size} requests are waiting for their images to be read, at most")
        gone = threading.Event()
        work = self._pool.submit(self._read, request, variant, gone)
        work.add_done_callback(lambda _: self._room.release())
        try:
            return await asyncio.wrap_future(work)
        except asyncio.CancelledError:
            observer.rejected(why_given_up(began, deadline))
            raise
        finally:
            gone.set()

    def close(self) -> None:
        """Ends the threads; what waits for them is not read any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _read(
        self, request: pb.ModelInferRequest, variant: Variant, gone: threading.Event
    ) -> tuple[dict[str, Array], Sizes]:
        ((name, array),) = decode_request(request).items()
        if array.dtype == np.object_:
            opened = (self._open(f"input '{name}': element {i}", file) for i, file in enumerate(array.flat))
        else:
            images.check_size(f"input '{name}'", array.shape[1], array.shape[2], self._max_pixels)
            opened = (Image.fromarray(pixels) for pixels in array)
        resized, sizes = [], []
        for image in opened:
            if gone.is_set():
                raise ExpiredError("the caller went away while the images were read")  # nobody is there to be told
            resized.append(images.fit(image, variant.preprocessing))
            sizes.append((image.height, image.width))
        return {name: normalise(np.stack(resized), variant.preprocessing)}, sizes

    def _open(self, element: str, file: bytes) -> Image.Image:
        return images.read(file, element, self._max_pixels)
