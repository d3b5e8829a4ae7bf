"""The table of a repository: what each variant costs and keeps, beside the FP32 variant that it is compared with.

One table of columns serves all formats: a terminal and Markdown show the brief ones unless more is asked for, CSV and
JSON have all. What a reader must know of a variant stands below the table (see `notes`), the frontier last.
"""

import csv
import io
import json
import typing
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Literal

from rich.console import Console

from compressors.report import notes, unbuilt
from compressors.report.columns import ABSENT, Column, Value, of_part
from compressors.tasks.table import STUDIED
from protos.errors import UsageError
from protos.frontier import FP32, KnownAccuracy, drop_below_fp32, fp32_baseline, pareto_frontier
from protos.manifest import Json, TaskName, Variant, to_json
from protos.repository import Entry
from protos.support import markdown
from protos.support.terminal import Screen, fitting, wrapped

Format = Literal["table", "markdown", "csv"]

LEAST, ENDLESS = 64, 1000
"""Characters of a line that the brief columns need beside the folded names of variants, and that all need."""

FEW = 500
"""Test images of which fewer say little: one of them moves the accuracy by more than 0.2 points."""

_latency, _throughput, _footprint = (partial(of_part, part) for part in ("latency", "throughput", "footprint"))


def _faster(v: Variant, base: Variant | None) -> Value:
    return base.latency.p50_ms / v.latency.p50_ms if v.latency and base and base.latency else None


def _smaller(v: Variant, base: Variant | None) -> Value:
    return base.artifact_bytes / v.artifact_bytes if base else None


def _epochs(v: Variant, base: Variant | None) -> Value:
    """Counts the epochs of training and fine-tuning of all steps; each round of a step has as many as its `fit`."""
    fits = [(step.parameters.get("fit"), step.parameters.get("rounds", 1)) for step in v.recipe.steps]
    counts = [fit["epochs"] * rounds for fit, rounds in fits if isinstance(fit, dict)]  # type: ignore[operator]
    return sum(typing.cast(list[int], counts)) if counts else None


_NAME = Column("variant", "variant", lambda v, base: v.variant, "{}", brief=True)
_COSTS = (
    Column("p50 ms", "p50_ms", _latency(lambda latency: latency.p50_ms), "{:.3f}", brief=True),
    Column("p95 ms", "p95_ms", _latency(lambda latency: latency.p95_ms), "{:.3f}"),
    Column("p99 ms", "p99_ms", _latency(lambda latency: latency.p99_ms), "{:.3f}"),
    Column("speed-up", "times_faster", _faster, "{:.1f}x", brief=True),
    Column("rows/s", "rows_per_second", _throughput(lambda t: t.rows_per_second), "{:.0f}"),
    Column("at batch", "batch", _throughput(lambda t: t.batch), "{}"),
    Column("MB", "megabytes", lambda v, base: v.artifact_bytes / 1e6, "{:.2f}", brief=True),
    Column("smaller", "times_smaller", _smaller, "{:.1f}x"),
    Column("MB gzip", "megabytes_gzip", _footprint(lambda f: f.gzip_bytes / 1e6), "{:.2f}"),
    Column("memory MB", "megabytes_at_load", _footprint(lambda f: f.load_peak_bytes / 1e6), "{:.1f}", brief=True),
    Column("M params", "million_parameters", lambda v, base: v.network.parameters / 1e6, "{:.2f}"),
    Column("M nonzero", "million_nonzero", lambda v, base: v.network.nonzero_parameters / 1e6, "{:.2f}"),
    Column("M MACs", "million_macs", of_part("network", lambda n: None if n.macs is None else n.macs / 1e6), "{:.2f}"),
    Column("epochs", "epochs", _epochs, "{}"),
    Column("published", "published", lambda v, base: v.published, "{}"),
)


def columns(tasks: Collection[TaskName]) -> tuple[Column, ...]:
    """Returns the columns for variants of these tasks: what each shows of accuracy stands before the costs."""
    accuracy = {column.key: column for task in STUDIED if task in tasks for column in STUDIED[task].columns}
    return (_NAME, *accuracy.values(), *_COSTS)


