"""How long the measurements of a build may take: each gets its share of the time that is left."""

import time

from compressors.measure.latency import SECONDS
from compressors.progress import minutes

EVALUATION_SECONDS = 120.0
"""For the accuracy of one variant, where nobody says otherwise."""


class Budget:
    """The time of one build, which begins now. Training and export take what they take, measuring gets the rest."""

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds
        self._evaluating: float | None = None

    def evaluation(self, variants: int) -> float:
        """Returns the seconds for the accuracy of the next of `variants`: half of what is left is for all of them."""
        self._evaluating = self._evaluating or time.monotonic()
        return EVALUATION_SECONDS if self._end is None else self._left(self._end) / 2 / variants

    def timing(self, variants: int) -> float:
        """Returns the seconds that each of `variants` has for its latency, and again for its throughput."""
        return SECONDS if self._end is None else self._left(self._end) / 2 / variants

    def remaining(self, done: int, variants: int) -> str:
        """Says how long it may last yet where `done` of `variants` are evaluated, as fast as these were."""
        now = time.monotonic()
        evaluating = (now - (self._evaluating or now)) / done * (variants - done)
        return f"about {minutes(evaluating + 2 * self.timing(variants) * variants)} left at most"

    def _left(self, end: float) -> float:
        return max(0.0, end - time.monotonic())
