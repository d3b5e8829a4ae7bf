"""`pareto-loadtest run` from end to end: a real server, a real process, what it leaves behind and how it fails."""

import itertools
import json
import resource
import shutil
import signal
import sys
import threading
import tomllib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from loadtest.analysis.history import entry_of, read_history
from loadtest.analysis.results import load_results
from loadtest.measure.measurement import steady_latencies
from loadtest.plan import Load
from loadtest.users.recorder import FIRST, STEADY, WARMUP, load_samples
from protos.v1 import inference_pb2 as pb
from tests.support import toy
from tests.support.loadtest.foreign import MODEL, foreign, zeros
from tests.support.loadtest.pages import pages
from tests.support.loadtest.runs import (
    LOADTEST,
    Run,
    flags,
    loadtest,
    requests_of,
    results_of,
    until,
    wait_for_load,
    wait_for_part,
)
from tests.support.processes import finished, python, started
from tests.support.serving import ServerProcess, quiet_port, serving

VARIANTS = ("fp32-onnxruntime", "fp32-openvino")


SHORT_STRETCHES = """
import sys
from loadtest import runner  # makes this a Locust process, so before all else
from loadtest.__main__ import main
from loadtest.measure import interleaved
interleaved.STRETCH_SECONDS = 0.5
sys.exit(main(sys.argv[1:]))
"""
"""`pareto-loadtest` with stretches of a tenth of their length, after each of which it looks at what it has."""

LIMITED = (
    "import resource, sys; from loadtest.__main__ import main;"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)); sys.exit(main(sys.argv[1:]))"
)
"""`pareto-loadtest` on what is to it as a disk with a MiB left."""


def load_of(cell: dict[str, Any]) -> Load:
    return Load(**cell["load"])


def test_a_run_without_failures_ends_well(run: Run) -> None:
    assert run.exit_code == 0, run.stderr


def test_each_variant_has_a_cell_for_each_load(run: Run) -> None:
    cells = run.results["cells"]
    assert [(cell["variant"], load_of(cell).level) for cell in cells] == [
        (v, users) for v in VARIANTS for users in (1, 4)
    ]
    for cell in cells:
        assert cell["model"] == "toy"
        assert cell["failures"] == 0
        assert cell["statuses"] == {"OK": cell["requests"]}
        assert cell["requests"] > cell["samples"] > 0
        assert cell["throughput_rps"] == pytest.approx(cell["samples"] / cell["seconds"], rel=1e-12)
        assert 0 < cell["latency_ms"]["p50"] <= cell["latency_ms"]["p95"]
        assert cell["first_call_ms"] > 0
        assert cell["generator_limit"] in (None, "thread", "ceiling")
        assert 0 < cell["generator_cpu"] < 0.95 * cell["generator_process_cpu"]  # gRPC has threads of its own
        assert cell["generator_us_per_request"] > 0
        assert cell["cores_used"] > cell["generator_process_cpu"]
        assert cell["rounds"] == 6


def test_the_server_counted_the_very_calls_that_were_sent(run: Run) -> None:
    sent = Counter[tuple[str, str]]()
    for cell in run.results["cells"]:
        for code, count in cell["statuses"].items():
            sent[cell["variant"], code] += count
        assert cell["server"]["requests"] == cell["requests"]
    counted = {
        (dict(labels)["variant"], dict(labels)["code"]): value
        for (name, labels), value in run.metrics.items()
        if name == "pareto_requests_total" and value
    }
    assert sent == counted


def test_the_server_s_side_is_in_every_cell(run: Run) -> None:
    for cell in run.results["cells"]:
        assert cell["server"]["compute_ms_mean"] > 0
        assert cell["server"]["queue_ms_mean"] > 0
        assert cell["server"]["cpu_us_per_request"] > 0
        assert list(cell["server"]["stage_ms_mean"]) == ["receive", "decode", "respond", "encode"]
        assert all(ms > 0 for ms in cell["server"]["stage_ms_mean"].values())
        assert cell["facts"]["quality"] == 0.75
        assert cell["facts"]["agreement"] == 1.0
        assert (cell["facts"]["recipe"], cell["variant"]) == ("fp32", f"fp32-{cell['facts']['runtime']}")


