"""Report fields that are one value: figures, counts, verdicts, names and times."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tars_ga_lib import outages
from tars_ga_lib.display import quantity, when
from tars_ga_lib.facts import (
    BASELINE,
    CERTIFICATION,
    DRIFT,
    SLO,
    SUMMARY,
    NoDataError,
    RunFacts,
    file_of,
)
from tars_ga_lib.fields.values import Found
from tars_ga_lib.fields.ways import TITLES, way
from tars_ga_lib.grammar import format_duration, parse_time
from tars_ga_lib.parameters import MEASURED
from tars_ga_lib.wording import count, why

VALIDATION, SESSIONS = MEASURED["validation"], MEASURED["websocket"]
PACKAGE = "ga_certification_package.tar.gz"

Facts = Mapping[str, Any]


# --- KPIs -----------------------------------------------------------------------------------------


@way("query", "KPI {0}")
def kpi(known: RunFacts, name: str) -> Found:
    """Return a KPI over the whole window."""
    facts = known.figure(name)
    doubts = known.run.kpis.doubts(name) if name in known.job.kpis else []
    note = f"the server warned: {doubts[0]}" if doubts else ""
    if facts.get("beyond_highest_bucket"):
        note = "at least; it lies above the highest bucket"
    return Found(
        facts["value"],
        source=f"{SUMMARY}, kpis.{name}.overall",
        coverage=facts["coverage"],
        limit=known.limit(name),
        note=note,
    )


@way("query", "KPI {0}, its highest step")
def peak(known: RunFacts, name: str) -> Found:
    """Return the highest step of a KPI, with its time."""
    highest, overall = known.kpi(name).get("highest_step"), known.figure(name)
    if highest is None:
        raise NoDataError("no step of it has a figure", f"KPI {name}")
    source, note = (
        f"{SUMMARY}, kpis.{name}.highest_step",
        f"in the step to {when(highest['step_end'])}",
    )
    return Found(highest["value"], source=source, coverage=overall["coverage"], note=note)


@way("computation", "KPI availability over the window")
def downtime(known: RunFacts) -> Found:
    """Return the seconds for which all targets together were down."""
    facts = known.figure("availability")
    return Found(outages.downtime(known.run.kpis), coverage=facts["coverage"])


@way("computation", "KPI availability by step, against its target")
def recovery_time(known: RunFacts) -> Found:
    """Return the mean length of the outages that ended in the window."""
    coverage, ends = known.figure("availability")["coverage"], outages.recovery(known.outages)
    step = format_duration(known.step)
    notes = [
        f"{count(ends.recovered, 'outage')}, each to the nearest {step}" if ends.recovered else "",
        f"{ends.lasting} lasted to the end of the window" if ends.lasting else "",
        f"{ends.unknown} ran into missing data" if ends.unknown else "",
        f"{count(ends.dips, 'lesser dip')} not counted" if ends.dips else "",
    ]
    note = "; ".join(filter(None, notes))
    if ends.seconds is not None:
        return Found(ends.seconds, coverage=coverage, note=note)
    if ends.lasting or ends.unknown:
        raise NoDataError(f"nothing recovered: {note}")
    return Found(None, "no outage was seen", coverage=coverage, note=note)


@way("computation", "KPI requests by step")
def last_day_requests(known: RunFacts) -> Found:
    """Return the requests of the last 24 hours of the window."""
    known.figure("requests")
    start, stop = known.window
    if stop - start < 86400 or 86400 % known.step:
        length = format_duration(stop - start)
        raise NoDataError(f"the window holds {length}, not the whole 24h", "KPI requests")
    last = known.run.kpis.matrix("requests")[:, -(86400 // known.step) :]
    seen = ~np.isnan(last)
    if not seen.any():
        raise NoDataError("no samples were seen in its last 24 hours", "KPI requests")
    return Found(float(np.nansum(last)), coverage=float(seen.mean()))


@way("computation", f"{SUMMARY}, cost, and KPI request_rate")
def cost_of_requests(known: RunFacts) -> Found:
    """Return the estimated cost of a million requests."""
    cost, rate = known.document(SUMMARY)["cost"], known.figure("request_rate")
    if cost["usd_per_hour"] is None:
        raise NoDataError(cost["reason"], f"{SUMMARY}, cost")
    if not rate["value"]:
        raise NoDataError("there was no request", "KPI request_rate")
    value = cost["usd_per_hour"] / (rate["value"] * 3600) * 1e6
    coverage = min(cost["coverage"], rate["coverage"])
    return Found(value, coverage=coverage, note=f"an estimate that {cost['estimate']}")


@way("computation", "KPI request_rate over KPI {0}")
def requests_per(known: RunFacts, name: str, unit: str) -> Found:
    """Return the requests per second for each core or GiB of what a KPI says was used."""
    rate, used = known.figure("request_rate"), known.figure(name)
    if not used["value"]:
        raise NoDataError(f"{known.kpi(name)['title']} is zero", f"KPI {name}")
    value = rate["value"] / (used["value"] / {"cores": 1.0, "GiB": 2.0**30}[unit])
    return Found(value, coverage=min(rate["coverage"], used["coverage"]))


@way("computation", "KPI {0} over the window and the baseline")
def against_baseline(known: RunFacts, name: str) -> Found:
    """Return the relative change of a KPI from the baseline."""
    now, before = known.figure(name), known.figure(name, BASELINE)
    if not before["value"]:
        raise NoDataError("its baseline is zero", f"KPI {name}")
    change = (now["value"] - before["value"]) / abs(before["value"])
    text = f"{quantity(change, 'ratio', signed=True, digits=3)} "
    text += f"({quantity(before['value'], '')} → {quantity(now['value'], '')})"
    return Found(change, text, coverage=min(now["coverage"], before["coverage"]))


@way("computation", "KPI nash_convergence")
def nash_status(known: RunFacts) -> Found:
    """Say whether the agents' policy was at an equilibrium, at the end and over the window."""
    facts, series = known.figure("nash_convergence"), known.run.kpis.series("nash_convergence")
    seen = series[~np.isnan(series)]
    if not len(seen):
        raise NoDataError("no step of it has a figure", "KPI nash_convergence")
    word = "converged" if seen[-1] == 1 else "not converged"
    text = f"{word} at the end; converged {quantity(facts['value'], 'ratio')} of the time"
    return Found(word, text, coverage=facts["coverage"])


