"""What happened in the window, and shortly before and after it, as one time line.

An event names the file and the item that it rests on. Alike events that belong together are one
line with a count: the alerts of one incident, the short dips of one region, one rule's drifts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from tars_ga_lib.display import instant, quantity
from tars_ga_lib.grammar import Limit, format_time, parse_time
from tars_ga_lib.kpis import Alert
from tars_ga_lib.outages import AVAILABILITY, Outage
from tars_ga_lib.story.case import Case, Facts, multiple
from tars_ga_lib.story.phrases import ALL, change, clock, count, lasted, listing, place, whereabouts

Phase = Literal["before", "window", "after"]
Tone = Literal["critical", "warning", "info"]
Kind = Literal[
    "deployment",
    "incident",
    "alert",
    "outage",
    "gap",
    "drift",
    "configuration",
    "slo",
    "test",
    "websocket",
]

NEAR = 7 * 86400
"""How far from the window something may lie to be told with it, in seconds."""

MANY = 3
"""So many alike lines at one time are still told one by one."""

TONES: tuple[Tone, ...] = ("critical", "warning", "info")

_WEIGHTS = (
    "incident",
    "outage",
    "deployment",
    "slo",
    "alert",
    "drift",
    "configuration",
    "gap",
    "test",
    "websocket",
)


@dataclass(frozen=True)
class Event:
    """One line of the time line.

    `start` and `end` are ISO times; without a start it was so before the window began, without an
    end it is an instant, or `ongoing` at the end of what is known. `count` says how many it joins,
    and `rests_on` names them: `FILE#ITEM`.
    """

    start: str | None
    end: str | None
    ongoing: bool
    phase: Phase
    kind: Kind
    tone: Tone
    where: str
    text: str
    rests_on: tuple[str, ...]
    count: int = 1


def events(case: Case) -> list[Event]:
    """Return everything that is known to have happened, in order of time.

    What was so before the window, at a time that nobody knows, stands first.
    """
    found = [
        *_deployments(case),
        *_tests(case),
        *_incidents(case),
        *_alerts(case),
        *_outages(case),
        *_gaps(case),
        *_drifts(case),
        *_changes(case),
        *_budgets(case),
        *_downtimes(case),
    ]
    return sorted(found, key=_order)


def gravest(found: Iterable[Event], most: int | None) -> tuple[list[Event], int]:
    """Return the gravest events in order of time, and how many were left out."""
    every = list(found)
    ranked = sorted(every, key=lambda e: (*_gravity(e), *_order(e)))
    kept = ranked[: len(every) if most is None else most]
    return sorted(kept, key=_order), len(every) - len(kept)


def _order(event: Event) -> tuple[Any, ...]:
    return (event.start or "", *_gravity(event), event.where, event.text)


def _gravity(event: Event) -> tuple[int, int, int]:
    return TONES.index(event.tone), _WEIGHTS.index(event.kind), -event.count


def _event(
    case: Case,
    start: int | None,
    end: int | None,
    *,
    ongoing: bool = False,
    **facts: Any,
) -> Event:
    """Make an event of times in epoch seconds, and tell its phase."""
    first, last = case.window
    phase: Phase = "window"
    if start is None or (start < first and not ongoing and (end or start) <= first):
        phase = "before"
    elif start >= last:
        phase = "after"
    return Event(
        None if start is None else format_time(start),
        None if end is None else format_time(end),
        ongoing,
        phase,
        **facts,
    )


def _near(case: Case, start: int, end: int | None, ongoing: bool = False) -> bool:
    first, last = case.window
    return start < last + NEAR and (ongoing or (end or start) > first - NEAR)


def _together(
    items: Iterable[Any], key: Callable[[Any], Hashable], times: Callable[[Any], Any], slack: int
) -> list[list[Any]]:
    """Join items of one key whose intervals touch or lie no more than `slack` seconds apart."""
    open_: dict[Hashable, tuple[list[Any], int]] = {}
    found: list[list[Any]] = []
    for item in sorted(items, key=lambda i: times(i)[0]):
        start, end = times(item)
        group, until = open_.get(key(item), ([], start - slack - 1))
        if start > until + slack:
            group, until = [], end
            found.append(group)
        group.append(item)
        open_[key(item)] = group, max(until, end)
    return found


# --- what people wrote down -----------------------------------------------------------------------


def _deployments(case: Case) -> list[Event]:
    file, canary = case.evidence("deployments"), case.evidence("canary")
    found = []
    if canary and _near(case, canary.start, canary.start + canary.duration):
        share = quantity(float(canary.traffic), "ratio")
        found.append(
            _event(
                case,
                canary.start,
                canary.start + canary.duration,
                kind="deployment",
                tone="info" if canary.decision == "promoted" else "warning",
                where=ALL,
                text=f"Canary of {canary.release} on {share} of the traffic: {canary.decision}",
                rests_on=(f"parameters/evidence_canary.yaml#{canary.release}",),
            )
        )
    return found + [
        _event(
            case,
            each.at,
            each.end,
            kind="deployment",
            tone="warning" if each.kind in ("rollback", "hotfix") else "info",
            where=each.region or ALL,
            text=f"{each.kind.capitalize()}: {each.title}"
            + (f" ({each.version})" if each.version else ""),
            rests_on=(f"parameters/evidence_deployments.yaml#{each.title}",),
        )
        for each in (file.deployments if file else [])
        if _near(case, each.at, each.end)
    ]


def _tests(case: Case) -> list[Event]:
    """Tell what was tested of the release: its rollback, its load, its fixes."""
    found: list[tuple[int, bool, str, str]] = []
    if rollback := case.evidence("rollback"):
        where = f" in {rollback.environment}" if rollback.environment else ""
        how = "succeeded" if rollback.successful else "failed"
        text = f"The test of the rollback{where} {how}"
        found.append((rollback.tested_at, rollback.successful, text, "rollback"))
    if load := case.evidence("load_test"):
        good = sum(each.successful for each in load.scenarios)
        text = f"Load test ({load.tool}): {good} of {len(load.scenarios)} scenarios succeeded"
        found.append((load.tested_at, good == len(load.scenarios), text, "load_test"))
    if hotfix := case.evidence("hotfix"):
        for fix in hotfix.fixes:
            how = "validated" if fix.successful else "not validated"
            text = f"Fix {fix.id} {how}: {fix.title}"
            found.append((fix.validated_at, fix.successful, text, "hotfix"))
    return [
        _event(
            case,
            at,
            None,
            kind="test",
            tone="info" if good else "warning",
            where=ALL,
            text=text,
            rests_on=(f"parameters/evidence_{kind}.yaml#{case.version}",),
        )
        for at, good, text, kind in found
        if _near(case, at, None)
    ]


def _incidents(case: Case) -> list[Event]:
    file = case.evidence("incidents")
    tones: dict[str, Tone] = {"sev1": "critical", "sev2": "warning"}
    told = [
        _event(
            case,
            each.start,
            each.end,
            ongoing=each.end is None,
            kind="incident",
            tone=tones.get(each.severity, "info"),
            where=each.region or ALL,
            text=f"{each.id} ({each.severity}): {each.title}"
            + (", with no end in the file" if each.end is None else ""),
            rests_on=(f"parameters/evidence_incidents.yaml#{each.id}",),
        )
        for each in (file.incidents if file else [])
        if _near(case, each.start, each.end, ongoing=each.end is None)
    ]
    step = case.run.recording.window.step
    groups = _together(case.incidents, lambda _: None, lambda i: (i.start, i.end), -step)
    return told + [_found(case, group) for group in groups]


def _found(case: Case, group: Sequence[Any]) -> Event:
    """Tell the incidents that the drift analysis found at one time."""
    hit = [e for incident in group for e in incident.findings]
    rules = list(dict.fromkeys(e["title"] for e in hit))
    worst, part = max(
        ((case.evaluations[i.worst["finding"]], i.worst) for i in group),
        key=lambda w: abs(w[1]["excess"] / w[0]["critical"]),
    )
    figure = quantity(part["figure"], worst["unit"])
    at = place(worst["region"] if len(group) > 1 else None, worst["service"])
    text = f"{count(len(hit), 'series', 'series')} of {listing(rules, 4)} beyond their limits"
    text += f"; the worst, {worst['title']}{'' if at == ALL else ' ' + at}, at {figure}"
    return _event(
        case,
        min(i.start for i in group),
        max(i.end for i in group),
        kind="incident",
        tone="critical" if any(i.severe for i in group) else "warning",
        where=whereabouts([(i.region, i.service) for i in group]),
        text=text,
        rests_on=tuple(i.id for i in group),
        count=len(group),
    )


# --- what the monitoring saw ----------------------------------------------------------------------


def _alerts(case: Case) -> list[Event]:
    """Tell the alerts, those of one incident together, else those of one name."""
    step = case.run.recording.window.step
    spans = [(i.region, i.start, i.end) for i in case.incidents]
    file = case.evidence("incidents")
    for each in file.incidents if file else []:
        spans.append((each.region, each.start, each.end or case.window[1]))

    def key(alert: Alert) -> Hashable:
        for i, (region, start, end) in enumerate(spans):
            if region in (None, alert.region) and alert.start <= end and alert.end >= start - step:
                return i
        return alert.name, alert.severity

    groups = _together(case.alerts.fired, key, lambda a: (a.start, a.end), 12 * step)
    storms: dict[int, list[list[Alert]]] = {}
    for group in groups:
        storms.setdefault(group[0].start, []).append(group)
    return [
        _alert(case, group)
        for begun in storms.values()
        for group in ([[a for g in begun for a in g]] if len(begun) > MANY else begun)
    ]


def _alert(case: Case, group: Sequence[Alert]) -> Event:
    grades = {"critical": 0, "warning": 1}
    tone = TONES[min(grades.get(a.severity, 2) for a in group)]
    names = Counter((grades.get(a.severity, 2), a.name) for a in group)
    ongoing = [a.name for a in group if a.ongoing]
    if len(names) == 1:
        text = f"{group[0].name} fired" + (f" {len(group)} times" if len(group) > 1 else "")
    else:
        parts = [
            name + (" (critical)" if not grade else "") + (f" × {n}" if n > 1 else "")
            for (grade, name), n in sorted(names.items())
        ]
        text = f"{len(group)} alerts fired: {listing(parts)}"
    if ongoing:
        one = "still firing" if len(group) == 1 else f"{len(ongoing)} still firing"
        text += f", {one} at the end"
    return _event(
        case,
        group[0].start,
        None if ongoing else max(a.end for a in group),
        ongoing=bool(ongoing),
        kind="alert",
        tone=tone,
        where=whereabouts([(a.region or None, a.service or None) for a in group]),
        text=text,
        rests_on=tuple(
            f"ga_kpi_summary.json#alerts/{a.name}/{format_time(a.start)}" for a in group
        ),
        count=len(group),
    )


def _outages(case: Case) -> list[Event]:
    """Tell the outages, those of one time together; a region's minor dips are one line."""
    target, step = case.target(AVAILABILITY), case.run.recording.window.step
    grave = [each for each in case.outages if each.tone != "info"]
    groups = _together(grave, lambda o: o.ended, lambda o: (o.start, o.end), -step)
    minor: dict[str | None, list[Outage]] = {}
    for each in case.outages:
        if each.tone == "info":
            minor.setdefault(each.region, []).append(each)
    dips = list(minor.values())
    if len(dips) > MANY:
        dips = [[each for each in case.outages if each.tone == "info"]]
    return [_outage(case, group, target) for group in [*groups, *dips]]