def test_results_bear_machine_plan_and_inputs(run: Run) -> None:
    results = run.results
    assert results["machine"]["cores"] >= 1
    assert results["machine"]["cpu"]
    assert set(results["machine"]["libraries"]) >= {"locust", "grpcio", "numpy"}
    assert (results["plan"]["users"], results["plan"]["slice"]) == ([1, 4], 0.1)
    assert (results["inputs"], results["way_in"], results["skipped"]) == ("golden", "ModelInfer by grpcio", {})
    assert results["started"] < results["finished"]


def test_percentiles_can_be_worked_out_again_from_the_raw_samples(run: Run) -> None:
    samples = load_samples(run.out / "samples.npz")
    for cell in run.results["cells"]:
        rows = samples.of(cell["variant"], load_of(cell))
        assert len(rows) == cell["requests"]
        assert cell["latency_ms"]["p50"] == pytest.approx(np.quantile(steady_latencies(rows), 0.5) * 1e3, rel=1e-12)


def test_each_user_opens_one_connection_and_begins_each_slice_with_a_call_that_does_not_count(run: Run) -> None:
    samples = load_samples(run.out / "samples.npz")
    for variant in VARIANTS:
        one, four = (Load("closed", users) for users in (1, 4))
        assert [len(samples.of(variant, load, FIRST)) for load in (one, four)] == [1, 3]  # the first one goes on
        for load in (one, four):
            assert set(samples.of(variant, load, STEADY)["round"]) == {1, 2, 3, 4, 5, 6}
            for round_ in range(2, 7):
                calls = samples.of(variant, load)
                calls = calls[calls["round"] == round_]
                warmup, steady = (calls[calls["phase"] == phase] for phase in (WARMUP, STEADY))
                ends = np.sort(warmup["due"] + warmup["latency"])
                assert ends[int(load.level) - 1] <= steady["due"].min() + 1e-6  # by then each user has had one


def test_a_round_is_a_slice_of_each_variant_and_the_table_of_slices_has_their_time(run: Run) -> None:
    samples = load_samples(run.out / "samples.npz")
    for users in (1, 4):
        slices = np.stack([samples.slices_of(variant, Load("closed", users)) for variant in VARIANTS])
        assert slices["round"].tolist() == [[1, 2, 3, 4, 5, 6]] * 2
        assert (slices["begun"].max(axis=0)[:-1] < slices["begun"].min(axis=0)[1:]).all()
        assert ((slices["seconds"] > 0) & (slices["seconds"] <= slices["whole"])).all()
        assert (slices["thread"] > 0).all()
        assert (slices["server"].sum(axis=1) > 0).all()


def test_each_stretch_has_what_the_machine_and_the_server_did_in_it(run: Run) -> None:
    stretches = run.results["stretches"]
    assert [(each["load"]["level"], each["first_round"], each["last_round"]) for each in stretches] == [
        (1, 1, 6), (4, 1, 6),
    ]  # fmt: skip
    for each in stretches:
        assert each["probe_seconds"] > 0
        assert set(each["server"]) == set(VARIANTS)
        assert 0 < each["conditions"]["own"] <= 1


def test_standard_output_ends_with_the_frontier_and_where_the_report_is(run: Run) -> None:
    assert run.stdout.endswith(f"\nReport: {run.out / 'report.html'}\n")
    said = [line.partition(",")[0].partition(":")[0] for line in run.stdout.splitlines() if line.startswith("Frontier")]
    assert said == ["Frontier at 1 user", "Frontier at 4 users"]


def test_the_table_of_each_load_names_every_variant(run: Run) -> None:
    for variant in VARIANTS:
        assert run.stdout.count(f"\n{variant} ") == 2


