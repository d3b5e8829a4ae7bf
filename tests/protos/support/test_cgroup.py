"""What a container may use, from made-up cgroup files of both versions."""

import math
from pathlib import Path

import pytest

from protos.support.cgroup import cpu_quota, memory_left, throttled_seconds


def write(path: Path, text: str) -> Path:
    """Writes a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_quota_of_cgroup_v1_is_two_files(tmp_path: Path) -> None:
    membership = write(tmp_path / "membership", "4:memory:/a\n1:cpu,cpuacct:/a\n")
    write(tmp_path / "fs/cpu,cpuacct/a/cpu.cfs_quota_us", "150000\n")
    write(tmp_path / "fs/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n")
    assert cpu_quota(tmp_path / "fs", membership) == 1.5


def test_no_quota_of_cgroup_v1_is_minus_one(tmp_path: Path) -> None:
    membership = write(tmp_path / "membership", "1:cpu:/\n")
    write(tmp_path / "fs/cpu/cpu.cfs_quota_us", "-1\n")
    write(tmp_path / "fs/cpu/cpu.cfs_period_us", "100000\n")
    assert cpu_quota(tmp_path / "fs", membership) == math.inf


def test_cgroup_v2_counts_microseconds_of_this_group_and_those_above(tmp_path: Path) -> None:
    membership = write(tmp_path / "membership", "0::/kube/pod\n")
    write(tmp_path / "fs/kube/pod/cpu.stat", "usage_usec 9\nnr_throttled 3\nthrottled_usec 1500000\n")
    write(tmp_path / "fs/kube/cpu.stat", "usage_usec 9\nthrottled_usec 250000\n")
    write(tmp_path / "fs/cpu.stat", "usage_usec 9\n")
    assert throttled_seconds(tmp_path / "fs", membership) == pytest.approx(1.75)


def test_cgroup_v1_counts_nanoseconds(tmp_path: Path) -> None:
    membership = write(tmp_path / "membership", "9:name=systemd:/\n4:memory:/a\n1:cpu,cpuacct:/a\n")
    write(tmp_path / "fs/cpu,cpuacct/a/cpu.stat", "nr_periods 5\nthrottled_time 500000000\n")
    write(tmp_path / "fs/memory/a/cpu.stat", "throttled_time 7000000000\n")
    assert throttled_seconds(tmp_path / "fs", membership) == pytest.approx(0.5)


def test_a_path_of_the_host_is_looked_for_at_the_root_that_the_container_sees(tmp_path: Path) -> None:
    membership = write(tmp_path / "membership", "1:cpu:/docker/0123\n")
    write(tmp_path / "fs/cpu/cpu.stat", "throttled_time 1000000000\n")
    assert throttled_seconds(tmp_path / "fs", membership) == pytest.approx(1.0)


def test_without_cgroups_throttling_is_absent(tmp_path: Path) -> None:
    assert throttled_seconds(tmp_path / "fs", tmp_path / "membership") is None


def test_the_strictest_memory_limit_of_cgroup_v2_counts_without_files_that_can_be_forgotten(tmp_path: Path) -> None:
    membership = write(tmp_path / "membership", "0::/kube/pod\n")
    for folder, limit, used in (("kube/pod", "max", "500"), ("kube", "2000", "1500")):
        write(tmp_path / "fs" / folder / "memory.max", f"{limit}\n")
        write(tmp_path / "fs" / folder / "memory.current", f"{used}\n")
        write(tmp_path / "fs" / folder / "memory.stat", "anon 900\ninactive_file 200\n")
    assert memory_left(tmp_path / "fs", membership) == 700


def test_a_memory_limit_of_cgroup_v1_has_files_of_other_names(tmp_path: Path) -> None:
    membership = write(tmp_path / "membership", "4:memory:/a\n1:cpu,cpuacct:/a\n")
    write(tmp_path / "fs/memory/a/memory.limit_in_bytes", "1000\n")
    write(tmp_path / "fs/memory/a/memory.usage_in_bytes", "600\n")
    write(tmp_path / "fs/memory/a/memory.stat", "inactive_file 50\ntotal_inactive_file 100\n")
    assert memory_left(tmp_path / "fs", membership) == 500


def test_without_a_limit_a_cgroup_leaves_any_memory(tmp_path: Path) -> None:
    assert memory_left(tmp_path / "fs", tmp_path / "membership") == math.inf