# --- facts of the run's files ---------------------------------------------------------------------


@way("run", "{0}, {1}")
def file(known: RunFacts, name: str, path: str) -> Found:
    """Return one fact of a derived file."""
    fact: Any = known.document(name)
    for key in path.split("."):
        fact = fact[key]
    if fact is None:
        raise NoDataError(f"{name} has no {path}")
    return Found(fact)


@way("computation", f"{SUMMARY}, window")
def window_length(known: RunFacts) -> Found:
    """Return the length of the window in seconds."""
    window = known.document(SUMMARY)["window"]
    return Found(float(parse_time(window["end"]) - parse_time(window["start"])))


@way("computation", f"{CERTIFICATION}, criteria")
def health(known: RunFacts) -> Found:
    """Say how well the release stands by its criteria: the worst verdict, and how many have it."""
    criteria = known.document(CERTIFICATION)["criteria"]
    words = {
        "fail": ("unhealthy", "fail"),
        "no_data": ("unknown", "have no data"),
        "warn": ("degraded", "pass with a warning"),
        "pass": ("healthy", "pass"),
    }
    for verdict, (word, said) in words.items():
        if number := sum(outcome["verdict"] == verdict for outcome in criteria):
            return Found(word, f"{word}: {number} of {len(criteria)} criteria {said}")
    raise NoDataError("no criterion was evaluated", CERTIFICATION)


@way("run", f"{CERTIFICATION}, decision")
def decision(known: RunFacts) -> Found:
    """Write the decision; that of simulated data says so."""
    facts = known.document(CERTIFICATION)
    return Found(facts["decision"], note="simulated data" if facts["simulated"] else "")


@way("run", CERTIFICATION)
def final_status(known: RunFacts) -> Found:
    """Write the decision with its reason."""
    found, facts = decision(known), known.document(CERTIFICATION)
    return replace(found, text=f"{found.value}: {why(facts)}")


def objectives(known: RunFacts) -> dict[str, Any]:
    """Return the objectives by name, of which at least one has a value."""
    found: dict[str, Any] = known.document(SLO)["objectives"]
    if not found:
        raise NoDataError("no objectives were given to this run", SLO)
    if all(facts["overall"]["value"] is None for facts in found.values()):
        raise NoDataError("no objective has data", SLO)
    return found


