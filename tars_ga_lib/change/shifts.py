"""Whether a window differs from its baseline, by how much, since when and in what way.

The samples of a window are compared with those of like hours of the baseline, which takes the
season of the day out. The level of the differences and its error under correlated noise
(`noise`) give the effect, its interval and its p-value; `changepoints` tells
a lasting shift from an incident, a trend and a change of spread.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import changepoints
from .baselines import Health, Problem, baseline_health
from .changepoints import Ints
from .noise import (
    MIN_SAMPLES,
    SLOW_COSINES,
    Fit,
    Floats,
    Noise,
    cosines,
    half_width,
    noise,
    slow_course,
    two_sided,
)
from .sequential import Checks, sequential
from .series import (
    ROUNDING,
    check,
    error_of_level,
    finite,
    floats,
    like_hours,
    mean,
    median,
    size_of,
    span,
    without_outliers,
)

__all__ = [
    "KINDS",
    "Checks",
    "Health",
    "Problem",
    "Shift",
    "Shifts",
    "baseline_health",
    "fdr",
    "scope",
    "sequential",
    "shift",
    "shifts",
    "stands_out",
]

#: Samples handled at once: few enough to stay in the cache, and the working memory near 20 MB.
CHUNK_SAMPLES = 50_000
#: Fewer effective samples than this are no basis for a verdict.
MIN_EFFECTIVE = 2.0

LEVEL, TREND, STEP, SEGMENT, SEASON = range(5)
#: Tests of a series for a kind of change: level, trend, step, incident, spread.
TESTS = 5
KINDS = ("none", "shift", "incident", "trend", "spread")


@dataclass(frozen=True, slots=True)
class Shift:
    """How one series changed from its baseline to its window.

    Positions count samples from the start of the window. NaN stands for what could not be told.
    """

    effect: float  #: level of the window minus level of the baseline, in the series' unit
    relative: float  #: effect as a share of |baseline level|; NaN where that is 0
    low: float  #: interval of the effect
    high: float
    relative_low: float  #: interval of the relative effect
    relative_high: float
    p_value: float  #: two-sided, of no change of level
    baseline_level: float
    window_level: float
    n_effective: float  #: independent samples that would know the level as well
    coverage: float  #: share of the samples that could be used
    kind: str  #: "none", "shift", "incident", "trend" or "spread"
    begin: int | None  #: where the change began; None if before the window, or no change
    end: int | None  #: one past the last sample of a passing incident; None if it lasts
    slope: float  #: Theil-Sen slope of the difference per hour
    slope_low: float
    slope_high: float
    slope_p: float
    step_p: float  #: of no lasting step within the window
    incident_begin: int | None  #: the most striking segment, if it is significant
    incident_end: int | None
    incident_excess: float  #: its mean minus the level outside it
    incident_peak: float  #: its largest departure from that level
    incident_p: float
    spread_ratio: float  #: spread of the window / spread of the baseline
    spread_p: float
    like_hours: bool  #: whether like hours were compared; if not, a season widens the interval
    exact: bool  #: whether the difference is constant, so that there is no error to estimate
    reason: str  #: why there is no verdict; "" otherwise

    @property
    def no_data(self) -> bool:
        """Whether too little is known for a verdict."""
        return bool(self.reason)


@dataclass(frozen=True, slots=True)
class Shifts:
    """The fields of `Shift` for N series, an array (N,) each; -1 stands for None."""

    effect: Floats
    relative: Floats
    low: Floats
    high: Floats
    relative_low: Floats
    relative_high: Floats
    p_value: Floats
    baseline_level: Floats
    window_level: Floats
    n_effective: Floats
    coverage: Floats
    kind: NDArray[np.str_]
    begin: Ints
    end: Ints
    slope: Floats
    slope_low: Floats
    slope_high: Floats
    slope_p: Floats
    step_p: Floats
    incident_begin: Ints
    incident_end: Ints
    incident_excess: Floats
    incident_peak: Floats
    incident_p: Floats
    spread_ratio: Floats
    spread_p: Floats
    like_hours: NDArray[np.bool_]
    exact: NDArray[np.bool_]
    reason: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.effect)

    def __getitem__(self, i: int) -> Shift:
        values = {f.name: getattr(self, f.name)[i].item() for f in fields(self)}
        for name in ("begin", "end", "incident_begin", "incident_end"):
            values[name] = None if values[name] < 0 else values[name]
        return Shift(**values)

    def __iter__(self) -> Iterator[Shift]:
        return (self[i] for i in range(len(self)))


def shift(
    baseline: ArrayLike,
    window: ArrayLike,
    *,
    step: float,
    baseline_step: float | None = None,
    confidence: float = 0.95,
    baseline_start: float | None = None,
    window_start: float | None = None,
    nonnegative: bool = False,
) -> Shift:
    """Compare one window with its baseline.

    Parameters
    ----------
    baseline : (T,) or (D, T) array
        Samples of the baseline; D earlier days of like hours, where given. NaN is missing, and
        so is an infinite value.
    window : (T,) array
        Samples of the window.
    step : float
        Seconds between samples.
    baseline_step : float, optional
        Seconds between the baseline's samples, where it could be another.
    confidence : float
        Of the intervals; 1 - confidence is the level at which a kind of change is named.
    baseline_start, window_start : float, optional
        Seconds since the epoch. Without them the two are taken to start at the same time of day.
    nonnegative : bool
        The series cannot be negative (a rate, a count): negative values are no data.

    Raises
    ------
    ValueError
        The steps differ, a step is not positive, the confidence is not within (0, 1), or an
        array has the wrong number of dimensions or no samples.
    """
    base, seen = floats(baseline, "baseline", (1, 2)), floats(window, "window", (1,))
    return shifts(
        base[None],
        seen[None],
        step=step,
        baseline_step=baseline_step,
        confidence=confidence,
        baseline_start=baseline_start,
        window_start=window_start,
        nonnegative=nonnegative,
    )[0]


def shifts(
    baseline: ArrayLike,
    window: ArrayLike,
    *,
    step: float,
    baseline_step: float | None = None,
    confidence: float = 0.95,
    baseline_start: float | None = None,
    window_start: float | None = None,
    nonnegative: bool = False,
) -> Shifts:
    """Compare many windows with their baselines at once.

    Parameters
    ----------
    baseline : (N, T) or (N, D, T) array
        Samples of the baselines, or of D earlier days of each.
    window : (N, T) array
        Samples of the windows.

    The other parameters, and what is raised, are those of `shift`.
    """
    base, seen = floats(baseline, "baseline", (2, 3)), floats(window, "window", (2,))
    check(base, seen, step, baseline_step, confidence)
    days = like_hours(base, seen.shape[1], step, baseline_start, window_start)
    compare = _compare_levels if days is None else _compare_like_hours
    rows = max(1, CHUNK_SAMPLES // max(math.prod(base.shape[1:]), seen.shape[1]))
    parts = []
    for at in range(0, max(1, len(seen)), rows):
        before, after = base[at : at + rows], seen[at : at + rows]
        before = before if days is None else days(before)
        parts.append(compare(before, after, step / 3600, confidence, nonnegative))
    return Shifts(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


Columns = dict[str, NDArray[Any]]


def _blank(m: int) -> Columns:
    """Columns of `Shifts` for ``m`` series of which nothing is known yet."""
    columns: Columns = {}
    for field in fields(Shifts):
        kind = str(field.type)
        if kind == "Ints":
            columns[field.name] = np.full(m, -1)
        elif "bool_" in kind:
            columns[field.name] = np.zeros(m, bool)
        elif "str_" in kind:
            columns[field.name] = np.full(m, "none" if field.name == "kind" else "", "<U80")
        else:
            columns[field.name] = np.full(m, np.nan)
    return columns


def _compare_like_hours(
    days: Floats, window: Floats, hours: float, confidence: float, nonnegative: bool
) -> Columns:
    """Columns for windows (m, T) against days of like hours (m, D, T)."""
    out = _blank(len(window))
    days, window = finite(days), finite(window)
    base = mean(days, axis=1)
    usable = np.isfinite(base) & np.isfinite(window)
    base, seen = np.where(usable, base, np.nan), np.where(usable, window, np.nan)
    count = usable.sum(axis=1)
    out["like_hours"][:] = True
    out["coverage"][:] = count / window.shape[1]
    out["baseline_level"][:] = mean(base, axis=1)
    _refuse(out, count, [days, window] if nonnegative else [])
    difference = seen - base
    fine = out["reason"] == ""
    constant = fine & (span(difference) <= ROUNDING * np.maximum(size_of(base), size_of(seen)))
    _take_exactly(out, constant, mean(difference, axis=1), count)
    measurable = fine & ~constant
    for n in np.unique(count[measurable]):
        rows = np.flatnonzero(measurable & (count == n))
        at = np.nonzero(usable[rows])[1].reshape(len(rows), n)
        change = np.take_along_axis(difference[rows], at, 1)
        usual = np.take_along_axis(base[rows], at, 1)
        _measure(out, rows, change, usual, at, days[rows], hours, confidence)
    if measurable.any():
        ratio, p_value = changepoints.spread_change(days[measurable], window[measurable])
        out["spread_ratio"][measurable], out["spread_p"][measurable] = ratio, p_value
    _finish(out, confidence)
    return out


def _compare_levels(
    base: Floats, window: Floats, hours: float, confidence: float, nonnegative: bool
) -> Columns:
    """Columns for windows (m, T) against baselines (m, ...) of other hours.

    Without like hours the season stays in both, so only the levels are compared (Welch 1947);
    incidents, trends and spread would be read from the season and are left NaN.
    """
    out = _blank(len(window))
    base, window = finite(base.reshape(len(base), -1)), finite(window)
    counts = np.isfinite(base).sum(axis=1), np.isfinite(window).sum(axis=1)
    out["coverage"][:] = np.minimum(counts[0] / base.shape[1], counts[1] / window.shape[1])
    _refuse(out, np.minimum(*counts), [base, window] if nonnegative else [])
    fine = out["reason"] == ""
    before, after = (_level(x[fine]) for x in (base, window))
    effect = after.level - before.level
    variance = before.error**2 + after.error**2
    constant = variance == 0
    dof = np.where(constant, 1, variance) ** 2 / (
        before.error**4 / before.dof + after.error**4 / after.dof + constant
    )
    out["baseline_level"][fine] = before.level
    out["n_effective"][fine] = np.minimum(before.effective, after.effective)
    _state(out, np.flatnonzero(fine), effect, np.sqrt(variance), dof, confidence)
    exact = np.zeros(len(out["exact"]), bool)
    exact[fine] = constant
    _take_exactly(
        out, exact, np.where(exact, mean(window, 1) - mean(base, 1), 0), np.minimum(*counts)
    )
    _finish(out, confidence)
    return out


@dataclass(frozen=True, slots=True)
class _Level:
    """Levels of series with their errors, each (m,)."""

    level: Floats
    error: Floats
    dof: Floats
    effective: Floats


def _level(x: Floats) -> _Level:
    """Level of series (m, T) that may have gaps; a constant one has no error."""
    result = _Level(*(np.zeros(len(x)) for _ in range(4)))
    usable = np.isfinite(x)
    count = usable.sum(axis=1)
    constant = span(x) <= ROUNDING * size_of(x)
    result.level[:] = mean(x, axis=1)
    result.dof[:], result.effective[:] = np.inf, count
    for n in np.unique(count[~constant]):
        rows = np.flatnonzero((count == n) & ~constant)
        clipped = without_outliers(x[rows][usable[rows]].reshape(len(rows), n))
        known = noise(clipped)
        result.level[rows] = clipped.mean(axis=1)
        result.error[rows], result.dof[rows] = known.error_of_mean()
        result.effective[rows] = known.effective_samples()
    return result


def _measure(
    out: Columns,
    rows: Ints,
    difference: Floats,
    usual: Floats,
    at: Ints,
    days: Floats,
    hours: float,
    confidence: float,
) -> None:
    """Fill ``rows`` from complete differences (m, n) seen at positions ``at`` (m, n).

    ``usual`` (m, n) is the baseline there.


    Gaps are closed up: the mean of the samples that were seen is the mean of a shorter series,
    and its error follows from that series' own noise ("equal spacing", Datta & Du 2012).
    """
    n = difference.shape[1]
    clipped = without_outliers(difference)
    known = noise(clipped)
    level = clipped.mean(axis=1)
    same = (at == at[0]).all()
    time = np.multiply(at[:1] if same else at, hours, dtype=np.float64)
    trend, step = known.regress(time), changepoints.telling_steps(clipped, known)
    found = changepoints.striking_segments(difference, level, known)
    _write_trend(out, rows, trend, changepoints.theil_sen(clipped, time), confidence)
    _write_segments(out, rows, at, found, confidence)
    out["step_p"][rows] = step.p_value

    error, dof = error_of_level(known, days)
    out["p_value"][rows] = two_sided(level, error, dof)
    inside = changepoints.inside_segment(n, found.begin, found.end).astype(np.float64)
    season = slow_course(without_outliers(usual))
    chosen = _best_explanation(out, rows, known, trend, step, inside, season, confidence)
    effective = known.effective_samples()
    for kind, course in (
        (TREND, time),
        (STEP, changepoints.after(n, step.at)),
        (SEGMENT, inside),
        (SEASON, season),
    ):
        some = np.flatnonzero(chosen == kind)
        if not len(some):
            continue
        taken_out = course if len(course) == 1 else course[some]
        x = clipped[some]
        if kind == SEGMENT:  # an incident is no outlier: it counts in full
            x = np.where(taken_out > 0, difference[some], x)
            level[some] = x.mean(axis=1)
        rest = noise(x).regress(taken_out).rest
        error[some], dof[some] = error_of_level(rest, days[some])
        effective[some] = rest.effective_samples()
    out["n_effective"][rows] = effective
    _state(out, rows, level, error, dof, confidence)
    _name_kinds(out, rows, at, clipped, chosen, step)


def _write_trend(out: Columns, rows: Ints, trend: Fit, slope: Floats, confidence: float) -> None:
    half = half_width(trend.error, trend.dof, confidence)
    out["slope"][rows], out["slope_p"][rows] = slope, trend.p_value
    out["slope_low"][rows], out["slope_high"][rows] = slope - half, slope + half


def _write_segments(
    out: Columns, rows: Ints, at: Ints, found: changepoints.Segments, confidence: float
) -> None:
    out["incident_p"][rows] = found.p_value
    shown = np.flatnonzero(found.p_value < 1 - confidence)
    out["incident_begin"][rows[shown]] = at[shown, found.begin[shown]]
    out["incident_end"][rows[shown]] = at[shown, found.end[shown] - 1] + 1
    out["incident_excess"][rows[shown]] = found.excess[shown]
    out["incident_peak"][rows[shown]] = found.peak[shown]


def _best_explanation(
    out: Columns,
    rows: Ints,
    known: Noise,
    trend: Fit,
    step: changepoints.Steps,
    inside: Floats,
    season: Floats,
    confidence: float,
) -> Ints:
    """Which of level, trend, step, segment and season explains each series best; -1 for none.

    Candidates are those whose own p-value is significant after Bonferroni over the kinds; the
    likeliest is taken, less a price for each number that was fitted (Schwarz 1978).

    The last is a change in proportion to the course of the day, which is what a tenth more of
    everything does to a day with a rush hour: no noise, although it comes and goes.
    """
    names = ("p_value", "slope_p", "step_p", "incident_p")
    p_values = [out[name][rows] for name in names]
    candidate = np.stack([*p_values, np.ones(len(rows))]) * TESTS < 1 - confidence
    evidence = np.full(candidate.shape, -np.inf)
    evidence[LEVEL], evidence[TREND] = known.evidence(), trend.rest.evidence()
    evidence[STEP] = step.evidence
    some = np.flatnonzero(candidate[SEGMENT])
    if len(some):
        evidence[SEGMENT, some] = known.of(some).regress(inside[some]).rest.evidence()
    some = np.flatnonzero(_has_season(known, season))
    if len(some):
        fit = known.of(some).regress(season[some])
        evidence[SEASON, some] = fit.rest.evidence()
        candidate[SEASON, some] = fit.p_value * TESTS < 1 - confidence
    fitted = np.array([[0], [1], [2], [3], [1]])
    score = np.where(candidate, evidence - fitted * np.log(inside.shape[1]) / 2, -np.inf)
    return np.where(candidate.any(axis=0), score.argmax(axis=0), -1)


def _has_season(known: Noise, season: Floats) -> NDArray[np.bool_]:
    """Whether the course of the day is so strong that it cannot be the noise's own wandering.

    It must have four times the variance of what is left of the difference without it. The slow
    wandering of a baseline that has no season is part of the difference, and never larger.
    """
    size = (season**2).sum(axis=1)
    slow = cosines(season, min(SLOW_COSINES, known.frequencies))
    along = (slow * known.cosines[:, : slow.shape[1]]).sum(axis=1)
    power = (known.cosines**2).sum(axis=1) - along**2 / np.where(size > 0, size, 1)
    strong: NDArray[np.bool_] = size > 4 * np.maximum(power, 0)
    return strong


def _name_kinds(
    out: Columns, rows: Ints, at: Ints, x: Floats, chosen: Ints, step: changepoints.Steps
) -> None:
    """Write kind, begin and end of the explanation that was chosen.

    A step parts the window in two. If the first part is the farther from the baseline, what
    changed has ended.
    """
    kinds = np.array(["shift", "trend", "shift", "incident", "none", "none"])
    out["kind"][rows] = kinds[chosen]
    passing = rows[chosen == SEGMENT]
    out["begin"][passing] = out["incident_begin"][passing]
    out["end"][passing] = out["incident_end"][passing]
    for i in np.flatnonzero(chosen == STEP):
        border = at[i, step.at[i]]
        if abs(x[i, : step.at[i]].mean()) > abs(x[i, step.at[i] :].mean()):
            out["kind"][rows[i]] = "incident"
            out["begin"][rows[i]], out["end"][rows[i]] = 0, border
        else:
            out["begin"][rows[i]] = border


def _state(
    out: Columns, rows: Ints, effect: Floats, error: Floats, dof: Floats, confidence: float
) -> None:
    """Write the effect and what follows from its error."""
    half = half_width(error, dof, confidence)
    out["effect"][rows] = effect
    out["low"][rows], out["high"][rows] = effect - half, effect + half
    out["p_value"][rows] = two_sided(effect, np.where(error > 0, error, 1), dof)


def _take_exactly(out: Columns, constant: NDArray[np.bool_], effect: Floats, count: Ints) -> None:
    """Write the effect of series whose difference never varies, so that no error is needed."""
    out["exact"][constant] = True
    for name in ("effect", "low", "high"):
        out[name][constant] = effect[constant]
    out["p_value"][constant] = np.where(effect[constant] == 0, 1.0, 0.0)
    out["n_effective"][constant] = count[constant]


def _refuse(out: Columns, count: Ints, never_negative: Sequence[Floats]) -> None:
    """Write the reason of series that cannot be judged."""
    out["reason"][count < MIN_SAMPLES] = f"fewer than {MIN_SAMPLES} samples in both"
    out["reason"][count == 0] = "no sample in both"
    for x in never_negative:
        with_negative = (x < 0).reshape(len(x), -1).any(axis=1)
        out["reason"][with_negative] = "negative values in a series that cannot be negative"


def _finish(out: Columns, confidence: float) -> None:
    """Blank what is no verdict, and derive what follows from the rest."""
    few = (out["reason"] == "") & (out["n_effective"] < MIN_EFFECTIVE)
    out["reason"][few] = f"fewer than {MIN_EFFECTIVE:g} effective samples"
    told = out["reason"] == ""
    for field in fields(Shifts):
        if str(field.type) == "Floats" and field.name not in ("coverage", "n_effective"):
            out[field.name][~told] = np.nan
        elif str(field.type) == "Ints":
            out[field.name][~told] = -1
    out["kind"][~told] = "none"
    level = np.abs(out["baseline_level"])
    level[level == 0] = np.nan
    out["window_level"][:] = out["baseline_level"] + out["effect"]
    out["relative"][:] = out["effect"] / level
    out["relative_low"][:], out["relative_high"][:] = out["low"] / level, out["high"] / level
    plain = told & (out["kind"] == "none")
    significant = (1 - confidence) / TESTS
    out["kind"][plain & (out["p_value"] < significant)] = "shift"
    plain = told & (out["kind"] == "none")
    out["kind"][plain & (out["spread_p"] < significant)] = "spread"


def fdr(p_values: ArrayLike) -> Floats:
    """Adjusted p-values that control the share of false discoveries (Benjamini & Hochberg 1995).

    NaN (no data) is no test: it stays NaN and does not count. Rules, regions and services of
    one system go up and down together; under such positive dependence the procedure still
    holds (Benjamini & Yekutieli 2001).

    Parameters
    ----------
    p_values : array of any shape

    Raises
    ------
    ValueError
        A p-value lies outside 0 to 1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if np.any((p < 0) | (p > 1)):
        raise ValueError("a p-value lies outside 0 to 1")
    adjusted = np.full(p.shape, np.nan)
    told = np.flatnonzero(~np.isnan(p))
    order = told[np.argsort(p.flat[told])]
    # scipy.stats has this too, but takes longer to import than a day takes to analyse.
    raised = p.flat[order] * len(order) / np.arange(1, len(order) + 1)
    adjusted.flat[order] = np.minimum.accumulate(raised[::-1])[::-1]
    return adjusted


