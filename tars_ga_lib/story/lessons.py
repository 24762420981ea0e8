"""What went well, what could be improved, and what the process lacked, each with its evidence.

What people have written of it is quoted apart (`Quote`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tars_ga_lib.display import quantity
from tars_ga_lib.grammar import parse_time
from tars_ga_lib.intervals import overlaps
from tars_ga_lib.kpis import quantile
from tars_ga_lib.outages import recovery
from tars_ga_lib.story.advice import EXPECTED, unalerted
from tars_ga_lib.story.case import Case, Facts, Incident
from tars_ga_lib.story.phrases import (
    ALL,
    Sentence,
    change,
    clock,
    count,
    lasted,
    listing,
    place,
    span,
)
from tars_ga_lib.wording import limit_text


@dataclass(frozen=True)
class Quote:
    """What a person has written; `topic` is the file's: went_well, to_improve or process."""

    topic: str
    text: str
    source: str
    rests_on: tuple[str, ...]


def quoted(case: Case) -> list[Quote]:
    """Return the lessons that people have written, word for word."""
    ref = ("parameters/evidence_lessons.yaml",)
    return [
        Quote(each.topic, each.text, file.source, ref)
        for file in [case.evidence("lessons")]
        if file
        for each in file.lessons
    ]


# --- what went well -------------------------------------------------------------------------------


def went_well(case: Case) -> list[Sentence]:
    """Return what went well."""
    found = [_steady(case, o) for o in case.certification["criteria"] if o["verdict"] == "pass"]
    found += [_recovered(case), _alerted(case, late=False), *_explained(case)]
    found += [_facts_that_pass(case, o) for o in case.certification["criteria"]]
    found += [_rolled_back(case), _improved(case), *_measured(case, good=True)]
    return [each for each in found if each]


def _steady(case: Case, outcome: Facts) -> Sentence | None:
    """Tell a KPI that met its target in every single step."""
    criterion = case.run.job.criteria[outcome["name"]]
    if not criterion.kpi or criterion.scope != "overall":
        return None
    kpi = case.run.job.kpis[criterion.kpi]
    values = case.run.kpis.series(criterion.kpi)
    seen = values[~np.isnan(values)]
    if kpi.kind == "counter" or not len(seen) or _beyond(case, criterion.kpi):
        return None
    if not all(criterion.limit.holds(float(v)) for v in seen):
        return None
    extremes = case.run.kpis.extremes(criterion.kpi)
    assert extremes is not None
    up = criterion.limit.operator in ("<", "<=")
    worst = extremes[1] if up else extremes[0]
    number = quantity(worst.value, outcome["unit"], limit=criterion.limit.value)
    at = clock(int(worst.time.astype("datetime64[s]").astype(int)), case.window)
    which = "every step"
    if len(seen) < len(values):
        which += f" that was seen ({len(seen)} of {len(values)})"
    elif (outcome["coverage"] or 0) < 1:
        which += ", as far as it was seen"
    limit = limit_text(outcome["target"], outcome["unit"])
    text = f"{outcome['title']} kept its target ({limit}) in {which}"
    if worst.value != (extremes[0] if up else extremes[1]).value:
        text += f"; the {'highest' if up else 'lowest'} was {number}, at {at} UTC"
    refs = (
        f"certification_metadata.json#criteria/{outcome['name']}",
        (f"ga_kpi_summary.json#kpis/{criterion.kpi}"),
    )
    return Sentence(f"{text}.", "pass", refs)


def _beyond(case: Case, name: str) -> bool:
    """Whether a percentile lay above the highest bucket in some step: its value is not known."""
    kpi = case.run.job.kpis[name]
    if kpi.kind != "histogram":
        return False
    return bool(np.isinf(quantile(kpi.quantile or 0.0, *case.run.kpis.buckets(name))[2]).any())


def _recovered(case: Case) -> Sentence | None:
    grave = [o for o in case.outages if not o.dip]
    known = recovery(case.outages)
    slowest = known.slowest
    if slowest is None or known.recovered < len(grave):
        return None
    where = place(slowest.region, None)
    when = span(slowest.start, slowest.end, case.window)
    text = f"{where} was back within {lasted(slowest.end - slowest.start)} ({when})"
    if len(grave) > 1:
        text = f"All {len(grave)} outages ended; the longest, {text[0].lower() + text[1:]}"
    refs = dict.fromkeys(f"snapshots.jsonl#availability/{o.region or 'overall'}" for o in grave)
    return Sentence(f"{text}.", "pass", tuple(refs))