@way("computation", f"{SLO}, counts")
def slo_status(known: RunFacts) -> Found:
    """Count the objectives that are met."""
    total, counts = len(objectives(known)), known.document(SLO)["counts"]
    word = "missed" if counts["fail"] else "unknown" if counts["no_data"] else "met"
    more = f", {counts['no_data']} without data" if counts["no_data"] else ""
    return Found(word, f"{word}: {counts['pass']} of {total} objectives met{more}")


@way("computation", f"{SLO}, objectives")
def budget(known: RunFacts, word: str) -> Found:
    """Return the budget that is left of the objective about something, of several the worst."""
    about = {
        n: o["overall"] for n, o in known.document(SLO)["objectives"].items() if word in n.lower()
    }
    if not about:
        raise NoDataError(f"no objective of this run is about {word}", SLO)
    left = {name: facts["budget"]["share_left"] for name, facts in about.items()}
    for name, share in left.items():
        if share is None:
            raise NoDataError(about[name]["reason"] or "nothing was seen", SLO)
    worst = min(left, key=lambda name: left[name])
    text = f"{quantity(left[worst], 'ratio')} left: {about[worst]['budget']['words']}"
    source = f"{SLO}, objectives.{worst}.overall.budget"
    return Found(left[worst], text, source, about[worst]["coverage"])


@way("run", f"{SUMMARY}, alerts.counts.{{0}}")
def alerts(known: RunFacts, severity: str) -> Found:
    """Return how many alerts of a severity fired."""
    facts = known.document(SUMMARY)["alerts"]
    if facts["reason"] or facts["counts"][severity] is None:
        raise NoDataError(facts["reason"] or "nothing is known of alerts")
    return Found(facts["counts"][severity], coverage=facts["steps_with_evaluations"])


@way("run", f"{DRIFT}, counts.{{0}}")
def drift(known: RunFacts, path: str) -> Found:
    """Return a count of the drift analysis; of findings, how many passed with an incident."""
    counts = known.analysis["counts"]
    evaluations, missing = counts["evaluations"], counts["missing"]
    if not evaluations or missing == evaluations:
        raise NoDataError("no drift evaluation had data", DRIFT)
    key, _, verdict = path.partition(".")
    value = counts[key][verdict] if verdict else counts[key]
    lasting = sum(not verdict or e["verdict"] == verdict for e in known.lasting)
    passed = value - lasting if key != "evaluations" else 0
    note = f"{passed} of them passed with an incident" if passed else ""
    return Found(value, coverage=1 - missing / evaluations, note=note)


@way("run", f"{PACKAGE}.sha256")
def artifact_digest(known: RunFacts) -> Found:
    """Return the SHA-256 of the evidence package; inside of it, where to find it."""
    name = f"{PACKAGE}.sha256"
    if known.environment is None:
        return Found(None, f"in {name}, beside the package")
    try:
        text = (known.run.folder / name).read_text(encoding="utf-8")
    except (OSError, ValueError):
        raise NoDataError(f"there is no {name} in the run's folder", name) from None
    match = re.match(r"([0-9a-f]{64})\b", text)
    if not match:
        raise NoDataError(f"{name} holds no SHA-256", name)
    return Found(match[1])


# --- WebSocket sessions ---------------------------------------------------------------------------


def sessions(known: RunFacts) -> list[dict[str, Any]]:
    """Return the WebSocket sessions' results by endpoint."""
    endpoints: list[dict[str, Any]] = known.measured("websocket")["endpoints"]
    if not endpoints:
        raise NoDataError("no WebSocket endpoint was watched", SESSIONS)
    return endpoints


@way("run", SESSIONS)
def websocket_time(known: RunFacts) -> Found:
    """Return for how long the sessions were watched, of several the shortest."""
    return Found(min(e["observed_seconds"] for e in sessions(known)))


@way("run", SESSIONS)
def websocket_attempts(known: RunFacts) -> Found:
    """Return how many reconnects were tried, forced ones and others."""
    return Found(
        sum(e[kind]["attempts"] for e in sessions(known) for kind in ("forced", "reconnects"))
    )


@way("run", SESSIONS)
def websocket_success(known: RunFacts) -> Found:
    """Return the share of all reconnects that succeeded."""
    tried = websocket_attempts(known).value
    done = sum(e[kind]["successes"] for e in sessions(known) for kind in ("forced", "reconnects"))
    if not tried:
        raise NoDataError("nothing had to reconnect, and nothing was made to", SESSIONS)
    return Found(done / float(tried))