def _outage(case: Case, group: Sequence[Outage], target: Limit | None) -> Event:
    limit = 1.0 if target is None else target.value
    worst = min(group, key=lambda o: o.lowest)
    lowest = quantity(worst.lowest, "ratio", limit=limit)
    lost = lasted(sum(o.lost for o in group))
    below = quantity(limit, "ratio")
    ended = next((e for e in ("lasts", "unknown") if any(o.ended == e for o in group)), "")
    end = {
        "": "",
        "lasts": "; not back at the end of the window",
        "unknown": "; whether it recovered is not known, its data stops",
    }[ended]
    services = list(dict.fromkeys(name for o in group for name in o.services))
    who = f" ({listing(services)})" if services else ""
    if len(group) == 1:
        text = f"Availability fell below {below}, to {lowest}{who}: {lost} of full outage{end}"
    else:
        what = "dips" if worst.tone == "info" else "outages"
        apart = len({o.region for o in group}) > 1
        total = f"{lost} of full outage" + (", summed over the regions" if apart else "")
        text = f"{len(group)} {what} of availability below {below}, the lowest {lowest}{who}: "
        text += f"{'' if apart else 'together '}{total}{end}"
    return _event(
        case,
        min(o.start for o in group),
        None if ended else max(o.end for o in group),
        ongoing=bool(ended),
        kind="outage",
        tone=min((o.tone for o in group), key=TONES.index),
        where=whereabouts([(o.region, None) for o in group]),
        text=text,
        rests_on=tuple(dict.fromkeys(_steps(o.region) for o in group)),
        count=len(group),
    )


