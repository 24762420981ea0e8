"""Whether a window differs from its baseline, by how much, since when and in what way.

The samples of a window are compared with those of like hours of the baseline, which takes the
season of the day out. How far one earlier day differs from another (`days`) is the error of that
comparison; with a single earlier day the correlated noise within it (`noise`) counts as well.
`changepoints` tells a lasting shift from an incident, a trend and a change of spread; each of these
is named only if it is significant and large enough to matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import changepoints
from .changepoints import Segment
from .days import LEVEL, RATIO, alike, error_between_days
from .noise import MIN_SAMPLES, Floats, Noise, half_width, noise, slow_course, two_sided
from .series import (
    ROUNDING,
    Ints,
    check,
    complete,
    finite,
    floats,
    like_hours,
    mean,
    median,
    size_of,
    span,
    without_outliers,
)

__all__ = ["Segment", "Shift", "Shifts", "fdr", "scope", "shift", "shifts", "stands_out"]

Columns = dict[str, NDArray[Any]]

#: Level at which a kind of change is named, for a series; each of the questions has its share.
ALPHA = 0.05
QUESTIONS = 3  #: level, incident, spread
#: Samples handled at once: few enough to stay in the cache, and the working memory near 20 MB.
CHUNK_SAMPLES = 50_000
#: Fewer effective samples than this, of a single earlier day, are no basis for a verdict.
MIN_EFFECTIVE = 2.0
#: Share of the samples that an earlier day needs to tell how days differ.
MIN_OF_DAY = 0.5
#: A passing incident matters from so many times on what a lasting shift matters from.
INCIDENT_MATTERS = 2.0
#: A spread matters that has grown, or fallen, to so many times.
SPREAD_MATTERS = 1.3
#: Where a trend may have begun, as shares of the window.
TREND_BEGINS = np.arange(8) / 8
#: Courses that may explain a change, and how many numbers are fitted with each.
COURSES = {"level": 0, "trend": 1, "step": 2, "incident": 3, "season": 1}


@dataclass(frozen=True, slots=True)
class Shift:
    """How one series changed from its baseline to its window.

    Positions count samples from the start of the window. NaN stands for what could not be told.
    """

    effect: float  #: level of the window minus level of the baseline, in the series' unit
    relative: float  #: effect as a share of |baseline level|; NaN where that is 0
    low: float  #: 95 % interval of the effect
    high: float
    relative_low: float  #: 95 % interval of the relative effect
    relative_high: float
    p_value: float  #: two-sided, of no change of level
    baseline_level: float
    window_level: float
    n_effective: float  #: independent samples that would know the level as well
    coverage: float  #: share of the samples that could be used
    kind: str  #: "none", "shift", "incident", "trend" or "spread"
    begin: int | None  #: where the change began; None if before the window, or no change
    end: int | None  #: one past the last sample of a passing incident; None if it lasts
    slope: float  #: slope of the difference per hour
    slope_low: float  #: 95 % interval of the slope
    slope_high: float
    slope_p: float  #: of no trend, given the noise within the window
    incident_p: float  #: of no part that stands out; of the farthest one
    incidents: tuple[Segment, ...]  #: all parts that are significant and matter, the farthest first
    spread_ratio: float  #: spread of the window / spread of the baseline
    spread_p: float  #: of no change of spread from day to day
    like_hours: bool  #: whether like hours were compared; if not, a season widens the interval
    reason: str  #: why there is no verdict; "" otherwise

    @property
    def no_data(self) -> bool:
        """Whether too little is known for a verdict."""
        return bool(self.reason)


class Shifts:
    """The fields of `Shift` for N series, an array (N,) each; -1 stands for None."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def __getattr__(self, name: str) -> NDArray[Any]:
        if name.startswith("_") or name not in self._columns:
            raise AttributeError(name)
        return self._columns[name]

    def __len__(self) -> int:
        return len(self.effect)

    def __getitem__(self, i: int) -> Shift:
        values = {f.name: self._columns[f.name].item(i) for f in fields(Shift)}
        for name in ("begin", "end"):
            values[name] = None if values[name] < 0 else values[name]
        return Shift(**values)

    def __iter__(self) -> Iterator[Shift]:
        return (self[i] for i in range(len(self)))


