"""The ways to ask, against a real server: what arrives, when, in which form, and whose time it is counted as."""

import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtest.plan import Load
from loadtest.users.recorder import STEADY, load_samples
from tests.support.loadtest.arrivals import exponential_p
from tests.support.loadtest.runs import LOADTEST, flags, loadtest, requests_of, results_of, until
from tests.support.processes import started
from tests.support.serving import ServerProcess, serving

ONE = ("--variants", "fp32-onnxruntime")


def measured(server: ServerProcess, repository: Path, out: Path, *more: str) -> dict[str, Any]:
    """The only cell of a short run with these flags in place of users."""
    given = flags(server, repository, out, *ONE, *more)
    at = given.index("--users")
    done = loadtest(*given[:at], *given[at + 2 :])
    assert done.returncode == 0, done.stderr
    (cell,) = results_of(out)["cells"]
    return dict(cell)


def test_requests_arrive_at_the_asked_rate_as_a_poisson_process_and_percentiles_are_of_the_unbroken_block(
    server: ServerProcess, repository: Path, tmp_path: Path
) -> None:
    cell = measured(server, repository, tmp_path / "run", "--rates", "200", "--duration", "1", "--sustained", "2")
    samples = load_samples(tmp_path / "run" / "samples.npz")
    rows = samples.of(cell["variant"], Load("server", 200), STEADY)
    block, slices = rows[rows["round"] == 0], rows[rows["round"] > 0]
    assert (len(slices), set(slices["round"]), cell["rounds"]) == (200, {*range(1, 11)}, 10)
    assert cell["asked_rps"] == pytest.approx(200, rel=0.02)
    assert cell["throughput_rps"] == pytest.approx(200, rel=0.1)  # answers to some of the last come after the end
    assert exponential_p(np.diff(np.sort(block["due"])), 200) > 0.05
    assert (cell["samples"], cell["connections"]) == (len(block), 8)
    assert cell["latency_ms"]["p50"] == pytest.approx(np.quantile(block["latency"], 0.5) * 1e3, rel=1e-12)
    assert samples.slices_of(cell["variant"], Load("server", 200))["round"].tolist() == [*range(1, 11), 0]


def test_without_an_unbroken_block_slices_carry_exactly_the_asked_rate(
    server: ServerProcess, repository: Path, tmp_path: Path
) -> None:
    cell = measured(server, repository, tmp_path / "run", "--rates", "200", "--duration", "1", "--sustained", "0")
    samples = load_samples(tmp_path / "run" / "samples.npz")
    slices = samples.slices_of(cell["variant"], Load("server", 200))
    assert slices["seconds"].tolist() == [0.1] * 10
    assert len(set(slices["answered"].tolist())) > 1  # of one Poisson process, not twenty calls in each
    assert (cell["samples"], cell["asked_rps"]) == (200, pytest.approx(200.0, rel=1e-9))


def test_a_server_that_stands_still_shows_in_the_percentiles_of_an_open_loop(repository: Path, tmp_path: Path) -> None:
    given = ("--rates", "150", "--duration", "0.1", "--sustained", "2.5", "--warmup", "0", *ONE)
    with serving(repository) as server:
        run = flags(server, repository, tmp_path / "run", *given)
        at = run.index("--users")
        with started([*LOADTEST, *run[:at], *run[at + 2 :]]) as process:
            until(lambda: sum(requests_of(server).values()) > 45)  # 31 are not of the unbroken block
            server.signal(signal.SIGSTOP)
            time.sleep(1.2)
            server.signal(signal.SIGCONT)
            process.communicate(timeout=60)
    (cell,) = results_of(tmp_path / "run")["cells"]
    assert cell["failures"] == 0
    assert cell["latency_ms"]["p99"] > 1000
    assert 300 < cell["samples"] <= 375  # nobody was asked less for it


@pytest.mark.parametrize(("form", "transport"), [("tensor", "stream"), ("pixels", "unary"), ("jpeg", "stream")])
def test_offline_requests_have_many_rows_in_every_form_and_on_each_transport(
    form: str, transport: str, server: ServerProcess, repository: Path, tmp_path: Path
) -> None:
    more = ("--offline", "16", "--duration", "0.2", "--warmup", "0", "--form", form, "--transport", transport)
    cell = measured(server, repository, tmp_path / "run", *more)
    assert (cell["rows"], cell["connections"], cell["failures"]) == (16, 8, 0)
    assert cell["asked_rps"] is None
    assert cell["requests"] > 8


def test_arrivals_are_carried_by_a_stream_too(server: ServerProcess, repository: Path, tmp_path: Path) -> None:
    asked = ("--rates", "100", "--duration", "0.5", "--sustained", "0", "--warmup", "0")
    cell = measured(server, repository, tmp_path / "run", *asked, "--transport", "stream", "--connections", "2")
    assert (cell["failures"], cell["samples"]) == (0, 50)
    assert cell["requests"] == 60  # and a call of each connection before each of five slices


def test_another_server_joins_as_a_column_of_its_own(server: ServerProcess, repository: Path, tmp_path: Path) -> None:
    with serving(repository) as other:
        given = flags(server, repository, tmp_path / "run", *ONE, "--users", "2", "--duration", "0.2", "--ceiling", "0")
        given[given.index("--target") + 1] += f",other={other.grpc_address}"
        done = loadtest(*given)
        counted = other.metrics()
    assert done.returncode == 0, done.stderr
    cells = results_of(tmp_path / "run")["cells"]
    names = ["fp32-onnxruntime", "fp32-onnxruntime @ other", "fp32-openvino @ other"]
    assert [cell["variant"] for cell in cells] == names
    assert sum(value for (name, _), value in counted.items() if name == "pareto_requests_total") == sum(
        cell["requests"] for cell in cells[1:]
    )
