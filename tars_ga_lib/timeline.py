"""What happened in the window, and shortly before and after it: one frame of all events.

Each event names the file and the item that it rests on. What belongs together is told once: an
incident has the alerts, outages and spent budgets of its time as its parts, and alike events (the
short dips of one region, one rule's drifts) are one line with a count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tars_ga_lib.display import duration, instant, quantity, when
from tars_ga_lib.display import window as interval
from tars_ga_lib.facts import DRIFT, SLO, Facts, Incident, RunFacts, grouped, if_known, multiple
from tars_ga_lib.grammar import format_time, parse_limit, parse_time
from tars_ga_lib.outages import AVAILABILITY, Outage
from tars_ga_lib.parameters import MEASURED
from tars_ga_lib.wording import Place, change, clock, count, listing, place, span, whereabouts

if TYPE_CHECKING:
    import pandas as pd

Tone = Literal["critical", "warning", "info"]
TONES: tuple[Tone, ...] = ("critical", "warning", "info")
KINDS = (
    "incident", "outage", "deployment", "slo", "alert", "drift", "configuration", "gap", "test",
    "websocket",
)  # fmt: skip
"""What an event can be, the gravest first."""

NEAR = 7 * 86400
"""How far from the window something may lie to be told with it, in seconds."""


@dataclass(frozen=True)
class Event:
    """Something that happened, or several alike things.

    `begin` and `end` are epoch seconds; without a begin it was so before the window, without an end
    it is an instant, or `ongoing` at the end of what is known. `name` says what it is about (an
    alert, an objective), `figure` its size in `unit`. `rests_on` names files and items of them:
    `FILE#ITEM`. `count` says how many it joins; `parts` are those, and what else belongs to it.
    """

    kind: str
    tone: Tone
    begin: int | None
    end: int | None
    phase: Literal["before", "window", "after"]
    where: str
    text: str
    rests_on: tuple[str, ...]
    ongoing: bool = False
    places: tuple[Place, ...] = ((None, None),)
    name: str = ""
    figure: float | None = None
    unit: str = ""
    count: int = 1
    parts: tuple[Event, ...] = ()
    raw: Any = None

    @property
    def details(self) -> list[str]:
        """What else happened with it: the texts of its parts of another kind."""
        return [part.text for part in self.parts if part.kind != self.kind]

    @property
    def leaves(self) -> list[Event]:
        """The single events that it joins."""
        return [leaf for part in self.parts for leaf in part.leaves] or [self]


def events(known: RunFacts) -> list[Event]:
    """Return everything that is known to have happened, in order of time.

    What was so before the window, at a time that nobody knows, stands first.
    """
    loose = [*_alerts(known), *_outages(known), *_budgets(known)]
    found = [
        *_deployments(known),
        *_tests(known),
        *_gaps(known),
        *_drifts(known),
        *_changes(known),
        *_downtimes(known),
    ]
    for incident in _incidents(known):
        own = [event for event in loose if _within(known, event, incident)]
        kept = {id(event) for event in own}
        loose = [event for event in loose if id(event) not in kept]
        lines = [_join(known, same) for same in grouped(own, lambda e: (e.kind, e.figure is None))]
        parts = (*(incident.parts or (replace(incident, parts=()),)), *lines)
        found.append(
            replace(
                incident,
                tone=_gravest(parts),
                parts=parts if lines or incident.parts else (),
                rests_on=tuple(dict.fromkeys(ref for part in parts for ref in part.rests_on)),
            )
        )
    found += [_join(known, group) for group in _alike(known, loose)]
    return sorted((event for event in found if _near(known, event)), key=_order)


def gravest(found: Iterable[Event], most: int | None) -> tuple[list[Event], int]:
    """Return the gravest events in order of time, and how many were left out."""
    every = list(found)
    ranked = sorted(every, key=lambda e: (*_gravity(e), *_order(e)))
    kept = ranked[: len(every) if most is None else most]
    return sorted(kept, key=_order), len(every) - len(kept)


def moment(event: Event, window: tuple[int, int] | None = None) -> str:
    """Write when an event was, in UTC; without the date of the window, where that has but one."""
    begin, end = event.begin, event.end
    if begin is None:
        return "before the window"
    since = "since " if event.ongoing else ""
    if window and event.phase == "window" and len(clock(begin, window)) <= len("13:10:05"):
        return since + span(begin, None if event.ongoing else end, window).removesuffix(" UTC")
    return since + when(begin) if event.ongoing or end in (None, begin) else interval(begin, end)


def frame(found: Sequence[Event]) -> pd.DataFrame:
    """Return events as a DataFrame with a row for each single one.

    Columns: event (rows of the same number are told as one), kind, severity, begin and end (UTC;
    NaT where not known or not ended), ongoing, place, what, figure, unit, source (the file) and
    evidence (its items).
    """
    import pandas as pd  # a command that only prints need not wait for it

    rows = [
        {
            "event": number,
            "kind": leaf.kind,
            "severity": leaf.tone,
            "begin": instant(leaf.begin),
            "end": instant(leaf.end),
            "ongoing": leaf.ongoing,
            "place": leaf.where,
            "what": leaf.text,
            "figure": leaf.figure,
            "unit": leaf.unit,
            "source": leaf.rests_on[0].partition("#")[0],
            "evidence": ", ".join(leaf.rests_on),
        }
        for number, event in enumerate(found)
        for leaf in event.leaves
    ]
    table = pd.DataFrame(rows)
    for name in ("begin", "end") if rows else ():
        table[name] = pd.to_datetime(table[name], utc=True)
    return table


def _order(event: Event) -> tuple[Any, ...]:
    return (event.begin or 0, *_gravity(event), event.where, event.text)


def _gravity(event: Event) -> tuple[int, int, int]:
    return TONES.index(event.tone), KINDS.index(event.kind), -event.count


def _gravest(found: Iterable[Event]) -> Tone:
    return min((event.tone for event in found), key=TONES.index)


def _near(known: RunFacts, event: Event) -> bool:
    first, last = known.window
    if event.begin is None or event.phase == "window":
        return True
    return event.begin < last + NEAR and (event.end or event.begin) > first - NEAR


# --- making and joining events --------------------------------------------------------------------


def _event(
    known: RunFacts,
    kind: str,
    tone: Tone,
    times: tuple[int | None, int | None],
    text: str,
    *rests_on: str,
    places: Sequence[Place] = ((None, None),),
    **more: Any,
) -> Event:
    """Make an event, and tell its phase and its place."""
    (begin, end), (first, last) = times, known.window
    phase: Literal["before", "window", "after"] = "window"
    if begin is None or (begin < first and not more.get("ongoing") and (end or begin) <= first):
        phase = "before"
    elif begin >= last:
        phase = "after"
    regions = {region for region, _ in places}
    services = known.services(*regions) if len(regions) == 1 else 0
    where = more.pop("where", "") or whereabouts(places, services)
    return Event(kind, tone, begin, end, phase, where, text, rests_on, places=tuple(places), **more)


def _join(known: RunFacts, group: Sequence[Event], text: str = "") -> Event:
    """Join alike events; without a text they say their own."""
    first = group[0]
    if not text:
        text = _TEXTS[first.kind](known, group) if first.kind in _TEXTS else first.text
    if len(group) == 1:
        return replace(first, text=text)
    begins = [e.begin for e in group if e.begin is not None]
    ends = [e.end or e.begin or 0 for e in group]
    ongoing = any(e.ongoing for e in group)
    open_ = ongoing or all(e.end is None for e in group)
    return _event(
        known,
        first.kind,
        _gravest(group),
        (min(begins, default=None), None if open_ else max(ends)),
        text,
        *dict.fromkeys(ref for e in group for ref in e.rests_on),
        places=list(dict.fromkeys(p for e in group for p in e.places)),
        where=first.where if len({e.where for e in group}) == 1 else "",
        ongoing=ongoing,
        name=first.name,
        count=len(group),
        parts=tuple(group),
    )


def _together(
    items: Iterable[Event], key: Callable[[Event], Hashable], slack: int
) -> list[list[Event]]:
    """Put events of one key together that touch or lie no more than `slack` seconds apart."""
    open_: dict[Hashable, tuple[list[Event], float]] = {}
    found: list[list[Event]] = []
    for item in sorted(items, key=lambda e: e.begin or 0):
        begin, end = item.begin or 0, item.end or item.begin or 0
        group, until = open_.get(key(item), ([], -np.inf))
        if begin > until + slack:
            group, until = [], end
            found.append(group)
        group.append(item)
        open_[key(item)] = group, max(until, end)
    return found


def _alike(known: RunFacts, loose: Sequence[Event]) -> list[list[Event]]:
    """Put together what is no part of an incident.

    That is an alert that comes and goes, alerts that began in one step, outages of one time, all
    dips, an objective's alerts of one time, and an objective's budgets.
    """
    of = {kind: [e for e in loose if e.kind == kind] for kind in ("alert", "outage", "slo")}
    alerts = _together(of["alert"], lambda e: (e.name, e.tone), 12 * known.step)
    grave = [e for e in of["outage"] if not e.raw.dip]
    burnt = [e for e in of["slo"] if e.figure is not None]
    return [
        *([e for group in begun for e in group] for begun in grouped(alerts, lambda g: g[0].begin)),
        *_together(grave, lambda e: e.raw.ended, -known.step),
        *grouped([e for e in of["outage"] if e.raw.dip], lambda _: None),
        *_together(burnt, lambda e: e.name, 0),
        *grouped([e for e in of["slo"] if e.figure is None], lambda e: e.name),
    ]


def _within(known: RunFacts, event: Event, incident: Event) -> bool:
    """Whether an event belongs to an incident: of its place, and begun in its time."""
    begin, first = event.begin or 0, (incident.begin or 0) - known.step
    ends = [known.window[1] if e.ongoing else e.end or e.begin or 0 for e in (event, incident)]
    if begin > ends[1] or (ends[0] if event.kind == "outage" else begin) < first:
        return False
    named = {region for region, _ in event.places if region}
    hit = {region for region, _ in incident.places}
    return not named or None in hit or bool(named & hit)


# --- what people wrote down -----------------------------------------------------------------------


def _ref(kind: str, item: str) -> str:
    return f"parameters/evidence_{kind}.yaml#{item}"


def _deployments(known: RunFacts) -> Iterator[Event]:
    canary, begun = known.given("canary"), None
    if canary:
        begun, times = canary.start, (canary.start, canary.start + canary.duration)
        share = quantity(float(canary.traffic), "ratio")
        text = f"Canary of {canary.release} on {share} of the traffic: {canary.decision}"
        tone: Tone = "info" if canary.decision == "promoted" else "warning"
        yield _event(known, "deployment", tone, times, text, _ref("canary", canary.release))
    for one in getattr(known.given("deployments"), "deployments", []):
        if one.kind == "canary" and one.at == begun:
            continue  # the canary's own file tells more of it
        version = f" ({one.version})" if one.version else ""
        text = f"{one.kind.capitalize()}: {one.title}{version}"
        tone = "warning" if one.kind in ("rollback", "hotfix") else "info"
        where, ref = [(one.region, None)], _ref("deployments", one.title)
        yield _event(known, "deployment", tone, (one.at, one.end), text, ref, places=where)


def _tests(known: RunFacts) -> Iterator[Event]:
    """Yield what was tested of the release: its rollback, its load, its fixes."""
    found: list[tuple[int, bool, str, str]] = []
    if rollback := known.given("rollback"):
        where = f" in {rollback.environment}" if rollback.environment else ""
        text = f"The rollback test{where} {'succeeded' if rollback.successful else 'failed'}"
        found.append((rollback.tested_at, rollback.successful, text, "rollback"))
    if load := known.given("load_test"):
        good = sum(scenario.successful for scenario in load.scenarios)
        text = f"Load test ({load.tool}): {good} of {len(load.scenarios)} scenarios succeeded"
        found.append((load.tested_at, good == len(load.scenarios), text, "load_test"))
    for fix in getattr(known.given("hotfix"), "fixes", []):
        text = f"Fix {fix.id} {'' if fix.successful else 'not '}validated: {fix.title}"
        found.append((fix.validated_at, fix.successful, text, "hotfix"))
    version = known.parameters.release.version
    for at, good, text, kind in found:
        tone: Tone = "info" if good else "warning"
        yield _event(known, "test", tone, (at, None), text, _ref(kind, version))


# --- incidents ------------------------------------------------------------------------------------


def _incidents(known: RunFacts) -> list[Event]:
    """Return incidents: those of one time that the series show, with what files say of them."""
    file, shown = known.given("incidents"), []
    reports = {one.id: _report(known, one) for one in (file.incidents if file else [])}
    for one in known.incidents:
        tone: Tone = "critical" if one.severe else "warning"
        where, text = [(one.region, one.service)], moved(known, [one])
        times = one.start, one.end
        shown.append(_event(known, "incident", tone, times, text, one.id, places=where, raw=one))
    found = []
    for group in _together(shown, lambda _: None, -known.step):
        ids = dict.fromkeys(one.id for e in group for one in e.raw.reported)
        own = [reports.pop(one) for one in ids if one in reports]
        text = "; ".join([*(e.text for e in own), moved(known, [e.raw for e in group])])
        joined = _join(known, group, text)
        found.append(replace(joined, parts=(*own, *group)) if own else joined)
    return [*found, *reports.values()]


def _report(known: RunFacts, one: Any) -> Event:
    tones: dict[str, Tone] = {"sev1": "critical", "sev2": "warning"}
    open_ = ", with no end in the file" if one.end is None else ""
    text, ref = f"{one.id} ({one.severity}): {one.title}{open_}", _ref("incidents", one.id)
    more: dict[str, Any] = {"places": [(one.region, None)], "ongoing": one.end is None, "raw": one}
    tone = tones.get(one.severity, "info")
    return _event(known, "incident", tone, (one.start, one.end), text, ref, **more)


def _excess(finding: Facts, incident: Incident) -> float:
    """Return by how much an incident moved a finding, as a multiple of its critical limit."""
    begin, end = format_time(incident.start), format_time(incident.end)
    parts = [p["excess"] for p in finding["incidents"] if p["began"] < end and p["ended"] > begin]
    return max((abs(excess) for excess in parts), default=0.0) / (finding["critical"] or 1.0)


def moved(known: RunFacts, group: Sequence[Incident]) -> str:
    """Write what incidents moved: each rule's figure over their own minutes, the worst first."""
    hit = [(e, incident) for incident in group for e in incident.findings]
    hit.sort(key=lambda pair: -_excess(*pair))
    texts = []
    for (worst, incident), *others in grouped(hit, lambda pair: pair[0]["rule"]):
        region, service = worst["region"], worst["service"]
        services = {service, *(e["service"] for e, _ in others if e["region"] == region)}
        where = "" if service == incident.service else place(None, service)
        if len(services) > 1:
            every = "all " if len(services) == known.services(region) else ""
            service, where = None, f"{every}{len(services)} services"
        if len(group) > 1:
            where = f"{region}, {where}" if where else str(region)
        steps = known.steps(incident.start, incident.end)
        value = quantity(
            known.run.kpis.during(worst["kpi"], *steps, region, service), worst["unit"]
        )
        texts.append(f"{worst['title']} at {value}" + (f" ({where})" if where else ""))
    return listing(texts, 4) if texts else "A short change that passed"


