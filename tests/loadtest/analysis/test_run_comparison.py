"""What got slower from one run to another: made-up runs with known answers."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtest.__main__ import main
from loadtest.analysis.results import Results, Stretch
from loadtest.analysis.run_comparison import Changes, LeftOut, compare_runs
from loadtest.measure.host import Conditions
from loadtest.plan import Load
from loadtest.users.recorder import Samples
from protos.errors import UsageError
from tests.support.loadtest.cells import closed
from tests.support.loadtest.made_runs import made_run, save

Run = tuple[Results, Samples]
Compare = Callable[..., Changes]

CALM = np.random.default_rng(0).normal(1, 0.03, 50)
"""The latency of fifty rounds, in milliseconds."""
AGAIN = np.random.default_rng(1).normal(1, 0.03, 50)
STRETCH = Stretch(closed(1), 1, 50, 0.0, Conditions(5.0, 0.0, 0.0, 0.5, 0.5, 0.0), 0.03, {})


@pytest.fixture
def compare(tmp_path: Path) -> Compare:
    """Saves two runs and compares their folders."""

    def compared(before: Run, after: Run, tolerance: float = 0.0) -> Changes:
        return compare_runs(save(before, tmp_path / "a"), save(after, tmp_path / "b"), tolerance)

    return compared


def run(rounds: Any = CALM, **more: Any) -> Run:
    return made_run({"a-openvino": rounds}, **more)


def with_stretches(made: Run, probe_seconds: float) -> Run:
    return replace(made[0], stretches=(replace(STRETCH, probe_seconds=probe_seconds),)), made[1]


def said(changes: Changes) -> dict[str, str]:
    return {each.figure: each.said for each in changes.changes}


def test_a_variant_that_takes_a_tenth_longer_is_slower(compare: Compare) -> None:
    found = compare(run(CALM), run(1.1 * AGAIN))
    assert said(found)["p50 ms"] == said(found)["ms per answer"] == "slower"
    assert found.exit_code == 1
    for each in found.changes:
        assert each.interval[0] is not None
        assert each.interval[1] is not None
        assert each.interval[0] < each.ratio < each.interval[1]


def test_the_other_way_round_it_is_faster(compare: Compare) -> None:
    found = compare(run(1.1 * AGAIN), run(CALM))
    assert said(found)["p50 ms"] == "faster"
    assert found.exit_code == 0


def test_the_figures_are_those_that_the_reports_show(compare: Compare) -> None:
    before, after = run(np.ones(50)), run(np.full(50, 1.1))
    found = compare(before, after)
    for which, made in (("before", before), ("after", after)):
        (cell,) = made[0].cells
        expected = [cell.latency_ms.p50, cell.latency_ms.p95, cell.latency_ms.p99, 1e3 / cell.throughput_rps]
        assert [getattr(each, which) for each in found.changes] == expected


def test_a_percentile_whose_slow_calls_came_together_is_not_bounded(compare: Compare) -> None:
    found = compare(run(CALM), run(2 * AGAIN))
    assert found.left_out == (
        LeftOut("a-openvino", "1 user, p99 ms", "its calls are too few, or its rounds too unlike, to bound it"),
    )


def test_equal_variants_are_too_close_to_call(compare: Compare) -> None:
    found = compare(run(CALM), run(AGAIN))
    assert set(said(found).values()) == {"too close to call"}
    assert found.exit_code == 0


def test_rounds_that_hang_together_prove_less_than_as_many_that_do_not(compare: Compare) -> None:
    rising = np.sort(CALM), 1.04 * np.sort(AGAIN)  # one long swing
    assert said(compare(run(rising[0]), run(rising[1])))["ms per answer"] == "too close to call"


def test_the_same_rounds_without_a_swing_show_the_difference(compare: Compare) -> None:
    assert said(compare(run(CALM), run(1.04 * AGAIN)))["ms per answer"] == "slower"


def test_many_comparisons_make_each_interval_wider(compare: Compare, tmp_path: Path) -> None:
    alone = compare(run(CALM), run(AGAIN)).changes[0]
    names = [f"{letter}-openvino" for letter in "abcdefgh"]
    many = [made_run(dict.fromkeys(names, rounds)) for rounds in (CALM, AGAIN)]
    crowded = compare_runs(save(many[0], tmp_path / "c"), save(many[1], tmp_path / "d")).changes[0]
    assert None not in (*alone.interval, *crowded.interval)
    assert crowded.interval[0] < alone.interval[0] < alone.interval[1] < crowded.interval[1]  # type: ignore[operator]


def test_an_open_loop_is_compared_by_its_block_without_a_break(compare: Compare) -> None:
    load = Load("server", 100)
    found = compare(run(CALM, load=load, sustained=True), run(1.2 * AGAIN, load=load, sustained=True))
    assert [each.figure for each in found.changes] == ["p50 ms", "p95 ms"]  # the asked rate is no figure
    assert said(found)["p50 ms"] == "slower"


def test_a_tolerance_lets_pass_what_may_be_slower_by_less(compare: Compare) -> None:
    found = compare(run(CALM), run(1.1 * AGAIN), tolerance=0.2)
    assert said(found)["p50 ms"] == "slower"
    assert (found.failures, found.exit_code) == (0, 0)


def test_too_few_rounds_are_named_and_nothing_is_claimed(compare: Compare) -> None:
    found = compare(run(CALM[:9]), run(9 * AGAIN))
    assert found.changes == ()
    assert found.left_out[0] == LeftOut(
        "a-openvino", "1 user, p50 ms", "too few calls, or fewer than 10 rounds, in the first run"
    )
    assert found.exit_code == 2
    assert found.summary == "Nothing could be compared"


def test_what_the_generator_limited_or_failed_is_left_out_and_said(compare: Compare) -> None:
    found = compare(run(generator_limit="thread"), run(failures=3))
    assert found.changes == ()
    assert [*map(str, found.left_out)] == [
        "a-openvino, 1 user: limited by the generator (its thread was busy for more than 90% of the time) in the first"
        " run, 3 of 1000 calls failed in the second run"
    ]
    assert found.exit_code == 2


def test_what_is_in_one_run_only_is_named(compare: Compare) -> None:
    before = made_run({"a-openvino": CALM, "b-openvino": CALM})
    after = made_run({"c-openvino": CALM, "a-openvino": CALM})
    found = compare(before, after)
    assert [*map(str, found.left_out[:2])] == [
        "b-openvino, 1 user: only in the first run",
        "c-openvino, 1 user: only in the second run",
    ]
    assert {each.variant for each in found.changes} == {"a-openvino"}


def test_another_machine_other_versions_and_another_plan_are_named(compare: Compare) -> None:
    before, (after, samples) = with_stretches(run(), 0.030), with_stretches(run(), 0.045)
    cells = tuple(replace(each, facts=replace(each.facts, artifact_bytes=2000)) for each in after.cells)
    machine = replace(after.machine, cores=4, libraries={"locust": "2.48"}, load_average=(9.0, 9.0, 9.0))
    plan = replace(after.plan, out=Path("runs/y"), rows=2)
    changed = replace(after, machine=machine, plan=plan, server="other 1.0", way_in="ModelInfer by grpcio", cells=cells)
    assert compare(before, (changed, samples)).differences == (
        "server: pareto-serve 0.1.0 in the first run, other 1.0 in the second",
        "way in: not known in the first run, ModelInfer by grpcio in the second",
        "machine: cores: 2 in the first run, 4 in the second",
        "version of locust: 2.47 in the first run, 2.48 in the second",
        "plan: rows: 1 in the first run, 2 in the second",
        "a-openvino: artifact_bytes: 1000 in the first run, 2000 in the second",
        "the CPU-speed check, the same piece of work, took 1.50 times as long in the second run: the machine itself"
        " was not the same, and differences of up to 1.50 times prove nothing",
    )


def test_runs_without_a_common_cell_are_refused(compare: Compare) -> None:
    with pytest.raises(UsageError, match="have no variant under the same load in common"):
        compare(made_run({"a-openvino": CALM}), made_run({"b-openvino": CALM}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("{", "Expecting property name"),
        ("[]", "got schema None, expected 4"),
        ('{"schema": 4, "server": "", "inputs": "golden"}', "'started' is missing"),
    ],
)
def test_a_folder_that_is_no_run_is_one_line(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        compare_runs(tmp_path, tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04", b"text"])
def test_a_run_whose_samples_cannot_be_read_is_one_line(content: bytes | None, tmp_path: Path) -> None:
    folder = save(run(), tmp_path / "a")
    (folder / "samples.npz").unlink()
    if content is not None:
        (folder / "samples.npz").write_bytes(content)
    with pytest.raises(UsageError, match=r"samples\.npz"):
        compare_runs(folder, folder)


def test_samples_of_another_run_are_refused(tmp_path: Path) -> None:
    folder, other = save(run(), tmp_path / "a"), save(made_run({"b-openvino": CALM}), tmp_path / "b")
    (other / "samples.npz").replace(folder / "samples.npz")
    with pytest.raises(UsageError, match="got no calls of a-openvino"):
        compare_runs(folder, folder)


@pytest.fixture
def program(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the program; returns its exit code and what it printed."""

    def ended(*arguments: object) -> tuple[int, str, str]:
        code = main(["compare", *map(str, arguments)])
        return code, *capsys.readouterr()

    return ended


