"""Where the time of an answer goes, and so where a speed-up went: means of one cell, taken apart.

`PARTS` says how each part is known. The wire is what the same load takes against a server that answers at once (see
`measure.ceiling`): an upper bound, since there the users wait longer for each other's turn. The client's means are of
the steady state, the server's of all calls, warm-up included, and the wire's is a median: a remainder below zero comes
from that mixture and is shown as zero. What was not measured is not made up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from loadtest.analysis.results import Cell
from loadtest.analysis.validity import baseline_of, is_valid
from loadtest.measure.measurement import Ceiling, steady
from loadtest.users.recorder import Samples
from protos.telemetry import Stage

Part = Stage | Literal["compute", "queue", "processing", "wire", "remains", "sent late", "not split"]

PARTS: Mapping[Part, tuple[str, str]] = {
    "compute": ("#4C78A8", "measured: inside the engine"),
    "queue": ("#E45756", "measured: waiting inside the server"),
    "receive": ("#72B7B2", "measured: parsing the request"),
    "decode": ("#54A24B", "measured: checking it, reading its tensors or images"),
    "respond": ("#FF9DA6", "measured: from the engine's end until the way back begins"),
    "encode": ("#EECA3B", "measured: making the response and its bytes"),
    "processing": ("#F58518", "measured: the rest of the server's handler, of a server that does not tell its stages"),
    "wire": ("#9AA5B1", "at most: load generator, gRPC and kernel, measured against a server that answers at once"),
    "remains": ("#B279A2", "what is left: gRPC in the server, a call's wait there, and what no other part explains"),
    "sent late": ("#79706E", "measured: the request was due and not yet sent"),
    "not split": ("#C9C5B1", "unknown: what would split it was not measured"),
}
"""Colour and meaning, in the order of the bars."""


@dataclass(frozen=True)
class Breakdown:
    """Means of one cell in milliseconds."""

    cell: Cell
    total: float
    """From when a call was due until its answer."""
    parts: Mapping[Part, float]


def break_down(cell: Cell, samples: Samples, ceiling: Ceiling | None) -> Breakdown | None:
    """Returns where the time of a cell goes, or None where no call of it succeeded in the steady state."""
    rows, server = steady(samples.of_figures(cell.variant, cell.load)), cell.server
    if not len(rows):
        return None
    total, late = float(rows["latency"].mean()) * 1e3, float(rows["late"].mean()) * 1e3
    compute, queue, handler = server.compute_ms_mean, server.queue_ms_mean, server.handler_ms_mean
    parts: dict[Part, float] = {"sent late": late} if late else {}
    if compute is not None and queue is not None:
        parts |= {"compute": compute, "queue": queue}
        for stage, mean in server.stage_ms_mean.items():
            parts[stage] = mean
        if handler is not None and not server.stage_ms_mean:
            parts["processing"] = max(0.0, handler - compute - queue)
    left = max(0.0, total - sum(parts.values()))
    if not parts.keys() & {"encode", "processing"} or ceiling is None or ceiling.p50_ms is None:
        return Breakdown(cell, total, parts | {"not split": left})
    wire = min(left, ceiling.p50_ms)
    return Breakdown(cell, total, parts | {"wire": wire, "remains": left - wire})


def summary(breakdowns: Sequence[Breakdown]) -> str:
    """Says where the fastest variant saves time against FP32; empty where that cannot be said."""
    able = {each.cell.variant: each for each in breakdowns if is_valid(each.cell) and "compute" in each.parts}
    baseline = baseline_of([each.cell for each in able.values()])
    if baseline is None:
        return ""
    slow, fast = able[baseline.variant], min(able.values(), key=lambda each: each.total)
    if slow is fast:
        return f"No variant answers in less time, on average, than {slow.cell.variant}."
    outside = fast.total - fast.parts["compute"] - fast.parts["queue"]
    return (
        f"{fast.cell.variant} answers in {fast.total:.2f} ms on average, {slow.cell.variant} in {slow.total:.2f}."
        f" In the engine it takes {fast.parts['compute']:.2f} ms instead of {slow.parts['compute']:.2f}, in the queue"
        f" {fast.parts['queue']:.2f} instead of {slow.parts['queue']:.2f}. The engine is"
        f" {slow.parts['compute'] / fast.parts['compute']:.1f} times faster, an answer"
        f" {slow.total / fast.total:.1f} times. The overhead outside engine and queue is"
        f" {outside:.2f} ms, {outside / fast.total:.0%} of it: no faster engine shortens that."
    )