def shift(baseline: ArrayLike, window: ArrayLike, **options: Any) -> Shift:
    """Compare one window (T,) with its baseline, (T,) or D earlier days (D, T); see `shifts`."""
    base, seen = floats(baseline, "baseline", (1, 2)), floats(window, "window", (1,))
    return shifts(base[None], seen[None], **options)[0]


def shifts(
    baseline: ArrayLike,
    window: ArrayLike,
    *,
    step: float,
    baseline_start: float | None = None,
    window_start: float | None = None,
    limit: float = 0.05,
    in_units: bool = False,
    size: ArrayLike | None = None,
    side_by_side: bool = False,
) -> Shifts:
    """Compare many windows with their baselines at once.

    How much days differ is judged from all of them together, so they should be of one rule.

    Parameters
    ----------
    baseline : (N, T) or (N, D, T) array
        Samples of the baselines; of D earlier days of like hours, where given. NaN is missing, and
        so is an infinite value.
    window : (N, T) array
        Samples of the windows.
    step : float
        Seconds between samples.
    baseline_start, window_start : float, optional
        Seconds since the epoch. Without them the two are taken to start at the same time of day.
    limit : float
        Share of the level from which on a shift matters; kinds of change that do not matter are
        not named. In the series' unit if ``in_units``.
    size : (N,) array, optional
        Level that shares are of, where it is not the baseline's: that of a difference is near 0.
    side_by_side : bool
        Both were seen at the same time, in two places or of two versions: no day differs from
        another, so that only the noise within them counts.

    Raises
    ------
    ValueError
        A step is not positive, or an array has the wrong number of dimensions or no samples.
    """
    base, seen = floats(baseline, "baseline", (2, 3)), floats(window, "window", (2,))
    check(base, seen, step)
    days = like_hours(base, seen.shape[1], step, baseline_start, window_start)
    compare = _compare_levels if days is None else _compare_like_hours
    rows = max(1, CHUNK_SAMPLES // max(math.prod(base.shape[1:]), seen.shape[1]))
    parts = []
    for at in range(0, max(1, len(seen)), rows):
        before = base[at : at + rows]
        before = before if days is None else days(before)
        parts.append(compare(finite(before), finite(seen[at : at + rows]), step))
    out = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    level = np.abs(out["baseline_level"])
    sizes = level if size is None else np.broadcast_to(np.asarray(size, float), len(seen))
    _against_noise(out)
    if not side_by_side:
        _against_days(out, sizes)
    _finish(out, limit * (np.ones(len(seen)) if in_units else sizes))
    return Shifts(out)


def _blank(m: int, days: int) -> Columns:
    """Columns of `Shifts` for ``m`` series of which nothing is known yet.

    Those that begin with a mark are no part of the result: what the ``days`` earlier days have of
    the level, of the spread and of the farthest segment, and the course that explains the change.
    """
    columns: Columns = {"_farthest": np.full(m, np.nan), "_course": np.full(m, "", "<U8")}
    for name in ("_levels", "_spreads", "_segments"):
        columns[name] = np.full((m, days), np.nan)
    empty: dict[str, Any] = {"int | None": -1, "bool": False, "float": np.nan}
    for field in fields(Shift):
        columns[field.name] = np.full(m, empty.get(str(field.type), ""))
    columns["kind"], columns["reason"] = np.full(m, "none", "<U8"), np.full(m, "", "<U80")
    columns["incidents"] = np.empty(m, object)
    columns["incidents"][:] = [()] * m
    columns["_error"], columns["_dof"] = np.zeros(m), np.full(m, np.inf)
    return columns


def _compare_like_hours(days: Floats, window: Floats, step: float) -> Columns:
    """Columns for windows (m, T) against days of like hours (m, D, T), by the noise within them."""
    out = _blank(len(window), days.shape[1])
    base = mean(days, axis=1)
    difference = window - base
    usable = np.isfinite(difference)
    base = np.where(usable, base, np.nan)
    out["like_hours"][:] = True
    out["coverage"][:] = usable.mean(axis=1)
    out["baseline_level"][:] = mean(base, axis=1)
    out["effect"][:] = mean(difference, axis=1)
    out["n_effective"][:] = usable.sum(axis=1)
    out["_levels"][:] = mean(days - base[:, None], axis=2)
    _refuse(out, usable.sum(axis=1))
    size = np.maximum(size_of(base), size_of(np.where(usable, window, np.nan)))
    varies = (out["reason"] == "") & (span(difference) > ROUNDING * size)
    for rows, at in complete(usable, varies):
        change, usual = (np.take_along_axis(x[rows], at, 1) for x in (difference, base))
        _measure(out, rows, change, usual, at, _among_days(days[rows], at), step)
    rough = changepoints.roughness(days)
    out["_spreads"][:] = rough - mean(rough, axis=1)[:, None]
    out["spread_ratio"][:] = np.where(
        varies, changepoints.roughness(window) - mean(rough, axis=1), np.nan
    )
    return out


def _compare_levels(base: Floats, window: Floats, step: float) -> Columns:
    """Columns for windows (m, T) against baselines (m, ...) of other hours.

    Without like hours the season stays in both, so only the levels are compared, with the errors of
    both; incidents, trends and spread would be read from the season and are left NaN.
    """
    out = _blank(len(window), 1)
    sides = base.reshape(len(base), -1), window
    counts = [np.isfinite(x).sum(axis=1) for x in sides]
    out["coverage"][:] = np.minimum(*(np.isfinite(x).mean(axis=1) for x in sides))
    out["n_effective"][:] = np.minimum(*counts)
    _refuse(out, np.minimum(*counts))
    levels = [mean(x, axis=1) for x in sides]
    for x, count, level in zip(sides, counts, levels, strict=True):
        varies = (span(x) > ROUNDING * size_of(x)) & (count >= MIN_SAMPLES)
        for rows, at in complete(np.isfinite(x), varies):
            clipped = without_outliers(np.take_along_axis(x[rows], at, 1))
            known, level[rows] = noise(clipped), clipped.mean(axis=1)
            error, dof = known.error_of_mean()
            out["_error"][rows] = np.hypot(out["_error"][rows], error)
            out["_dof"][rows] = np.minimum(out["_dof"][rows], dof)
            least = np.minimum(out["n_effective"][rows], known.effective_samples())
            out["n_effective"][rows] = least
    out["baseline_level"], out["effect"] = levels[0], levels[1] - levels[0]
    return out


def _among_days(days: Floats, at: Ints) -> Floats:
    """How D days (m, D, T) differ from their mean, at positions ``at`` (m, n), as (m, D, n).

    Scaled so that they vary as the window's difference from their mean does: of k days, (k - 1) / k
    of a day's variance is left in them, and (k + 1) / k in the window's difference. NaN for a day
    that was hardly seen, and where there is no other.
    """
    m, count, _ = days.shape
    seen = np.take_along_axis(days, np.broadcast_to(at[:, None], (m, count, at.shape[1])), axis=2)
    there = np.isfinite(seen).mean(axis=2) >= MIN_OF_DAY
    k = there.sum(axis=1)[:, None, None]
    apart = (seen - mean(seen, axis=1)[:, None]) * np.sqrt((k + 1) / np.maximum(k - 1, 1))
    apart = np.where(np.isfinite(apart), apart, 0)
    return np.where(there[:, :, None] & (k > 1), apart, np.nan)


def _measure(
    out: Columns, rows: Ints, difference: Floats, usual: Floats, at: Ints, among: Floats,
    seconds: float,
) -> None:  # fmt: skip
    """Fill ``rows`` from complete differences (m, n) seen at positions ``at`` (m, n).

    ``usual`` (m, n) is the baseline there, ``among`` (m, D, n) how its days differ. Gaps are closed
    up: the mean of the samples that were seen is the mean of a shorter series, and its error
    follows from that series' own noise ("equal spacing", Datta & Du 2012).
    """
    clipped = without_outliers(difference)
    known, level = noise(clipped), clipped.mean(axis=1)
    time = np.multiply(at, seconds / 3600, dtype=np.float64)
    trend, (step, step_p) = known.regress(time), changepoints.telling_steps(clipped, known)
    half = half_width(trend.error, trend.dof, 1 - ALPHA)
    out["slope"][rows], out["slope_p"][rows] = trend.slope, trend.p_value
    out["slope_low"][rows], out["slope_high"][rows] = trend.slope - half, trend.slope + half
    incidents = _write_incidents(out, rows, difference - level[:, None], at, known, among, seconds)

    error, dof = known.error_of_mean()
    effective = known.effective_samples()
    # Of what lies between the two, so that neither is preferred when they change places.
    season = slow_course(without_outliers(usual + difference / 2))
    p_values = {
        "level": two_sided(level, error, dof),
        "trend": trend.p_value,
        "step": step_p,
        "incident": out["incident_p"][rows],
        "season": np.where(_has_season(clipped, season), 0.0, 1.0),
    }
    courses = {
        "trend": time,
        "step": changepoints.after(clipped.shape[1], step),
        "incident": incidents,
        "season": season,
    }
    chosen = _best_explanation(known, p_values, courses)
    for name, course in courses.items():
        some = np.flatnonzero(chosen == name)
        if not len(some):
            continue
        x = clipped[some]
        if name == "incident":  # it is no outlier, and counts in full
            x = np.where(course[some] > 0, difference[some], x)
            level[some] = x.mean(axis=1)
        fit = noise(x).regress(course[some])
        error[some], dof[some] = fit.rest.error_of_mean()
        effective[some] = fit.rest.effective_samples()
        if name in ("trend", "step"):  # what lasts is no incident, but there may be one beside it
            about = course[some] - course[some].mean(axis=1, keepdims=True)
            left = difference[some] - level[some, None] - fit.slope[:, None] * about
            _write_incidents(out, rows[some], left, at[some], fit.rest, among[some], seconds)
    out["effect"][rows], out["_error"][rows], out["_dof"][rows] = level, error, dof
    out["n_effective"][rows], out["_course"][rows] = effective, chosen
    _write_begins(out, rows, at, clipped, known, chosen, step)


def _write_incidents(
    out: Columns, rows: Ints, x: Floats, at: Ints, known: Noise, among: Floats, seconds: float
) -> Floats:
    """Write the segments of series (m, n) about their level; return where they are, 0 or 1.

    What the days differ by has the noise without what is looked for in the window. The farthest
    segment of each day tells how far days go anyway; where there is one day, which has no others,
    the farthest segment on the other side of the level does.
    """
    shortest = changepoints.shortest_incident(seconds)
    errors = changepoints.segment_errors(known, shortest)
    row, day = np.nonzero(np.ptp(among, axis=2) > 0)
    if len(row):
        flat = among[row, day]
        clipped = without_outliers(flat)
        level = clipped.mean(axis=1)
        k = np.bincount(row, minlength=len(x))
        out["_levels"][rows[row], day] = level / np.sqrt((k + 1) / np.maximum(k - 1, 1))[row]
        own = changepoints.segment_errors(noise(clipped), shortest)
        several = k > 0
        for mine, theirs, power in ((errors.error, own.error, 2), (errors.dof, own.dof, 1)):
            total = np.zeros_like(mine)
            np.add.at(total, row, theirs**power)
            mine[several] = (total[several] / k[several, None]) ** (1 / power)
        errors.dof[several] *= k[several, None]
        flat = changepoints.smoothed(flat - level[:, None], shortest)
        extent = changepoints.scan(flat, errors.of(row)).extent
        out["_segments"][rows[row], day] = _log(extent)
    parts, first = changepoints.segments(x, errors, shortest, ALPHA)
    alone = rows[~np.isfinite(out["_segments"][rows]).any(axis=1)]
    out["_segments"][alone, 0] = _log(first.other_way)[np.isin(rows, alone)]
    out["_farthest"][rows] = _log(first.extent)
    out["incident_p"][rows] = first.p_value
    inside = np.zeros(x.shape)
    for i, segments in enumerate(parts):
        for s in segments:
            inside[i, s.begin : s.end] = 1
        out["incidents"][rows[i]] = tuple(
            replace(s, begin=int(at[i, s.begin]), end=int(at[i, s.end - 1]) + 1) for s in segments
        )
    return inside


def _log(extent: Floats) -> Floats:
    """Logarithm of a departure in standard errors."""
    logarithm: Floats = np.log(np.maximum(extent, 0) + 0.1)
    return logarithm


def _best_explanation(
    known: Noise, p_values: dict[str, Floats], courses: dict[str, Floats]
) -> NDArray[np.str_]:
    """Which course explains each series best; "" where none is significant.

    Candidates are those whose own p-value is significant after Bonferroni over the kinds; the
    likeliest is taken, less a price for each number that was fitted (Schwarz 1978).

    The season is a change in proportion to the course of the day, which is what a tenth more of
    everything does to a day with a rush hour: no noise, although it comes and goes.
    """
    names = np.array([*COURSES, ""])
    score = np.full((len(names), len(known.power)), -np.inf)
    score[-1] = -1e300
    for i, (name, fitted) in enumerate(COURSES.items()):
        some = np.flatnonzero(p_values[name] * len(COURSES) < ALPHA)
        if not len(some):
            continue
        part, price = known.of(some), fitted * np.log(known.n) / 2
        if name == "level":
            score[i, some] = part.evidence()
            continue
        fit = part.regress(courses[name][some])
        score[i, some] = fit.rest.evidence() - price
        if name == "season":
            score[i, some[fit.p_value * len(COURSES) >= ALPHA]] = -np.inf
    chosen: NDArray[np.str_] = names[score.argmax(axis=0)]
    return chosen


def _has_season(x: Floats, season: Floats) -> NDArray[np.bool_]:
    """Whether the course of the day is so strong that it cannot be the noise's own wandering.

    It must have four times the variance of what is left of the difference ``x`` without it. The
    slow wandering of a baseline that has no season is part of the difference, and never larger.
    """
    x = x - x.mean(axis=1, keepdims=True)
    size = (season**2).sum(axis=1)
    along = (x * season).sum(axis=1) ** 2 / np.where(size > 0, size, 1)
    strong: NDArray[np.bool_] = size > 4 * np.maximum((x**2).sum(axis=1) - along, 0)
    return strong


def _write_begins(
    out: Columns, rows: Ints, at: Ints, x: Floats, known: Noise, chosen: NDArray[np.str_],
    step: Ints,
) -> None:  # fmt: skip
    """Write where a trend and a step begin; a step to a level nearer the baseline is an end."""
    n = x.shape[1]
    for i in np.flatnonzero(chosen == "trend"):
        begins = (TREND_BEGINS * n).astype(np.int64)
        bends = np.maximum(0, np.arange(n) - begins[:, None]).astype(np.float64)
        one = known.of(np.full(len(begins), i))
        out["begin"][rows[i]] = at[i, begins[one.regress(bends).rest.evidence().argmax()]]
    for i in np.flatnonzero(chosen == "step"):
        border = at[i, step[i]]
        if abs(x[i, : step[i]].mean()) > abs(x[i, step[i] :].mean()):
            out["begin"][rows[i]], out["end"][rows[i]] = 0, border
        else:
            out["begin"][rows[i]] = border


def _refuse(out: Columns, count: Ints) -> None:
    """Write the reason of series that cannot be judged."""
    out["reason"][count < MIN_SAMPLES] = f"fewer than {MIN_SAMPLES} samples in both"
    out["reason"][count == 0] = "no sample in both"


def _against_noise(out: Columns) -> None:
    """Judge the level by the noise within the days; what never varies has no error."""
    effect, error = out["effect"], out["_error"]
    out["_half"] = np.where(error > 0, half_width(error, out["_dof"], 1 - ALPHA), 0)
    p_value = two_sided(effect, np.where(error > 0, error, 1), out["_dof"])
    out["p_value"] = np.where(error > 0, p_value, np.where(effect == 0, 1.0, 0.0))


def _against_days(out: Columns, size: Floats) -> None:
    """Judge level, spread and segments by how days differ, not by the noise within them alone."""
    some = np.flatnonzero(np.isfinite(out["spread_ratio"]))
    ratio = out["spread_ratio"][some]
    out["spread_p"][some] = error_between_days(out["_spreads"][some], ratio, RATIO).p_value(ratio)
    levels = out["_levels"]
    differ = np.ptp(np.where(np.isfinite(levels), levels, 0), axis=1) > ROUNDING * size
    some = np.flatnonzero((out["reason"] == "") & (size > 0) & (differ | (out["_error"] > 0)))
    unit = size[some].astype(np.float64)
    within, change = out["_error"][some] / unit, out["effect"][some] / unit
    if levels.shape[1] == 1 and alike(change, within, out["_dof"][some]):
        return
    error = error_between_days(
        levels[some] / unit[:, None], change, LEVEL, within**2, out["_dof"][some]
    )
    out["p_value"][some], out["_half"][some] = (
        error.p_value(change),
        error.half_width(ALPHA) * unit,
    )
    some = np.flatnonzero(np.isfinite(out["_segments"]).any(axis=1))
    usual = mean(out["_segments"][some], axis=1)
    beyond = np.maximum(0, out["_farthest"][some] - usual)
    error = error_between_days(out["_segments"][some], out["_farthest"][some] - usual, RATIO)
    out["incident_p"][some] = np.maximum(out["incident_p"][some], error.p_value(beyond))
    for i, row in enumerate(some):
        if parts := out["incidents"][row]:
            extents = _log(np.array([part.extent for part in parts]))
            p_values = error.of([i] * len(parts)).p_value(np.maximum(0, extents - usual[i]))
            out["incidents"][row] = tuple(
                replace(part, p_value=max(part.p_value, float(p)))
                for part, p in zip(parts, p_values, strict=True)
            )


def _finish(out: Columns, matters: Floats) -> None:
    """Name the kinds, blank what is no verdict, and derive what follows from the rest."""
    one_day = np.isfinite(out["_levels"]).sum(axis=1) < 2
    few = (out["reason"] == "") & one_day & (out["n_effective"] < MIN_EFFECTIVE)
    out["reason"][few] = f"fewer than {MIN_EFFECTIVE:g} effective samples"
    blank = out["reason"] != ""
    out["low"], out["high"] = out["effect"] - out["_half"], out["effect"] + out["_half"]
    out["spread_ratio"] = np.exp(out["spread_ratio"])
    _name_kinds(out, np.where(np.isfinite(matters), matters, 0), blank)
    for field in fields(Shift):
        if field.type == "float" and field.name not in ("coverage", "n_effective"):
            out[field.name][blank] = np.nan
    level = np.where(out["baseline_level"] == 0, np.nan, np.abs(out["baseline_level"]))
    out["window_level"] = out["baseline_level"] + out["effect"]
    for name, share in (("effect", "relative"), ("low", "relative_low"), ("high", "relative_high")):
        out[share] = out[name] / level


def _name_kinds(out: Columns, matters: Floats, blank: NDArray[np.bool_]) -> None:
    """Keep the incidents that matter, and name the kind of change of each series that does."""
    alpha = ALPHA / QUESTIONS
    first = np.full((len(blank), 2), -1)
    for i, parts in enumerate(out["incidents"]):
        out["incidents"][i] = kept = tuple(
            part
            for part in parts
            if part.p_value < ALPHA
            and abs(part.excess) > INCIDENT_MATTERS * matters[i]
            and not blank[i]
        )
        if kept and kept[0].p_value < alpha:
            first[i] = kept[0].begin, kept[0].end
    passing, course = first[:, 0] >= 0, out["_course"]
    times = np.abs(np.log(np.where(out["spread_ratio"] > 0, out["spread_ratio"], np.nan)))
    moved = ~blank & (out["p_value"] < alpha) & (np.abs(out["effect"]) > matters)
    moved &= ~(passing & (course == "incident"))
    changes = {
        "none": blank,
        "incident": moved & (out["end"] >= 0),
        "trend": moved & (course == "trend"),
        "shift": moved,
        "incident ": passing,
        "spread": (out["spread_p"] < alpha) & (times >= np.log(SPREAD_MATTERS)),
    }
    out["kind"] = np.char.strip(np.select([*changes.values()], [*changes], "none"))
    for i, name in enumerate(("begin", "end")):
        out[name] = np.where(moved, out[name], np.where(passing, first[:, i], -1))


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


def stands_out(values: ArrayLike, *, step: float, baseline: ArrayLike | None = None) -> Shifts:
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
        return shifts(_others(seen), seen, step=step, side_by_side=True)
    base = floats(baseline, "baseline", (2, 3))
    size = np.abs(mean(base.reshape(len(base), -1), axis=1))
    return shifts(base - _others(base), seen - _others(seen), step=step, size=size)


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
