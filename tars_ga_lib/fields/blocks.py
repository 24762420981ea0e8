"""Report fields that are tables and lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tars_ga_lib import story
from tars_ga_lib.display import duration, quantity, when
from tars_ga_lib.facts import (
    BASELINE,
    CERTIFICATION,
    DRIFT,
    SLO,
    SUMMARY,
    NoDataError,
    RunFacts,
    file_of,
    grouped,
    if_known,
)
from tars_ga_lib.fields.figures import (
    SESSIONS,
    VALIDATION,
    given,
    objectives,
    rollback_status,
    sessions,
)
from tars_ga_lib.fields.values import Found, Items, Part, block, change_text, table
from tars_ga_lib.fields.ways import WAYS as WAYS
from tars_ga_lib.fields.ways import way
from tars_ga_lib.timeline import moment
from tars_ga_lib.wording import change, criteria_rows, whereabouts

Facts = Mapping[str, Any]

VERDICTS = ("pass", "warn", "fail", "no_data")

KPIS = {
    "db_latency": ("db_latency_mean", "db_latency_p50", "db_latency_p95", "db_latency_p99"),
    "latency": ("latency_p50", "latency_p95", "latency_p99"),
    "key KPIs": (
        "availability", "error_rate", "latency_p95", "latency_p99", "db_latency_p95",
        "request_rate", "cache_hit_rate", "cpu_usage", "memory_usage", "disk_usage",
        "network_throughput",
    ),
    "agents": (
        "hypersync_operations", "hypersync_success_rate", "hot_reload_p95", "automl_runs",
        "optuna_trials", "agent_reward", "nash_convergence", "agent_conflicts",
        "conflict_resolutions",
    ),
}  # fmt: skip
"""KPIs of the tables that compare window and baseline."""


# --- the decision and the service levels ----------------------------------------------------------


@way("run", f"{CERTIFICATION}, criteria")
def criteria(known: RunFacts) -> Found:
    """Show every criterion with its verdict."""
    outcomes = known.document(CERTIFICATION)["criteria"]
    rows = [
        [row.name, "waived" if row.waived else row.verdict, row.value, row.target,
         row.reason or outcome["where"]]
        for outcome, row in zip(outcomes, criteria_rows(outcomes), strict=True)
    ]  # fmt: skip
    return block(table("Criterion | !Verdict | >Value | >Target | Note", rows))


@way("run", SLO)
def slo_table(known: RunFacts) -> Found:
    """Show every objective over the window."""
    rows = [
        [o["title"], o["overall"]["verdict"],
         quantity(o["overall"]["value"], "ratio", limit=o["target"]),
         quantity(o["target"], "ratio"), o["overall"]["budget"]["words"]]
        for o in objectives(known).values()
    ]  # fmt: skip
    return block(table("Objective | !Verdict | >Value | >Target | Budget", rows))


@way("run", SLO)
def slo_violations(known: RunFacts) -> Found:
    """Show when an objective's target was missed, the costliest first."""
    found = objectives(known).values()
    unknown = [o["title"] for o in found if o["overall"]["value"] is None]
    missed = [(o["title"], one) for o in found for one in o["overall"]["violations"]]
    missed.sort(key=lambda pair: -(pair[1]["minutes"] or 0.0))
    rows = [
        [title, when(one["start"]), duration(one["duration_seconds"]),
         quantity(one["share_of_budget"], "ratio")]
        for title, one in missed
    ]  # fmt: skip
    note = f"No data: {', '.join(unknown)}." if unknown else ""
    return block(
        table("Objective | From | >For | >Of the budget", rows, note=note, most=12,
              empty="No objective was missed in any step.", rest=f"The others are in {SLO}.")
    )  # fmt: skip


# --- KPIs -----------------------------------------------------------------------------------------


def _level(kpi: Facts, figure: Facts) -> str:
    text = quantity(figure["value"], kpi["unit"])
    return f"> {text}" if figure.get("beyond_highest_bucket") else text


@way("run", f"{SUMMARY}, {{0}} by service")
def by_service(known: RunFacts, *names: str) -> Found:
    """Show KPIs for each service, the worst by the first KPI on top."""
    return _by(known, "services", names)


