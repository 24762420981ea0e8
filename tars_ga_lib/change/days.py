"""How far one day differs from another although nothing changed.

A day differs from the next by more than the noise within either tells: other people are about,
other jobs run. That shows only between days, and few days show it badly. So the series of a rule,
which are judged together, share what is usual (partial pooling): how large the deviation of a day
may be is laid out as a grid, the series together say how often they need each deviation, and the
days of one series weigh the deviations for it. With one earlier day there is no such weighing; what
the other series do, and the grid itself, are all that is known.

Source: Efron (2010, "Large-Scale Inference", chapter 1), empirical Bayes; Dempster, Laird & Rubin
(1977), the weights of a mixture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from .noise import Floats

#: The prior counts as much as so many series.
PRIOR_SERIES = 2.0
#: From so many series on, their changes may tell that days are alike.
MANY_SERIES = 12
#: Median of chi-squared with one degree of freedom, and the standard error of the median of n
#: values in multiples of it, times the root of n.
MEDIAN_CHI_SQUARED, INFLATION_ERROR = 0.4549, 2.33
#: Rounds in which the weights of the deviations settle.
ROUNDS = 30
#: Degrees of freedom of a variance that is taken as known.
KNOWN = 1e6
#: Halvings of the logarithm in which an interval's width is found.
HALVINGS = 18


#: Deviations of a day's level that are presumed, each as likely as another, as shares of it.
LEVEL = np.geomspace(0.005, 1.28, 9)
#: The same of the logarithm of a ratio, such as that of two spreads.
RATIO = np.array([0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8])


@dataclass(frozen=True, slots=True)
class Error:
    """The error of m changes, which is one of J normal (or Student's) distributions."""

    weight: Floats  #: (m, J)
    deviation: Floats  #: (m, J)
    dof: Floats  #: (m, 1)

    def of(self, rows: list[int]) -> Error:
        """Return the error of some of the changes."""
        return Error(self.weight[rows], self.deviation[rows], self.dof[rows])

    def p_value(self, change: Floats) -> Floats:
        """Two-sided p-value of no change, (m,)."""
        z = -np.abs(change)[:, None] / self.deviation
        tails = special.ndtr(z) if (self.dof == KNOWN).all() else special.stdtr(self.dof, z)
        p_value: Floats = np.minimum(1, 2 * (self.weight * tails).sum(axis=1))
        return p_value

    def half_width(self, alpha: float) -> Floats:
        """Half the width of the interval that leaves a change out where its p-value < alpha."""
        low, high = self.deviation.min(axis=1), 20 * self.deviation.max(axis=1)
        for _ in range(HALVINGS):
            middle = np.sqrt(low * high)
            wide = self.p_value(middle) < alpha
            low, high = np.where(wide, low, middle), np.where(wide, middle, high)
        half: Floats = high
        return half


def error_between_days(
    days: Floats,
    change: Floats,
    deviations: Floats,
    within: ArrayLike = 0.0,
    dof: ArrayLike = KNOWN,
) -> Error:
    """Error of (window - mean of its days) of m series.

    Parameters
    ----------
    days : (m, D) array
        A quantity of each of D earlier days of m series, such as the level; NaN is missing.
    change : (m,) array
        The quantity of the window less the mean of the days. It counts only where there is one
        earlier day, about the median of all such series, and only for the others: a change must
        not hide itself.
    deviations : (J,) array
        Standard deviations of a day that are presumed, before any day is seen.
    within, dof : (m,) arrays or numbers
        Variance of the change by the noise within the days, and its degrees of freedom. Several
        days show it themselves, so it counts only where there is one.
    """
    seen = np.isfinite(days)
    count = np.maximum(seen.sum(axis=1), 1)
    centre = np.where(seen, days, 0).sum(axis=1) / count
    square = np.where(seen, (days - centre[:, None]) ** 2, 0).sum(axis=1)
    single = count == 1
    noise = np.where(single, within, 0.0)
    degrees = np.where(single, dof, KNOWN)
    # Of a day, or of the difference of two.
    variance = noise[:, None] + deviations**2 * np.where(single, 2, 1)[:, None]
    if single.any():
        about = change - np.median(change[single])
        square = np.where(single, about**2, square)
    shown = np.where(single, 1, count - 1)[:, None]
    log = -shown / 2 * np.log(variance)
    log -= (degrees + 1)[:, None] / 2 * np.log1p(square[:, None] / variance / degrees[:, None])
    likelihood = np.exp(log - log.max(axis=1, keepdims=True))
    weight = np.full(len(deviations), 1 / len(deviations))
    prior = PRIOR_SERIES * weight
    for _ in range(ROUNDS):
        own = likelihood * weight
        own /= own.sum(axis=1, keepdims=True)
        weight = (prior + own.sum(axis=0)) / (PRIOR_SERIES + len(days))
    others = (prior + own.sum(axis=0) - own) / (PRIOR_SERIES + len(days) - 1)
    own = np.where(single[:, None], others, likelihood * others)
    own /= own.sum(axis=1, keepdims=True)
    of_change = variance * np.where(single, 1, 1 + 1 / count)[:, None]
    return Error(own, np.sqrt(of_change), degrees[:, None])


def alike(change: Floats, error: Floats, dof: Floats) -> bool:
    """Whether the noise within days explains the changes of many series, so that days are alike.

    The median of their squares, as normal scores, is then that of chi-squared, within one standard
    error or a quarter (Devlin & Roeder 1999, "Genomic control"), and hardly more than one in twenty
    is beyond two: 7 %, and what two standard errors allow.

    Parameters
    ----------
    change, error, dof : (m,) arrays
        The changes from a single earlier day, their standard errors by the noise within the days,
        and the degrees of freedom of these.
    """
    known = error > 0
    if known.sum() < MANY_SERIES:
        return False
    about = np.abs(change[known] - np.median(change[known]))
    scores = special.ndtri(special.stdtr(dof[known], -about / error[known]))
    n = len(scores)
    inflation = float(np.median(scores**2)) / MEDIAN_CHI_SQUARED
    tail = float(np.mean(np.abs(scores) > -special.ndtri(0.025)))
    centre_fits = inflation <= 1 + max(0.25, INFLATION_ERROR / np.sqrt(n))
    return bool(centre_fits and tail <= 0.07 + 2 * np.sqrt(0.05 * 0.95 / n))