# --- what the monitoring saw ----------------------------------------------------------------------


def _alerts(known: RunFacts) -> Iterator[Event]:
    for a in known.run.alerts.fired:
        tone: Tone = a.severity if a.severity in TONES else "info"
        times = a.start, None if a.ongoing else a.end
        where = [(a.region or None, a.service or None)]
        text = f"{a.name} fired" + (", still firing at the end" if a.ongoing else "")
        ref = f"ga_kpi_summary.json#alerts/{a.name}/{format_time(a.start)}"
        more: dict[str, Any] = {"ongoing": a.ongoing, "name": a.name}
        yield _event(known, "alert", tone, times, text, ref, places=where, **more)


def _alert_text(_: RunFacts, group: Sequence[Event]) -> str:
    if len(group) == 1:
        return group[0].text
    names = Counter((TONES.index(e.tone), e.name) for e in group)
    if len(names) == 1:
        text = f"{group[0].name} fired {len(group)} times"
    else:
        parts = [
            name + (" (critical)" if not tone else "") + (f" × {n}" if n > 1 else "")
            for (tone, name), n in sorted(names.items())
        ]
        text = f"{len(group)} alerts fired: {listing(parts)}"
    ongoing = sum(e.ongoing for e in group)
    return text + (f", {ongoing} still firing at the end" if ongoing else "")


