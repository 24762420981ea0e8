"""Drift: which figures moved between the baseline and the window by more than their rule allows.

`shifts` answers for one pair of series, or many, how far it moved and how sure that is. Here the
rules are laid over every region and service. A finding needs both: an effect beyond its limit in
the adverse direction, and significance after correction for all the questions that were asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from tars_ga_lib.catalogues import DriftRule, Kpi
from tars_ga_lib.change.baselines import Problem, baseline_problems
from tars_ga_lib.change.sequential import sequential
from tars_ga_lib.change.series import like_hours
from tars_ga_lib.change.shifts import Segment, Shift, fdr, shifts
from tars_ga_lib.grammar import Verdict, format_time
from tars_ga_lib.kpis import Kpis, interval_facts
from tars_ga_lib.levels import Place, level_matrix, level_series

Floats = NDArray[np.float64]

SIGNIFICANCE = 0.05
"""Share of false discoveries that is tolerated among all findings of a run."""

MIN_COVERAGE = 0.8
"""Share of the window's and of the baseline's steps that an evaluation needs."""

_ROUNDING = 1e-13
"""Share of a baseline, or points, below which a change is that of rounding."""

WORST = 10
"""How many of the worst findings are listed."""

STABILITY_CATEGORIES = ("resource", "performance", "behaviour")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One rule at one place, evaluated; None where there is nothing to say."""

    id: str  #: RULE/REGION/SERVICE
    rule: str
    title: str
    category: str
    kpi: str
    unit: str  #: the KPI's (SI, ratios 0..1)
    region: str | None  #: None stands for all
    service: str | None
    measure: str  #: "relative", "points" or "exact"
    adverse: str  #: the direction that counts: "up", "down" or "either"
    verdict: Verdict
    #: `uncertain` for an effect beyond a limit that is not significant, `improved` for one the
    #: other way that is, `incident` where only a part of the window was beyond the critical limit,
    #: `moved` where what one place gained others lost, else why there is no data.
    reason: str
    baseline: float | None  #: levels compared, in which an outlier has little weight, in the unit
    current: float | None
    #: The change and its 95 % interval in the rule's measure: a share of the baseline, a difference
    #: in the KPI's unit, or (exact) the number of steps that differ.
    drift: float | None
    low: float | None = None
    high: float | None = None
    adjusted_p: float | None = None  #: p-value, corrected for all questions
    warning: float | None  #: the rule's limits in its measure; None for an exact rule
    critical: float | None
    coverage: float  #: share of the samples that were seen and could be compared
    kind: str  #: "none", "shift", "trend", "incident" or "spread"
    began: str | None  #: ISO time; None where not known, or before the window
    ended: str | None = None
    #: The parts of the window that stood out, the farthest first: their times, mean excess in the
    #: measure, the KPI's figure within them, and p-values.
    incidents: list[dict[str, Any]] = field(default_factory=list)
    #: What the test found beside this, as `drift_analysis.json` has it.
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name for a reader: the rule and where."""
        where = " / ".join(part for part in (self.region, self.service) if part)
        return f"{self.title}, {where}" if where else self.title

    @property
    def significant(self) -> bool:
        """Whether the change is significant after correction."""
        return self.adjusted_p is not None and self.adjusted_p < SIGNIFICANCE

    def adverse_part(self, change: float) -> float:
        """Return a change as seen in the adverse direction: positive is worse."""
        return {"up": change, "down": -change, "either": abs(change)}[self.adverse]

    @property
    def adverse_drift(self) -> float:
        """Drift in the adverse direction: positive is worse; 0 if none is known."""
        return self.adverse_part(self.drift or 0.0)

    @property
    def severity(self) -> float:
        """Adverse drift as a multiple of the critical limit, to rank findings of all measures."""
        if self.measure == "exact":
            return 1.0 if self.drift else 0.0
        return self.adverse_drift / self.critical if self.critical else 0.0

    def facts(self) -> dict[str, Any]:
        """Return the evaluation as `drift_analysis.json` has it."""
        names = [key for key in self.__dataclass_fields__ if key != "details"]
        return {"name": self.name} | {key: getattr(self, key) for key in names} | self.details


def analyse(window: Kpis, baselines: Sequence[Kpis]) -> dict[str, Any]:
    """Evaluate every rule at every region and service: the content of `drift_analysis.json`.

    Parameters
    ----------
    window
        KPIs of the window.
    baselines
        KPIs of each baseline interval, the latest first.
    """
    rules = window.job.rules
    evaluations = [
        evaluation
        for name, rule in rules.items()
        for kpi in rule.kpi
        for evaluation in _evaluate(name, rule, kpi, window, baselines)
    ]
    evaluations = _moved(_corrected(evaluations), window.job.kpis)
    alarms = incremental(window, baselines, [e for e in evaluations if e.significant])
    findings = sorted(
        (e for e in evaluations if e.verdict in ("warn", "fail")),
        key=lambda e: (e.verdict != "fail", e.reason == "incident", -e.severity, e.id),
    )
    return {
        "schema": "tars-ga/drift/1",
        "significance": SIGNIFICANCE,
        "window": interval_facts(window.span),
        "baselines": [interval_facts(each.span) for each in baselines],
        "baseline_problems": _baseline_problems(rules, window, baselines),
        "counts": _counts(evaluations),
        "stability": _stability(evaluations, len(baselines)),
        "worst": [e.facts() for e in findings[:WORST]],
        "incidents": _incidents(evaluations),
        "first_alarms": alarms,
        "actions": _actions(rules, findings),
        "evaluations": [e.facts() for e in evaluations],
    }


# --- evaluation ----------------------------------------------------------------------------------


def baseline_days(baselines: Sequence[Kpis], name: str, places: Sequence[Place]) -> Floats:
    """Level series of the baselines, shape (places, D, T).

    Days of another length than the latest are left out, as their hours do not match.
    """
    length = baselines[0].span.steps
    days = [
        level_matrix(each, name, places, baselines[0])
        for each in baselines
        if each.span.steps == length
    ]
    return np.stack(days, axis=1)


def _evaluate(
    name: str, rule: DriftRule, kpi: str, window: Kpis, baselines: Sequence[Kpis]
) -> list[Evaluation]:
    """Evaluate one KPI of a rule at every place; a partial answer compares with nothing."""
    places = window.places(kpi)
    doubt = next((text for side in (window, *baselines) for text in side.doubts(kpi)), "")
    doubt = doubt and f"the server warned about its answer: {doubt}"
    if rule.measure == "exact":
        return [_exact(name, rule, kpi, place, window, baselines[0], doubt) for place in places]
    before = baseline_days(baselines, kpi, places)
    found = shifts(
        before[:, 0] if before.shape[1] == 1 else before,
        level_matrix(window, kpi, places, baselines[0]),
        step=window.span.step,
        baseline_start=baselines[0].span.start,
        window_start=window.span.start,
        limit=rule.warning or 0.0,
        in_units=rule.measure == "points",
    )
    return [
        _evaluation(name, rule, kpi, place, window, baselines[0], doubt, shift)
        for place, shift in zip(places, found, strict=True)
    ]


def _identity(name: str, rule: DriftRule, kpi: str, place: Place) -> str:
    parts = [name if len(rule.kpi) == 1 else f"{name}:{kpi}", *place]
    return "/".join(part for part in parts if part)


def _asked(name: str, rule: DriftRule, kpi: str, place: Place, window: Kpis) -> dict[str, Any]:
    """Fields of an evaluation that do not depend on what was found."""
    names = ("title", "category", "measure", "adverse", "warning", "critical")
    return {key: getattr(rule, key) for key in names} | {
        "id": _identity(name, rule, kpi, place),
        "rule": name,
        "kpi": kpi,
        "unit": window.job.kpis[kpi].unit,
        "region": place[0],
        "service": place[1],
    }


def _number(value: float) -> float | None:
    """Return a number; None if it is none, and 0 for what rounding alone left."""
    return 0.0 if abs(value) < _ROUNDING else float(value) if np.isfinite(value) else None


def _time(kpis: Kpis, step: int | None) -> str | None:
    """Return when a step begins."""
    return None if step is None else format_time(kpis.span.start + step * kpis.span.step)


def _evaluation(
    name: str, rule: DriftRule, kpi: str, place: Place, window: Kpis, baseline: Kpis, doubt: str,
    found: Shift,
) -> Evaluation:  # fmt: skip
    """Evaluate a measured rule; its verdict is given once p-values are corrected."""
    effect, low, high = found.effect, found.low, found.high
    unseen = doubt or window.figure(kpi, *place).reason
    reason = unseen or found.reason
    if rule.measure == "relative":
        effect, low, high = found.relative, found.relative_low, found.relative_high
        if not reason and not np.isfinite(effect):
            unchanged = found.effect == 0
            effect = low = high = 0.0 if unchanged else np.nan
            reason = "" if unchanged else "the baseline is 0, so a relative drift has no meaning"
    parts = [] if reason else found.incidents
    return Evaluation(
        **_asked(name, rule, kpi, place, window),
        verdict="no_data" if reason else "pass",
        reason=reason,
        baseline=_number(found.baseline_level),
        current=_number(found.window_level),
        drift=_number(effect),
        low=_number(low),
        high=_number(high),
        adjusted_p=None if reason else _p(found.p_value),
        coverage=float(found.coverage),
        kind=found.kind,
        began=_time(window, found.begin),
        ended=_time(window, found.end),
        incidents=[_incident(rule, kpi, place, window, found, part) for part in parts],
        details={
            "baseline_kpi": baseline.figure(kpi, *place).value,
            "window_kpi": window.figure(kpi, *place).value,
            "p_value": None if reason else _p(found.p_value),
            "incident_p": None if reason else _p(found.incident_p),
            "effective_samples": _number(found.n_effective),
            "slope_per_hour": _number(found.slope),
            "slope_low": _number(found.slope_low),
            "slope_high": _number(found.slope_high),
            "spread_ratio": _number(found.spread_ratio),
            "like_hours": found.like_hours,
            # All was seen, and yet no statistic tells: a baseline of 0, or hardly any noise.
            "untestable": bool(reason) and found.coverage >= MIN_COVERAGE and not unseen,
        },
    )


def _p(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _too_little(coverage: float) -> str:
    """Say that too little was seen for an evaluation; empty if enough was."""
    if coverage >= MIN_COVERAGE:
        return ""
    return f"only {coverage:.1%} of it was seen, and {MIN_COVERAGE:.0%} are needed"


def _incident(
    rule: DriftRule, kpi: str, place: Place, window: Kpis, found: Shift, part: Segment
) -> dict[str, Any]:
    """Return a part of the window that stood out, its excess in the rule's measure."""
    size = abs(found.baseline_level) if rule.measure == "relative" else 1.0
    p_value = max(part.p_value, _chance_of_events(window, kpi, place, part.begin, part.end))
    return {
        "began": _time(window, part.begin),
        "ended": _time(window, part.end),
        "excess": _number(part.excess / size) if size else None,
        "figure": window.during(kpi, part.begin, part.end, *place),
        "p_value": p_value,
        "adjusted_p": p_value,
    }


