"""When and how a series changed: incidents, begins, trends and spread.

Each looks at the like-hour differences of a window from its baseline (or at a baseline alone),
weighs what it finds against the correlated noise of `noise`, and has a p-value of
its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from .noise import Floats, Noise, two_sided

Ints = NDArray[np.int64]

#: An incident lasts at least three samples, as fewer cannot be told from an outlier, and 1/96
#: of the series (a quarter of an hour of a day).
SHORTEST_INCIDENT = 3
SHORTEST_SHARE = 96
#: Break points tried for a step that lasts.
STEP_POSITIONS = 9
#: The series is cut into so many blocks for the Theil-Sen slope and for the change of spread.
SLOPE_BLOCKS = 32
SPREAD_BLOCKS = 12


@dataclass(frozen=True, slots=True)
class Segments:
    """The most striking segment of each of ``m`` series, positions [begin, end)."""

    begin: Ints
    end: Ints
    excess: Floats  #: mean of the segment minus the level outside it
    peak: Floats  #: largest deviation from the level inside it, signed
    p_value: Floats  #: two-sided, corrected for the search


def striking_segments(x: Floats, level: Floats, noise: Noise) -> Segments:
    """Find the segment whose mean departs most from the level, at all lengths up to half.

    Parameters
    ----------
    x : (m, n) array
        Complete series.
    level : (m,) array
        Level to depart from.
    noise : Noise
        Noise of the series.

    Notes
    -----
    A scan statistic (Arias-Castro, Donoho & Huo 2005) over lengths in geometric steps, each
    standardised by the error that the mean of so many correlated neighbours has. The search is
    paid for by Bonferroni over all begins and octaves of length. Runs of five are smoothed by
    their median, so that an outlier or two are no incident.
    """
    smooth = median_of_five(x)
    m, n = smooth.shape
    lengths = _lengths(n)
    total = np.hstack([np.zeros((m, 1)), np.cumsum(smooth - level[:, None], axis=1)])
    error, dof = noise.error_of_segments(lengths)
    best = np.full(m, np.inf)
    begin, end = np.zeros(m, np.int64), np.zeros(m, np.int64)
    rows = np.arange(m)
    for i, length in enumerate(lengths):
        sums = np.abs(total[:, length:] - total[:, :-length])
        at = sums.argmax(axis=1)
        p_value = two_sided(sums[rows, at] / length, error[:, i], dof[:, i])
        better = p_value < best
        best[better] = p_value[better]
        begin[better], end[better] = at[better], at[better] + length
    searched = n * (1 + np.log2(lengths[-1] / lengths[0]))
    p_value = np.minimum(1, searched * best)
    rare = np.flatnonzero((p_value < 0.05) & (np.mean(x == np.median(x, 1)[:, None], 1) > 0.9))
    if len(rare):
        by_chance = _chance_of_cluster(x[rare], begin[rare], end[rare])
        p_value[rare] = np.maximum(p_value[rare], np.minimum(1, searched * by_chance))
    for row in np.flatnonzero(p_value < 0.05):
        begin[row], end[row] = _sharpened(total[row], begin[row], end[row])
    return _described(smooth, begin, end, p_value)


def _chance_of_cluster(x: Floats, begin: Ints, end: Ints) -> Floats:
    """Two-sided chance that rare events fall as thickly as in [begin, end) at their usual rate.

    Where nine samples in ten are equal, as with rare errors, a mean of few samples is not near
    normal. The events are counted instead, in units of their median size (Poisson).
    """
    size = np.abs(x - np.median(x, axis=1, keepdims=True))
    inside = inside_segment(x.shape[1], begin, end)
    unit = np.array([np.median(row[row > 0]) for row in size])
    within = np.where(inside, size, 0).sum(axis=1) / unit
    outside = np.where(inside, 0, size).sum(axis=1) / unit
    length = end - begin
    usual = (outside + 1) / (x.shape[1] - length) * length
    chance: Floats = 2 * special.pdtrc(np.maximum(np.ceil(within) - 1, 0), usual)
    return chance


def _lengths(n: int) -> Ints:
    """Lengths searched: from the shortest incident to half the series, in steps of 1.4."""
    shortest = max(SHORTEST_INCIDENT, n // SHORTEST_SHARE)
    grid = np.geomspace(shortest, n // 2, int(np.log(n / 2 / shortest) / np.log(1.4)) + 1)
    return np.unique(np.round(grid).astype(np.int64))


def _sharpened(total: Floats, begin: int, end: int) -> tuple[int, int]:
    """Move both edges to where the contrast is sharpest, by up to the length at a time."""
    n = len(total) - 1
    reach = end - begin
    begins = np.arange(max(0, begin - reach), end)
    ends = np.arange(begin + 1, min(n, end + reach) + 1)
    length = ends - begins[:, None]
    usable = (length >= SHORTEST_INCIDENT) & (length < n)
    share = np.where(usable, length / n, 0.5)
    excess = np.abs(total[ends] - total[begins][:, None] - share * total[n])
    contrast = np.where(usable, excess / np.sqrt(share * (1 - share)), 0)
    i, j = np.unravel_index(contrast.argmax(), contrast.shape)
    sharper = int(begins[i]), int(ends[j])
    grew = sharper[1] - sharper[0] > end - begin
    return _sharpened(total, *sharper) if grew else sharper


def _described(x: Floats, begin: Ints, end: Ints, p_value: Floats) -> Segments:
    inside = inside_segment(x.shape[1], begin, end)
    length = end - begin
    within = np.where(inside, x, 0).sum(axis=1) / length
    outside = np.where(inside, 0, x).sum(axis=1) / (x.shape[1] - length)
    deviation = np.where(inside, x - outside[:, None], 0)
    at = np.abs(deviation).argmax(axis=1)
    peak = deviation[np.arange(len(x)), at]
    return Segments(begin, end, within - outside, peak, p_value)


@dataclass(frozen=True, slots=True)
class Steps:
    """The most telling step of each of ``m`` series, from one level to another for good."""

    at: Ints  #: first position of the new level
    p_value: Floats  #: two-sided, corrected for the search
    evidence: Floats  #: log likelihood with the step taken out


def telling_steps(x: Floats, noise: Noise) -> Steps:
    """Find where one step explains most.

    Parameters
    ----------
    x : (m, n) array
        Complete series.
    noise : Noise
        Noise of the series.

    Notes
    -----
    The supremum of Wald tests over break points in the middle nine tenths (Andrews 1993), under
    noise that is weighed anew with each step taken out, paid for by Bonferroni over the
    positions tried. The best is then moved to where the means before and after differ most
    for so many samples (Hinkley 1970).
    """
    m, n = x.shape
    tried = np.unique(np.round(np.linspace(0.05, 0.95, STEP_POSITIONS) * n).astype(np.int64))
    p_value, best = np.full(m, np.inf), np.full(m, -np.inf)
    at = np.zeros(m, np.int64)
    for position in tried:
        fit = noise.regress(after(n, np.array([position])))
        evidence = fit.rest.evidence()
        better = evidence > best
        best[better], at[better] = evidence[better], position
        p_value = np.minimum(p_value, len(tried) * fit.p_value)
    rows = np.flatnonzero(p_value < 0.05)
    at[rows] = _nearby(x[rows], at[rows], max(1, n // STEP_POSITIONS))
    fit = noise.of(rows).regress(after(n, at[rows]))
    best[rows] = fit.rest.evidence()
    p_value[rows] = np.minimum(p_value[rows], n * fit.p_value)
    return Steps(at, np.minimum(1, p_value), best)


def _nearby(x: Floats, at: Ints, reach: int) -> Ints:
    """Where within reach the means before and after differ most for so many samples."""
    n = x.shape[1]
    edge = max(2, n // 20)
    near = np.clip(at[:, None] + np.arange(-reach, reach + 1), edge, n - edge)
    total = np.cumsum(x - x.mean(axis=1, keepdims=True), axis=1)
    contrast = np.abs(np.take_along_axis(total, near - 1, axis=1)) / np.sqrt(near * (n - near))
    return np.take_along_axis(near, contrast.argmax(axis=1)[:, None], axis=1)[:, 0]


def after(n: int, begin: Ints) -> Floats:
    """Steps of ``n`` samples, 0 before ``begin`` and 1 from there on, (m, n)."""
    return (np.arange(n) >= begin[:, None]).astype(np.float64)


def inside_segment(n: int, begin: Ints, end: Ints) -> NDArray[np.bool_]:
    """Which of ``n`` positions lie in [begin, end), (m, n)."""
    at = np.arange(n)
    return (at >= begin[:, None]) & (at < end[:, None])


def median_of_five(x: Floats) -> Floats:
    """Each sample replaced by the median of itself and two neighbours either side (Tukey 1977).

    What lasts three samples is kept, edges included. The two samples at either end take the
    value of the third.
    """
    if x.shape[1] < 5:
        return x
    a, b, c, d, e = (x[:, i : x.shape[1] - 4 + i] for i in range(5))
    a, b = np.minimum(a, b), np.maximum(a, b)
    d, e = np.minimum(d, e), np.maximum(d, e)
    # The least and the greatest of the four are not the middle one of five.
    a, d = np.maximum(a, d), np.minimum(b, e)
    smooth = np.pad(
        np.maximum(np.minimum(a, d), np.minimum(np.maximum(a, d), c)), ((0, 0), (2, 2)), "edge"
    )
    return smooth


def theil_sen(x: Floats, time: Floats) -> Floats:
    """Theil-Sen slope (Theil 1950, Sen 1968) of the means of up to 32 blocks, (m,).

    Parameters
    ----------
    x : (m, n) array
        Complete series.
    time : (m or 1, n) array
        Their times; the slope is per unit of these.
    """
    n = x.shape[1]
    cuts = np.arange(min(SLOPE_BLOCKS, n)) * n // min(SLOPE_BLOCKS, n)
    size = np.diff(np.append(cuts, n))
    y = np.add.reduceat(x, cuts, axis=1) / size
    t = np.add.reduceat(time, cuts, axis=1) / size
    first, second = np.triu_indices(len(cuts), 1)
    slopes = (y[:, second] - y[:, first]) / (t[:, second] - t[:, first])
    middle: Floats = np.median(slopes, axis=1)
    return middle


def spread_change(baseline: Floats, window: Floats) -> tuple[Floats, Floats]:
    """Ratio of the spread of a window to that of its baseline, and its p-value, each (N,).

    Parameters
    ----------
    baseline : (N, D, T) array
        D days of like hours, NaN where missing.
    window : (N, T) array

    Notes
    -----
    The spread is the mean absolute step from sample to sample, which level, season and trend
    leave alone (von Neumann 1941). Some 12 blocks are compared like hour with like hour on the
    log scale by Student's t: noisy days and calm nights do not matter, and steps of neighbouring
    blocks are all but independent even where the samples are not. NaN where fewer than 6 blocks
    vary in both.
    """
    before = np.mean([_roughness(baseline[:, i]) for i in range(baseline.shape[1])], axis=0)
    after = _roughness(window)
    usable = (before > 0) & (after > 0)
    log = np.log(np.where(usable, after, 1) / np.where(usable, before, 1))
    count = usable.sum(axis=1)
    enough = count >= 6
    blocks = np.where(enough, count, 6)
    mean = log.sum(axis=1) / blocks
    left = np.where(usable, log - mean[:, None], 0)
    error = np.sqrt((left**2).sum(axis=1) / (blocks - 1) / blocks)
    identical = error == 0
    p_value = two_sided(mean, np.where(identical, 1, error), blocks - 1.0)
    p_value = np.where(identical & (mean == 0), 1, p_value)
    return np.where(enough, np.exp(mean), np.nan), np.where(enough, p_value, np.nan)


def _roughness(x: Floats) -> Floats:
    """Mean absolute step in each block, (N, blocks); 0 where a block is nearly empty."""
    steps = np.abs(np.diff(x, axis=1))
    seen = np.isfinite(steps)
    blocks = max(1, min(SPREAD_BLOCKS, steps.shape[1] // 6))
    cuts = np.arange(blocks) * steps.shape[1] // blocks
    count = np.add.reduceat(seen, cuts, axis=1, dtype=np.int64)
    total = np.add.reduceat(np.where(seen, steps, 0), cuts, axis=1)
    return np.where(count >= 3, total / np.maximum(count, 1), 0)