@way("run", SESSIONS)
def websocket_ping(known: RunFacts) -> Found:
    """Return the mean of all pings' round trips: their time over their number."""
    pings = [e["ping"] for e in sessions(known) if e["ping"]["count"]]
    if not pings:
        raise NoDataError("no ping was answered", SESSIONS)
    return Found(sum(p["mean"] * p["count"] for p in pings) / sum(p["count"] for p in pings))


@way("run", SESSIONS)
def websocket_worst(known: RunFacts, figure: str) -> Found:
    """Return the worst endpoint's figure: percentiles of several cannot be joined."""
    values = {e["name"]: e["figures"][figure] for e in sessions(known)}
    if unknown := [name for name, value in values.items() if value is None]:
        raise NoDataError(f"{', '.join(unknown)} has none", SESSIONS)
    worst = max(values, key=lambda name: values[name])
    return Found(values[worst], note=worst if len(values) > 1 else "")


@way("run", SESSIONS)
def websocket_verdict(known: RunFacts) -> Found:
    """Return the verdict over all endpoints."""
    verdict = known.measured("websocket")["verdict"]
    if verdict == "no_data":
        raise NoDataError("a limit of the WebSocket sessions has no data", SESSIONS)
    word = {"pass": "passed", "fail": "failed", "warn": "warned"}[verdict]
    failed = [e["name"] for e in sessions(known) if e["verdict"] == "fail"]
    return Found(word, word + (f" ({', '.join(failed)})" if failed else ""))


# --- evidence files -------------------------------------------------------------------------------


def given(known: RunFacts, kind: str) -> tuple[Any, str]:
    """Return an evidence file that counts, and its name as a source."""
    facts = known.evidence(kind)
    return facts, file_of(kind, facts)


@way("evidence", "{0} file, {last}")
def evidence(known: RunFacts, kind: str, key: str) -> Found:
    """Return what an evidence file says; what it leaves out has no data."""
    facts, source = given(known, kind)
    said = _SAID.get((kind, key), lambda facts: getattr(facts, key))(facts)
    if said is None:
        raise NoDataError(f"the {kind} file does not say it", f"{kind} file")
    return replace(said if isinstance(said, Found) else Found(said), source=source)


def _gate_decision(facts: Any) -> Found:
    held = sum(gate.passed for gate in facts.gates)
    note = f"{held} of {len(facts.gates)} gates held" if facts.gates else ""
    return Found(facts.decision, note=note)


def _scan_status(facts: Any) -> Found:
    word = "clean" if not facts.critical + facts.high else "vulnerabilities found"
    text = f"scanned {when(facts.scanned_at)}: {facts.critical} critical, {facts.high} high"
    return Found(word, text)


def rollback_status(facts: Any) -> Found:
    """Say whether the rollback test passed, when and where."""
    word = "passed" if facts.successful else "failed"
    where = f" in {facts.environment}" if facts.environment else ""
    return Found(word, f"{word}: {when(facts.tested_at)}{where}")


def _log_retention(facts: Any) -> float | None:
    return min((link.retention for link in facts.of("logs") if link.retention), default=None)


_SAID: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("canary", "decision"): _gate_decision,
    ("security_scan", "scanned_at"): _scan_status,
    ("rollback", "successful"): rollback_status,
    ("links", "retention_of_logs"): _log_retention,
}
"""What is more than one key of a file."""


@way("evidence", "deployments file")
def deployment_status(known: RunFacts) -> Found:
    """Say how the release was last deployed by the end of the window."""
    facts, source = given(known, "deployments")
    stop = known.parameters.window.stop
    changes = [d for d in facts.deployments if d.kind != "configuration" and d.at < stop]
    if not changes:
        raise NoDataError("the deployments file names no deployment before the end of the window")
    last = max(changes, key=lambda d: d.at)
    word = {"rollback": "rolled back", "canary": "canary only"}.get(last.kind, "deployed")
    if last.end is not None and last.end > stop:
        word = "in progress"
    if word == "deployed" and last.version not in (None, known.parameters.release.version):
        word = f"{last.version} deployed"
    where = f" in {last.region}" if last.region else ""
    return Found(word, f"{word}: {last.title}{where}, {when(last.at)}", source)


