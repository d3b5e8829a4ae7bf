"""What got slower from one run to another: made-up results with known answers."""

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtest.analysis.results import Cell, LatencyMs, Results
from loadtest.analysis.run_comparison import Changes, compare_runs, rounds_needed
from loadtest.plan import Load
from protos.errors import UsageError
from tests.support.loadtest.cells import cell, results
from tests.support.loadtest.runs import LOADTEST
from tests.support.serving import ROOT

CALM = (1.00, 1.01, 0.99, 1.02, 0.98, 1.03, 0.97, 1.04)
"""p50 of eight rounds, in milliseconds."""


def cell_of(variant: str, p50s: Sequence[float], *, p99s: Sequence[float | None] = (), **more: Any) -> Cell:
    """A cell with these rounds; in a closed loop of one user p50 is the time of an answer too."""
    made = cell(variant, **more)
    rounds = tuple(
        replace(
            made.rounds[0],
            round=number,
            latency_ms=LatencyMs(p50, None, p99s[number - 1] if p99s else None),
            throughput_rps=1000 / p50,
        )
        for number, p50 in enumerate(p50s, 1)
    )
    return replace(made, rounds=rounds)


def at_a_rate(made: Cell) -> Cell:
    return replace(made, load=Load("server", 100))


@pytest.fixture
def save(tmp_path: Path) -> Callable[[str, Results], Path]:
    def write(name: str, run: Results) -> Path:
        (tmp_path / name).mkdir()
        run.save(tmp_path / name / "results.json")
        return tmp_path / name

    return write


Save = Callable[[str, Results], Path]


def changes(save: Save, before: Sequence[Cell], after: Sequence[Cell]) -> Changes:
    return compare_runs(save("a", results(*before)), save("b", results(*after)))


def test_a_variant_that_takes_half_as_long_again_is_slower(save: Save) -> None:
    slow = [1.5 * p50 for p50 in CALM]
    found = changes(save, [cell_of("fp32-openvino", CALM)], [cell_of("fp32-openvino", slow)])
    first, second = found.changes
    assert (first.figure, second.figure) == ("p50 ms", "ms per answer")
    assert (first.before, first.after, first.ratio) == pytest.approx((1.005, 1.5075, 1.5))
    assert first.p == pytest.approx(2 * 2 / 12870)  # all of one above all of the other: 2 of C(16, 8), by Holm twice
    assert first.interval is not None
    assert 1.4 < first.interval[0] < 1.5 < first.interval[1] < 1.6
    assert (first.rounds, first.verdict, second.verdict) == ((8, 8), "slower", "slower")
    assert found.exit_code == 1


def test_the_other_way_round_it_is_faster(save: Save) -> None:
    slow = [1.5 * p50 for p50 in CALM]
    found = changes(save, [cell_of("fp32-openvino", slow)], [cell_of("fp32-openvino", CALM)])
    assert {each.verdict for each in found.changes} == {"faster"}
    assert found.exit_code == 0


def test_the_same_rounds_in_another_order_are_tied(save: Save) -> None:
    found = changes(save, [cell_of("fp32-openvino", CALM)], [cell_of("fp32-openvino", CALM[::-1])])
    assert {each.verdict for each in found.changes} == {"tied"}
    assert [each.ratio for each in found.changes] == [1.0, 1.0]
    assert found.exit_code == 0


def test_rounds_that_overlap_are_no_evidence(save: Save) -> None:
    wild = (0.5, 2.5, 0.6, 2.2, 0.9, 1.8, 0.7, 1.6)
    found = changes(save, [cell_of("fp32-openvino", CALM)], [cell_of("fp32-openvino", wild)])
    assert found.changes[0].ratio > 1.2
    assert found.changes[0].verdict == "tied"


def test_p99_is_compared_where_every_round_has_one(save: Save) -> None:
    p99s = [3 * p50 for p50 in CALM]
    cells = [cell_of("a-openvino", CALM, p99s=p99s), cell_of("b-openvino", CALM, p99s=[*p99s[:-1], None])]
    found = changes(save, cells, cells)
    assert [(each.variant, each.figure) for each in found.changes if each.figure == "p99 ms"] == [
        ("a-openvino", "p99 ms")
    ]


def test_at_a_given_rate_throughput_is_no_figure_of_the_server(save: Save) -> None:
    cells = [at_a_rate(cell_of("a-openvino", CALM))]
    assert [each.figure for each in changes(save, cells, cells).changes] == ["p50 ms"]


@pytest.mark.parametrize(("comparisons", "rounds"), [(1, 4), (15, 6), (48, 7)])
def test_how_many_rounds_it_takes(comparisons: int, rounds: int) -> None:
    assert rounds_needed(comparisons) == rounds


