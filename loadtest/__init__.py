"""Locust and what is made of its samples: the third program, `pareto-loadtest`."""
