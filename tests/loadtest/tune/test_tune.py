"""`pareto-loadtest tune` from end to end: real servers of two configurations, and an interruption."""

import json
import re
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import toy
from tests.support.loadtest.runs import LOADTEST, results_of, wait_for_load
from tests.support.processes import finished, started

VARIANT = "fp32-onnxruntime"


def command(repository: Path, folder: Path, *more: str) -> list[str]:
    """Two configurations, half a second on each; what servers need is below `folder`.

    Ten users make three calls in each of ten slices at the least: 300, enough for a p99 on a slow machine, too.
    """
    (folder / "temporary").mkdir()
    return [
        *("env", f"TMPDIR={folder / 'temporary'}", *LOADTEST, "tune", "--repository", str(repository)),
        *("--model", toy.MODEL, "--variant", VARIANT, "--threads", "1", "--workers", "1", "--batch-max", "1"),
        *("--users", "10", "--duration", "0.5", "--out", str(folder / "tune"), *more),
    ]


def nobody_listens(addresses: list[str]) -> bool:
    for address in addresses:
        host, _, port = address.rpartition(":")
        with socket.socket() as asking:
            if asking.connect_ex((host, int(port))) == 0:
                return False
    return True


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tuned")


@pytest.fixture(scope="module")
def tuned(repository: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    return finished(command(repository, folder, "--p99", "10s", "--json"))


@pytest.fixture(scope="module")
def told(tuned: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    """What it wrote to standard output: one document and nothing else."""
    document: dict[str, Any] = json.loads(tuned.stdout)
    return document


def test_a_tuning_ends_well(tuned: "subprocess.CompletedProcess[str]") -> None:
    assert tuned.returncode == 0, tuned.stderr


def test_the_plan_is_said_before_any_work(tuned: "subprocess.CompletedProcess[str]") -> None:
    said = " ".join(tuned.stderr.split())  # lines are broken where they are long
    assert re.match(
        r"fp32-onnxruntime of toy, 10 users: 2 configurations that fit \d+ cores?"
        r" \(threads 1; workers 1; batch-max 0, 1\), 0.5 s each at most, about 1 min ",
        said,
    )
    assert "standing by: 2 servers, which take " in said


def test_the_default_is_kept_or_beaten_by_what_was_shown(told: dict[str, Any]) -> None:
    by_batch = {each["batch_max"]: each for each in told["configurations"]}
    assert {*by_batch} == {0, 1}
    against = by_batch[1]["against_default"]  # a machine that is very busy may show nothing
    beaten = against is not None and against["verdict"] == "clear" and against["times_the_default"] > 1
    assert told["best"] == {"threads": 1, "workers": 1, "batch_max": 1 if beaten else 0}
    assert told["verdict"].startswith("use: pareto-serve --repository" if beaten else "the default ")


def test_each_configuration_has_its_own_figures(told: dict[str, Any]) -> None:
    for each in told["configurations"]:
        assert each["throughput_rps"] > 0
        assert each["server_cpu_us_per_request"] > 0
        assert each["memory_bytes"] > 10e6
        assert (each["may_not_be_used"], each["rounds"]) == ([], 10)
    assert told["left_out"] == []


def test_the_run_s_folder_is_that_of_a_load_test(told: dict[str, Any], folder: Path) -> None:
    assert Path(told["report"]) == folder / "tune" / "report.html"
    assert Path(told["report"]).is_file()
    results = results_of(folder / "tune")
    assert [cell["variant"] for cell in results["cells"]] == [VARIANT, f"{VARIANT} @ batch-max 1"]
    served = [cell["facts"]["serving"] for cell in results["cells"]]
    assert re.fullmatch("1 thread, batches of at most (16|32|64) rows", served[0])
    assert served[1] == "1 thread, no batching"
    assert {cell["facts"]["memory_bytes"] for cell in results["cells"]} == {
        each["memory_bytes"] for each in told["configurations"]
    }


def test_no_server_and_no_file_is_left(told: dict[str, Any], folder: Path) -> None:
    targets = results_of(folder / "tune")["plan"]["target"].split(",")
    assert nobody_listens([target.rpartition("=")[2] for target in targets])
    assert list((folder / "temporary").glob("pareto-tune-*")) == []
    assert {path.name for path in folder.iterdir()} == {"temporary", "tune", "history.jsonl"}


def test_an_interrupted_tuning_leaves_nothing(repository: Path, tmp_path: Path) -> None:
    with started(command(repository, tmp_path, "--duration", "60")) as process:
        wait_for_load(process)
        logs = [path.read_text() for path in (tmp_path / "temporary").rglob("*.log")]
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (130, "")
    assert stderr.endswith("pareto-loadtest: SIGINT, nothing was written\n")
    addresses = re.findall(r"serving grpc=(\S+) metrics=(\S+)", "".join(logs))
    assert len(addresses) == 2
    assert nobody_listens([address for pair in addresses for address in pair])
    assert list((tmp_path / "temporary").glob("pareto-tune-*")) == []
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]
