"""Which answers a variant changed, for the report: how many each way, in which classes, and the images.

A metric says how much two variants get right; flips say whether it is the same. What a flip is and how it is drawn is
the task's.
"""

import base64
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.analysis.results import Results
from loadtest.measure.accuracy import Accuracy
from loadtest.tasks.table import METRICS, TASKS, AnyFlip, title
from loadtest.tasks.task import Flip, Kind, Task
from protos.errors import ParetoServeError
from protos.manifest import TaskName
from protos.repository import load_evaluation_set, scan_model
from protos.support.significance import Interval
from protos.tasks.task import Array

MOST_IMAGES = 60
"""The most images shown of one variant."""
MOST_BYTES = 4_000_000
"""The most bytes of all images together, as they stand in the page."""
_ORDER: tuple[Kind, ...] = ("lost", "gained", "other")


@dataclass(frozen=True)
class ClassFlips:
    """The flips of one label."""

    label: int
    lost: int
    gained: int
    other: int
    """Wrong either way."""


@dataclass(frozen=True)
class Flips:
    """The flips of one variant, and how it was judged."""

    accuracy: Accuracy
    classes: tuple[ClassFlips, ...]
    """Classes with flips, the most changed first."""
    shown: tuple[AnyFlip, ...]
    """Flips whose images are in the page: lost ones first, then gained ones."""

    @property
    def counts(self) -> dict[str, int]:
        """Returns how many flips there are of each kind, by what people call it."""
        kinds = Counter(flip.kind for flip in self.accuracy.flips)
        return {words: kinds[kind] for kind, words in TASKS[METRICS[self.accuracy.metric]].kinds.items()}

    @property
    def intervals(self) -> tuple[Interval | None, Interval | None]:
        """Returns those of the metric and of how far it is below FP32's."""
        return self.accuracy.interval, self.accuracy.drop_interval

    @property
    def more(self) -> int:
        """Flips whose images are not in the page."""
        return len(self.accuracy.flips) - len(self.shown)


@dataclass(frozen=True)
class Gallery:
    """The flips of all variants that were checked, and the images to show of them, each once."""

    flips: tuple[Flips, ...]
    images: dict[str, str]
    """Data URI by the picture's name."""
    labels: tuple[str, ...]
    """Names of the classes; empty where they are not known."""
    task: Task
    """What the variants do."""
    metric: str
    """What people call its metric."""

    def name(self, label: int) -> str:
        """Returns what people call a class."""
        return self.labels[label] if label < len(self.labels) else f"class {label}"

    def caption(self, flip: Flip) -> tuple[str, str]:
        """Returns what is said under a picture, the second part in italics."""
        return self.task.caption(flip, self.name)


def gallery(results: Results, most_images: int = MOST_IMAGES, most_bytes: int = MOST_BYTES) -> Gallery:
    """Returns what the report shows of `results.accuracy`; without images where the repository no longer has them."""
    checked, pictures = results.accuracy, dict[str, str]()
    name = METRICS[checked[0].metric] if checked else "classification"
    task, plan = TASKS[name], results.plan
    images, labels = _test_split(plan.repository, plan.model, name) if checked else (None, ())
    flips = []
    for each in checked:
        shown = list[AnyFlip]()
        for flip in sorted(each.flips, key=lambda flip: _ORDER.index(flip.kind))[:most_images]:
            full = flip.picture not in pictures and sum(map(len, pictures.values())) > most_bytes
            if images is None or full:
                break
            if flip.picture not in pictures:
                pictures[flip.picture] = _data_uri(task, flip, images[flip.index])
            shown.append(flip)
        flips.append(Flips(each, _classes(each.flips), tuple(shown)))
    return Gallery(tuple(flips), pictures, labels, task, title([each.metric for each in checked]))


def _test_split(repository: Path, model: str, task: TaskName) -> tuple[Array | None, tuple[str, ...]]:
    """Returns the images of the test split and the names of its classes, as far as the repository has them."""
    try:
        entries = scan_model(repository, model)
        labels = next((entry.variant.labels for entry in entries if entry.variant), ())
        return load_evaluation_set(repository, model, task).images, labels
    except (OSError, ParetoServeError):
        return None, ()


def _classes(flips: Sequence[Flip]) -> tuple[ClassFlips, ...]:
    kinds, labels = Counter((flip.label, flip.kind) for flip in flips), Counter(flip.label for flip in flips)
    return tuple(ClassFlips(label, *(kinds[label, kind] for kind in _ORDER)) for label, _ in labels.most_common())


def _data_uri(task: Task, flip: Flip, image: Array | bytes) -> str:
    """Returns the picture of a flip: a file as a JPEG, since photographs are small so, pixels to the pixel."""
    drawn, kind = task.draw(flip, image), "jpeg" if isinstance(image, bytes) else "png"
    drawn.thumbnail((task.side, task.side))
    drawn.save(file := io.BytesIO(), kind, optimize=True)
    return f"data:image/{kind};base64," + base64.b64encode(file.getvalue()).decode()
