"""The comparison of a window with its baseline as of each step, while it unfolds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from .changepoints import Ints
from .noise import MIN_SAMPLES, Floats, noise, two_sided
from .series import (
    ROUNDING,
    check,
    error_of_level,
    finite,
    floats,
    like_hours,
    mean,
    size_of,
    span,
    without_outliers,
)


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
    Early checks thus ask for much, which also guards against an error judged from few samples.
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
    before = finite(days(base)[:, :, : seen.shape[1]])
    looks = np.arange(every, seen.shape[1] + 1, every)
    effect, error, dof = _as_of_each(before, seen, step / 3600)
    effect, error, dof = (x[:, looks - 1] for x in (effect, error, dof))
    root = np.sqrt(looks / planned)
    z = special.ndtri(two_sided(effect, error, dof) / 2)
    p_value = np.fmin.accumulate(np.minimum(1, 4 * special.ndtr(z * root)), axis=1)
    half = -error * special.stdtrit(dof, special.ndtr(special.ndtri(alpha / 4) / root))
    alarm = p_value <= alpha
    first = np.where(alarm.any(axis=1), looks[alarm.argmax(axis=1)], -1)
    return Checks(looks, effect, effect - half, effect + half, p_value, alarm, first)


def _as_of_each(days: Floats, window: Floats, hours: float) -> tuple[Floats, Floats, Floats]:
    """Effect, standard error and degrees of freedom after each sample, (N, T) each.

    Whatever a series has seen after its n-th usable sample is worked out once, for all series
    together, and holds until its next.
    """
    difference = window - mean(days, axis=1)
    usable = np.isfinite(difference)
    count = usable.cumsum(axis=1)
    order = np.argsort(~usable, axis=1, kind="stable")
    packed = np.take_along_axis(difference, order, axis=1)
    known = np.full((3, len(window), window.shape[1] + 1), np.nan)
    for n in range(MIN_SAMPLES, window.shape[1] + 1):
        rows = np.flatnonzero(count[:, -1] >= n)
        known[:, rows, n] = _so_far(packed[rows, :n], days[rows], order[rows, n - 1], hours)
    effect, error, dof = np.take_along_axis(known, count[None], axis=2)
    return effect, error, dof


def _so_far(difference: Floats, days: Floats, last: Ints, hours: float) -> Floats:
    """Effect, standard error and degrees of freedom of complete differences, (3, m)."""
    m, n = difference.shape
    effect, dof = difference.mean(axis=1), np.full(m, np.inf)
    error = _error_of_constant(np.abs(effect), n * hours)
    varies = span(difference) > ROUNDING * size_of(difference)
    if varies.any():
        clipped = without_outliers(difference[varies])
        known = noise(clipped)
        effect[varies] = clipped.mean(axis=1)
        later = np.arange(days.shape[2]) > last[varies, None, None]
        error[varies], dof[varies] = error_of_level(known, np.where(later, np.nan, days[varies]))
    return np.stack([effect, error, dof])


def _error_of_constant(effect: Floats, hours: float) -> Floats:
    """Standard error that stands for a sign test over hours that all differ alike.

    So far the difference never varied, which may be as true of a coarse gauge in its first
    hour as of a changed setting: it takes hours to tell.
    """
    z = -special.ndtri(0.5 ** max(1.0, np.floor(hours)))
    return np.where(effect > 0, effect / z if z > 0 else np.inf, 1.0)
