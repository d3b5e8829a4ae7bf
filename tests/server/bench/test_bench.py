"""A benchmark of the toy, as short as can be: every row is there, and the peer that it is given."""

import json
from pathlib import Path

import pytest

from server.bench import __main__ as bench
from server.bench.load import Sample
from server.bench.table import Cell, Key, row, text
from server.bench.targets import peer
from tests.support.serving import ServerProcess


def test_it_measures_our_server_the_bare_ones_and_a_peer(
    repository: Path, server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "raw.json"
    flags = f"--repository {repository} --model toy --variant fp32-onnxruntime --rounds 2 --seconds 0.1 --in-flight 1,3"
    theirs = f"other={server.grpc_address}@{server.pid}"
    assert bench.main([*flags.split(), "--ours", "--batch-max 1,--workers 2", "--peer", theirs, "--out", str(raw)]) == 0
    printed = capsys.readouterr()
    *_, table_end, summary = printed.out.splitlines()
    document = json.loads(summary)
    names = ["floor", "bare batching", "pareto-serve --batch-max 1", "pareto-serve --workers 2", "other"]
    found = {(r["server"], r["mode"], r["in_flight"]): r for r in document["rows"]}
    assert found.keys() == {
        (name, mode, depth)
        for name in names
        for mode in ("unary", "stream")
        for depth in (1, 3)
        if (name, mode) != ("bare batching", "stream")
    }
    for key, figures in found.items():
        assert figures["failures"] == 0, key
        assert figures["rounds"] == 2
        assert 0 < figures["p50_ms"] <= figures["p95_ms"] <= figures["p99_ms"]
        assert min(figures["rps"], figures["client_cpu_us"]) > 0
        assert (figures["overhead_us"] is None) == (key[0] == "floor")
    assert [speed["batch"] for speed in document["engine"]] == list(bench.BATCHES)
    assert "other" in table_end
    assert "round 2: other, stream, 3 in flight" in printed.err
    cells = json.loads(raw.read_text())["cells"]
    assert all(len(cell["rounds"]) == 2 and cell["rounds"][0]["sample"]["latencies_us"] for cell in cells)


def test_a_variant_that_is_not_there_is_one_clear_line(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--repository", str(repository), "--model", "toy", "--variant", "nope"]) == 2
    assert capsys.readouterr().err == f"bench: there is no {repository}/toy/nope; `make demo` builds the default\n"


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


def test_a_row_is_the_median_of_its_rounds_and_tells_of_failures() -> None:
    cells = [
        Cell(Sample([1000.0 * factor] * 10, 2.0, 20, cpu_seconds=0.002), server_cpu_seconds=0.004 * factor)
        for factor in (1, 5, 2)
    ]
    cells.append(Cell(Sample([], 0.0, 0, 0.0, ["UNAVAILABLE"]), 0.0))
    figures = row(Key("ours", "unary", 8), cells)
    assert (figures.rounds, figures.failures, figures.rps, figures.p50_ms) == (3, 1, 5.0, 2.0)
    assert (figures.server_cpu_us, figures.client_cpu_us) == (400.0, 100.0)
    assert "ours (1 failed)" in text([figures])


def test_overhead_is_what_is_left_beside_engine_and_floor() -> None:
    def cell(us: float) -> list[Cell]:
        return [Cell(Sample([1.0], 1.0, 1, 0.0), us / 1e6)]

    speeds = [bench.EngineSpeed(1, 1.0, cpu_us=50.0), bench.EngineSpeed(8, 1.0, cpu_us=30.0)]
    cells = {
        Key(bench.FLOOR, "unary", 1): cell(100.0),
        Key(bench.FLOOR, "unary", 8): cell(80.0),
        Key("ours", "unary", 1): cell(200.0),
        Key("ours", "unary", 8): cell(150.0),
        Key("ours --batch-max 1", "unary", 8): cell(150.0),
        Key("ours", "stream", 8): cell(150.0),
    }
    overheads = [figures.overhead_us for figures in bench.rows_of(speeds, cells)]
    assert [None if value is None else round(value) for value in overheads] == [None, None, 50, 40, 20, None]
