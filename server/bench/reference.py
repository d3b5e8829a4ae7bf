"""The least that a server can do, to measure against: `python -m server.bench.reference KIND FOLDER ROWS`.

`floor` answers a constant to bytes that nobody decodes: what grpc.aio itself costs. `batching` decodes, takes
what is queued (at most ROWS), executes it in one thread and answers: a server without metrics, admission,
deadlines or validation. Prints the address that it listens on, and serves until its standard input ends.
"""

import asyncio
import queue
import sys
import threading
from pathlib import Path
from typing import TypeAlias

import grpc
import numpy as np

from protos.manifest import from_json
from protos.tensors import encode_response
from protos.v1 import inference_pb2 as pb
from server import runtimes
from server.runtimes import Array, Runtime

SERVICE = "inference.GRPCInferenceService"

Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"
_Job = tuple[Array, "asyncio.Future[Array]"]


class Batching:
    """The bare server: natural batching, one worker thread, one hop back for each batch."""

    def __init__(self, runtime: Runtime, input_name: str, output_name: str, rows: int) -> None:
        self._runtime, self._input, self._output, self._rows = runtime, input_name, output_name, rows
        self._queue: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._work, daemon=True).start()

    async def infer(self, request: pb.ModelInferRequest, _: object) -> pb.ModelInferResponse:
        """Answers one request for one row."""
        array = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(request.inputs[0].shape)
        future: asyncio.Future[Array] = self._loop.create_future()
        self._queue.put((array, future))
        output = await future
        response = pb.ModelInferResponse(model_name="bare", id=request.id)
        response.outputs.add(name=self._output, datatype="FP32", shape=output.shape)
        response.raw_output_contents.append(output.tobytes())
        return response

    def _work(self) -> None:
        while True:
            batch = [self._queue.get()]
            while len(batch) < self._rows and not self._queue.empty():
                batch.append(self._queue.get())
            inputs = batch[0][0] if len(batch) == 1 else np.concatenate([array for array, _ in batch])
            outputs = self._runtime.infer({self._input: inputs})[self._output]
            self._loop.call_soon_threadsafe(_resolve, batch, outputs)


def _resolve(batch: list[_Job], outputs: Array) -> None:
    for row, (_, future) in enumerate(batch):
        if not future.done():  # a client that stops breaks its calls off
            future.set_result(outputs[row : row + 1])


def floor() -> dict[str, Handler]:
    """Returns handlers that answer a constant."""
    constant = encode_response("floor", "", {"logits": np.zeros((1, 10), np.float32)}).SerializeToString()

    async def answer(_: bytes, __: object) -> bytes:
        return constant

    async def stream(requests: object, context: "grpc.aio.ServicerContext[bytes, bytes]") -> None:
        while await context.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
            await context.write(wrapped)

    wrapped = pb.ModelStreamInferResponse(infer_response=pb.ModelInferResponse.FromString(constant)).SerializeToString()
    return {
        "ModelInfer": grpc.unary_unary_rpc_method_handler(answer, None, None),
        "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(stream, None, None),
    }


def batching(folder: Path, rows: int) -> dict[str, Handler]:
    """Returns handlers that answer with the variant in `folder`, at most `rows` rows at once."""
    variant = from_json((folder / "manifest.json").read_text())
    runtime = runtimes.load(folder, variant, threads=1)
    bare = Batching(runtime, variant.inputs[0].name, variant.outputs[0].name, rows)
    decode, encode = pb.ModelInferRequest.FromString, pb.ModelInferResponse.SerializeToString
    return {"ModelInfer": grpc.unary_unary_rpc_method_handler(bare.infer, decode, encode)}


async def main(kind: str, folder: str, rows: str) -> None:
    """Serves one of the two kinds until standard input ends."""
    server = grpc.aio.server()
    handlers = floor() if kind == "floor" else batching(Path(folder), int(rows))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
