"""Error budgets: what an objective allows, what was spent, and how fast.

An objective counts bad events of all events in each step; with time slices, bad slices of all that
had traffic. Its budget is the share of bad ones that the target allows. The burn rate over a time
is the share that was bad over the share that is allowed: at 1 the budget lasts exactly as long as
its window. Steps without traffic burn nothing and prove nothing; steps that were not seen are
neither good nor bad, and a burn rate over a longer time than the data cover has no verdict.

Source: Google, The Site Reliability Workbook (2018), chapter 5, "Alerting on SLOs".
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tars_ga_lib.display import NBSP, quantity
from tars_ga_lib.grammar import format_duration, format_time
from tars_ga_lib.intervals import runs
from tars_ga_lib.kpis import Kpis, KpiValue, interval_facts
from tars_ga_lib.objectives import Objective
from tars_ga_lib.queries import dimensions
from tars_ga_lib.recording import Span

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

SCHEMA = "tars-ga/slo/1"
MIN_COVERAGE = 0.95
"""Share of the samples that must have been seen for a verdict, as criteria have it by default."""
MIN_SERIES_COVERAGE = 0.8
"""The same for the worst single series."""
VIOLATION = 1.0
"""Burn rate of a single step above which it missed the target."""
ROUNDING = 1e-9
"""Share of its budget by which an objective may be overspent by rounding alone."""


class BurnAlert(NamedTuple):
    """An alert on burn rates over a long and a short time in seconds that both exceed `factor`.

    The short one lets the alert end soon after the burning does. `hold` is how long the condition
    must last; it is known to the step.
    """

    id: str
    severity: str
    factor: float
    long: int
    short: int
    hold: int

    @property
    def name(self) -> str:
        """How a reader is told: `14.4 over 1h/5m`."""
        return f"{self.factor:g} over {format_duration(self.long)}/{format_duration(self.short)}"

    def possible(self, objective: Objective) -> bool:
        """Whether it can fire: with a target of 95 %, no burn rate is above 20."""
        return self.factor * objective.allowed < 1


HOUR = 3600
ALERTS = (
    BurnAlert("page_1h", "page", 14.4, HOUR, 300, 120),
    BurnAlert("page_6h", "page", 6.0, 6 * HOUR, 1800, 900),
    BurnAlert("ticket_3d", "ticket", 1.0, 72 * HOUR, 6 * HOUR, 3 * HOUR),
)
WINDOWS = tuple(sorted({seconds for each in ALERTS for seconds in (each.long, each.short)}))


# --- counting ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counts:
    """Bad and all events (samples, slices) of each unit of time, shape (N,).

    A unit lasts `every` seconds: a step, or a time slice. NaN is a unit that was not seen, and a
    total of 0 one without traffic.
    """

    every: int
    bad: Floats
    total: Floats

    @property
    def sums(self) -> tuple[float, float]:
        """Bad and all of what was seen."""
        return max(0.0, float(np.nansum(self.bad))), float(np.nansum(self.total))

    def last(self, units: int) -> Counts:
        """Return the last units only."""
        return Counts(self.every, self.bad[-units:], self.total[-units:])


_GOOD = {"lte": operator.le, "gte": operator.ge, "lt": operator.lt, "gt": operator.gt}


def _counts(view: Kpis, objective: Objective, region: str | None, service: str | None) -> Counts:
    """Count the events of each step of one place."""
    name, step = f"slo:{objective.name}", view.span.step
    if objective.counts == "samples":
        values = np.array(
            [
                view.series(name, *place)
                for place in view.places(name)
                if region in (None, place[0]) and service in (None, place[1])
            ]
        )
        seen = ~np.isnan(values)
        good = _GOOD[str(objective.op)](values, float(objective.threshold or 0.0))
        total = np.where(seen.any(axis=0), seen.sum(axis=0), np.nan)
        bad = np.where(seen.any(axis=0), (seen & ~good).sum(axis=0), np.nan)
    else:
        part, total = view.parts(name, region, service)
        bad = part if objective.counts == "bad" else total - part
    if objective.slice_seconds is None:
        return Counts(step, bad, total)
    return _slices(objective, bad, total, objective.slice_seconds, objective.slice_seconds // step)


def _slices(objective: Objective, bad: Floats, total: Floats, every: int, steps: int) -> Counts:
    """Judge each whole time slice by what was seen of it."""
    whole = len(bad) // steps * steps
    seen = ~np.isnan(total[:whole].reshape(-1, steps)).all(axis=1)
    events = np.nansum(total[:whole].reshape(-1, steps), axis=1)
    worst = np.nansum(bad[:whole].reshape(-1, steps), axis=1)
    missed = worst > (1 - float(objective.slice_target or 0.0) + ROUNDING) * events
    judged = seen & (events > 0)
    return Counts(
        every,
        np.where(seen, (judged & missed).astype(float), np.nan),
        np.where(seen, judged.astype(float), np.nan),
    )


# --- burning -------------------------------------------------------------------------------------


class Burn(NamedTuple):
    """Burn rates over one length of time, at the end of each unit, shape (N,).

    `known` says where the data reach back far enough and something was seen; `rate` is NaN where
    that is not so, and where there was no traffic. With `reason`, nothing is known anywhere.
    """

    rate: Floats
    known: Mask
    reason: str


def burn_rates(counts: Counts, allowed: float, seconds: int) -> Burn:
    """Return the burn rates over the last `seconds` at the end of each unit.

    What was seen of that time counts, as Prometheus has it, whatever is missing in it.
    """
    size = len(counts.bad)
    rate, known = np.full(size, np.nan), np.zeros(size, dtype=bool)
    units = seconds // counts.every
    length = format_duration(seconds)
    if seconds % counts.every:
        every = format_duration(counts.every)
        return Burn(rate, known, f"{length} is not a whole number of units of {every}")
    if units > size:
        covered = format_duration(size * counts.every)
        return Burn(rate, known, f"the data cover {covered}, which is less than {length}")
    bad, total = _rolling(counts.bad, units), _rolling(counts.total, units)
    seen = _rolling((~np.isnan(counts.total)).astype(float), units)
    known[units - 1 :] = seen > 0
    share = np.divide(bad, total, out=np.full_like(bad, np.nan), where=total > 0)
    rate[units - 1 :] = share / allowed
    return Burn(rate, known, "")


def _rolling(values: Floats, units: int) -> Floats:
    """Sum of what was seen of each run of so many units, shape (N - units + 1,)."""
    sums = np.concatenate([[0.0], np.cumsum(np.nan_to_num(values))])
    rolled: Floats = sums[units:] - sums[:-units]
    return rolled


# --- the facts of one place ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """One objective at one place, counted: all that its facts are told from.

    `whole` is the length of the whole window in seconds, of which the span may be the beginning.
    """

    objective: Objective
    span: Span
    whole: int
    counts: Counts
    figure: KpiValue
    doubts: list[str]
    unseen: str

    @property
    def seen_minutes(self) -> float:
        """Minutes that the counts speak for."""
        if self.objective.slice_seconds:
            return self.counts.sums[1] * self.counts.every / 60
        return self.figure.coverage * self.span.steps * self.span.step / 60

    def time(self, unit: int) -> str:
        """ISO time at which a unit begins."""
        return format_time(self.span.start + unit * self.counts.every)

    def _stretch(self, first: int, stop: int) -> dict[str, Any]:
        """Times of the units [first, stop)."""
        length = (stop - first) * self.counts.every
        return {"start": self.time(first), "end": self.time(stop), "duration_seconds": length}

    def facts(self, *, course: bool) -> dict[str, Any]:
        """Return the place as the JSON file has it."""
        bad, total = self.counts.sums
        value = 1 - bad / total if total > 0 else None
        if value is not None and self.objective.counts == "good" and not self.counts_slices:
            value = self.figure.value  # the very figure of the KPI, without a rounding of ours
        met = bad <= self.objective.allowed * total * (1 + ROUNDING) if total > 0 else None
        reason = self._why_unknown(value) or (self._why_open() if met else "")
        if reason:
            met = None
        seen = ~np.isnan(self.counts.total)
        facts: dict[str, Any] = {
            "verdict": "no_data" if met is None else "pass" if met else "fail",
            "met": met,
            "value": value,
            "target": self.objective.target,
            "coverage": self.figure.coverage,
            "samples": self.figure.samples,
            "expected": self.figure.expected,
            "reason": reason,
            "steps": {
                "all": len(seen),
                "with_events": int((np.nan_to_num(self.counts.total) > 0).sum()),
                "no_traffic": int((self.counts.total == 0).sum()),
                "missing": int((~seen).sum()),
            },
            "bad": bad if value is not None else None,
            "total": total if value is not None else None,
            "budget": self._budget(reason),
            "period": self._period(),
            "alerts": [self._alert(each) for each in ALERTS],
            "burn_rates": {format_duration(s): self._burn_now(s) for s in WINDOWS},
            "violations": self._violations(),
        }
        if course:
            facts["course"] = self._course()
        return facts

    @property
    def counts_slices(self) -> bool:
        """Whether time slices are counted."""
        return self.objective.slice_seconds is not None

    def _why_unknown(self, value: float | None) -> str:
        """Say why there is no verdict; empty if there is one."""
        if value is None:
            if self.counts_slices and not len(self.counts.bad):
                return "no time slice has ended"
            return self.figure.reason or "there was no traffic"
        if self.figure.doubt:
            return self.figure.doubt
        if self.doubts:
            return f"the server warned about its answer: {self.doubts[0]}"
        if self.figure.coverage < MIN_COVERAGE:
            return f"only {quantity(self.figure.coverage, 'ratio')} of its samples were seen"
        worst = self.figure.worst_series_coverage
        if worst < MIN_SERIES_COVERAGE:
            return f"of its worst series only {quantity(worst, 'ratio')} of the samples were seen"
        return ""

    def _why_open(self) -> str:
        """Say that what was not seen could break an objective that holds; empty if it could not."""
        allowed, unseen = self.objective.allowed, self.unseen or "part"
        could = f"holds for what was seen; the {unseen} not seen could break it"
        if self.objective.counts == "samples" or self.counts_slices:
            bad, total = self.counts.sums
            missing = float(np.isnan(self.counts.total).sum())
            broken = bad + missing > allowed * (total + missing) * (1 + ROUNDING)
            return could if missing and broken else ""
        worst = self.figure.worst
        if worst is None:
            return ""
        share = 1 - worst if self.objective.counts == "good" else worst
        return could if share > allowed * (1 + ROUNDING) else ""

    def _budget(self, reason: str) -> dict[str, Any]:
        """Return the budget of the time that was seen, and of the whole window."""
        bad, total = self.counts.sums
        allowed, seen = self.objective.allowed * total, self.seen_minutes
        if not total > 0 or not seen > 0:
            keys = ("allowed", "spent", "left", "share_spent", "share_left", "minutes")
            nothing = dict.fromkeys((*keys, "exhausted_at", "whole_window"))
            return nothing | {"minute_means": "", "words": f"NO DATA: {reason}"}
        minutes = _minutes(self.objective.allowed * seen, bad / total * seen)
        whole = _minutes(self.objective.allowed * self.whole / 60, minutes["spent"])
        return {
            "allowed": allowed,
            "spent": bad,
            "left": allowed - bad,
            "share_spent": bad / allowed,
            "share_left": 1 - bad / allowed,
            "minutes": minutes,
            "minute_means": self._minute_means(total, seen),
            "exhausted_at": self._exhausted_at(allowed),
            "whole_window": {
                "minutes": whole,
                "share_spent": whole["spent"] / whole["allowed"],
            },
            "words": budget_words(minutes["spent"], minutes["allowed"]),
        }

    def _minute_means(self, total: float, seen: float) -> str:
        if self.counts_slices:
            length = format_duration(self.counts.every)
            return f"each bad time slice of {length} spends all of its time"
        what = "samples" if self.objective.counts == "samples" else "events"
        return (
            f"a minute of budget is {quantity(total / seen)} bad {what}: as many as there were "
            f"{what} in an average minute"
        )

    def _exhausted_at(self, allowed: float) -> str | None:
        """Return the end of the unit with which the budget was overspent."""
        over = np.cumsum(np.nan_to_num(self.counts.bad)) > allowed * (1 + ROUNDING)
        return self.time(int(np.argmax(over)) + 1) if over.any() else None

    def _period(self) -> dict[str, Any] | None:
        """Return the budget of the objective's own time window, as far as the data tell."""
        window = self.objective.window
        if window is None:
            return None
        start, end = window.around(self.span.stop)
        covered = min(self.span.stop, end) - max(self.span.start, start)
        units = min(len(self.counts.bad), covered // self.counts.every)
        bad, total = self.counts.last(units).sums if units else (0.0, 0.0)
        length = end - start
        facts: dict[str, Any] = {
            "name": window.name, "start": format_time(start), "end": format_time(end),
            "seconds": length, "covered_seconds": covered, "young": covered < length,
            "minutes": None, "share_spent": None, "assumes": "", "words": "NO DATA",
        }  # fmt: skip
        if not total > 0:
            return facts
        seen = self.seen_minutes * units / len(self.counts.bad)
        minutes = _minutes(self.objective.allowed * length / 60, bad / total * seen)
        words = f"{budget_words(minutes['spent'], minutes['allowed'])} over {window.name}"
        if facts["young"]:
            known, whole = format_duration(covered), format_duration(length)
            words = f"at least {words}; the data cover {known} of {whole}"
            if not self.counts_slices:
                facts["assumes"] = "as many events in the rest of it as in the time that was seen"
        share = minutes["spent"] / minutes["allowed"]
        return facts | {"minutes": minutes, "share_spent": share, "words": words}

    def _burn_now(self, seconds: int) -> dict[str, Any]:
        """Burn rate over the last `seconds` of the data."""
        found = burn_rates(self.counts, self.objective.allowed, seconds)
        reason = found.reason
        if not reason and not (len(found.known) and found.known[-1]):
            reason = f"nothing was seen in the last {format_duration(seconds)}"
        elif not reason and np.isnan(found.rate[-1]):
            reason = f"there was no traffic in the last {format_duration(seconds)}"
        return {"burn_rate": None if reason else float(found.rate[-1]), "reason": reason}

    def _alert(self, alert: BurnAlert) -> dict[str, Any]:
        """Return when a burn rate alert would have fired, and whether it does at the end."""
        slow = burn_rates(self.counts, self.objective.allowed, alert.long)
        fast = burn_rates(self.counts, self.objective.allowed, alert.short)
        known = slow.known & fast.known
        with np.errstate(invalid="ignore"):
            burning = known & (slow.rate > alert.factor) & (fast.rate > alert.factor)
        held, fired = alert.hold // self.counts.every, []
        for first, stop in runs(burning):
            if first + held < stop:
                # The state at the end of a unit lasts until the end of the next.
                fired.append(
                    self._stretch(first + held + 1, min(stop + 1, len(burning)))
                    | {
                        "ongoing": stop == len(burning),
                        "peak_burn_rate": float(slow.rate[first:stop].max()),
                    }
                )
        reason = slow.reason or fast.reason
        if not reason and not known.any():
            reason = "nothing was seen"
        if not alert.possible(self.objective):
            most = quantity(1 / self.objective.allowed)
            reason = f"with this target no burn rate is above {most}, so it cannot fire"
        from_unit = int(np.argmax(known)) + 1 if known.any() else None
        now = bool(fired and fired[-1]["ongoing"]) if len(known) and known[-1] else None
        return {
            "id": alert.id,
            "severity": alert.severity,
            "factor": alert.factor,
            "long_seconds": alert.long,
            "short_seconds": alert.short,
            "for_seconds": alert.hold,
            "long": self._burn_now(alert.long),
            "short": self._burn_now(alert.short),
            "firing": now,
            "known": float(known.mean()) if len(known) else 0.0,
            "known_from": None if from_unit is None else self.time(from_unit),
            "reason": reason,
            "fired": fired,
        }

    def _alone(self) -> Floats:
        """Burn rate of each unit alone, NaN where it was not seen or had no traffic."""
        return burn_rates(self.counts, self.objective.allowed, self.counts.every).rate

    def _violations(self) -> list[dict[str, Any]]:
        """Return each run of units that missed the target on their own."""
        _, total = self.counts.sums
        rate = self._alone()
        found = []
        with np.errstate(invalid="ignore"):
            missed = rate > VIOLATION * (1 + ROUNDING)
        for first, stop in runs(missed):
            spent = float(self.counts.bad[first:stop].sum())
            found.append(
                self._stretch(first, stop)
                | {
                    "peak_burn_rate": float(rate[first:stop].max()),
                    "spent": spent,
                    "minutes": spent / total * self.seen_minutes,
                    "share_of_budget": spent / (self.objective.allowed * total),
                }
            )
        return found

    def _course(self) -> dict[str, Any]:
        """Return how the window's budget went down, and the burn rates of each unit and hour."""
        _, total = self.counts.sums
        left = np.full(len(self.counts.bad), np.nan)
        if total > 0:
            spent = np.cumsum(np.nan_to_num(self.counts.bad))
            left = 1 - spent / (self.objective.allowed * total)
            left[np.isnan(self.counts.total)] = np.nan
        return {
            "step_seconds": self.counts.every,
            "budget_left": _listed(left),
            "burn_rate": _listed(self._alone()),
            "burn_rate_1h": _listed(burn_rates(self.counts, self.objective.allowed, HOUR).rate),
        }


def _listed(values: Floats) -> list[float | None]:
    return [None if np.isnan(each) else float(each) for each in values]


def _minutes(allowed: float, spent: float) -> dict[str, float]:
    return {"allowed": allowed, "spent": spent, "left": allowed - spent}


def budget_words(spent: float, allowed: float) -> str:
    """Write minutes of budget for a reader: `13 of 86 minutes of budget used (15 %)`."""
    factor, unit = (1.0, "minutes") if allowed >= 1 else (60.0, "seconds")
    digits = 2 if allowed * factor >= 10 else 3
    used = quantity(spent * factor, limit=allowed * factor, digits=digits)
    words = f"{used} of {quantity(allowed * factor, digits=digits)} {unit} of budget used"
    share = quantity(spent / allowed, "ratio", digits=2)
    if spent > allowed * (1 + ROUNDING):
        return f"{words} ({share}): overspent"
    return f"{words} ({share})"


# --- all objectives ------------------------------------------------------------------------------


def evaluate(kpis: Kpis, objectives: Mapping[str, Objective]) -> dict[str, Any]:
    """Return the content of `slo.json`: every objective over the window, overall and by region."""
    return _document(kpis, objectives, kpis.span, course=True)


def status(
    kpis: Kpis, objectives: Mapping[str, Objective], step: int | None = None
) -> dict[str, Any]:
    """Return the same as of the end of a step, without the course, for use while a window runs.

    Parameters
    ----------
    kpis
        Of the window, or of its beginning.
    objectives
        As `evaluate` takes them.
    step
        How many steps have passed since the window's start; all if not given. Coverage counts
        against these.
    """
    span = kpis.span if step is None else _until(kpis.span, step)
    return _document(kpis, objectives, span, course=False)


def _until(span: Span, steps: int) -> Span:
    """Return the first steps of a span."""
    if not 1 <= steps <= span.steps:
        raise ValueError(f"{steps} steps are not between 1 and the span's {span.steps}")
    sets = {key: replace(one, values=one.values[:, :steps]) for key, one in span.sets.items()}
    return replace(span, stop=span.start + steps * span.step, sets=sets)


def _document(
    kpis: Kpis, objectives: Mapping[str, Objective], span: Span, *, course: bool
) -> dict[str, Any]:
    job, window = kpis.job, kpis.job.parameters.window
    whole = (max(span.stop, window.stop) if span.start == window.start else span.stop) - span.start
    # An objective's queries are asked for and read as a KPI's.
    known = job.kpis | {f"slo:{name}": one.kpi for name, one in objectives.items()}
    view = Kpis(replace(job, kpis=known), span, [other.span for other in kpis.others])

    def place(name: str, region: str | None, service: str | None) -> dict[str, Any]:
        objective, key = objectives[name], f"slo:{name}"
        return _Place(
            objective, span, whole,
            _counts(view, objective, region, service),
            view.figure(key, region, service),
            view.doubts(key),
            view.unseen(key, region, service),
        ).facts(course=course)  # fmt: skip

    found: dict[str, Any] = {}
    for name, objective in objectives.items():
        # The service that it is measured on, where it is one of the run's.
        alone = objective.service if objective.service in view.services(f"slo:{name}") else None
        found[name] = {
            "title": objective.title,
            "about": objective.about,
            "service": objective.service,
            "method": "Timeslices" if objective.slice_seconds else "Occurrences",
            "counts": _what(objective),
            "target": objective.target,
            "period": objective.window.name if objective.window else None,
            "indicator": indicator_words(objective),
            "queries": _queries(view, f"slo:{name}"),
            "overall": place(name, None, alone),
            "regions": {
                region: place(name, region, alone) for region in view.regions(f"slo:{name}")
            },
        }
    verdicts = [each["overall"]["verdict"] for each in found.values()]
    places = [
        (f"{name}/{where}", facts)
        for name, each in found.items()
        for where, facts in {"all": each["overall"], **each["regions"]}.items()
    ]
    return {
        "schema": SCHEMA,
        "release": job.parameters.release.model_dump(),
        "window": interval_facts(span),
        "as_of": format_time(span.stop),
        "counts": {verdict: verdicts.count(verdict) for verdict in ("pass", "fail", "no_data")},
        "firing": [
            f"{key}/{alert['id']}"
            for key, facts in places
            for alert in facts["alerts"]
            if alert["firing"]
        ],
        "exhausted": [key for key, facts in places if _exhausted(facts["budget"])],
        "objectives": found,
    }


def _queries(view: Kpis, name: str) -> dict[str, str | None]:
    """Return the queries as they were sent; None is one that the recording does not hold."""
    kpi = view.job.kpis[name]
    by = dimensions(kpi, view.job.parameters)
    found = {part: view.span.find(template, by) for part, template in kpi.queries().items()}
    return {part: one.provenance.query if one else None for part, one in found.items()}


def _exhausted(budget: Mapping[str, Any]) -> bool:
    """Whether the budget of the whole window is overspent."""
    whole = budget["whole_window"]
    return whole is not None and whole["share_spent"] > 1 + ROUNDING


def _what(objective: Objective) -> str:
    if objective.slice_seconds:
        return "slices"
    return "samples" if objective.counts == "samples" else "events"


def indicator_words(objective: Objective) -> str:
    """Say what is good, in words."""
    signs = {"lte": "≤", "gte": "≥", "lt": "<", "gt": ">"}
    if objective.counts == "samples":
        words = f"samples {signs[str(objective.op)]}{NBSP}{objective.threshold:g}"
    else:
        words = f"{objective.counts} of all events"
    if objective.slice_seconds:
        share = quantity(objective.slice_target, "ratio")
        words += f", {share} in each time slice of {format_duration(objective.slice_seconds)}"
    return words
