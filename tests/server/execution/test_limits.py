"""Batch limits as they are written, and which of them holds for a variant."""

import pytest

from protos.errors import UsageError
from server.execution.batcher import BatchLimit
from server.execution.limits import make_limits


@pytest.mark.parametrize(
    ("model", "variant", "limit"),
    [
        ("toy", "int8-openvino", BatchLimit(2, 0.5)),
        ("toy", "fp32-openvino", BatchLimit(8, 0.001)),
        ("other", "int8-openvino", BatchLimit(4, 0.0)),
        ("third", "int8-openvino", BatchLimit(16, 0.001)),
    ],
)
def test_the_closest_limit_holds(model: str, variant: str, limit: BatchLimit) -> None:
    limits = make_limits(16, 0.001, ("toy=8", "toy/int8-openvino=2:0.5", "other=4:0"))
    assert limits.of(model, variant) == limit


@pytest.mark.parametrize("text", ["toy", "toy=", "toy=0", "toy=-1", "=4", "toy=4:", "toy=4:x", "toy=4:-1", "toy=4,5"])
def test_a_limit_of_another_form_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match=r"--batch: '.*' came, expected MODEL=ROWS"):
        make_limits(16, 0.0, (text,))
