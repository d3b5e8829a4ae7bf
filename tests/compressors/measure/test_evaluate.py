"""Accuracy on all images, or on the part that there was time for."""

import numpy as np

from compressors.export.exporters import INPUT, OUTPUT
from compressors.measure import evaluate
from protos.repository import drawn
from server.runtimes import Array


class Echo:
    """Answers each row with its only value."""

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        return {OUTPUT: inputs[INPUT].copy()}

    def close(self) -> None: ...


ROWS = np.arange(250, dtype=np.float32)[:, None]


def test_all_rows_are_answered_in_their_order() -> None:
    rows, outputs = evaluate.predict(Echo(), ROWS)
    assert rows.tolist() == list(range(250))
    np.testing.assert_array_equal(outputs, ROWS)


def test_without_time_one_batch_is_answered_that_was_drawn_from_all() -> None:
    rows, outputs = evaluate.predict(Echo(), ROWS, seconds=0.0)
    assert rows.tolist() == sorted(drawn(250)[: evaluate.BATCH])
    np.testing.assert_array_equal(outputs[:, 0], rows)
