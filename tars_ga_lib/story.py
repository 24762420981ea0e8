"""The report's text, made of a run's facts: what came of it, why, what to do, what was learned.

Nothing is said that no file of the run holds, each sentence names what it rests on (`FILE#ITEM`),
and what is not known is said to be not known. The texts are templates in `story.j2`; here is what
they ask for. What happened stands in `timeline`. All texts are plain: whoever shows them escapes
them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jinja2 import Environment, StrictUndefined, Template

from tars_ga_lib import timeline
from tars_ga_lib.catalogues import Criterion
from tars_ga_lib.display import duration, quantity
from tars_ga_lib.facts import (
    CERTIFICATION,
    DRIFT,
    SLO,
    SUMMARY,
    Facts,
    Incident,
    NoDataError,
    RunFacts,
    grouped,
    if_known,
    multiple,
)
from tars_ga_lib.grammar import parse_time
from tars_ga_lib.kpis import Alert, quantile
from tars_ga_lib.outages import Outage, downtime, recovery
from tars_ga_lib.parameters import MEASURED
from tars_ga_lib.run import Run
from tars_ga_lib.timeline import TONES, Event, Tone
from tars_ga_lib.wording import (
    change,
    clock,
    count,
    decides,
    distance,
    limit_text,
    listing,
    place,
    span,
    value_text,
    whereabouts,
)

Term = Literal["immediate", "short", "long"]
TERMS: tuple[Term, ...] = ("immediate", "short", "long")

EXPECTED = ("incidents", "rollback", "sign_off", "security_scan", "deployments")
"""Evidence files without which the report of a day is not whole."""

BLAMED = 0.5
"""Share of a ratio's bad events from which on the incident that they fell into is named."""

EMPTY = {
    "events": "Nothing is known to have happened in the window.",
    "before": "Nothing is known of the days before the window.",
    "after": "Nothing is known of the time after the window.",
    "actions": "No finding asks for an action.",
    "went_well": "Nothing can be shown to have gone well.",
    "to_improve": "No finding asks for an improvement.",
    "process_improvements": "Nothing is known to have been missing.",
}
"""What to say where a list of the story is empty."""


@dataclass(frozen=True)
class Sentence:
    """Something that is said, and what it rests on: `FILE#ITEM`."""

    text: str
    tone: Literal["pass", "warn", "fail", "no_data", "info"]
    rests_on: tuple[str, ...]


@dataclass(frozen=True)
class Reason:
    """One criterion's part in the decision.

    `decides` says that the decision rests on it. `change` is what would have to change for it to
    pass, or how to make it known; empty where it passes.
    """

    criterion: str
    title: str
    verdict: str
    mandatory: bool
    decides: bool
    text: str
    change: str
    rests_on: tuple[str, ...]


@dataclass(frozen=True)
class Action:
    """One thing to do, by when, and the findings that it answers, by name and by `FILE#ITEM`."""

    term: Term
    tone: Tone
    text: str
    answers: tuple[str, ...]
    rests_on: tuple[str, ...]


@dataclass(frozen=True)
class Quote:
    """What a person has written; `topic` is the file's: went_well, to_improve or process."""

    topic: str
    text: str
    source: str
    rests_on: tuple[str, ...]


@dataclass(frozen=True)
class Story:
    """All that is told of a run; `window` is its start and end in epoch seconds."""

    simulated: bool
    window: tuple[int, int]
    events: tuple[Event, ...] = ()
    outcomes: tuple[Sentence, ...] = ()
    justification: tuple[Reason, ...] = ()
    actions: tuple[Action, ...] = ()
    went_well: tuple[Sentence, ...] = ()
    to_improve: tuple[Sentence, ...] = ()
    process_improvements: tuple[Action, ...] = ()
    quoted: tuple[Quote, ...] = ()


