"""Dataclasses from parsed JSON or TOML, strictly: what does not fit is named with its place, never guessed."""

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar

T = TypeVar("T")


def decode(kind: type[T], data: object, where: str) -> T:
    """Makes the dataclass `kind` of `data`; raises `ValueError` for an unknown or missing key or a wrong type.

    A `ValueError` of the dataclass itself must begin with the field's name.
    """
    if not isinstance(data, dict):
        raise ValueError(f"{where}: got {data!r}, expected keys and values")
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(data.keys() - fields.keys()):
        raise ValueError(f"{where}: unknown key '{unknown[0]}', expected one of {', '.join(fields)}")
    needed = [n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING]
    if missing := [name for name in needed if name not in data]:
        raise ValueError(f"{where}: '{missing[0]}' is missing")
    hints = typing.get_type_hints(kind)
    values = {name: _value(hints[name], value, f"{where}.{name}") for name, value in data.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{where}.{error}") from None


def _value(kind: Any, data: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return decode(typing.cast(type[object], kind), data, where)
    if origin in (types.UnionType, typing.Union):  # X | None, dataclasses told by their keys, or any JSON value
        if data is None and types.NoneType in arguments:
            return None
        members = [member for member in arguments if member is not types.NoneType]
        if len(members) > 1 and isinstance(data, dict) and all(map(dataclasses.is_dataclass, members)):
            members = [m for m in members if {f.name for f in dataclasses.fields(m)} == data.keys()] or members[:1]
        return _value(members[0], data, where) if len(members) == 1 else data
    if origin is Literal:
        if data not in arguments:
            raise ValueError(f"{where}: got {data!r}, expected one of {', '.join(map(str, arguments))}")
        return data
    if origin is tuple and isinstance(data, list):
        items = [arguments[0]] * len(data) if arguments[-1] is Ellipsis else arguments
        if len(items) != len(data):
            raise ValueError(f"{where}: got {len(data)} values, expected {len(items)}")
        return tuple(_value(item, x, f"{where}[{i}]") for i, (item, x) in enumerate(zip(items, data, strict=True)))
    if origin is dict and isinstance(data, dict):
        return {key: _value(arguments[1], item, f"{where}.{key}") for key, item in data.items()}
    if kind is Path and isinstance(data, str):
        return Path(data)
    if kind is float and type(data) is int:
        return float(data)
    if type(data) is not kind:
        raise ValueError(f"{where}: got {data!r}, expected {getattr(kind, '__name__', kind)}")
    return data
