"""Proposals: within the latency, the widest of each depth, and few of the ladder measured."""

import pytest

from compressors.shrink.proposals import Proposal, within
from protos.errors import UsageError

LADDER = [[f"shallow{width}" for width in range(1, 10)], [f"deep{width}" for width in range(1, 10)]]


def p50_ms(network: str) -> float:
    """Ten microseconds for each channel of a shallow network, twenty for each of a deep one."""
    return int(network[-1]) * (0.02 if "deep" in network else 0.01)


@pytest.mark.parametrize(
    ("most_ms", "expected"),
    [
        (0.045, [Proposal("shallow4", 0.04), Proposal("deep2", 0.04)]),
        (0.06, [Proposal("shallow6", 0.06), Proposal("deep3", 0.06)]),  # a latency that is just kept is kept
        (0.01, [Proposal("shallow1", 0.01)]),
        (9.0, [Proposal("shallow9", 0.09), Proposal("deep9", 0.18)]),
    ],
)
def test_the_widest_of_each_depth_that_is_within_the_latency(most_ms: float, expected: list[Proposal]) -> None:
    assert within(LADDER, most_ms, p50_ms) == expected


def test_few_networks_are_measured_and_none_twice() -> None:
    measured: list[str] = []

    def noting(network: str) -> float:
        measured.append(network)
        return p50_ms(network)

    within(LADDER, 0.045, noting)
    assert len(measured) == len(set(measured)) <= 8


def test_a_latency_that_no_network_has_is_refused_with_the_fastest() -> None:
    with pytest.raises(UsageError, match=r"within 0\.005 ms: the smallest, shallow1, takes 0\.010 ms here"):
        within(LADDER, 0.005, p50_ms)