def tell(run: Run | RunFacts) -> Story:
    """Tell a finished run.

    Raises
    ------
    NoDataError
        If the drift analysis, the KPI summary or the certification is missing or stale.
    """
    known = run if isinstance(run, RunFacts) else RunFacts(run)
    asked = _Facts(known)
    file: Any = known.given("lessons", whole=True)
    quoted = [
        Quote(one.topic, one.text, file.source, ("parameters/evidence_lessons.yaml",))
        for one in (file.lessons if file else [])
    ]
    return Story(
        known.simulated,
        known.window,
        events=tuple(timeline.events(known)),
        outcomes=_told(asked, "outcomes"),
        justification=tuple(
            sorted(_told(asked, "justification"), key=lambda r: (not r.decides, not r.mandatory))
        ),
        actions=_merged(_told(asked, "actions")),
        went_well=_told(asked, "went_well"),
        to_improve=_told(asked, "to_improve"),
        process_improvements=_merged(_told(asked, "process_improvements")),
        quoted=tuple(quoted),
    )


# --- templates ------------------------------------------------------------------------------------


@cache
def _template() -> Template:
    language = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return language.from_string(Path(__file__).with_name("story.j2").read_text(encoding="utf-8"))


def _told(asked: _Facts, part: str) -> tuple[Any, ...]:
    """Return what one macro of the templates tells."""
    told: list[Any] = []

    def say(tone: Any, *refs: str | None, caller: Callable[[], str]) -> str:
        told.append(Sentence(_sentence(caller()), tone, _unique(refs)))
        return ""

    def act(term: Term, tone: Tone, answers: Any, refs: Any, caller: Callable[[], str]) -> str:
        told.append(Action(term, tone, _sentence(caller()), _unique(answers), _unique(refs)))
        return ""

    def reason(
        outcome: Facts, change: str = "", *refs: str | None, caller: Callable[[], str]
    ) -> str:
        decided = decides(asked.known.document(CERTIFICATION), outcome)
        verdict = "waived" if outcome["waiver"] else outcome["verdict"]
        text, rests_on = _sentence(caller()), _unique([asked.criterion(outcome), *refs])
        told.append(
            Reason(
                outcome["name"], outcome["title"], verdict, outcome["mandatory"], decided, text,
                _sentence(change), rests_on,
            )
        )  # fmt: skip
        return ""

    module = _template().make_module({"f": asked, "say": say, "act": act, "reason": reason})
    getattr(module, part)()
    return tuple(told)


def _sentence(text: str) -> str:
    """Join the lines of a template's text."""
    return re.sub(r"[ \n]+", " ", text).strip()


def _unique(names: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if name))


def _merged(found: Iterable[Action]) -> tuple[Action, ...]:
    """Join actions of one text, the most urgent first: all that they answer, the nearest term."""
    merged = [
        Action(
            min((a.term for a in same), key=TERMS.index),
            min((a.tone for a in same), key=TONES.index),
            same[0].text,
            _unique(answer for a in same for answer in a.answers),
            _unique(ref for a in same for ref in a.rests_on),
        )
        for same in grouped(list(found), lambda a: a.text)
    ]
    return tuple(sorted(merged, key=lambda a: (TERMS.index(a.term), TONES.index(a.tone))))


# --- facts that the templates ask for -------------------------------------------------------------