@way("run", f"{SUMMARY}, {{0}} by region")
def by_region(known: RunFacts, *names: str) -> Found:
    """Show KPIs for each region, the worst by the first KPI on top."""
    return _by(known, "regions", names)


def _by(known: RunFacts, by: str, names: Sequence[str]) -> Found:
    every = known.document(SUMMARY)["kpis"]
    kpis = [every[name] for name in names if name in every and by in every[name]]
    if not kpis:
        raise NoDataError(f"the catalogue has no KPI '{names[0]}' by {by[:-1]}", SUMMARY)
    if all(kpi["overall"]["value"] is None for kpi in kpis):
        known.figure(names[0])
    first = kpis[0]
    sign = 1 if first["better"] == "higher" else -1

    def badness(place: str) -> float:
        value = first[by][place]["value"]
        return -np.inf if value is None else sign * float(value)

    rows = [
        [place, *(_level(kpi, kpi[by][place]) for kpi in kpis)]
        for place in sorted(first[by], key=badness)
    ]
    titles = " | ".join([by[:-1].title(), *(f">{kpi['title']}" for kpi in kpis)])
    found = table(titles, rows, most=16, rest=f"The others are in {SUMMARY}.")
    coverage = min(kpi["overall"]["coverage"] for kpi in kpis)
    return block(found, source=f"{SUMMARY}, {by} of {', '.join(names)}", coverage=coverage)


@way("run", f"{SUMMARY} and {BASELINE}, {{all}}")
def compared(known: RunFacts, *about: str) -> Found:
    """Show KPIs over the baseline and the window, and their change."""
    names, kpis = KPIS[" ".join(about)], known.document(SUMMARY)["kpis"]
    seen = [name for name in names if name in kpis and kpis[name]["overall"]["value"] is not None]
    before = {name: known.kpi(name, BASELINE)["overall"] for name in seen or names[:1]}
    if not seen:
        known.figure(names[0])
    rows = []
    for name in seen:
        kpi, a, b = kpis[name], before[name], kpis[name]["overall"]
        highest = kpi.get("highest_step")
        rows.append(
            [kpi["title"], _level(kpi, a), _level(kpi, b),
             change_text(a["value"], b["value"], kpi["unit"]),
             quantity(highest["value"], kpi["unit"]) if highest else None]
        )  # fmt: skip
    coverage = min(kpis[name]["overall"]["coverage"] for name in seen)
    return block(
        table("KPI | >Baseline | >Window | >Change | >Highest step", rows), coverage=coverage
    )


# --- drift ----------------------------------------------------------------------------------------


@way("run", f"{DRIFT}, counts.by_category")
def drift_severities(known: RunFacts) -> Found:
    """Show the verdicts of the drift analysis by category."""
    order = ("fail", "warn", "pass", "no_data")
    rows = [
        [category, *(str(counts[verdict]) for verdict in order)]
        for category, counts in known.analysis["counts"]["by_category"].items()
    ]
    titles = "Category | >Critical | >Warning | >Pass | >No data"
    return block(table(titles, rows, empty="No drift rule was evaluated."))


@way("run", f"{DRIFT}, worst")
def drift_details(known: RunFacts) -> Found:
    """Show the worst findings, those of one rule in one region by the worst of them."""
    document = known.analysis
    if document["counts"]["missing"] == document["counts"]["evaluations"]:
        raise NoDataError("no drift evaluation had data", DRIFT)
    rows = []
    for same in grouped(document["worst"], lambda e: (e["name"].partition(",")[0], e["region"])):
        e = same[0]
        places = [(one["region"], one["service"]) for one in same]
        where = whereabouts(places, known.services(e["region"]))
        title = e["name"].partition(",")[0]
        name = e["name"] if len(same) == 1 else f"{title}, {where}; the worst: {e['service']}"
        rows.append(
            [name, e["verdict"], quantity(e["baseline"], e["unit"]),
             quantity(e["current"], e["unit"]), change(e["drift"], e["measure"], e["unit"]),
             when(e["began"]) if e["began"] else ""]
        )  # fmt: skip
    more = document["counts"]["findings"] - len(document["worst"])
    note = f"{more} more findings are in {DRIFT}." if more > 0 else ""
    titles = "Finding | !Verdict | >Baseline | >Window | >Drift | Began"
    return block(table(titles, rows, empty="No drift was found.", note=note))


