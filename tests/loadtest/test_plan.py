"""Settings, the flags made of them, and the order of slices."""

import argparse
from pathlib import Path

import pytest

from loadtest.plan import Load, Plan, order
from protos.errors import UsageError
from protos.support import options

REQUIRED = ["--target", "localhost:1", "--model", "toy", "--out", "runs/x"]


def plan(*flags: str) -> Plan:
    parser = argparse.ArgumentParser()
    options.add_flags(parser, Plan)
    return options.read(Plan, parser.parse_args([*REQUIRED, *flags]))


def test_flags_left_out_have_the_defaults_of_the_fields() -> None:
    assert plan() == Plan(target="localhost:1", model="toy", out=Path("runs/x"))


def test_every_flag_reaches_its_field() -> None:
    given = plan(
        *(
            "--variants",
            "a, b",
            "--users",
            "2,16",
            "--duration",
            "1.5",
            "--slice",
            "0.05",
            "--sustained",
            "0",
            "--warmup",
            "0",
            "--seed",
            "7",
        ),
        *("--deadline", "2", "--repository", "elsewhere", "--metrics-url", "http://localhost:2/metrics"),
    )
    assert given == Plan(
        target="localhost:1",
        model="toy",
        out=Path("runs/x"),
        variants=("a", "b"),
        users=(2, 16),
        duration=1.5,
        slice=0.05,
        sustained=0.0,
        warmup=0.0,
        seed=7,
        deadline=2.0,
        repository=Path("elsewhere"),
        metrics_url="http://localhost:2/metrics",
    )


def test_the_help_of_a_list_shows_it_as_it_is_given() -> None:
    parser = argparse.ArgumentParser()
    options.add_flags(parser, Plan)
    assert {action.dest: action.help for action in parser._actions}["users"] == (
        "concurrent users, separated by commas; each sends its next request when it has the last answer (default: 1,8\n"
        "unless another load is given)"
    )


@pytest.mark.parametrize(
    ("flag", "value", "expected"),
    [
        ("--target", "localhost", "HOST:PORT, and others as NAME=HOST:PORT"),
        ("--target", ":8001", "HOST:PORT, and others as NAME=HOST:PORT"),
        ("--target", "a:1,b:2", "HOST:PORT, and others as NAME=HOST:PORT"),
        ("--target", "a=b:1", "HOST:PORT, and others as NAME=HOST:PORT"),
        ("--target", "a:65536", "HOST:PORT, and others as NAME=HOST:PORT"),
        ("--target", "a:0", "HOST:PORT, and others as NAME=HOST:PORT"),
        ("--target", "a:1,b=c:70000", "HOST:PORT, and others as NAME=HOST:PORT"),
        ("--target", "http://a:1", "HOST:PORT, and others as NAME=HOST:PORT"),
        ("--target", "dns:///a:1", "HOST:PORT, and others as NAME=HOST:PORT"),
        ("--target", "ipv4:127.0.0.1:1", "HOST:PORT, and others as NAME=HOST:PORT"),
        ("--target", "::1:1", "HOST:PORT, and others as NAME=HOST:PORT"),
        ("--users", "0", "different whole numbers of at least 1, separated by commas"),
        ("--users", "1,x", "different whole numbers of at least 1, separated by commas"),
        ("--users", "2,2", "different whole numbers of at least 1, separated by commas"),
        ("--rates", "0", "different numbers above 0, separated by commas"),
        ("--rates", "inf", "different numbers above 0, separated by commas"),
        ("--offline", "0", "different whole numbers of at least 1, separated by commas"),
        ("--connections", "0", "a whole number of at least 1"),
        ("--rate", "0", "a number above 0"),
        ("--max-drop", "-1", "a number of at least 0"),
        ("--max-memory", "2km", "a size such as 200MB or 1.5GB"),
        ("--max-size", "0", "a size such as 200MB or 1.5GB"),
        ("--rows", "0", "a whole number of at least 1"),
        ("--form", "png", "one of tensor, pixels, jpeg"),
        ("--transport", "http", "one of unary, stream"),
        ("--variants", "a,a", "different names, separated by commas"),
        ("--variants", "a,", "different names, separated by commas"),
        ("--duration", "0", "a number above 0"),
        ("--duration", "inf", "a number above 0"),
        ("--duration", "nan", "a number above 0"),
        ("--slice", "0", "a number above 0"),
        ("--sustained", "-1", "a number of at least 0"),
        ("--warmup", "-1", "a number of at least 0"),
        ("--deadline", "0", "a number above 0"),
    ],
)
def test_a_value_out_of_range_is_named(flag: str, value: str, expected: str) -> None:
    with pytest.raises(UsageError) as error:
        plan(f"{flag}={value}")
    assert str(error.value) == f"{flag}: got '{value}', expected {expected}"