def _alerted(case: Case, *, late: bool) -> Sentence | None:
    """Tell how soon alerts fired for the incidents that the drift analysis found."""
    if case.alerts.reason or not case.incidents:
        return None
    step = case.run.recording.window.step
    delays = [(incident, *_first_alert(case, incident)) for incident in case.incidents]
    soon = [d for d in delays if d[1] is not None and d[1] <= step]
    slow = [d for d in delays if d not in soon]
    if not (slow if late else soon):
        return None
    if not late:
        incident, _, name = soon[0]
        text = f"{name} fired within {lasted(step)} of the incident's start"
        if len(soon) > 1:
            text = f"Alerts fired within {lasted(step)} of the start of {len(soon)} incidents"
        else:
            text += f" ({_name(case, incident)})"
        return Sentence(f"{text}.", "pass", tuple(i.id for i, _, _ in soon))
    parts = [
        f"{_name(case, i)} " + ("had no alert" if d is None else f"was alerted {lasted(d)} late")
        for i, d, _ in slow
    ]
    return Sentence(f"{listing(parts)}.", "warn", tuple(i.id for i, _, _ in slow))


def _first_alert(case: Case, incident: Incident) -> tuple[int | None, str]:
    """Return how long after an incident's start its first alert fired, and its name."""
    fired = [
        alert
        for alert in case.alerts.fired
        if incident.region in (None, alert.region)
        and alert.start < incident.end
        and alert.end > incident.start
    ]
    if not fired:
        return None, ""
    first = min(fired, key=lambda alert: (alert.start, alert.severity != "critical", alert.name))
    return max(0, first.start - incident.start), first.name


def _name(case: Case, incident: Incident) -> str:
    return f"{incident.region or ALL}, {span(incident.start, incident.end, case.window)}"


def _explained(case: Case) -> list[Sentence]:
    """Tell incidents of the window whose cause and remedy are known."""
    first, last = case.window
    file = case.evidence("incidents")
    return [
        Sentence(
            f"{one.id} is explained: {one.root_cause}",
            "pass",
            (f"parameters/evidence_incidents.yaml#{one.id}",),
        )
        for one in (file.incidents if file else [])
        if one.start < last
        and one.end is not None
        and one.end > first
        and one.root_cause
        and one.remediation
    ]


def _facts_that_pass(case: Case, outcome: Facts) -> Sentence | None:
    criterion = case.run.job.criteria[outcome["name"]]
    texts = {
        "incidents.critical": "The incidents file covers the window and has no critical incident.",
        "incidents.count": "The incidents file covers the window and has no incident.",
        "security_scan.critical": "The security scan found no critical vulnerability.",
        "security_scan.high": "The security scan found no high vulnerability.",
        "customer.escalated": "No customer escalated an issue.",
        "sign_off.refused": "Nobody who signed has refused the release.",
    }
    text = texts.get(str(criterion.evidence))
    if text is None or outcome["verdict"] != "pass" or outcome["value"] != 0:
        return None
    kind = str(criterion.evidence).partition(".")[0]
    return Sentence(text, "pass", (f"parameters/evidence_{kind}.yaml",))


def _rolled_back(case: Case) -> Sentence | None:
    test = case.evidence("rollback")
    if test is None or not test.successful:
        return None
    where = f" in {test.environment}" if test.environment else ""
    took = f" and took {lasted(test.duration)}" if test.duration else ""
    text = f"The rollback of {test.release}{where} was tested{took}"
    if test.data_migration_reversible is not None:
        can = "can" if test.data_migration_reversible else "cannot"
        text += f"; its data migration {can} be reversed"
    return Sentence(f"{text}.", "pass", ("parameters/evidence_rollback.yaml",))


