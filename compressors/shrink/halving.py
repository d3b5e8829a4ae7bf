"""Successive halving (Jamieson and Talwalkar 2016, https://arxiv.org/abs/1502.07943): many candidates are trained
shortly, the best third of them longer, and so on; the last one has the other half of the time for itself.

What a rung shares equally is time, not epochs: a candidate that a slow teacher guides must be worth what that takes.
Each rung trains anew, since the schedule of its learning rate has another length; the last training is the product.
All of it follows from the candidates and from what their trainings reported, so that a search which is begun again
does the same as long as those are kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from protos.errors import UsageError

KEPT = 3
"""One candidate in so many goes on to the next rung."""
FINAL = 0.5
"""Share of the time for the product."""
MOST_EPOCHS, LEAST_EPOCHS = 150, 2
"""Epochs of the product at most; of a training, where there is a choice of candidates, at least."""


@dataclass(frozen=True)
class Candidate:
    """A student that may be trained, and how long one epoch of that takes."""

    network: str
    distilled: bool
    """Whether the user's own network teaches it."""
    epoch_seconds: float

    @property
    def title(self) -> str:
        """Returns what a person reads of it."""
        return f"{self.network}, distilled" if self.distilled else self.network


@dataclass(frozen=True)
class Outcome:
    """What a training reported: accuracy from 0 to 1 on images that were kept from it, and its seconds."""

    accuracy: float
    seconds: float


@dataclass(frozen=True)
class Product:
    """The candidate that came first, and the epochs that are left for it."""

    candidate: Candidate
    epochs: int


Train = Callable[[Candidate, int], Outcome]
"""Trains a candidate for so many epochs."""


def sizes(candidates: int) -> list[int]:
    """Returns how many candidates each rung trains; the last of them, of one, is the product's."""
    found = [candidates]
    while found[-1] > 1:
        found.append(max(1, found[-1] // KEPT))
    return found


def affordable(candidates: Sequence[Candidate], seconds: float) -> list[Candidate]:
    """Returns the candidates that `seconds` are enough for, `LEAST_EPOCHS` of each in the first rung.

    Those whose epochs take longest are left out first. Raises `UsageError` where no candidate can be trained.
    """
    left = list(candidates)
    while len(left) > 1 and any(_share(seconds, left) < LEAST_EPOCHS * c.epoch_seconds for c in left):
        left.remove(max(left, key=lambda c: c.epoch_seconds))
    if len(left) == 1 and seconds < LEAST_EPOCHS * left[0].epoch_seconds:
        raise UsageError(
            f"--budget: {max(0.0, seconds):.0f} s are left for training, expected {LEAST_EPOCHS} epochs of"
            f" {left[0].epoch_seconds:.0f} s or more, as {left[0].title} takes them here"
        )
    return left


def halve(candidates: Sequence[Candidate], seconds: float, train: Train, longer: float = 1.0) -> Product:
    """Returns the candidate that is left after all rungs but the last, and how long to train it.

    `seconds` are for all trainings, the product's among them, whose epochs take `longer` times as long as those of the
    rungs: it has more images. Of equally accurate candidates the first goes on.
    """
    left, spent = list(candidates), 0.0
    rungs = len(sizes(len(left))) - 1
    for rung in range(rungs):
        share = max(0.0, (1 - FINAL) * seconds - spent) / (rungs - rung) / len(left)
        most = round(MOST_EPOCHS * (1 - FINAL) / FINAL / rungs / len(left))
        trained = [(c, epochs := _epochs(c, share, most), train(c, epochs)) for c in left]
        spent += sum(outcome.seconds for *_, outcome in trained)
        trained.sort(key=lambda one: -one[2].accuracy)
        # From here on an epoch takes what it took.
        left = [replace(c, epoch_seconds=o.seconds / epochs) for c, epochs, o in trained[: max(1, len(left) // KEPT)]]
    (best,) = left
    return Product(best, _epochs(best, (seconds - spent) / longer, MOST_EPOCHS))


def _share(seconds: float, candidates: Sequence[Candidate]) -> float:
    """Returns the seconds of each candidate in the first rung."""
    return (1 - FINAL) * seconds / (len(sizes(len(candidates))) - 1) / len(candidates)


def _epochs(candidate: Candidate, seconds: float, most: int) -> int:
    return max(1, min(most, int(seconds / candidate.epoch_seconds)))
