"""A run with a second opinion, from end to end."""

from pathlib import Path

import pytest

from loadtest.analysis.results import load_results
from tests.support import toy
from tests.support.loadtest.cells import closed
from tests.support.loadtest.runs import flags, loadtest
from tests.support.serving import ServerProcess

SHORT = ("--duration", "0.3", "--warmup", "0.1", "--ceiling", "0", "--second-opinion", "0.4")


def test_the_fastest_valid_variant_is_asked_under_the_first_closed_load(
    server: ServerProcess, repository: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    done = loadtest(*flags(server, repository, out, *SHORT, "--users", "2,1"))
    assert done.returncode == 0, done.stderr
    results = load_results(out / "results.json")
    opinion, under = results.second_opinion, [cell for cell in results.cells if cell.load == closed(2)]
    assert opinion
    assert opinion.load == closed(2)
    assert opinion.variant == max(under, key=lambda cell: cell.throughput_rps).variant
    assert opinion.cross_check, opinion.missing
    assert min(each.rps for each in (opinion.cross_check.before, opinion.cross_check.h2load)) > 0
    for page in ("report.md", "report.html"):
        text = (out / page).read_text()
        assert "A second opinion" in text
        assert f"{opinion.variant}, 2 users: h2load got {opinion.cross_check.h2load.rps:,.0f} requests/s" in text


def test_without_h2load_one_line_says_so_and_nothing_warns(
    server: ServerProcess, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    given = ("--target", server.grpc_address, "--model", toy.MODEL, "--repository", str(repository))
    done = loadtest("run", *given, "--out", str(tmp_path / "run"), *SHORT, "--offline", "2")
    assert done.returncode == 0, done.stderr
    results = load_results(tmp_path / "run" / "results.json")
    assert results.second_opinion
    assert results.second_opinion.load == closed(1)  # the plan has no closed load, and two rows in each request
    said = f"{results.second_opinion.variant}, 1 user: not cross-checked with h2load: it is not installed"
    assert f"{said} (Debian's nghttp2-client)." in (tmp_path / "run" / "report.md").read_text()
    assert not [warning for warning in results.warnings if "h2load" in warning.line]