def _improved(case: Case) -> Sentence | None:
    """Tell what improved, but for places whose configuration is not what it was.

    A service that has lost a replica uses less: that is no improvement.
    """
    changed = {
        (e["region"], e["service"])
        for e in case.analysis["evaluations"]
        if e["measure"] == "exact" and e["verdict"] != "pass"
    }
    better = [
        e
        for e in case.analysis["evaluations"]
        if e["reason"] == "improved" and (e["region"], e["service"]) not in changed
    ]
    if not better:
        return None
    better.sort(key=lambda e: (-abs(e["drift"] / e["critical"]), e["id"]))
    names = [f"{e['name']} ({change(e['drift'], e['measure'], e['unit'])})" for e in better]
    refs = tuple(f"drift_analysis.json#{e['id']}" for e in better)
    return Sentence(f"Better than in the baseline: {listing(names)}.", "pass", refs)


def _measured(case: Case, *, good: bool) -> list[Sentence]:
    """Tell what the validation and the WebSocket sessions found."""
    found = []
    if case.validation:
        checks = case.validation["checks"]
        bad = [c for c in checks if c["verdict"] == "fail"]
        if good and checks and all(c["verdict"] == "pass" for c in checks):
            text = f"All {len(checks)} checks of the running system passed."
            found.append(Sentence(text, "pass", ("validation_results.json#counts",)))
        if not good and bad:
            names = listing([c["title"] for c in bad])
            text = f"{count(len(bad), 'check')} of the running system failed: {names}."
            refs = tuple(f"validation_results.json#{c['id']}" for c in bad)
            found.append(Sentence(text, "fail", refs))
    if case.sessions:
        ends = case.sessions["endpoints"]
        if good and ends and all(e["verdict"] == "pass" for e in ends):
            text = (
                f"The WebSocket sessions of {count(len(ends), 'endpoint')} kept all their limits."
            )
            found.append(
                Sentence(text, "pass", tuple(f"ws_health_metrics.json#{e['name']}" for e in ends))
            )
        if not good:
            broken = [
                (e["name"], f"{e['name']}: {lim['title']}")
                for e in ends
                for lim in e["limits"]
                if lim["verdict"] == "fail"
            ]
            if broken:
                names = listing([text for _, text in broken])
                where = tuple(dict.fromkeys(f"ws_health_metrics.json#{name}" for name, _ in broken))
                text = f"WebSocket sessions broke {count(len(broken), 'limit')}: {names}."
                found.append(Sentence(text, "fail", where))
    return found


# --- what could be improved -----------------------------------------------------------------------


def to_improve(case: Case) -> list[Sentence]:
    """Return what could be improved."""
    found: list[Sentence | None] = [
        _missed(case),
        _unrecovered(case),
        _alerted(case, late=True),
        _late(case),
        _unexplained(case),
        _unseen(case),
        *_measured(case, good=False),
    ]
    return [each for each in found if each]


def _missed(case: Case) -> Sentence | None:
    missed = [o for o in case.certification["criteria"] if o["verdict"] == "fail"]
    if not missed:
        return None
    names = [o["title"] + ("" if o["mandatory"] else " (optional)") for o in missed]
    verb = "missed its target" if len(missed) == 1 else "missed their targets"
    refs = tuple(f"certification_metadata.json#criteria/{o['name']}" for o in missed)
    return Sentence(f"{listing(names, 5)} {verb}.", "fail", refs)


def _unrecovered(case: Case) -> Sentence | None:
    some = [o for o in case.outages if o.ended != "recovered"]
    if not some:
        return None
    parts = [
        f"{place(o.region, None)} was not back when "
        + ("the window ended" if o.ended == "lasts" else "its data stopped")
        + f" (down since {clock(o.start, case.window)} UTC)"
        for o in some
    ]
    refs = dict.fromkeys(f"snapshots.jsonl#availability/{o.region or 'overall'}" for o in some)
    return Sentence(f"{listing(parts)}.", "fail", tuple(refs))


def _late(case: Case) -> Sentence | None:
    """Tell the alerts that fired long after a drift of their place could have been known."""
    step = case.run.recording.window.step
    found = []
    for e in case.lasting:
        known = case.analysis["first_alarms"].get(e["id"])
        fired = [
            a
            for a in case.alerts.fired
            if (a.region, a.service) == (e["region"] or "", e["service"] or "")
        ]
        if known and fired:
            late = min(a.start for a in fired) - parse_time(known)
            if late > step:
                found.append((late, e, min(fired, key=lambda a: a.start)))
    if not found:
        return None
    late, e, alert = max(found, key=lambda each: (each[0], each[1]["id"]))
    text = (
        f"{e['name']}: the first alert there, {alert.name}, fired {lasted(late)} after the drift "
    )
    text += (
        f"was provable ({clock(parse_time(case.analysis['first_alarms'][e['id']]), case.window)}"
    )
    text += " UTC)"
    more = f"; {len(found) - 1} more were late" if len(found) > 1 else ""
    return Sentence(
        f"{text}{more}.", "warn", tuple(f"drift_analysis.json#{e['id']}" for _, e, _ in found)
    )