def test_no_line_is_longer_than_80_characters_but_that_of_the_report(run: Run) -> None:
    assert [line for line in run.stdout.splitlines()[:-1] if len(line) > 80] == []


def test_progress_says_what_is_measured_now_and_how_far(run: Run) -> None:
    lines = [line for line in run.stderr.splitlines() if line.startswith("[")]
    assert lines[0] == "[0%] 1 user, round 1 of 6, 2 of 2 variants, 3 s left"


def test_a_run_folder_holds_results_samples_and_report_and_only_a_line_of_history_is_beside_it(run: Run) -> None:
    names = ["measurements.csv", "plan.toml", "report.html", "report.md", "results.json", "samples.npz"]
    assert sorted(path.name for path in run.out.iterdir()) == names
    assert {path.name for path in run.out.parent.iterdir()} == {run.out.name, "history.jsonl"}
    (entry,) = read_history(run.out.parent / "history.jsonl")
    results = load_results(run.out / "results.json")
    assert entry == entry_of(results, None)


def test_a_server_that_dies_is_counted_and_its_variants_stop(repository: Path, tmp_path: Path) -> None:
    with serving(repository) as server:
        more = ("--users", "2", "--duration", "60", "--warmup", "0", "--ceiling", "0", "--second-opinion", "1")
        given = flags(server, repository, tmp_path / "run", *more, "--json")
        with started(python(SHORT_STRETCHES, *given)) as process:
            until(lambda: len(requests_of(server)) == 2)
            server.signal(signal.SIGKILL)
            stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    results = results_of(tmp_path / "run")
    for cell in results["cells"]:
        assert cell["statuses"]["UNAVAILABLE"] == cell["failures"] > 0
        assert cell["statuses"]["OK"] > 0
        assert cell["rounds"] < 600
        assert cell["server"]["compute_ms_mean"] is None
        stopped = f"{cell['variant']}, 2 users: stopped after round {cell['rounds']}, no call was answered\n"
        assert stopped in stderr
    assert [each["reason"] for each in results["stops"]] == ["no call was answered"] * 2
    assert results["second_opinion"] is None  # no valid cell
    document = json.loads(stdout)  # and nothing else
    assert document["failures"] == sum(cell["failures"] for cell in results["cells"])
    assert document["report"] == str(tmp_path / "run" / "report.html")
    assert f"Report: {document['report']}\n" in stderr
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(
    number: signal.Signals, server: ServerProcess, repository: Path, tmp_path: Path
) -> None:
    with started([*LOADTEST, *flags(server, repository, tmp_path / "run", "--duration", "60")]) as process:
        wait_for_load(process)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (128 + number, "")
    assert stderr == f"pareto-loadtest: {number.name}, nothing was written\n"
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_does_not_wait_for_calls_that_hang(tmp_path: Path) -> None:
    called, ended = threading.Event(), threading.Event()

    def hang(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        called.set()
        ended.wait(60)
        return zeros(request, context)

    with foreign(("1",), hang) as server:
        command = ("run", "--target", server.address, "--model", MODEL, "--out", str(tmp_path / "run"))
        more = ("--repository", str(tmp_path), "--deadline", "600", "--duration", "60", "--ceiling", "0")
        with started([*LOADTEST, *command, *more]) as process:
            assert called.wait(30)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)
        ended.set()
    assert process.returncode == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_waits_for_a_server_is_interrupted_at_once(number: signal.Signals, tmp_path: Path) -> None:
    with foreign() as server:
        server.ready = False
        target = ("--target", server.address, "--model", MODEL, "--out", str(tmp_path / "run"))
        with started([*LOADTEST, "run", *target, "--wait", "600"]) as process:
            assert server.asked.wait(30)
            process.send_signal(number)
            _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (128 + number, f"pareto-loadtest: {number.name}, nothing was written\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_libraries_are_imported_ends_the_run_without_a_traceback(
    number: signal.Signals, tmp_path: Path
) -> None:
    script = f"""
import os, sys
from loadtest.__main__ import main
class Signaller:
    def find_spec(self, name, *_):
        if name == "loadtest.users.users":
            os.kill(os.getpid(), {int(number)})
sys.meta_path.insert(0, Signaller())
sys.exit(main(["run", "--target", "127.0.0.1:1", "--model", "m", "--out", "{tmp_path / "run"}", "--wait", "600"]))
"""
    done = finished(python(script))
    assert (done.returncode, done.stdout) == (128 + number, "")
    assert done.stderr == f"pareto-loadtest: {number.name}, nothing was written\n"


