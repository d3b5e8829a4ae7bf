"""What the variants of a repository do on this host, beside what their manifests say of the host that built them.

    <root>/<model>/host-<key>.json    the figures of one kind of host, by variant

Nothing is overwritten: manifests stay as they were published, each kind of host has a file of its own. Figures count
for the artifacts that they were measured with; a variant that was published anew has none.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np

from compressors.measure import evaluate, latency
from compressors.measure.evaluate import Questions
from compressors.progress import first_line, say
from compressors.report import notes
from protos import repository
from protos.errors import IntegrityError
from protos.manifest import Decoding, Latency, Preprocessing, Quality, TaskName, Variant
from protos.repository import Entry, EvaluationSet
from protos.support import atomic, machine
from protos.support.machine import Machine
from protos.support.strict import decode
from protos.tasks.table import TASKS
from server import runtimes
from server.runtimes import Runtime
from server.runtimes.golden import golden_error

POINTS = 0.1
"""Accuracy that moved by this many points is named."""


@dataclass(frozen=True)
class HereMeasured:
    """One variant on one host."""

    files: str
    """The artifact that was measured, by `Variant.files_sha256`."""
    quality: Quality | None = None
    """None where it failed, or where the repository has no test split."""
    latency: Latency | None = None
    failed: str | None = None
    """Why it cannot be used on this host."""


@dataclass(frozen=True)
class Host:
    """A host, and the figures that were measured on it, by variant."""

    machine: Machine
    variants: dict[str, HereMeasured]


def remeasure(root: Path, model: str, entries: Sequence[Entry]) -> Host:
    """Measures each variant of `model` on this host and keeps the figures in the model's folder."""
    here = machine.describe(*sorted({library for e in entries if e.variant for library in e.variant.machine.libraries}))
    test = _evaluation_set(root, model, entries)
    asked = cache(partial(Questions, test.task, test.images)) if test else None
    measured, adapters = dict[str, HereMeasured](), dict[str, Runtime]()
    try:
        for entry in entries:
            if entry.variant is not None:
                measured[entry.name] = _examine(root, entry, entry.variant, test, asked, adapters)
        timed = _latencies(root, model, entries, adapters)
    finally:
        for adapter in adapters.values():
            adapter.close()
    host = Host(here, {name: replace(found, latency=timed.get(name)) for name, found in measured.items()})
    atomic.write_text(_file(root / model, here), json.dumps(asdict(host), indent=2) + "\n")
    return host


def load(folder: Path, here: Machine) -> Host | None:
    """Returns what was measured of the model in `folder` on a host like `here`; None where nothing was."""
    try:
        return decode(Host, json.loads(_file(folder, here).read_text()), "host")
    except (OSError, ValueError):
        return None


def seen_on(host: Host | None, variant: Variant) -> Variant:
    """Returns the variant with the host's figures for the manifest's; without figures, where the host has none."""
    found = host.variants.get(variant.variant) if host else None
    if host is None or found is None or found.files != variant.files_sha256:
        return replace(variant, quality=None, latency=None, throughput=None, notes=("not measured on this host",))
    failed = () if found.failed is None else (f"cannot be used on this host: {found.failed}",)
    return replace(
        variant,
        machine=host.machine,
        quality=found.quality,
        latency=found.latency,
        throughput=None,
        notes=(*variant.notes, *failed),
    )


def changes(variants: Sequence[Variant], host: Host) -> list[str]:
    """Returns a sentence for each thing that is otherwise on `host` than the manifests say."""
    here = [seen_on(host, variant) for variant in variants]
    lines = []
    for variant, now in zip(variants, here, strict=True):
        found = host.variants.get(variant.variant)
        if found is not None and found.failed is not None:
            lines.append(f"{variant.variant}: cannot be used here: {found.failed}")
        if variant.quality and now.quality:
            points = 100 * (now.quality.value - variant.quality.value)
            if abs(points) >= POINTS:
                moved = "lost" if points < 0 else "gained"
                title = TASKS[variant.task].title
                values = f"{title} {now.quality.value:.2%}, {variant.quality.value:.2%} where it was built"
                lines.append(f"{variant.variant}: {abs(points):.1f} points {moved} here ({values})")
        before, after = (notes.times_faster(each, all_of) for each, all_of in ((variant, variants), (now, here)))
        if before and after and (before[1] > 1) != (after[1] > 1):
            word = "faster" if after[1] > 1 else "slower"
            lines.append(
                f"{variant.variant}: {word} than {after[0]} here ({after[1]:.2f}x), {before[1]:.2f}x where it was built"
            )
    return lines


def _evaluation_set(root: Path, model: str, entries: Sequence[Entry]) -> EvaluationSet | None:
    tasks: list[TaskName] = [entry.variant.task for entry in entries if entry.variant]
    try:
        return repository.load_evaluation_set(root, model, tasks[0]) if tasks else None
    except IntegrityError as error:
        say(f"{model}: accuracy is not measured: {error}")
        return None


def _examine(
    root: Path,
    entry: Entry,
    variant: Variant,
    test: EvaluationSet | None,
    asked: Callable[[Preprocessing, Decoding | None], Questions] | None,
    adapters: dict[str, Runtime],
) -> HereMeasured:
    """Loads the variant into `adapters` and counts its right answers."""
    found = HereMeasured(variant.files_sha256)
    try:
        repository.verify(entry)
        adapter = runtimes.load(entry.folder, variant, latency.THREADS)
        golden_error(adapter, variant, repository.load_golden(root, entry.model, variant))
    except Exception as error:  # a damaged artifact fails in its library's own way
        say(f"{entry.model}/{entry.name}: FAILED, {first_line(error)}")
        return replace(found, failed=first_line(error))
    adapters[entry.name] = adapter
    if test is None or asked is None or variant.quality is None:
        return found
    _, answers = evaluate.predict(adapter.infer, asked(variant.preprocessing, variant.decoding))
    built = variant.quality
    known = built.dataset, built.parent, built.fp32
    quality = evaluate.quality(variant.task, answers, test.truth, test.reference, *known)
    say(f"{entry.model}/{entry.name}: {TASKS[variant.task].title} {quality.value:.2%}")
    return replace(found, quality=quality)


def _latencies(root: Path, model: str, entries: Sequence[Entry], adapters: dict[str, Runtime]) -> dict[str, Latency]:
    if not adapters:
        return {}
    golden = {e.name: repository.load_golden(root, model, e.variant).inputs for e in entries if e.name in adapters}
    rows = {n: {name: np.ascontiguousarray(a[:1]) for name, a in inputs.items()} for n, inputs in golden.items()}
    return {name: latency.summary(seconds) for name, seconds in latency.latencies(adapters, rows, seed=0).items()}


def _file(folder: Path, here: Machine) -> Path:
    kind = hashlib.sha256(f"{here.cpu} {here.cores} {here.instruction_sets}".encode()).hexdigest()[:12]
    return folder / f"host-{kind}.json"