def steps(region: str | None) -> str:
    """Name the steps of a region's availability as a file's item."""
    return f"snapshots.jsonl#{AVAILABILITY}/{region or 'overall'}"


def _outages(known: RunFacts) -> Iterator[Event]:
    for o in known.outages:
        back = o.ended == "recovered"
        times, text = (o.start, o.end if back else None), _outage_text(known, [o])
        more: dict[str, Any] = {"places": [(o.region, None)], "ongoing": not back, "raw": o}
        more |= {"figure": o.lowest, "unit": "ratio"}
        yield _event(known, "outage", o.tone, times, text, steps(o.region), **more)


def _outage_text(known: RunFacts, group: Sequence[Outage]) -> str:
    limit = known.limit(AVAILABILITY) or 1.0
    worst = min(group, key=lambda o: o.lowest)
    lowest, below = quantity(worst.lowest, "ratio", limit=limit), quantity(limit, "ratio")
    lost = f"{duration(sum(o.lost for o in group))} of full outage"
    end = ""
    if any(o.ended == "lasts" for o in group):
        end = "; not back at the end of the window"
    elif any(o.ended == "unknown" for o in group):
        end = "; whether it recovered is not known, its data stops"
    services = list(dict.fromkeys(name for o in group for name in o.services))
    who = f" ({listing(services)})" if services else ""
    if len(group) == 1:
        return f"Availability fell below {below}, to {lowest}{who}: {lost}{end}"
    what = "dips" if worst.dip else "outages"
    apart = len({o.region for o in group}) > 1
    total = f"{lost}, summed over the regions" if apart else f"together {lost}"
    return (
        f"{len(group)} {what} of availability below {below}, the lowest {lowest}{who}: {total}{end}"
    )


