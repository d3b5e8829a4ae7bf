"""A real Prometheus scrapes a real server: what the dashboard and the alerts ask for is there, and right."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import grpc
import pytest

from protos.tensors import encode_request
from tests.deploy.files import DASHBOARD, ROOT, RULES, alerts, expressions, health_command, queries
from tests.deploy.monitoring import Prometheus, monitoring
from tests.support import toy
from tests.support.serving import ServerProcess, eventually, serving

METRICS = ROOT / "docs/metrics.md"
ONNX, OPENVINO, WRONG = "fp32-onnxruntime", "fp32-openvino", "wrong-onnxruntime"
GRAFANA = {"$__rate_interval": "1m", "$job": "paretoserve", "$instance": ".+", "$model": toy.MODEL, "$variant": ".+"}


def evaluable(expression: str) -> str:
    """A dashboard's expression with Grafana's variables filled in: all variants, the last minute."""
    for name, value in GRAFANA.items():
        expression = expression.replace(name, value)
    return expression


def total(expression: str) -> str:
    """The same selection as counts since the start, rather than per second."""
    return evaluable(expression).replace("rate(", "(").replace("[1m]", "")


def send(server: ServerProcess, variant: str, good: int, bad: int) -> None:
    """Some calls that are answered, and some with a tensor of a wrong name."""
    with server.stub() as stub:
        for _ in range(good):
            stub.ModelInfer(encode_request(toy.MODEL, variant, {"input": toy.images(1)}), timeout=10)
        for _ in range(bad):
            with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):
                stub.ModelInfer(encode_request(toy.MODEL, variant, {"inputs": toy.images(1)}), timeout=10)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Two variants that serve, and one that fails its golden check, in each of two workers."""
    root = toy.repository(tmp_path_factory.mktemp("models"))
    toy.publish_variant(root, "onnxruntime", recipe="wrong", factor=3.0)
    with serving(root, "--workers", "2") as server:
        yield server


