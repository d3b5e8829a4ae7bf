"""Where the time goes, of made-up cells whose calls all take the same time."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from loadtest.analysis.breakdown import Breakdown, break_down, summary
from loadtest.analysis.results import ServerSide
from loadtest.measure.measurement import Ceiling
from loadtest.users.recorder import SAMPLE, STEADY, Samples
from protos.telemetry import Stage
from tests.support.loadtest.cells import NO_SERVER, cell, closed

CEILING = Ceiling(closed(1), rps=2000.0, p50_ms=0.5, us_per_request=150.0)


def side(compute: float, queue: float, handler: float | None) -> ServerSide:
    return ServerSide(100, queue, compute, 900.0, handler)


def calls(latency: float, late: float = 0.0) -> Samples:
    """Ten calls of `v-x` that took so many milliseconds."""
    rows = [(0, 0, 1, STEADY, 0, i, late / 1e3, latency / 1e3) for i in range(10)]
    return Samples(np.array(rows, SAMPLE), ("v-x",), (closed(1).key,))


def parts(server: ServerSide, latency: float, ceiling: Ceiling | None = CEILING, late: float = 0.0) -> dict[str, float]:
    found = break_down(cell("v-x", server=server), calls(latency, late), ceiling)
    assert found
    assert found.total == pytest.approx(latency)
    return {part: pytest.approx(ms) for part, ms in found.parts.items()}


def test_all_parts_add_up_to_what_the_client_waited() -> None:
    expected = {"compute": 2.0, "queue": 0.3, "processing": 0.2, "wire": 0.5, "remains": 0.4, "sent late": 0.1}
    assert parts(side(2.0, 0.3, 2.5), 3.5, late=0.1) == expected


def test_the_wire_never_takes_more_than_is_left() -> None:
    assert parts(side(2.0, 0.3, 2.5), 2.8) == {
        "compute": 2.0, "queue": 0.3, "processing": 0.2, "wire": 0.3, "remains": 0.0,
    }  # fmt: skip


def test_a_handler_that_took_less_than_its_parts_hides_nothing() -> None:
    assert parts(side(2.0, 0.3, 2.2), 3.0) == {
        "compute": 2.0, "queue": 0.3, "processing": 0.0, "wire": 0.5, "remains": 0.2,
    }  # fmt: skip


def test_a_server_that_tells_its_stages_has_them_in_the_place_of_its_handler() -> None:
    stages: dict[Stage, float] = {"receive": 0.05, "decode": 0.02, "respond": 0.1, "encode": 0.08}
    server = replace(side(2.0, 0.3, 2.5), stage_ms_mean=stages)
    assert parts(server, 3.25) == {"compute": 2.0, "queue": 0.3, **stages, "wire": 0.5, "remains": 0.2}
    assert parts(server, 3.25, ceiling=None) == {"compute": 2.0, "queue": 0.3, **stages, "not split": 0.7}


@pytest.mark.parametrize(
    ("server", "ceiling", "expected"),
    [
        (NO_SERVER, CEILING, {"not split": 3.0}),
        (side(2.0, 0.3, None), CEILING, {"compute": 2.0, "queue": 0.3, "not split": 0.7}),
        (side(2.0, 0.3, 2.5), None, {"compute": 2.0, "queue": 0.3, "processing": 0.2, "not split": 0.5}),
    ],
)
def test_what_was_not_measured_stays_unknown(
    server: ServerSide, ceiling: Ceiling | None, expected: dict[str, float]
) -> None:
    assert parts(server, 3.0, ceiling) == expected


def test_a_cell_without_an_answer_has_no_breakdown() -> None:
    nothing = Samples(np.zeros(0, SAMPLE), ("v-x",), (closed(1).key,))
    assert break_down(cell("v-x"), nothing, CEILING) is None


def split(variant: str, compute: float, total: float, limited: bool = False) -> Breakdown:
    made = cell(variant, server=side(compute, 0.0, compute), generator_limit="thread" if limited else None)
    return Breakdown(made, total, {"compute": compute, "queue": 0.0, "remains": total - compute})


def test_the_summary_compares_the_fastest_with_fp32() -> None:
    cells = split("fp32-pytorch", 4.0, 5.0), split("int8-openvino", 1.0, 2.0), split("int8-x", 0.5, 1.0, True)
    assert summary(cells) == (
        "int8-openvino answers in 2.00 ms on average, fp32-pytorch in 5.00. In the engine it takes 1.00 ms instead of"
        " 4.00, in the queue 0.00 instead of 0.00. The engine is 4.0 times faster, an answer 2.5 times. The"
        " overhead outside engine and queue is 1.00 ms, 50% of it: no faster engine shortens that."
    )


@pytest.mark.parametrize("breakdowns", [(), (split("int8-openvino", 1.0, 2.0),)])
def test_without_fp32_there_is_no_summary(breakdowns: Sequence[Breakdown]) -> None:
    assert summary(breakdowns) == ""