def _gaps(known: RunFacts) -> list[Event]:
    leaves = []
    for begin, end, region in known.gaps:
        tone: Tone = "critical" if (begin, end) == known.window else "warning"
        text, where = f"No data for {duration(end - begin)}", [(region, None)]
        times = begin, end
        leaves.append(_event(known, "gap", tone, times, text, steps(region), places=where))
    return [_join(known, group) for group in grouped(leaves, lambda e: (e.begin, e.end))]


# --- what moved -----------------------------------------------------------------------------------


def _drifts(known: RunFacts) -> list[Event]:
    """Return when each lasting drift began; those of one rule that began together are one."""
    moved = [e for e in known.lasting if e["measure"] != "exact"]
    found = []
    for group in grouped(moved, lambda e: (e["rule"], e["kind"] == "trend", e["began"])):
        leaves = [_drift(known, e) for e in sorted(group, key=lambda e: -multiple(e))]
        more = f", the largest of {len(leaves)}: {leaves[0].where}" if len(leaves) > 1 else ""
        found.append(_join(known, leaves, leaves[0].text + more))
    return found


def _drift(known: RunFacts, e: Facts) -> Event:
    size = change(e["drift"], e["measure"], e["unit"])
    before, now = (quantity(e[key], e["unit"]) for key in ("baseline", "current"))
    levels = f"({before} in the baseline, {now} now)"
    begin = parse_time(e["began"]) if e["began"] else None
    if e["kind"] == "trend":
        alarm = known.analysis["first_alarms"].get(e["id"])
        since = f", proven by {clock(parse_time(alarm), known.window)} UTC" if alarm else ""
        way = "grows" if e["slope_per_hour"] > 0 else "falls"
        begin, text = known.window[0], f"{e['title']} {way} all through the window: {size}{since}"
    elif begin is not None:
        text = f"{e['title']} shifted by {size} {levels}"
    else:
        text = f"{e['title']} {size} from the first step on {levels}"
    tone: Tone = "critical" if e["verdict"] == "fail" else "warning"
    more: dict[str, Any] = {"places": [(e["region"], e["service"])], "ongoing": begin is not None}
    more |= {"name": e["name"], "figure": e["drift"]}
    more["unit"] = "ratio" if e["measure"] == "relative" else e["unit"]
    return _event(known, "drift", tone, (begin, None), text, f"{DRIFT}#{e['id']}", **more)


