"""The table of a repository: what each variant costs and keeps, beside FP32 PyTorch."""

import json
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table

from protos.manifest import Json, Latency, Quality, Variant, to_json
from protos.repository import FIRST_DEFAULT, Entry

Format = Literal["table", "markdown", "json"]
ABSENT = "-"

WIDE, NARROW = 170, 100
"""Characters that the table needs with all columns, and with the brief ones; what is no terminal gets all."""


Cell = Callable[[Variant, Variant | None], str]
"""The text for a variant; the second argument is the FP32 PyTorch variant."""


@dataclass(frozen=True)
class Column:
    """A heading, and what stands below it."""

    heading: str
    cell: Cell
    brief: bool = True
    """Whether a narrow terminal shows it too."""


def _share(value: Callable[[Quality], float]) -> Cell:
    return lambda v, base: f"{value(v.quality):.2%}" if v.quality else ABSENT


def _against_parent(v: Variant, base: Variant | None) -> str:
    return f"{100 * (v.quality.value - v.quality.parent):+.2f}" if v.quality else ABSENT


def _milliseconds(value: Callable[[Latency], float]) -> Cell:
    return lambda v, base: f"{value(v.latency):.3f}" if v.latency else ABSENT


def _speedup(v: Variant, base: Variant | None) -> str:
    if not v.latency or not base or not base.latency:
        return ABSENT
    return f"{base.latency.p50_ms / v.latency.p50_ms:.1f}x"


def _megabytes(v: Variant, base: Variant | None) -> str:
    return f"{v.artifact_bytes / 1e6:.2f}"


def _smaller(v: Variant, base: Variant | None) -> str:
    return f"{base.artifact_bytes / v.artifact_bytes:.1f}x" if base else ABSENT


def _millions(value: Callable[[Variant], int | None]) -> Cell:
    return lambda v, base: ABSENT if (count := value(v)) is None else f"{count / 1e6:.2f}"


COLUMNS = (
    Column("variant", lambda v, base: v.variant),
    Column("top-1", _share(lambda quality: quality.value)),
    Column("vs parent, points", _against_parent),
    Column("agrees with FP32", _share(lambda quality: quality.agreement), brief=False),
    Column("p50 ms", _milliseconds(lambda latency: latency.p50_ms)),
    Column("p95 ms", _milliseconds(lambda latency: latency.p95_ms), brief=False),
    Column("p99 ms", _milliseconds(lambda latency: latency.p99_ms)),
    Column("faster", _speedup),
    Column("MB", _megabytes),
    Column("smaller", _smaller),
    Column("M params", _millions(lambda v: v.network.parameters), brief=False),
    Column("M nonzero", _millions(lambda v: v.network.nonzero_parameters), brief=False),
    Column("M MACs", _millions(lambda v: v.network.macs)),
)


def show(entries: list[Entry], form: Format) -> str:
    """All variants of a repository, model by model, broken ones with their reason."""
    if form == "json":
        return json.dumps([_record(entry) for entry in entries], indent=2)
    models = sorted({entry.model for entry in entries})
    return "\n\n".join(_model(m, [e for e in entries if e.model == m], form) for m in models)


def _model(model: str, entries: list[Entry], form: Format) -> str:
    variants = sorted((entry.variant for entry in entries if entry.variant), key=_slowest_first)
    base = next((v for v in variants if v.variant == FIRST_DEFAULT), None)
    rows = [[column.cell(v, base) for column in COLUMNS] for v in variants]
    table = _markdown(rows) if form == "markdown" else _terminal(model, rows)
    broken = [f"BROKEN {entry.name}: {entry.broken}" for entry in entries if entry.broken]
    return "\n".join([table, "", *_notes(variants), *broken])


def _slowest_first(v: Variant) -> float:
    return -v.latency.p50_ms if v.latency else 0.0


def _notes(variants: list[Variant]) -> list[str]:
    """Where and on what the figures were measured."""
    first = next((v for v in variants if v.latency and v.quality), None)
    if not first or not first.latency or not first.quality:
        return []
    return [
        f"Top-1 on {first.quality.samples} images of {first.quality.dataset}. Latency: batch {first.latency.batch},"
        f" {first.latency.threads} thread, {first.latency.samples} calls each, interleaved, in process."
        f" faster, smaller: against {FIRST_DEFAULT}.",
        f"Machine: {first.machine.cpu}, {first.machine.cores} cores, {' '.join(first.machine.instruction_sets)}.",
    ]


def _terminal(model: str, rows: list[list[str]]) -> str:
    screen = Console()
    width = max(screen.width, NARROW) if screen.is_terminal else WIDE
    table = Table(title=model, title_justify="left")
    shown = [i for i, column in enumerate(COLUMNS) if column.brief or width >= WIDE]
    for i in shown:
        table.add_column(COLUMNS[i].heading, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(row[i] for i in shown))
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip()


def _markdown(rows: list[list[str]]) -> str:
    lines = [[column.heading for column in COLUMNS], ["---"] + ["---:"] * (len(COLUMNS) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _record(entry: Entry) -> Json:
    if entry.variant:
        return typing.cast(Json, json.loads(to_json(entry.variant)))
    return {"model": entry.model, "variant": entry.name, "broken": str(entry.broken)}
