"""The knee of a curve of latency over throughput: where more load begins to cost more than it brings.

From one load to the next the throughput grows by some factor and the latency by another. Up to the knee that of the
throughput is greater, beyond it that of the latency: throughput divided by latency, Kleinrock's power, is highest there
(L. Kleinrock, Power and deterministic rules of thumb for probabilistic problems in computer communications, ICC 1979).
"""

from collections.abc import Sequence

from loadtest.analysis.results import Cell

FEWEST_LOADS = 3


def knee(cells: Sequence[Cell]) -> Cell | None:
    """Returns the cell at the knee, of the cells of one variant by rising load.

    None with fewer than `FEWEST_LOADS` of known p50, and where the power still rises at the highest load.
    """
    known = [(cell.rows * cell.throughput_rps / p50, cell) for cell in cells if (p50 := cell.latency_ms.p50)]
    if len(known) < FEWEST_LOADS:
        return None
    best = max(known, key=lambda each: each[0])[1]
    return None if best is known[-1][1] else best