@dataclass
class _Facts:
    """What the templates ask for of a run; `o` is a criterion's outcome, `e` an evaluation."""

    known: RunFacts
    version: str = field(init=False)

    def __post_init__(self) -> None:
        known = self.known
        self.version = known.parameters.release.version
        self.summary, self.analysis = known.document(SUMMARY), known.analysis
        self.slos = if_known(known.document, SLO)
        self.validation = if_known(known.measured, "validation") or {"counts": {}, "checks": []}
        none: dict[str, Any] = {"endpoints": [], "verdict": "no_data"}
        self.sessions = if_known(known.measured, "websocket") or none
        criteria = known.document(CERTIFICATION)["criteria"]
        self.criteria = sorted(criteria, key=lambda o: -o["weight"])

    # How things read.

    listing, count = staticmethod(listing), staticmethod(count)
    duration, quantity = staticmethod(duration), staticmethod(quantity)
    limit, value = staticmethod(limit_text), staticmethod(value_text)

    def target(self, o: Facts) -> str:
        return limit_text(o["target"], o["unit"])

    def each(self, pattern: str, items: Iterable[Any]) -> list[str]:
        """Write items by a pattern, as `str.format` reads it."""
        return [pattern.format(item) for item in items]

    def optional(self, outcomes: Iterable[Facts]) -> list[str]:
        return [o["title"] + ("" if o["mandatory"] else " (optional)") for o in outcomes]

    def places(self, alerts: Iterable[Alert]) -> list[str]:
        return [place(a.region, a.service) for a in alerts]

    def changes(self, evaluations: Iterable[Facts]) -> list[str]:
        return [f"{e['name']} ({self.change(e)})" for e in evaluations]

    def verdicts(self, counts: Mapping[str, int]) -> str:
        words = {"pass": "passed", "warn": "with a warning", "fail": "failed", "no_data": "no data"}
        return listing([f"{counts[v]} {word}" for v, word in words.items() if counts[v]], 4)

    def clock(self, time: int) -> str:
        return clock(time, self.known.window)

    def span(self, start: int, end: int | None) -> str:
        return span(start, end, self.known.window)

    def when(self, incident: Incident) -> str:
        """Name an incident by its place and time."""
        where = place(incident.region, incident.service)
        return f"{where}, {self.span(incident.start, incident.end)}"

    def names(self, evaluations: Sequence[Facts]) -> list[str]:
        """Name evaluations, those of one rule in one region together."""
        alike = grouped(evaluations, lambda e: (e["rule"], e["region"]))
        return [self.known.named(same) for same in alike]

    def change(self, e: Facts) -> str:
        return change(e["drift"], e["measure"], e["unit"])

    def apart(self, o: Facts) -> str:
        """Write how far a value is from its target, rounded up; empty where they are the same."""
        target = float(o["target"].split()[1])
        text = "" if o["value"] == target else distance(o["value"], target, o["unit"])
        return text.replace("\xa0pp", " percentage points")

    def where(self, o: Facts) -> str:
        """Name the place of a criterion's value; a check by its title."""
        titles = {check["id"]: str(check["title"]) for check in self.validation["checks"]}
        return titles.get(o["where"], str(o["where"]))

    def gaps(self, most: int) -> str:
        """Write where and when nothing was seen, the longest first."""
        longest = sorted(self.known.gaps, key=lambda gap: gap[0] - gap[1])
        texts = [
            f"{whereabouts([(gap[2], None) for gap in same])}, {self.span(*same[0][:2])}"
            for same in grouped(longest, lambda gap: gap[:2])
        ]
        return listing(texts, most)

    # What they rest on.

    def criterion(self, o: Facts) -> str:
        return f"{CERTIFICATION}#criteria/{o['name']}"

    def findings(self, evaluations: Iterable[Facts]) -> list[str]:
        return self.each(f"{DRIFT}#{{0[id]}}", evaluations)

    def steps(self, regions: Iterable[str | None]) -> list[str]:
        return [timeline.steps(region) for region in regions]

    # What came of it.

    def source(self, o: Facts) -> Criterion:
        return self.known.job.criteria[o["name"]]

    def outcome_of(self, kpi: str) -> Facts | None:
        """Return the outcome of the criterion on a KPI as a whole."""
        every = [(o, self.source(o)) for o in self.criteria]
        return next((o for o, c in every if c.kpi == kpi and c.scope == "overall"), None)

    def level(self, name: str, region: str = "") -> str:
        """Write a KPI of the window."""
        kpi = self.summary["kpis"][name]
        figure = kpi["regions"][region] if region else kpi["overall"]
        least = "at least " if figure.get("beyond_highest_bucket") else ""
        return least + quantity(figure["value"], kpi["unit"], limit=self.known.limit(name))

    def regions(self, name: str) -> tuple[str, list[str]]:
        """Return the worst region of a KPI, where they differ, and those of which none is known."""
        kpi = self.summary["kpis"][name]
        values = {r: f["value"] for r, f in (kpi.get("regions") or {}).items()}
        seen = {r: v for r, v in values.items() if v is not None}
        worst = (min if kpi["better"] == "higher" else max)(seen, key=lambda r: seen[r], default="")
        unseen = [region for region in values if region not in seen] if seen else []
        return worst if len(set(seen.values())) > 1 else "", unseen

    def downtime(self) -> str:
        return duration(downtime(self.known.run.kpis))

    def most_spent(self) -> tuple[str, str, str, str] | None:
        """Return the objective that spent most of its budget: name, region, title and words."""
        spent = [
            (place["budget"]["share_spent"], name, region, facts["title"], place["budget"]["words"])
            for name, facts in (self.slos or {"objectives": {}})["objectives"].items()
            for region, place in [("", facts["overall"]), *facts["regions"].items()]
            if place["budget"]["share_spent"] is not None
        ]
        return max(spent, key=lambda one: one[0])[1:] if spent else None

    def worst_drift(self) -> Facts | None:
        """Return the worst lasting drift, one with a size if there is any."""
        lasting = self.known.lasting
        rank = sorted(lasting, key=lambda e: (e["verdict"] != "fail", e["measure"] == "exact"))
        return rank[0] if rank else None

    def counted(self) -> tuple[Facts, Incident] | None:
        """Return what the drift criterion counts although it passed with an incident."""
        judged = [o for o in self.criteria if self.source(o).drift and o["verdict"] != "pass"]
        for incident in self.known.incidents if judged else []:
            for e in incident.findings:
                if e["id"] == self.analysis["stability"]["finding"]:
                    return e, incident
        return None

    def gravest(self) -> Incident | None:
        """Return the gravest incident of the series."""
        rank = sorted(self.known.incidents, key=lambda i: (not i.severe, -len(i.findings), i.start))
        return rank[0] if rank else None

    def moved(self, incident: Incident) -> str:
        return timeline.moved(self.known, [incident])

    def worst_session(self) -> Facts | None:
        seen = [e for e in self.sessions["endpoints"] if e["uptime"] is not None]
        return min(seen, key=lambda e: (e["uptime"], e["name"]), default=None)

    def uptime(self, session: Facts) -> str:
        """Write a session's uptime, with its limit."""
        limits = [lim["limit"] for lim in session["limits"] if lim["name"] == "uptime"]
        target = float(limits[0].split()[1]) if limits else None
        text = f"{quantity(session['uptime'], 'ratio', limit=target)} at {session['name']}"
        return text + (f" (limit {limit_text(limits[0], 'ratio')})" if limits else "")

    def tone(self) -> str:
        """Return the gravest verdict of the validation and the WebSocket sessions."""
        counts = self.validation["counts"] or {"no_data": 1}
        verdicts = [self.sessions["verdict"], *(v for v, n in counts.items() if n)]
        return next((v for v in ("fail", "no_data", "warn") if v in verdicts), "pass")

    def coverage(self) -> tuple[list[Facts], list[str]]:
        """Return the KPIs that were seen, the least covered first, and the titles of the others."""
        asked = [k for k in self.summary["kpis"].values() if k["overall"]["expected"]]
        seen = [kpi for kpi in asked if kpi["overall"]["samples"]]
        silent = [kpi["title"] for kpi in asked if not kpi["overall"]["samples"]]
        return sorted(seen, key=lambda kpi: kpi["overall"]["coverage"]), silent

    # Why, and what to do.

    def beyond(self, o: Facts) -> list[Facts]:
        """Return the drifts that stand between the drift criterion and its target, worst first."""
        alpha, signs, found = self.analysis["significance"], {"up": 1.0, "down": -1.0}, []
        for e in self.analysis["evaluations"]:
            if e["measure"] != "relative" or e["verdict"] == "no_data" or e["adjusted_p"] is None:
                continue
            adverse = e["drift"] * signs.get(e["adverse"], 1.0 if e["drift"] >= 0 else -1.0)
            if e["adjusted_p"] < alpha and not self.source(o).limit.holds(adverse):
                found.append((adverse, e))
        return [e for _, e in sorted(found, key=lambda pair: (-pair[0], pair[1]["id"]))]

    def blamed(self, o: Facts) -> tuple[Incident, float] | None:
        """Return the incident that most of a ratio's bad events fell into, and their share."""
        criterion, known = self.source(o), self.known
        name = criterion.kpi
        if name is None or criterion.scope != "overall" or known.job.kpis[name].kind != "ratio":
            return None

        def bad(region: str | None, steps: slice) -> float:
            top, bottom = (part[steps] for part in known.run.kpis.parts(name, region))
            good = known.job.kpis[name].better == "higher"
            return float(np.nansum(bottom - top if good else top))

        total, best = bad(None, slice(None)), None
        for i in known.incidents if total > 0 else []:
            if any(e["kpi"] == name for e in i.findings):
                share = bad(i.region, slice(*known.steps(i.start, i.end))) / total
                if share >= max(BLAMED, best[1] if best else 0):
                    best = i, share
        return best

    def worst_outage(self, o: Facts) -> Outage | None:
        where = o["where"]
        some = [x for x in self.known.outages if not where or place(x.region, None) == where]
        return max(some, key=lambda x: x.lost, default=None)

    def incident_of(self, outage: Outage) -> Incident | None:
        """Return the incident that an outage is part of."""
        for i in self.known.incidents:
            there = None in (i.region, outage.region) or i.region == outage.region
            if there and i.start < outage.end and i.end > outage.start:
                return i
        return None

    def urgent_first(self) -> list[Facts]:
        """Return the criteria: mandatory ones first, then by verdict and weight."""
        ranks = ("fail", "no_data", "warn", "pass")
        return sorted(self.criteria, key=lambda o: (not o["mandatory"], ranks.index(o["verdict"])))

    def refused(self) -> list[str]:
        """Return the roles that refused the release."""
        signed = self.known.given("sign_off", whole=True)
        return [s.role for s in (signed.sign_offs if signed else []) if not s.approved]

    def unmatched(self) -> list[Any]:
        """Return the reported incidents that the series do not show."""
        matched = {one.id for i in self.known.incidents for one in i.reported}
        return [one for one in self.known.reported if one.id not in matched]

    def by(self, key: str, items: Sequence[Any]) -> list[list[Any]]:
        """Return items that have the same value of a key or an attribute together."""
        return grouped(items, lambda x: x[key] if isinstance(x, Mapping) else getattr(x, key))

    def ongoing_alerts(self) -> list[list[Alert]]:
        """Return the alerts that fire still, by name; not those of a place that drifts."""
        drifted = {(e["region"] or "", e["service"] or "") for e in self.known.lasting}
        left = [a for a in self.known.run.alerts.fired if a.ongoing]
        return self.by("name", [a for a in left if (a.region, a.service) not in drifted])

    def troubles(self) -> list[str]:
        return [
            f"{p['title']}, {place(p['region'], p['service'])}: {p['problem'].replace('_', ' ')}"
            for p in self.analysis["baseline_problems"]
        ]

    def evaluations(self, key: str, value: str) -> list[Facts]:
        return [e for e in self.analysis["evaluations"] if e[key] == value]

    @cached_property
    def unalerted(self) -> list[Facts]:
        """The lasting drifts of whose place no alert fired; none if alerts are not known."""
        heard = {(alert.region, alert.service) for alert in self.known.run.alerts.fired}
        lasting = [] if self.known.run.alerts.reason else self.known.lasting
        return [e for e in lasting if (e["region"] or "", e["service"] or "") not in heard]

    @cached_property
    def missing_files(self) -> list[str]:
        """Kinds of evidence that every run should have, and of which none counts."""
        return [kind for kind in EXPECTED if self.known.given(kind, whole=True) is None]

    def unmeasured(self) -> list[str]:
        """Return why there are no results of the validation, or of WebSocket sessions."""
        reasons = []
        for kind in MEASURED:
            try:
                self.known.measured(kind)
            except NoDataError as missing:
                reasons.append(str(missing))
        return reasons

    # What was learned.

    def steady(self, passed: Iterable[Facts]) -> Iterator[tuple[Facts, dict[str, Any]]]:
        """Yield the criteria whose KPI met its target in every single step, and how."""
        kpis = self.known.run.kpis
        for o in passed:
            criterion = self.source(o)
            name, limit = criterion.kpi, criterion.limit
            if name is None or criterion.scope != "overall":
                continue
            kpi, values = self.known.job.kpis[name], kpis.series(name)
            extremes = kpis.extremes(name)
            seen = values[~np.isnan(values)]
            if kpi.kind == "counter" or not extremes or not all(map(limit.holds, seen)):
                continue
            # Above its highest bucket, a percentile is not known.
            if kpi.quantile and np.isinf(quantile(kpi.quantile, *kpis.buckets(name))[2]).any():
                continue
            up = limit.operator in ("<", "<=")
            text = quantity(extremes[up].value, o["unit"], limit=limit.value)
            yield (
                o,
                {
                    "kpi": name,
                    "seen": len(seen),
                    "steps": len(values),
                    "side": "highest" if up else "lowest",
                    "worst": text if extremes[0].value != extremes[1].value else "",
                    "time": self.clock(int(extremes[up].time.astype("datetime64[s]").astype(int))),
                },
            )

    def recovered(self) -> tuple[list[Outage], Outage] | None:
        """Return the outages and the longest, if all ended; not if an incident outlasted one."""
        grave, ends = [o for o in self.known.outages if not o.dip], recovery(self.known.outages)
        if ends.slowest is None or ends.recovered < len(grave):
            return None
        incidents = [(outage, self.incident_of(outage)) for outage in grave]
        outlasted = any(incident and incident.end > outage.end for outage, incident in incidents)
        return None if outlasted else (grave, ends.slowest)

    def first_alerts(self, *, late: bool) -> list[tuple[Incident, Alert | None]]:
        """Return incidents with their first alert: those alerted within a step, or the others."""
        found = []
        for i in self.known.incidents if not self.known.run.alerts.reason else []:
            fired = [
                a
                for a in self.known.run.alerts.fired
                if i.region in (None, a.region) and a.start < i.end and a.end > i.start
            ]
            rank = sorted(fired, key=lambda a: (a.start, a.severity != "critical", a.name))
            first = rank[0] if rank else None
            if late == (first is None or first.start - i.start > self.known.step):
                found.append((i, first))
        return found

    def slow_alerts(self) -> list[tuple[int, Facts, Alert, int]]:
        """Return alerts long after a drift was provable: delay, drift, alert and time of proof."""
        found = []
        for e in self.known.lasting:
            alarm = self.analysis["first_alarms"].get(e["id"])
            where = e["region"] or "", e["service"] or ""
            fired = [a for a in self.known.run.alerts.fired if (a.region, a.service) == where]
            if alarm and fired:
                first, proven = min(fired, key=lambda a: a.start), parse_time(alarm)
                if first.start - proven > self.known.step:
                    found.append((first.start - proven, e, first, proven))
        return sorted(found, key=lambda one: (-one[0], one[1]["id"]))

    def improved(self) -> list[Facts]:
        """Return what improved, but for places whose configuration is not what it was.

        A service that has lost a replica uses less: that is no improvement.
        """
        exact = [e for e in self.evaluations("measure", "exact") if e["verdict"] != "pass"]
        changed = {(e["region"], e["service"]) for e in exact}
        better = self.evaluations("reason", "improved")
        better = [e for e in better if (e["region"], e["service"]) not in changed]
        return sorted(better, key=lambda e: (-multiple(e), e["id"]))

    def broken_limits(self) -> list[str]:
        return [
            f"{e['name']}: {limit['title']}"
            for e in self.sessions["endpoints"]
            for limit in e["limits"]
            if limit["verdict"] == "fail"
        ]
