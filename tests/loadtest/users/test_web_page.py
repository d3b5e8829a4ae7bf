"""Locust's own web page: its form has our flags, its class picker and its ratios our variants."""

import json
import re
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By

from tests.support import toy
from tests.support.browser import chromium
from tests.support.loadtest.foreign import MODEL, foreign
from tests.support.loadtest.runs import two_workers, until
from tests.support.serving import ROOT, ServerProcess, quiet_port

VARIANTS = {"fp32-onnxruntime", "fp32-openvino"}
CLASSES = ["Fp32Onnxruntime", "Fp32Openvino"]


@contextmanager
def page(*arguments: str) -> Iterator[str]:
    """Locust with its page; yields the address when it answers."""
    port = quiet_port()
    web = ("-f", "loadtest/locustfile.py", "--web-host", "127.0.0.1", "--web-port", str(port), "-L", "WARNING")
    with subprocess.Popen([sys.executable, "-m", "locust", *web, *arguments], cwd=ROOT) as process:
        try:
            until(lambda: listens(port))
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=30)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def get(url: str, body: bytes | None = None) -> bytes:
    with urllib.request.urlopen(url, body, timeout=10) as response:
        content: bytes = response.read()
        return content


def read(url: str) -> Any:
    return json.loads(get(url))


def shown(url: str) -> dict[str, Any]:
    """What the page is told to show."""
    (told,) = re.findall(r"window.templateArgs = (.*)", get(url + "/").decode())
    arguments: dict[str, Any] = json.loads(told)
    return arguments


def start(url: str, host: str, *classes: str, users: int = 2, **fields: str) -> None:
    """Sends the form, filled in for two users; what is not given is left empty, or as it was."""
    form = [("user_count", users), ("spawn_rate", 2), ("host", host), ("variants", ""), ("rate", "0.0")]
    form += [*fields.items(), *(("user_classes", name) for name in classes)]
    assert json.loads(get(url + "/swarm", urllib.parse.urlencode(form).encode()))["success"]


def stop(url: str) -> None:
    """Ends a test."""
    assert json.loads(get(url + "/stop", b""))["success"]
    until(lambda: read(url + "/stats/requests")["state"] == "stopped")


def shares(url: str) -> dict[str, float]:
    """Which share of the users each class has, as on the page's tab of ratios."""
    return {name: share["ratio"] for name, share in read(url + "/tasks")["per_class"].items()}


def counted(url: str) -> set[str]:
    """The names under which Locust has counted calls."""
    return {row["name"] for row in read(url + "/stats/requests")["stats"]} - {"Aggregated"}


@pytest.fixture(scope="module")
def known(server: ServerProcess, repository: Path) -> Iterator[str]:
    """A page whose Locust was told host and model when it was started."""
    ours = ("--model", toy.MODEL, "--repository", str(repository), "--class-picker")
    with page("--host", server.grpc_address, *ours) as url:
        yield url


def test_the_form_has_our_flags_but_for_files_of_this_machine(known: str) -> None:
    fields = shown(known)["extra_options"]
    assert fields.keys() == {"model", "variants", "rate", "deadline", "repository"}
    assert fields["model"]["default_value"] == toy.MODEL


def test_the_class_picker_shows_the_variants_before_any_test(known: str) -> None:
    arguments = shown(known)
    assert arguments["available_user_classes"] == CLASSES
    assert arguments["available_user_tasks"] == {name: ["infer"] for name in CLASSES}
    assert list(arguments["users"]) == CLASSES


def test_a_variant_that_is_left_out_on_the_page_gets_no_users(known: str, tmp_path: Path) -> None:
    with chromium(tmp_path) as browser:
        browser.get(known)
        browser.implicitly_wait(30)
        browser.find_element(By.XPATH, "//tr[contains(., 'Fp32Onnxruntime')]//input[@type='checkbox']").click()
        browser.find_element(By.XPATH, "//button[@type='submit']").click()
        until(lambda: counted(known) == {"fp32-openvino"})
    assert shares(known) == {"Fp32Openvino": 1.0}
    stop(known)


def test_all_variants_that_are_picked_share_the_users(known: str, server: ServerProcess) -> None:
    start(known, server.grpc_address, *CLASSES, model=toy.MODEL)
    until(lambda: counted(known) == VARIANTS)
    assert shares(known) == dict.fromkeys(CLASSES, 0.5)
    stop(known)


def test_fewer_users_than_variants_are_told_so(known: str, server: ServerProcess) -> None:
    start(known, server.grpc_address, *CLASSES, users=1, model=toy.MODEL)
    until(lambda: "-u: got 1, expected 2 or more: some variants get no user" in str(read(known + "/logs")["master"]))
    stop(known)


def test_another_server_in_the_form_is_asked_for_its_variants(known: str) -> None:
    with foreign(("1", "a-b", "a_b")) as other:
        start(known, other.address, *CLASSES, users=3, model=MODEL, rate="5")
        until(lambda: counted(known) == {"1", "a-b", "a_b"})
        assert shown(known)["available_user_classes"] == ["AB", "AB2", "V1"]
        stop(known)


def test_what_the_form_alone_says_reaches_master_and_workers(server: ServerProcess, repository: Path) -> None:
    with page("--repository", str(repository), *two_workers()) as url:
        until(lambda: read(url + "/worker-count")["worker_count"] == 2)
        assert shown(url)["available_user_classes"] == ["VariantUser"]
        start(url, server.grpc_address, model="none")
        until(lambda: "model 'none': " in str(read(url + "/logs")["master"]))
        start(url, server.grpc_address, model=toy.MODEL)
        until(lambda: counted(url) == VARIANTS)
        assert shown(url)["available_user_classes"] == CLASSES
        assert list(read(url + "/tasks")["per_class"]) == CLASSES
