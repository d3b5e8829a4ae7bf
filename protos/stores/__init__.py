"""Where a repository is kept that is not on this disk: what `pareto-compress push` fills and `pareto-serve` reads."""
