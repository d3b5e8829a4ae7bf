"""The reference of the metrics page: what is exported is what is described."""

import re
from pathlib import Path

from protos import telemetry
from server.observability.metrics_reference import page

COMMITTED = Path(__file__).parents[3] / "docs" / "metrics.md"


def test_the_committed_reference_is_what_telemetry_makes_today() -> None:
    assert COMMITTED.read_text() == page()


def test_every_metric_stands_in_one_row_with_its_labels() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (?:counter|gauge|histogram) \| \w+ \| (.*?) \|", page(), re.MULTILINE))
    for metric in (*telemetry.METRICS, *telemetry.SUPERVISOR_METRICS):
        name = metric.series[0] if metric.kind == "counter" else metric.name
        assert rows[name] == ", ".join(f"`{label}`" for label in metric.labels)
