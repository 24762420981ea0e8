"""Whether a window differs from its baseline, by how much, since when and in what way.

The samples of a window are compared with those of like hours of the baseline, which takes the
season of the day out. The level of the differences and its error under correlated noise
(`tars_ga_lib.noise`) give the effect, its interval and its p-value; `tars_ga_lib.scans` tells
a lasting shift from an incident, a trend and a change of spread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from . import scans
from .noise import MIN_SAMPLES, Fit, Floats, Noise, half_width, noise, two_sided
from .scans import Ints

DAY = 86_400.0
#: Series handled at once; keeps the working memory near 100 MB for days of 5-minute samples.
CHUNK_SAMPLES = 500_000
#: Fewer effective samples than this are no basis for a verdict.
MIN_EFFECTIVE = 2.0
#: A run of missing samples this long is a gap.
GAP_HOURS = 1.0
#: Differences that vary by less than this share of the series' size do not vary.
ROUNDING = 1e-9

LEVEL, TREND, STEP, SEGMENT = range(4)
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
    base, seen = _floats(baseline, "baseline", (1, 2)), _floats(window, "window", (1,))
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
    base, seen = _floats(baseline, "baseline", (2, 3)), _floats(window, "window", (2,))
    _check(base, seen, step, baseline_step, confidence)
    days = _like_hours(base, seen.shape[1], step, baseline_start, window_start)
    compare = _compare_levels if days is None else _compare_like_hours
    rows = max(1, CHUNK_SAMPLES // max(base[0].size, seen.shape[1]))
    parts = []
    for at in range(0, max(1, len(seen)), rows):
        before, after = base[at : at + rows], seen[at : at + rows]
        if days is not None:
            before = days(before)
        parts.append(compare(before, after, step / 3600, confidence, nonnegative))
    return Shifts(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _floats(values: ArrayLike, name: str, dimensions: tuple[int, ...]) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim not in dimensions:
        raise ValueError(f"{name} has {array.ndim} dimensions, not {dimensions}")
    if 0 in array.shape[-1:]:
        raise ValueError(f"{name} has no samples")
    return array


def _check(
    base: Floats, seen: Floats, step: float, baseline_step: float | None, confidence: float
) -> None:
    if not (np.isfinite(step) and step > 0):
        raise ValueError(f"step is {step} seconds; it must be positive")
    if baseline_step is not None and baseline_step != step:
        raise ValueError(f"the baseline has a step of {baseline_step} s, the window of {step} s")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1")
    if len(base) != len(seen):
        raise ValueError(f"{len(base)} baselines for {len(seen)} windows")


def _like_hours(
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
        return lambda part: part.reshape(len(part), -1, length)
    if not whole_days or base.ndim == 3:
        return None
    period = length if length % day == 0 else day
    if total % period or length > period:
        return None
    at = (offset + np.arange(length)) % period
    return lambda part: part.reshape(len(part), -1, period)[:, :, at]


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
    days, window = _finite(days), _finite(window)
    base = _mean(days, axis=1)
    usable = np.isfinite(base) & np.isfinite(window)
    base, seen = np.where(usable, base, np.nan), np.where(usable, window, np.nan)
    count = usable.sum(axis=1)
    out["like_hours"][:] = True
    out["coverage"][:] = count / window.shape[1]
    out["baseline_level"][:] = _mean(base, axis=1)
    _refuse(out, count, [days, window] if nonnegative else [])
    difference = seen - base
    fine = out["reason"] == ""
    constant = fine & (_range(difference) <= ROUNDING * np.maximum(_size(base), _size(seen)))
    _take_exactly(out, constant, _mean(difference, axis=1), count)
    measurable = fine & ~constant
    for n in np.unique(count[measurable]):
        rows = np.flatnonzero(measurable & (count == n))
        at = np.nonzero(usable[rows])[1].reshape(len(rows), n)
        _measure(
            out,
            rows,
            np.take_along_axis(difference[rows], at, 1),
            at,
            days[rows],
            hours,
            confidence,
        )
    if measurable.any():
        ratio, p_value = scans.spread_change(days[measurable], window[measurable])
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
    base, window = _finite(base.reshape(len(base), -1)), _finite(window)
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
        out, exact, np.where(exact, _mean(window, 1) - _mean(base, 1), 0), np.minimum(*counts)
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
    constant = _range(x) <= ROUNDING * _size(x)
    result.level[:] = _mean(x, axis=1)
    result.dof[:], result.effective[:] = np.inf, count
    for n in np.unique(count[~constant]):
        rows = np.flatnonzero((count == n) & ~constant)
        clipped = without_outliers(x[rows][usable[rows]].reshape(len(rows), n))
        known = noise(clipped)
        result.level[rows] = clipped.mean(axis=1)
        result.error[rows], result.dof[rows] = known.error_of_mean()
        result.effective[rows] = known.effective_samples()
    return result


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


def _measure(
    out: Columns,
    rows: Ints,
    difference: Floats,
    at: Ints,
    days: Floats,
    hours: float,
    confidence: float,
) -> None:
    """Fill ``rows`` from complete differences (m, n) seen at positions ``at`` (m, n).

    Gaps are closed up: the mean of the samples that were seen is the mean of a shorter series,
    and its error follows from that series' own noise ("equal spacing", Datta & Du 2012).
    """
    n = difference.shape[1]
    clipped = without_outliers(difference)
    known = noise(clipped)
    level = clipped.mean(axis=1)
    same = (at == at[0]).all()
    time = np.multiply(at[:1] if same else at, hours, dtype=np.float64)
    trend, step = known.regress(time), scans.telling_steps(clipped, known)
    found = scans.striking_segments(difference, level, known)
    _write_trend(out, rows, trend, scans.theil_sen(clipped, time), confidence)
    _write_segments(out, rows, at, found, confidence)
    out["step_p"][rows] = step.p_value

    error, dof = _error_of_level(known, days)
    out["p_value"][rows] = two_sided(level, error, dof)
    inside = scans.inside_segment(n, found.begin, found.end).astype(np.float64)
    chosen = _best_explanation(out, rows, known, trend, step, inside, confidence)
    effective = known.effective_samples()
    courses = {TREND: time, STEP: scans.after(n, step.at), SEGMENT: inside}
    for kind, course in courses.items():
        some = np.flatnonzero(chosen == kind)
        if len(some):
            fit = known.of(some).regress(course if len(course) == 1 else course[some])
            error[some], dof[some] = _error_of_level(fit.rest, days[some])
            effective[some] = fit.rest.effective_samples()
    out["n_effective"][rows] = effective
    _state(out, rows, level, error, dof, confidence)
    _name_kinds(out, rows, at, clipped, chosen, step)


def _error_of_level(known: Noise, days: Floats) -> tuple[Floats, Floats]:
    """Standard error of the level and its degrees of freedom, given days (m, D, T)."""
    if days.shape[1] > 1:
        return known.error_with_days(_day_levels(days))
    return known.error_of_mean()


def _write_trend(out: Columns, rows: Ints, trend: Fit, slope: Floats, confidence: float) -> None:
    half = half_width(trend.error, trend.dof, confidence)
    out["slope"][rows], out["slope_p"][rows] = slope, trend.p_value
    out["slope_low"][rows], out["slope_high"][rows] = slope - half, slope + half


def _write_segments(
    out: Columns, rows: Ints, at: Ints, found: scans.Segments, confidence: float
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
    step: scans.Steps,
    inside: Floats,
    confidence: float,
) -> Ints:
    """Which of level, trend, step and segment explains each series best; -1 for none.

    Candidates are those whose own p-value is significant after Bonferroni over the kinds; the
    likeliest is taken, less a price for each number that was fitted (Schwarz 1978).
    """
    names = ("p_value", "slope_p", "step_p", "incident_p")
    candidate = np.stack([out[name][rows] for name in names]) * TESTS < 1 - confidence
    evidence = np.full(candidate.shape, -np.inf)
    evidence[LEVEL], evidence[TREND] = known.evidence(), trend.rest.evidence()
    evidence[STEP] = step.evidence
    some = np.flatnonzero(candidate[SEGMENT])
    if len(some):
        evidence[SEGMENT, some] = known.of(some).regress(inside[some]).rest.evidence()
    fitted = np.array([[0], [1], [2], [3]])
    score = np.where(candidate, evidence - fitted * np.log(inside.shape[1]) / 2, -np.inf)
    return np.where(candidate.any(axis=0), score.argmax(axis=0), -1)


def _name_kinds(
    out: Columns, rows: Ints, at: Ints, x: Floats, chosen: Ints, step: scans.Steps
) -> None:
    """Write kind, begin and end of the explanation that was chosen.

    A step parts the window in two. If the first part is the farther from the baseline, what
    changed has ended.
    """
    kinds = np.array(["shift", "trend", "shift", "incident", "none"])
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


def _day_levels(days: Floats) -> Floats:
    """Level of each day (m, D) about the like hours of all of them."""
    return _mean(days - _mean(days, axis=1)[:, None], axis=2)


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


def _finite(x: Floats) -> Floats:
    return np.where(np.isfinite(x), x, np.nan)


def _mean(x: Floats, axis: int) -> Floats:
    """Mean of what is not missing; NaN where all is."""
    seen = np.isfinite(x)
    count = seen.sum(axis=axis)
    total = np.where(seen, x, 0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _range(x: Floats) -> Floats:
    seen = np.isfinite(x)
    high = np.where(seen, x, -np.inf).max(axis=1)
    low = np.where(seen, x, np.inf).min(axis=1)
    some = seen.any(axis=1)
    spread: Floats = np.where(some, high, 0) - np.where(some, low, 0)
    return spread


def _size(x: Floats) -> Floats:
    size: Floats = np.where(np.isfinite(x), np.abs(x), 0).max(axis=1)
    return size


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
    from scipy.stats import false_discovery_control  # half a second: only when needed

    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    told = ~np.isnan(p)
    if told.any():
        adjusted[told] = false_discovery_control(p[told])
    return adjusted


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
    base = _floats(baseline, "baseline", (1, 2, 3))
    seen = _finite(np.atleast_2d(_floats(window, "window", (1, 2))))
    base = base[None] if base.ndim == 1 else base
    _check(base, seen, step, None, 1 - alpha)
    planned = seen.shape[1] if steps is None else steps
    if planned < seen.shape[1] or every < 1:
        raise ValueError(f"{seen.shape[1]} samples of {planned} planned, every {every}")
    days = _like_hours(base, planned, step, baseline_start, window_start)
    if days is None:
        raise ValueError("the baseline does not cover the hours of the window")
    before = _finite(days(base)[:, :, : seen.shape[1]])
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
    difference = window - _mean(days, axis=1)
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
    varies = _range(difference) > ROUNDING * _size(difference)
    if varies.any():
        clipped = without_outliers(difference[varies])
        known = noise(clipped)
        effect[varies] = clipped.mean(axis=1)
        later = np.arange(days.shape[2]) > last[varies, None, None]
        error[varies], dof[varies] = _error_of_level(known, np.where(later, np.nan, days[varies]))
    return np.stack([effect, error, dof])


def _error_of_constant(effect: Floats, hours: float) -> Floats:
    """Standard error that stands for a sign test over hours that all differ alike.

    So far the difference never varied, which may be as true of a coarse gauge in its first
    hour as of a changed setting: it takes hours to tell.
    """
    z = -special.ndtri(0.5 ** max(1.0, np.floor(hours)))
    return np.where(effect > 0, effect / z if z > 0 else np.inf, 1.0)


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
    seen = _floats(values, "values", (2,))
    if len(seen) < 2:
        raise ValueError("one region has no others to be compared with")
    if baseline is None:
        return shifts(_others(seen), seen, step=step, confidence=confidence)
    base = _floats(baseline, "baseline", (2, 3))
    return shifts(base - _others(base), seen - _others(seen), step=step, confidence=confidence)


def _others(values: Floats) -> Floats:
    """Median of the other rows for each row of an array (R, ...); NaN where all are missing."""
    result = np.full(values.shape, np.nan)
    for i in range(len(values)):
        rest = np.sort(_finite(np.delete(values, i, axis=0)), axis=0)
        count = np.isfinite(rest).sum(axis=0)
        low, high = np.maximum(count - 1, 0) // 2, count // 2
        pair = [
            np.take_along_axis(rest, np.minimum(at, len(rest) - 1)[None], 0)[0]
            for at in (low, high)
        ]
        result[i] = np.where(count > 0, (pair[0] + pair[1]) / 2, np.nan)
    return result


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
        One day, or several days of like hours. Each of several is compared with the mean of
        the others; one alone with its own smooth course of the day.
    step : float
        Seconds between samples.
    alpha : float
        Chance that a sound baseline is called doubtful for an incident, or for a trend.

    Raises
    ------
    ValueError
        The step is not positive, or the array has the wrong dimensions or no samples.
    """
    days = _finite(np.atleast_2d(_floats(baseline, "baseline", (1, 2))))
    _check(days, days, step, None, 1 - alpha)
    hours = step / 3600
    problems: list[Problem] = []
    longest = 0
    for day, x in enumerate(days):
        begin, end = _longest_gap(x)
        longest = max(longest, end - begin)
        if np.isfinite(x).sum() < MIN_SAMPLES:
            problems.append(Problem("no_data", day, 0, len(x), (end - begin) * hours, np.nan))
            continue
        if (end - begin) * hours >= GAP_HOURS:
            problems.append(Problem("gap", day, begin, end, (end - begin) * hours, np.nan))
        rest = np.delete(days, day, axis=0)
        problems += _restless(x, rest, day, hours, alpha / len(days))
    return Health(float(np.isfinite(days).mean()), longest, tuple(problems))


def _restless(x: Floats, others: Floats, day: int, hours: float, alpha: float) -> list[Problem]:
    """Incident and trend of one day (T,) against other days (D, T) or its own smooth course."""
    usual = _mean(others, axis=0) if len(others) else np.zeros(len(x))
    at = np.flatnonzero(np.isfinite(x - usual))
    y, time = (x - usual)[at], np.multiply(at, hours, dtype=np.float64)
    if len(at) < MIN_SAMPLES or np.ptp(y) <= ROUNDING * np.abs(x[at]).max():
        return []
    if not len(others):
        y, time = _without_course(y, time), _without_course(time, time)
    clipped = without_outliers(y[None])
    known = noise(clipped)
    found = scans.striking_segments(y[None], clipped.mean(axis=1), known)
    trend = known.regress(time[None])
    trend_p = trend.p_value[0]
    problems = []
    if found.p_value[0] < alpha:
        begin, end = int(at[found.begin[0]]), int(at[found.end[0] - 1]) + 1
        problems.append(
            Problem("incident", day, begin, end, float(found.excess[0]), float(found.p_value[0]))
        )
    elif trend_p < alpha:
        problems.append(Problem("trend", day, 0, len(x), float(trend.slope[0]), float(trend_p)))
    return problems


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
