"""Levels: for each KPI a series whose mean is the figure of the whole window.

What is tested for drift must be what the report tells. The mean of a ratio's steps is not the ratio
of its totals, and the mean of percentiles is no percentile, so both are linearised: each step is
replaced by the figure of the window plus what that step contributes to it (its influence). The mean
is then the figure itself, and its error is the figure's error to first order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tars_ga_lib.kpis import Kpis, quantile

Floats = NDArray[np.float64]
Place = tuple[str | None, str | None]


def level_series(
    kpis: Kpis, name: str, region: str | None, service: str | None, about: Kpis | None = None
) -> Floats:
    """Series whose mean is a KPI's figure over the window, shape (T,), NaN where it was not seen.

    A gauge or a rate is such a series itself; see `_ratio` and `_percentile` for the others. A
    ratio is taken about that of ``about``, the baseline: steps like it then read like it, whatever
    else happened in the window.
    """
    kpi = kpis.job.kpis[name]
    if kpi.kind == "ratio":
        usual = about.figure(name, region, service).value if about else None
        return _ratio(*kpis.parts(name, region, service), usual)
    if kpi.kind == "histogram":
        return _percentile(kpi.quantile or 0.0, *kpis.buckets(name, region, service))
    return kpis.series(name, region, service)


def level_matrix(
    kpis: Kpis, name: str, places: Sequence[Place], about: Kpis | None = None
) -> Floats:
    """`level_series` of several places, shape (places, T)."""
    return np.array([level_series(kpis, name, *place, about) for place in places])


def _ratio(top: Floats, bottom: Floats, usual: float | None = None) -> Floats:
    """R + (numerator - R × denominator) / mean denominator, each (T,).

    R is the usual ratio, that of the series itself if there is none; the mean is the latter.

    Source: the delta method for a ratio of totals; Cochran 1977, Sampling Techniques, 6.3.
    """
    total = float(np.nansum(bottom))
    if not total > 0:
        return np.full(len(top), np.nan)
    ratio = np.nansum(top) / total if usual is None else usual
    level: Floats = ratio + (top - ratio * bottom) / np.nanmean(bottom)
    return level


def _percentile(q: float, edges: Floats, counts: Floats) -> Floats:
    """X - (requests up to X - q × requests) / (mean requests × density at X), shape (T,).

    X is the percentile of the summed buckets (buckets, T), and the density is that of its bucket.
    Source: Bahadur's representation of a quantile (Bahadur 1966); Woodruff 1952 for totals.
    """
    joined = np.nansum(counts, axis=1)
    value, lower, upper = (float(x) for x in quantile(q, edges, joined))
    if not np.isfinite(value) or not np.isfinite(upper):
        return np.full(counts.shape[1], np.nan)
    at = int(np.searchsorted(edges, upper))
    below = counts[at - 1] if at else np.zeros(counts.shape[1])
    share = (value - lower) / (upper - lower)
    up_to = below + share * (counts[at] - below)
    inside = joined[at] - (joined[at - 1] if at else 0.0)
    requests = counts[-1]
    density = inside / (upper - lower) / joined[-1]
    level: Floats = value - (up_to - q * requests) / (np.nanmean(requests) * density)
    return level
