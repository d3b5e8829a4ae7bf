"""From built variants to the repository: what a server and a load test find there."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compressors.data.datasets import Dataset
from compressors.progress import say
from compressors.study import REFERENCE
from protos import repository
from protos.errors import VariantError
from protos.manifest import Variant
from protos.repository import Entry, EvaluationSet, GoldenSet
from protos.tasks.task import Arrays

TEST_SPLIT_BYTES = 256 * 2**20
"""What the pixels of a test split may take that is kept in the repository."""


def publish(root: Path, model: str, built: Sequence[tuple[Variant, Path, GoldenSet | None]]) -> None:
    """Publishes each variant of a model with its artifact and own golden set, unless the repository holds it already.

    Where the repository lacks the model's default variant, one of the reference becomes the default: FP32, or a graph
    that was int8 when it came.
    """
    known = {entry.name: entry for entry in repository.scan_model(root, model)}
    for variant, artifact, golden in built:
        if not _holds(known.get(variant.variant), variant):
            repository.publish(root, variant, artifact, golden)
            say(f"{variant.variant}: published")
    names = known.keys() | {variant.variant for variant, *_ in built}
    first = next((v.variant for v, *_ in built if _is_reference(v)), None)
    if first and repository.default_variant(root, model) not in names:
        repository.promote(root, model, first)


def save_test_split(root: Path, model: str, data: Dataset, fp32: Arrays, most: int = TEST_SPLIT_BYTES) -> None:
    """Puts the test split beside the variants, for whoever checks a server's answers; not if it is too large."""
    images = data.test.as_sent()
    size = sum(map(len, images)) if images.dtype == np.object_ else images.nbytes
    if size > most:
        (root / model / repository.TEST).unlink(missing_ok=True)
        got, limit = (f"{count / 2**20:.0f} MB" for count in (size, most))
        say(f"{repository.TEST}: left out, its images take {got}, {limit} at most are kept beside the variants")
        return
    repository.save_evaluation_set(root, model, EvaluationSet(data.task, images, data.test.truth, fp32))


def _is_reference(variant: Variant) -> bool:
    given_int8 = variant.precision == "int8" and len(variant.recipe.steps) == 1
    return variant.recipe.name == REFERENCE or given_int8


def _holds(entry: Entry | None, variant: Variant) -> bool:
    """Returns whether a folder of the repository is this variant, undamaged."""
    try:
        return entry is not None and repository.verify(entry) == variant
    except VariantError:
        return False