@pytest.fixture(scope="module")
def prometheus(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Has seen that nothing was called yet, then 8 calls of one variant, and 5 good and 2 bad ones of another."""
    with monitoring(tmp_path_factory.mktemp("prometheus"), [server.metrics_address]) as prometheus:
        asyncio.run(eventually(lambda: prometheus.ask("sum(pareto_requests_total)"), {(): 0.0}))
        send(server, ONNX, good=8, bad=0)
        send(server, OPENVINO, good=5, bad=2)
        asyncio.run(eventually(lambda: prometheus.ask("sum(pareto_requests_total)"), {(): 15.0}))
        slow = "count(model_variant:pareto_slow_answers:ratio_rate1h >= 0)"
        asyncio.run(eventually(lambda: prometheus.ask(slow), {(): 2.0}))
        yield prometheus


def test_requests_panel_counts_what_the_client_sent(prometheus: Prometheus) -> None:
    (requests,) = expressions("Requests per second, by variant")
    assert prometheus.ask(total(requests), "variant") == {(ONNX,): 8, (OPENVINO,): 7, (WRONG,): 0}
    rates = prometheus.ask(evaluable(requests), "model", "variant")
    assert rates["toy", ONNX] > rates["toy", OPENVINO] > rates["toy", WRONG] == 0


def test_errors_panel_counts_the_failed_calls_by_code(prometheus: Prometheus) -> None:
    (errors,) = expressions("Errors per second, by code")
    assert prometheus.ask(total(errors), "variant", "code") == {(OPENVINO, "INVALID_ARGUMENT"): 2}
    assert prometheus.ask(evaluable(errors), "variant", "code").keys() == {(OPENVINO, "INVALID_ARGUMENT")}


@pytest.mark.parametrize("expression", dict.fromkeys(expression for expression, _ in queries(DASHBOARD.read_text())))
def test_every_dashboard_expression_gives_data_and_nothing_that_is_no_number(
    prometheus: Prometheus, expression: str
) -> None:
    result = prometheus.get("query", query=evaluable(expression))["result"]
    assert result != []
    assert [row["metric"] for row in result if row["value"][1] == "NaN"] == []


@pytest.mark.parametrize("title", ["p50", "p99", "Error ratio, by variant", "Queue time", "Compute time", "Batch rows"])
def test_an_idle_variant_has_no_latency_and_no_ratio(prometheus: Prometheus, title: str) -> None:
    for expression in expressions(title):
        assert prometheus.ask(evaluable(expression), "variant").keys() == {(ONNX,), (OPENVINO,)}


def test_the_first_row_sums_up_what_the_panels_show(prometheus: Prometheus) -> None:
    ready, failed = (expressions(f"Variants {state}")[0] for state in ("that can be asked", "FAILED"))
    assert (prometheus.ask(evaluable(ready)), prometheus.ask(evaluable(failed))) == ({(): 2}, {(): 1})
    slowest, by_variant = expressions("p99 of the slowest variant")[0], expressions("p99")[0]
    at_once = f"({evaluable(slowest)}) - scalar(max({evaluable(by_variant)}))"
    assert prometheus.ask(at_once) == {(): 0}
    assert prometheus.ask(evaluable(expressions("Error ratio")[0])) == {(): 0}  # INVALID_ARGUMENT is the client's
    assert list(prometheus.ask(evaluable(expressions("Servers, by version")[0]), "version").values()) == [1]


def test_batch_rows_are_those_of_the_executions(prometheus: Prometheus) -> None:
    mean, _ = expressions("Batch rows")
    assert prometheus.ask(evaluable(mean), "variant") == {(ONNX,): 1, (OPENVINO,): 1}


def test_the_stages_are_all_the_time_of_the_answers(prometheus: Prometheus) -> None:
    receive, *others = map(evaluable, expressions("Stages of a request"))
    duration = "sum(rate(pareto_request_duration_seconds_{}[1m]))"
    answered = f"({duration.format('sum')} / {duration.format('count')})"
    assert prometheus.ask(f"(({') + ('.join(others)})) / {answered}") == {(): pytest.approx(1)}
    assert prometheus.ask(receive)[()] > 0


def test_the_reference_joins_the_default_variant_to_its_latency(prometheus: Prometheus) -> None:
    (promql,) = re.findall(r"```promql\n(.*?)```", METRICS.read_text(), re.DOTALL)
    assert prometheus.ask(promql.replace("[5m]", "[1m]"), "model", "variant").keys() == {(toy.MODEL, ONNX)}


def test_state_panel_lists_the_failed_variant_beside_those_that_serve(prometheus: Prometheus) -> None:
    state, _ = expressions("State")
    assert set(prometheus.ask(evaluable(state), "variant", "state")) == {
        (ONNX, "READY"), (OPENVINO, "READY"), (WRONG, "FAILED"),
    }  # fmt: skip


def test_p99_stands_beside_the_accuracy_of_each_variant_that_serves(prometheus: Prometheus) -> None:
    p99, accuracy = map(evaluable, expressions("p99 against accuracy"))
    assert prometheus.ask(accuracy, "variant", "metric") == {(ONNX, "top1"): 0.75, (OPENVINO, "top1"): 0.75}
    assert prometheus.ask(p99, "variant").keys() == {(ONNX,), (OPENVINO,)}
    given = list(map(evaluable, expressions("What each variant gives")))
    assert given[:2] == [accuracy, p99]
    assert prometheus.ask(given[3], "variant") == {(ONNX,): 3_000_000, (OPENVINO,): 3_000_000}
    assert prometheus.ask(given[6], "variant") == {(ONNX,): 1, (OPENVINO,): 0, (WRONG,): 0}


def test_workers_panel_shows_those_that_listen_and_no_restart(prometheus: Prometheus) -> None:
    (listening,), (restarts,) = expressions("Workers"), expressions("Worker restarts within 10 minutes")
    assert prometheus.ask(evaluable(listening)) == {(): 2}
    assert prometheus.ask(evaluable(restarts)) == {(): 0}


def test_every_alert_is_evaluated_and_the_failed_variant_raises_one(prometheus: Prometheus) -> None:
    def rules() -> list[tuple[str, str, str]]:
        every = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
        return [(rule["name"], rule["health"], rule["state"]) for rule in every if rule["type"] == "alerting"]

    states = {"ParetoVariantNotReady": "pending"}
    names = [rule["alert"] for rule in alerts(RULES.read_text())]
    asyncio.run(eventually(rules, [(name, "ok", states.get(name, "inactive")) for name in names]))


def test_template_variables_list_every_variant(prometheus: Prometheus) -> None:
    selector = {"match[]": "pareto_variant_state"}
    assert prometheus.get("label/job/values", **{"match[]": "pareto_build_info"}) == ["paretoserve"]
    assert prometheus.get("label/model/values", **selector) == [toy.MODEL]
    assert prometheus.get("label/variant/values", **selector) == [ONNX, OPENVINO, WRONG]


def test_health_check_of_the_image_tells_a_serving_server_from_none(server: ServerProcess) -> None:
    python, flag, script = health_command()
    assert (python, flag) == ("python", "-c")

    def status(address: str) -> int:
        command, port = [sys.executable, "-c", script], address.rpartition(":")[2]
        environment = {**os.environ, "PARETO_PORT": port}
        return subprocess.run(command, env=environment, capture_output=True, timeout=30, check=False).returncode

    assert (status(server.grpc_address), status(server.metrics_address)) == (0, 1)
