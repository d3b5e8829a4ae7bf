"""Readers of the files in `deploy`, shared by its tests."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DASHBOARD = DEPLOY / "grafana/dashboards/paretoserve.json"
RULES = DEPLOY / "prometheus/rules.yml"


def read(path: str) -> Any:
    """A YAML file below `deploy`."""
    return yaml.safe_load((DEPLOY / path).read_text())


def queries(dashboard: str) -> list[tuple[str, str]]:
    """(expression, legend) of every query in every panel of a dashboard's text."""
    panels = json.loads(dashboard)["panels"]
    return [(query["expr"], query.get("legendFormat", "")) for panel in panels for query in panel.get("targets", [])]


def panels() -> dict[str, dict[str, Any]]:
    """The panels of our dashboard, by their titles."""
    return {panel["title"]: panel for panel in json.loads(DASHBOARD.read_text())["panels"]}


def expressions(panel_title: str) -> list[str]:
    """The expressions of one panel of our dashboard."""
    return [query["expr"] for query in panels()[panel_title]["targets"]]


def alerts(rules: str) -> list[dict[str, Any]]:
    """The alerts of a rule file's text."""
    return [rule for rule in every_rule(rules) if "alert" in rule]


def every_rule(rules: str) -> list[dict[str, Any]]:
    """The alerts of a rule file's text, and what it records."""
    return [rule for group in yaml.safe_load(rules)["groups"] for rule in group["rules"]]


def dockerfile(instruction: str, path: str = "Dockerfile") -> list[str]:
    """What follows `instruction` in a Dockerfile below `deploy`, once for each time that it is there."""
    text = (DEPLOY / path).read_text().replace("\\\n", " ")
    return re.findall(rf"^{instruction}\s+(.*)$", text, re.MULTILINE)


def copied(path: str = "Dockerfile") -> list[str]:
    """What a Dockerfile's COPY instructions take from the build context."""
    return [source for line in dockerfile("COPY", path) if "--from" not in line for source in shlex.split(line)[:-1]]


def health_command() -> list[str]:
    """The health check's command, as Docker executes it."""
    command: list[str] = json.loads(dockerfile("HEALTHCHECK")[0].partition(" CMD ")[2])
    return command
