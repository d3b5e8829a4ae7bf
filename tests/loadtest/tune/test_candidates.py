"""The grid of a tuning, for machines of different size, and what it refuses."""

import dataclasses
import math
from pathlib import Path

import pytest

from loadtest.tune.candidates import DEFAULT, Configuration, batch_limits, candidates, plan_text, worth_measuring
from loadtest.tune.settings import Settings
from protos.errors import UsageError
from protos.manifest import Variant
from protos.repository import read_entry
from tests.support import toy

SETTINGS = Settings(model="toy", variant="fp32-onnxruntime")


@pytest.fixture(scope="module")
def variant(tmp_path_factory: pytest.TempPathFactory) -> Variant:
    root = toy.repository(tmp_path_factory.mktemp("models"), ("onnxruntime",))
    found = read_entry(root / toy.MODEL / "fp32-onnxruntime").variant
    assert found
    return found


@pytest.mark.parametrize(
    ("cores", "threads_and_workers"),
    [
        (1, [(1, 1)]),
        (2, [(1, 1), (1, 2), (2, 1)]),
        (4, [(1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (4, 1)]),
        (6, [(1, 1), (1, 2), (1, 4), (1, 6), (2, 1), (2, 2), (4, 1), (6, 1)]),
        (8, [(1, 1), (1, 2), (1, 4), (1, 8), (2, 1), (2, 2), (2, 4), (4, 1), (4, 2), (8, 1)]),
    ],
)
def test_threads_and_workers_are_powers_of_two_that_fit_the_cores(
    cores: int, threads_and_workers: list[tuple[int, int]]
) -> None:
    grid = [(*each, rows) for each in threads_and_workers for rows in (0, 1)]
    found = [dataclasses.astuple(each) for each in candidates(cores, (0, 1))]
    assert found[0] == (1, 1, 0)
    assert sorted(found) == grid


@pytest.mark.parametrize(
    ("most_rows", "limits"), [(1, [0]), (2, [0, 1]), (16, [0, 1]), (17, [0, 1, 64]), (math.inf, [0, 1, 64])]
)
def test_a_batch_that_the_load_cannot_fill_is_not_tried(most_rows: float, limits: list[int]) -> None:
    assert batch_limits(most_rows) == limits


def test_the_default_is_measured_even_where_other_values_are_asked_for() -> None:
    found = candidates(4, (8,), threads=(2,), workers=(1, 2, 4))
    assert found == [DEFAULT, Configuration(2, 1, 8), Configuration(2, 2, 8)]


def test_arrivals_at_a_rate_can_fill_larger_batches(variant: Variant) -> None:
    found = worth_measuring(dataclasses.replace(SETTINGS, rate=100.0), variant, 1)
    assert found == [DEFAULT, Configuration(batch_max=1), Configuration(batch_max=64)]


def test_a_variant_whose_requests_are_not_joined_has_one_limit(variant: Variant) -> None:
    found = worth_measuring(SETTINGS, dataclasses.replace(variant, max_batch=4), 2)
    assert found == [DEFAULT, Configuration(workers=2), Configuration(threads=2)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threads": (1, 4)}, "--threads: got 4, expected at most the 2 available cores"),
        ({"workers": (3,)}, "--workers: got 3, expected at most the 2 available cores"),
        (
            {"threads": (1,), "workers": (1,), "users": 1},
            "got only the default to measure on 2 cores at 1 user, expected other --threads, --workers, --batch-max or"
            " --users",
        ),
    ],
)
def test_what_leaves_nothing_to_measure_is_refused(
    changes: dict[str, tuple[int, ...]], message: str, variant: Variant
) -> None:
    with pytest.raises(UsageError) as refused:
        worth_measuring(dataclasses.replace(SETTINGS, **changes), variant, 2)
    assert str(refused.value) == message


def test_two_loads_are_refused() -> None:
    with pytest.raises(UsageError, match=r"^--users and --rate: got both, expected one load$"):
        Settings(model="toy", variant="fp32-onnxruntime", users=8, rate=100.0)


def test_a_configuration_is_named_by_the_flags_that_differ_from_the_server_s_own() -> None:
    assert [DEFAULT.name, DEFAULT.label, DEFAULT.flags] == ["", "the default", ()]
    tuned = Configuration(threads=2, batch_max=1)
    assert [tuned.name, tuned.label] == ["threads 2 batch-max 1", "--threads 2 --batch-max 1"]
    assert tuned.all_flags == ("--threads", "2", "--workers", "1", "--batch-max", "1")


def test_several_workers_have_a_supervisor() -> None:
    assert [Configuration(workers=each).processes for each in (1, 2, 4)] == [1, 3, 5]


def test_the_plan_says_what_is_measured_and_how_long_it_takes() -> None:
    settings = dataclasses.replace(SETTINGS, users=8, duration=10.0)
    assert plan_text(settings, candidates(2, (0, 1)), 2) == (
        "fp32-onnxruntime of toy, 8 users: 6 configurations that fit 2 cores (threads 1, 2; workers 1, 2; batch-max 0,"
        " 1), 10 s each at most, about 2 min"
    )


@pytest.mark.parametrize(
    ("limits", "decided_early"), [({}, False), ({"p99": 20.0}, True), ({"max_memory": 300.0}, True)]
)
def test_where_there_is_a_constraint_configurations_that_are_beaten_stop(
    limits: dict[str, float], decided_early: bool
) -> None:
    plan = dataclasses.replace(SETTINGS, out=Path("runs/x"), **limits).plan("127.0.0.1:1,threads 2=127.0.0.1:3")
    assert (plan.users, plan.until_decided) == ((8,), decided_early)
    assert [target.name for target in plan.targets] == ["", "threads 2"]
