"""Criteria, verdicts and the decision, closed on failure: what is not known does not pass.

A criterion takes its value from a KPI of the window, from the drift analysis, from what was
measured on the running system, or from an evidence file. A value that was not seen well enough is
`no_data`, whatever it says; a mandatory criterion with `no_data` makes the decision INCONCLUSIVE,
and one that fails makes it NOT CERTIFIED, unless a waiver accepts the failure. A waiver never
covers `no_data`.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

from tars_ga_lib import __version__, endpoints
from tars_ga_lib.catalogues import Criterion, Waiver
from tars_ga_lib.decisions import Certification, Outcome, decide
from tars_ga_lib.display import quantity
from tars_ga_lib.evidence_files import (
    Canary,
    Customer,
    Evidence,
    Hotfixes,
    Incidents,
    LoadTest,
    Rollback,
    SecurityScan,
    SignOffs,
    foreign,
    untimely,
)
from tars_ga_lib.grammar import Limit, Verdict, format_time
from tars_ga_lib.intervals import overlaps
from tars_ga_lib.kpis import Kpis, KpiValue, alerts
from tars_ga_lib.measured import UNITS, Results
from tars_ga_lib.parameters import Job
from tars_ga_lib.recording import Recording


def certify(
    kpis: Kpis,
    recording: Recording,
    drift: Mapping[str, Any],
    measured: Mapping[str, Results],
) -> dict[str, Any]:
    """Evaluate the criteria on a recording: the content of `certification_metadata.json`.

    Parameters
    ----------
    kpis
        KPIs of the recording's window.
    drift
        Content of `drift_analysis.json`.
    measured
        What was measured on the running system, by kind.
    """
    job, window = kpis.job, recording.window
    certification = evaluate(job, kpis, drift, measured)
    return {
        "schema": "tars-ga/certification/1",
        "release": job.parameters.release.model_dump(),
        "simulated": recording.simulated,
        "window": {"start": format_time(window.start), "end": format_time(window.stop)},
        "baselines": [
            {"start": format_time(span.start), "end": format_time(span.stop)}
            for span in recording.baselines
        ],
        **certification.facts(),
        "waivers": [waiver.model_dump(mode="json") for waiver in job.waivers],
        **({"left_out": [" ".join(each) for each in job.left_out]} if job.left_out else {}),
        "measured": {kind: results.facts() for kind, results in measured.items()},
        "source": {
            "server": recording.server,
            "collected_at": recording.collected_at,
            "problems": recording.problems,
        },
        "software": {
            "collected_by": recording.software,
            "certified_by": f"tars-ga {__version__}",
            "calculated_with": _calculated_with(),
        },
    }


def _calculated_with() -> str:
    """Name what the last digits of the figures depend on."""
    libraries = " ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "pyarrow"))
    return f"Python {platform.python_version()} {libraries} on {platform.machine()}"


@dataclass(frozen=True)
class _Reading:
    """What a criterion's source says: a value, or a reason why there is none.

    `lower_bound` says that the true value is at least this one, so it can break an upper limit,
    but cannot prove that the limit holds. `doubt` asks for a warning although the value is good.
    `worst` and `best` are the values that what was not seen could make of it, and `unseen` says
    what that was.
    """

    value: float | None
    reason: str = ""
    coverage: float | None = None
    where: str = ""
    lower_bound: bool = False
    doubt: str = ""
    worst: float | None = None
    best: float | None = None
    unseen: str = ""


def evaluate(
    job: Job,
    kpis: Kpis,
    drift: Mapping[str, Any],
    measured: Mapping[str, Results] | None = None,
) -> Certification:
    """Evaluate every criterion of a job and decide.

    Parameters
    ----------
    kpis
        The KPIs of the window.
    drift
        Content of `drift_analysis.json`.
    measured
        What was measured on the running system, by kind; nothing if not given.
    """
    known = measured or {}
    outcomes = [
        _outcome(name, each, job, kpis, drift, known) for name, each in job.criteria.items()
    ]
    return decide(outcomes)


def _outcome(
    name: str,
    criterion: Criterion,
    job: Job,
    kpis: Kpis,
    drift: Mapping[str, Any],
    measured: Mapping[str, Results],
) -> Outcome:
    if criterion.kpi:
        reading = _from_kpi(criterion, kpis)
        source, unit = f"KPI {criterion.kpi}", job.kpis[criterion.kpi].unit
    elif criterion.drift:
        reading, source, unit = _from_drift(criterion, drift), "drift analysis", "ratio"
    elif criterion.validation:
        reading, unit = _from_validation(criterion, job, measured.get("validation"))
        source = f"validation, {criterion.validation}"
    elif criterion.websocket:
        reading = _from_websocket(criterion, measured.get("websocket"))
        source = f"WebSocket sessions, {criterion.websocket}"
        unit = endpoints.unit(criterion.websocket)
    elif criterion.alerts:
        reading, unit = _from_alerts(criterion.alerts, job, kpis), "count"
        source = f"alerts, {criterion.alerts}"
    else:
        file = str(criterion.evidence).partition(".")[0]
        reading, source, unit = (
            _from_evidence(str(criterion.evidence), job, criterion.max_age),
            f"{file} file",
            "count",
        )
    verdict, reason = _verdict(criterion, reading)
    waiver = next((w for w in job.waivers if w.criterion == name and verdict == "fail"), None)
    return Outcome(
        name=name,
        title=criterion.title,
        source=source,
        unit=criterion.unit or unit,
        target=str(criterion.limit),
        warning=str(criterion.warning) if criterion.warning else None,
        weight=float(criterion.weight),
        mandatory=criterion.mandatory,
        value=reading.value,
        verdict=verdict,
        coverage=reading.coverage,
        where=reading.where,
        reason=reason,
        waiver=_waiver_facts(waiver) if waiver else None,
    )


def _waiver_facts(waiver: Waiver) -> dict[str, Any]:
    return waiver.model_dump(mode="json")


def _verdict(criterion: Criterion, reading: _Reading) -> tuple[Verdict, str]:
    value, target = reading.value, criterion.limit
    upper = target.operator in ("<", "<=", "==")
    if value is None:
        return "no_data", reading.reason
    if reading.lower_bound and upper and not target.holds(value) and value >= target.value:
        return "fail", reading.reason  # the truth is even worse
    if reading.best is not None and not target.holds(reading.best):
        return "fail", ""  # whatever was not seen
    if reading.reason:
        return "no_data", reading.reason
    if not target.holds(value):
        return "fail", ""
    worst = value if reading.worst is None else reading.worst
    if not target.holds(worst):
        unseen = reading.unseen or "part"
        return "no_data", f"holds for what was seen; the {unseen} not seen could break it"
    if criterion.warning and not criterion.warning.holds(worst):
        near = f"with the {reading.unseen or 'part'} not seen it may be nearer to its target"
        return "warn", reading.doubt or ("" if not criterion.warning.holds(value) else near)
    return ("warn", reading.doubt) if reading.doubt else ("pass", "")


# --- sources of values ---------------------------------------------------------------------------


def _from_kpi(criterion: Criterion, kpis: Kpis) -> _Reading:
    name = str(criterion.kpi)
    regions, services = kpis.regions(name), kpis.services(name)
    choices: dict[str, list[tuple[str | None, str | None]]] = {
        "overall": [],
        "worst_region": [(region, None) for region in regions],
        "worst_service": [(None, service) for service in services],
        "worst_series": kpis.places(name),
    }
    places = choices[criterion.scope] or [(None, None)]
    readings = [_from_figure(criterion, kpis, place) for place in places]
    unknown = [reading for reading in readings if reading.value is None or reading.reason]
    # What is known to fail stays so, however little was seen of the others.
    broken = [reading for reading in readings if _verdict(criterion, reading)[0] == "fail"]
    return max(
        broken or unknown or readings, key=lambda r: _badness(criterion.limit, r.value or 0.0)
    )


def _from_figure(
    criterion: Criterion, kpis: Kpis, place: tuple[str | None, str | None]
) -> _Reading:
    name = str(criterion.kpi)
    figure, kind = kpis.figure(name, *place), kpis.job.kpis[name]
    where = ", ".join(part for part in place if part)
    counted = kind.kind == "counter" and not kind.per_second
    reason = _why_unknown(criterion, figure, kpis.unseen(name, *place))
    if not reason and (doubts := kpis.doubts(name)):
        reason = f"the server warned about its answer: {doubts[0]}"
    if not reason and figure.beyond:
        reason = f"it lies above the highest bucket, {figure.value:g} {figure.unit}"
    upper = criterion.limit.operator in ("<", "<=", "==")
    if not reason and counted and upper and figure.samples < figure.expected:
        reason = f"the {kpis.unseen(name, *place) or 'part'} not seen may hold more"
    worst = figure.worst
    if not reason and figure.bounds and not criterion.interpolate:
        reason = _why_straddled(criterion.limit, figure)
        if figure.worst_bounds and upper:
            worst = _within(criterion.limit, figure)
    return _Reading(
        value=figure.value,
        reason=reason,
        coverage=figure.coverage,
        where=where,
        lower_bound=figure.beyond or counted,
        worst=worst if upper == (kind.better == "lower") else None,
        best=figure.best,
        unseen=kpis.unseen(name, *place),
    )


def _why_straddled(target: Limit, figure: KpiValue) -> str:
    """Say that a percentile's bucket holds the target, so that its side is not known."""
    assert figure.bounds is not None
    lower, upper = figure.bounds
    if not lower < target.value < upper:
        return ""
    low, high = (quantity(edge, figure.unit) for edge in figure.bounds)
    return (
        f"between {low} and {high}; this histogram can't tell: give it a bucket that ends at "
        f"{quantity(target.value, figure.unit)}, or set 'interpolate: true'"
    )


