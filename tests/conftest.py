"""What holds for the whole suite.

A suite that is started in the background (`make test &`, nohup) inherits SIGINT as ignored, and so would every program
that it starts. With a handler of its own, its children begin with the default: https://docs.python.org/3/library/signal.html

PyTorch's threads sleep while they wait for each other, here and in all that is started here, as in pareto-compress:
beside other work on the same cores, threads that spin take most of their time for nothing.
"""

import os
import signal
from collections.abc import Iterator

import pytest

from protos.support.makers import tell_nothing
from tests.support.server.doors import DOORS

tell_nothing()
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # OpenMP reads it once, when PyTorch is imported


@pytest.fixture(scope="module", params=DOORS)
def front(request: pytest.FixtureRequest) -> Iterator[str]:
    """The door by which ModelInfer comes to each server that the tests of a module start: they run once for each.

    A fixture that lasts longer than one test and starts a server has to ask for this one by its name.
    """
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PARETO_FRONT", request.param)
        yield request.param


@pytest.fixture(autouse=True)
def default_front(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that does not ask for the door has the default one, also between two that do."""
    if "front" not in request.fixturenames:
        monkeypatch.delenv("PARETO_FRONT", raising=False)
