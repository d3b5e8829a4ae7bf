"""Every alert for real: its cause is made, somebody is told of it, and told again when it is over.

A server that is slow on purpose and one with workers; Prometheus and Alertmanager on our files, sixty times as fast;
a receiver of webhooks. `make test-long` runs it, in a minute.
"""

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from signal import SIGKILL

import psutil
import pytest

from protos.tensors import encode_request
from tests.deploy.files import RULES, alerts
from tests.deploy.monitoring import Prometheus, alerting, faster, monitoring
from tests.support import toy
from tests.support.serving import ServerProcess, eventually, serving
from tests.support.steady import SteadyLoad

pytestmark = pytest.mark.long

VARIANT = "fp32-onnxruntime"
REQUEST = encode_request(toy.MODEL, VARIANT, {"input": toy.images(1)})
TELLING_SECONDS = 60.0
PROVEN: set[str] = set()
"""The alerts that came and went."""


class Receiver:
    """Who is told: each alert's name and status, in the order in which they came."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.told += [(each["labels"]["alertname"], each["status"]) for each in message["alerts"]]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def is_told(self, status: str, *names: str) -> None:
        """Waits until it is told so of these alerts, from now on; they are proven where they are over."""
        wanted, begun = {(name, status) for name in names}, len(self.told)
        asyncio.run(eventually(lambda: wanted - {*self.told[begun:]}, set(), TELLING_SECONDS))
        if status == "resolved":
            PROVEN.update(names)


@dataclass(frozen=True)
class Stack:
    """Two servers of the same models, and who hears of them."""

    models: Path
    receiver: Receiver
    prometheus: Prometheus
    slow: ServerProcess
    """It answers 200 requests per second, and lets 64 wait."""
    working: ServerProcess
    """It has two workers."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder, models = tmp_path_factory.mktemp("watching"), toy.repository(tmp_path_factory.mktemp("models"))
    receiver, rules = Receiver(), folder / "rules.yml"
    rules.write_text(faster(RULES.read_text()))
    limits = ("--batch-max", "4", "--queue-size", "64", "--watch", "0.5")
    with (
        serving(models, *limits, program="tests.server.stress.slow") as slow,
        serving(models, "--workers", "2", "--watch", "0.5") as working,
        alerting(folder, receiver.url) as alertmanager,
        monitoring(folder, [slow.metrics_address, working.metrics_address], rules, alertmanager) as prometheus,
    ):
        yield Stack(models, receiver, prometheus, slow, working)
    receiver.server.shutdown()
    receiver.server.server_close()


def test_an_overload_is_told_as_what_it_does_to_clients_and_is_over_with_it(stack: Stack) -> None:
    names = ("ParetoSaturated", "ParetoErrorRatioHigh", "ParetoLatencyBudgetBurning")
    with SteadyLoad(stack.slow.grpc_address, REQUEST, rate=400) as overload:
        stack.receiver.is_told("firing", *names)
        burns = {(names[-1], severity) for severity in ("critical", "warning")}  # of which one mutes the other
        asyncio.run(eventually(lambda: burns - stack.prometheus.firing(), set(), TELLING_SECONDS))
    assert overload.outcomes["RESOURCE_EXHAUSTED"] > 0
    with SteadyLoad(stack.slow.grpc_address, REQUEST, rate=20) as usual:
        stack.receiver.is_told("resolved", *names)
    assert usual.outcomes == {"OK": usual.sent}


def test_a_variant_that_fails_is_told_until_it_is_mended(stack: Stack) -> None:
    toy.publish_variant(stack.models, "onnxruntime", recipe="wrong", factor=3.0)
    stack.receiver.is_told("firing", "ParetoVariantNotReady")
    toy.publish_variant(stack.models, "onnxruntime", recipe="wrong")
    stack.receiver.is_told("resolved", "ParetoVariantNotReady")


def test_workers_that_die_again_and_again_are_told(stack: Stack) -> None:
    def workers() -> list[psutil.Process]:
        return [each for each in psutil.Process(stack.working.pid).children() if "worker" in " ".join(each.cmdline())]

    for _ in range(2):
        asyncio.run(eventually(lambda: len(workers()), 2))
        for each in workers():
            each.send_signal(SIGKILL)
            each.wait(10)
    stack.receiver.is_told("firing", "ParetoWorkersRestarting")
    stack.receiver.is_told("resolved", "ParetoWorkersRestarting")


def test_a_server_that_is_gone_is_told_until_one_is_back(stack: Stack) -> None:
    port = stack.working.metrics_address.rpartition(":")[2]
    stack.working.signal()
    stack.working.wait()
    stack.receiver.is_told("firing", "ParetoServeDown")
    with serving(stack.models, "--metrics-port", port):
        stack.receiver.is_told("resolved", "ParetoServeDown")


def test_no_alert_is_left_out() -> None:
    assert {rule["alert"] for rule in alerts(RULES.read_text())} == PROVEN
