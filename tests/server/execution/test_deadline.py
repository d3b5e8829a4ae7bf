"""A deadline is kept by the server itself, also for a client that only writes it down and waits."""

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import hpack
import pytest

from protos.tensors import encode_request
from server.execution.deadline import ran_out
from tests.support import toy
from tests.support.server.connection import connected
from tests.support.server.standins import Gate, host
from tests.support.serving import eventually

HEADERS, DATA, SETTINGS, RST_STREAM = 1, 0, 4, 3
END_STREAM, END_HEADERS = 1, 4


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame (RFC 9113)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header(name: str, value: str) -> bytes:
    """One field, literal and never indexed (RFC 7541)."""
    return b"\x10" + b"".join(struct.pack("B", len(text)) + text.encode() for text in (name, value))


def call(timeout: str) -> bytes:
    """A connection's first bytes: one ModelInfer with a `grpc-timeout`."""
    message = encode_request("toy", "", {"input": toy.images(1)}).SerializeToString()
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/inference.GRPCInferenceService/ModelInfer",
        ":authority": "toy",
        "te": "trailers",
        "content-type": "application/grpc",
        "grpc-timeout": timeout,
    }
    return (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + frame(SETTINGS, 0, 0, b"")
        + frame(HEADERS, END_HEADERS, 1, b"".join(header(*field) for field in fields.items()))
        + frame(DATA, END_STREAM, 1, b"\0" + struct.pack(">I", len(message)) + message)
    )


async def frames(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, int, bytes]]:
    """Kind, stream and payload of each frame that comes."""
    while True:
        head = await reader.readexactly(9)
        yield head[3], int.from_bytes(head[5:], "big"), await reader.readexactly(int.from_bytes(head[:3], "big"))


@pytest.mark.usefixtures("front")
def test_the_server_answers_at_the_deadline_while_the_runtime_is_busy(repository: Path) -> None:
    async def told(address: str, timeout: str) -> tuple[int, bytes]:
        """What ends the call: the kind of frame, and what it holds."""
        host_, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host_, int(port))
        writer.write(call(timeout))
        async for kind, stream, payload in frames(reader):
            if stream == 1:
                writer.close()
                return kind, payload
        raise AssertionError

    async def run() -> None:
        async with connected(repository) as client, asyncio.timeout(60):
            gate = Gate()
            engine = host(client.server, gate)
            first = asyncio.create_task(told(client.server.grpc_address, "50S"))
            await eventually(gate.entered.is_set)
            kind, payload = await told(client.server.grpc_address, "100m")
            assert not gate.open.is_set()
            assert kind == HEADERS
            assert dict(hpack.Decoder().decode(payload))["grpc-status"] == "4"  # DEADLINE_EXCEEDED
            await client.wait_for("pareto_requests_total", code="DEADLINE_EXCEEDED")
            assert client.sample("pareto_rejected_total", reason="expired") == 1
            assert engine.depth() == 0
            gate.open.set()
            assert (await first)[0] == HEADERS
            assert gate.calls == [1]

    asyncio.run(run())


def test_what_is_left_tells_a_deadline_from_a_client_that_gave_up() -> None:
    assert ran_out(0.0, 1.0)
    assert ran_out(0.011, 1.0)  # the wire rounds up by as much as 1%
    assert ran_out(0.029, 1.0)  # a busy machine starts the clock late
    assert not ran_out(0.04, 1.0)
    assert not ran_out(None, None)