def _unexplained(case: Case) -> Sentence | None:
    file = case.evidence("incidents")
    first, last = case.window
    inside = [
        one for one in (file.incidents if file else []) if overlaps(one.start, one.end, first, last)
    ]
    dark = [one.id for one in inside if not one.root_cause]
    loose = [one.id for one in inside if one.root_cause and not one.remediation]
    silent = [i for i in case.incidents if not i.told] if file else []
    parts = []
    if dark:
        parts.append(f"the root cause of {listing(dark)} is not known")
    if loose:
        parts.append(f"{listing(loose)} {'has' if len(loose) == 1 else 'have'} no remedy")
    if silent:
        names = listing([_name(case, i) for i in silent], 2)
        parts.append(f"the incidents file has nothing of what hit {names}")
    if not parts:
        return None
    text = "; ".join(parts)
    refs = [f"parameters/evidence_incidents.yaml#{i}" for i in dark + loose]
    return Sentence(
        f"{text[0].upper()}{text[1:]}.", "warn", (*refs, *(incident.id for incident in silent))
    )


def _unseen(case: Case) -> Sentence | None:
    if not case.gaps:
        return None
    refs = dict.fromkeys(
        f"snapshots.jsonl#availability/{r or 'overall'}" for g in case.gaps for r in g.regions
    )
    return Sentence(f"Nothing was seen of {case.gaps_text()}.", "no_data", tuple(refs))


# --- what the process lacked ----------------------------------------------------------------------


def process_improvements(case: Case) -> list[Sentence]:
    """Return what the process of this day lacked."""
    found = []
    if silent := unalerted(case):
        names = listing([e["name"] for e in silent])
        text = (
            f"{len(silent)} of {count(len(case.lasting), 'lasting drift')} had no alert: {names}."
        )
        refs = tuple(f"drift_analysis.json#{e['id']}" for e in silent)
        found.append(Sentence(text, "warn", refs))
    if case.alerts.reason:
        text = f"Alerts are not known: {case.alerts.reason}."
        found.append(Sentence(text, "no_data", ("ga_kpi_summary.json#alerts",)))
    elif case.alerts.known < 1:
        known = quantity(case.alerts.known, "ratio")
        text = f"Alerting rules were evaluated in {known} of the steps only."
        found.append(Sentence(text, "warn", ("ga_kpi_summary.json#alerts",)))
    if unmeasured := _unmeasured(case):
        found.append(unmeasured)
    missing = [kind for kind in EXPECTED if case.evidence(kind) is None]
    if missing:
        text = f"No evidence file that counts was given for: {listing(missing, 5)}."
        found.append(Sentence(text, "no_data", ("parameters/run.yaml",)))
    for doubt in (
        count(len(case.analysis["baseline_problems"]), "trouble") + " of the baseline itself"
        if case.analysis["baseline_problems"]
        else "",
        "; ".join(case.run.recording.problems),
    ):
        if doubt:
            refs = ("drift_analysis.json#baseline_problems", "certification_metadata.json#source")
            found.append(Sentence(f"Doubtful data: {doubt}.", "warn", refs))
    return found


def _unmeasured(case: Case) -> Sentence | None:
    lacks = []
    if case.validation is None:
        lacks.append("the running system was not validated")
    if case.sessions is None:
        lacks.append("no WebSocket session was watched")
    if not lacks:
        return None
    facts = case.certification.get("measured", {})
    for i, kind in enumerate(k for k, d in _documents(case) if d is None):
        problem = (facts.get(kind) or {}).get("problem")
        if problem and not problem.endswith("were given or measured"):
            lacks[i] = problem
    text = " and ".join(lacks)
    return Sentence(f"{text[0].upper()}{text[1:]}.", "no_data", ("certification_metadata.json",))


def _documents(case: Case) -> list[tuple[str, Facts | None]]:
    return [("validation", case.validation), ("websocket", case.sessions)]
