"""Users that rest between short slices, against a real server: what they call, when, and how a slice ends."""

from loadtest.users.slices import LEAST, ClosedTurn, OpenTurn, StandingUsers, standing_users  # patches, so first

# isort: split
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest

from loadtest.client.oip import Client
from loadtest.client.payloads import make_inputs, make_payloads
from loadtest.users.recorder import AFTER, FIRST, STEADY, WARMUP, Recorder, Rows
from tests.support import toy
from tests.support.loadtest.runs import requests_of
from tests.support.serving import ServerProcess

VARIANTS = ("fp32-onnxruntime", "fp32-openvino")
DEAD = "127.0.0.1:1"


class Standing:
    """Two variants' users, four each, and what they recorded."""

    def __init__(self, server: ServerProcess, repository: Path, stack: ExitStack, dead: bool = False) -> None:
        self.recorder = Recorder()
        with closing(Client(server.grpc_address, 10.0)) as client:
            metadata = {variant: client.model(toy.MODEL, variant) for variant in VARIANTS}
        payloads = {
            name: {1: make_payloads(toy.MODEL, name, told, make_inputs(toy.MODEL, told, repository, 0))}
            for name, told in metadata.items()
        }
        hosts = dict.fromkeys(VARIANTS, DEAD if dead else server.grpc_address)
        how = standing_users(hosts, payloads, 4, self.recorder.on_request, lambda _: None, deadline=10.0)
        self.users: StandingUsers = stack.enter_context(how)

    def calls(self, variant: str) -> Rows:
        """The variant's calls so far."""
        rows = self.recorder.samples(0.0, (0.0, 0.0), None, VARIANTS).rows
        return np.compress(rows["variant"] == VARIANTS.index(variant), rows)


@pytest.fixture
def standing(server: ServerProcess, repository: Path) -> Iterator[Standing]:
    with ExitStack() as stack:
        yield Standing(server, repository, stack)


def phases(rows: Rows) -> list[int]:
    return np.bincount(rows["phase"], minlength=4).tolist()


def test_only_the_variant_whose_turn_it_is_gets_calls(standing: Standing, server: ServerProcess) -> None:
    before = requests_of(server)
    standing.users.take(VARIANTS[0], ClosedTurn(4, 1, 0.05))
    calls, after = len(standing.calls(VARIANTS[0])), requests_of(server)
    assert after[VARIANTS[0]] - before.get(VARIANTS[0], 0.0) == calls
    assert after.get(VARIANTS[1]) == before.get(VARIANTS[1])


def test_connections_are_opened_once_and_the_first_call_of_a_slice_is_apart(standing: Standing) -> None:
    standing.users.take(VARIANTS[0], ClosedTurn(4, 1, 0.05))
    first = phases(standing.calls(VARIANTS[0]))
    standing.recorder.clear()
    standing.users.take(VARIANTS[0], ClosedTurn(4, 1, 0.05))
    second = phases(standing.calls(VARIANTS[0]))
    assert (first[FIRST], second[FIRST]) == (4, 0)
    assert second[WARMUP] >= 4


def test_each_user_makes_its_least_number_of_steady_calls_however_short_a_slice_is(standing: Standing) -> None:
    turn = ClosedTurn(4, 1, 1e-6)
    standing.users.take(VARIANTS[0], turn)
    assert phases(standing.calls(VARIANTS[0]))[STEADY] == 4 * LEAST == turn.answered
    assert turn.seconds > 1e-6


def test_a_steady_call_is_never_alone_at_a_slice_s_end(standing: Standing) -> None:
    standing.users.take(VARIANTS[0], ClosedTurn(4, 1, 0.2))
    rows = standing.calls(VARIANTS[0])
    last = rows[rows["phase"] == STEADY]["due"].max()
    later = rows[(rows["phase"] == AFTER) | (rows["due"] == last)]
    assert len(later) >= 3  # of four users at least two others still call, or have calls of their own under way


def test_throughput_is_answers_by_the_users_own_time(standing: Standing) -> None:
    turn = ClosedTurn(1, 1, 0.2)
    standing.users.take(VARIANTS[0], turn)
    rows = standing.calls(VARIANTS[0])
    steady = rows[rows["phase"] == STEADY]
    assert turn.answered == len(steady)
    assert turn.seconds >= steady["latency"].sum()


def test_an_open_loop_keeps_its_due_times(standing: Standing) -> None:
    times = [0.0, 0.01, 0.05, 0.051, 0.09]
    turn = OpenTurn(4, 1, 0.1, times)
    standing.users.take(VARIANTS[0], turn)
    rows = standing.calls(VARIANTS[0])
    due = np.sort(rows[rows["phase"] == STEADY]["due"])
    assert due - due[0] == pytest.approx(times, abs=5e-4)
    assert turn.answered == len(times)


def test_a_slice_without_arrivals_ends(standing: Standing) -> None:
    turn = OpenTurn(4, 1, 0.05, [])
    standing.users.take(VARIANTS[0], turn)
    assert turn.answered == 0


def test_a_server_that_is_gone_makes_slices_of_failures(server: ServerProcess, repository: Path) -> None:
    with ExitStack() as stack:
        standing = Standing(server, repository, stack, dead=True)
        turn = ClosedTurn(2, 1, 0.01)
        standing.users.take(VARIANTS[0], turn)
        assert turn.answered == 0
        assert {each.status for each in standing.recorder.failures} == {"UNAVAILABLE"}
