"""How a student is trained, and the recipes that it is published by.

The settings are what a plain network of 0.1 M parameters learned most with from CIFAR-10 in tens of epochs.
"""

from dataclasses import dataclass, replace

from compressors.data.datasets import Dataset, Form
from compressors.export.exporters import refusal
from compressors.export.lowerings import StaticInt8
from compressors.recipes.recipes import Recipe
from compressors.recipes.steps import Fit, FoldInput, Student
from compressors.study import Study

TRAINED, STUDENT, STUDENT_INT8 = "student-trained", "student", "student-int8"
"""The student as it was trained, which is not published, and the recipes that are: its normalization is folded."""
PUBLISHED = (STUDENT, STUDENT_INT8)
MEASURED = StaticInt8(exclude="measured")
"""int8 but for layers that are slower in it here, in the runtimes that can be asked; in the others all layers are."""
INPUT = Form(mean=(0.0, 0.0, 0.0), std=(0.25, 0.25, 0.25))
"""The normalization that a student learns with: a mean of 0 folds without a map for the border."""

BATCH, SMALL_BATCH, STEPS = 128, 32, 100
"""Images of a step, and of one where the training images are not enough for so many steps."""
PEAK = 0.25
"""Peak of the learning rate for `BATCH`; a smaller batch has a smaller one, in proportion."""
SHIFTS = 8
"""Images are moved by up to one pixel in so many of their shorter side."""
DISTILLATION = 0.7
"""Weight of the teacher's soft labels, where there is one."""


@dataclass(frozen=True)
class Settings:
    """What is found out, of the user's images and of this machine, before any student is trained."""

    flip: bool
    """Whether mirrored images mean the same."""
    compiled: bool
    """Whether a training is faster when it is compiled."""


def fit(data: Dataset, epochs: int, distilled: bool, settings: Settings) -> Fit:
    """Returns how a student of `data` is trained for so many epochs."""
    batch = BATCH if len(data.train) >= BATCH * STEPS else SMALL_BATCH
    return Fit(
        epochs=epochs,
        batch=batch,
        learning_rate=PEAK * batch / BATCH,
        shift=min(data.preprocessing.resize) // SHIFTS,
        flip=settings.flip,
        distillation=DISTILLATION if distilled else 0.0,
        weight_decay=2e-4,
        warm_up=0.15,
        smoothing=0.02,
        decay_biases=False,
        compiled=settings.compiled,
    )


def training(study: Study, network: str, how: Fit, name: str = TRAINED) -> Recipe:
    """Returns the recipe of a student's training; where it is distilled, the user's FP32 is its parent and teacher."""
    step = Student(how, network, input=INPUT)
    return Recipe(name, step, study.reference if how.distillation else None)


def with_student(study: Study, network: str, how: Fit) -> Study:
    """Returns the study of the user's own model with the recipes of a student, in the runtimes of the study."""
    trained = training(study, network, how)
    folded = Recipe(STUDENT, FoldInput(), trained, study.runtimes)
    whole = tuple(runtime for runtime in study.runtimes if refusal(MEASURED, runtime))
    part = tuple(runtime for runtime in study.runtimes if runtime not in whole)
    int8 = (Recipe(STUDENT_INT8, MEASURED, folded, part), Recipe(STUDENT_INT8, StaticInt8(), folded, whole))
    return replace(study, recipes=(*study.recipes, trained, folded, *int8))
