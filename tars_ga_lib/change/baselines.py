"""Whether a baseline can be relied on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from . import changepoints
from .noise import MIN_SAMPLES, Floats, noise
from .series import ROUNDING, check, finite, floats, median, without_outliers

#: A run of missing samples this long is a gap.
GAP_HOURS = 1.0


@dataclass(frozen=True, slots=True)
class Problem:
    """What makes a baseline doubtful."""

    code: str  #: "no_data", "gap", "incident" or "trend"
    day: int  #: which of the baseline's days
    begin: int  #: first sample of that day concerned
    end: int  #: one past the last
    size: float  #: hours of a gap; mean excess of an incident; slope per hour of a trend
    p_value: float  #: NaN for a gap


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a baseline can be relied on."""

    coverage: float  #: share of the samples that are there
    longest_gap: int  #: samples in the longest run of missing ones
    problems: tuple[Problem, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.problems


def baseline_health(baseline: ArrayLike, *, step: float, alpha: float = 0.01) -> Health:
    """Say what is wrong with a baseline: a gap, an incident, a trend of its own.

    Parameters
    ----------
    baseline : (T,) or (D, T) array
        One day, or several days of like hours. Each of several is compared with the median of
        the others (of two, one cannot tell which is odd: both are named); one alone with its
        own smooth course of the day.
    step : float
        Seconds between samples.
    alpha : float
        Chance that a sound baseline is called doubtful for an incident, or for a trend.

    Raises
    ------
    ValueError
        The step is not positive, or the array has the wrong dimensions or no samples.
    """
    days = finite(np.atleast_2d(floats(baseline, "baseline", (1, 2))))
    check(days, days, step, None, 1 - alpha)
    hours = step / 3600
    problems: list[Problem] = []
    longest = 0
    for day, x in enumerate(days):
        begin, end = _longest_gap(x)
        longest = max(longest, end - begin)
        if np.isfinite(x).sum() < MIN_SAMPLES:
            problems.append(Problem("no_data", day, 0, len(x), (end - begin) * hours, np.nan))
            continue
        if (end - begin) * hours >= GAP_HOURS:
            problems.append(Problem("gap", day, begin, end, (end - begin) * hours, np.nan))
        rest = np.delete(days, day, axis=0)
        problems += _restless(x, rest, day, hours, alpha / len(days))
    return Health(float(np.isfinite(days).mean()), longest, tuple(problems))


def _restless(x: Floats, others: Floats, day: int, hours: float, alpha: float) -> list[Problem]:
    """Incident and trend of one day (T,) against other days (D, T) or its own smooth course."""
    usual = median(others) if len(others) else np.zeros(len(x))
    at = np.flatnonzero(np.isfinite(x - usual))
    y, time = (x - usual)[at], np.multiply(at, hours, dtype=np.float64)
    if len(at) < MIN_SAMPLES or np.ptp(y) <= ROUNDING * np.abs(x[at]).max():
        return []
    if not len(others):
        y, time = _without_course(y, time), _without_course(time, time)
    clipped = without_outliers(y[None])
    known = noise(clipped)
    found = changepoints.striking_segments(y[None], clipped.mean(axis=1), known)
    trend = known.regress(time[None])
    trend_p = trend.p_value[0]
    problems = []
    if found.p_value[0] < alpha:
        begin, end = int(at[found.begin[0]]), int(at[found.end[0] - 1]) + 1
        problems.append(
            Problem("incident", day, begin, end, float(found.excess[0]), float(found.p_value[0]))
        )
    elif trend_p < alpha:
        problems.append(Problem("trend", day, 0, len(x), float(trend.slope[0]), float(trend_p)))
    return problems


def _without_course(y: Floats, time: Floats) -> Floats:
    """What the daily and half-daily waves do not explain of samples at ``time`` (hours)."""
    angle = 2 * np.pi * time / 24
    waves = np.stack(
        [np.ones_like(time), *(f(k * angle) for k in (1, 2) for f in (np.sin, np.cos))]
    )
    fit = np.linalg.lstsq(waves.T, without_outliers(y[None])[0], rcond=None)[0]
    rest: Floats = y - fit @ waves
    return rest


def _longest_gap(x: Floats) -> tuple[int, int]:
    """Positions [begin, end) of the longest run of missing samples."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], np.isnan(x), [False]])))
    if not len(edges):
        return 0, 0
    begins, ends = edges[::2], edges[1::2]
    i = int((ends - begins).argmax())
    return int(begins[i]), int(ends[i])