def _changes(known: RunFacts) -> list[Event]:
    """Return the changes of configuration at the step in which each was seen."""
    leaves = [
        _event(
            known, "configuration", "warning", (begin, None), text, f"{DRIFT}#{e['id']}",
            places=[(e["region"], e["service"])], name=e["rule"],
        )
        for e in known.analysis["evaluations"]
        if e["measure"] == "exact" and e["verdict"] in ("fail", "no_data")
        for begin, text in _changed(known, e)
    ]  # fmt: skip
    same = grouped(leaves, lambda e: (e.name, e.begin, e.text))
    return [_join(known, group) for group in same]


def _changed(known: RunFacts, e: Facts) -> list[tuple[int | None, str]]:
    """Return the changes of one configured value: when, and from what to what."""
    (start, _), unit, title = known.window, e["unit"], known.job.kpis[e["kpi"]].title
    values = known.run.kpis.series(e["kpi"], e["region"], e["service"])
    steps = np.flatnonzero(~np.isnan(values))
    seen = values[steps]
    found: list[tuple[int | None, str]] = []
    if len(seen) and e["baseline"] is not None and seen[0] != e["baseline"]:
        now, before = quantity(float(seen[0]), unit), quantity(e["baseline"], unit)
        text = f"{title}: {now} from the first step on, and {before} in the baseline"
        found.append((None, text))
    at = np.flatnonzero(np.diff(seen))
    if len(at) > 3:  # a scaler at work
        low, high = (quantity(float(limit), unit) for limit in (seen.min(), seen.max()))
        text = f"{title}: changed {len(at)} times between {low} and {high}"
        return [*found, (start + int(steps[at[0] + 1]) * known.step, text)]
    for i in at:
        before, now = (quantity(float(v), unit) for v in seen[i : i + 2])
        begin = start + int(steps[i + 1]) * known.step
        found.append((begin, f"{title}: changed from {before} to {now}"))
    return found