def _tasks(entries: Iterable[Entry]) -> set[TaskName]:
    return {entry.variant.task for entry in entries if entry.variant} or {"classification"}


def show(entries: list[Entry], form: Format = "table", wide: bool = False, names: Sequence[str] = ()) -> str:
    """Shows all variants of a repository, model by model, with the reason of those that are broken or not built.

    `names` are the columns to show, by key; without them the brief ones are, or with `wide` all that have a value.
    Raises `UsageError` for a column that there is not.
    """
    models = _by_model(entries)
    if form == "csv":
        return _csv(models)
    known = columns(_tasks(entries))
    if unknown := [name for name in names if name not in {column.key for column in known}]:
        raise UsageError(f"--columns: got '{unknown[0]}', expected some of {', '.join(c.key for c in known)}")
    heading = "## {}\n\n" if form == "markdown" and len(models) > 1 else ""  # a table on a terminal has a title
    return "\n\n".join(heading.format(m) + _model(m, of, form, wide, names) for m, of in sorted(models.items()))


def as_json(entries: list[Entry]) -> str:
    """Returns all variants as one JSON document: their manifests, and what the table shows under `comparison`."""
    return json.dumps([record for model in _by_model(entries).values() for record in _records(model)], indent=2)


def _by_model(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    return {entry.model: [e for e in entries if e.model == entry.model] for entry in entries}


def compared_with(variants: list[Variant]) -> Variant | None:
    """Returns the variant that ratios are to, see `protos.frontier`; None without an FP32 variant."""
    fp32 = {v.variant: v for v in variants if v.recipe.name == FP32}
    name = fp32_baseline({n: v.quality.value if v.quality else None for n, v in fp32.items()})
    return fp32[name] if name else None


def _model(model: str, entries: list[Entry], form: Format, wide: bool, names: Sequence[str]) -> str:
    variants = [entry.variant for entry in entries if entry.variant]
    variants.sort(key=lambda v: -v.latency.p50_ms if v.latency else 0.0)  # the slowest first
    base, missing = compared_with(variants), _missing(entries)
    shown = _shown(variants, base, columns(_tasks(entries)), wide, names)
    rows = [[column.text(v, base) for column in shown] for v in variants]
    rows += [[name] + [ABSENT] * (len(shown) - 1) for name in missing]
    said = {name: [reason] for name, reason in missing.items()} | notes.of(variants)
    lines = [f"{', '.join(names)}: {text}." for text, names in _by_text(said).items()]
    if any(reason.startswith(unbuilt.FAILED) for reason in missing.values()):
        lines.append(f"All of what failed: .build/{model}/VARIANT.log in the repository.")
    broken = [f"BROKEN {entry.name}: {entry.broken}" for entry in entries if entry.broken]
    below = [*_measured(variants, base), *_few(variants), *lines, *broken, *_frontier(variants)]
    if form == "markdown":
        return "\n\n".join([markdown.table([c.heading for c in shown], rows, right=1), *below])
    screen = Screen()
    width = ENDLESS if wide or names else max(screen.width, LEAST)
    return "\n\n".join(filter(None, (_table(model, shown, rows, width), _lines(below, screen.width))))


def _shown(
    variants: Sequence[Variant], base: Variant | None, known: Sequence[Column], wide: bool, names: Sequence[str]
) -> list[Column]:
    """Returns the columns to show: the variant's name, and what is asked for or has a value in some row."""
    if names:
        keys = {column.key: column for column in known}
        return [_NAME, *(keys[name] for name in names if name in keys and name != _NAME.key)]
    asked = [column for column in known if wide or column.brief]
    return [column for column in asked if any(column.value(v, base) is not None for v in variants)] or [_NAME]


def _frontier(variants: Sequence[Variant]) -> list[str]:
    """Names the variants of which no other one is both faster and more accurate, the fastest first."""
    known = [(v, v.quality, v.latency.p50_ms) for v in variants if v.quality and v.latency]
    accuracies = [KnownAccuracy(q.value, drop_below_fp32(v.variant, q.drop_interval)) for v, q, _ in known]
    best = [known[i] for i in pareto_frontier([p50 for *_, p50 in known], accuracies)]
    said = [f"{v.variant} ({q.value:.2%}, p50 {p50:.3f} ms)" for v, q, p50 in best]
    return [f"Frontier, nothing else is as fast and as accurate: {', '.join(said)}."] if said else []


def _by_text(said: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Groups the variants by what is said of them, each text once."""
    names = defaultdict[str, list[str]](list)
    for name, texts in said.items():
        for text in texts:
            names[text].append(name)
    return names


def _missing(entries: list[Entry]) -> dict[str, str]:
    """Returns the variants of a model that its last build left out, with the reason."""
    folder, there = entries[0].folder.parent, {entry.name for entry in entries}
    return {name: why for name, why in unbuilt.load(folder).items() if name not in there}


def _measured(variants: list[Variant], base: Variant | None) -> list[str]:
    """Says on what data and on which machine the variants were measured."""
    against = f" Speed-up: against {base.variant}." if base else ""
    against += " Memory: the most that loading it adds." if any(v.footprint for v in variants) else ""
    images = max((v.quality.samples for v in variants if v.quality), default=0)
    calls = sorted({v.latency.samples for v in variants if v.latency})
    each = " to ".join(str(count) for count in dict.fromkeys(calls[:1] + calls[-1:]))
    for quality, latency, machine, task in ((v.quality, v.latency, v.machine, v.task) for v in variants):
        if quality and latency:
            return [
                f"{STUDIED[task].heading} on {images} images of {quality.dataset}. Latency: batch {latency.batch},"
                f" {latency.threads} thread, {each} calls each, interleaved, in process.{against}",
                f"Machine: {machine.cpu}, {machine.cores} cores, {' '.join(machine.instruction_sets)}.",
            ]
    return []


def _few(variants: list[Variant]) -> list[str]:
    """Says how little a small test split shows."""
    few = min((v.quality.samples for v in variants if v.quality), default=FEW)
    return [f"WARNING: only {few} test images: one image is {100 / few:.3g} points."] if few < FEW else []


def _table(model: str, shown: Sequence[Column], rows: list[list[str]], width: int) -> str:
    """Returns the table for a terminal; where it is too wide, the names of variants are folded."""
    console = Console(width=width)
    with console.capture() as capture:
        console.print(fitting(model, [column.heading for column in shown], rows, range(1, len(shown)), width))
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _lines(said: Sequence[str], width: int) -> str:
    return "\n".join(wrapped(line, width) for line in said)


def _csv(models: Mapping[str, list[Entry]]) -> str:
    """Writes all columns of all models as plain numbers, an empty cell for what was not measured."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    known = columns(_tasks(entry for entries in models.values() for entry in entries))
    table.writerow(["model", *(column.key for column in known), "notes"])
    for model, entries in models.items():
        variants = [entry.variant for entry in entries if entry.variant]
        base, said = compared_with(variants), notes.of(variants)
        for v in variants:
            values = (column.value(v, base) for column in known)
            table.writerow([model, *values, "; ".join(said.get(v.variant, []))])
        reasons = _missing(entries) | {e.name: f"broken: {e.broken}" for e in entries if e.broken}
        for name, reason in reasons.items():
            table.writerow([model, name, *[None] * (len(known) - 1), reason])
    return text.getvalue().rstrip("\n")


def _records(entries: list[Entry]) -> list[Json]:
    """Returns each variant's manifest, with its columns under `comparison`, and the others with their reason."""
    variants = [entry.variant for entry in entries if entry.variant]
    base, said = compared_with(variants), notes.of(variants)
    records: list[Json] = []
    for entry in entries:
        if entry.variant is None:
            records.append({"model": entry.model, "variant": entry.name, "broken": str(entry.broken)})
            continue
        known = columns([entry.variant.task])[1:]
        derived = {c.key: c.value(entry.variant, base) for c in known} | {"notes": said.get(entry.name, [])}
        records.append(json.loads(to_json(entry.variant)) | {"comparison": derived})
    model = entries[0].model
    return records + [{"model": model, "variant": name, "unbuilt": why} for name, why in _missing(entries).items()]
