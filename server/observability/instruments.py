"""prometheus_client's histogram, observed at a cost that does not grow with its buckets.

The library looks for the bucket from the first edge on, which takes microseconds where there are 35 of them; a
request is observed in three histograms. What is counted, and how it is exported, is the library's.
"""

from bisect import bisect_left

import prometheus_client


class Histogram(prometheus_client.Histogram):
    """A histogram whose bucket is found by bisection. Exemplars are not taken."""

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        self._sum.inc(amount)
        self._buckets[bisect_left(self._upper_bounds, amount)].inc(1)
