"""Series as they come: gaps, outliers, and which hours belong side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .noise import Floats

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

DAY = 86_400.0
#: Differences that vary by less than this share of the series' size do not vary.
ROUNDING = 1e-9


def floats(values: ArrayLike, name: str, dimensions: tuple[int, ...]) -> Floats:
    """The values as an array of so many dimensions, or a ValueError that names them."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim not in dimensions:
        raise ValueError(f"{name} has {array.ndim} dimensions, not {dimensions}")
    if 0 in array.shape[-1:]:
        raise ValueError(f"{name} has no samples")
    return array


def check(base: Floats, seen: Floats, step: float) -> None:
    """Raise a ValueError for a step that cannot be, or counts that differ."""
    if not (np.isfinite(step) and step > 0):
        raise ValueError(f"step is {step} seconds; it must be positive")
    if len(base) != len(seen):
        raise ValueError(f"{len(base)} baselines for {len(seen)} windows")


def complete(usable: Flags, rows: Flags) -> Iterator[tuple[Ints, Ints]]:
    """Yield rows of a mask (m, T) that have as many usable samples, and where those are (k, n)."""
    count = usable.sum(axis=1)
    for n in np.unique(count[rows]):
        some = np.flatnonzero(rows & (count == n))
        yield some, np.nonzero(usable[some])[1].reshape(len(some), n)


def like_hours(
    base: Floats,
    length: int,
    step: float,
    baseline_start: float | None,
    window_start: float | None,
) -> Callable[[Floats], Floats] | None:
    """How to lay days of the baseline beside the window, or None where hours do not match.

    The result turns baselines (N, ...) into days of like hours (N, D, length).
    """
    apart = 0.0
    if baseline_start is not None and window_start is not None:
        apart = (window_start - baseline_start) % DAY
    offset = round(apart / step)
    day = round(DAY / step)
    whole_days = day * step == DAY
    total = base.shape[-1]
    if offset == 0 and total == length:
        return lambda part: part if part.ndim == 3 else part[:, None]
    if not whole_days or base.ndim == 3:
        return None
    period = length if length % day == 0 else day
    if total % period or length > period:
        return None
    at = (offset + np.arange(length)) % period
    return lambda part: part.reshape(len(part), total // period, period)[:, :, at]


def without_outliers(x: Floats) -> Floats:
    """Complete series (m, n) with outliers drawn in to a limit.

    The limit is twice the distance from the median that nine samples in ten keep within (3.3
    standard deviations of a normal distribution). So a few wild samples do not move the level,
    but what lasts for more than a tenth of the series moves the limit, and is kept whole. Where
    nine in ten are equal, as with rare errors, the rare ones are the signal: nothing is changed.
    """
    n = x.shape[1]
    middle = np.median(x, axis=1, keepdims=True)
    rank = min(n - 1, int(np.ceil(0.9 * n)) - 1)
    limit = 2 * np.partition(np.abs(x - middle), rank, axis=1)[:, rank : rank + 1]
    limit[limit == 0] = np.inf
    clipped: Floats = np.clip(x, middle - limit, middle + limit)
    return clipped


def finite(x: Floats) -> Floats:
    """The values, NaN in place of infinite ones."""
    return np.where(np.isfinite(x), x, np.nan)


def mean(x: Floats, axis: int) -> Floats:
    """Mean of what is not missing; NaN where all is."""
    seen = np.isfinite(x)
    count = seen.sum(axis=axis)
    total = np.where(seen, x, 0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def median(x: Floats) -> Floats:
    """Median along the first axis of what is not missing; NaN where all is."""
    ordered = np.sort(finite(x), axis=0)  # the missing come last
    count = np.isfinite(ordered).sum(axis=0)
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(x) - 1)
    pair = np.take_along_axis(ordered, np.stack([low, high]), axis=0)
    return np.where(count > 0, pair.sum(axis=0) / 2, np.nan)


def span(x: Floats) -> Floats:
    """Greatest minus least value of each row; 0 where all are missing."""
    seen = np.isfinite(x)
    high = np.where(seen, x, -np.inf).max(axis=1)
    low = np.where(seen, x, np.inf).min(axis=1)
    some = seen.any(axis=1)
    difference: Floats = np.where(some, high, 0) - np.where(some, low, 0)
    return difference


def size_of(x: Floats) -> Floats:
    """Greatest absolute value of each row; 0 where all are missing."""
    size: Floats = np.where(np.isfinite(x), np.abs(x), 0).max(axis=1)
    return size