def _within(target: Limit, figure: KpiValue) -> float:
    """Return the worst that a percentile may be: its bucket's upper edge, if that is beyond."""
    assert figure.worst is not None
    assert figure.worst_bounds is not None
    lower, upper = figure.worst_bounds
    if upper > target.value:
        return upper
    return figure.worst if target.holds(figure.worst) else lower


def _why_unknown(criterion: Criterion, figure: KpiValue, unseen: str) -> str:
    """Return why a figure was not seen well enough; empty if it was."""
    if figure.value is None:
        return figure.reason
    if figure.doubt:
        return figure.doubt
    if figure.coverage < criterion.min_coverage:
        return (
            f"only {figure.coverage:.1%} of its samples were seen, and "
            f"{criterion.min_coverage:.0%} are needed; not seen: {unseen}"
        )
    if figure.worst_series_coverage < criterion.min_series_coverage:
        return (
            f"of one of its series only {figure.worst_series_coverage:.1%} of the samples were "
            f"seen, and {criterion.min_series_coverage:.0%} are needed; not seen: {unseen}"
        )
    return ""


def _from_drift(criterion: Criterion, drift: Mapping[str, Any]) -> _Reading:
    stability = drift["stability"]
    value, coverage = stability["worst"], stability["coverage"]
    reason = stability["reason"] or ""
    if not reason and coverage < criterion.min_coverage:
        reason = (
            f"only {coverage:.1%} of what the drift evaluations compare was seen, and "
            f"{criterion.min_coverage:.0%} are needed"
        )
    # What drifted for certain stays so, however much else was not seen.
    return _Reading(
        value, reason, coverage, stability["where"] or "", True, stability["doubt"] or ""
    )