# --- the running system ---------------------------------------------------------------------------


@way("run", VALIDATION)
def validation_counts(known: RunFacts) -> Found:
    """Count the checks of the validation by their verdicts."""
    document = known.measured("validation")
    counts, words = document["counts"], ("pass", "warn", "fail", "have no data")
    parts = [
        f"{counts[v]} {word}" for v, word in zip(VERDICTS, words, strict=True) if counts.get(v)
    ]
    text = (
        f"{sum(counts.values())} checks: {', '.join(parts)}; made at {when(document['started_at'])}"
    )
    return block(Items([text if parts else "No check was made."]))


@way("run", VALIDATION)
def validation_groups(known: RunFacts) -> Found:
    """Show the verdicts of the validation by group."""
    rows = [
        [checks[0]["group"].replace("_", " "),
         *(str(sum(c["verdict"] == verdict for c in checks)) for verdict in VERDICTS)]
        for checks in grouped(known.measured("validation")["checks"], lambda c: c["group"])
    ]  # fmt: skip
    titles = "Group | >Pass | >Warning | >Fail | >No data"
    return block(table(titles, rows, empty="No check was made."))


@way("run", VALIDATION)
def validation_checks(known: RunFacts, which: str) -> Found:
    """Show the checks that criteria rest on, or those that failed."""
    checks = known.measured("validation")["checks"]
    if not checks:
        raise NoDataError("the validation made no check", VALIDATION)
    wanted: Callable[[Facts], bool] = lambda c: c["verdict"] in ("fail", "no_data")  # noqa: E731
    empty = "No check failed."
    if which == "of_criteria":
        wanted, empty = lambda c: c["measure"] is not None, "No check can be a criterion's."
    rank = {"fail": 0, "no_data": 1, "warn": 2}
    rows = [
        [c["title"], c["verdict"], _checked(c), c["limit"], c["reason"] or c["region"] or ""]
        for c in sorted(checks, key=lambda c: rank.get(c["verdict"], 3))
        if wanted(c)
    ]
    rest = f"The others are in {VALIDATION}."
    titles = "Check | !Verdict | >Value | >Limit | Note"
    return block(table(titles, rows, empty=empty, most=20, rest=rest))


def _checked(c: Facts) -> str:
    if c["unit"] == "bool" and c["value"] is not None:
        return "yes" if c["value"] else "no"
    return quantity(c["value"], c["unit"])


@way("run", SESSIONS)
def websocket_limits(known: RunFacts) -> Found:
    """Show each endpoint's figures beside their limits."""
    rows = [
        [e["name"], x["title"], x["verdict"], quantity(x["value"], x["unit"]), x["limit"]]
        for e in sessions(known)
        for x in e["limits"]
    ]
    titles = "Endpoint | Figure | !Verdict | >Value | >Limit"
    return block(table(titles, rows, empty="No limit was set."))


# --- evidence files -------------------------------------------------------------------------------


@way("evidence", "incidents file")
def incident_table(known: RunFacts) -> Found:
    """Show the incidents of the window."""
    _, source = given(known, "incidents")
    rows = [
        [i.id, i.severity, i.title, i.region or "", when(i.start),
         "still open" if i.end is None else duration(i.end - i.start)]
        for i in known.reported
    ]  # fmt: skip
    titles, empty = "Incident | Severity | What | Where | Since | For", _NO_INCIDENT
    return block(table(titles, rows, empty=empty), source=source)


_NO_INCIDENT = "The incidents file names none in the window."


@way("evidence", "incidents file, {0}")
def incident_notes(known: RunFacts, key: str) -> Found:
    """List what the incidents file says of each incident: its root cause, or its remediation."""
    _, source = given(known, "incidents")
    missing = f"no {key.replace('_', ' ')} is given"
    items = [f"{i.id}: {getattr(i, key) or missing}" for i in known.reported]
    return block(Items(items or [_NO_INCIDENT]), source=source)