# --- objectives and sessions ----------------------------------------------------------------------


def _budgets(known: RunFacts) -> list[Event]:
    """Return the burn-rate alerts of the objectives, and when each budget was spent."""
    found, slos = [], if_known(known.document, SLO) or {"objectives": {}}
    for name, objective in slos["objectives"].items():
        for region, facts in [(None, objective["overall"]), *objective["regions"].items()]:
            about: dict[str, Any] = {"places": [(region, None)], "name": objective["title"]}
            ref = f"{SLO}#{name}/{region or 'overall'}"
            for alert in facts["alerts"]:
                tone: Tone = "critical" if alert["severity"] == "page" else "warning"
                for one in alert["fired"]:
                    end = None if one["ongoing"] else parse_time(one["end"])
                    about |= {"ongoing": one["ongoing"], "figure": one["peak_burn_rate"]}
                    times = parse_time(one["start"]), end
                    found.append(_event(known, "slo", tone, times, "", ref, **about))
            if spent := facts["budget"]["exhausted_at"]:
                about |= {"ongoing": False, "figure": None}
                times = parse_time(spent), None
                found.append(_event(known, "slo", "critical", times, "", ref, **about))
    return [replace(event, text=_budget_text(known, [event])) for event in found]


def _budget_text(_: RunFacts, group: Sequence[Event]) -> str:
    names = listing(list(dict.fromkeys(e.name for e in group)))
    burnt = [e.figure for e in group if e.figure is not None]
    if not burnt:
        return f"The error budget of the window is spent: {names}"
    ongoing = ", still firing at the end" if any(e.ongoing for e in group) else ""
    peak = quantity(max(burnt), digits=3)
    return f"{count(len(group), 'burn rate alert')} of {names}, peak burn rate {peak}{ongoing}"


_TEXTS: dict[str, Callable[[RunFacts, Sequence[Event]], str]] = {
    "alert": _alert_text,
    "outage": lambda known, group: _outage_text(known, [e.raw for e in group]),
    "slo": _budget_text,
}
"""How alike events are told together; all others by the text of the first."""


def _downtimes(known: RunFacts) -> list[Event]:
    """Return when WebSocket sessions were down: each that broke a limit, else one a session."""
    sessions = if_known(known.measured, "websocket")
    found = []
    for endpoint in sessions["endpoints"] if sessions else []:
        down = [_downtime(known, endpoint, one) for one in endpoint["downtimes"]]
        found += [event for event in down if event.tone == "critical"]
        if minor := [event for event in down if event.tone != "critical"]:
            total = duration(sum(event.figure or 0 for event in minor))
            text = f"WebSocket session down {len(minor)} times, together {total}"
            found.append(_join(known, minor, minor[0].text if len(minor) == 1 else text))
    return found


def _downtime(known: RunFacts, endpoint: Facts, one: Facts) -> Event:
    limits = {limit["name"]: limit["limit"] for limit in endpoint["limits"]}
    limit, why = limits.get("longest_downtime"), f" ({one['reason']})" if one.get("reason") else ""
    moments = (instant(one[key]) for key in ("start", "end"))
    begin, end = (None if m is None else int(m.timestamp()) for m in moments)
    tone: Tone = "info"
    if limit and not parse_limit(limit).holds(one["seconds"]):
        tone = "critical"
    text = f"WebSocket session down for {duration(one['seconds'])}{why}"
    ref = f"{MEASURED['websocket']}#{endpoint['name']}"
    more: dict[str, Any] = {"where": endpoint["name"], "ongoing": end is None}
    more |= {"figure": one["seconds"], "unit": "s"}
    return _event(known, "websocket", tone, (begin, end), text, ref, **more)
