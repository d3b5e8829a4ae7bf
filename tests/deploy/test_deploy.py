"""What can be known of the `deploy` folder at rest: its names, files, ports and syntax agree."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from protos.manifest import RuntimeName
from protos.stores.store import KINDS
from protos.telemetry import SECONDS_BUCKETS
from server.observability.metrics import STATES
from server.settings import parse
from tests.deploy.files import (
    DASHBOARD,
    DEPLOY,
    ROOT,
    RULES,
    alerts,
    copied,
    dockerfile,
    every_rule,
    expressions,
    panels,
    queries,
    read,
)  # fmt: skip
from tests.deploy.promql import problems, template_problems, variable_problems


def dashboard_problems(text: str) -> list[str]:
    """What a dashboard's text asks for and the server does not export."""
    queried = [variable for variable in json.loads(text)["templating"]["list"] if variable["type"] == "query"]
    found = [problem for variable in queried for problem in variable_problems(variable["definition"])]
    for expression, legend in queries(text):
        found += problems(expression) + template_problems(legend, expression)
    return found


def rule_problems(text: str) -> list[str]:
    """What a rule file's text asks for and the server does not export."""
    found: list[str] = []
    for rule in every_rule(text):
        found += problems(rule["expr"])
        found += template_problems(rule.get("annotations", {}).get("summary", ""), rule["expr"])
    return found


def promtool(*arguments: str) -> None:
    """Runs promtool in the repository's root; it must be there and succeed."""
    program = shutil.which("promtool")
    if program is None:
        pytest.fail("promtool is missing: install Debian's package 'prometheus'")
    run = subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def mounts(service: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """(source on the host, target in the container, read-only) of a service's bind mounts."""
    found = []
    for volume in service["volumes"]:
        if isinstance(volume, dict):
            found.append((volume["source"], volume["target"], volume["read_only"]))
        elif volume.startswith("."):
            source, target, mode = volume.split(":")
            found.append((source, target, mode == "ro"))
    return found


def published(service: dict[str, Any]) -> dict[str, str]:
    """Container port -> address and port on the host."""
    return {port.rpartition(":")[2]: port.rpartition(":")[0] for port in service["ports"]}


def test_dashboard_asks_only_for_what_the_server_exports() -> None:
    assert dashboard_problems(DASHBOARD.read_text()) == []


def test_rules_ask_only_for_what_the_server_exports() -> None:
    assert rule_problems(RULES.read_text()) == []


def test_an_invented_name_in_the_dashboard_is_caught() -> None:
    text = DASHBOARD.read_text().replace("pareto_queue_depth", "pareto_queue_length")
    assert dashboard_problems(text) == ["unknown metric 'pareto_queue_length'"]


def test_an_invented_name_in_the_rules_is_caught() -> None:
    text = RULES.read_text().replace("pareto_variant_state", "pareto_variant_status")
    assert rule_problems(text)[0] == "unknown metric 'pareto_variant_status'"


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("rate(pareto_requests[5m])", ["unknown metric 'pareto_requests'"]),
        ("pareto_queue_duration_seconds", ["unknown metric 'pareto_queue_duration_seconds'"]),
        ("rate(process_cpu_seconds[5m])", ["unknown metric 'process_cpu_seconds'"]),
        ('pareto_queue_depth{code="OK"}', ["'pareto_queue_depth' has no label 'code'"]),
        ("sum by (reason) (pareto_requests_total)", ["'pareto_requests_total' has no label 'reason'"]),
        ("sum(pareto_requests_total) by (le)", ["'pareto_requests_total' has no label 'le'"]),
        ("pareto_queue_depth > 2 and on (model) up", ["'up' has no label 'model'"]),
        ('{job="paretoserve"}', ["unknown metric ''"]),
        ("1 + 1", ["no metric is named"]),
        ('sum by (le) (rate(pareto_batch_rows_bucket{model=~"a{1}\\"b_c", variant!=""}[5m:1m] offset 1h)) > 1e5', []),
    ],
)
def test_checker_finds_what_is_not_exported_and_nothing_else(expression: str, found: list[str]) -> None:
    assert problems(expression) == found


def test_a_legend_with_a_label_that_was_summed_away_is_caught() -> None:
    assert template_problems("{{model}} {{code}}", "sum by (model) (pareto_requests_total)") == [
        "template wants label 'code', the result has ['model']"
    ]


def test_a_template_variable_of_an_invented_metric_is_caught() -> None:
    assert variable_problems("label_values(pareto_variants, model)") == ["unknown metric 'pareto_variants'"]


def test_promtool_accepts_the_configuration_and_the_rules_it_names() -> None:
    promtool("check", "config", "deploy/prometheus/prometheus.yml")


def test_promtool_accepts_the_rules() -> None:
    promtool("check", "rules", "deploy/prometheus/rules.yml")