def _measured(compared: Sequence[Any], before: str, after: str) -> Part:
    """Show what was measured before and after."""
    rows = [
        [c.title, quantity(c.before, c.unit), quantity(c.after, c.unit),
         change_text(c.before, c.after, c.unit)]
        for c in compared
    ]  # fmt: skip
    return table(f"Measured | >{before} | >{after} | >Change", rows)


@way("evidence", "hotfix file, {0}")
def fix(known: RunFacts, identity: str) -> Found:
    """Show how one fix of the release was validated."""
    facts, source = given(known, "hotfix")
    parts: list[Part] = []
    for f in facts.fixes:
        if f.id == identity:
            verdict = "validated" if f.successful else "NOT validated"
            parts.append(
                Items([f"{f.id}, {f.title}: {verdict} {when(f.validated_at)} by {f.method}"])
            )
            parts += [_measured(f.compared, "Before", "After")] if f.compared else []
    if not parts:
        raise NoDataError(f"the hotfix file does not name {identity}", source)
    return block(*parts, source=source)


@way("evidence", "canary file, {0}")
def canary(known: RunFacts, key: str) -> Found:
    """Show what the canary was, the release that it was compared with, or its gates."""
    facts, source = given(known, "canary")
    part: Part
    if key == "summary":
        share, length = quantity(facts.traffic, "ratio"), duration(facts.duration)
        items = [f"{share} of the traffic for {length} from {when(facts.start)}"]
        items += [f"Decision: {facts.decision}", *([facts.summary] if facts.summary else [])]
        part = Items(items)
    elif not getattr(facts, key):
        raise NoDataError("the canary file does not say it", "canary file")
    elif key == "compared":
        part = _measured(facts.compared, "Old release", "Canary")
    else:
        rows = [[g.title, "pass" if g.passed else "fail", g.value, g.target] for g in facts.gates]
        part = table("Gate | !Verdict | >Value | >Target", rows)
    return block(part, source=source)


@way("evidence", "load_test file, scenarios")
def load_test(known: RunFacts) -> Found:
    """Show a load test's scenarios."""
    facts, source = given(known, "load_test")
    rows = [
        [s.title, "pass" if s.successful else "fail", quantity(s.requests, ""),
         quantity(s.errors / s.requests if s.requests else None, "ratio"),
         *(None if value is None else quantity(value, "s") for value in (s.p95, s.p99))]
        for s in facts.scenarios
    ]  # fmt: skip
    note = f"{facts.tool}, {when(facts.tested_at)}"
    titles = "Scenario | !Verdict | >Requests | >Error rate | >P95 | >P99"
    return block(table(titles, rows, note=note), source=source)


@way("evidence", "security_scan file, all of it")
def security_scan(known: RunFacts) -> Found:
    """Write a security scan."""
    facts, source = given(known, "security_scan")
    text = (
        f"{facts.scanner}, {when(facts.scanned_at)}: {facts.critical} critical, {facts.high} high"
    )
    more = f", {facts.patched} patched" if facts.patched is not None else ""
    return block(Items([text + more]), source=source)


@way("evidence", "links file, rollback_plan, and rollback file")
def rollback_plan(known: RunFacts) -> Found:
    """Show where the plan is, and the test that it rests on."""
    own, source = [], ""
    if test := if_known(known.evidence, "rollback"):
        took = f" in {duration(test.duration)}" if test.duration else ""
        own, source = (
            [f"Rollback test {rollback_status(test).text}{took}"],
            file_of("rollback", test),
        )
    return _linked(known, "rollback_plan", own, source)


@way("evidence", "links file, {0}")
def links(known: RunFacts, kind: str) -> Found:
    """List the links of a kind."""
    return _linked(known, kind)


@way("evidence", "the run's folder, and links file, {0}")
def own_parameters(known: RunFacts, kind: str) -> Found:
    """Name the run's own configuration, which the package holds, and links."""
    digest = known.run.digests["parameters"].removeprefix("sha256:")
    own = [f"parameters/ of the evidence package, SHA-256 {digest}"]
    return _linked(known, kind, own, "the run's folder")


