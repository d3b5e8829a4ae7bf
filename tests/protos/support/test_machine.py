"""The machine's description: the cores that may be used, not those that are there."""

import os
from pathlib import Path

import pytest

from protos.support import machine
from protos.support.machine import available_cores


def cgroup(root: Path, own: str, quotas: dict[str, str]) -> tuple[Path, Path]:
    """A cgroup tree with `cpu.max` files, and the file that names the process's own group in it."""
    membership = root / "membership"
    membership.write_text(f"1:cpu:/elsewhere\n0::{own}\n")
    for folder, text in quotas.items():
        (root / "fs" / folder).mkdir(parents=True, exist_ok=True)
        (root / "fs" / folder / "cpu.max").write_text(text + "\n")
    return root / "fs", membership


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("own", "quotas", "cores"),
    [
        ("/", {}, 8),
        ("/", {"": "max 100000"}, 8),
        ("/", {"": "300000 100000"}, 3),
        ("/", {"": "250000 100000"}, 2),
        ("/", {"": "50000 100000"}, 1),
        ("/pod/box", {"pod": "400000 100000", "pod/box": "max 100000"}, 4),
        ("/pod/box", {"pod": "400000 100000", "pod/box": "200000 100000"}, 2),
        ("/", {"": "1600000 100000"}, 8),
    ],
)
def test_the_available_cores_are_whole_and_within_every_quota(
    tmp_path: Path, own: str, quotas: dict[str, str], cores: int
) -> None:
    assert available_cores(*cgroup(tmp_path, own, quotas)) == cores


@pytest.mark.usefixtures("eight_cores")
def test_without_cgroups_the_affinity_counts(tmp_path: Path) -> None:
    assert available_cores(tmp_path / "fs", tmp_path / "none") == 8


def test_versions_leave_out_what_is_not_installed() -> None:
    assert machine.versions("numpy", "no-such-distribution").keys() == {"numpy"}


def test_the_description_names_this_machine() -> None:
    here = machine.describe("numpy")
    assert here.cpu
    assert here.memory_bytes > 2**28
    assert here.cores == machine.available_cores()
