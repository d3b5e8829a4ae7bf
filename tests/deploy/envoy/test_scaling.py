"""The formula of Kubernetes' autoscaler, as `make scaling` has it, on made-up metrics."""

from copy import deepcopy
from typing import Any

import pytest

from tests.deploy.envoy.scaling import Autoscaler

SPEC: dict[str, Any] = {
    "minReplicas": 2,
    "maxReplicas": 10,
    "metrics": [{"pods": {"target": {"averageValue": "4"}}}],
    "behavior": {
        "scaleUp": {"policies": [{"type": "Percent", "value": 100, "periodSeconds": 30}]},
        "scaleDown": {
            "stabilizationWindowSeconds": 300,
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
        },
    },
}


@pytest.fixture
def scaler() -> Autoscaler:
    return Autoscaler(deepcopy(SPEC))


@pytest.mark.parametrize(
    ("current", "mean", "wanted"),
    [
        (2, 4.0, 2),
        (2, 4.3, 2),  # within a tenth of the target
        (2, 4.5, 3),  # 2 x 4.5 / 4, rounded up
        (4, 6.0, 6),
        (4, 100.0, 8),  # no more than twice as many at once
        (8, 100.0, 10),
        (2, 0.0, 2),
    ],
)
def test_the_replicas_are_those_that_would_bring_the_mean_to_the_target(
    scaler: Autoscaler, current: int, mean: float, wanted: int
) -> None:
    assert scaler.replicas(0, current, mean) == wanted


def test_more_come_once_in_a_period(scaler: Autoscaler) -> None:
    assert [scaler.replicas(at, now, 9.0) for at, now in ((0, 2), (10, 4), (29, 4), (31, 4))] == [4, 4, 4, 8]


def test_one_goes_in_a_period_and_not_before_all_of_the_window_wanted_fewer(scaler: Autoscaler) -> None:
    assert scaler.replicas(0, 4, 8.0) == 8
    assert [scaler.replicas(at, 8, 0.0) for at in (100, 299)] == [8, 8]
    assert [scaler.replicas(at, now, 0.0) for at, now in ((301, 8), (310, 7), (362, 7))] == [7, 7, 6]
