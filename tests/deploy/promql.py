"""Which metrics and labels a PromQL expression uses, and whether the server exports them.

A dashboard that asks for a metric which nobody exports draws an empty panel and no error; this finds the
misspelt name. Regular expressions, not a parser: syntax is left to promtool and to a real Prometheus.

Limits: a grouping label (`by`, `on`, `group_left`, ...) must be on every metric of the expression, so
joins that bring in a label of one side are refused; so is a bare `{job="x"}`, since every selector needs a
metric name. An aggregation without `by` is taken to keep all labels. Labels that `label_replace` invents are not
known. The values of matchers are not looked at. A recorded series has the labels that its name begins with.
"""

import re

from protos.telemetry import METRICS, SUPERVISOR_METRICS
from tests.deploy.files import RULES, every_rule

RECORDED = [rule["record"] for rule in every_rule(RULES.read_text()) if "record" in rule]

TARGET_LABELS = frozenset({"job", "instance"})
"""Prometheus adds them to each series that it scrapes."""

PROCESS = (
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_start_time_seconds",
    "process_open_fds",
    "process_max_fds",
)
"""What prometheus_client's ProcessCollector exports."""

SERIES: dict[str, frozenset[str]] = (
    {
        name: TARGET_LABELS | set(metric.labels) | ({"le"} if name.endswith("_bucket") else set())
        for metric in (*METRICS, *SUPERVISOR_METRICS)
        for name in metric.series
    }
    | {"up": TARGET_LABELS}
    | dict.fromkeys(PROCESS, TARGET_LABELS | {"worker"})
    | {name: frozenset(name.partition(":")[0].split("_")) for name in RECORDED}
)
"""Every series that an expression may name, with its labels; `worker` is empty where there are no workers."""

_STRING = re.compile(r'"(?:\\.|[^"\\])*"')
_RANGE = re.compile(r"\[[^\]]*\]")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_OPERATORS = re.compile(r"\b(?:and|or|unless|bool|offset|inf|nan)\b(?!\s*\{)", re.IGNORECASE)
_SELECTOR = re.compile(r"(?:\b([A-Za-z_:][A-Za-z0-9_:]*)\b(?!\s*\())?\s*(\{[^}]*\})?")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_LABEL_VALUES = re.compile(r"label_values\((.+),\s*(\w+)\)")
_PLACEHOLDER = re.compile(r"\{\{\s*(?:\$labels\.)?([A-Za-z_]\w*)\s*\}\}")


def problems(expression: str) -> list[str]:
    """What `expression` names that the server does not export; empty where all is well."""
    text, grouping = _strip(expression)
    selectors = _selectors(text)
    found = [] if selectors else ["no metric is named"]
    for name, matchers in selectors:
        if name not in SERIES:
            found.append(f"unknown metric '{name}'")
        else:
            found += [f"'{name}' has no label '{label}'" for label in sorted((matchers | grouping) - SERIES[name])]
    return found


def template_problems(template: str, expression: str) -> list[str]:
    """The labels that `{{label}}` or `{{ $labels.label }}` in `template` want and the result has not."""
    text, grouping = _strip(expression)
    labels = grouping or set().union(*(SERIES.get(name, frozenset()) for name, _ in _selectors(text)))
    wanted = set(_PLACEHOLDER.findall(template))
    return [f"template wants label '{label}', the result has {sorted(labels)}" for label in sorted(wanted - labels)]


def variable_problems(query: str) -> list[str]:
    """As `problems`, for a template variable of the form `label_values(SELECTOR, LABEL)`."""
    if (match := _LABEL_VALUES.fullmatch(query)) is None:
        return [f"got '{query}', expected label_values(SELECTOR, LABEL)"]
    selector, label = match.groups()
    return problems(f"sum by ({label}) ({selector})")


def _strip(expression: str) -> tuple[str, set[str]]:
    """The expression with nothing left but selectors, functions and numbers, and its grouping labels."""
    text = _RANGE.sub("", _STRING.sub('""', expression))
    grouping = {label.strip() for group in _GROUPING.findall(text) for label in group.split(",") if label.strip()}
    return _OPERATORS.sub(" ", _GROUPING.sub(" ", text)), grouping


def _selectors(text: str) -> list[tuple[str, set[str]]]:
    """(metric name, labels of its matchers); the name is empty where a selector has none."""
    return [(name, set(_MATCHER.findall(matchers))) for name, matchers in _SELECTOR.findall(text) if name or matchers]