@pytest.mark.parametrize(
    ("target", "local"),
    [
        ("127.0.0.1:8001", True),
        ("127.0.1.1:8001", True),
        ("localhost:8001", True),
        ("[::1]:8001", True),
        ("10.0.0.1:8001", False),
        ("0.0.0.0:8001", False),
        ("server:8001", False),
    ],
)
def test_a_loopback_target_is_on_this_machine(target: str, local: bool) -> None:
    assert plan("--target", target).on_one_machine is local


@pytest.mark.parametrize(("duration", "slice_", "rounds"), [("5", "0.1", 50), ("0.3", "0.1", 3), ("0.1", "1", 1)])
def test_a_variant_has_as_many_rounds_as_slices_fill_its_time(duration: str, slice_: str, rounds: int) -> None:
    assert plan("--duration", duration, "--slice", slice_).rounds == rounds


@pytest.mark.parametrize(
    ("flag", "constrained"),
    [
        ("--p99=9ms", True),
        ("--rate=50", True),
        ("--max-drop=0", True),
        ("--max-memory=1MB", True),
        ("--max-size=1MB", True),
        ("--rows=2", False),
    ],
)
def test_what_is_to_be_decided_is_a_constraint(flag: str, constrained: bool) -> None:
    assert plan(flag).constrained is constrained
    if constrained:
        assert plan(flag, "--until-decided").until_decided
    else:
        expected = (
            "--until-decided: got no constraint, expected one of --p99, --rate, --max-drop, --max-memory, --max-size"
        )
        with pytest.raises(UsageError, match=f"^{expected}$"):
            plan(flag, "--until-decided")


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ((), ["1 user", "8 users"]),
        (("--rates", "0.5,200"), ["0.5 per second", "200 per second"]),
        (("--offline", "32"), ["offline, 32 rows"]),
        (("--rate", "200"), ["200 per second"]),
        (("--rate", "200", "--rates", "200,300"), ["200 per second", "300 per second"]),
        (("--offline", "32", "--rates", "5", "--users", "2"), ["2 users", "5 per second", "offline, 32 rows"]),
    ],
)
def test_users_are_the_default_only_where_no_other_load_is_asked_for(flags: tuple[str, ...], names: list[str]) -> None:
    assert [load.name for load in plan(*flags).loads] == names


def test_a_load_says_how_many_connections_and_rows_it_takes() -> None:
    asked = plan("--users", "3", "--rates", "50", "--offline", "32", "--connections", "4", "--rows", "2")
    assert [(asked.users_of(load), asked.rows_of(load)) for load in asked.loads] == [(3, 2), (4, 2), (4, 32)]


def test_the_order_within_a_round_has_every_variant_once_and_is_shuffled_by_seed_load_and_round() -> None:
    variants, one, eight = [f"v{i}" for i in range(8)], Load("closed", 1), Load("closed", 8)
    turns = [order(plan(), one, 1, variants), order(plan("--seed", "1"), one, 1, variants)]
    turns += [order(plan(), one, 2, variants), order(plan(), eight, 1, variants)]
    assert all(sorted(each) == variants for each in turns)
    assert len({*map(tuple, turns)}) == 4
    assert order(plan(), one, 1, variants) == turns[0]
