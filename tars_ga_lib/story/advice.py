"""What to do next: recommended actions, each with the findings that it rests on.

The texts for drifts are those of the drift rules. Nothing is recommended that rests on no finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tars_ga_lib.intervals import overlaps
from tars_ga_lib.outages import AVAILABILITY
from tars_ga_lib.story.case import Case, Facts, Incident
from tars_ga_lib.story.events import TONES, Tone
from tars_ga_lib.story.phrases import ALL, count, listing, place, span
from tars_ga_lib.story.reasons import BLAMED, beyond_target, how_to_know
from tars_ga_lib.wording import limit_text, value_text

Term = Literal["immediate", "short", "long"]
TERMS: tuple[Term, ...] = ("immediate", "short", "long")

EXPECTED = ("incidents", "rollback", "sign_off", "security_scan", "deployments")
"""Evidence files without which the report of a day is not whole."""


@dataclass(frozen=True)
class Action:
    """One thing to do, by when, and the findings that it answers, by name and by `FILE#ITEM`."""

    term: Term
    tone: Tone
    text: str
    answers: tuple[str, ...]
    rests_on: tuple[str, ...]


def actions(case: Case) -> list[Action]:
    """Return the recommended actions, the most urgent first, each once."""
    found = [
        *_of_criteria(case),
        *_of_drifts(case),
        *_of_incidents(case),
        *_of_alerts(case),
        *_of_gaps(case),
        *_of_doubts(case),
        *_of_missing(case),
        *_of_alerting(case),
    ]
    return sorted(_merged(found), key=lambda a: (TERMS.index(a.term), TONES.index(a.tone)))


def _merged(found: Iterable[Action]) -> list[Action]:
    """Join actions of one text: the most urgent term, and all that they answer."""
    known: dict[str, Action] = {}
    for each in found:
        if (other := known.get(each.text)) is None:
            known[each.text] = each
            continue
        known[each.text] = replace(
            other,
            term=min(other.term, each.term, key=TERMS.index),
            tone=min(other.tone, each.tone, key=TONES.index),
            answers=tuple(dict.fromkeys(other.answers + each.answers)),
            rests_on=tuple(dict.fromkeys(other.rests_on + each.rests_on)),
        )
    return list(known.values())


# --- criteria -------------------------------------------------------------------------------------


def _of_criteria(case: Case) -> list[Action]:
    found = []
    ranks = {"fail": 0, "no_data": 1, "warn": 2, "pass": 3}
    for outcome in sorted(
        case.certification["criteria"],
        key=lambda o: (not o["mandatory"], ranks[o["verdict"]], -o["weight"]),
    ):
        verdict = outcome["verdict"]
        if verdict == "pass":
            continue
        term: Term = "immediate" if outcome["mandatory"] else "short"
        tone: Tone = "critical" if outcome["mandatory"] else "warning"
        if verdict == "warn" or outcome["waiver"]:
            term, tone = "short", "warning"
        ref = f"certification_metadata.json#criteria/{outcome['name']}"
        told = f"{outcome['title']} {value_text(outcome)}"
        if verdict == "no_data":
            told = f"{outcome['title']}: no data"
            found.append(Action(term, tone, how_to_know(case, outcome), (told,), (ref,)))
        elif outcome["waiver"]:
            waiver = outcome["waiver"]
            text = f"Repair what {waiver['who']} waived before {waiver['until']}."
            found.append(Action(term, tone, text, (told,), (ref,)))
        elif verdict == "warn" and outcome["reason"]:
            pass  # the doubt is told where it comes from
        else:
            found += [
                replace(
                    each,
                    term=term,
                    tone=tone,
                    answers=(told, *each.answers),
                    rests_on=(ref, *each.rests_on),
                )
                for each in _remedies(case, outcome)
            ]
    return found


def _remedies(case: Case, outcome: Facts) -> list[Action]:
    """Return what would mend a criterion that fails or warns."""
    criterion = case.run.job.criteria[outcome["name"]]
    if criterion.drift:
        beyond = beyond_target(case, criterion)
        return _by_rule(case, beyond)
    if criterion.kpi:
        if (
            criterion.scope == "overall"
            and (blamed := case.blamed(criterion.kpi))
            and blamed[1] >= BLAMED
        ):
            return [_of_incident(case, blamed[0])]
        if criterion.kpi == AVAILABILITY:
            return _of_outages(case, outcome)
        rest = [e for e in case.lasting if e["kpi"] == criterion.kpi]
        if rest:
            return _by_rule(case, rest)
        where = f" in {outcome['where']}" if outcome["where"] else ""
        limit = limit_text(outcome["target"], outcome["unit"])
        return [_action(f"Find what keeps {outcome['title']}{where} from its target of {limit}.")]
    texts = {
        "incidents.critical": f"End and explain the critical incidents: {outcome['where']}.",
        "incidents.count": f"End and explain the incidents: {outcome['where']}.",
        "rollback.successful": f"Repeat the rollback test of {case.version} until it succeeds.",
        "security_scan.critical": "Patch the critical vulnerabilities and scan again.",
        "security_scan.high": "Patch the high vulnerabilities and scan again.",
        "customer.escalated": "Answer the customers' escalated issues.",
        "sign_off.refused": f"Settle why the release was refused: {_refused(case)}.",
    }
    text = texts.get(str(criterion.evidence))
    at = f" ({outcome['where']})" if outcome["where"] else ""
    limit = limit_text(outcome["target"], outcome["unit"])
    return [_action(text or f"Bring {outcome['title']}{at} to its target of {limit}, then repeat.")]


def _refused(case: Case) -> str:
    file = case.evidence("sign_off")
    return listing([s.role for s in (file.sign_offs if file else []) if not s.approved] or [ALL])


def _action(text: str, answers: Sequence[str] = (), rests_on: Sequence[str] = ()) -> Action:
    return Action("short", "warning", text, tuple(answers), tuple(rests_on))


def _of_outages(case: Case, outcome: Facts) -> list[Action]:
    where = outcome["where"]
    some = [o for o in case.outages if not where or place(o.region, None) == where]
    worst = max(some, key=lambda o: o.lost, default=None)
    if worst is None:
        return [_action("Find which targets were down, and why.")]
    for incident in case.incidents:
        same = incident.region in (None, worst.region)
        if same and incident.start < worst.end and incident.end > worst.start:
            return [_of_incident(case, incident)]
    when = span(worst.start, worst.end, case.window)
    who = f" ({listing(worst.services)})" if worst.services else ""
    text = f"Find why {place(worst.region, None)}{who} was down, {when}."
    return [
        _action(
            text,
            [],
            [f"snapshots.jsonl#{AVAILABILITY}/{worst.region or 'overall'}"],
        )
    ]


# --- drifts, incidents and alerts -----------------------------------------------------------------


def _by_rule(case: Case, findings: Sequence[Facts]) -> list[Action]:
    """Return the rules' own actions for findings."""
    rules = case.run.job.rules
    return [
        _action(
            rules[e["rule"]].action,
            [e["name"]],
            [f"drift_analysis.json#{e['id']}"],
        )
        for e in findings
    ]


