"""A real Prometheus and a real Alertmanager, run on our configuration, and the questions that tests ask them."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from tests.deploy.files import DEPLOY, RULES, read
from tests.support.processes import answering_at, program
from tests.support.serving import quiet_port

SECONDS = {"s": 1, "m": 60, "h": 3600}


class Prometheus:
    """The HTTP API of a running Prometheus. Source: https://prometheus.io/docs/prometheus/latest/querying/api/"""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer; an HTTP error (a query that cannot be evaluated is 400 or 422) is raised."""
        with urlopen(f"{self.url}/api/v1/{path}?{urlencode(parameters)}", timeout=10) as response:
            return json.load(response)["data"]

    def ask(self, expression: str, *labels: str) -> dict[tuple[str, ...], float]:
        """The expression's value now, for each combination of `labels` in its result."""
        result = self.get("query", query=expression)["result"]
        return {tuple(row["metric"][label] for label in labels): float(row["value"][1]) for row in result}

    def firing(self) -> set[tuple[str, str]]:
        """The name and the severity of each alert that fires now."""
        labels = [each["labels"] for each in self.get("alerts")["alerts"] if each["state"] == "firing"]
        return {(each["alertname"], each["severity"]) for each in labels}


@contextmanager
def monitoring(
    folder: Path, targets: Sequence[str], rules: Path = RULES, alertmanager: str = "127.0.0.1:9"
) -> Iterator[Prometheus]:
    """Prometheus on deploy/prometheus, but for the targets (HOST:PORT) and its pace; yields when it answers.

    `alertmanager` is who is told of alerts; nobody listens where it is not given.
    """
    config = read("prometheus/prometheus.yml")
    config["global"] = dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), "1s")
    config["rule_files"] = [str(rules)]
    config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [alertmanager]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [*targets]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = quiet_port()  # Prometheus cannot say which one it got for port 0
    arguments = [
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    command = [program("prometheus", "Debian's package 'prometheus'"), *arguments]
    with answering_at(f"http://127.0.0.1:{port}/-/ready", command, folder):
        yield Prometheus(port)


@contextmanager
def alerting(folder: Path, receiver: str) -> Iterator[str]:
    """Alertmanager on deploy/alertmanager, sixty times as fast, but for the URL of its receiver; yields HOST:PORT."""
    config = yaml.safe_load(faster((DEPLOY / "alertmanager/alertmanager.yml").read_text()))
    config["receivers"][0]["webhook_configs"][0]["url"] = receiver
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
    port = quiet_port()
    arguments = [
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alerts'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    command = [program("prometheus-alertmanager", "Debian's package of that name"), *arguments]
    with answering_at(f"http://127.0.0.1:{port}/-/ready", command, folder):
        yield f"127.0.0.1:{port}"


def faster(text: str) -> str:
    """The text of a configuration with each minute as a second, and each hour as a minute; names stay."""
    return re.sub(r"\b(\d+)([smh])\b", lambda found: f"{int(found[1]) * SECONDS[found[2]] * 1000 // 60}ms", text)
