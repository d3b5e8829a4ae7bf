"""Locust by hand, without its page: the file is an ordinary locustfile, with Locust's own flags and statistics."""

import csv
import json
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path

import grpc
import numpy as np
import pytest

from loadtest.users.recorder import FIRST, load_samples
from protos.tensors import encode_request
from protos.v1 import inference_pb2 as pb
from tests.support import toy
from tests.support.loadtest.foreign import MODEL, foreign, zeros
from tests.support.loadtest.runs import requests_of, two_workers, until
from tests.support.processes import started
from tests.support.serving import ServerProcess, quiet_port

LOCUST = [sys.executable, "-m", "locust"]
VARIANTS = {"fp32-onnxruntime", "fp32-openvino"}


def locust(*arguments: str, enough: Callable[[], bool] = lambda: False) -> subprocess.CompletedProcess[str]:
    """Locust, asked to end as soon as there is enough of it, if it does not end by itself."""
    with started([*LOCUST, *arguments]) as process:
        until(lambda: process.poll() is not None or enough())
        process.terminate()
        stdout, stderr = process.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


def by_hand(
    server: ServerProcess, repository: Path, *more: str, variants: Collection[str] = VARIANTS
) -> subprocess.CompletedProcess[str]:
    """Two users, until the server has answered some requests for each of the `variants`."""
    return locust(
        *("-f", "loadtest/locustfile.py", "--headless", "-u", "2", "-r", "2", "--json", "-L", "WARNING"),
        *("--host", server.grpc_address, "--repository", str(repository), *more),
        enough=answers(server, variants),
    )


def answers(server: ServerProcess, variants: Collection[str]) -> Callable[[], bool]:
    """Whether a server has answered ten more requests for each of the `variants`."""
    before = requests_of(server)
    return lambda: all(requests_of(server).get(name, 0) >= before.get(name, 0) + 10 for name in variants)


def test_each_variant_is_a_name_in_locust_s_statistics(server: ServerProcess, repository: Path) -> None:
    done = by_hand(server, repository, "--model", "toy")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert {row["name"] for row in rows} == VARIANTS
    assert all(row["num_requests"] > 0 and row["num_failures"] == 0 for row in rows)
    assert all(row["total_content_length"] == row["num_requests"] * size_of_answer(server, row["name"]) for row in rows)


def size_of_answer(server: ServerProcess, variant: str) -> int:
    """How many bytes the message is that answers one image."""
    with server.stub() as stub:
        request = encode_request(toy.MODEL, variant, {"input": toy.images(1)})
        return stub.ModelInfer(request, timeout=10).ByteSize()


def test_raw_samples_can_be_kept_by_hand(server: ServerProcess, repository: Path, tmp_path: Path) -> None:
    path = tmp_path / "samples.npz"
    more = ("--model", "toy", "--variants", "fp32-openvino", "--samples", str(path))
    done = by_hand(server, repository, *more, variants={"fp32-openvino"})
    samples = load_samples(path)
    (row,) = json.loads(done.stdout)
    assert (samples.variants, len(samples.rows)) == (("fp32-openvino",), row["num_requests"])