def _chance_of_events(kpis: Kpis, kpi: str, place: Place, begin: int, end: int) -> float:
    """Chance that a ratio's events fall into steps [begin, end) as unevenly as they did.

    A handful of errors in a quiet hour is a high rate of errors, and yet no incident. Given how
    many events there were in the window (of the rarer kind: errors, not successes), each falls
    into the part with the probability of the part's share of the traffic: a binomial count
    (Przyborowski & Wilenski 1940), corrected for the places where it was searched. 0 for KPIs
    that are no ratio.
    """
    if kpis.job.kpis[kpi].kind != "ratio":
        return 0.0
    top, bottom = kpis.parts(kpi, *place)
    events = top if np.nansum(top) < np.nansum(bottom) / 2 else bottom - top
    total, traffic = float(np.nansum(events)), float(np.nansum(bottom))
    if not total > 0:
        return 1.0
    inside, share = float(np.nansum(events[begin:end])), float(np.nansum(bottom[begin:end]))
    share /= traffic
    # The binomial tails by the incomplete beta function: counts may be bytes, beyond any integer.
    if inside > share * total:
        chance = special.betainc(np.ceil(inside), np.ceil(total) - np.ceil(inside) + 1, share)
    elif np.floor(inside) < np.ceil(total):
        chance = special.betaincc(np.floor(inside) + 1, np.ceil(total) - np.floor(inside), share)
    else:
        chance = 1.0
    return min(1.0, 2 * float(chance) * kpis.span.steps / (end - begin))


