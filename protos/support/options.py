"""Command-line options made of a dataclass: each is written once, as a field with its docstring.

`queue_size: int = 128` is the flag `--queue-size`, its docstring the help; with the prefix `PARETO_` it is
the variable `PARETO_QUEUE_SIZE` as well, and by `fill` a key of a TOML file. A flag goes before the environment,
the environment before the default.

A field is a str, int, float (seconds), Path (a folder, or by its rule a file), a bool (the bare flag, or yes or
no), a `Literal` of strings, a tuple of one of these (separated by commas), or one of these or None. Not covered:
rules over several fields, which the dataclass itself checks.
"""

import argparse
import ast
import dataclasses
import inspect
import json
import math
import string
import textwrap
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from protos.errors import UsageError


class Dataclass(typing.Protocol):
    """What makes a class a dataclass to the type checker."""

    __dataclass_fields__: typing.ClassVar[dict[str, "dataclasses.Field[Any]"]]


Options = TypeVar("Options", bound=Dataclass)
Number = TypeVar("Number", int, float)
Rule = Mapping[str, Any]
"""The `metadata` of a field whose values are fewer than its type allows, or written in a way of their own.

`accepts` tells which values fit, `convert` makes one from text and raises `ValueError`; `expected` says in an error
what fits, `metavar` in the help; `nargs` and `const` are argparse's.
"""


def between(low: Number, high: Number) -> Rule:
    """Returns the rule of a field whose value is a number from `low` to `high`."""
    noun = _PLAIN[type(low)]["expected"]
    return {"accepts": lambda value: low <= value <= high, "expected": f"{noun} from {low} to {high}"}


ABOVE_ZERO: Rule = {"accepts": lambda value: 0 < value < math.inf, "expected": "a number above 0"}


def with_unit(metavar: str, expected: str, units: Mapping[str, float]) -> Rule:
    """Returns the rule of a field whose value is a number above 0; `units` has the factor of each unit."""

    def convert(text: str) -> float:
        number = text.rstrip("%" + string.ascii_letters)
        return float(number) * units.get(text.removeprefix(number), math.nan)

    return {**ABOVE_ZERO, "convert": convert, "expected": expected, "metavar": metavar}


_SIZES = {"": 1.0, "kB": 1e-3, "MB": 1.0, "GB": 1e3, "KiB": 2**10 / 1e6, "MiB": 2**20 / 1e6, "GiB": 2**30 / 1e6}

MEGABYTES = with_unit("SIZE", "a size such as 200MB or 1.5GB", _SIZES)
"""The rule of a field whose value is a size; a bare number is of megabytes."""

EXISTING_FOLDER: Rule = {"accepts": Path.is_dir, "expected": "a folder that exists"}
"""The rule of a field whose value is a folder to read from."""

EXISTING_FILE: Rule = {"accepts": Path.is_file, "expected": "a file that exists", "metavar": "FILE"}
"""The rule of a field whose value is a file to read from."""


def add_flags(parser: argparse._ActionsContainer, kind: type[Dataclass]) -> None:
    """Adds a flag for each field of `kind`; argparse requires none of them, `read` does."""
    hints, texts = typing.get_type_hints(kind), docstrings(kind)
    for option in _fields(kind):
        rule = _rule(hints[option.name]) | option.metadata
        text = (texts[option.name] + _shown(option.default)).replace("%", "%%")
        nargs, const, metavar = rule.get("nargs"), rule.get("const"), rule["metavar"]
        parser.add_argument(_flag(option.name), nargs=nargs, const=const, metavar=metavar, help=text)


def read(
    kind: type[Options], flags: argparse.Namespace, environment: Mapping[str, str] | None = None, prefix: str = ""
) -> Options:
    """Makes a `kind` of parsed flags, and of the variables that begin with `prefix` if there is one.

    Raises `UsageError` for what is missing or does not fit.
    """
    hints = typing.get_type_hints(kind)
    values: dict[str, object] = {}
    for option in dataclasses.fields(kind):
        text = getattr(flags, option.name)
        sources = {_flag(option.name): ",".join(text) if isinstance(text, list) else text}
        if prefix:
            variable = prefix + option.name.upper()
            sources[variable] = (environment or {}).get(variable)
        given = [(source, text) for source, text in sources.items() if text is not None]
        if given:
            values[option.name] = _convert(_rule(hints[option.name]) | option.metadata, *given[0])
        elif option.default is dataclasses.MISSING:
            raise UsageError(f"{' or '.join(sources)} is missing")
    return kind(**values)