def _steps(region: str | None) -> str:
    return f"snapshots.jsonl#{AVAILABILITY}/{region or 'overall'}"


def _gaps(case: Case) -> list[Event]:
    return [
        _event(
            case,
            gap.start,
            gap.end,
            kind="gap",
            tone="critical" if (gap.start, gap.end) == case.window else "warning",
            where=gap.where,
            text=f"No data for {lasted(gap.end - gap.start)}",
            rests_on=tuple(_steps(region) for region in gap.regions),
            count=len(gap.regions),
        )
        for gap in case.gaps
    ]


# --- what moved -----------------------------------------------------------------------------------


def _drifts(case: Case) -> list[Event]:
    """Tell when each lasting drift began; those of one rule that began together are one line."""
    same: dict[Hashable, list[Facts]] = {}
    for e in case.lasting:
        if e["measure"] != "exact":
            trend = e["kind"] == "trend"
            same.setdefault((e["rule"], e["kpi"], trend, e["began"]), []).append(e)
    found = []
    for group in same.values():
        worst = max(group, key=multiple)
        where = [(e["region"], e["service"]) for e in group]
        began, text = _drift(case, worst)
        if len(group) > 1:
            text += f", the largest of {len(group)}: {place(worst['region'], worst['service'])}"
        found.append(
            _event(
                case,
                began,
                None,
                ongoing=began is not None,
                kind="drift",
                tone="critical" if any(e["verdict"] == "fail" for e in group) else "warning",
                where=whereabouts(where),
                text=text,
                rests_on=tuple(f"drift_analysis.json#{e['id']}" for e in group),
                count=len(group),
            )
        )
    return found


