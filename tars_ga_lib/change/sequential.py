"""The comparison of a window with its baseline as of each step, while it unfolds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from .changepoints import Ints
from .days import USUAL, between_days
from .noise import MIN_SAMPLES, Floats, noise, two_sided
from .series import (
    ROUNDING,
    check,
    finite,
    floats,
    like_hours,
    mean,
    size_of,
    span,
    without_outliers,
)

#: A check looks at up to so many blocks of samples.
BLOCKS = 64


@dataclass(frozen=True, slots=True)
class Checks:
    """What was known of N series as of each of L checks during a window."""

    seen: Ints  #: (L,) samples of the window up to each check
    effect: Floats  #: (N, L) as in `Shift`; NaN before there is enough to tell
    low: Floats  #: (N, L) interval that holds at all checks together
    high: Floats
    p_value: Floats  #: (N, L) of no change in the whole window so far, good at every check
    alarm: NDArray[np.bool_]  #: (N, L) whether p_value <= alpha; once raised, it stays
    first_alarm: Ints  #: (N,) samples seen at the first alarm; -1 for none


def sequential(
    baseline: ArrayLike,
    window: ArrayLike,
    *,
    step: float,
    steps: int | None = None,
    every: int = 1,
    alpha: float = 0.05,
    baseline_start: float | None = None,
    window_start: float | None = None,
) -> Checks:
    """Compare windows with their baselines while they unfold.

    Each check uses the samples up to it and no later one. All checks of a window together
    raise a false alarm for a series without change in at most a share ``alpha`` of windows.

    Parameters
    ----------
    baseline : (T,), (N, T) or (N, D, T) array
        Baselines of like hours, as for `shifts`.
    window : (t,) or (N, t) array
        The windows so far.
    step : float
        Seconds between samples.
    steps : int, optional
        Samples of the whole window, when ``window`` is still short of it.
    every : int
        Samples between checks.
    alpha : float
        False alarm rate of a series over the whole window.

    Raises
    ------
    ValueError
        As for `shifts`; and where the baseline does not cover like hours.

    Notes
    -----
    The boundary of O'Brien & Fleming (1979) in its continuous form (Lan & DeMets 1983): the
    level so far must depart by c / sqrt(t) standard errors, t the share of the window seen.
    Early checks thus ask for much, which also guards against an error judged from few samples. It
    holds for any choice of checks. So one is made whenever the samples so far fill up to
    `BLOCKS` blocks of one size, a power of two, and what it found holds until the next: an alarm
    is late by at most 1/32 of the time, and the cost of all checks grows with the logarithm of
    their number.
    """
    base = floats(baseline, "baseline", (1, 2, 3))
    seen = finite(np.atleast_2d(floats(window, "window", (1, 2))))
    base = base[None] if base.ndim == 1 else base
    check(base, seen, step, None, 1 - alpha)
    planned = seen.shape[1] if steps is None else steps
    if planned < seen.shape[1] or every < 1:
        raise ValueError(f"{seen.shape[1]} samples of {planned} planned, every {every}")
    days = like_hours(base, planned, step, baseline_start, window_start)
    if days is None:
        raise ValueError("the baseline does not cover the hours of the window")
    before = finite(days(base))
    size = np.abs(mean(mean(before, axis=1), axis=1))
    before = before[:, :, : seen.shape[1]]
    looks = np.arange(every, seen.shape[1] + 1, every)
    made = _checks(seen.shape[1])
    told = np.full((4, len(seen), len(made) + 1), np.nan)  # the last: before the first check
    for i, n in enumerate(made):
        told[:, :, i] = _as_of(n, before, seen, size, n / planned, alpha, step / 3600)
    told[3, :, :-1] = np.fmin.accumulate(told[3, :, :-1], axis=1)
    effect, low, high, p_value = told[:, :, np.searchsorted(made, looks, side="right") - 1]
    alarm = p_value <= alpha
    first = np.where(alarm.any(axis=1), looks[alarm.argmax(axis=1)], -1)
    return Checks(looks, effect, low, high, p_value, alarm, first)


def _checks(samples: int) -> list[int]:
    """Numbers of samples at which a check is made."""
    return [n for n in range(MIN_SAMPLES, samples + 1) if n % _block(n) == 0]


def _block(n: int) -> int:
    """Samples of a block: the least power of two of which n samples fill up to `BLOCKS`."""
    return 1 << max(0, (-(-n // BLOCKS) - 1).bit_length())


def _as_of(
    n: int, days: Floats, window: Floats, size: Floats, share: float, alpha: float, hours: float
) -> Floats:
    """Effect, its interval and the p-value so far as of n samples, (4, N)."""
    blocks = (len(window), n // _block(n), _block(n))
    dev = days[:, :, :n] - mean(days[:, :, :n], axis=1)[:, None]
    x = mean((window[:, :n] - mean(days[:, :, :n], axis=1)).reshape(blocks), axis=2)
    usable = np.isfinite(x)
    count = usable.sum(axis=1)
    effect, error, dof = (np.full(len(x), np.nan) for _ in range(3))
    for k in np.unique(count[count >= MIN_SAMPLES]):
        rows = np.flatnonzero(count == k)
        part = x[rows][usable[rows]].reshape(len(rows), k)
        effect[rows], error[rows], dof[rows] = _so_far(part, n * hours)
    limit = special.ndtr(special.ndtri(alpha / 4) / np.sqrt(share))
    p_value, half = two_sided(effect, error, dof), -error * special.stdtrit(dof, limit)
    some = np.flatnonzero((size > 0) & np.isfinite(dof))
    if len(some):
        levels = mean(dev[some], axis=2) / size[some, None]
        between, known = between_days(levels, effect[some] / size[some], USUAL["level"])
        between *= size[some]
        p_days = two_sided(effect[some], between, known)
        half_days = -between * special.stdtrit(known, limit)
        # One day tells nothing of days: the noise within it must be exceeded as well.
        one = days.shape[1] == 1
        p_value[some] = np.fmax(p_value[some], p_days) if one else p_days
        half[some] = np.fmax(half[some], half_days) if one else half_days
    p_value = np.minimum(1, 4 * special.ndtr(special.ndtri(p_value / 2) * np.sqrt(share)))
    return np.stack([effect, effect - half, effect + half, p_value])


def _so_far(difference: Floats, hours: float) -> tuple[Floats, Floats, Floats]:
    """Effect, standard error and degrees of freedom of complete differences (m, n), (m,) each."""
    m = len(difference)
    effect, dof = difference.mean(axis=1), np.full(m, np.inf)
    error = _error_of_constant(np.abs(effect), hours)
    varies = span(difference) > ROUNDING * size_of(difference)
    if varies.any():
        clipped = without_outliers(difference[varies])
        effect[varies] = clipped.mean(axis=1)
        error[varies], dof[varies] = noise(clipped).error_of_mean()
    return effect, error, dof


def _error_of_constant(effect: Floats, hours: float) -> Floats:
    """Standard error that stands for a sign test over hours that all differ alike.

    So far the difference never varied, which may be as true of a coarse gauge in its first
    hour as of a changed setting: it takes hours to tell.
    """
    z = -special.ndtri(0.5 ** max(1.0, np.floor(hours)))
    return np.where(effect > 0, effect / z if z > 0 else np.inf, 1.0)
