"""What `pareto-serve` can be told: one dataclass, from which flags, environment names and help are derived.

An option is written once, as a field with its docstring: `queue_size` is the flag `--queue-size` and the
variable `PARETO_QUEUE_SIZE`. A flag goes before the environment, the environment before the default. A
value that does not fit is a `UsageError` which names where it was given, what came and what was expected.
"""

import argparse
import ast
import dataclasses
import inspect
import math
import textwrap
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from protos.errors import UsageError

Number = TypeVar("Number", int, float)
Value = Path | str | int | float


def _number(default: Number, low: Number, high: Number) -> Number:
    """A field whose value lies in `low`..`high`."""
    return field(default=default, metadata={"range": (low, high)})


@dataclass(frozen=True)
class Settings:
    """All settings of one server; each field's docstring is its help text."""

    repository: Path
    """The folder of built variants; serve only one that you trust, since artifacts are native code."""
    host: str = "127.0.0.1"
    """The address to listen on, for gRPC and for metrics; 0.0.0.0 for all of IPv4."""
    port: int = _number(8001, 0, 65535)
    """The port for gRPC; 0 takes a free one, which the log names."""
    metrics_port: int = _number(8002, 0, 65535)
    """The port of the metrics page; 0 takes a free one, which the log names."""
    threads: int = _number(1, 1, 1024)
    """Threads that one execution of an engine uses; as many run at once as the available cores hold."""
    max_batch: int = _number(64, 1, 65536)
    """Rows that one request may hold."""
    queue_size: int = _number(128, 1, 1_000_000)
    """Requests that may wait for one variant; the next one is refused at once."""
    max_message_bytes: int = _number(64 * 1024 * 1024, 1024, 2**31 - 1)
    """Bytes that one message may hold, in either direction."""
    drain_notice: float = _number(0.5, 0.0, 3600.0)
    """Seconds between the health turning NOT_SERVING and the first refused request, at the end."""
    drain_timeout: float = _number(30.0, 0.0, 3600.0)
    """Seconds that accepted requests get to finish, at the end."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least grave messages that are logged."""


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """The settings that flags and `PARETO_*` variables ask for; raises `UsageError`."""
    flags = vars(_parser().parse_args(arguments))
    hints = typing.get_type_hints(Settings)
    values: dict[str, Value] = {}
    for option in dataclasses.fields(Settings):
        for source, given in ((_flag(option), flags), (_variable(option), environment)):
            text = given.get(option.name if given is flags else source)
            if text is not None:
                values[option.name] = _convert(option, hints[option.name], text, source)
                break
        else:
            if option.default is dataclasses.MISSING:
                raise UsageError(f"{_flag(option)} or {_variable(option)} is missing")
    return Settings(**values)  # type: ignore[arg-type]


class _Parser(argparse.ArgumentParser):
    """Raises instead of printing the usage and leaving."""

    def error(self, message: str) -> typing.NoReturn:
        raise UsageError(message)


def _parser() -> _Parser:
    parser = _Parser(
        prog="pareto-serve",
        description="Serves every variant of a repository behind the Open Inference Protocol (gRPC).",
        epilog="Each option can also be given as an environment variable: --queue-size as PARETO_QUEUE_SIZE.",
        allow_abbrev=False,
    )
    hints, texts = typing.get_type_hints(Settings), _docstrings()
    for option in dataclasses.fields(Settings):
        required = option.default is dataclasses.MISSING
        default = "required" if required else f"default: {option.default}"
        help_text = f"{texts[option.name]} ({default})".replace("%", "%%")
        parser.add_argument(_flag(option), dest=option.name, metavar=_metavar(hints[option.name]), help=help_text)
    return parser


def _docstrings() -> dict[str, str]:
    """The string below each field of `Settings`. Python keeps none for attributes, so its source is read."""
    body = ast.parse(textwrap.dedent(inspect.getsource(Settings))).body[0]
    assert isinstance(body, ast.ClassDef)
    texts = {}
    for statement, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            assert isinstance(after, ast.Expr)
            texts[statement.target.id] = inspect.cleandoc(ast.literal_eval(after.value))
    return texts


def _convert(option: "dataclasses.Field[Value]", kind: type, text: str, source: str) -> Value:
    if kind is Path:
        if not Path(text).is_dir():
            raise UsageError(f"{source}: '{text}' came, expected a folder that exists")
        return Path(text)
    if choices := typing.get_args(kind):
        if text not in choices:
            raise UsageError(f"{source}: '{text}' came, expected one of {', '.join(choices)}")
        return text
    return text if kind is str else _convert_number(option, kind, text, source)


def _convert_number(option: "dataclasses.Field[Value]", kind: type, text: str, source: str) -> Value:
    low, high = option.metadata["range"]
    try:
        value: int | float = kind(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        noun = "a whole number" if kind is int else "a number"
        raise UsageError(f"{source}: '{text}' came, expected {noun} from {low} to {high}")
    return value


def _flag(option: "dataclasses.Field[Value]") -> str:
    return "--" + option.name.replace("_", "-")


def _variable(option: "dataclasses.Field[Value]") -> str:
    return "PARETO_" + option.name.upper()


def _metavar(kind: type) -> str:
    if choices := typing.get_args(kind):
        return "|".join(choices)
    return {Path: "DIR", int: "N", float: "SECONDS"}.get(kind, "TEXT")