@way("evidence", "deployments file")
def deployments(known: RunFacts, kind: str) -> Found:
    """Count the deployments of a kind that began in the window."""
    facts, source = given(known, "deployments")
    first, last = known.window
    number = sum(d.kind == kind and first <= d.at < last for d in facts.deployments)
    return Found(number, source=source)


@way("evidence", "incidents file")
def incidents(known: RunFacts, severity: str = "") -> Found:
    """Count the incidents of a severity, or all, that touch the window."""
    _, source = given(known, "incidents")
    return Found(sum(not severity or i.severity == severity for i in known.reported), source=source)


@way("evidence", "incidents file, acknowledged")
def response_time(known: RunFacts) -> Found:
    """Return the mean time from an incident's start to its acknowledgement."""
    _, source = given(known, "incidents")
    inside = known.reported
    waits = [i.acknowledged - i.start for i in inside if i.acknowledged is not None]
    if not waits:
        why_not = "says when it was acknowledged" if inside else "was there"
        raise NoDataError(f"no incident {why_not}", source)
    note = f"of {len(waits)} of {len(inside)} incidents" if len(waits) < len(inside) else ""
    return Found(sum(waits) / len(waits), source=source, note=note)


@way("evidence", "security_scan file and KPI vulnerabilities_{0}")
def vulnerabilities(known: RunFacts, severity: str) -> Found:
    """Return the vulnerabilities of the release's scan or of what ran, whichever is more."""
    found, reasons, name = [], [], f"vulnerabilities_{severity}"
    ways: list[Callable[[], Found]] = [
        lambda: evidence(known, "security_scan", severity),
        lambda: replace(kpi(known, name), source=f"KPI {name}"),
    ]
    for find in ways:
        try:
            found.append(find())
        except NoDataError as missing:
            reasons.append(str(missing))
    if not found:
        raise NoDataError("; ".join(reasons))
    worst = max(found, key=lambda one: float(one.value or 0))
    others = [f"{one.source} says {one.value:g}" for one in found if one.value != worst.value]
    return replace(worst, note="; ".join(others), limit=None)


_ROLES = {
    "ENG_LEAD": ("engineeringlead", "englead", "leadengineer"),
    "RELEASE_MANAGER": ("releasemanager", "releaselead"),
    "QA_LEAD": ("qalead", "qualitylead", "qualityassurancelead"),
    "DEVOPS_LEAD": ("devopslead",),
    "SRE_LEAD": ("srelead", "sitereliabilitylead", "sitereliabilityengineeringlead"),
    "PM": ("pm", "productmanager"),
    "VP_ENG": ("vpeng", "vpengineering", "vpofengineering", "vicepresidentofengineering"),
}


@way("evidence", "sign_off file, {last} of the {title}")
def sign_off(known: RunFacts, role: str, key: str) -> Found:
    """Return a role's name, word or date in the sign-off file."""
    facts, source = given(known, "sign_off")
    signed = [s for s in facts.sign_offs if re.sub(r"[^a-z]", "", s.role.lower()) in _ROLES[role]]
    if not signed:
        raise NoDataError(f"the sign_off file names no {TITLES[role]}", source)
    if key == "name":
        return Found(", ".join(s.name for s in signed), source=source)
    if key == "date":
        return Found(max(s.at for s in signed), source=source)
    word = "approved" if all(s.approved for s in signed) else "refused"
    return Found(word, note=", ".join(s.signature for s in signed if s.signature), source=source)


@way("evidence", "links file, pipeline.{0}; environment when a template is filled")
def pipeline(known: RunFacts, key: str) -> Found:
    """Return the pipeline's run or its artifacts, of the links file or the environment of CI."""
    reason = "the links file names no pipeline"
    try:
        links, source = given(known, "links")
        if said := getattr(links.pipeline, key, None):
            return Found(said, source=source)
    except NoDataError as missing:
        reason = str(missing)
    if known.environment is None:
        raise NoDataError(f"{reason}; 'tars-ga fill' takes it from the environment of a pipeline")
    server, repository, run = (
        known.environment.get(f"GITHUB_{name}", "").strip("/")
        for name in ("SERVER_URL", "REPOSITORY", "RUN_ID")
    )
    url = (
        f"{server}/{repository}/actions/runs/{run}#artifacts"
        if server and repository and run
        else ""
    )
    if said := run if key == "run" else url:
        return Found(said, source="environment of the pipeline")
    raise NoDataError(f"{reason}, and no pipeline is known from the environment")
