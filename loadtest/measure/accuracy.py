"""Accuracy over the wire: a server classifies the whole test split under load, and its answers are counted.

A variant's top-1 was measured in process. Its clients get answers that went through serialization, a queue and batches
with other clients' rows, and that must be equally right. The inputs are the same to the bit (`protos.preprocessing`),
the rows that share a batch are not: where answers depend on those, as with a range over the whole batch, top-1 can
differ.

Nothing is retried: the images of a failed request have no answer. Works with threads, or with greenlets once
`loadtest.users.users` was imported. Not covered: UINT8 and JPEG payloads, streaming.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadtest.client.credentials import PLAIN, Credentials
from loadtest.client.failures import Failure, Tally, plain
from loadtest.client.oip import WRONG_ANSWER, CallError, Client
from loadtest.client.payloads import Payload
from loadtest.interrupt import Sleep
from protos.errors import IntegrityError, InvalidInputError, UsageError
from protos.manifest import TensorSpec, Variant
from protos.preprocessing import normalise
from protos.repository import TEST, Entry, EvaluationSet, drawn, load_evaluation_set, scan_model
from protos.support.significance import share_equal
from protos.tensors import decode_response, encode_request
from protos.v1 import inference_pb2 as pb

POLL_SECONDS = 0.05
UNANSWERED = -1


@dataclass(frozen=True)
class Check:
    """A variant's manifest and its top-1, and the part of the test split on which that was measured."""

    manifest: Variant
    top1: float
    test: EvaluationSet
    rows: NDArray[np.int64]
    """Where the images of `test` are in the whole split."""


@dataclass(frozen=True)
class Flip:
    """A test image that the variant puts in another class than FP32 PyTorch does, its label and both classes."""

    index: int
    label: int
    fp32: int
    variant: int


@dataclass(frozen=True)
class Accuracy:
    """What the server answered over the wire for the images of the test split."""

    variant: str
    samples: int
    """Images that were answered."""
    top1: float | None
    """Share of the answered images that are right; None where none was answered."""
    manifest_top1: float
    flips: tuple[Flip, ...]
    failures: dict[str, int]
    """Requests that failed, by status."""
    first_failure: str | None
    failure_texts: tuple[Failure, ...] = ()
    """What the server said of those requests."""

    @property
    def holds(self) -> bool:
        """Returns whether every image was answered and top-1 equals the manifest's."""
        return not self.failures and self.top1 == self.manifest_top1

    @property
    def lost(self) -> int:
        """Counts the flips of images that FP32 gets right."""
        return sum(flip.fp32 == flip.label for flip in self.flips)

    @property
    def gained(self) -> int:
        """Counts the flips of images that the variant gets right."""
        return sum(flip.variant == flip.label for flip in self.flips)


def prepare(repository: Path, model: str, served: Mapping[str, pb.ModelMetadataResponse]) -> dict[str, Check]:
    """Prepares the check of each variant that is `served`; raises `UsageError` for the first that cannot be checked."""
    entries = {entry.name: entry for entry in scan_model(repository, model)} if repository.is_dir() else {}
    if missing := [variant for variant in served if variant not in entries]:
        raise _refusal(f"{model}/{missing[0]}", f"repository '{repository}' does not hold it")
    try:
        test = load_evaluation_set(repository, model)
    except IntegrityError as error:
        raise _refusal(model, f"{error} (pareto-compress build writes it)") from error
    return {variant: _check(entries[variant], test, metadata) for variant, metadata in served.items()}


def check_accuracy(
    target: str,
    check: Check,
    clients: int,
    rows: int,
    deadline: float,
    sleep: Sleep = time.sleep,
    credentials: Credentials = PLAIN,
) -> Accuracy:
    """Sends the test split once, `rows` images a request, over `clients` connections at a time.

    An exception that `sleep` raises ends it as soon as the requests under way are answered.
    """
    predictions = np.full(len(check.test), UNANSWERED)
    pending = iter([slice(first, first + rows) for first in range(0, len(check.test), rows)])
    with ThreadPoolExecutor(clients) as pool:
        connect = partial(Client, target, deadline, credentials)
        work = [pool.submit(_ask, connect, check, pending, predictions) for _ in range(clients)]
        try:
            while not all(each.done() for each in work):
                sleep(POLL_SECONDS)
        except BaseException:
            list(pending)  # takes what is left from the clients
            raise
    return _accuracy(check, predictions, [error for each in work for error in each.result()])


