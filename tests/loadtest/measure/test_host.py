"""Two readings and their difference: made-up counters, and this machine."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.measure.host import Conditions, Memory, Reading, between, memory_left, memory_of, read

BEFORE = Reading(at=10.0, busy=100.0, total=400.0, own=5.0, steal=1.0, throttled=2.0, load=0.5)
AFTER = Reading(at=12.0, busy=106.0, total=408.0, own=6.0, steal=1.4, throttled=2.5, load=0.7)


def test_shares_are_of_all_cores() -> None:
    found = between(BEFORE, AFTER, with_seconds=3.0)
    assert dataclasses.astuple(found) == pytest.approx((2.0, 0.4 / 8, 0.5, 0.7, 4 / 8, 2 / 8))


def test_without_other_processes_the_run_is_this_one() -> None:
    assert between(BEFORE, AFTER).own == pytest.approx(1 / 8)


def test_a_server_that_does_not_say_what_it_took_leaves_own_and_others_open() -> None:
    found = between(BEFORE, AFTER, with_seconds=None)
    assert (found.own, found.others) == (None, None)
    assert found.steal == pytest.approx(0.05)


def test_what_a_system_does_not_count_is_absent() -> None:
    bare = [dataclasses.replace(each, steal=None, throttled=None, load=None) for each in (BEFORE, AFTER)]
    found = between(*bare)
    assert (found.steal, found.throttled_seconds, found.load) == (None, None, None)


def test_counters_that_did_not_move_give_no_shares() -> None:
    assert between(BEFORE, dataclasses.replace(BEFORE, at=10.001)) == Conditions(
        seconds=pytest.approx(0.001), steal=None, throttled_seconds=0.0, load=0.5, own=None, others=None
    )


def test_ticks_that_lag_behind_make_no_negative_share() -> None:
    assert between(BEFORE, AFTER, with_seconds=7.0).others == 0.0


def test_without_cgroups_throttling_is_absent(tmp_path: Path) -> None:
    assert read(tmp_path / "fs", tmp_path / "membership").throttled is None


def test_this_machine_can_be_read() -> None:
    before = read()
    while (after := read()).total == before.total:  # the kernel counts in hundredths of a second
        pass
    found = between(before, after)
    assert found.seconds > 0
    assert found.own is not None
    assert found.others is not None
    assert 0 <= found.others <= 1
    assert before.busy <= before.total


def test_the_memory_of_a_process_includes_those_below_it() -> None:
    alone = memory_of(os.getpid())
    block = "held = bytes([1]) * (64 << 20); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", block], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        grown = memory_of(os.getpid()).own - alone.own
        child.communicate(b"\n")
    assert 64 << 20 < grown < 160 << 20


def test_a_process_that_has_ended_takes_no_memory() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert memory_of(ended.pid) == Memory(0, 0)


def test_what_processes_share_counts_once() -> None:
    assert Memory(own=30, shared=12).total == 42


def test_some_memory_is_left_on_this_machine() -> None:
    assert 0 < memory_left() < 1 << 60
