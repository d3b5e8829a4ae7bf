"""These tests export in their own process, which real builds never do, and clean up what libraries leave in it; and
the small world that several of them build in."""

import ctypes
from collections.abc import Iterator

import pytest

from tests.support.compressors.world import small_world


class _Stack(ctypes.Structure):
    """`stack_t` of sigaltstack(2)."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


_sigaltstack = ctypes.CDLL(None, use_errno=True).sigaltstack
_first = _Stack()
_sigaltstack(None, ctypes.byref(_first))


@pytest.fixture(autouse=True)
def signal_stack() -> Iterator[None]:
    """NNCF leaves a signal stack behind that is freed (see `server.runtimes.openvino`)."""
    yield
    assert _sigaltstack(ctypes.byref(_first), None) == 0


@pytest.fixture
def world() -> Iterator[None]:
    """The small network and data set, which a study can name."""
    with small_world():
        yield
