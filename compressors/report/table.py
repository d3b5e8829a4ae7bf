"""The table of a repository: what each variant costs and keeps, beside the FP32 variant that it is compared with.

One table of columns serves all formats: a terminal shows the brief ones, Markdown and CSV show those that have a
value in some row. What a reader must know of a variant stands below the table (see `notes`).
"""

import csv
import io
import json
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from rich.console import Console
from rich.table import Table

from compressors.report import notes, unbuilt
from protos.frontier import FP32, fp32_baseline
from protos.manifest import Footprint, Json, Latency, Quality, Throughput, Variant, to_json
from protos.repository import Entry
from protos.support import markdown
from protos.support.significance import mcnemar_p

Format = Literal["table", "markdown", "csv", "json"]
ABSENT = "-"

NARROW, ENDLESS = 100, 1000
"""Characters that the table needs with the brief columns; what is no terminal gets all columns, however wide."""

T = TypeVar("T")
Value = str | float | None
Measured = Callable[[Variant, Variant | None], Value]
"""The figure of a variant, None where it was not measured; the second argument is what it is compared with."""


@dataclass(frozen=True)
class Column:
    """A heading, the key of the same in CSV, the figure, and how it is printed."""

    heading: str
    key: str
    value: Measured
    form: str
    brief: bool = True
    """Whether a narrow terminal shows it too."""

    def text(self, variant: Variant, base: Variant | None) -> str:
        """The cell of a variant, for people."""
        value = self.value(variant, base)
        return ABSENT if value is None else self.form.format(value)


def _of(part: Callable[[Variant], T | None], value: Callable[[T], float | None]) -> Measured:
    """The figure `value` of a part of the manifest that may be absent."""
    return lambda v, base: None if (found := part(v)) is None else value(found)


def _quality(value: Callable[[Quality], float | None]) -> Measured:
    return _of(lambda v: v.quality, value)


def _latency(value: Callable[[Latency], float]) -> Measured:
    return _of(lambda v: v.latency, value)


def _throughput(value: Callable[[Throughput], float]) -> Measured:
    return _of(lambda v: v.throughput, value)


def _footprint(value: Callable[[Footprint], float]) -> Measured:
    return _of(lambda v: v.footprint, value)


def _mcnemar(quality: Quality) -> float | None:
    """How likely flips so one-sided are, if variant and FP32 were equally good."""
    if quality.lost is None or quality.gained is None:
        return None
    return mcnemar_p(quality.lost, quality.gained)


def _faster(v: Variant, base: Variant | None) -> Value:
    return base.latency.p50_ms / v.latency.p50_ms if v.latency and base and base.latency else None


def _smaller(v: Variant, base: Variant | None) -> Value:
    return base.artifact_bytes / v.artifact_bytes if base else None


def _epochs(v: Variant, base: Variant | None) -> Value:
    """Epochs of training and fine-tuning of all steps; each round of a step has as many as its `fit` says."""
    fits = [(step.parameters.get("fit"), step.parameters.get("rounds", 1)) for step in v.recipe.steps]
    counts = [fit["epochs"] * rounds for fit, rounds in fits if isinstance(fit, dict)]  # type: ignore[operator]
    return sum(typing.cast(list[int], counts)) if counts else None


COLUMNS = (
    Column("variant", "variant", lambda v, base: v.variant, "{}"),
    Column("top-1", "top1", _quality(lambda q: q.value), "{:.2%}"),
    Column("top-5", "top5", _quality(lambda q: q.top5), "{:.2%}", brief=False),
    Column("vs parent, points", "points_vs_parent", _quality(lambda q: 100 * (q.value - q.parent)), "{:+.2f}"),
    Column("agrees with FP32", "agreement", _quality(lambda q: q.agreement), "{:.2%}", brief=False),
    Column("lost", "lost", _quality(lambda q: q.lost), "{}", brief=False),
    Column("gained", "gained", _quality(lambda q: q.gained), "{}", brief=False),
    Column("McNemar p", "mcnemar_p", _quality(_mcnemar), "{:.2g}", brief=False),
    Column("p50 ms", "p50_ms", _latency(lambda latency: latency.p50_ms), "{:.3f}"),
    Column("p95 ms", "p95_ms", _latency(lambda latency: latency.p95_ms), "{:.3f}", brief=False),
    Column("p99 ms", "p99_ms", _latency(lambda latency: latency.p99_ms), "{:.3f}"),
    Column("faster", "times_faster", _faster, "{:.1f}x"),
    Column("rows/s", "rows_per_second", _throughput(lambda t: t.rows_per_second), "{:.0f}", False),
    Column("at batch", "batch", _throughput(lambda t: t.batch), "{}", brief=False),
    Column("MB", "megabytes", lambda v, base: v.artifact_bytes / 1e6, "{:.2f}"),
    Column("smaller", "times_smaller", _smaller, "{:.1f}x"),
    Column("MB gzip", "megabytes_gzip", _footprint(lambda f: f.gzip_bytes / 1e6), "{:.2f}", False),
    Column(
        "MB at load", "megabytes_at_load", _footprint(lambda f: f.load_peak_bytes / 1e6), "{:.1f}",
        brief=False,
    ),
    Column("M params", "million_parameters", lambda v, base: v.network.parameters / 1e6, "{:.2f}", brief=False),
    Column("M nonzero", "million_nonzero", lambda v, base: v.network.nonzero_parameters / 1e6, "{:.2f}", brief=False),
    Column("M MACs", "million_macs", _of(lambda v: v.network.macs, lambda macs: macs / 1e6), "{:.2f}"),
    Column("epochs", "epochs", _epochs, "{}", brief=False),
    Column("published", "published", lambda v, base: v.published, "{}", brief=False),
)  # fmt: skip