def _from_alerts(severity: str, job: Job, kpis: Kpis) -> _Reading:
    """Count the alerts of one severity, or of `all`, that fired in the window."""
    fired = alerts(job, kpis.span, [other.span for other in kpis.others])
    count = fired.count(None if severity == "all" else severity)
    if count is None:
        return _Reading(None, fired.reason, fired.known)
    reason = ""
    seen = kpis.scrapes.seen.sum(axis=(1, 2))
    silent = [r for r, scrapes in zip(job.parameters.regions, seen, strict=True) if not scrapes]
    if silent and kpis.scrapes.known:
        reason = f"nothing was scraped in {', '.join(silent)}, and alerts rest on what is scraped"
    if fired.known < 1:
        reason = f"only in {fired.known:.1%} of the steps alerting rules were evaluated"
    names = [a.name for a in fired.fired if severity in ("all", a.severity)]
    return _Reading(
        float(count), reason, fired.known, ", ".join(dict.fromkeys(names)), lower_bound=True
    )


def _badness(target: Limit, value: float) -> float:
    """Rank values by how far they are on the wrong side of a target."""
    operator, limit = target
    if operator == "==":
        return abs(value - limit)
    return -value if operator in (">=", ">") else value


_OF_REPLICAS = ("count_difference", "replication_lag")
"""Measures that the primary region has no check of."""


