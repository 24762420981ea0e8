"""Whether a baseline can be relied on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from . import changepoints
from .noise import MIN_SAMPLES, Floats, noise
from .series import (
    ROUNDING,
    check,
    complete,
    finite,
    floats,
    median,
    size_of,
    span,
    without_outliers,
)

#: A run of missing samples this long is a gap.
GAP_HOURS = 1.0


@dataclass(frozen=True, slots=True)
class Problem:
    """What makes a baseline doubtful."""

    series: int  #: which of the series
    day: int  #: which of the baseline's days
    code: str  #: "no_data", "gap", "incident" or "trend"
    begin: int  #: first sample of that day concerned
    end: int  #: one past the last
    size: float  #: hours of a gap; mean excess of an incident; slope per hour of a trend


def baseline_problems(baselines: ArrayLike, *, step: float, alpha: float = 0.01) -> list[Problem]:
    """Say what is wrong with baselines: a gap, an incident, a trend of their own.

    Parameters
    ----------
    baselines : (N, D, T) array
        D days of like hours of N series. Each of several days is compared with the median of the
        others (of two, one cannot tell which is odd: both are named); one alone with its own
        smooth course of the day.
    step : float
        Seconds between samples.
    alpha : float
        Chance that a sound baseline is called doubtful for an incident, or for a trend.

    Raises
    ------
    ValueError
        The step is not positive, or the array has the wrong dimensions or no samples.
    """
    days = finite(floats(baselines, "baseline", (3,)))
    check(days, days, step)
    (_, count, length), hours = days.shape, step / 3600
    x = days.reshape(-1, length)
    problems = []
    silent = np.isfinite(x).sum(axis=1) < MIN_SAMPLES
    gaps = [_longest_gap(row) for row in x]

    def add(row: int, code: str, begin: int, end: int, size: float) -> None:
        series, day = divmod(int(row), count)
        problems.append(Problem(series, day, code, int(begin), int(end), float(size)))

    for row, (begin, end) in enumerate(gaps):
        if silent[row]:
            add(row, "no_data", 0, length, (end - begin) * hours)
        elif (end - begin) * hours >= GAP_HOURS:
            add(row, "gap", begin, end, (end - begin) * hours)

    if count > 1:
        others = [median(np.delete(days, day, axis=1).swapaxes(0, 1)) for day in range(count)]
        x = x - np.stack(others, axis=1).reshape(-1, length)
    time = np.tile(np.arange(length) * hours, (len(x), 1))
    usable = np.isfinite(x)
    varies = span(x) > ROUNDING * size_of(days.reshape(-1, length))
    varies &= ~silent & (usable.sum(axis=1) >= MIN_SAMPLES)
    if count == 1:
        for one in np.flatnonzero(varies):
            some = usable[one]
            hour = time[one, some].copy()
            for y in (x, time):
                y[one, some] = _without_course(y[one, some], hour)
    shortest = changepoints.shortest_incident(step)
    for rows, at in complete(usable, varies):
        y, t = (np.take_along_axis(z[rows], at, 1) for z in (x, time))
        clipped = without_outliers(y)
        known = noise(clipped)
        errors = changepoints.segment_errors(known, shortest)
        about = y - clipped.mean(axis=1, keepdims=True)
        parts, _ = changepoints.segments(about, errors, shortest, alpha / count, most=1)
        trend = known.regress(t)
        trend_p = trend.p_value
        for i, row in enumerate(rows):
            if parts[i]:
                part = parts[i][0]
                add(row, "incident", at[i, part.begin], at[i, part.end - 1] + 1, part.excess)
            elif trend_p[i] < alpha / count:
                add(row, "trend", 0, length, trend.slope[i])
    return sorted(problems, key=lambda p: (p.series, p.day))


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