def show(entries: list[Entry], form: Format) -> str:
    """All variants of a repository, model by model; with their reasons those that are broken or were not built."""
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
    variants = sorted((entry.variant for entry in entries if entry.variant), key=_slowest_first)
    base, missing = compared_with(variants), _missing(entries)
    shown = _with_values(variants, base)
    rows = [[column.text(v, base) for column in shown] for v in variants]
    rows += [[name] + [ABSENT] * (len(shown) - 1) for name in missing]
    headings = [column.heading for column in shown]
    table = markdown.table(headings, rows, right=1) if form == "markdown" else _terminal(model, shown, rows)
    said = {name: [reason] for name, reason in missing.items()} | notes.of(variants)
    lines = [f"{', '.join(names)}: {text}." for text, names in _by_text(said).items()]
    broken = [f"BROKEN {entry.name}: {entry.broken}" for entry in entries if entry.broken]
    separator = "\n\n" if form == "markdown" else "\n"  # lines in Markdown run together
    return f"{table}\n\n" + separator.join(["\n".join(_measured(variants, base)), *lines, *broken]).strip()


def _by_text(said: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """What is said, each once, with the variants that it is said of."""
    names: dict[str, list[str]] = {}
    for name, texts in said.items():
        for text in texts:
            names.setdefault(text, []).append(name)
    return names


def _missing(entries: list[Entry]) -> dict[str, str]:
    """Variants of a model that its last build left out, with the reason."""
    folder, there = entries[0].folder.parent, {entry.name for entry in entries}
    return {name: why for name, why in unbuilt.load(folder).items() if name not in there}


def _with_values(variants: list[Variant], base: Variant | None) -> list[Column]:
    return [column for column in COLUMNS if any(column.value(v, base) is not None for v in variants)] or [COLUMNS[0]]


def _slowest_first(v: Variant) -> float:
    return -v.latency.p50_ms if v.latency else 0.0


def _measured(variants: list[Variant], base: Variant | None) -> list[str]:
    """Where and on what the figures were measured."""
    first = next((v for v in variants if v.latency and v.quality), None)
    if not first or not first.latency or not first.quality:
        return []
    against = f" faster, smaller: against {base.variant}." if base else ""
    return [
        f"Top-1 on {first.quality.samples} images of {first.quality.dataset}. Latency: batch {first.latency.batch},"
        f" {first.latency.threads} thread, {first.latency.samples} calls each, interleaved, in process.{against}",
        f"Machine: {first.machine.cpu}, {first.machine.cores} cores, {' '.join(first.machine.instruction_sets)}.",
    ]


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
    """All columns of all models as plain numbers, an empty cell for what was not measured."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["model", *(column.key for column in COLUMNS), "notes"])
    for model, entries in models.items():
        variants = [entry.variant for entry in entries if entry.variant]
        base, said = compared_with(variants), notes.of(variants)
        for v in variants:
            values = (column.value(v, base) for column in COLUMNS)
            table.writerow([model, *values, "; ".join(said.get(v.variant, []))])
        reasons = _missing(entries) | {e.name: f"broken: {e.broken}" for e in entries if e.broken}
        for name, reason in reasons.items():
            table.writerow([model, name, *[None] * (len(COLUMNS) - 1), reason])
    return text.getvalue().rstrip("\n")


def _records(entries: list[Entry]) -> list[Json]:
    """Each variant's manifest, with what it is compared by under `comparison`; the others with their reason."""
    variants = [entry.variant for entry in entries if entry.variant]
    base, said = compared_with(variants), notes.of(variants)
    records: list[Json] = []
    for entry in entries:
        if entry.variant is None:
            records.append({"model": entry.model, "variant": entry.name, "broken": str(entry.broken)})
            continue
        derived: dict[str, Json] = {c.key: c.value(entry.variant, base) for c in COLUMNS[1:]}
        derived["notes"] = typing.cast(Json, said.get(entry.name, []))
        records.append(json.loads(to_json(entry.variant)) | {"comparison": derived})
    model = entries[0].model
    return records + [{"model": model, "variant": name, "unbuilt": why} for name, why in _missing(entries).items()]
