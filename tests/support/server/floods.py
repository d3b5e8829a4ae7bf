"""What hostile clients send without end: streams that are reset, by them or by the server, and frames that ask for
nothing. Each flood makes the frames of one connection, for so many streams or of so many frames.
"""

from collections.abc import Callable, Iterator

from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.support.server.http2 import BLOCK, Error, begin, call, message


def resets(count: int) -> Iterator[Frame]:
    """Makes calls that are reset before their message: "rapid reset", CVE-2023-44487."""
    for stream in _streams(count):
        yield begin(stream)
        yield RstStreamFrame(stream, Error.CANCEL)


def requests_and_resets(count: int) -> Iterator[Frame]:
    """Makes whole calls that are reset before they can be answered."""
    for stream in _streams(count):
        yield from call(stream)
        yield RstStreamFrame(stream, Error.CANCEL)


def overflowing_windows(count: int) -> Iterator[Frame]:
    """Makes calls whose windows overflow, so that the server resets them: "made you reset", CVE-2025-8671."""
    for stream in _streams(count):
        yield begin(stream)
        yield WindowUpdateFrame(stream, window_increment=2**31 - 1)


def unknown_flags(count: int) -> Iterator[Frame]:
    """Makes calls with a message of no kind that gRPC knows, so that the server ends or resets them."""
    return (frame for stream in _streams(count) for frame in call(stream, b"\x02" + message()[1:]))


def data_after_the_end(count: int) -> Iterator[Frame]:
    """Makes whole calls, each with data after its end, so that the server resets it."""
    for stream in _streams(count):
        yield from call(stream)
        yield DataFrame(stream, b"more")


def pings(count: int) -> Iterator[Frame]:
    """Makes pings, each of which is to be answered."""
    return (PingFrame(0, number.to_bytes(8, "big")) for number in range(count))


def settings(count: int) -> Iterator[Frame]:
    """Makes settings that change nothing, each of which is to be confirmed."""
    return (SettingsFrame() for _ in range(count))


def continuations(count: int) -> Iterator[Frame]:
    """Makes one header block that does not end: CVE-2024-27316 and others."""
    yield HeadersFrame(1, BLOCK)
    for _ in range(count):
        yield ContinuationFrame(1, b"")


def empty_data(count: int) -> Iterator[Frame]:
    """Makes one call whose message is sent in frames that hold none of it."""
    yield begin(1)
    for _ in range(count):
        yield DataFrame(1)


def _streams(count: int) -> range:
    return range(1, 2 * count, 2)


FLOODS: dict[str, Callable[[int], Iterator[Frame]]] = {
    "resets": resets,
    "requests and resets": requests_and_resets,
    "overflowing windows": overflowing_windows,
    "unknown flags": unknown_flags,
    "data after the end": data_after_the_end,
    "pings": pings,
    "settings": settings,
    "continuations": continuations,
    "empty data": empty_data,
}
