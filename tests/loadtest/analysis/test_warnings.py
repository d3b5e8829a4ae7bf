"""The warnings of a run, word by word."""

from dataclasses import replace

from loadtest.analysis.warnings import make_warnings
from loadtest.client.failures import Failure
from tests.support.loadtest.cells import NO_SERVER, cell


def test_warnings_name_what_was_skipped_failed_limited_and_too_short() -> None:
    cells = [cell("a-x", failures=2), cell("b-x", generator_limit="thread", users=8), cell("c-x", p99=None)]
    assert make_warnings(cells, {"d-x": "not ready"}, ["no page"]) == (
        "d-x was not measured: not ready",
        "no page",
        "a-x, 1 user: 2 of 1000 calls failed (2 UNAVAILABLE)",
        "b-x, 8 users: the load generator's thread used 97% of a core and may have been the limit: the cell is on no"
        " frontier",
        "too few samples for p99: c-x at 1 user (120)",
    )


def test_the_cells_without_a_percentile_are_listed_in_one_sentence() -> None:
    cells = [cell("a-x", None), cell("b-x"), cell("a-x", None, users=8)]
    assert make_warnings(cells, {}) == ("too few samples for p99: a-x at 1 user (120), a-x at 8 users (120)",)


def test_calls_that_failed_come_with_what_was_said_most_often() -> None:
    said = (Failure("UNAVAILABLE", "gone fishing", 2),)
    (warning,) = make_warnings([replace(cell("a-x", failures=2), failure_texts=said)], {})
    assert warning == "a-x, 1 user: 2 of 1000 calls failed (2 UNAVAILABLE), most often: gone fishing"


def test_a_server_that_counted_other_calls_than_were_sent_is_warned_of() -> None:
    counted = replace(NO_SERVER, requests=1001)
    (warning,) = make_warnings([cell("a-x", server=counted)], {})
    assert warning.startswith("a-x, 1 user: 1000 calls were sent but the server counted 1001")
    assert make_warnings([cell("a-x", server=replace(NO_SERVER, requests=1000))], {}) == ()


def test_generator_and_server_that_filled_their_one_machine_are_warned_of_in_one_sentence() -> None:
    cells = [cell("a-x", cores_used=1.9), cell("b-x", cores_used=2.0), cell("c-x", cores_used=1.89), cell("d-x")]
    assert make_warnings(cells, {}, cores=2) == (
        "in 2 of 4 cells the load generator and the server used at least 95% of this machine's 2 cores:"
        " they competed, and the server alone may be faster",
    )


def test_a_machine_with_cores_to_spare_or_two_machines_are_not_warned_of() -> None:
    assert make_warnings([cell("a-x", cores_used=1.89)], {}, cores=2) == ()
    assert make_warnings([cell("a-x", cores_used=2.0)], {}, cores=None) == ()