def test_a_master_and_workers_of_their_own_merge_their_samples(tmp_path: Path) -> None:
    path, port = tmp_path / "samples.npz", str(quiet_port())
    turn, answered, enough, reported = threading.Lock(), Counter[str](), threading.Event(), threading.Event()

    def answer(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        with turn:
            waits = enough.is_set()
            answered[context.peer()] += not waits
            if sum(count > 1 for count in answered.values()) == 2:  # both users go on after their first call
                enough.set()
        if waits:  # the master shall know of all answers so far: Locust gives a last report half a second to come
            reported.wait()
        return zeros(request, context)

    with foreign(("1",), answer) as server, ExitStack() as stack:
        stack.callback(reported.set)
        ours = ("--model", MODEL, "--samples", str(path), "--rate", "50", "--deadline", "300")
        run = ("--headless", "-u", "2", "-r", "2", "--json", "-L", "WARNING", "--host", server.address)
        bind = ("--master", "--master-bind-port", port, "--expect-workers", "2", "--csv", str(tmp_path / "locust"))
        locustfile = [*LOCUST, "-f", "loadtest/locustfile.py", *ours]
        master = stack.enter_context(started([*locustfile, *run, *bind]))
        worker = [*locustfile, "--worker", "--master-port", port]
        workers = [stack.enter_context(started(worker)) for _ in range(2)]
        assert enough.wait(120)
        until(lambda: reported_calls(tmp_path / "locust_stats.csv") >= answered.total())
        reported.set()
        master.terminate()
        stdout, stderr = master.communicate(timeout=60)
        for process in workers:
            process.communicate(timeout=60)
    assert [process.returncode for process in (master, *workers)] == [0, 0, 0], stderr
    samples = load_samples(path)
    assert len(samples.rows) == sum(row["num_requests"] for row in json.loads(stdout))
    assert (samples.rows["phase"] == FIRST).sum() == 2
    assert (np.diff(samples.rows["due"]) >= 0).all()


def reported_calls(path: Path) -> int:
    """Calls in Locust's table of statistics, which it writes anew each second."""
    rows = csv.DictReader(path.read_text().splitlines()) if path.is_file() else ()
    return sum(int(row["Request Count"]) for row in rows if row["Name"] == "1")


def test_a_ramp_raises_the_rate_of_arrivals(server: ServerProcess, repository: Path, tmp_path: Path) -> None:
    path = tmp_path / "samples.npz"
    done = locust(
        *("-f", "loadtest/rampfile.py", "--headless", "-u", "8", "-t", "4s", "--json", "-L", "WARNING"),
        *("--host", server.grpc_address, "--repository", str(repository)),
        *("--model", "toy", "--rate", "20", "--samples", str(path)),
    )
    assert done.returncode == 0, done.stderr
    rows = load_samples(path).rows
    due = np.sort(rows["due"][rows["phase"] != FIRST])
    middle = (due[0] + due[-1]) / 2
    assert (due > middle).sum() > 1.5 * (due <= middle).sum()  # three times as many are expected
    assert (rows["phase"] == FIRST).sum() in (7, 8)  # users of the last of four steps


def test_an_unknown_variant_ends_locust_with_the_reason(server: ServerProcess, repository: Path) -> None:
    done = by_hand(server, repository, "--model", "toy", "--variants", "int4-openvino")
    assert done.returncode == 2
    assert "model 'toy': got variant 'int4-openvino', expected one of" in done.stderr


def test_a_forgotten_model_ends_locust_with_the_reason(server: ServerProcess, repository: Path) -> None:
    done = by_hand(server, repository)
    assert done.returncode == 2
    assert "--model: got '', expected the name of a model" in done.stderr


def test_a_host_that_is_no_address_ends_locust_with_the_reason() -> None:
    for more in ((), two_workers()):
        host = ("--headless", "-u", "1", "-L", "WARNING", "--model", "toy", "--host", "http://127.0.0.1:1")
        done = locust("-f", "loadtest/locustfile.py", *host, *more)
        assert done.returncode == 2
        assert done.stderr.count("--host: got 'http://127.0.0.1:1', expected HOST:PORT") == 1
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("processes", [(), two_workers()], ids=["alone", "two workers"])
def test_samples_that_could_not_be_written_end_locust_before_any_load(
    processes: tuple[str, ...], server: ServerProcess, repository: Path, tmp_path: Path
) -> None:
    before, path = requests_of(server), tmp_path / "none" / "raw.npz"
    done = by_hand(server, repository, "--model", "toy", "--samples", str(path), *processes)
    assert done.returncode == 2
    assert done.stderr.count(f"--samples: '{path}' cannot be written: No such file or directory") == 1
    assert "Traceback" not in done.stderr
    assert requests_of(server) == before


def test_samples_for_which_the_disk_has_no_room_in_the_end_are_kept_elsewhere(
    server: ServerProcess, repository: Path, tmp_path: Path
) -> None:
    path, enough = tmp_path / "raw.npz", answers(server, VARIANTS)

    def taken() -> bool:
        if answered := enough():
            path.mkdir()  # what the file cannot take the place of
        return answered

    done = locust(
        *("-f", "loadtest/locustfile.py", "--headless", "-u", "2", "-r", "2", "--json", "-L", "WARNING"),
        *("--host", server.grpc_address, "--repository", str(repository), "--model", "toy", "--samples", str(path)),
        enough=taken,
    )
    found = re.search(f"--samples: '{path}' cannot be written: .*; '(.*)' has the samples", done.stderr)
    assert found, done.stderr
    kept = Path(found[1])
    assert len(load_samples(kept).rows) == sum(row["num_requests"] for row in json.loads(done.stdout))
    assert done.returncode == 2
    assert list(path.iterdir()) == []
    shutil.rmtree(kept.parent)


def test_a_person_s_own_user_sends_its_own_payloads(server: ServerProcess, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "import numpy as np\n"
        "from loadtest.locustfile import InferenceUser\n"
        "from loadtest.client.payloads import Payload\n"
        "from protos.tensors import encode_request\n"
        "request = encode_request('toy', 'fp32-openvino', {'input': np.ones((3, 3, 4, 4), np.float32)})\n"
        "class Mine(InferenceUser):\n"
        "    payloads = [Payload('fp32-openvino', request.SerializeToString(), 3, {'logits': (-1, 3)})]\n"
    )
    done = locust(
        *("-f", str(mine), "--headless", "-u", "1", "--json", "-L", "WARNING", "--host", server.grpc_address),
        enough=answers(server, {"fp32-openvino"}),
    )
    (row,) = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert (row["name"], row["num_failures"]) == ("fp32-openvino", 0)
    assert row["num_requests"] > 0