def test_each_alert_fires_on_what_it_is_for_and_only_then() -> None:
    tested = {case["alertname"] for test in rule_tests() for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert tested == {rule["alert"] for rule in alerts(RULES.read_text())}
    promtool("test", "rules", "tests/deploy/rules_test.yml")


def rule_tests() -> Any:
    """The cases of promtool's unit tests."""
    return yaml.safe_load((ROOT / "tests/deploy/rules_test.yml").read_text())["tests"]


def test_every_mounted_file_exists_and_is_mounted_read_only() -> None:
    found = [mount for service in read("compose.yaml")["services"].values() for mount in mounts(service)]
    assert ("../models", "/models", True) in found  # built by `make demo`, so it may not be there yet
    sources = {source: (DEPLOY / source).exists() for source, _, _ in found if source != "../models"}
    assert sources == dict.fromkeys(
        ["./prometheus", "./alertmanager", "./grafana/provisioning", "./grafana/dashboards"], True
    )
    assert all(read_only for _, _, read_only in found)


def test_build_context_holds_all_that_the_image_copies() -> None:
    build = read("compose.yaml")["services"]["server"]["build"]
    assert (DEPLOY / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()
    assert [source for source in copied() if not (ROOT / source).exists()] == []
    allowed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert sorted(allowed) == sorted(copied())


def test_image_starts_the_server_itself_and_not_as_root() -> None:
    assert dockerfile("ENTRYPOINT") == ['["pareto-serve"]']  # exec form: SIGTERM reaches it
    assert dockerfile("USER") == ["10001"]


def test_image_installs_all_that_the_server_can_use_unless_told_otherwise() -> None:
    (extras,) = re.findall(r'"\.\[(.+)\]"', "".join(dockerfile("RUN")))
    assert extras.split(",") == ["serve", "tracing", *KINDS, "$RUNTIMES"]
    assert f"RUNTIMES={','.join(get_args(RuntimeName))}" in dockerfile("ARG")


def test_compose_hands_on_all_that_a_build_can_be_told() -> None:
    arguments = read("compose.yaml")["services"]["server"]["build"]["args"]
    assert arguments == [argument.partition("=")[0] for argument in dockerfile("ARG")]


def test_image_settings_are_taken_by_the_server(tmp_path: Path) -> None:
    environment = dict(line.split("=") for line in dockerfile("ENV"))
    assert environment.pop("PARETO_REPOSITORY") == "/models"
    settings = parse([], {**environment, "PARETO_REPOSITORY": str(tmp_path)})
    assert settings.host == "0.0.0.0"
    assert [settings.port, settings.metrics_port] == [int(port) for port in dockerfile("EXPOSE")[0].split()]


def test_compose_waits_longer_than_the_server_drains(tmp_path: Path) -> None:
    settings = parse(["--repository", str(tmp_path)], {})
    grace = read("compose.yaml")["services"]["server"]["stop_grace_period"]
    assert float(grace.removesuffix("s")) > settings.drain_notice + settings.drain_timeout


def test_ports_agree_from_image_to_scrape_and_data_source() -> None:
    services = read("compose.yaml")["services"]
    exposed = dockerfile("EXPOSE")[0].split()
    assert list(published(services["server"])) == exposed == ["8001", "8002"]
    scrape = read("prometheus/prometheus.yml")["scrape_configs"][0]
    assert scrape["static_configs"][0]["targets"] == [f"server:{exposed[1]}"]
    source = read("grafana/provisioning/datasources/prometheus.yaml")["datasources"][0]
    assert [source["url"]] == [f"http://prometheus:{port}" for port in published(services["prometheus"])]


def test_no_port_is_published_beyond_this_machine() -> None:
    hosts = [host for service in read("compose.yaml")["services"].values() for host in published(service).values()]
    assert [host for host in hosts if not host.startswith("127.0.0.1:")] == []


def test_images_are_pinned_to_a_version() -> None:
    images = [service["image"] for service in read("compose.yaml")["services"].values() if "build" not in service]
    assert len(images) == 3
    assert [image for image in images if not re.fullmatch(r"[\w/-]+:v?\d+\.\d+\.\d+", image)] == []


def test_grafana_lets_nobody_in_without_a_password_that_was_chosen() -> None:
    environment = read("compose.yaml")["services"]["grafana"]["environment"]
    assert environment["GF_SECURITY_ADMIN_PASSWORD"].startswith("${GRAFANA_PASSWORD:?")
    assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == "false"


def test_provisioned_dashboards_are_those_that_are_mounted() -> None:
    provider = read("grafana/provisioning/dashboards/paretoserve.yaml")["providers"][0]
    targets = {target: source for source, target, _ in mounts(read("compose.yaml")["services"]["grafana"])}
    assert (DEPLOY / targets[provider["options"]["path"]]).resolve() == DASHBOARD.parent
    assert targets["/etc/grafana/provisioning"] == "./grafana/provisioning"


def test_every_query_goes_to_the_data_source_that_is_chosen() -> None:
    source = read("grafana/provisioning/datasources/prometheus.yaml")["datasources"][0]
    board = json.loads(DASHBOARD.read_text())
    chosen, *variables = board["templating"]["list"]
    assert (chosen["type"], chosen["query"], chosen["name"]) == ("datasource", source["type"], "datasource")
    asking = variables + [panel for panel in board["panels"] if panel["type"] != "row"]
    asking += [query for panel in board["panels"] for query in panel.get("targets", [])]
    assert {json.dumps(query["datasource"]) for query in asking} == {
        json.dumps({"type": source["type"], "uid": "${datasource}"})
    }


def test_what_the_dashboard_selects_by_is_what_was_chosen() -> None:
    wanted = {"job": "$job", "instance": "$instance", "model": "$model", "variant": "$variant"}
    variables = [variable["name"] for variable in json.loads(DASHBOARD.read_text())["templating"]["list"]]
    assert variables == ["datasource", *wanted]
    for expression, _ in queries(DASHBOARD.read_text()):
        selected = re.findall(r'\b(job|instance|model|variant)=~"([^"]*)"', expression)
        assert selected != []
        assert [(label, value) for label, value in selected if value != wanted[label]] == []
        assert re.search(r'\b(job|instance|model|variant)(=|!=|!~)"', expression) is None


@pytest.mark.parametrize(
    ("alert", "titles"),
    [
        ("ParetoErrorRatioHigh", ("Error ratio", "Error ratio, by variant")),
        ("ParetoWorkersRestarting", ("Worker restarts within 10 minutes",)),
    ],
)
def test_the_threshold_of_an_alert_is_drawn_where_its_figure_is(alert: str, titles: tuple[str, ...]) -> None:
    (rule,) = [rule["expr"] for rule in alerts(RULES.read_text()) if rule["alert"] == alert]
    limit = float(rule.rpartition(">")[2])
    for title in titles:
        defaults = panels()[title]["fieldConfig"]["defaults"]
        assert [step["value"] for step in defaults["thresholds"]["steps"]] == [None, limit]
        assert panels()[title]["type"] == "stat" or defaults["custom"]["thresholdsStyle"] == {"mode": "dashed"}


def test_the_objective_is_the_same_in_all_rules_and_drawn_where_p99_is() -> None:
    (limit,) = {float(found) for found in re.findall(r'le="([\d.]+)"', RULES.read_text())}
    assert limit in SECONDS_BUCKETS
    for title in ("p99 of the slowest variant", "p99"):
        assert [step["value"] for step in panels()[title]["fieldConfig"]["defaults"]["thresholds"]["steps"]] == [
            None, limit,
        ]  # fmt: skip


def test_the_burn_that_calls_somebody_is_drawn_where_slow_answers_are() -> None:
    first, *_ = [rule["expr"] for rule in alerts(RULES.read_text()) if rule["alert"] == "ParetoLatencyBudgetBurning"]
    burns = {float(rate) * float(budget) for rate, budget in re.findall(r"> ([\d.]+) \* ([\d.]+)", first)}
    steps = panels()["Slow answers"]["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [*burns] == [pytest.approx(steps[1]["value"])]


def test_the_dashboard_counts_the_errors_that_the_alert_counts() -> None:
    (rule,) = [rule["expr"] for rule in alerts(RULES.read_text()) if rule["alert"] == "ParetoErrorRatioHigh"]
    codes = re.findall(r'code=~"([^"]*)"', rule)
    for title in ("Error ratio", "Error ratio, by variant"):
        assert re.findall(r'code=~"([^"]*)"', expressions(title)[0]) == codes


def test_every_state_of_a_variant_has_its_colour() -> None:
    (state,) = [
        override
        for override in panels()["State"]["fieldConfig"]["overrides"]
        if override["matcher"]["options"] == "state"
    ]
    (mappings,) = [each["value"] for each in state["properties"] if each["id"] == "mappings"]
    assert set(mappings[0]["options"]) == set(STATES)


def test_legends_are_tables_with_the_last_value_and_the_largest() -> None:
    legends = [panel["options"]["legend"] for panel in panels().values() if panel["type"] == "timeseries"]
    assert {(legend["displayMode"], *legend["calcs"]) for legend in legends} == {("table", "lastNotNull", "max")}


def test_no_panel_lies_over_another() -> None:
    places = [panel["gridPos"] for panel in panels().values()]
    taken = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) < 24


def test_job_that_is_scraped_is_the_job_that_is_asked_for() -> None:
    texts = [rule["expr"] for rule in alerts(RULES.read_text())]
    jobs = {scrape["job_name"] for scrape in read("prometheus/prometheus.yml")["scrape_configs"]}
    assert set(re.findall(r'job="([^"]*)"', " ".join(texts))) == jobs
