"""Users that rest between short slices, against a real server: what they call, when, and how a slice ends."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from loadtest.users.recorder import AFTER, FIRST, STEADY, WARMUP
from tests.support.processes import finished
from tests.support.serving import ServerProcess

SESSION = Path(__file__).with_name("slices_session.py")
USERS, LEAST = 4, 3
TIMES = [0.0, 0.01, 0.05, 0.051, 0.09]

Played = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def played(server: ServerProcess, repository: Path) -> Played:
    done = finished([sys.executable, str(SESSION), server.grpc_address, str(repository)])
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def phases(played: Played, scenario: str) -> Counter[int]:
    return Counter(phase for phase, _, _ in played[scenario]["calls"])


def steady(played: Played, scenario: str) -> list[tuple[float, float]]:
    """When steady calls were due, and how long they took."""
    return sorted((due, latency) for phase, due, latency in played[scenario]["calls"] if phase == STEADY)


def test_only_the_variant_whose_turn_it_is_gets_calls(played: Played) -> None:
    assert played["second"]["variants"] == ["fp32-onnxruntime"]


def test_connections_are_opened_once_and_the_first_calls_of_a_slice_are_apart(played: Played) -> None:
    assert [phases(played, name)[FIRST] for name in ("first", "second")] == [USERS, 0]
    assert phases(played, "second")[WARMUP] >= USERS


def test_each_user_makes_its_least_number_of_steady_calls_however_short_a_slice_is(played: Played) -> None:
    assert phases(played, "shortest")[STEADY] == USERS * LEAST == played["shortest"]["answered"]
    assert played["shortest"]["seconds"] > 1e-6


def test_no_steady_call_ends_while_others_have_stopped(played: Played) -> None:
    ends = [due + latency for due, latency in steady(played, "long")]
    later = [due for phase, due, _ in played["long"]["calls"] if phase == AFTER]
    assert len(later) >= 1
    assert min(later) < max(ends)  # those that were done went on until the last one was, too


def test_a_slice_lasts_as_long_as_its_user_was_at_it(played: Played) -> None:
    calls = steady(played, "alone")
    assert played["alone"]["answered"] == len(calls)
    assert played["alone"]["seconds"] == pytest.approx(calls[-1][0] + calls[-1][1] - calls[0][0], abs=5e-3)


def test_an_open_loop_keeps_its_due_times(played: Played) -> None:
    due = [due for due, _ in steady(played, "open")]
    assert [each - due[0] for each in due] == pytest.approx(TIMES, abs=2e-3)
    assert played["open"]["answered"] == len(TIMES)


def test_a_slice_without_arrivals_ends(played: Played) -> None:
    assert (played["silent"]["answered"], steady(played, "silent")) == (0, [])


def test_a_server_that_is_gone_makes_a_slice_of_failures(played: Played) -> None:
    assert (played["gone"]["answered"], played["gone"]["statuses"]) == (0, ["UNAVAILABLE"])
