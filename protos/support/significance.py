"""How far two classifiers agree, and whether a difference may be chance."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def share_equal(predictions: NDArray[Any], others: NDArray[Any]) -> float:
    """Returns the share, from 0 to 1, of equal predictions: of two classifiers (agreement), or with labels (top-1)."""
    return float(np.mean(predictions == others))


def mcnemar_p(lost: int, gained: int) -> float:
    """Returns the probability that chance alone splits so many images at least as unevenly: two-sided, exact.

    Only the first of two classifiers is right on `lost` images, only the second on `gained`; equally good ones would
    share them by halves (McNemar 1947, https://doi.org/10.1007/BF02295996). Returns 1 where there are none.
    """
    from scipy.stats import binomtest  # takes a second, and not every program asks

    return float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0
