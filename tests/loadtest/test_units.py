"""Units as people write them, and what becomes of wrong ones."""

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from loadtest.plan import Plan
from loadtest.units import megabytes, milliseconds, share
from protos.errors import UsageError
from protos.support import options


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (milliseconds, "20ms", 20.0),
        (milliseconds, "0.5s", 500.0),
        (milliseconds, "500us", 0.5),
        (milliseconds, "1 s", 1000.0),
        (milliseconds, "20", 20.0),
        (megabytes, "200MB", 200.0),
        (megabytes, "1.5GB", 1500.0),
        (megabytes, "1MiB", 1.048576),
        (share, "0.1%", 0.001),
        (share, "0.001", 0.001),
        (share, "1e-05", 0.00001),
        (share, "0", 0.0),
        (share, "100%", 1.0),
    ],
)
def test_a_value_with_a_unit_is_understood(read: Callable[[str], float], text: str, value: float) -> None:
    assert read(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("read", "texts", "expected"),
    [
        (milliseconds, ("", "ms", "20 m", "20MB", "x", "-1ms", "0", "nan", "inf"), "a time such as 20ms or 0.5s"),
        (megabytes, ("200m", "0MB", "1e999GB", "20ms"), "a size such as 200MB or 1.5GB"),
        (share, ("2", "101%", "-0.1%", "1%%", "a tenth"), "a share such as 0.1% or 0.001"),
    ],
)
def test_what_is_none_is_named(read: Callable[[str], float], texts: tuple[str, ...], expected: str) -> None:
    for text in texts:
        with pytest.raises(ValueError, match=f"got '{re.escape(text)}', expected {expected}"):
            read(text)


def plan(*flags: str) -> Plan:
    parser = argparse.ArgumentParser()
    options.add_flags(parser, Plan)
    return options.read(Plan, parser.parse_args(["--target", "localhost:1", "--model", "m", "--out", "x", *flags]))


def test_flags_take_values() -> None:
    given = plan("--p99", "0.5s", "--error-rate", "1%")
    assert (given.p99, given.error_rate) == (500.0, 0.01)


@pytest.mark.parametrize(
    ("flag", "value", "expected"),
    [
        ("--p99", "20m", "a time such as 20ms or 0.5s"),
        ("--error-rate", "200%", "a share such as 0.1% or 0.001"),
        ("--error-rate", "100%", "a share such as 0.1% or 0.001"),
    ],
)
def test_a_wrong_value_is_one_line(flag: str, value: str, expected: str) -> None:
    with pytest.raises(UsageError) as error:
        plan(flag, value)
    assert str(error.value) == f"{flag}: got '{value}', expected {expected}"


def test_a_plan_file_gives_the_same_values_again(tmp_path: Path) -> None:
    given = plan("--p99", "20ms", "--error-rate", "0.001%", "--find-max-rate")
    (tmp_path / "plan.toml").write_text(options.to_toml(given))
    parser = argparse.ArgumentParser()
    options.add_flags(parser, Plan)
    options.fill(flags := parser.parse_args([]), Plan, tmp_path / "plan.toml")
    assert options.read(Plan, flags) == given
    assert math.isclose(given.error_rate, 1e-5)
