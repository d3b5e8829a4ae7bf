"""Whether a difference may be chance: what the table of variants and the report of a load test both ask."""


def mcnemar_p(lost: int, gained: int) -> float:
    """Probability that chance alone splits so many images at least as unevenly: two-sided, exact.

    Of images on which exactly one of two classifiers is right, `lost` are those of the first, `gained` those of the
    second; were both equally good, each would be either with probability one half (McNemar 1947,
    https://doi.org/10.1007/BF02295996). 1 where there are none.
    """
    flips = lost + gained
    ways = tail = 1  # of choosing k of the flips, and of choosing at most k: whole numbers, nothing is rounded
    for k in range(min(lost, gained)):
        ways = ways * (flips - k) // (k + 1)
        tail += ways
    return min(1.0, 2 * tail / (1 << flips))