def _drift(case: Case, e: Facts) -> tuple[int | None, str]:
    """Return when a drift began, as far as it is known, and what it is."""
    size = change(e["drift"], e["measure"], e["unit"])
    before, now = (quantity(e[key], e["unit"]) for key in ("baseline", "current"))
    levels = f"({before} in the baseline, {now} now)"
    if e["kind"] == "trend":
        way = "grows" if e["slope_per_hour"] > 0 else "falls"
        alarm = case.analysis["first_alarms"].get(e["id"])
        known = f", provable since {clock(parse_time(alarm), case.window)} UTC" if alarm else ""
        return case.window[0], f"{e['title']} {way} all through the window: {size}{known}"
    if e["began"]:
        return parse_time(e["began"]), f"{e['title']} shifted by {size} {levels}"
    return None, f"{e['title']} {size} from the first step on {levels}"


def _changes(case: Case) -> list[Event]:
    """Tell the changes of configuration at the step in which each was seen."""
    same: dict[Hashable, list[tuple[Facts, int | None, str]]] = {}
    for e in case.analysis["evaluations"]:
        if e["measure"] == "exact" and e["verdict"] in ("fail", "no_data"):
            for start, text in _changed(case, e):
                same.setdefault((e["rule"], start, text), []).append((e, start, text))
    return [
        _event(
            case,
            group[0][1],
            None,
            kind="configuration",
            tone="warning",
            where=whereabouts([(e["region"], e["service"]) for e, _, _ in group]),
            text=group[0][2],
            rests_on=tuple(f"drift_analysis.json#{e['id']}" for e, _, _ in group),
            count=len(group),
        )
        for group in same.values()
    ]


def _changed(case: Case, e: Facts) -> list[tuple[int | None, str]]:
    """Return the changes of one configured value: when, and from what to what."""
    window, unit = case.run.recording.window, e["unit"]
    values = case.run.kpis.series(e["kpi"], e["region"], e["service"])
    seen = np.flatnonzero(~np.isnan(values))
    found: list[tuple[int | None, str]] = []
    if not len(seen):
        return found
    title = case.run.job.kpis[e["kpi"]].title
    first = float(values[seen[0]])
    if e["baseline"] is not None and first != e["baseline"]:
        found.append(
            (
                None,
                f"{title}: {quantity(first, unit)} from the first step on, and "
                f"{quantity(e['baseline'], unit)} in the baseline",
            )
        )
    at = seen[1:][np.diff(values[seen]) != 0]
    pairs = [(float(values[seen[seen < i][-1]]), float(values[i])) for i in at]
    if len(pairs) > 3:  # a scaler at work
        low, high = (f(float(v) for v in values[seen]) for f in (min, max))
        start = window.start + int(at[0]) * window.step
        text = f"{title}: changed {len(pairs)} times between {quantity(low, unit)} and "
        return [*found, (start, text + quantity(high, unit))]
    return found + [
        (
            window.start + int(i) * window.step,
            f"{title}: changed from {quantity(before, unit)} to {quantity(after, unit)}",
        )
        for i, (before, after) in zip(at, pairs, strict=True)
    ]


