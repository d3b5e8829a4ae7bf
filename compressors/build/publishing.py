"""From built variants to the repository: what a server and a load test find there."""

from collections.abc import Iterable
from pathlib import Path

from compressors.data.datasets import Split
from compressors.measure.evaluate import Predictions
from compressors.progress import say
from compressors.study import REFERENCE
from protos import repository
from protos.errors import VariantError
from protos.manifest import Variant
from protos.repository import Entry, EvaluationSet

TEST_SPLIT_BYTES = 256 * 2**20
"""What the pixels of a test split may take that is kept in the repository."""


def publish(root: Path, pairs: Iterable[tuple[Variant, Path]]) -> None:
    """Publishes each variant with its artifact, unless the repository holds it already."""
    known = {(entry.model, entry.name): entry for entry in repository.scan(root)}
    for variant, artifact in pairs:
        if not _holds(known.get((variant.model, variant.variant)), variant):
            repository.publish(root, variant, artifact)
            say(f"{variant.variant}: published")


def save_test_split(root: Path, model: str, test: Split, fp32: Predictions, most: int = TEST_SPLIT_BYTES) -> None:
    """Puts the test split beside the variants, for whoever counts a server's answers to it; not if it is too large."""
    if test.images.nbytes > most:
        (root / model / repository.TEST).unlink(missing_ok=True)
        size, limit = (f"{count / 2**20:.0f} MB" for count in (test.images.nbytes, most))
        say(f"{repository.TEST}: left out, its images take {size}, {limit} at most are kept beside the variants")
        return
    repository.save_evaluation_set(root, model, EvaluationSet(test.pixels, test.labels, fp32))


def choose_default(root: Path, model: str, variants: Iterable[Variant]) -> None:
    """Makes an FP32 variant the default if the present default is not in the repository."""
    known = {entry.name for entry in repository.scan(root) if entry.model == model}
    first = next((v.variant for v in variants if v.recipe.name == REFERENCE), None)
    if repository.default_variant(root, model) not in known and first:
        repository.promote(root, model, first)


def _holds(entry: Entry | None, variant: Variant) -> bool:
    """Whether a folder of the repository is this variant, undamaged."""
    try:
        return entry is not None and repository.verify(entry) == variant
    except VariantError:
        return False
