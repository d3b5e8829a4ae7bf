"""Units and ranges on the command line: `20ms`, `200MB`, `0.1%`. A bare number is in the field's own unit.

A unit is a function from text, which raises `ValueError`. It and the range make the rule of a `Plan` field
(`protos.support.options`).
"""

import math
from collections.abc import Mapping
from typing import Any

from protos.support.options import Rule


def milliseconds(text: str) -> float:
    """A time above 0, in milliseconds: `20ms`, `0.5s`, `500us`, `20`."""
    return _read(text, {"": 1.0, "us": 1e-3, "ms": 1.0, "s": 1e3, "min": 60e3}, _TIME, least=math.ulp(0.0))


def megabytes(text: str) -> float:
    """A size above 0, in megabytes of 1,000,000 bytes: `200MB`, `1.5GB`, `64MiB`, `200`."""
    units = {"": 1.0, "kB": 1e-3, "MB": 1.0, "GB": 1e3, "KiB": 2**10 / 1e6, "MiB": 2**20 / 1e6, "GiB": 2**30 / 1e6}
    return _read(text, units, _SIZE, least=math.ulp(0.0))


def share(text: str) -> float:
    """A part of a whole, from 0 to 1: `0.1%`, `0.001`."""
    return _read(text, {"": 1.0, "%": 0.01}, _SHARE, most=1.0)


def at_least(low: float, noun: str = "a number") -> dict[str, Any]:
    """The rule of a field whose value is a finite number of at least `low`."""
    return {"accepts": lambda value: low <= value < math.inf, "expected": f"{noun} of at least {low}"}


def above_zero() -> dict[str, Any]:
    """The rule of a field whose value is a finite number above 0."""
    return {"accepts": lambda value: 0 < value < math.inf, "expected": "a number above 0"}


def different(each: dict[str, Any], nouns: str) -> dict[str, Any]:
    """The rule of a field of several values, no two of them equal, of which the rule `each` accepts each one."""
    return {
        "accepts": lambda values: all(map(each["accepts"], values)) and len(set(values)) == len(values),
        "expected": f"different {nouns}, separated by commas",
    }


def _read(text: str, units: Mapping[str, float], expected: str, least: float = 0.0, most: float = math.inf) -> float:
    number = text.rstrip("%abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    try:
        value = float(number) * units[text.removeprefix(number)]
    except (ValueError, KeyError):
        value = math.nan
    if not (least <= value <= most and value < math.inf):
        raise ValueError(f"got '{text}', expected {expected}")
    return value


_TIME, _SIZE, _SHARE = "a time such as 20ms or 0.5s", "a size such as 200MB or 1.5GB", "a share such as 0.1% or 0.001"

MILLISECONDS: Rule = {"convert": milliseconds, "expected": _TIME, "metavar": "TIME"}
MEGABYTES: Rule = {"convert": megabytes, "expected": _SIZE, "metavar": "SIZE"}
SHARE: Rule = {"convert": share, "accepts": lambda value: value < 1, "expected": _SHARE, "metavar": "SHARE"}
RATE: Rule = {"metavar": "PER_SECOND"} | above_zero()
RATES: Rule = {"metavar": "PER_SECOND,..."} | different(above_zero(), "numbers above 0")
POINTS: Rule = {"metavar": "POINTS"} | at_least(0)
COUNT = at_least(1, "a whole number")
COUNTS = different(COUNT, "whole numbers of at least 1")
NAMES = different({"accepts": bool}, "names")
