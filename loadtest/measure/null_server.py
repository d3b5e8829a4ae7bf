"""A server that answers ModelInfer and ModelStreamInfer at once, always the same.

    python -m loadtest.measure.null_server [--tls] < answer

It reads the serialized ModelInferResponse to give from standard input, prints its address on a free port of this
machine, and runs until a signal ends it.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from loadtest.client.oip import MESSAGE_BYTES
from protos.v1 import inference_pb2 as pb

_LIMITS = [("grpc.max_receive_message_length", MESSAGE_BYTES), ("grpc.max_send_message_length", MESSAGE_BYTES)]


CERTIFICATE = Path(__file__).with_name("null_server.pem")
"""Certificate and key for `--tls`, as PEM."""


async def _serve(answer: bytes, tls: bool) -> None:
    async def infer(request: bytes, context: object) -> bytes:
        return answer

    async def stream(requests: AsyncIterator[bytes], context: object) -> AsyncIterator[bytes]:
        response = pb.ModelInferResponse.FromString(answer)
        async for request in requests:
            response.id = pb.ModelInferRequest.FromString(request).id
            yield pb.ModelStreamInferResponse(infer_response=response).SerializeToString()

    server = grpc.aio.server(options=_LIMITS)
    methods = {
        "ModelInfer": grpc.unary_unary_rpc_method_handler(infer),
        "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(stream),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("inference.GRPCInferenceService", methods)])
    pem = CERTIFICATE.read_bytes()
    if tls:
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(pem, pem)]))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve(sys.stdin.buffer.read(), "--tls" in sys.argv))
