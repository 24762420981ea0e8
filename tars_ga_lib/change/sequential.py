"""The comparison of a window with its baseline as of each check, while it unfolds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from .days import LEVEL, alike, error_between_days
from .noise import MIN_SAMPLES, Floats, noise, two_sided
from .series import (
    ROUNDING,
    Ints,
    check,
    complete,
    finite,
    floats,
    like_hours,
    mean,
    size_of,
    span,
    without_outliers,
)

#: The planned window is cut into at most so many blocks; a check is made at the end of each.
BLOCKS = 128


@dataclass(frozen=True, slots=True)
class Checks:
    """What was known of N series as of each of L checks during a window."""

    seen: Ints  #: (L,) samples of the window up to each check
    p_value: Floats  #: (N, L) of no change in the whole window so far, good at every check
    first_alarm: Ints  #: (N,) samples seen at the first p_value <= alpha; -1 for none


def sequential(
    baseline: ArrayLike,
    window: ArrayLike,
    *,
    step: float,
    steps: int | None = None,
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
    holds for any choice of checks. Here they look at the means of up to `BLOCKS` blocks, so that
    the cost grows with the samples alone, and an alarm is late by a block at most.
    """
    base = floats(baseline, "baseline", (1, 2, 3))
    seen = finite(np.atleast_2d(floats(window, "window", (1, 2))))
    base = base[None] if base.ndim == 1 else base
    check(base, seen, step)
    planned = seen.shape[1] if steps is None else steps
    if planned < seen.shape[1]:
        raise ValueError(f"{seen.shape[1]} samples of {planned} planned")
    days = like_hours(base, planned, step, baseline_start, window_start)
    if days is None:
        raise ValueError("the baseline does not cover the hours of the window")
    before = finite(days(base))
    size: Floats = np.abs(mean(before.reshape(len(before), -1), axis=1))
    before = before[:, :, : seen.shape[1]]
    usual, block = mean(before, axis=1), -(-planned // BLOCKS)
    difference = _blocks(seen - usual, block)
    among = _blocks(before - usual[:, None], block)
    ends = np.minimum(np.arange(block, planned + block, block), planned)
    ends = ends[ends <= seen.shape[1]]
    p_values = np.full((len(seen), len(ends)), np.nan)
    for k, end in enumerate(ends, 1):
        effect, error, dof = _so_far(difference[:, :k], end * step / 3600)
        p_value = two_sided(effect, error, dof)
        some = np.flatnonzero((size > 0) & np.isfinite(dof))
        unit = size[some]
        levels, change = mean(among[some, :, :k], axis=2) / unit[:, None], effect[some] / unit
        within = error[some] / unit
        if levels.shape[1] > 1 or not alike(change, within, dof[some]):
            between = error_between_days(levels, change, LEVEL, within**2, dof[some])
            p_value[some] = between.p_value(change)
        z = special.ndtri(p_value / 2) * np.sqrt(end / planned)
        p_values[:, k - 1] = np.minimum(1, 4 * special.ndtr(z))
    p_values = np.fmin.accumulate(p_values, axis=1)
    alarm = p_values <= alpha
    raised = alarm.any(axis=1)
    first = np.full(len(seen), -1)
    first[raised] = ends[alarm[raised].argmax(axis=1)]
    return Checks(ends, p_values, first)


def _blocks(x: Floats, size: int) -> Floats:
    """Means of blocks of ``size`` samples along the last axis; the last block may be shorter."""
    short = -x.shape[-1] % size
    padded = np.pad(x, [*[(0, 0)] * (x.ndim - 1), (0, short)], constant_values=np.nan)
    return mean(padded.reshape(*x.shape[:-1], -1, size), axis=-1)


def _so_far(x: Floats, hours: float) -> tuple[Floats, Floats, Floats]:
    """Effect, standard error and degrees of freedom of differences (m, n), (m,) each."""
    usable = np.isfinite(x)
    enough = usable.sum(axis=1) >= MIN_SAMPLES
    effect, error, dof = (np.full(len(x), np.nan) for _ in range(3))
    effect[enough], dof[enough] = mean(x[enough], axis=1), np.inf
    error[enough] = _error_of_constant(np.abs(effect[enough]), hours)
    for rows, at in complete(usable, enough & (span(x) > ROUNDING * size_of(x))):
        clipped = without_outliers(np.take_along_axis(x[rows], at, 1))
        effect[rows] = clipped.mean(axis=1)
        error[rows], dof[rows] = noise(clipped).error_of_mean()
    return effect, error, dof


def _error_of_constant(effect: Floats, hours: float) -> Floats:
    """Standard error that stands for a sign test over hours that all differ alike.

    So far the difference never varied, which may be as true of a coarse gauge in its first
    hour as of a changed setting: it takes hours to tell.
    """
    z = -special.ndtri(0.5 ** max(1.0, np.floor(hours)))
    return np.where(effect > 0, effect / z if z > 0 else np.inf, 1.0)
