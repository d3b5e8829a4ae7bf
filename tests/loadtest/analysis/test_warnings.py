"""The warnings of a run, word by word: one for each cause, with all measurements that it affects."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from loadtest.analysis.grouped_warning import Affected
from loadtest.analysis.results import Cell, Stretch
from loadtest.analysis.warnings import make_warnings
from loadtest.client.failures import Failure
from loadtest.measure.accuracy import Accuracy
from loadtest.measure.host import Conditions
from tests.support.loadtest.cells import NO_SERVER, cell, closed


def said(cells: Sequence[Cell], skipped: dict[str, str] | None = None, **more: Any) -> list[str]:
    return [each.line for each in make_warnings(cells, skipped or {}, **more)]


def test_warnings_name_what_was_skipped_failed_limited_and_too_short() -> None:
    cells = [cell("a-x", failures=2), cell("b-x", generator_limit="thread", users=8), cell("c-x", p99=None)]
    assert said(cells, {"d-x": "not ready"}, no_figures={"localhost:1": "no page"}, no_objects={"a-x": "gone"}) == [
        "No measurement for 1 of 4 variants (d-x, not ready): see why the server does not have it ready",
        "Calls failed in 1 of 3 measurements (a-x at 1 user, 2 of 1000: 2 UNAVAILABLE): see What failed in the report,"
        " and the server's log",
        "The load generator may have been the limit in 1 of 3 measurements (b-x at 8 users, its thread used 97% of a"
        " core): put the load generator on a machine of its own, or ask for less load",
        "Too few samples for p99 in 1 of 3 measurements (c-x at 1 user, 120 of 299): raise --duration",
        "No latency by objects for 1 of 4 variants (a-x, gone): see the server's log",
        "No server-side figures for 1 of 1 server (localhost:1, no page): say with --metrics-url where its metrics page"
        " is",
    ]


def test_one_cause_is_one_warning_with_all_that_it_affects_the_worst_first() -> None:
    few = [replace(cell(name, None, users=users), samples=samples) for name, users, samples in FEW]
    (warning,) = make_warnings([*few, cell("c-x")], {})
    assert warning.line == (
        "Too few samples for p99 in 3 of 4 measurements (worst: a-x at 8 users, 20 of 299): raise --duration"
    )
    assert (warning.kind, warning.of) == ("few samples", 4)
    assert [(each.name, each.load, each.value) for each in warning.affected] == [
        ("a-x", "8 users", 20), ("b-x", "1 user", 100), ("a-x", "1 user", 254),
    ]  # fmt: skip


FEW = [("a-x", 1, 254), ("b-x", 1, 100), ("a-x", 8, 20)]


def test_what_else_samples_are_too_few_for_is_said() -> None:
    made = cell("a-x", None)
    made = replace(made, samples=3, latency_ms=replace(made.latency_ms, p50=None, p95=None))
    (warning,) = make_warnings([made], {})
    assert warning.affected[0].text == "3 of 299, and too few for p95 and p50"


def test_calls_that_failed_come_with_what_was_said_most_often() -> None:
    texts = (Failure("UNAVAILABLE", "gone fishing", 2),)
    (warning,) = make_warnings([replace(cell("a-x", failures=2), failure_texts=texts)], {})
    text = "2 of 1000: 2 UNAVAILABLE, most often: gone fishing"
    assert warning.affected == (Affected("a-x", "1 user", 0.002, text),)


def test_a_generator_near_its_ceiling_says_what_it_got_there() -> None:
    (line,) = said([replace(cell("a-x", rps=950.0, generator_limit="ceiling"), ceiling_rps=1000.0)])
    assert "(a-x at 1 user, 950 requests/s, and 1,000 from a server that answers at once)" in line


def test_a_server_that_counted_other_calls_than_were_sent_is_warned_of() -> None:
    counted = replace(NO_SERVER, requests=1001)
    assert said([cell("a-x", server=counted)]) == [
        "The server counted other calls than were sent in 1 of 1 measurement (a-x at 1 user, 1001 and not 1000): stop"
        " its other clients, or see whether --metrics-url is its own page",
    ]
    assert said([cell("a-x", server=replace(NO_SERVER, requests=1000))]) == []


def test_generator_and_server_that_filled_their_one_machine_are_warned_of_in_one_sentence() -> None:
    cells = [cell("a-x", cores_used=1.9), cell("b-x", cores_used=2.0), cell("c-x", cores_used=1.89), cell("d-x")]
    assert said(cells, cores=2) == [
        "Load generator and server competed for the cores of one machine in 2 of 4 measurements (worst: b-x at 1 user,"
        " 2.00 of 2 in use): put the load generator on a machine of its own",
    ]


def test_a_machine_with_cores_to_spare_or_two_machines_are_not_warned_of() -> None:
    assert said([cell("a-x", cores_used=1.89)], cores=2) == []
    assert said([cell("a-x", cores_used=2.0)], cores=None) == []


def test_accuracy_over_the_wire_that_fails_or_differs_is_warned_of() -> None:
    right = Accuracy("a-x", 600, "top1", 0.98, 0.98, (), {}, None)
    wrong = replace(right, variant="b-x", quality=0.74)
    failed = replace(right, variant="c-x", failures={"UNAVAILABLE": 3}, first_failure="gone")
    assert said([], accuracy=(right, wrong, failed)) == [
        "Requests with test images failed for 1 of 3 variants (c-x, 3 UNAVAILABLE: gone): see the server's log",
        "Accuracy over the wire is not that at build for 1 of 3 variants (b-x, top-1 74.00% on 600 images, 98.00% at"
        " build): see whether the server serves this build",
    ]


def stretch(first: int, *, users: int = 1, seconds: float = 5.0, **conditions: float) -> Stretch:
    """Ten rounds from `first` on, on a machine that is idle but for what is given."""
    idle = Conditions(seconds, steal=0.0, throttled_seconds=0.0, load=1.0, own=0.5, others=0.0)
    return Stretch(closed(users), first, first + 9, 0.0, replace(idle, **conditions), 0.03, {})


@pytest.mark.parametrize(
    ("conditions", "line"),
    [
        (
            {"others": 0.5},
            "Other programs used the CPU in 2 of 3 measurements (worst: a-x at 1 user, 50% of it): rerun on an idle"
            " machine",
        ),
        (
            {"steal": 0.25},
            "The host gave this machine's CPU to others in 2 of 3 measurements (worst: a-x at 1 user, 25% of it): rerun"
            " where the CPU is not shared",
        ),
        (
            {"throttled_seconds": 1.0},
            "A CPU quota held the load generator back in 2 of 3 measurements (worst: a-x at 1 user, 0.20 s of each"
            " second): raise the quota of its container",
        ),
    ],
)
def test_a_machine_that_was_not_idle_is_warned_of_in_one_line(conditions: dict[str, float], line: str) -> None:
    cells = [cell("a-x"), cell("b-x"), cell("a-x", users=8)]
    stretches = [stretch(1), stretch(11, **conditions), stretch(1, users=8), stretch(11, users=8)]
    assert said(cells, stretches=stretches) == [line]


def test_the_share_of_other_programs_is_the_mean_over_the_stretches_of_a_measurement() -> None:
    early, late = replace(cell("a-x"), rounds=20), replace(cell("b-x"), rounds=30)
    stretches = [stretch(11, others=0.05), stretch(21, others=0.4, seconds=10.0)]
    (warning,) = make_warnings([early, late], {}, stretches=stretches)
    ((name, value),) = [(each.name, each.value) for each in warning.affected]
    assert (name, value) == ("b-x", pytest.approx((5 * 0.05 + 10 * 0.4) / 15))


def test_the_first_stretch_in_which_the_server_warms_up_and_what_is_not_known_are_not_warned_of() -> None:
    unknown = replace(stretch(11), conditions=Conditions(5.0, None, None, None, None, None))
    assert said([cell("a-x")], stretches=[stretch(1, others=0.9), unknown]) == []