def _unmeasured(criterion: Criterion, job: Job, asked: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the regions that a measure told by region has no check of."""
    regions = {check["region"] for check in asked}
    if None in regions:
        return []
    if criterion.validation in _OF_REPLICAS:
        regions.add(job.parameters.primary_region)
    return [region for region in job.parameters.regions if region not in regions]


def _from_validation(
    criterion: Criterion, job: Job, results: Results | None
) -> tuple[_Reading, str]:
    """Read the worst of the checks of one measure, and its unit."""
    if results is None or results.counted is None:
        problem = results.problem if results else "the running system was not validated"
        return _Reading(None, problem), UNITS[str(criterion.validation)]
    checks, unit = results.counted["checks"], UNITS[str(criterion.validation)]
    if criterion.validation == "failed":
        failed = [check["id"] for check in checks if check["verdict"] == "fail"]
        unknown = sum(check["verdict"] == "no_data" for check in checks)
        have = "has" if unknown == 1 else "have"
        reason = f"{unknown} of {len(checks)} checks {have} no data" if unknown else ""
        reason = reason or ("" if checks else "no check was made")
        value = float(len(failed))
        return _Reading(value, reason, _share(checks), ", ".join(failed), True), unit
    asked = [check for check in checks if check["measure"] == criterion.validation]
    if not asked:
        return _Reading(None, "no check of the validation measures it"), unit
    values = [
        _estimate(check, criterion, _share(asked))
        for check in asked
        if check["value"] is not None and check["verdict"] != "no_data"
    ]
    unknown = [check for check in asked if check["verdict"] == "no_data" or check["value"] is None]
    missing = _unmeasured(criterion, job, asked)

    def badness(reading: _Reading) -> tuple[bool, bool, float]:
        value = reading.value or 0.0
        fails = not criterion.limit.holds(value)
        return fails, bool(reading.doubt), _badness(criterion.limit, value)

    worst = max(values, key=badness, default=None)
    if worst and not criterion.limit.holds(worst.value or 0.0):
        return worst, unit
    if unknown:
        first = unknown[0]
        more = f", and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        reason = f"{first['id']}{more}: {first['reason'] or 'no data'}"
        return _Reading(worst.value if worst else None, reason, _share(asked)), unit
    if missing:
        reason = f"no check measures it in {', '.join(missing)}"
        return _Reading(worst.value if worst else None, reason, _share(asked)), unit
    return worst or _Reading(None, "nothing was measured"), unit


def _estimate(check: Mapping[str, Any], criterion: Criterion, share: float) -> _Reading:
    """Read a check's value; an estimate breaks the target if its whole interval does.

    One whose interval only reaches beyond the target passes with a warning.
    """
    low, high = check.get("interval") or (check["value"], check["value"])
    better, worse = (high, low) if criterion.limit.operator in (">=", ">") else (low, high)
    holds = criterion.limit.holds
    doubt = ""
    if holds(better) and not holds(worse):
        doubt = "it is an estimate whose confidence interval reaches beyond the target"
    # The end that is nearest to the target: what is told neither passes nor fails by chance.
    value = check["value"] if holds(check["value"]) else better
    return _Reading(float(value), coverage=share, where=check["id"], doubt=doubt)


def _share(checks: Sequence[Mapping[str, Any]]) -> float:
    """Share of the checks that measured something."""
    known = sum(bool(check["verdict"] != "no_data") for check in checks)
    return known / max(len(checks), 1)


def _from_websocket(criterion: Criterion, results: Results | None) -> _Reading:
    """Read a figure of the worst of the endpoints."""
    if results is None or results.counted is None:
        problem = results.problem if results else "no WebSocket session was watched"
        return _Reading(None, problem)
    document, figure = results.counted, str(criterion.websocket)
    readings = []
    for session in document["endpoints"]:
        judged = endpoints.judge(document, session, figure, criterion.limit)
        watched = session["observed_seconds"] + session["forced_seconds"]
        readings.append(
            _Reading(
                value=judged["value"],
                reason=judged["reason"] if judged["verdict"] == "no_data" else "",
                coverage=min(watched / document["asked_seconds"], 1.0),
                where=session["name"],
            )
        )
    if not readings:
        return _Reading(None, "no endpoint was watched")
    broken = [reading for reading in readings if _verdict(criterion, reading)[0] == "fail"]
    unknown = [reading for reading in readings if reading.reason]
    return max(
        broken or unknown or readings, key=lambda r: _badness(criterion.limit, r.value or 0.0)
    )


def _incidents(facts: Incidents, job: Job, severities: Sequence[str]) -> _Reading:
    window = job.parameters.window
    inside = [
        incident.id
        for incident in facts.incidents
        if incident.severity in severities
        and overlaps(incident.start, incident.end, window.start, window.stop)
    ]
    return _Reading(float(len(inside)), where=", ".join(inside), lower_bound=True)


def _failures(tried: Sequence[Any]) -> _Reading:
    failed = [each.title for each in tried if not each.successful]
    return _Reading(float(len(failed)), where=", ".join(failed), lower_bound=True)


def _from_evidence(field: str, job: Job, max_age: int | None) -> _Reading:
    kind, _, item = field.partition(".")
    facts: Evidence | None = job.evidence.get(kind)
    if facts is None:
        return _Reading(None, f"no {kind} file was given")
    if other := foreign(kind, facts, job.parameters):
        return _Reading(None, other)
    severe = ("sev1",) if item == "critical" else ("sev1", "sev2", "sev3", "sev4")
    readers: dict[type[Evidence], Callable[[Any], _Reading]] = {
        Incidents: lambda f: _incidents(f, job, severe),
        Rollback: lambda f: _Reading(
            float(f.successful), where=f"tested {format_time(f.tested_at)}"
        ),
        SecurityScan: lambda f: _Reading(float(getattr(f, item))),
        Customer: lambda f: _Reading(float(f.escalated)),
        SignOffs: lambda f: _Reading(float(sum(not s.approved for s in f.sign_offs))),
        Canary: lambda f: _Reading(float(f.decision == "promoted"), where=f.decision),
        Hotfixes: lambda f: _failures(f.fixes),
        LoadTest: lambda f: _failures(f.scenarios),
    }
    reading = readers[type(facts)](facts)
    return replace(reading, reason=untimely(kind, facts, job.parameters, max_age))
