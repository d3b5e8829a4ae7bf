"""The probability that an objective holds at a rate, as all trials together show it.

    P(holds) = (1 - SPOILT) / (1 + exp((log rate - log crossing) / spread))

At `crossing` it holds in half of the trials that no accident spoils. `spread` says how gradually it stops to hold: at
5% the probability falls from 90 to 10% over 22% of rate. That accidents may spoil a trial keeps one of them from
widening everything (Wichmann & Hill 2001, https://doi.org/10.3758/BF03194544).

What is known of both is a posterior on a grid. The prior of the crossing is flat in log rate, from half the lowest to
twice the highest rate tried. The prior of the spread is log-normal around 5% with a factor of e, so that trials that a
threshold separates give a finite interval too.
"""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SPOILT = 0.05
"""Share of the trials that are taken to break by accident."""

STEP = 0.01
"""Distance of two crossings of the grid, as a share."""
SPREADS: Floats = np.geomspace(0.005, 0.5, 16)
USUAL, UNSURE = 0.05, 1.0
"""The prior of the spread: its median, and the standard deviation of its logarithm."""

CANDIDATES = 40
"""Rates among which the next trial's is chosen, over the interval of the crossing and `BESIDE` on each side."""
BESIDE = 0.1


class RateModel:
    """The posterior of crossing and spread, after at least one trial."""

    def __init__(self, rates: Floats, held: NDArray[np.bool_]) -> None:
        """Takes the rates of all trials that prove something, and whether the objective held in each."""
        self._crossings: Floats = np.arange(math.log(rates.min() / 2), math.log(rates.max() * 2), STEP)
        likely = self._likely(np.log(rates))
        logs = np.where(held[:, None, None], np.log(likely), np.log1p(-likely)).sum(0)
        logs -= (np.log(SPREADS / USUAL) / UNSURE) ** 2 / 2
        weights: Floats = np.exp(np.maximum(logs - logs.max(), -500))
        self._weights: Floats = weights / weights.sum()
        self._below: Floats = np.cumsum(self._weights.sum(1))

    def crossing(self, quantile: float) -> float:
        """Returns a quantile of the rate at which the objective holds in half of the trials."""
        return math.exp(np.interp(quantile, self._below, self._crossings))

    def reliable(self, probability: float) -> float:
        """Returns the rate at which the next trial holds with this probability, what is not known included."""
        falling = np.tensordot(self._likely(self._crossings), self._weights)
        return math.exp(np.interp(-probability, -falling, self._crossings))

    def most_informative(self, low: float, high: float) -> float:
        """Returns the rate around `low` to `high` at which a trial's outcome tells most of the crossing.

        Source: Kontsevich & Tyler 1999, https://doi.org/10.1016/S0042-6989(98)00285-5, the spread averaged out.
        """
        logs: Floats = np.linspace(math.log(low) - BESIDE, math.log(high) + BESIDE, CANDIDATES)
        likely = self._likely(logs)
        crossings = self._weights.sum(1)
        given = (likely * self._weights).sum(2) / crossings
        gained = _entropy(given @ crossings) - _entropy(given) @ crossings
        return math.exp(logs[np.argmax(gained)])

    def _likely(self, logs: Floats) -> Floats:
        """Returns P(holds) of shape (rates, crossings, spreads) at the logarithms of rates."""
        steps = (self._crossings[None, :, None] - logs[:, None, None]) / SPREADS
        likely: Floats = (1 - SPOILT) / (1 + np.exp(-np.clip(steps, -25, 25)))
        return likely


def _entropy(likely: Floats) -> Floats:
    """Returns the entropy of an outcome, in nats."""
    entropy: Floats = -(likely * np.log(likely) + (1 - likely) * np.log1p(-likely))
    return entropy