def test_the_program_ends_with_1_where_a_variant_got_slower_and_writes_what_ci_reads(
    program: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    before, after = save(run(CALM), tmp_path / "a"), save(run(2 * AGAIN), tmp_path / "b")
    files = tmp_path / "c.md", tmp_path / "c.xml"
    code, out, err = program(before, after, "--tolerance", "5%", "--markdown", files[0], "--junit", files[1])
    assert (code, err) == (1, "")
    assert out.splitlines()[-2:] == [
        "3 of 3 figures got slower by more than 5.0% beyond doubt: 3 slower",
        f"Report: {files[0]}",
    ]
    assert files[0].read_text().startswith("**3 of 3 figures got slower by more than 5.0% beyond doubt: 3 slower**")
    assert 'failures="3"' in files[1].read_text()


def test_json_is_alone_on_standard_output(program: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    before, after = save(run(CALM), tmp_path / "a"), save(run(2 * AGAIN), tmp_path / "b")
    code, out, err = program(before, after, "--json")
    assert (code, json.loads(out)["slower"]) == (1, 3)
    assert "3 of 3 figures got slower beyond doubt: 3 slower\n" in err


def test_a_folder_that_is_not_there_ends_the_program_with_2(
    program: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, out, err = program(tmp_path / "a", tmp_path / "b")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"pareto-loadtest: '{tmp_path / 'a' / 'results.json'}': ")


def test_a_summary_that_cannot_be_written_ends_the_program_with_2(
    program: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    folder = save(run(), tmp_path / "a")
    code, out, err = program(folder, folder, "--markdown", tmp_path / "absent" / "c.md")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("pareto-loadtest: --markdown: ")
