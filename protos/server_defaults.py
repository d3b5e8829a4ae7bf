"""What `pareto-serve` does unless it is told otherwise: the settings that `pareto-loadtest tune` tries to beat."""

THREADS = 1
WORKERS = 1
BATCH_MAX = 0
"""Found for each variant when it is loaded, between the two below."""
SMALLEST_BATCH, LARGEST_BATCH = 16, 64