def _exact(
    name: str, rule: DriftRule, kpi: str, place: Place, window: Kpis, baseline: Kpis, doubt: str
) -> Evaluation:
    """Evaluate an exact rule: the window's values against the baseline's last one."""
    before, now = baseline.series(kpi, *place), window.series(kpi, *place)
    before, seen = before[~np.isnan(before)], ~np.isnan(now)
    differs = seen & (now != before[-1]) if len(before) else np.zeros(len(now), bool)
    reason = doubt
    if not doubt and not (len(before) and seen.any()):
        reason = f"no samples in the {'window' if len(before) else 'baseline'}"
    elif not doubt and not differs.any():  # a difference is one, however little was seen
        reason = _too_little(float(seen.mean()))
    first = int(np.argmax(differs)) if differs.any() else None
    return Evaluation(
        **_asked(name, rule, kpi, place, window),
        verdict="no_data" if reason else "fail" if differs.any() else "pass",
        reason=reason,
        baseline=float(before[-1]) if len(before) else None,
        current=float(now[seen][-1]) if seen.any() else None,
        drift=None if reason else float(differs.sum()),
        coverage=float(seen.mean()),
        kind="shift" if differs.any() else "none",
        # A difference from the first step on was there before the window began.
        began=_time(window, first or None),
    )


