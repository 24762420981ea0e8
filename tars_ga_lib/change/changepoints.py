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
from .series import Ints, mean

#: An incident lasts at least a quarter of an hour.
SHORTEST_SECONDS = 900
#: Break points tried for a step that lasts.
STEP_POSITIONS = 9
#: Incidents that are looked for in a series.
MOST_SEGMENTS = 24


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of one series that departs from its level, positions [begin, end)."""

    begin: int
    end: int
    excess: float  #: mean of the segment minus the level
    extent: float  #: the departure in standard errors of so long a segment
    p_value: float  #: two-sided, corrected for the search


@dataclass(frozen=True, slots=True)
class Errors:
    """Standard errors of the means of segments of m series, and their degrees of freedom."""

    lengths: Ints  #: (L,) samples
    error: Floats  #: (m, L)
    dof: Floats  #: (m, L)

    def of(self, rows: Ints) -> Errors:
        """Return the errors of some of the series."""
        return Errors(self.lengths, self.error[rows], self.dof[rows])


def segment_errors(known: Noise, shortest: int) -> Errors:
    """Errors of segments from ``shortest`` samples up to half the series, in steps of 1.4."""
    longest = max(1, known.n // 2)
    shortest = min(shortest, longest)
    grid = np.geomspace(shortest, longest, int(np.log(longest / shortest) / np.log(1.4)) + 1)
    lengths = np.unique(np.round(grid).astype(np.int64))
    return Errors(lengths, *known.error_of_segments(lengths))


@dataclass(frozen=True, slots=True)
class Scan:
    """The farthest segment of each of ``m`` series, (m,) each."""

    begin: Ints
    end: Ints
    extent: Floats  #: in standard errors, positive
    other_way: Floats  #: extent of the farthest segment on the other side of the level
    p_value: Floats  #: two-sided, corrected for the search


def scan(x: Floats, errors: Errors) -> Scan:
    """Find the segment that departs most from the level, of all lengths in ``errors``.

    Parameters
    ----------
    x : (m, n) array
        Complete series about their level, `smoothed`.
    errors : Errors
        Of the lengths to look at.

    Notes
    -----
    A scan statistic (Arias-Castro, Donoho & Huo 2005), each length standardised by the error that
    the mean of so many correlated neighbours has. The search is paid for by Bonferroni over all
    begins and octaves of length.
    """
    (m, n), lengths = x.shape, errors.lengths
    total = np.hstack([np.zeros((m, 1)), np.cumsum(x, axis=1)])
    extents = np.empty((2, m, len(lengths)))  # upward and downward
    begins = np.empty((2, m, len(lengths)), np.int64)
    for i, length in enumerate(lengths):
        sums = total[:, length:] - total[:, :-length]
        for way, signed in enumerate((sums, -sums)):
            begins[way, :, i] = signed.argmax(axis=1)
            extents[way, :, i] = signed.max(axis=1) / length / errors.error[:, i]
    rows, way = np.arange(m), extents.max(axis=2).argmax(axis=0)
    at = extents[way, rows].argmax(axis=1)
    begin, extent = begins[way, rows, at], extents[way, rows, at]
    searched = n * (1 + np.log2(lengths[-1] / lengths[0]))
    p_value = searched * two_sided(extent, np.ones(m), errors.dof[rows, at])
    other = extents[1 - way, rows].max(axis=1)
    return Scan(begin, begin + lengths[at], extent, other, np.minimum(1, p_value))


def segments(
    x: Floats, errors: Errors, shortest: int, alpha: float, most: int = MOST_SEGMENTS
) -> tuple[list[list[Segment]], Scan]:
    """All segments that depart from the level, the farthest first, of each of ``m`` series.

    Each is cut out before the next is looked for, as long as its p-value is below ``alpha``. The
    scan for the first comes along.

    Parameters
    ----------
    x : (m, n) array
        Complete series about their level.
    errors : Errors
        As for `scan`.
    shortest : int
        Samples of the shortest segment.
    most : int
        Segments that are looked for.
    """
    left = smoothed(x, shortest)
    rare = np.mean(x == np.median(x, axis=1)[:, None], axis=1) > 0.9
    result: list[list[Segment]] = [[] for _ in x]
    rows, first = np.arange(len(x)), None
    for _ in range(most):
        if not len(rows):
            break
        farthest = scan(left[rows], errors.of(rows))
        first = first or farthest
        p_value = farthest.p_value
        counted = np.flatnonzero((p_value < alpha) & rare[rows])
        if len(counted):
            bounds = farthest.begin[counted], farthest.end[counted]
            chance = x.shape[1] * _chance_of_cluster(x[rows[counted]], *bounds)
            p_value[counted] = np.clip(chance, p_value[counted], 1)
        rows, found = rows[p_value < alpha], np.flatnonzero(p_value < alpha)
        for i, row in zip(found, rows, strict=True):
            total = np.append(0, left[row].cumsum())
            begin, end = _sharpened(total, int(farthest.begin[i]), int(farthest.end[i]), shortest)
            excess = float(total[end] - total[begin]) / (end - begin)
            left[row, begin:end] = 0
            # What touches a farther one is its ramp.
            if all(begin >= s.end + shortest or end <= s.begin - shortest for s in result[row]):
                part = Segment(begin, end, excess, float(farthest.extent[i]), float(p_value[i]))
                result[row].append(part)
    assert first is not None
    return result, first


def shortest_incident(step: float) -> int:
    """Samples of the shortest incident, at ``step`` seconds a sample."""
    return max(1, int(np.ceil(SHORTEST_SECONDS / step)))


def smoothed(x: Floats, shortest: int) -> Floats:
    """Runs of five smoothed by their median, where one sample alone must not be an incident."""
    return median_of_five(x) if shortest >= 3 else x.copy()


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


def _sharpened(total: Floats, begin: int, end: int, shortest: int) -> tuple[int, int]:
    """Move both edges to where the contrast is sharpest, by up to the length at a time."""
    n = len(total) - 1
    reach = end - begin
    begins = np.arange(max(0, begin - reach), end)
    ends = np.arange(begin + 1, min(n, end + reach) + 1)
    length = ends - begins[:, None]
    usable = (length >= shortest) & (length < n)
    share = np.where(usable, length / n, 0.5)
    excess = np.abs(total[ends] - total[begins][:, None] - share * total[n])
    contrast = np.where(usable, excess / np.sqrt(share * (1 - share)), 0)
    i, j = np.unravel_index(contrast.argmax(), contrast.shape)
    sharper = int(begins[i]), int(ends[j])
    grew = sharper[1] - sharper[0] > end - begin
    return _sharpened(total, *sharper, shortest) if grew else sharper


def telling_steps(x: Floats, known: Noise) -> tuple[Ints, Floats]:
    """Where one lasting step explains series (m, n) best, and its p-value, each (m,).

    The supremum of Wald tests over break points in the middle nine tenths (Andrews 1993), paid for
    by Bonferroni over the positions tried. The best is then moved to where the means before and
    after differ most for so many samples (Hinkley 1970).
    """
    n = x.shape[1]
    tried = np.unique(np.round(np.linspace(0.05, 0.95, STEP_POSITIONS) * n).astype(np.int64))
    p_values = np.stack([known.regress(after(n, at[None])).p_value for at in tried])
    reach, edge = np.arange(-(n // STEP_POSITIONS), n // STEP_POSITIONS + 1), max(2, n // 20)
    near = np.clip(tried[p_values.argmin(axis=0)][:, None] + reach, edge, n - edge)
    total = np.cumsum(x - x.mean(axis=1, keepdims=True), axis=1)
    contrast = np.abs(np.take_along_axis(total, near - 1, axis=1)) / np.sqrt(near * (n - near))
    best = np.take_along_axis(near, contrast.argmax(axis=1)[:, None], axis=1)[:, 0]
    there = n * known.regress(after(n, best)).p_value
    return best, np.minimum(1, np.minimum(len(tried) * p_values.min(axis=0), there))


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


def roughness(x: Floats) -> Floats:
    """Logarithm of the mean absolute step along the last axis of series, NaN where none varies.

    Level, season and trend leave it alone (von Neumann 1941).
    """
    steps = mean(np.abs(np.diff(x, axis=-1)), axis=-1)
    return np.log(np.where(steps > 0, steps, np.nan))