def _check(entry: Entry, test: EvaluationSet, metadata: pb.ModelMetadataResponse) -> Check:
    name = f"{entry.model}/{entry.name}"
    if entry.variant is None:
        raise _refusal(name, str(entry.broken))
    manifest, quality = entry.variant, entry.variant.quality
    if quality is None:
        raise _refusal(name, "its manifest has no quality")
    rows = np.sort(drawn(len(test))[: quality.samples])
    test = EvaluationSet(test.images[rows], test.labels[rows], test.predictions[rows])
    fp32 = share_equal(test.predictions, test.labels)
    if len(test) != quality.samples or quality.fp32 not in (None, fp32):
        raise _refusal(
            name,
            f"'{TEST}' holds {len(test)} images of which FP32 gets {fp32:.2%} right,"
            f" the manifest was measured on {quality.samples} with {quality.fp32 or 0:.2%}",
        )
    wanted = (TensorSpec(manifest.inputs[0].name, "FP32", (-1, 3, *test.images.shape[1:3])),)
    taken, given = _specs(metadata.inputs), _specs(metadata.outputs)
    if (taken, given) != (wanted, manifest.outputs):
        raise _refusal(
            name,
            f"the server takes {_shown(taken)} and gives {_shown(given)},"
            f" expected {_shown(wanted)} and {_shown(manifest.outputs)}",
        )
    return Check(manifest, quality.value, test, rows)


def _refusal(name: str, why: str) -> UsageError:
    return UsageError(f"accuracy of '{name}' cannot be checked: {why}")


def _ask(
    connect: Callable[[], Client], check: Check, pending: Iterator[slice], predictions: NDArray[np.int64]
) -> list[CallError]:
    """Sends the images `pending` over one connection, until other clients and this one took all; returns failures."""
    failures = []
    with closing(connect()) as client:
        for chosen in pending:
            try:
                predictions[chosen] = _classes(client, check.manifest, check.test.images[chosen])
            except CallError as error:
                failures.append(error)
    return failures


def _classes(client: Client, manifest: Variant, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Returns the classes (N,) in which the server puts images (N, H, W, 3); raises `CallError` where it does not."""
    inputs = {manifest.inputs[0].name: normalise(images, manifest.preprocessing)}
    request = encode_request(manifest.model, manifest.variant, inputs).SerializeToString()
    outputs = {output.name: output.shape for output in manifest.outputs}
    response = client.infer(Payload(manifest.variant, request, len(images), outputs))
    try:
        answer = decode_response(response)[manifest.outputs[0].name]
    except InvalidInputError as error:
        raise CallError(WRONG_ANSWER, str(error)) from error
    classes: NDArray[np.int64] = answer.argmax(1)
    return classes


def _accuracy(check: Check, predictions: NDArray[np.int64], failures: list[CallError]) -> Accuracy:
    test, answered, tally = check.test, predictions != UNANSWERED, Tally()
    for error in failures:
        tally.add(error.status, error.details)
    flipped = np.flatnonzero(answered & (predictions != test.predictions))
    return Accuracy(
        variant=check.manifest.variant,
        samples=int(answered.sum()),
        top1=share_equal(predictions[answered], test.labels[answered]) if answered.any() else None,
        manifest_top1=check.top1,
        flips=tuple(
            Flip(int(check.rows[i]), int(test.labels[i]), int(test.predictions[i]), int(predictions[i]))
            for i in flipped
        ),
        failures=dict(Counter(error.status for error in failures)),
        first_failure=plain(str(failures[0])) if failures else None,
        failure_texts=tally.failures,
    )


def _specs(tensors: Sequence[pb.ModelMetadataResponse.TensorMetadata]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(tensor.name, tensor.datatype, tuple(tensor.shape)) for tensor in tensors)


def _shown(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"'{spec.name}' {spec.datatype} {list(spec.shape)}" for spec in specs) or "nothing"
