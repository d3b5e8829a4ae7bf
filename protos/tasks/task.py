"""What all programs must agree on of one kind of task; `protos.tasks.table` has the tasks.

Answers, and what is true of the images, are arrays by name, in a form of the task's own that only its modules look
into: everything else stores them, takes some of them and hands them on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from protos.manifest import Decoding, Preprocessing, TensorSpec, Variant
from protos.support.significance import Interval

Array = NDArray[Any]
Arrays = Mapping[str, Array]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Comparison:
    """How the answers of a variant differ from those of the reference."""

    lost: int
    """What only the reference gets right."""
    gained: int
    """What only the variant gets right."""
    agreement: float
    """Share, from 0 to 1, of what was predicted that both predict."""
    interval: Interval | None
    """The 95% interval of the variant's metric; None where nothing was judged."""
    drop_interval: Interval | None
    """The 95% interval of how far that is below the reference's."""


class Task(Protocol):
    """One kind of task: what a model's outputs are, how answers are judged and compared."""

    metric: str
    """The one metric that decides, as manifests and metrics name it."""
    title: str
    """What people call it."""
    unit: str
    """What is lost or gained."""

    def outputs(self, variant: Variant) -> tuple[TensorSpec, ...]:
        """Returns all outputs that a server can give of the variant; those that it gives unasked come first."""

    def unasked(self, variant: Variant) -> tuple[TensorSpec, ...]:
        """Returns the outputs that a request gets which names none."""

    def answers(
        self, outputs: Arrays, images: Array, preprocessing: Preprocessing, decoding: Decoding | None
    ) -> dict[str, Array]:
        """Returns the answers that a network's outputs (N, ...) for `images`, as they were sent, are."""

    def images(self, answers: Arrays) -> int:
        """Returns how many images were answered."""

    def take(self, arrays: Arrays, rows: Rows) -> dict[str, Array]:
        """Returns the answers, or the truth, of the images at `rows`."""

    def check(self, truth: Arrays, reference: Arrays, images: int) -> None:
        """Raises `ValueError` where these are not the truth and the reference's answers of so many images."""

    def scores(self, answers: Arrays, truth: Arrays) -> dict[str, float]:
        """Returns the metrics by name, from 0 to 1, the deciding one first."""

    def compare(self, answers: Arrays, reference: Arrays, truth: Arrays) -> Comparison:
        """Compares answers with those of the reference."""

    def golden_error(self, outputs: Arrays, expected: Arrays) -> float:
        """Returns how far outputs are from the expected ones; not finite where either is not."""
