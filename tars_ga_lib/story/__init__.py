"""The report's text, made of a run's facts: what happened, what it means, what to do.

Nothing is said that no file of the run holds, each sentence names what it rests on, and what is not
known is said to be not known. All texts are plain: names from data are escaped at the edge, here by
`bullets` and `timeline`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tars_ga_lib.display import md_escape, quantity, when
from tars_ga_lib.display import window as interval
from tars_ga_lib.grammar import parse_time
from tars_ga_lib.intervals import overlaps
from tars_ga_lib.kpis import KpiValue
from tars_ga_lib.outages import AVAILABILITY, downtime
from tars_ga_lib.run import Run
from tars_ga_lib.story.advice import Action, actions
from tars_ga_lib.story.case import Case, Facts, multiple
from tars_ga_lib.story.events import Event, events, gravest
from tars_ga_lib.story.lessons import Quote, process_improvements, quoted, to_improve, went_well
from tars_ga_lib.story.phrases import Sentence, change, clock, count, lasted, listing, place, span
from tars_ga_lib.story.reasons import Reason, justification
from tars_ga_lib.wording import limit_text

__all__ = [
    "EMPTY",
    "Action",
    "Event",
    "Quote",
    "Reason",
    "Sentence",
    "Story",
    "bullets",
    "gravest",
    "tell",
    "timeline",
]

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
class Story:
    """All that is told of a run; see the dataclasses of the parts.

    `window` is its start and end in epoch seconds.
    """

    simulated: bool
    window: tuple[int, int]
    events: tuple[Event, ...]
    outcomes: tuple[Sentence, ...]
    justification: tuple[Reason, ...]
    actions: tuple[Action, ...]
    went_well: tuple[Sentence, ...]
    to_improve: tuple[Sentence, ...]
    process_improvements: tuple[Sentence, ...]
    quoted: tuple[Quote, ...]

    def facts(self) -> dict[str, Any]:
        """Return the story as JSON has it."""
        return asdict(self)


def tell(
    run: Run,
    analysis: Facts,
    comparison: Facts,
    certification: Facts,
    slos: Facts | None = None,
    validation: Facts | None = None,
    sessions: Facts | None = None,
) -> Story:
    """Tell a finished run.

    Parameters
    ----------
    run
        The run.
    analysis, comparison, certification
        Contents of `drift_analysis.json`, `cross_region.json` and `certification_metadata.json`.
    slos, validation, sessions
        Contents of `slo.json`, `validation_results.json` and `ws_health_metrics.json`; what is not
        given was not measured.
    """
    case = Case(run, analysis, comparison, certification, slos, validation, sessions)
    return Story(
        simulated=case.simulated,
        window=case.window,
        events=tuple(events(case)),
        outcomes=tuple(outcomes(case)),
        justification=tuple(justification(case)),
        actions=tuple(actions(case)),
        went_well=tuple(went_well(case)),
        to_improve=tuple(to_improve(case)),
        process_improvements=tuple(process_improvements(case)),
        quoted=tuple(quoted(case)),
    )


def outcomes(case: Case) -> list[Sentence]:
    """Return the key outcomes: four to eight sentences."""
    found = [
        _level(case, AVAILABILITY, "Availability"),
        _level(case, "error_rate", "Error rate"),
        _level(case, "latency_p99", "Latency P99"),
        _objectives(case),
        _drift(case),
        _incidents(case),
        _measured(case),
        _coverage(case),
    ]
    return [each for each in found if each]


def _level(case: Case, name: str, title: str) -> Sentence:
    """Tell a KPI of the whole window, its target, and the worst region."""
    kpi = case.run.job.kpis.get(name)
    if kpi is None:
        text = f"{title} is not known: the catalogue has no KPI of the name {name}."
        return Sentence(text, "no_data", ("parameters/kpis.yaml",))
    refs = [f"ga_kpi_summary.json#kpis/{name}"]
    outcome = next(
        (
            o
            for o in case.certification["criteria"]
            if (c := case.run.job.criteria[o["name"]]).kpi == name and c.scope == "overall"
        ),
        None,
    )
    figure = case.run.kpis.figure(name)
    limit = None if outcome is None else float(outcome["target"].split()[1])
    if figure.value is None:
        text = f"{kpi.title} is not known: {figure.reason}."
        return Sentence(text, "no_data", tuple(refs))
    text = f"{kpi.title} was {_at_least(figure)}{quantity(figure.value, kpi.unit, limit=limit)}"
    if outcome is not None:
        text += f" (target {limit_text(outcome['target'], outcome['unit'])})"
        refs.append(f"certification_metadata.json#criteria/{outcome['name']}")
    if name == AVAILABILITY and figure.value < 1:
        down = downtime(case.run.kpis)
        assert down is not None
        text += f", which is {lasted(down)} of full outage"
    text += _worst_region(case, name, limit)
    text += "."
    if outcome is not None and outcome["verdict"] == "no_data":
        reason = str(outcome["reason"])
        text += f" It {reason}." if reason.startswith("holds") else f" It does not count: {reason}."
    tone = outcome["verdict"] if outcome is not None else "info"
    return Sentence(text, tone, tuple(refs))  # type: ignore[arg-type]


def _at_least(figure: KpiValue) -> str:
    return "at least " if figure.beyond else ""


def _worst_region(case: Case, name: str, limit: float | None) -> str:
    kpi, regions = case.run.job.kpis[name], case.run.kpis.regions(name)
    figures = {region: case.run.kpis.figure(name, region) for region in regions}
    known = {r: f.value for r, f in figures.items() if f.value is not None}
    text = ""
    if len(known) > 1 and len(set(known.values())) > 1:
        sign = -1 if kpi.better == "higher" else 1
        worst = max(known, key=lambda r: sign * known[r])
        value = _at_least(figures[worst]) + quantity(known[worst], kpi.unit, limit=limit)
        text = f"; the worst region is {worst} with {value}"
    unknown = [r for r in figures if r not in known]
    if unknown and known:
        text += f"; nothing is known of {listing(unknown)}"
    return text


def _objectives(case: Case) -> Sentence | None:
    """Tell the objective that has spent most of its error budget."""
    objectives = case.slos["objectives"] if case.slos else {}
    if not objectives:
        return None
    places = [
        (name, region, facts)
        for name, each in objectives.items()
        for region, facts in [(None, each["overall"]), *each["regions"].items()]
    ]
    counts = case.slos["counts"] if case.slos else {}
    met = f"{counts['pass']} of {count(len(objectives), 'objective')} met"
    if counts["no_data"]:
        met += f", {counts['no_data']} not known"
    spent = [p for p in places if p[2]["budget"]["share_spent"] is not None]
    if spent:
        name, region, facts = max(spent, key=lambda p: p[2]["budget"]["share_spent"])
        title = objectives[name]["title"] + (f" of {region}" if region else "")
        met += f"; {title} has spent the most: {facts['budget']['words']}"
        ref = f"slo.json#{name}/{region or 'overall'}"
    else:
        ref = "slo.json#counts"
    tone = "fail" if counts["fail"] else "no_data" if counts["no_data"] else "pass"
    return Sentence(f"Error budgets: {met}.", tone, (ref,))  # type: ignore[arg-type]


def _drift(case: Case) -> Sentence:
    counts = case.analysis["counts"]
    total, missing = counts["evaluations"], counts["missing"]
    if missing == total:
        text = "Drift is not known: nothing could be compared with the baseline."
        return Sentence(text, "no_data", ("drift_analysis.json#counts",))
    passed = counts["findings"] - len(case.lasting)
    critical = sum(e["verdict"] == "fail" for e in case.lasting)
    compared = f"in {total - missing} comparisons with the baseline"
    if not case.lasting:
        text, refs = f"No lasting drift {compared}", ["drift_analysis.json#counts"]
    else:
        worst = max(
            case.lasting,
            key=lambda e: (e["verdict"] == "fail", e["measure"] != "exact", multiple(e)),
        )
        text = f"{count(len(case.lasting), 'lasting drift')} {compared}, {critical} critical; "
        text += f"the worst is {worst['name']}"
        if worst["measure"] != "exact":
            text += f", {change(worst['drift'], worst['measure'], worst['unit'])}"
        text += " and growing" if worst["kind"] == "trend" and _grows(worst) else ""
        refs = ["drift_analysis.json#counts", f"drift_analysis.json#{worst['id']}"]
    if passed:
        text += f"; {passed} more passed with an incident"
    if counts["uncertain"]:
        text += f"; {counts['uncertain']} are uncertain"
    if missing:
        text += f"; {missing} could not be compared"
    tone = "fail" if critical else "warn" if counts["findings"] or missing else "pass"
    return Sentence(f"{text}.", tone, tuple(refs))  # type: ignore[arg-type]


def _grows(e: Facts) -> bool:
    return bool(e["slope_per_hour"] * e["drift"] > 0)


def _incidents(case: Case) -> Sentence:
    """Tell incidents and alerts: those that were found, and those that were told."""
    refs, parts, tone = ["drift_analysis.json#incidents"], [], "pass"
    found = sorted(case.incidents, key=lambda i: (not i.severe, -len(i.findings), i.start))
    if found:
        first = found[0]
        hit = count(len(first.findings), "series", "series")
        text = f"{count(len(found), 'incident')} found in the series"
        text += ": " if len(found) == 1 else ", the gravest "
        text += f"{place(first.region, None)}, {span(first.start, first.end, case.window)} ({hit})"
        parts.append(text)
        refs, tone = [first.id], "warn"
    else:
        counts = case.analysis["counts"]
        missing, asked = counts["missing"], counts["evaluations"]
        if missing == asked:
            parts.append("Whether there was an incident in the series is not known")
            tone = "no_data"
        else:
            few = f", {missing} of {asked} of which had no data" if missing else ""
            parts.append(f"No incident found in the series{few}")
    file = case.evidence("incidents")
    if file is None:
        parts.append("no incidents file that counts was given")
        tone = "no_data" if tone == "pass" else tone
    else:
        first_, last = case.window
        inside = [i for i in file.incidents if overlaps(i.start, i.end, first_, last)]
        refs.append("parameters/evidence_incidents.yaml")
        if inside:
            names = listing([f"{i.id} ({i.severity})" for i in inside])
            parts.append(f"the incidents file has {names}")
            tone = "fail" if any(i.severity == "sev1" for i in inside) else "warn"
        else:
            whole = file.covers.start <= first_ and file.covers.stop >= last
            parts.append(
                "the incidents file has none in the window"
                if whole
                else "the incidents file has none, but does not cover the whole window"
            )
            tone = tone if whole or tone != "pass" else "no_data"
    refs.append("ga_kpi_summary.json#alerts")
    if case.alerts.reason:
        parts.append(f"alerts are not known ({case.alerts.reason})")
    elif case.alerts.fired:
        text = f"{count(len(case.alerts.fired), 'alert')} fired"
        text += f", {case.alerts.count('critical')} critical"
        if ongoing := list(dict.fromkeys(a.name for a in case.alerts.fired if a.ongoing)):
            text += f"; still on at the end: {listing(ongoing)}"
        parts.append(text)
    else:
        parts.append("no alert fired")
    if not case.alerts.reason and case.alerts.known < 1:
        known = quantity(case.alerts.known, "ratio")
        parts.append(f"alerting rules were evaluated in {known} of the steps")
    return Sentence(f"{'; '.join(parts)}.", tone, tuple(refs))  # type: ignore[arg-type]


def _measured(case: Case) -> Sentence:
    """Tell the validation of the running system and the WebSocket sessions."""
    parts, refs, tones = [], [], []
    if case.validation is None:
        parts.append("the running system was not validated")
        tones.append("no_data")
    else:
        counts = case.validation["counts"]
        words = {"pass": "passed", "warn": "with a warning", "fail": "failed", "no_data": "no data"}
        some = [f"{counts[verdict]} {word}" for verdict, word in words.items() if counts[verdict]]
        total = count(sum(counts[verdict] for verdict in words), "check")
        parts.append(f"{total} of the running system: {listing(some, 4)}" if some else "no check")
        tones += [v for v in ("fail", "no_data", "warn") if counts[v]][:1] or ["pass"]
        refs.append("validation_results.json#counts")
    if case.sessions is None:
        parts.append("no WebSocket session was watched")
        tones.append("no_data")
    else:
        parts.append(_sessions(case.sessions))
        tones.append(case.sessions["verdict"])
        refs += [f"ws_health_metrics.json#{e['name']}" for e in case.sessions["endpoints"]]
    text = "; ".join(parts)
    tone = next((t for t in ("fail", "no_data", "warn") if t in tones), "pass")
    refs = refs or ["certification_metadata.json"]
    return Sentence(f"{text[0].upper()}{text[1:]}.", tone, tuple(refs))  # type: ignore[arg-type]


def _sessions(sessions: Facts) -> str:
    known = [e for e in sessions["endpoints"] if e["uptime"] is not None]
    if not known:
        return "the uptime of the WebSocket sessions is not known"
    worst = min(known, key=lambda e: (e["uptime"], e["name"]))
    limit = next((lim for lim in worst["limits"] if lim["name"] == "uptime"), None)
    target = None if limit is None else float(limit["limit"].split()[1])
    text = f"WebSocket uptime {quantity(worst['uptime'], 'ratio', limit=target)}"
    if len(sessions["endpoints"]) > 1:
        text += f" at the worst of {len(sessions['endpoints'])} endpoints, {worst['name']}"
    else:
        text += f" at {worst['name']}"
    if limit is not None:
        text += f" (limit {limit_text(limit['limit'], 'ratio')})"
    unknown = len(sessions["endpoints"]) - len(known)
    return text + (f"; {count(unknown, 'endpoint')} not known" if unknown else "")


def _coverage(case: Case) -> Sentence:
    """Tell what was not seen."""
    figures = {name: case.run.kpis.figure(name) for name in case.run.job.kpis}
    asked = {name: f for name, f in figures.items() if f.expected}
    silent = [name for name, f in asked.items() if not f.samples]
    ref = "ga_kpi_summary.json#kpis"
    if len(silent) == len(asked):
        return Sentence("Nothing was seen: no KPI has data.", "no_data", (ref,))
    if all(f.coverage == 1 for f in asked.values()):
        return Sentence(f"Every sample of {len(asked)} KPIs was seen.", "pass", (ref,))
    seen = {name: f for name, f in asked.items() if f.samples}
    least = min(seen, key=lambda name: seen[name].coverage)
    refs, parts = [f"{ref}/{least}"], []
    if seen[least].coverage < 1:
        share = quantity(seen[least].coverage, "ratio")
        parts.append(
            f"{share} of the samples of {case.run.job.kpis[least].title} were seen, the least of "
            f"any KPI{' with data' if silent else ''}"
        )
    if case.gaps:
        parts.append(f"no data at all from {case.gaps_text(2)}")
        refs.append(f"snapshots.jsonl#{AVAILABILITY}")
    if silent:
        titles = [case.run.job.kpis[name].title for name in silent]
        parts.append(f"{count(len(silent), 'KPI')} without any data: {listing(titles)}")
        refs += [f"{ref}/{name}" for name in silent]
    text = "; ".join(parts)
    text = text[0].upper() + text[1:]
    return Sentence(f"{text}.", "no_data" if silent else "warn", tuple(refs))


# --- as Markdown ----------------------------------------------------------------------------------


def bullets(
    items: Sequence[Sentence | Reason | Action | Quote],
    most: int | None = None,
    empty: str = "",
) -> str:
    """Write sentences as a Markdown list, with all that comes from data escaped."""
    kept = items if most is None else items[:most]
    lines = [f"- {md_escape(_line(each))}" for each in kept]
    if len(kept) < len(items):
        lines.append(f"- {len(items) - len(kept)} more.")
    return "\n".join(lines) or md_escape(empty)


def _line(each: Sentence | Reason | Action | Quote) -> str:
    if isinstance(each, Action):
        return f"{each.text} ({listing(each.answers)})" if each.answers else each.text
    if isinstance(each, Reason):
        return f"{each.text} {each.change}".strip()
    if isinstance(each, Quote):
        return f"“{each.text}” ({each.source})"
    return each.text


def timeline(found: Iterable[Event], most: int | None = None, empty: str = "") -> str:
    """Write events as a Markdown list in order of time, the gravest if there are too many."""
    kept, left_out = gravest(found, most)
    lines = [f"- {md_escape(f'{moment(e)} · {e.where} · {e.text}')}" for e in kept]
    if left_out:
        lines.append(f"- {left_out} lesser events are left out.")
    return "\n".join(lines) or md_escape(empty)


def moment(event: Event, window: tuple[int, int] | None = None) -> str:
    """Write when an event was, in UTC; without the date of the window, where that has but one."""
    if event.start is None:
        return "before"
    start, end = parse_time(event.start), parse_time(event.end) if event.end else None
    if window and event.phase == "window" and len(clock(start, window)) <= len("13:10:05"):
        text = clock(start, window) if event.ongoing else span(start, end, window)[: -len(" UTC")]
        return f"since {text}" if event.ongoing else text
    if event.ongoing:
        return f"since {when(start)}"
    if end in (None, start):
        return when(start)
    if event.start[:10] == str(event.end)[:10]:
        return f"{when(start)[: -len(' UTC')]}–{when(end)[len('2026-11-20 ') :]}"
    return interval(start, end)
