"""A client that sends raw HTTP/2 frames: for what no gRPC client would send.

Frames are those of hyperframe, header blocks those of hpack. All that the server sends is read by a thread, so that
neither side waits for the other to read.
Source: RFC 9113; https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from enum import IntEnum
from types import TracebackType

import grpc
from hpack import Decoder, Encoder, NeverIndexedHeaderTuple
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame

from protos.tensors import encode_request
from tests.support import toy

INFER = "/inference.GRPCInferenceService/ModelInfer"
REQUEST = encode_request("toy", "", {"input": toy.images(1)}).SerializeToString()
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MARK = b"the last"
"""Of the ping that is sent to learn whether all before it was read."""
SECONDS = 30.0
"""For whatever the server is to do."""
CODES: dict[str, str] = {str(code.value[0]): code.name for code in grpc.StatusCode}


class Error(IntEnum):
    """Why a stream was ended."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


def block(*more: tuple[str, str]) -> bytes:
    """Returns the header block of a ModelInfer call. It needs no table, so that it may be sent any number of times."""
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", INFER),
        (":authority", "toy"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        *more,
    ]
    return Encoder().encode([NeverIndexedHeaderTuple(name, value) for name, value in headers])


BLOCK = block()


def message(payload: bytes = REQUEST, compressed: bool = False) -> bytes:
    """Returns a gRPC message as it is sent: a flag, the length, the bytes."""
    return bytes([compressed]) + len(payload).to_bytes(4, "big") + payload


def begin(stream: int, headers: bytes = BLOCK) -> Frame:
    """Returns the frame that begins a call; its message is still to come."""
    return HeadersFrame(stream, headers, flags=["END_HEADERS"])


def call(stream: int, body: bytes | None = None, headers: bytes = BLOCK) -> list[Frame]:
    """Returns the frames of one call: `body`, or a request that is right."""
    return [begin(stream, headers), DataFrame(stream, message() if body is None else body, flags=["END_STREAM"])]


def pack(*frames: Frame) -> bytes:
    """Returns frames as they are sent."""
    return b"".join(frame.serialize() for frame in frames)


class Connection:
    """A connection to "host:port"; its streams are to be 1, 3, 5 and so on. It confirms the server's first settings and
    nothing else: a thread that reads must not wait for one that sends."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=SECONDS)
        self._news = threading.Condition()
        self._greeted = self._marked = self._dismissed = self._over = False
        self.ends: dict[int, str] = {}
        """How the server ended each call so far: the name of its status, or the error of its reset."""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.send(PREFACE + pack(SettingsFrame()))
        self._wait(lambda: self._greeted or self._over)
        self.send(pack(SettingsFrame(flags=["ACK"])))

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Sends bytes; where the server has closed the connection they are lost."""
        with contextlib.suppress(ConnectionError):
            self._socket.sendall(data)

    def end_of(self, stream: int) -> str:
        """Returns how the server ended a call, as soon as it did."""
        self._wait(lambda: stream in self.ends or self._over)
        return self.ends.get(stream, "connection lost")

    def cut_off(self) -> bool:
        """Returns whether the server has ended the connection, or announced it, once it has read all that was sent."""
        for _ in range(2):  # gRPC may write the answer to the first ahead of the end that it has decided on before
            self._marked = False
            self.send(pack(PingFrame(0, MARK)))
            self._wait(lambda: self._marked or self._dismissed or self._over)
        return self._dismissed or self._over

    def close(self, abruptly: bool = False) -> None:
        """Closes the connection, in good order or by a reset of TCP; does nothing where it is closed."""
        with contextlib.suppress(OSError):
            if abruptly:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._socket.shutdown(socket.SHUT_RD if abruptly else socket.SHUT_RDWR)  # wakes the reader
        self._reader.join()
        self._socket.close()

    def _wait(self, condition: Callable[[], object]) -> None:
        with self._news:
            assert self._news.wait_for(condition, SECONDS), f"nothing from the server within {SECONDS} s"

    def _read(self) -> None:
        decoder = Decoder()
        with contextlib.suppress(OSError):
            for frame in self._frames():
                with self._news:
                    self._note(frame, decoder)
                    self._news.notify_all()
        with self._news:
            self._over = True
            self._news.notify_all()

    def _note(self, frame: Frame, decoder: Decoder) -> None:
        if isinstance(frame, HeadersFrame):
            status = dict(decoder.decode(frame.data)).get("grpc-status")
            if status is not None:
                self.ends.setdefault(frame.stream_id, CODES[status])
        elif isinstance(frame, RstStreamFrame):
            self.ends.setdefault(frame.stream_id, Error(frame.error_code).name)
        elif isinstance(frame, GoAwayFrame):
            self._dismissed = True
        elif isinstance(frame, SettingsFrame):
            self._greeted = True
        elif isinstance(frame, PingFrame) and frame.opaque_data == MARK:
            self._marked = True

    def _frames(self) -> Iterator[Frame]:
        """Until the server closes the connection."""
        received = bytearray()
        while data := self._socket.recv(65536):
            received += data
            while len(received) >= 9:
                frame, length = Frame.parse_frame_header(memoryview(bytes(received[:9])))
                if len(received) < 9 + length:
                    break
                frame.parse_body(memoryview(bytes(received[9 : 9 + length])))
                del received[: 9 + length]
                yield frame
