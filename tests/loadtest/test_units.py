"""Units as people write them, and what becomes of wrong ones."""

import argparse
import math
from pathlib import Path

import pytest

from loadtest.plan import Plan
from protos.errors import UsageError
from protos.support import options


def plan(*flags: str) -> Plan:
    parser = argparse.ArgumentParser()
    options.add_flags(parser, Plan)
    return options.read(Plan, parser.parse_args(["--target", "localhost:1", "--model", "m", "--out", "x", *flags]))


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("p99", "20ms", 20.0),
        ("p99", "0.5s", 500.0),
        ("p99", "500us", 0.5),
        ("p99", "1 s", 1000.0),
        ("p99", "20", 20.0),
        ("max_memory", "200MB", 200.0),
        ("max_memory", "1.5GB", 1500.0),
        ("max_memory", "1MiB", 1.048576),
        ("max_size", "500kB", 0.5),
        ("error_rate", "0.1%", 0.001),
        ("error_rate", "0.001", 0.001),
        ("error_rate", "1e-05", 0.00001),
        ("error_rate", "0", 0.0),
    ],
)
def test_a_value_with_a_unit_is_understood(field: str, text: str, value: float) -> None:
    assert getattr(plan(f"--{field.replace('_', '-')}", text), field) == pytest.approx(value)


@pytest.mark.parametrize(
    ("flag", "texts", "expected"),
    [
        ("--p99", ("", "ms", "20 m", "20MB", "x", "-1ms", "0", "nan", "inf"), "a time such as 20ms or 0.5s"),
        ("--max-memory", ("200m", "0MB", "1e999GB", "20ms"), "a size such as 200MB or 1.5GB"),
        ("--error-rate", ("2", "100%", "200%", "-0.1%", "1%%", "a tenth"), "a share such as 0.1% or 0.001"),
    ],
)
def test_a_wrong_value_is_one_line(flag: str, texts: tuple[str, ...], expected: str) -> None:
    for text in texts:
        with pytest.raises(UsageError) as error:
            plan(f"{flag}={text}")
        assert str(error.value) == f"{flag}: got '{text}', expected {expected}"


def test_flags_take_values() -> None:
    given = plan("--p99", "0.5s", "--error-rate", "1%")
    assert (given.p99, given.error_rate) == (500.0, 0.01)


def test_a_plan_file_gives_the_same_values_again(tmp_path: Path) -> None:
    given = plan("--p99", "20ms", "--error-rate", "0.001%", "--find-max-rate")
    (tmp_path / "plan.toml").write_text(options.to_toml(given))
    parser = argparse.ArgumentParser()
    options.add_flags(parser, Plan)
    options.fill(flags := parser.parse_args([]), Plan, tmp_path / "plan.toml")
    assert options.read(Plan, flags) == given
    assert math.isclose(given.error_rate, 1e-5)