def test_a_signal_while_the_report_is_written_leaves_what_was_measured(tmp_path: Path) -> None:
    with foreign(("1",)) as server:
        script = f"""
import os, sys
from loadtest import runner
from loadtest.__main__ import main
write = runner.write_report
runner.write_report = lambda *given: (os.kill(os.getpid(), {int(signal.SIGTERM)}), write(*given))
sys.exit(main(["run", "--target", "{server.address}", "--model", "{MODEL}", "--out", "{tmp_path / "run"}",
               "--users", "1", "--warmup", "0", "--duration", "0.1", "--ceiling", "0", "--second-opinion", "0"]))
"""
        done = finished(python(script))
    assert (done.returncode, done.stdout) == (143, "")
    kept = tmp_path / "run.partial"
    assert done.stderr.endswith(f"SIGTERM, '{kept}' keeps what was measured, 1 parts: the same command goes on\n")
    assert [path.name for path in tmp_path.iterdir()] == [kept.name]


def test_an_interrupted_run_goes_on_with_the_stretches_that_it_has(
    server: ServerProcess, repository: Path, tmp_path: Path
) -> None:
    short = ("--users", "2", "--duration", "0.8", "--ceiling", "0")
    given = python(SHORT_STRETCHES, *flags(server, repository, tmp_path / "run", *short))
    with started(given) as process:
        wait_for_part(process, tmp_path / "run", "closed-2-1")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    first = load_samples(tmp_path / "run.partial" / "closed-2-1.npz")
    last = int(first.rows["round"].max())
    assert finished([*given, "--seed", "1"]).stderr.endswith("remove it, or take another --out\n")
    done = finished(given)
    assert done.returncode == 0, done.stderr
    samples = load_samples(tmp_path / "run" / "samples.npz")
    for taken, kept in ((samples.rows, first.rows), (samples.slices, first.slices)):
        np.testing.assert_array_equal(taken[taken["round"] <= last], kept)
    for variant in VARIANTS:
        assert samples.slices_of(variant, Load("closed", 2))["round"].tolist() == [*range(1, 9)]
    assert samples.rows["due"][samples.rows["round"] > last].min() > first.rows["due"].max()
    stretches = [(each["first_round"], each["last_round"]) for each in results_of(tmp_path / "run")["stretches"]]
    assert stretches[0] == (1, last)
    assert stretches[1][0] == last + 1
    assert {path.name for path in tmp_path.iterdir()} == {"run", "history.jsonl"}


def test_a_run_is_made_again_from_its_folder_with_flags_that_change_its_plan(
    run: Run, server: ServerProcess, repository: Path, tmp_path: Path
) -> None:
    short = ("--users", "2", "--duration", "0.1", "--ceiling", "0")
    metrics = f"http://{server.metrics_address}/metrics"
    done = loadtest(
        *("replay", str(run.out), "--out", str(tmp_path / "run"), *short),
        *("--target", server.grpc_address, "--metrics-url", metrics),
    )
    assert done.returncode == 0, done.stderr
    before, after = (tomllib.loads((folder / "plan.toml").read_text()) for folder in (run.out, tmp_path / "run"))
    changed = {"users": [2], "duration": 0.1, "ceiling": 0.0}
    assert after == before | changed | {"target": server.grpc_address, "metrics_url": metrics}


def test_the_folder_of_no_run_is_named(tmp_path: Path) -> None:
    done = loadtest("replay", str(tmp_path), "--out", str(tmp_path / "run"))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"'{tmp_path / 'plan.toml'}'" in done.stderr


