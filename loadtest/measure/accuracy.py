"""Accuracy over the wire: a server answers for the whole test split under load, and its answers are judged.

A variant's metric was measured in process. Its clients get answers that went through serialization, a queue and batches
with other clients' rows, and that must be equally right. The inputs are the same to the bit (`protos.preprocessing`),
the rows that share a batch are not: where answers depend on those, as with a range over the whole batch, the metric can
differ.

Nothing is retried: the images of a failed request have no answer. Works with threads, or with greenlets once
`loadtest.users.users` was imported. Not covered: streaming.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from loadtest.client.credentials import PLAIN, Credentials
from loadtest.client.failures import Failure, Tally, plain
from loadtest.client.oip import WRONG_ANSWER, CallError, Client
from loadtest.client.payloads import Payload
from loadtest.interrupt import Sleep
from loadtest.tasks.table import METRICS, TASKS, AnyFlip, title
from protos.errors import IntegrityError, InvalidInputError, UsageError
from protos.manifest import Quality, TensorSpec, Variant
from protos.repository import TEST, Entry, EvaluationSet, drawn, load_evaluation_set, scan_model
from protos.support.significance import Interval
from protos.tasks.table import TASKS as CONTRACTS
from protos.tasks.task import Array, Arrays
from protos.tensors import decode_response
from protos.v1 import inference_pb2 as pb

POLL_SECONDS = 0.05

Rows = NDArray[np.int64]
Answered = list[tuple[Rows, Arrays]]
"""Images of the test split, those of one request each, and the answers to them."""


@dataclass(frozen=True)
class Check:
    """A variant's manifest and its metric, and the part of the test split on which that was measured."""

    manifest: Variant
    quality: float
    test: EvaluationSet
    rows: Rows
    """Where the images of `test` are in the whole split."""


@dataclass(frozen=True)
class _Part:
    """A part of the test split, where its images are in the whole, and the metric of FP32 on it."""

    test: EvaluationSet
    rows: Rows
    fp32: float


@dataclass(frozen=True)
class Accuracy:
    """What the server answered over the wire for the images of the test split."""

    variant: str
    samples: int
    """Images that were answered."""
    metric: str
    """The metric of the task."""
    quality: float | None
    """The metric on the answered images; None where none was answered."""
    manifest_quality: float
    flips: tuple[AnyFlip, ...]
    failures: dict[str, int]
    """Requests that failed, by status."""
    first_failure: str | None
    failure_texts: tuple[Failure, ...] = ()
    """What the server said of those requests."""
    interval: Interval | None = None
    """The 95% interval of the metric."""
    drop_interval: Interval | None = None
    """The 95% interval of how far the metric is below FP32's."""

    @property
    def holds(self) -> bool:
        """Returns whether every image was answered and the metric is the manifest's."""
        return not (self.failures or self.differs)

    @property
    def differs(self) -> bool:
        """Returns whether the metric is farther from the manifest's than its task allows."""
        off = 0.0 if self.quality is None else abs(self.quality - self.manifest_quality)
        return off > TASKS[METRICS[self.metric]].tolerance

    @property
    def lost(self) -> int:
        """Counts the flips of what FP32 gets right."""
        return sum(flip.kind == "lost" for flip in self.flips)

    @property
    def gained(self) -> int:
        """Counts the flips of what the variant gets right."""
        return sum(flip.kind == "gained" for flip in self.flips)


def prepare(repository: Path, model: str, served: Mapping[str, pb.ModelMetadataResponse]) -> dict[str, Check]:
    """Prepares the check of each variant that is `served`; raises `UsageError` for the first that cannot be checked."""
    entries = {entry.name: entry for entry in scan_model(repository, model)} if repository.is_dir() else {}
    if missing := [variant for variant in served if variant not in entries]:
        raise _refusal(f"{model}/{missing[0]}", f"repository '{repository}' does not hold it")
    manifests = {variant: _manifest(entries[variant]) for variant in served}
    try:
        whole = load_evaluation_set(repository, model, next(iter(manifests.values()))[0].task)
    except IntegrityError as error:
        raise _refusal(model, f"{error} (pareto-compress build writes it)") from error
    parts = {samples: _part(whole, samples) for samples in {quality.samples for _, quality in manifests.values()}}
    return {name: _check(*manifests[name], parts[manifests[name][1].samples], served[name]) for name in served}


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
    answered: Answered = []
    images = np.arange(len(check.test))
    pending = iter([images[first : first + rows] for first in range(0, len(images), rows)])
    with ThreadPoolExecutor(clients) as pool:
        connect = partial(Client, target, deadline, credentials)
        work = [pool.submit(_ask, connect, check, pending, answered) for _ in range(clients)]
        try:
            while not all(each.done() for each in work):
                sleep(POLL_SECONDS)
        except BaseException:
            list(pending)  # takes what is left from the clients
            raise
    return _accuracy(check, answered, [error for each in work for error in each.result()])


