"""The table of a repository: what each variant costs and keeps, beside the FP32 variant that it is compared with.

One table of columns serves all formats: a terminal shows the brief ones, Markdown and CSV show those that have a
value in some row. What a reader must know of a variant stands below the table (see `notes`).
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
from rich.table import Table

from compressors.report import notes, unbuilt
from compressors.report.columns import ABSENT, Column, Value, of_part
from compressors.tasks.table import STUDIED
from protos.frontier import FP32, fp32_baseline
from protos.manifest import Json, TaskName, Variant, to_json
from protos.repository import Entry
from protos.support import markdown

Format = Literal["table", "markdown", "csv", "json"]

NARROW, ENDLESS = 100, 1000
"""Characters that the table needs with the brief columns; what is no terminal gets all columns, however wide."""

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


_NAME = Column("variant", "variant", lambda v, base: v.variant, "{}")
_COSTS = (
    Column("p50 ms", "p50_ms", _latency(lambda latency: latency.p50_ms), "{:.3f}"),
    Column("p95 ms", "p95_ms", _latency(lambda latency: latency.p95_ms), "{:.3f}", brief=False),
    Column("p99 ms", "p99_ms", _latency(lambda latency: latency.p99_ms), "{:.3f}"),
    Column("faster", "times_faster", _faster, "{:.1f}x"),
    Column("rows/s", "rows_per_second", _throughput(lambda t: t.rows_per_second), "{:.0f}", False),
    Column("at batch", "batch", _throughput(lambda t: t.batch), "{}", brief=False),
    Column("MB", "megabytes", lambda v, base: v.artifact_bytes / 1e6, "{:.2f}"),
    Column("smaller", "times_smaller", _smaller, "{:.1f}x"),
    Column("MB gzip", "megabytes_gzip", _footprint(lambda f: f.gzip_bytes / 1e6), "{:.2f}", False),
    Column("MB at load", "megabytes_at_load", _footprint(lambda f: f.load_peak_bytes / 1e6), "{:.1f}", brief=False),
    Column("M params", "million_parameters", lambda v, base: v.network.parameters / 1e6, "{:.2f}", brief=False),
    Column("M nonzero", "million_nonzero", lambda v, base: v.network.nonzero_parameters / 1e6, "{:.2f}", brief=False),
    Column("M MACs", "million_macs", of_part("network", lambda n: None if n.macs is None else n.macs / 1e6), "{:.2f}"),
    Column("epochs", "epochs", _epochs, "{}", brief=False),
    Column("published", "published", lambda v, base: v.published, "{}", brief=False),
)


def columns(tasks: Collection[TaskName]) -> tuple[Column, ...]:
    """Returns the columns for variants of these tasks: what each shows of accuracy stands before the costs."""
    accuracy = {column.key: column for task in STUDIED if task in tasks for column in STUDIED[task].columns}
    return (_NAME, *accuracy.values(), *_COSTS)


def _tasks(entries: Iterable[Entry]) -> set[TaskName]:
    return {entry.variant.task for entry in entries if entry.variant} or {"classification"}


def show(entries: list[Entry], form: Format) -> str:
    """Shows all variants of a repository, model by model, with the reason of those that are broken or not built."""
    models = {entry.model: [e for e in entries if e.model == entry.model] for entry in entries}
    if form == "json":
        return json.dumps([record for model in models.values() for record in _records(model)], indent=2)
    if form == "csv":
        return _csv(models)
    heading = "## {}\n\n" if form == "markdown" and len(models) > 1 else ""  # a table on a terminal has a title
    return "\n\n".join(heading.format(name) + _model(name, model, form) for name, model in sorted(models.items()))


def compared_with(variants: list[Variant]) -> Variant | None:
    """Returns the variant that ratios are to, see `protos.frontier`; None without an FP32 variant."""
    fp32 = {v.variant: v for v in variants if v.recipe.name == FP32}
    name = fp32_baseline({n: v.quality.value if v.quality else None for n, v in fp32.items()})
    return fp32[name] if name else None


def _model(model: str, entries: list[Entry], form: Format) -> str:
    variants = [entry.variant for entry in entries if entry.variant]
    variants.sort(key=lambda v: -v.latency.p50_ms if v.latency else 0.0)  # the slowest first
    base, missing = compared_with(variants), _missing(entries)
    known = columns(_tasks(entries))
    shown = [c for c in known if any(c.value(v, base) is not None for v in variants)] or [_NAME]
    rows = [[column.text(v, base) for column in shown] for v in variants]
    rows += [[name] + [ABSENT] * (len(shown) - 1) for name in missing]
    headings = [column.heading for column in shown]
    table = markdown.table(headings, rows, right=1) if form == "markdown" else _terminal(model, shown, rows)
    said = {name: [reason] for name, reason in missing.items()} | notes.of(variants)
    lines = [f"{', '.join(names)}: {text}." for text, names in _by_text(said).items()]
    if any(reason.startswith(unbuilt.FAILED) for reason in missing.values()):
        lines.append(f"All of what failed: .build/{model}/VARIANT.log in the repository.")
    broken = [f"BROKEN {entry.name}: {entry.broken}" for entry in entries if entry.broken]
    separator = "\n\n" if form == "markdown" else "\n"  # lines in Markdown run together
    said_of_all = ["\n".join(_measured(variants, base)), *_few(variants)]
    return f"{table}\n\n" + separator.join([*said_of_all, *lines, *broken]).strip()


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
    against = f" faster, smaller: against {base.variant}." if base else ""
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


def _terminal(model: str, columns: list[Column], rows: list[list[str]]) -> str:
    screen = Console()
    console = Console(width=max(screen.width, NARROW) if screen.is_terminal else ENDLESS)
    table = _table(model, columns, rows, range(len(columns)))
    if console.measure(table).maximum > console.width:
        table = _table(model, columns, rows, [i for i, column in enumerate(columns) if column.brief])
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip()


def _table(model: str, columns: list[Column], rows: list[list[str]], shown: Sequence[int]) -> Table:
    table = Table(title=model, title_justify="left")
    for i in shown:
        table.add_column(columns[i].heading, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(row[i] for i in shown))
    return table


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