def stands_out(
    values: ArrayLike,
    *,
    step: float,
    baseline: ArrayLike | None = None,
    confidence: float = 0.95,
) -> Shifts:
    """Compare each region with the median of the other regions, at the same times.

    Parameters
    ----------
    values : (R, T) array
        One KPI in R regions.
    step : float
        Seconds between samples.
    baseline : (R, T) or (R, D, T) array, optional
        The same in the baseline. With it, what a region always differs by is no finding: only
        a difference from the others that has changed is.
    confidence : float
        Of the intervals.

    Returns
    -------
    Shifts
        A row for each region; its ``baseline_level`` is that of the median of the others (with
        a baseline: the distance from it that the region used to have).

    Raises
    ------
    ValueError
        As for `shifts`; and for fewer than two regions.
    """
    seen = floats(values, "values", (2,))
    if len(seen) < 2:
        raise ValueError("one region has no others to be compared with")
    if baseline is None:
        return shifts(_others(seen), seen, step=step, confidence=confidence)
    base = floats(baseline, "baseline", (2, 3))
    return shifts(base - _others(base), seen - _others(seen), step=step, confidence=confidence)


def _others(values: Floats) -> Floats:
    """Median of the other rows for each row of an array (R, ...)."""
    return np.stack([median(np.delete(values, i, axis=0)) for i in range(len(values))])


def scope(changed: Sequence[int]) -> str:
    """Whether a change is "global", "local" or "partial" ("none" where nothing changed).

    Parameters
    ----------
    changed : sequence of R signs
        +1 or -1 for a region whose change is a finding, by its direction; 0 for no finding.

    Notes
    -----
    Global is a change in the same direction in every one of two regions or more; local is a
    change in one.
    """
    found = [sign for sign in changed if sign]
    if not found:
        return "none"
    if len(found) == len(changed) > 1 and len(set(found)) == 1:
        return "global"
    return "local" if len(found) == 1 else "partial"
