"""ModelStreamInfer: many requests on one stream, each answered by id as soon as it is done.

    read --> a task for each request: parse, infer, serialize --> answers --> write
      ^------------- waits while `room` requests are under way ---------'

A request is under way from its reading until its answer is written, so a client that does not read its
answers is not read from either: nothing piles up here, and gRPC's flow control holds the client.

What fails is one request: its error goes out as `error_message` with its id, and the stream goes on. After the
client's half-close what is under way is answered; when the client cancels, or its deadline passes, that is
given up. When the server stops, what was read is answered, and then the stream ends with UNAVAILABLE.
"""

import asyncio
import logging
from collections import deque
from typing import TypeAlias

import grpc

from protos.errors import UnavailableError
from protos.v1 import inference_pb2 as pb
from server.api.edge import parser
from server.api.inference import Inference
from server.observability import logs
from server.observability.request_record import RequestRecord
from server.status import is_fault, text_of

_parse = parser(pb.ModelInferRequest.FromString)

logger = logging.getLogger(__name__)

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"


class Streams:
    """All streams of one server; on each, at most `room` requests are under way."""

    def __init__(self, inference: Inference, room: int) -> None:
        self._inference, self._room = inference, room
        self._open: set[_Stream] = set()
        self._closing = False

    async def serve(self, context: Context) -> None:
        """Serves one stream to its end; `UnavailableError` where that is the server's."""
        if self._closing:
            raise UnavailableError("the server is shutting down")
        stream = _Stream(self._inference, self._room, context)
        self._open.add(stream)
        try:
            await stream.serve()
        finally:
            self._open.discard(stream)

    def close(self) -> None:
        """Reads no more; the streams end as soon as what they have read is answered."""
        self._closing = True
        for stream in self._open:
            stream.reader.cancel()


class _Stream:
    def __init__(self, inference: Inference, room: int, context: Context) -> None:
        self._inference, self._room, self._context = inference, room, context
        self._under_way = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._answers: deque[bytes] = deque()
        self._news, self._vacancy = asyncio.Event(), asyncio.Event()
        self.reader = asyncio.create_task(self._read())
        self.reader.add_done_callback(lambda _: self._news.set())

    async def serve(self) -> None:
        """Writes the answers, until none will come any more."""
        try:
            while self._under_way or not self.reader.done():
                self._news.clear()
                if not self._answers:
                    await self._news.wait()
                while self._answers:
                    await self._context.write(self._answers.popleft())
                    self._under_way -= 1
                    self._vacancy.set()
        finally:
            for task in (self.reader, *self._tasks):
                task.cancel()
        if self.reader.cancelled():
            raise UnavailableError("the server is shutting down")
        self.reader.result()

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while self._under_way >= self._room:
                self._vacancy.clear()
                await self._vacancy.wait()
            raw = await self._context.read()
            if raw is grpc.aio.EOF:  # type: ignore[attr-defined]  # the stubs lack it
                return
            self._under_way += 1
            self._tasks.add(loop.create_task(self._answer(raw)))

    async def _answer(self, raw: bytes) -> None:
        record = RequestRecord(self._context)
        try:
            checked = self._inference.check(_parse(raw), record)
            response = await self._inference.complete(checked)
            answer = pb.ModelStreamInferResponse(infer_response=response).SerializeToString()
            record.end()
        except BaseException as error:
            record.end(error)
            if not isinstance(error, Exception):
                raise
            self._fail(record.request_id, error)
        else:
            self._send(answer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.discard(task)

    def _fail(self, request_id: str, error: Exception) -> None:
        if is_fault(error):
            logs.log_fault(logger, "ModelStreamInfer", request_id, error)
        response = pb.ModelStreamInferResponse(error_message=text_of(error))
        response.infer_response.id = request_id
        self._send(response.SerializeToString())

    def _send(self, answer: bytes) -> None:
        self._answers.append(answer)
        self._news.set()