def _corrected(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Correct all p-values together, and give each measured evaluation its verdict.

    Whether the level changed and whether a part stands out are asked of every evaluation, so both
    p-values count, and not only of those in which something was seen.
    """
    asked = [e for e in evaluations if e.adjusted_p is not None]
    levels = [e.adjusted_p for e in asked]
    parts = [[i["p_value"] for i in e.incidents] or [e.details["incident_p"]] for e in asked]
    p_values = [p for part in [levels, *parts] for p in part]
    adjusted = iter(fdr(np.array(p_values, dtype=np.float64)).tolist())
    by_id = {e.id: (e, next(adjusted)) for e in asked}
    judged = {
        name: _judged(e, p, [next(adjusted) for _ in part])
        for (name, (e, p)), part in zip(by_id.items(), parts, strict=True)
    }
    return [judged.get(e.id, e) for e in evaluations]


def _judged(evaluation: Evaluation, adjusted_p: float, incident_p: Sequence[float]) -> Evaluation:
    warning, critical = evaluation.warning, evaluation.critical
    assert warning is not None
    assert critical is not None
    incidents = [
        incident | {"adjusted_p": p}
        for incident, p in zip(evaluation.incidents, incident_p, strict=False)
        if p < SIGNIFICANCE and evaluation.adverse_part(incident["excess"] or 0.0) > critical
    ]
    judged = replace(evaluation, adjusted_p=adjusted_p, incidents=incidents)
    drift, too_little = judged.adverse_drift, _too_little(judged.coverage)
    if drift > warning and judged.significant:
        return replace(judged, verdict="fail" if drift > critical else "warn")
    if incidents:
        # What passed within the window is no lasting drift, but not nothing either.
        return replace(judged, verdict="warn", reason="incident")
    if too_little:  # a finding stays one, however little was seen
        return replace(judged, verdict="no_data", reason=too_little, adjusted_p=None)
    if drift > warning:
        return replace(judged, reason="uncertain")
    if judged.significant and -drift > warning:
        return replace(judged, reason="improved")
    return judged


def _moved(evaluations: Sequence[Evaluation], kpis: Mapping[str, Kpi]) -> list[Evaluation]:
    """Tell work that moved from one region to another from growth (a cost shift, FBDetect 2024).

    A service's region gained and another lost, both for certain, and the sum over its regions did
    not change by more than the rule's warning limit. It stays a finding.
    """
    groups: dict[Any, list[Evaluation]] = {}
    for e in evaluations:
        if e.measure == "relative" and e.adjusted_p is not None and kpis[e.kpi].kind == "counter":
            groups.setdefault((e.rule, e.kpi, e.service), []).append(e)
    moved = set()
    for group in groups.values():
        before, now = (
            sum(x or 0 for x in xs)
            for xs in zip(*((e.baseline, e.current) for e in group), strict=True)
        )
        signs = {
            np.sign(e.drift or 0)
            for e in group
            if e.significant and abs(e.drift or 0) > (e.warning or 0)
        }
        if len(signs) > 1 and abs(now - before) <= (group[0].warning or 0) * abs(before):
            moved |= {e.id for e in group}
    return [
        replace(e, reason="moved")
        if e.id in moved and e.verdict in ("warn", "fail") and not e.reason
        else e
        for e in evaluations
    ]


def incremental(
    window: Kpis, baselines: Sequence[Kpis], evaluations: Sequence[Evaluation] | None = None
) -> dict[str, str]:
    """Say when each change could first have been known, if it was looked for at every step.

    Each check sees only the samples up to its step; all checks of a series over the whole window
    raise a false alarm with a probability of at most `SIGNIFICANCE` (see `shifts.sequential`).

    Parameters
    ----------
    evaluations
        Which to look at; every measured rule at every place if not given.

    Returns
    -------
    dict
        Time of the first alarm by the evaluation's id; those without an alarm are not in it, and
        none is where the baseline's hours are not those of the window.
    """
    span, start = window.span, baselines[0].span.start
    if evaluations is None:
        places = [
            (_identity(name, rule, kpi, place), kpi, place)
            for name, rule in window.job.rules.items()
            if rule.measure != "exact"
            for kpi in rule.kpi
            for place in window.places(kpi)
        ]
    else:
        places = [(e.id, e.kpi, (e.region, e.service)) for e in evaluations]
    if not places:
        return {}
    days = np.concatenate([baseline_days(baselines, kpi, [place]) for _, kpi, place in places])
    before = days[:, 0] if days.shape[1] == 1 else days
    if like_hours(before, span.steps, span.step, start, span.start) is None:
        return {}  # as of a part of the window, other hours would be compared
    now = np.array([level_series(window, kpi, *place, baselines[0]) for _, kpi, place in places])
    checks = sequential(
        before,
        now,
        step=span.step,
        alpha=SIGNIFICANCE,
        baseline_start=start,
        window_start=span.start,
    )
    return {
        identity: format_time(span.start + int(seen) * span.step)
        for (identity, _, _), seen in zip(places, checks.first_alarm, strict=True)
        if seen >= 0
    }


def _baseline_problems(
    rules: Mapping[str, DriftRule], window: Kpis, baselines: Sequence[Kpis]
) -> list[dict[str, Any]]:
    """Return what makes the baseline doubtful: gaps, incidents and trends of its own.

    As with drift, an incident or a trend needs significance and a size that matters: beyond the
    critical limit of the rule whose baseline it is.
    """
    measured = {kpi: r for r in rules.values() if r.measure != "exact" for kpi in r.kpi}
    asked = [(kpi, place) for kpi in measured for place in baselines[0].places(kpi)]
    if not asked:
        return []
    days = np.concatenate([baseline_days(baselines, kpi, [place]) for kpi, place in asked])
    # The chance of a false alarm is for all series together, not for each.
    alpha, found = SIGNIFICANCE / len(asked), []
    for problem in baseline_problems(days, step=baselines[0].span.step, alpha=alpha):
        (kpi, place), span = asked[problem.series], baselines[problem.day].span
        if not _matters(problem, days[problem.series], measured[kpi]):
            continue
        if problem.code == "no_data" and window.figure(kpi, *place).value is None:
            continue  # there is nothing that it could mislead
        # Of a trend: whether its second half has another share of the events.
        begin = (problem.begin + problem.end) // 2 if problem.code == "trend" else problem.begin
        where = baselines[problem.day], kpi, place, begin, problem.end
        if problem.code in ("incident", "trend") and (
            _chance_of_events(*where) * len(asked) > SIGNIFICANCE
        ):
            continue
        found.append(
            {
                "kpi": kpi,
                "title": measured[kpi].title,
                "region": place[0],
                "service": place[1],
                "problem": problem.code,
                "began": format_time(span.start + problem.begin * span.step),
                "ended": format_time(span.start + problem.end * span.step),
            }
        )
    return found


def _matters(problem: Problem, days: Floats, rule: DriftRule) -> bool:
    """Whether a baseline's problem is large enough to mislead its rule."""
    if problem.code in ("gap", "no_data"):
        return True
    level = abs(float(np.nanmean(days))) if rule.measure == "relative" else 1.0
    hours = 24.0 if problem.code == "trend" else 1.0
    return rule.critical is not None and abs(problem.size) * hours > rule.critical * level


# --- what is told of them ------------------------------------------------------------------------


def _counts(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    def count(**wanted: str) -> int:
        return sum(all(getattr(e, k) == v for k, v in wanted.items()) for e in evaluations)

    verdicts = ("pass", "warn", "fail", "no_data")
    categories = list(dict.fromkeys(e.category for e in evaluations))
    return {
        "evaluations": len(evaluations),
        "missing": count(verdict="no_data"),
        "findings": count(verdict="warn") + count(verdict="fail"),
        "uncertain": count(reason="uncertain"),
        "improved": count(reason="improved"),
        "by_verdict": {verdict: count(verdict=verdict) for verdict in verdicts},
        "by_category": {
            category: {v: count(category=category, verdict=v) for v in verdicts}
            for category in categories
        },
    }


def _stability(evaluations: Sequence[Evaluation], days: int) -> dict[str, Any]:
    """Worst significant adverse drift of the rules that are measured in percent.

    A place that was to be compared and could not be leaves open what happened there.
    """
    asked = [
        e for e in evaluations if e.measure == "relative" and e.category in STABILITY_CATEGORIES
    ]
    known = [e for e in asked if e.verdict != "no_data"]
    silent = [e for e in asked if e.verdict == "no_data"]
    unseen = [e for e in silent if not e.details["untestable"]]
    untestable = [e.name for e in silent if e.details["untestable"]]
    sure = [e for e in known if e.significant and e.adverse_drift > 0]
    worst = max(sure, key=lambda e: e.adverse_drift, default=None)
    reason = "" if known else "no drift rule that is measured in percent had data"
    if known and unseen:
        more = f" and {len(unseen) - 1} more" if len(unseen) > 1 else ""
        reason = f"{unseen[0].name}{more} could not be compared: {unseen[0].reason}"
    reason = reason or _uncertain([e for e in known if e.reason == "uncertain"], days)
    more = f" and {len(untestable) - 1} more" if len(untestable) > 1 else ""
    return {
        "worst": None if not known else (worst.adverse_drift if worst else 0.0),
        "finding": worst.id if worst else None,
        "where": worst.name if worst else None,
        "compared": len(known),
        "unseen": [e.id for e in unseen],
        "coverage": sum(e.coverage for e in asked) / len(asked) if asked else 0.0,
        "reason": reason,
        # What the comparison leaves open although all was seen.
        "doubt": f"{untestable[0]}{more} could not be tested" if untestable else "",
    }


def _uncertain(evaluations: Sequence[Evaluation], days: int) -> str:
    """Say that drifts beyond their critical limits are uncertain; empty if none is."""
    critical = [e for e in evaluations if e.severity > 1]
    if not critical:
        return ""
    many = f"{len(critical)} drifts" if len(critical) > 1 else "1 drift"
    return (
        f"{many} beyond the critical limit cannot be told from how days differ by {days} "
        f"day{'' if days == 1 else 's'} of baseline, the largest "
        f"{max(critical, key=lambda e: e.severity).name}"
    )


def _incidents(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Return the incidents, with what was hit at one time in one region taken together."""
    hit = [
        (e, incident)
        for e in evaluations
        if e.verdict in ("warn", "fail")
        for incident in e.incidents
    ]
    groups: list[list[tuple[Evaluation, dict[str, Any]]]] = []
    ended = ""
    for e, incident in sorted(hit, key=lambda h: (h[0].region or "", h[1]["began"], h[0].id)):
        if not groups or groups[-1][0][0].region != e.region or incident["began"] >= ended:
            groups.append([])
            ended = ""
        groups[-1].append((e, incident))
        ended = max(ended, incident["ended"])
    return [_together(group) for group in groups]


def _together(group: Sequence[tuple[Evaluation, dict[str, Any]]]) -> dict[str, Any]:
    """Return one incident; its place is the narrowest that explains it."""
    services = {e.service for e, _ in group}
    worst, part = max(group, key=lambda h: abs(h[1]["excess"] / (h[0].critical or 1)))
    return {
        "region": group[0][0].region,
        "service": services.pop() if len(services) == 1 else None,
        "began": min(incident["began"] for _, incident in group),
        "ended": max(incident["ended"] for _, incident in group),
        "findings": list(dict.fromkeys(e.id for e, _ in group)),
        "worst": {"finding": worst.id, "excess": part["excess"], "figure": part["figure"]},
    }


def _actions(
    rules: Mapping[str, DriftRule], findings: Sequence[Evaluation]
) -> list[dict[str, Any]]:
    """Recommended actions, one a rule, each with the findings that it answers."""
    return [
        {"rule": name, "action": rule.action, "findings": answered}
        for name, rule in rules.items()
        if (answered := [e.id for e in findings if e.rule == name])
    ]
