"""Whether a baseline can be relied on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from . import changepoints
from .noise import MIN_SAMPLES, Floats, noise
from .series import ROUNDING, check, finite, floats, median, size_of, without_outliers

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
    days = np.atleast_2d(floats(baseline, "baseline", (1, 2)))
    return baselines_health(days[None], step=step, alpha=alpha)[0]


def baselines_health(baselines: ArrayLike, *, step: float, alpha: float = 0.01) -> list[Health]:
    """Say what is wrong with many baselines (N, D, T) at once; see `baseline_health`."""
    days = finite(floats(baselines, "baselines", (3,)))
    check(days, days, step, None, 1 - alpha)
    hours = step / 3600
    problems: list[list[Problem]] = [[] for _ in days]
    longest = [0] * len(days)
    for day in range(days.shape[1]):
        x = days[:, day]
        short = np.isfinite(x).sum(axis=1) < MIN_SAMPLES
        for row in np.flatnonzero(np.isnan(x).any(axis=1)).tolist():
            begin, end = _longest_gap(x[row])
            longest[row] = max(longest[row], end - begin)
            length = (end - begin) * hours
            if short[row]:
                problems[row].append(Problem("no_data", day, 0, x.shape[1], length, np.nan))
            elif length >= GAP_HOURS:
                problems[row].append(Problem("gap", day, begin, end, length, np.nan))
        rest = np.delete(days, day, axis=1)
        for row, found in _restless(x, rest, day, step, alpha / days.shape[1]):
            problems[row].append(found)
    coverage = np.isfinite(days).mean(axis=(1, 2))
    return [
        Health(float(share), gap, tuple(found))
        for share, gap, found in zip(coverage, longest, problems, strict=True)
    ]


def _restless(
    x: Floats, others: Floats, day: int, step: float, alpha: float
) -> list[tuple[int, Problem]]:
    """Incidents and trends of one day (N, T) against other days (N, D, T) or its own course."""
    usual = median(np.moveaxis(others, 1, 0)) if others.shape[1] else np.zeros(x.shape)
    usable = np.isfinite(x - usual)
    count = usable.sum(axis=1)
    problems = []
    for n in np.unique(count[count >= MIN_SAMPLES]):
        rows = np.flatnonzero(count == n)
        at = np.nonzero(usable[rows])[1].reshape(len(rows), n)
        y = np.take_along_axis(x[rows] - usual[rows], at, axis=1)
        varies = np.ptp(y, axis=1) > ROUNDING * size_of(x[rows])
        rows, at, y = rows[varies], at[varies], y[varies]
        if not len(rows):
            continue
        time = np.multiply(at, step / 3600, dtype=np.float64)
        if not others.shape[1]:
            y, time = _without_course(y, time), _without_course(time, time)
        clipped = without_outliers(y)
        known, shortest = noise(clipped), changepoints.shortest_incident(step)
        about = y - clipped.mean(axis=1, keepdims=True)
        found = changepoints.segments(about, changepoints.errors(known, shortest), shortest, alpha)
        trend = known.regress(time)
        for i, row in enumerate(rows):
            problems += [(row, _incident(s, day, at[i])) for s in found[i] if s.p_value < alpha]
            if found[i][0].p_value >= alpha and trend.p_value[i] < alpha:
                slope, p_value = float(trend.slope[i]), float(trend.p_value[i])
                problems.append((row, Problem("trend", day, 0, x.shape[1], slope, p_value)))
    return problems


def _incident(found: changepoints.Segment, day: int, at: changepoints.Ints) -> Problem:
    begin, end = int(at[found.begin]), int(at[found.end - 1]) + 1
    return Problem("incident", day, begin, end, found.excess, found.p_value)


def _without_course(y: Floats, time: Floats) -> Floats:
    """What the daily and half-daily waves do not explain of samples (m, n) at ``time`` (hours)."""
    angle = 2 * np.pi * time / 24
    waves = np.stack(
        [np.ones_like(time), *(f(k * angle) for k in (1, 2) for f in (np.sin, np.cos))], axis=1
    )
    fit = without_outliers(y)[:, None] @ np.linalg.pinv(waves)
    rest: Floats = y - (fit @ waves)[:, 0]
    return rest


def _longest_gap(x: Floats) -> tuple[int, int]:
    """Positions [begin, end) of the longest run of missing samples."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], np.isnan(x), [False]])))
    if not len(edges):
        return 0, 0
    begins, ends = edges[::2], edges[1::2]
    i = int((ends - begins).argmax())
    return int(begins[i]), int(ends[i])