def _of_drifts(case: Case) -> list[Action]:
    """Answer lasting drifts: critical ones now, for they are still there."""
    found = []
    for e, each in zip(case.lasting, _by_rule(case, case.lasting), strict=True):
        fails = e["verdict"] == "fail"
        ended = e["ended"] is not None and e["ended"] < case.analysis["window"]["end"]
        term: Term = "immediate" if fails and not ended else "short"
        found.append(replace(each, term=term, tone="critical" if fails else "warning"))
    return found


def _of_incidents(case: Case) -> list[Action]:
    found = [_of_incident(case, incident) for incident in case.incidents]
    known = {one.id for incident in case.incidents for one in incident.told}
    file = case.evidence("incidents")
    first, last = case.window
    for one in file.incidents if file else []:
        inside = overlaps(one.start, one.end, first, last)
        if inside and one.id not in known:
            found.append(_of_told([one], []))
    return found


def _of_incident(case: Case, incident: Incident) -> Action:
    """Say what is still to be done about an incident that the drift analysis found."""
    when = span(incident.start, incident.end, case.window)
    name = f"incident {incident.region or ALL}, {when}"
    if incident.told:
        return _of_told(incident.told, [(name, incident.id)])
    series = count(len(incident.findings), "series", "series")
    text = f"Explain what hit {incident.region or 'all regions'}, {when} ({series})"
    file = case.evidence("incidents")
    text += ": the incidents file has nothing of it." if file else "."
    tone: Tone = "critical" if incident.severe else "warning"
    return replace(_action(text, [name], [incident.id]), tone=tone)


def _of_told(told: Sequence[Any], found: Sequence[tuple[str, str]]) -> Action:
    """Say what is still to be done about incidents of the incidents file."""
    todo, severe, open_ = [], False, False
    for one in told:
        identity, remedy = one.id, one.remediation
        severe |= one.severity == "sev1"
        if one.end is None:
            open_ = True
            todo.append(f"End {identity}, which has no end in the file.")
        if one.root_cause is None:
            todo.append(f"Find the root cause of {identity}.")
        if remedy is None:
            todo.append(f"Decide the remedy of {identity}.")
        elif one.root_cause is not None:
            todo.append(f"Confirm that the remedy of {identity} is live: {remedy}")
    identities = [one.id for one in told]
    refs = [f"parameters/evidence_incidents.yaml#{each}" for each in identities]
    return Action(
        "immediate" if open_ else "short",
        "critical" if severe or open_ else "warning",
        " ".join(todo),
        (*identities, *(name for name, _ in found)),
        (*refs, *(ref for _, ref in found)),
    )


