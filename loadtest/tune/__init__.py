"""`pareto-loadtest tune`: which settings of `pareto-serve` serve one variant best on this machine, by measurement."""