def _manifest(entry: Entry) -> tuple[Variant, Quality]:
    name = f"{entry.model}/{entry.name}"
    if entry.variant is None:
        raise _refusal(name, str(entry.broken))
    if entry.variant.quality is None:
        raise _refusal(name, "its manifest has no quality")
    return entry.variant, entry.variant.quality


def _part(whole: EvaluationSet, samples: int) -> _Part:
    """Returns the part of the test split on which so many images were evaluated."""
    rows, task = np.sort(drawn(len(whole))[:samples]), CONTRACTS[whole.task]
    test = whole.take(rows)
    return _Part(test, rows, task.scores(test.reference, test.truth)[task.metric])


def _check(manifest: Variant, quality: Quality, part: _Part, metadata: pb.ModelMetadataResponse) -> Check:
    name, task, test = f"{manifest.model}/{manifest.variant}", TASKS[manifest.task], part.test
    if len(test) != quality.samples or abs((quality.fp32 or part.fp32) - part.fp32) > task.tolerance:
        raise _refusal(
            name,
            f"'{TEST}' holds {len(test)} images with {title([quality.metric])} {part.fp32:.2%} of FP32,"
            f" the manifest was measured on {quality.samples} with {quality.fp32 or 0:.2%}",
        )
    wanted, answered = (task.taken(manifest, test),), CONTRACTS[manifest.task].outputs(manifest)
    taken, given = _specs(metadata.inputs), _specs(metadata.outputs)
    if (taken, given) != (wanted, answered):
        raise _refusal(
            name,
            f"the server takes {_shown(taken)} and gives {_shown(given)},"
            f" expected {_shown(wanted)} and {_shown(answered)}",
        )
    return Check(manifest, quality.value, test, part.rows)


def _refusal(name: str, why: str) -> UsageError:
    return UsageError(f"accuracy of '{name}' cannot be checked: {why}")


def _ask(connect: Callable[[], Client], check: Check, pending: Iterator[Rows], answered: Answered) -> list[CallError]:
    """Sends the images `pending` over one connection, until other clients and this one took all; returns failures."""
    failures = []
    with closing(connect()) as client:
        for chosen in pending:
            try:
                answered.append((chosen, _answers(client, check.manifest, check.test.images[chosen])))
            except CallError as error:
                failures.append(error)
    return failures


def _answers(client: Client, manifest: Variant, images: Array) -> Arrays:
    """Returns what the server answers for some images; raises `CallError` where it does not."""
    task = TASKS[manifest.task]
    request = task.request(manifest, images).SerializeToString()
    outputs = {output.name: output.shape for output in task.answered(manifest)}
    response = client.infer(Payload(manifest.variant, request, len(images), outputs))
    try:
        return task.answers(manifest, decode_response(response), images)
    except InvalidInputError as error:
        raise CallError(WRONG_ANSWER, str(error)) from error


def _accuracy(check: Check, answered: Answered, failures: list[CallError]) -> Accuracy:
    tally, manifest = Tally(), check.manifest
    for error in failures:
        tally.add(error.status, error.details)
    found = partial(
        Accuracy,
        variant=manifest.variant,
        metric=TASKS[manifest.task].metric,
        manifest_quality=check.quality,
        failures=dict(Counter(error.status for error in failures)),
        first_failure=plain(str(failures[0])) if failures else None,
        failure_texts=tally.failures,
    )
    if not answered:
        return found(samples=0, quality=None, flips=())
    answers, rows = _joined(answered)
    test, task = check.test.take(rows), CONTRACTS[manifest.task]
    compared = task.compare(answers, test.reference, test.truth)
    return found(
        samples=len(rows),
        quality=task.scores(answers, test.truth)[task.metric],
        flips=cast("tuple[AnyFlip, ...]", tuple(TASKS[manifest.task].flips(answers, test, check.rows[rows]))),
        interval=compared.interval,
        drop_interval=compared.drop_interval,
    )


def _joined(answered: Answered) -> tuple[Arrays, Rows]:
    """Returns all answers, those of one image behind those of another, and the images that have one."""
    ordered = sorted(answered, key=lambda each: int(each[0][0]))
    names = ordered[0][1]
    answers = {name: np.concatenate([arrays[name] for _, arrays in ordered]) for name in names}
    return answers, np.concatenate([rows for rows, _ in ordered])


def _specs(tensors: Sequence[pb.ModelMetadataResponse.TensorMetadata]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(tensor.name, tensor.datatype, tuple(tensor.shape)) for tensor in tensors)


def _shown(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"'{spec.name}' {spec.datatype} {list(spec.shape)}" for spec in specs) or "nothing"