@way("evidence", "the run's folder, and links file, {0}")
def own_results(known: RunFacts, kind: str) -> Found:
    """Name the validation's own results, where there are some, and links."""
    names = ("validation_results.html", "validation_results.xml", VALIDATION)
    there = [name for name in names if (known.run.folder / name).is_file()]
    counted = if_known(known.measured, "validation") is not None
    own = [f"{', '.join(there)} of the evidence package"] if counted and there else []
    return _linked(known, kind, own, "the run's folder")


def _linked(known: RunFacts, kind: str, own: Sequence[str] = (), source: str = "") -> Found:
    """List what the run itself has, and the links of a kind."""
    items: list[str | tuple[str, str]] = list(own)
    sources, reason = [source] if own else [], f"the links file names no {kind.replace('_', ' ')}"
    try:
        facts, name = given(known, "links")
        if found := facts.of(kind):
            items += [(link.title, link.url) for link in found]
            sources.append(name)
    except NoDataError as missing:
        reason = str(missing)
    if not items:
        raise NoDataError(reason, "links file")
    return block(Items(items), source="; ".join(sources))


# --- the story ------------------------------------------------------------------------------------

_STORY = f"story of {DRIFT}, {CERTIFICATION}, alerts and evidence files"


def _tell(known: RunFacts) -> story.Story:
    """Tell the story, once."""
    if "story" not in known.memo:
        known.memo["story"] = story.tell(known)
    told: story.Story = known.memo["story"]
    return told


def _line(told: Any) -> str:
    text = f"{told.text} {getattr(told, 'change', '')}".strip()
    answers = getattr(told, "answers", ())
    return f"{text} (answers {', '.join(answers)})" if answers else text


@way("computation", _STORY)
def told(known: RunFacts, part: str) -> Found:
    """List what the story says of something, and what people wrote of it."""
    found = _tell(known)
    lines = [_line(one) for one in getattr(found, part)]
    parts = [Items(lines or [story.EMPTY.get(part, "Nothing is to be said of it.")])]
    topic = part.removesuffix("_improvements")
    if quotes := [quote for quote in found.quoted if quote.topic == topic]:
        parts.append(Items([quote.text for quote in quotes], f"Quoted: {quotes[0].source}"))
    return block(*parts)


@way("computation", _STORY)
def actions(known: RunFacts, term: str) -> Found:
    """List the actions of a term that the findings ask for, and those that people agreed on."""
    lines = [_line(one) for one in _tell(known).actions if one.term == term]
    parts = [Items(lines or [story.EMPTY["actions"]])]
    if facts := if_known(known.evidence, "actions"):
        agreed = [_agreed(action) for action in facts.actions if action.term == term]
        parts += [Items(agreed, f"Agreed: {facts.source}")] if agreed else []
    return block(*parts)


def _agreed(action: Any) -> str:
    more = [
        f"by {action.owner}" if action.owner else "",
        f"until {when(action.due)}" if action.due else "",
        f"answers {action.answers}" if action.answers else "",
    ]
    said = ", ".join(filter(None, more))
    return f"{action.title} ({said})" if said else str(action.title)


@way("computation", _STORY)
def drift_actions(known: RunFacts) -> Found:
    """List the actions that answer findings of the drift analysis."""
    lines = [
        _line(one)
        for one in _tell(known).actions
        if any(ref.startswith(DRIFT) for ref in one.rests_on)
    ]
    return block(Items(lines or [story.EMPTY["actions"]]))


@way("computation", _STORY)
def timeline(known: RunFacts, phase: str, *kinds: str) -> Found:
    """Show what happened before, in or after the window."""
    rows = [
        [
            moment(event),
            event.tone,
            event.where,
            "; ".join([event.text, *event.details]),
        ]
        for event in _tell(known).events
        if event.phase == phase and (not kinds or event.kind in kinds)
    ]
    empty = story.EMPTY["events" if phase == "window" else phase]
    return block(table("When | !Severity | Where | What happened", rows, empty=empty))
