"""Several workers behind one port: real processes, which are killed, stopped, overtaken and orphaned."""

import asyncio
import re
import shutil
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import grpc
import psutil
import pytest

from protos.tensors import encode_request
from protos.v1 import inference_pb2 as pb
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from server.execution.threads import Plan
from server.workers.process import Progress
from server.workers.supervisor import _announce
from tests.support import toy
from tests.support.server import doors
from tests.support.server.load import Load, answered_calls
from tests.support.server.worker_pool import family, pids, to_each_worker
from tests.support.serving import ServerProcess, by_labels, connect, eventually, refusal, serving

TWO = ("--workers", "2")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`toy` in the runtime that starts fastest."""
    return toy.repository(tmp_path_factory.mktemp("workers"), ("onnxruntime",))


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[ServerProcess]:
    """A server of two workers, which the tests leave as it was."""
    with serving(repository, *TWO, "--front", "grpcio") as server:
        yield server


def infer(channel: grpc.Channel) -> pb.ModelInferResponse:
    request = encode_request("toy", "", {"input": toy.images(1)})
    return GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=30)


def started(repository: Path) -> ServerProcess:
    """One that has just begun to start."""
    flags = ("--port", "0", "--metrics-port", "0", "--drain-notice", "0")
    return ServerProcess(["--repository", str(repository), *flags, *TWO])


def test_every_worker_answers_on_the_one_port(repository: Path, front: str) -> None:
    with serving(repository, *TWO) as server:
        with to_each_worker(server, least=4) as connections:
            asked = Counter(number for number, channel in connections for _ in range(10) if infer(channel))
        assert server.stop() == 0
    assert f", front {front}\n" in server.log
    for number in (0, 1):
        assert f"ModelInfer calls answered: {asked[number]} OK worker={number}" in server.log


def test_the_plan_is_one_line_and_fits_the_cores(server: ServerProcess) -> None:
    plan = server.wait_for_log(r"plan: (\d+) cores, workers x slots x threads = 2 x (\d+) x 1, front grpcio\n")
    assert 2 * int(plan[2]) <= int(plan[1])
    assert server.log.count("plan: ") == server.log.count("serving grpc=") == 1


def test_loading_is_over_when_the_last_worker_has_loaded(caplog: pytest.LogCaptureFixture) -> None:
    """What the benchmark, among others, waits for."""
    first, last = Progress(), Progress()
    pool = SimpleNamespace(workers=[SimpleNamespace(progress=first), SimpleNamespace(progress=last)])

    async def run() -> None:
        announcing = asyncio.create_task(_announce(pool, Plan(2, 1, 1, 2), "grpcio", "grpc:1", "metrics:2"))
        for progress in (first, last):
            progress.listening.set()
        first.states, last.states = (2, 0, 1), (1, 1, 2)
        first.loaded.set()
        await eventually(lambda: "serving grpc=grpc:1 metrics=metrics:2" in caplog.text)
        assert "READY" not in caplog.text
        last.loaded.set()
        await announcing

    with caplog.at_level("INFO"):
        asyncio.run(run())
    assert caplog.messages[0] == "plan: 2 cores, workers x slots x threads = 2 x 1 x 1, front grpcio"
    assert caplog.messages[-1] == "1 variants are READY, 1 FAILED, 2 COLD"


def test_each_process_has_its_own_process_metrics(server: ServerProcess) -> None:
    page = server.metrics()
    names = {name for name, _ in page if name.startswith("process_")}
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"} <= names
    for name in names:
        assert by_labels(page, name, "worker").keys() == {("0",), ("1",), ("supervisor",)}
    assert all("worker" not in dict(labels) for name, labels in page if name not in names)


def test_the_supervisor_loads_no_library_of_its_workers(server: ServerProcess) -> None:
    mapped = {Path(entry.path).name for entry in psutil.Process(server.pid).memory_maps()}
    assert not [name for name in mapped if any(word in name for word in ("onnxruntime", "cygrpc", "numpy"))]


@pytest.mark.usefixtures("front")
def test_a_killed_worker_is_replaced_while_the_other_serves(repository: Path) -> None:
    failures: Counter[tuple[int, str]] = Counter()
    right: Counter[int] = Counter()
    over = threading.Event()

    def client(number: int, channel: grpc.Channel) -> None:
        while not over.is_set():
            try:
                infer(channel)
                right[number] += 1
            except grpc.RpcError as error:
                failures[number, error.code().name] += 1
                return

    with serving(repository, *TWO) as server, to_each_worker(server, least=6) as connections:
        before = pids(server)
        clients = [threading.Thread(target=client, args=connection) for connection in connections]
        for thread in clients:
            thread.start()
        asyncio.run(eventually(lambda: right.keys(), {0, 1}))
        psutil.Process(before[0]).send_signal(signal.SIGKILL)
        server.wait_for_log(r"worker 0 died \(SIGKILL\), the next one starts in 0\.1 s")
        while by_labels(server.metrics(), "pareto_workers") != {(): 2}:
            with connect(server.grpc_address) as newcomer:
                infer(newcomer)  # nobody is sent to a worker that is only loading
        served = right[1]
        asyncio.run(eventually(lambda: right[1] > served))
        over.set()
        for thread in clients:
            thread.join()
        assert by_labels(server.metrics(), "pareto_worker_restarts_total", "reason") == {("SIGKILL",): 1}
        assert pids(server)[0] != before[0]
        assert pids(server)[1] == before[1]
        for _, channel in connections:
            infer(channel)  # all have a worker again
        assert server.stop() == 0
    assert failures.keys() <= {(0, "UNAVAILABLE")}  # none, where no call was under way in that moment


def test_of_a_worker_that_hangs_the_page_shows_what_it_last_read(repository: Path) -> None:
    with serving(repository, *TWO) as server:
        last = by_labels(server.metrics(), "process_start_time_seconds", "worker")
        hung = psutil.Process(pids(server)[1])
        hung.suspend()
        try:
            page = server.metrics()
            assert by_labels(page, "process_start_time_seconds", "worker") == last
            assert by_labels(page, "pareto_variant_state", "state") == {("READY",): 1}
        finally:
            hung.resume()
        assert server.stop() == 0


def test_sigterm_under_load_loses_no_accepted_request(repository: Path, front: str) -> None:
    with serving(repository, *TWO, "--drain-notice", "0.5") as server:
        load, processes = Load(server), family(server)
        server.signal()
        assert server.wait() == 0
        outcomes = load.outcomes()
    # gRPC itself may cancel a call that arrives just then, before any code of ours has seen it.
    assert outcomes.keys() - {"CANCELLED"} == {"right", "UNAVAILABLE"}
    answered = answered_calls(server.log)
    assert answered.pop("OK") == outcomes["right"]
    assert answered.keys() <= ({"UNAVAILABLE"} if doors.expected("refusals at the end are counted", front) else set())
    assert not [process for process in processes if process.is_running()]
    assert "Traceback" not in server.log


def test_a_second_signal_ends_all_at_once(repository: Path) -> None:
    with serving(repository, *TWO, "--drain-notice", "60") as server:
        processes = family(server)
        server.signal(signal.SIGINT)
        server.wait_for_log("draining worker=")
        server.signal(signal.SIGTERM)
        assert server.wait() == 128 + signal.SIGTERM
        assert psutil.wait_procs(processes[1:], 30)[1] == []
        assert "forced to end by a second signal" in server.log


def test_a_signal_to_the_whole_group_drains_as_one_to_the_supervisor(repository: Path) -> None:
    with serving(repository, *TWO) as server:
        for process in family(server):
            for number in (signal.SIGINT, signal.SIGTERM) if process.pid != server.pid else (signal.SIGINT,):
                process.send_signal(number)
        assert server.wait() == 0
        assert "died" not in server.log


@pytest.mark.parametrize("moment", ["worker 1 has pid", "serving grpc="])
def test_sigterm_while_starting_ends_it_well(repository: Path, moment: str) -> None:
    server = started(repository)
    try:
        server.wait_for_log(moment)
        processes = family(server)
    finally:
        code = server.stop()
    assert code == 0
    assert not [process for process in processes if process.is_running()]
    assert "Traceback" not in server.log


def test_a_worker_is_replaced_though_a_name_in_the_flags_has_vanished_meanwhile(tmp_path: Path) -> None:
    root = toy.repository(tmp_path)
    with serving(root, *TWO, "--only", "toy/fp32-onnxruntime,toy/fp32-openvino") as server:
        shutil.rmtree(root / "toy" / "fp32-openvino")
        psutil.Process(pids(server)[1]).kill()
        server.wait_for_log("--only: got 'toy/fp32-openvino', which the repository does not hold")
        asyncio.run(eventually(lambda: by_labels(server.metrics(), "pareto_workers"), {(): 2}))
        with connect(server.grpc_address) as channel:
            infer(channel)


def test_sigterm_while_a_dead_worker_is_replaced_ends_it_well(repository: Path) -> None:
    with serving(repository, *TWO) as server:
        psutil.Process(pids(server)[1]).kill()
        server.wait_for_log(r"(?s)worker 1 died.*worker 1 has pid")
        processes = family(server)
        server.signal()
        assert server.wait() == 0
    assert not [process for process in processes if process.is_running()]
    assert "Traceback" not in server.log


def test_workers_do_not_outlive_a_killed_supervisor(repository: Path) -> None:
    with serving(repository, *TWO) as server:
        processes = family(server)
        assert len(processes) >= 3
        server.signal(signal.SIGKILL)
        assert psutil.wait_procs(processes[1:], 30)[1] == []


def test_workers_that_are_only_starting_do_not_outlive_it_either(repository: Path) -> None:
    server = started(repository)
    server.wait_for_log("worker 1 has pid")
    processes = family(server)
    server.signal(signal.SIGKILL)
    assert psutil.wait_procs(processes[1:], 30)[1] == []
    server.stop()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_second_server_gets_a_share_of_the_port(server: ServerProcess, repository: Path, workers: str) -> None:
    port = server.grpc_address.rpartition(":")[2]
    line = refusal("--repository", str(repository), "--port", port, "--workers", workers)
    assert line == f"pareto-serve: --port: {server.grpc_address} is in use, or cannot be listened on"


@pytest.mark.parametrize("flag", ["--port", "--metrics-port"])
def test_a_port_in_use_is_one_clear_line(repository: Path, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refusal("--repository", str(repository), *TWO, flag, str(port))
    assert line.startswith(f"pareto-serve: {flag}: 127.0.0.1:{port} ")


def test_what_only_a_worker_can_refuse_is_one_clear_line(repository: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.pem"
    damaged.write_text("no certificate")
    flags = ("--tls-cert", str(damaged), "--tls-key", str(damaged))
    lines = [line for line in refusals(repository, *flags) if " INFO " not in line]
    assert len(lines) == 1
    assert lines[0].startswith("pareto-serve: --tls-cert")


def refusals(repository: Path, *flags: str) -> list[str]:
    server = ServerProcess(["--port", "0", "--metrics-port", "0", "--repository", str(repository), *TWO, *flags])
    assert server.wait() == 2, server.log
    server.stop()
    return server.log.splitlines()


def test_more_workers_than_cores_are_one_clear_line(repository: Path) -> None:
    line = refusal("--repository", str(repository), "--workers", "1024")
    expected = r"pareto-serve: --workers: got 1024, expected at most (\d+) \(\1 available cores / 1 threads\)"
    assert re.fullmatch(expected, line)
