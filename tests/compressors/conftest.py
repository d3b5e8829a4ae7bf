"""These tests export in their own process, which real builds never do, and clean up what libraries leave in it; and
the small world that several of them build in."""

import ctypes
import functools
from collections.abc import Iterator

import pytest
from torch.onnx._internal.exporter._registration import ONNXRegistry

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


@pytest.fixture(scope="session", autouse=True)
def read_once() -> Iterator[None]:
    """PyTorch reads the sources of its 500 operators in ONNX for each export anew: most of the time of a small one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(functools.cache(ONNXRegistry.from_torchlib)))
        yield


@pytest.fixture
def world() -> Iterator[None]:
    """The small network and data set, which a study can name."""
    with small_world():
        yield