def test_accuracy_over_the_wire_is_the_manifest_s_and_flips_are_listed(
    server: ServerProcess, repository: Path, tmp_path: Path
) -> None:
    short = ("--users", "2", "--duration", "0.1", "--ceiling", "0", "--check-accuracy")
    done = loadtest(*flags(server, repository, tmp_path / "run", *short))
    assert done.returncode == 0, done.stderr
    checked = results_of(tmp_path / "run")["accuracy"]
    assert [(each["variant"], each["samples"], each["quality"], each["flips"]) for each in checked] == [
        (variant, 12, 0.75, []) for variant in VARIANTS
    ]


def test_the_generator_s_ceiling_is_measured_and_a_cell_beyond_its_limit_is_marked(
    server: ServerProcess, repository: Path, tmp_path: Path
) -> None:
    given = flags(server, repository, tmp_path / "run", "--users", "4", "--duration", "0.3", "--ceiling", "0.2")
    script = f"""
import sys
from loadtest import stats
from loadtest.__main__ import main
stats.GENERATOR_LIMIT = 0.01  # of the ceiling: any server is beyond it
sys.exit(main({given}))
"""
    done = finished(python(script))
    assert done.returncode == 0, done.stderr
    results = results_of(tmp_path / "run")
    (ceiling,) = results["ceilings"]
    assert ceiling["load"] == {"scenario": "closed", "level": 4}
    assert ceiling["rps"] > 0
    assert all(cell["throughput_rps"] > 0 for cell in results["cells"])
    assert all(
        cell["generator_limit"] == "thread" and cell["ceiling_rps"] == ceiling["rps"] for cell in results["cells"]
    )
    assert '"frontier":[]' in (tmp_path / "run" / "report.html").read_text()


def test_a_server_that_fills_the_generator_s_own_machine_is_warned_of(tmp_path: Path) -> None:
    readings = itertools.count(1)

    def busy() -> str:
        """A server that took an hour for each call."""
        count = next(readings)
        labels = f'model="{MODEL}",variant="1",code="OK"'
        return f"pareto_requests_total{{{labels}}} {count}\nprocess_cpu_seconds_total {3600 * count}\n"

    with foreign(("1",)) as server, pages(busy) as url:
        target = ("--target", server.address, "--metrics-url", url, "--model", MODEL, "--out", str(tmp_path / "run"))
        short = ("--users", "1", "--warmup", "0", "--duration", "0.1", "--ceiling", "0", "--second-opinion", "0")
        done = loadtest("run", *target, *short)
    said = " ".join(done.stdout.split())
    assert "warning: Load generator and server competed for the cores of one machine in 1 of 1 measurement" in said