def _of_alerts(case: Case) -> list[Action]:
    """Answer alerts that still fired at the end, where no lasting drift of that place is told."""
    told = {(e["region"] or "", e["service"] or "") for e in case.lasting}
    found: dict[tuple[str, str], list[str]] = {}
    for alert in case.alerts.fired:
        if alert.ongoing and (alert.region, alert.service) not in told:
            found.setdefault((alert.name, alert.severity), []).append(
                place(alert.region, alert.service)
            )
    return [
        Action(
            "immediate" if severity in ("critical", "warning") else "short",
            severity if severity in ("critical", "warning") else "info",  # type: ignore[arg-type]
            f"Attend to the alert {name}: it still fired at the end of the window.",
            tuple(where),
            (f"ga_kpi_summary.json#alerts/{name}",),
        )
        for (name, severity), where in found.items()
    ]


# --- what is not known ----------------------------------------------------------------------------


def _of_gaps(case: Case) -> list[Action]:
    if not case.gaps:
        return []
    longest = sorted(case.gaps, key=lambda g: g.start - g.end)
    names = [f"{g.where}, {span(g.start, g.end, case.window)}" for g in longest]
    refs = [f"snapshots.jsonl#{AVAILABILITY}/{r or 'overall'}" for g in longest for r in g.regions]
    text = "Find why nothing was seen, and whether anything happened meanwhile."
    return [_action(text, names, list(dict.fromkeys(refs)))]


def _of_doubts(case: Case) -> list[Action]:
    """Answer a doubtful baseline, comparisons without data and drifts that are not certain."""
    found = []
    problems = case.analysis["baseline_problems"]
    if problems:
        names = [
            f"{p['title']}, {place(p['region'], p['service'])}: {p['problem'].replace('_', ' ')}"
            for p in problems
        ]
        text = "Choose a baseline without troubles of its own, and analyse again."
        found.append(_action(text, names, ["drift_analysis.json#baseline_problems"]))
    missing = [e for e in case.analysis["evaluations"] if e["verdict"] == "no_data"]
    if missing:
        text = "Have the queries of these drift rules answer in window and baseline."
        names = list(dict.fromkeys(f"{e['title']}: {e['reason']}" for e in missing))
        found.append(_action(text, names, [f"drift_analysis.json#{e['id']}" for e in missing]))
    unsure = [e for e in case.analysis["evaluations"] if e["reason"] == "uncertain"]
    if unsure:
        text = "Repeat the analysis with more baseline days: these drifts are not certain."
        refs = [f"drift_analysis.json#{e['id']}" for e in unsure]
        found.append(
            replace(_action(text, [e["name"] for e in unsure], refs), term="long", tone="info")
        )
    return found


def _of_missing(case: Case) -> list[Action]:
    """Ask for what the run was not given."""
    asked = {str(c.evidence).partition(".")[0] for c in case.run.job.criteria.values()}
    kinds = [kind for kind in EXPECTED if kind not in asked and case.evidence(kind) is None]
    found = []
    if kinds:
        text = "Give the next run the evidence files that this one has not."
        found.append(Action("short", "info", text, tuple(kinds), ("parameters/run.yaml",)))
    if case.alerts.reason:
        text = f"Have alerts recorded: nothing is known of them ({case.alerts.reason})."
        found.append(_action(text, ["alerts"], ["ga_kpi_summary.json#alerts"]))
    if case.run.job.parameters.release.digest is None:
        text = (
            f"Name the digest of the build in 'release': any build of {case.version} may be meant."
        )
        ref = "certification_metadata.json#release"
        found.append(Action("long", "info", text, ("no digest",), (ref,)))
    return found


def unalerted(case: Case) -> list[Facts]:
    """Return the lasting drifts of whose place no alert fired; none if alerts are not known."""
    if case.alerts.reason:
        return []
    heard = {(alert.region, alert.service) for alert in case.alerts.fired}
    return [e for e in case.lasting if (e["region"] or "", e["service"] or "") not in heard]


def _of_alerting(case: Case) -> list[Action]:
    silent = unalerted(case)
    if not silent:
        return []
    text = "Add alerting rules for what drifted without an alert."
    refs = [f"drift_analysis.json#{e['id']}" for e in silent]
    return [Action("long", "info", text, tuple(e["name"] for e in silent), tuple(refs))]
