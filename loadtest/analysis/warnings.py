"""What a reader must know before trusting the cells of a run: its warnings, one sentence each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from loadtest import stats
from loadtest.analysis.results import Cell
from loadtest.measure.accuracy import Accuracy
from loadtest.tasks.table import title


def make_warnings(
    cells: Sequence[Cell],
    skipped: Mapping[str, str],
    notes: Iterable[str] = (),
    cores: int | None = None,
    accuracy: Sequence[Accuracy] = (),
) -> tuple[str, ...]:
    """Returns the warnings of the whole run, then of cells; `cores` if load generator and server share them."""
    texts = [f"{variant} was not measured: {reason}" for variant, reason in skipped.items()]
    texts += [*notes, *_of_sharing(cells, cores)]
    for checked in accuracy:
        texts += [f"{checked.variant}, over the wire: {text}" for text in _of_accuracy(checked)]
    for cell in cells:
        name = f"{cell.variant}, {cell.load.name}"
        texts += [f"{name}: {text}" for text in _of_cell(cell)]
    return (*texts, *_of_samples(cells))


def _of_samples(cells: Sequence[Cell]) -> Iterator[str]:
    """Yields a sentence for each percentile that cells lack."""
    for name in ("p50", "p95", "p99"):
        if few := [cell for cell in cells if getattr(cell.latency_ms, name) is None]:
            listed = ", ".join(f"{cell.variant} at {cell.load.name} ({cell.samples})" for cell in few)
            yield f"too few samples for {name}: {listed}"


def _of_sharing(cells: Sequence[Cell], cores: int | None) -> Iterator[str]:
    if cores is None:
        return
    if full := sum((cell.cores_used or 0.0) >= stats.CORES_LIMIT * cores for cell in cells):
        yield (
            f"in {full} of {len(cells)} {'cell' if len(cells) == 1 else 'cells'} the load generator and the server"
            f" used at least {stats.CORES_LIMIT:.0%} of this machine's {cores} {'core' if cores == 1 else 'cores'}:"
            " they competed, and the server alone may be faster"
        )


def _of_accuracy(checked: Accuracy) -> Iterator[str]:
    if checked.failures:
        failed = ", ".join(f"{count} {status}" for status, count in checked.failures.items())
        yield f"requests with test images failed ({failed}; {checked.first_failure})"
    if checked.differs:
        said = f"its manifest says {checked.manifest_quality:.2%}"
        yield f"{title([checked.metric])} is {checked.quality:.2%} on {checked.samples} images, {said}"


def _of_cell(cell: Cell) -> Iterator[str]:
    if cell.failures:
        failed = ", ".join(f"{count} {status}" for status, count in cell.statuses.items() if status != "OK")
        said = f", most often: {cell.failure_texts[0].text}" if cell.failure_texts else ""
        yield f"{cell.failures} of {cell.requests} calls failed ({failed}){said}"
    if cell.generator_limited:
        yield f"{_limit(cell)} and may have been the limit: the cell is on no frontier"
    if cell.server.requests not in (None, cell.requests) and not cell.failures:
        yield (
            f"{cell.requests} calls were sent but the server counted {cell.server.requests}:"
            " it served other clients too, or the metrics page is another server's"
        )


def _limit(cell: Cell) -> str:
    """Returns what the cell shows of the rule by which the load generator may have been the limit."""
    if cell.generator_limit == "ceiling":
        return (
            f"the load generator gets {cell.ceiling_rps:,.0f} requests/s from a server that answers at once, got"
            f" {cell.throughput_rps:,.0f} here"
        )
    return f"the load generator's thread used {cell.generator_cpu:.0%} of a core"