def test_the_steady_state_begins_when_every_user_has_had_its_first_call(tmp_path: Path) -> None:
    peers, calls, enough = dict[str, int](), itertools.count(), threading.Event()

    def late(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        if peers.setdefault(context.peer(), len(peers)) == 1:
            assert enough.wait(30)  # the second user gets its first answer when the first has had many
        elif next(calls) == 50:
            enough.set()
        return zeros(request, context)

    with foreign(("1",), late) as server:
        target = ("--target", server.address, "--model", MODEL, "--out", str(tmp_path / "run"), "--users", "2")
        short = ("--warmup", "0", "--duration", "0.3", "--deadline", "30", "--ceiling", "0", "--second-opinion", "0")
        done = loadtest("run", *target, "--repository", str(tmp_path), *short)
    assert done.returncode == 0, done.stderr
    samples = load_samples(tmp_path / "run" / "samples.npz")
    first, steady = (samples.of("1", Load("closed", 2), phase) for phase in (FIRST, STEADY))
    assert (first["due"] + first["latency"]).max() <= steady["due"].min()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--target", "127.0.0.1:1"), "the server does not answer: UNAVAILABLE: "),
        (("--model", "other"), "model 'other': NOT_FOUND: "),
        (
            ("--variants", "int8-openvino"),
            "model 'toy': got variant 'int8-openvino', expected one of fp32-onnxruntime, fp32-openvino\n",
        ),
        (("--users", "0"), "--users: got '0', expected different whole numbers of at least 1, separated by commas"),
        (("--metrics-url", "http://127.0.0.1:1/metrics"), "--metrics-url: metrics page http://127.0.0.1:1/metrics: "),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_one_line_and_leaves_nothing(
    more: tuple[str, ...], message: str, server: ServerProcess, repository: Path, tmp_path: Path
) -> None:
    done = loadtest(*flags(server, repository, tmp_path / "run", *more))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"pareto-loadtest: {message}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "out",
    [
        pytest.param("/proc/run", id="1"),
        pytest.param("/proc/none/run", id="2", marks=pytest.mark.long),
        pytest.param("/dev/null/run", id="3", marks=pytest.mark.long),
        pytest.param("x" * 250, id="4"),  # of the names beside it, some are too long
        pytest.param("x" * 300, id="5", marks=pytest.mark.long),
    ],
)
def test_an_out_folder_that_cannot_be_written_is_one_line_before_the_load(
    out: str, server: ServerProcess, repository: Path, tmp_path: Path
) -> None:
    done = loadtest(*flags(server, repository, tmp_path / out))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"pareto-loadtest: --out: '{tmp_path / out}' cannot be written: ")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_is_one_line_before_the_load(
    server: ServerProcess, repository: Path, tmp_path: Path
) -> None:
    small = [sys.executable, "-c", LIMITED, *flags(server, repository, tmp_path / "run")]
    done = finished(small)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.endswith("cannot be written: [Errno 27] File too large\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("room", "kept"),
    [pytest.param(100, 1, id="no stretch", marks=pytest.mark.long), pytest.param(1_000_000, 2, id="no report")],
)
def test_a_disk_that_fills_up_loses_nothing_that_was_kept_and_the_run_goes_on(
    room: int, kept: int, server: ServerProcess, repository: Path, tmp_path: Path
) -> None:
    command = flags(server, repository, tmp_path / "run", "--duration", "0.4", "--ceiling", "0")
    with started([*LOADTEST, *command]) as process:
        wait_for_part(process, tmp_path / "run", "closed-1-1")
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (room, room))
        stdout, stderr = process.communicate(timeout=60)
    left = tmp_path / "run.partial"
    assert (process.returncode, stdout) == (2, "")
    assert stderr.splitlines()[-1] == (
        f"pareto-loadtest: --out: [Errno 27] File too large; '{left}' keeps what was measured, {kept} parts:"
        " the same command goes on"
    )
    assert {path.name for path in left.glob("closed*.json")} == {"closed-1-1.json", "closed-4-1.json"} - (
        {"closed-4-1.json"} if kept == 1 else set()
    )
    done = loadtest(*command)
    assert done.returncode == 0, done.stderr
    assert len(results_of(tmp_path / "run")["cells"]) == 4
    assert {path.name for path in tmp_path.iterdir()} == {"run", "history.jsonl"}