def fill(flags: argparse.Namespace, kind: type[Dataclass], path: Path) -> None:
    """Takes the flags that were not given from a TOML file; raises `UsageError` if it has a key that `kind` lacks."""
    names = [option.name for option in dataclasses.fields(kind)]
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"'{path}': {error}") from None
    for name, value in values.items():
        if name not in names:
            raise UsageError(f"'{path}': unknown key '{name}', expected one of {', '.join(names)}")
        if getattr(flags, name) is None:
            setattr(flags, name, _text(value))


def to_toml(options: Dataclass, without: Sequence[str] = ()) -> str:
    """Returns the text of a TOML file from which `fill` makes the same options, except the fields in `without`."""
    names = [option.name for option in _fields(type(options)) if option.name not in without]
    values = {name: value for name in names if (value := getattr(options, name)) not in (None, ())}
    return "".join(f"{name} = {json.dumps(value, default=str)}\n" for name, value in values.items())


def _fields(kind: type[Dataclass]) -> list["dataclasses.Field[Any]"]:
    """Returns the fields of a dataclass, those that it inherits last."""
    return sorted(dataclasses.fields(kind), key=lambda option: option.name not in vars(kind)["__annotations__"])


def _text(value: object) -> str:
    """Returns a value as a person writes it on the command line."""
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value))
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def docstrings(kind: type[Dataclass]) -> dict[str, str]:
    """Returns the string below each field of `kind`. Python keeps none for attributes, so this reads the source."""
    texts = dict[str, str]()
    for base in filter(dataclasses.is_dataclass, reversed(kind.__mro__)):
        texts |= _docstrings(base)
    return texts


def _docstrings(kind: type) -> dict[str, str]:
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(body, ast.ClassDef)
    texts = {}
    for statement, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            assert isinstance(after, ast.Expr), f"{kind.__name__}.{statement.target.id} has no docstring"
            texts[statement.target.id] = inspect.cleandoc(ast.literal_eval(after.value))
    return texts


def _yes_or_no(text: str) -> bool:
    return ("no", "yes").index(text) == 1


_PLAIN: dict[object, dict[str, Any]] = {
    str: {"convert": str, "expected": "text", "metavar": "TEXT"},
    int: {"convert": int, "expected": "a whole number", "metavar": "N"},
    float: {"convert": float, "expected": "a number", "metavar": "SECONDS"},
    Path: {"convert": Path, "expected": "a folder", "metavar": "DIR"},
    bool: {"convert": _yes_or_no, "expected": "yes or no", "metavar": "yes|no", "nargs": "?", "const": "yes"},
}


def _rule(hint: object) -> dict[str, Any]:
    """Returns the rule of an annotated type; that of a field goes before it."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        expected, metavar = f"one of {', '.join(inner)}", "|".join(inner)
        return {"convert": lambda text: inner[inner.index(text)], "expected": expected, "metavar": metavar}
    if origin in (types.UnionType, typing.Union):  # the latter of a Literal
        return _rule(inner[0])
    if origin is tuple:
        item = _rule(inner[0])
        return {
            "convert": lambda text: tuple(item["convert"](part.strip()) for part in text.split(",")),
            "expected": f"{item['expected']}, or several separated by commas",
            "metavar": f"{item['metavar']},...",
        }
    return _PLAIN[hint]


def _convert(rule: Rule, source: str, text: str) -> object:
    try:
        value = rule["convert"](text)
        if "accepts" not in rule or rule["accepts"](value):
            return value
    except ValueError:
        pass
    raise UsageError(f"{source}: got '{text}', expected {rule['expected']}")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _shown(default: object) -> str:
    """Returns a default as the help shows it; an empty one is not shown."""
    if default is dataclasses.MISSING:
        return " (required)"
    return "" if default in (None, ()) else f" (default: {_text(default)})"
