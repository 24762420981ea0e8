"""How far one day differs from another without any change.

A day differs from the next by more than the noise within either tells: other people are about,
other jobs run. That variance can only be seen between days. Few days show it badly, so the
variances of all series that are judged together are shrunk towards what they have in common
(partial pooling), by as much as they are alike. Where there is one day only, nothing but the other
series and a documented prior can say what is usual, and the interval is as wide as that.

Source: Smyth (2004, "Linear models and empirical Bayes methods", section 6), the moderated t:
scale and degrees of freedom of a scaled inverse chi-squared prior by the moments of log variances.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from .noise import Floats

#: The prior counts as much as so many series.
PRIOR_SERIES = 2
#: Mean and variance of the logarithm of a squared normal variate, drawn in at its tenths.
CLIPPED = (-1.112, 2.734)
#: Instead of no variance.
TINY = 1e-12
#: Variances are taken to be alike at most as closely as an estimate of so many days is.
MOST_DOF = 60.0


@dataclass(frozen=True, slots=True)
class Usual:
    """What is presumed of a quantity's deviation from day to day, before any day is seen."""

    deviation: float  #: standard deviation of a day
    dof: float  #: degrees of freedom with which it is known
    least: float  #: a series is never taken to deviate by less


#: What is presumed of one day against another: its level and its trend as shares of the baseline's
#: level, its spread and its most striking segment as logarithms.
USUAL = {
    "level": Usual(deviation=0.05, dof=1, least=0.005),
    "trend": Usual(deviation=0.1, dof=1, least=0.005),
    "spread": Usual(deviation=0.2, dof=2, least=0.02),
    "incident": Usual(deviation=0.3, dof=3, least=0.1),
}


def between_days(days: Floats, window: Floats, usual: Usual) -> tuple[Floats, Floats]:
    """Standard error of (window - mean of its days), by how days differ, and its dof, each (m,).

    Parameters
    ----------
    days : (m, D) array
        A quantity of each of D earlier days of m series, such as the level; NaN is missing.
    window : (m,) array
        The same of the window. It counts only where there is one earlier day: the differences of
        the m series then tell what is usual, about their median, so that what all series have in
        common is not taken for their differences.
    usual : Usual
        The prior.
    """
    count = np.isfinite(days).sum(axis=1)
    dof = np.maximum(count - 1.0, 0)
    centre = np.where(np.isfinite(days), days, 0).sum(axis=1) / np.maximum(count, 1)
    square = np.where(np.isfinite(days), (days - centre[:, None]) ** 2, 0).sum(axis=1)
    own = square / np.maximum(dof, 1)
    told = dof > 0
    if told.any():
        half = dof[told] / 2
        log = np.log(np.maximum(own[told], TINY)) - special.digamma(half) + np.log(half)
        scale, known = _prior(log, float(special.polygamma(1, half).mean()), usual)
    else:
        scale, known = _prior(_single(window - centre), CLIPPED[1], usual)
    variance = (known * scale + dof * own) / (known + dof)
    dof = known + dof
    if told.sum() == 1:  # no other series: the prior may add doubt, but is no reason to be surer
        restless = own > scale
        variance, dof = np.where(restless, own, variance), np.where(restless, dof - known, dof)
    variance = np.maximum(variance, usual.least**2)
    return np.sqrt(variance * (1 + 1 / np.maximum(count, 1))), dof


def _single(apart: Floats) -> Floats:
    """Log variances of a day, one from each difference of two days.

    Changes are looked for in the same differences. So that a few do not hide themselves, and that
    ties of counts do not pass for certainty, a tenth at either end is drawn in.
    """
    apart = apart[np.isfinite(apart)]
    if len(apart) < 2:
        return np.empty(0)
    log = np.log(np.maximum((apart - np.median(apart)) ** 2 / 2, TINY))
    low = np.quantile(log, 0.1, method="higher")
    clipped: Floats = np.clip(log, low, max(low, np.quantile(log, 0.9, method="lower")))
    return clipped - CLIPPED[0]


def _prior(log: Floats, sampling: float, usual: Usual) -> tuple[float, float]:
    """Variance that series have in common, and the degrees of freedom of knowing it.

    Parameters
    ----------
    log : (m,) array
        Unbiased estimates of the log variances.
    sampling : float
        What they vary by where all series are alike.
    """
    m, half, spread = len(log), usual.dof / 2, 0.0
    centre = 2 * np.log(usual.deviation) - float(special.digamma(half)) + np.log(half)
    centre = (float(log.sum()) + centre) / (m + 1)
    if m > 1:
        spread = max(0.0, (m - 1) * (float(log.var(ddof=1)) - sampling))
    spread += PRIOR_SERIES * float(special.polygamma(1, half))
    known = min(MOST_DOF, 2 * _trigamma_inverse(spread / (max(m - 1, 0) + PRIOR_SERIES)))
    scale = np.exp(centre + special.digamma(known / 2) - np.log(known / 2))
    return float(scale), known


def _trigamma_inverse(value: float) -> float:
    """Argument at which the trigamma function has this value (Newton's way, Smyth 2004)."""
    y = 0.5 + 1 / value
    for _ in range(50):
        trigamma = special.polygamma(1, y)
        step = trigamma * (1 - trigamma / value) / special.polygamma(2, y)
        y += step
        if -step / y < 1e-8:
            break
    return float(y)