def test_the_stretch_that_meets_a_full_disk_is_kept_in_the_reserve(
    server: ServerProcess, repository: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = flags(server, repository, disk / "run", "--duration", "0.4", "--ceiling", "0")
    with small_disk(disk), started([*LOADTEST, *command]) as process:
        wait_for_part(process, disk / "run", "closed-1-1")
        fill(disk / "other")
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 2
        assert f"No space left on device; '{disk / 'run.partial'}' keeps what was measured, 2 parts" in stderr
        (disk / "other").unlink()
        assert loadtest(*command).returncode == 0
        assert {path.name for path in disk.iterdir()} == {"run", "history.jsonl"}


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mounts a file system of 20 MiB, where that is allowed."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(folder)]
    if not shutil.which("mount") or finished(mount).returncode:
        pytest.skip("mounting a file system is not allowed here")
    try:
        yield
    finally:
        finished(["umount", str(folder)])


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


def test_a_variant_that_fails_stops_with_the_server_s_words_and_the_others_go_on(tmp_path: Path) -> None:
    def refuse(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        if request.model_version == "1":
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "<b>full</b>")
        return zeros(request, context)

    with foreign(("1", "2"), refuse) as server:
        short = ("--users", "1", "--duration", "1", "--slice", "0.1", "--ceiling", "0", "--second-opinion", "0")
        target = ("--target", server.address, "--model", MODEL, "--repository", str(tmp_path / "none"))
        done = finished(python(SHORT_STRETCHES, "run", *target, *short, "--out", str(tmp_path / "run")))
    results = results_of(tmp_path / "run")
    failed, other = results["cells"]
    assert failed["failure_texts"] == [
        {"status": "RESOURCE_EXHAUSTED", "text": "<b>full</b>", "count": failed["failures"]},
    ]
    assert (failed["failures"], failed["samples"], failed["throughput_rps"]) == (failed["requests"], 0, 0.0)
    assert (other["failures"], other["rounds"]) == (0, 10)
    assert [(each["variant"], each["reason"]) for each in results["stops"]] == [("1", "no call was answered")]
    assert done.returncode == 1
    assert "most often: <b>full</b>" in " ".join(done.stdout.split())
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<td>RESOURCE_EXHAUSTED</td><td>&lt;b&gt;full&lt;/b&gt;</td>" in page
    assert "<b>full" not in page
    assert r"| RESOURCE\_EXHAUSTED | \<b\>full\</b\> |" in (tmp_path / "run" / "report.md").read_text()


def test_an_out_folder_that_holds_something_is_not_touched(
    server: ServerProcess, repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").write_text("mine")
    done = loadtest(*flags(server, repository, tmp_path))
    assert done.returncode == 2
    assert done.stderr == f"pareto-loadtest: --out: '{tmp_path}' is there already and not an empty folder\n"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_foreign_server_is_measured_with_made_up_inputs_and_no_server_figures(tmp_path: Path) -> None:
    with foreign(("1", "cold-2")) as server:
        arguments = ("--target", server.address, "--model", MODEL, "--users", "2", "--duration", "0.3")
        paths = ("--out", str(tmp_path / "run"), "--repository", str(tmp_path / "none"))
        done = loadtest("run", *arguments, "--ceiling", "0", "--second-opinion", "0", *paths)
    results = results_of(tmp_path / "run")
    (cell,) = results["cells"]
    assert done.returncode == 1  # not every variant was measured
    assert (results["inputs"], results["metrics_url"]) == ("synthetic", None)
    assert results["skipped"] == {"cold-2": "the server says that it is not ready"}
    assert (cell["variant"], cell["failures"], cell["requests"]) == ("1", 0, len(server.requests))
    assert cell["server"].pop("stage_ms_mean") == {}
    assert set(cell["server"].values()) == set(cell["facts"].values()) == {None}
    assert "No measurement for 1 of 2 variants (cold-2, the server says that it is not ready): " in " ".join(
        done.stdout.split()
    )
    assert {tuple(request.inputs[1].shape) for request in server.requests} == {(1, 5)}


def test_a_server_that_is_still_starting_is_waited_for(repository: Path, tmp_path: Path) -> None:
    port = quiet_port()
    server = ServerProcess(["--repository", str(repository), "--port", str(port), "--metrics-port", "0"])
    short = ["--users", "1", "--duration", "0.2", "--warmup", "0.1", "--ceiling", "0", "--second-opinion", "0"]
    at = ["--target", f"127.0.0.1:{port}", "--model", toy.MODEL, "--repository", str(repository)]
    at += ["--out", str(tmp_path / "r")]
    try:
        done = loadtest("run", *at, *short, "--wait", "60")
    finally:
        server.stop()
    assert done.returncode == 0, done.stderr
    assert len(results_of(tmp_path / "r")["cells"]) == 2
