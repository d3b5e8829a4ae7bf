"""Units and ranges on the command line: `20ms`, `200MB`, `0.1%`. A bare number is in the field's own unit.

Each constant is the rule of a `Plan` field (`protos.support.options`).
"""

import math

from protos.support.options import ABOVE_ZERO, Rule, with_unit


def at_least(low: float, noun: str = "a number") -> Rule:
    """Returns the rule of a field whose value is a finite number of at least `low`."""
    return {"accepts": lambda value: low <= value < math.inf, "expected": f"{noun} of at least {low}"}


def different(each: Rule, nouns: str) -> Rule:
    """Returns the rule of a field of several different values, each of which the rule `each` accepts."""
    return {
        "accepts": lambda values: all(map(each["accepts"], values)) and len(set(values)) == len(values),
        "expected": f"different {nouns}, separated by commas",
    }


_TIMES = {"": 1.0, "us": 1e-3, "ms": 1.0, "s": 1e3, "min": 60e3}

MILLISECONDS = with_unit("TIME", "a time such as 20ms or 0.5s", _TIMES)
_SHARE = with_unit("SHARE", "a share such as 0.1% or 0.001", {"": 1.0, "%": 0.01})
SHARE: Rule = {**_SHARE, "accepts": lambda value: 0 <= value < 1}
RATE: Rule = {**ABOVE_ZERO, "metavar": "PER_SECOND"}
RATES: Rule = {**different(ABOVE_ZERO, "numbers above 0"), "metavar": "PER_SECOND,..."}
POINTS: Rule = {**at_least(0), "metavar": "POINTS"}
COUNT = at_least(1, "a whole number")
COUNTS = different(COUNT, "whole numbers of at least 1")
NAMES: Rule = {**different({"accepts": bool}, "names"), "metavar": "NAME,..."}
