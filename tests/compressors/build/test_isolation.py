"""Fresh processes: nothing carries over, faults come back, an interruption ends them."""

import os
import time
from pathlib import Path

import psutil
import pytest
import torch
from torch import nn

from compressors.build.isolation import in_fresh_process, side_by_side


def remember() -> tuple[int, bool]:
    """This process, and whether it was here before."""
    before = "SEEN" in os.environ
    os.environ["SEEN"] = "1"
    return os.getpid(), before


def crash() -> None:
    os.abort()


def hang(started: Path) -> None:
    started.write_text(str(os.getpid()))
    time.sleep(600)


def test_nothing_carries_over_from_one_call_to_the_next() -> None:
    (one, before), (other, again) = in_fresh_process(remember), in_fresh_process(remember)
    assert not before
    assert not again
    assert len({one, other, os.getpid()}) == 3


def test_what_it_raises_is_raised_here() -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        in_fresh_process(Path("nowhere").read_text)


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else x + 1


def test_an_error_that_does_not_pickle_keeps_its_text_and_its_traceback() -> None:
    """Of torch.export's, pickle drops the text."""
    with pytest.raises(RuntimeError, match="GuardOnDataDependentSymNode: Could not guard on data-dep") as caught:
        in_fresh_process(torch.export.export, Branching(), (torch.zeros(2, 3),))
    assert "in forward" in str(caught.value.__cause__)


def test_a_crash_is_an_error_of_its_own_call_only() -> None:
    with side_by_side(1) as pool:
        crashed, fine = pool.submit(in_fresh_process, crash), pool.submit(in_fresh_process, remember)
        with pytest.raises(Exception, match="terminated abruptly"):
            crashed.result()
        assert fine.result()[0] != os.getpid()


def test_an_interruption_ends_the_processes(tmp_path: Path) -> None:
    started = tmp_path / "started"

    def interrupted() -> None:
        with side_by_side(1) as pool:
            pool.submit(in_fresh_process, hang, started)
            while not started.exists() or not started.read_text():
                time.sleep(0.05)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not psutil.pid_exists(int(started.read_text()))
