"""A real Prometheus, run on our configuration, and the two questions that tests ask it."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

from tests.deploy.files import RULES, read
from tests.support.serving import eventually, quiet_port


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


@contextmanager
def monitoring(folder: Path, target: str) -> Iterator[Prometheus]:
    """Prometheus on deploy/prometheus, but for the target (HOST:PORT) and its pace; yields when it answers."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.fail("prometheus is missing: install Debian's package 'prometheus'")
    config = read("prometheus/prometheus.yml")
    config["global"] = dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), "1s")
    config["rule_files"] = [str(RULES)]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = quiet_port()  # Prometheus cannot say which one it got for port 0
    arguments = [
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with (folder / "log").open("w") as log, subprocess.Popen([program, *arguments], stdout=log, stderr=log) as process:
        try:
            asyncio.run(eventually(lambda: _is_ready(port) or process.poll() is not None))
            assert process.poll() is None, (folder / "log").read_text()
            yield Prometheus(port)
        finally:
            process.kill()  # nothing of it is kept


def _is_ready(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=1):
            return True
    except (URLError, OSError):
        return False
