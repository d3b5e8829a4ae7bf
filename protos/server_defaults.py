"""What `pareto-serve` does unless it is told otherwise: the settings that `pareto-loadtest tune` tries to beat."""

THREADS = 1
WORKERS = 1
BATCH_MAX = 16
