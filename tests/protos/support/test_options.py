"""Flags, variables, help and conversions that are made of a dataclass."""

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pytest

from protos.errors import UsageError
from protos.support import options


@dataclass(frozen=True)
class Toy:
    """All kinds of fields."""

    name: str
    """a name of 100% text"""
    folder: Path = field(default=Path("here"), metadata=options.EXISTING_FOLDER)
    """where to read"""
    out_dir: Path | None = None
    """where to write,
    if anywhere"""
    count: int = field(default=2, metadata=options.between(1, 9))
    """how many"""
    pause: float = field(default=0.5, metadata=options.between(0.0, 1.0))
    """how long"""
    rate: float = 1.0
    """how fast"""
    level: Literal["low", "high"] = "low"
    """how loud"""
    sizes: tuple[int, ...] = (1, 8)
    """how large"""
    tags: tuple[str, ...] = ()
    """which"""
    form: Literal["round", "square"] | None = None
    """how shaped"""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    options.add_flags(made, Toy)
    return made


def read(*flags: str, **environment: str) -> Toy:
    return options.read(Toy, parser().parse_args(flags), environment, "TOY_")


def filled(path: Path, *flags: str) -> Toy:
    """As from a file and flags."""
    given = parser().parse_args(flags)
    options.fill(given, Toy, path)
    return options.read(Toy, given)


GIVEN = {
    "name": "x",
    "folder": "/",
    "out_dir": "/no/such",
    "count": "9",
    "pause": "0.25",
    "rate": "3",
    "level": "high",
    "sizes": "2, 16",
    "tags": "a,b",
    "form": "round",
}
EXPECTED = Toy("x", Path("/"), Path("/no/such"), 9, 0.25, 3.0, "high", (2, 16), ("a", "b"), "round")


def test_what_is_not_given_has_the_default() -> None:
    assert read("--name", "x") == Toy("x")


def test_every_field_is_a_flag() -> None:
    assert read(*(part for name, text in GIVEN.items() for part in (f"--{name.replace('_', '-')}", text))) == EXPECTED


def test_every_field_is_a_variable_of_the_prefix() -> None:
    assert read(**{f"TOY_{name.upper()}": text for name, text in GIVEN.items()}) == EXPECTED


def test_a_flag_goes_before_the_environment() -> None:
    assert read("--name", "flag", TOY_NAME="variable", TOY_COUNT="3") == Toy("flag", count=3)


def test_without_a_prefix_there_are_no_variables() -> None:
    flags = parser().parse_args(["--name", "x"])
    assert options.read(Toy, flags, {"COUNT": "3", "TOY_COUNT": "3"}) == Toy("x")


def test_a_file_gives_what_the_flags_leave_out_and_is_made_of_options_again(tmp_path: Path) -> None:
    made = read("--name", "x", "--sizes", "1,2", "--count", "3")
    (tmp_path / "toy.toml").write_text(options.to_toml(made, without=("count", "folder")))
    assert filled(tmp_path / "toy.toml", "--name", "y") == replace(made, name="y", count=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("speed = 1", "unknown key 'speed', expected one of name, folder"),
        ("name = ", "Invalid value"),
        ("count = 10", "--count: got '10', expected a whole number from 1 to 9"),
        (None, "No such file"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "toy.toml").write_text(text)
    with pytest.raises(UsageError, match=message):
        filled(tmp_path / "toy.toml", "--name", "x")


@pytest.mark.parametrize(
    ("flags", "environment", "message"),
    [
        ((), {}, "--name or TOY_NAME is missing"),
        (("--folder", "/no/such"), {}, "--folder: got '/no/such', expected a folder that exists"),
        (("--folder", "\0"), {}, "--folder: got '\0', expected a folder that exists"),
        (("--count", "x"), {}, "--count: got 'x', expected a whole number from 1 to 9"),
        (("--count", "10"), {}, "--count: got '10', expected a whole number from 1 to 9"),
        (("--count", "0"), {}, "--count: got '0', expected a whole number from 1 to 9"),
        (("--count", ""), {}, "--count: got '', expected a whole number from 1 to 9"),
        ((), {"TOY_PAUSE": "nan"}, "TOY_PAUSE: got 'nan', expected a number from 0.0 to 1.0"),
        (("--rate", "fast"), {}, "--rate: got 'fast', expected a number"),
        (("--level", "loud"), {}, "--level: got 'loud', expected one of low, high"),
        ((), {"TOY_SIZES": "1,x"}, "TOY_SIZES: got '1,x', expected a whole number, or several separated by commas"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_source(
    flags: tuple[str, ...], environment: dict[str, str], message: str
) -> None:
    name = {} if "missing" in message else {"TOY_NAME": "x"}
    with pytest.raises(UsageError) as caught:
        read(*flags, **name, **environment)
    assert str(caught.value) == message


def test_the_help_is_made_of_docstrings_kinds_and_defaults() -> None:
    shown = " ".join(parser().format_help().split("options:")[1].split())
    assert shown == (
        "-h, --help show this help message and exit"
        " --name TEXT a name of 100% text (required)"
        " --folder DIR where to read (default: here)"
        " --out-dir DIR where to write, if anywhere"
        " --count N how many (default: 2)"
        " --pause SECONDS how long (default: 0.5)"
        " --rate SECONDS how fast (default: 1.0)"
        " --level low|high how loud (default: low)"
        " --sizes N,... how large (default: 1,8)"
        " --tags TEXT,... which --form round|square how shaped"
    )


def test_a_field_without_a_docstring_is_a_mistake() -> None:
    @dataclass(frozen=True)
    class Mute:
        """Says nothing."""

        a: int = 1
        b: int = 2
        """said"""

    with pytest.raises(AssertionError, match=r"Mute\.a has no docstring"):
        options.docstrings(Mute)


def test_flags_that_are_inherited_come_last() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Base:
        """Shared."""

        a: int = 1
        """first"""

    @dataclass(frozen=True, kw_only=True)
    class Derived(Base):
        """Of one program."""

        b: int = 2
        """second"""

    assert options.docstrings(Derived) == {"a": "first", "b": "second"}
    assert options.to_toml(Derived(a=3)) == "b = 2\na = 3\n"