# --- objectives and sessions ----------------------------------------------------------------------


def _budgets(case: Case) -> list[Event]:
    """Tell the burn-rate alerts of the objectives, and when a budget was spent."""
    fired, spent = [], []
    for name, objective in (case.slos or {"objectives": {}})["objectives"].items():
        for region, facts in [(None, objective["overall"]), *objective["regions"].items()]:
            fired += [
                (name, region, alert["severity"], each)
                for alert in facts["alerts"]
                for each in alert["fired"]
            ]
            if facts["budget"]["exhausted_at"]:
                spent.append((name, region, parse_time(facts["budget"]["exhausted_at"])))

    def times(item: Any) -> tuple[int, int]:
        return parse_time(item[3]["start"]), parse_time(item[3]["end"])

    groups = _together(fired, lambda item: item[0], times, 0)
    together: dict[str, list[tuple[str, str | None, int]]] = {}
    for item in spent:
        together.setdefault(item[0], []).append(item)
    return [_burnt(case, group, times) for group in groups] + [
        _event(
            case,
            min(at for _, _, at in group),
            None,
            kind="slo",
            tone="critical",
            where=whereabouts([(region, None) for _, region, _ in group]),
            text=f"The error budget of the window is spent: {_objective(case, name)}",
            rests_on=tuple(f"slo.json#{name}/{region or 'overall'}" for _, region, _ in group),
            count=len(group),
        )
        for name, group in together.items()
    ]


def _burnt(case: Case, group: Sequence[Any], times: Callable[[Any], Any]) -> Event:
    peak = quantity(max(each["peak_burn_rate"] for _, _, _, each in group), digits=3)
    pages = sum(severity == "page" for _, _, severity, _ in group)
    ongoing = any(each["ongoing"] for _, _, _, each in group)
    name = group[0][0]
    text = f"{count(len(group), 'burn rate alert')} of {_objective(case, name)}"
    text += f", peak burn rate {peak}" + (", still firing at the end" if ongoing else "")
    return _event(
        case,
        min(times(item)[0] for item in group),
        None if ongoing else max(times(item)[1] for item in group),
        ongoing=ongoing,
        kind="slo",
        tone="critical" if pages else "warning",
        where=whereabouts([(region, None) for _, region, _, _ in group]),
        text=text,
        rests_on=tuple(
            dict.fromkeys(f"slo.json#{name}/{region or 'overall'}" for name, region, _, _ in group)
        ),
        count=len(group),
    )


def _objective(case: Case, name: str) -> str:
    return str((case.slos or {})["objectives"][name]["title"])


def _downtimes(case: Case) -> list[Event]:
    """Tell when WebSocket sessions were down: each of an endpoint that broke a limit, else one."""
    found = []
    for endpoint in case.sessions["endpoints"] if case.sessions else []:
        whole = [_downtime(case, endpoint, each) for each in endpoint["downtimes"]]
        grave = [event for event in whole if event.tone == "critical"]
        minor = [event for event in whole if event.tone != "critical"]
        found += grave
        if len(minor) > 1:
            seconds = sum(each["seconds"] for each in endpoint["downtimes"]) - sum(
                each["seconds"]
                for each, event in zip(endpoint["downtimes"], whole, strict=True)
                if event in grave
            )
            text = f"WebSocket session down {len(minor)} times, together {lasted(seconds)}"
            found.append(replace(minor[0], end=minor[-1].end, text=text, count=len(minor)))
        else:
            found += minor
    return found


def _downtime(case: Case, endpoint: Facts, each: Facts) -> Event:
    limit = next((lim for lim in endpoint["limits"] if lim["name"] == "longest_downtime"), None)
    broken = limit is not None and not _holds(limit["limit"], each["seconds"])
    why = f" ({each['reason']})" if each.get("reason") else ""
    start, end = (_seconds(each[key]) for key in ("start", "end"))
    return _event(
        case,
        start or 0,
        end,
        ongoing=end is None,
        kind="websocket",
        tone="critical" if broken else "info",
        where=endpoint["name"],
        text=f"WebSocket session down for {lasted(each['seconds'])}{why}",
        rests_on=(f"ws_health_metrics.json#{endpoint['name']}",),
    )


def _seconds(time: str | None) -> int | None:
    moment = instant(time)
    return None if moment is None else int(moment.timestamp())


def _holds(text: str, value: float) -> bool:
    operator, _, number = text.partition(" ")
    return Limit(operator, float(number)).holds(value)