def test_with_too_few_rounds_nothing_is_claimed_and_how_many_are_missing_is_said(save: Save) -> None:
    found = changes(save, [cell_of("a-openvino", CALM[:3])], [cell_of("a-openvino", [9 * p50 for p50 in CALM[:3]])])
    assert {(each.verdict, each.p, each.interval) for each in found.changes} == {("too few rounds", None, None)}
    assert found.exit_code == 2
    (note,) = found.notes()
    assert note == (
        "too few rounds: 2 of 2 comparisons could not have shown any difference;"
        " 2 comparisons need 5 rounds in each run"
    )


def test_many_comparisons_make_each_harder(save: Save) -> None:
    before = [at_a_rate(cell_of(f"v{n}-openvino", CALM[:4])) for n in range(2)]
    after = [at_a_rate(cell_of(f"v{n}-openvino", [2 * p50 for p50 in CALM[:4]])) for n in range(2)]
    alone = compare_runs(save("c", results(before[0])), save("d", results(after[0])))
    assert [each.verdict for each in alone.changes] == ["slower"]  # p = 2/70
    assert {each.verdict for each in changes(save, before, after).changes} == {"too few rounds"}


def test_what_the_generator_limited_or_failed_is_left_out_and_said(save: Save) -> None:
    before = [cell_of("a-openvino", CALM, generator_limit="thread"), cell_of("b-openvino", CALM)]
    after = [cell_of("a-openvino", CALM), cell_of("b-openvino", CALM, failures=3)]
    found = changes(save, before, after)
    assert found.changes == ()
    assert found.left_out == (
        "a-openvino, 1 user: limited by the generator (its thread was busy for more than 90% of the time)"
        " in the first run",
        "b-openvino, 1 user: 3 of 1000 calls failed in the second run",
    )
    assert found.exit_code == 2


def test_what_is_in_one_run_only_is_named(save: Save) -> None:
    shared = cell_of("a-openvino", CALM)
    found = changes(save, [shared, cell_of("b-openvino", CALM)], [shared, cell_of("a-openvino", CALM, users=8)])
    assert found.left_out == (
        "b-openvino, 1 user: only in the first run",
        "a-openvino, 8 users: only in the second run",
    )
    assert len(found.changes) == 2


def test_another_machine_other_versions_and_another_plan_are_named(save: Save) -> None:
    shared = cell_of("a-openvino", CALM)
    hurried = replace(shared, rounds=tuple(replace(each, canary_seconds=0.045) for each in shared.rounds))
    before, after = results(shared), results(replace(hurried, facts=replace(shared.facts, artifact_bytes=2000)))
    machine = replace(after.machine, cores=4, libraries={"locust": "2.48"}, load_average=(9.0, 9.0, 9.0))
    after = replace(after, machine=machine, plan=replace(after.plan, out=Path("runs/y"), rows=2), server="other 1.0")
    found = compare_runs(save("a", before), save("b", after))
    assert found.differences == (
        "server: pareto-serve 0.1.0 in the first run, other 1.0 in the second",
        "machine: cores: 2 in the first run, 4 in the second",
        "version of locust: 2.47 in the first run, 2.48 in the second",
        "plan: rows: 1 in the first run, 2 in the second",
        "a-openvino: artifact_bytes: 1000 in the first run, 2000 in the second",
        "the noise probe, the same piece of work, took 1.50 times as long in the second run: the machine itself was"
        " not the same",
    )


def test_runs_without_a_common_cell_are_refused(save: Save) -> None:
    with pytest.raises(UsageError, match="have no variant under the same load in common"):
        changes(save, [cell_of("a-openvino", CALM)], [cell_of("b-openvino", CALM)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("{", "Expecting property name"),
        ("[]", "got schema None, expected 2"),
        ('{"schema": 2, "server": "", "inputs": "golden"}', "'started' is missing"),
    ],
)
def test_a_folder_that_is_no_run_is_one_line(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        compare_runs(tmp_path, tmp_path)


def program(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LOADTEST, "compare", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def test_the_program_ends_with_1_where_a_variant_got_slower(save: Save) -> None:
    before = save("a", results(cell_of("int8-openvino", CALM)))
    after = save("b", results(cell_of("int8-openvino", [2 * p50 for p50 in CALM])))
    done = program(before, after)
    assert done.returncode == 1, done.stderr
    assert "slower" in done.stdout
    assert json.loads(done.stdout.splitlines()[-1])["slower"] == 2


def test_a_folder_that_is_not_there_ends_the_program_with_2(tmp_path: Path) -> None:
    done = program(tmp_path / "a", tmp_path / "b")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"pareto-loadtest: '{tmp_path / 'a' / 'results.json'}': ")
