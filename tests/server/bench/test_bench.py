"""A benchmark of the toy, as short as can be: every row is there, and what it cannot do is said."""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from server.bench import __main__ as bench
from server.bench.targets import peer
from tests.support.serving import ServerProcess


@pytest.mark.long
def test_it_measures_both_doors_the_bare_servers_and_a_peer(
    repository: Path, servers: Callable[[str], ServerProcess], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = servers("grpcio")
    raw = tmp_path / "raw.json"
    what = f"--repository {repository} --model toy --variant fp32-onnxruntime --form tensor,jpeg --in-flight 2"
    theirs = f"other={server.grpc_address}@{server.pid}"
    ours = "--front grpcio --workers 2,--front native"
    flags = [*what.split(), "--rounds", "2", "--seconds", "1", "--out", str(raw)]
    assert bench.main([*flags, "--ours", ours, "--peer", theirs]) == 0
    printed = capsys.readouterr()
    *_, summary = printed.out.splitlines()
    document = json.loads(summary)
    names = [f"pareto-serve {flags}" for flags in ours.split(",")]
    found = {(r["server"], r["mode"], r["form"], r["in_flight"]): r for r in document["rows"]}
    assert found.keys() == {
        *product(["floor", *names], ["unary", "stream"], ["tensor", "jpeg"], [2]),
        *product(["bare batching", "other"], ["unary"], ["tensor"], [2]),
    }
    for key, figures in found.items():
        assert figures["failures"] == 0, key
        assert figures["rounds"] == 2
        assert 0 < figures["p50_ms"] <= figures["p95_ms"] <= figures["p99_ms"]
        assert min(figures["rps"], figures["client_cpu_us"]) > 0
        assert (figures["overhead_us"] is None) == (key[0] == "floor")
    assert [speed["batch"] for speed in document["engine"]] == list(bench.BATCHES)
    compared = {(each["server"], each["in_flight"], each["best_peer"]) for each in document["comparisons"]}
    assert compared == {*product(names, [2], ["other"])}
    assert "\n| pareto-serve --front native | unary | jpeg | 2 | " in printed.out
    assert "round 2: other, unary, tensor, 2 in flight" in printed.err
    cells = json.loads(raw.read_text())["cells"]
    assert all(len(cell["rounds"]) == 2 and cell["rounds"][0]["sample"]["latencies_us"] for cell in cells)


def test_a_variant_that_is_not_there_is_one_clear_line(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--repository", str(repository), "--model", "toy", "--variant", "nope"]) == 2
    assert capsys.readouterr().err == f"bench: there is no {repository}/toy/nope; `make demo` builds the default\n"


def test_a_missing_load_generator_is_one_clear_line(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bench.main(["--repository", str(repository), "--model", "toy", "--variant", "fp32-onnxruntime"]) == 2
    expected = "bench: unary calls need h2load: it is not installed (Debian's nghttp2-client)\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize("given", ["other", "other=host", "other=host:x", "=host:1", "other=host:1@x"])
def test_a_peer_of_another_form_is_one_clear_line(
    repository: Path, given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.main(["--repository", str(repository), "--peer", given]) == 2
    assert capsys.readouterr().err.startswith(f"bench: got '{given}', expected NAME=HOST:PORT")


def test_a_peer_has_no_cpu_without_its_process() -> None:
    assert peer("a=host:1").cpu_seconds() is None
    assert peer("a=[::1]:80@1").pid == 1


def test_a_peer_may_call_the_variant_otherwise() -> None:
    assert peer("a=host:1").version is None
    assert (peer("a=host:1/3@7").version, peer("a=host:1/3@7").pid) == ("3", 7)
