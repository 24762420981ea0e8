"""What the notebooks show of a run: its data as tables, charts and the banner.

No figure is computed here. A view takes figures from the library, chooses which to show, and hands
them to `display` and `charts`; so a notebook cell is one call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from IPython.display import Markdown
from numpy.typing import NDArray

from tars_ga_lib import charts, kpis
from tars_ga_lib.display import Column, Decision, Figure, Table, duration, md_escape, quantity, when
from tars_ga_lib.parameters import Criterion, Limit
from tars_ga_lib.run import Run
from tars_ga_lib.wording import limit_text as limit_text
from tars_ga_lib.wording import value_text as value_text
from tars_ga_lib.wording import why as why

Floats = NDArray[np.float64]
Facts = Mapping[str, Any]

ALL = "all"

KEY_KPIS = (
    "availability",
    "error_rate",
    "latency_p95",
    "latency_p99",
    "db_latency_p95",
    "cache_hit_rate",
    "websocket_uptime",
)
"""KPIs that tables by region or service show, where the catalogue has them."""


def colours(run: Run) -> dict[str, charts.Style]:
    """Return the look of each region, the same in every chart."""
    return charts.palette(run.job.parameters.regions)


def place(region: str | None, service: str | None) -> str:
    """Write where a figure belongs."""
    return " / ".join(part for part in (region, service) if part) or ALL


# --- the decision --------------------------------------------------------------------------------


def banner(run: Run, certification: Facts) -> Decision:
    """Show the decision, what it is about and how complete its data is."""
    parameters, recording = run.job.parameters, run.recording
    window, baselines = recording.window, recording.baselines
    covered = [kpis.coverage for name in run.job.kpis if (kpis := run.kpis.figure(name)).expected]
    more = [("Baseline too", _interval(span.start, span.stop)) for span in baselines[1:]]
    problems = [("Problem", text) for text in recording.problems]
    return Decision(
        certification["decision"],
        why(certification),
        release=parameters.release.name,
        version=parameters.release.version,
        digest=parameters.release.digest or "",
        start=window.start,
        end=window.stop,
        baseline=(baselines[0].start, baselines[0].stop) if baselines else None,
        source=f"{recording.server} ({recording.version}), collected {recording.collected_at}",
        coverage=_coverage_text(covered),
        facts=[*more, *problems],
        fingerprint=recording.digest(),
        simulated=recording.simulated,
    )


def _interval(start: int, stop: int) -> str:
    return f"{when(start)} to {when(stop)}"


def _coverage_text(covered: Sequence[float]) -> str:
    if not covered:
        return "NO DATA"
    worst = sum(c < 1 for c in covered)
    known = sum(c > 0 for c in covered)
    if known == len(covered) and not worst:
        return f"complete for all {known} KPIs"
    return (
        f"{known} of {len(covered)} KPIs have data, the least complete "
        f"{quantity(min(covered), 'ratio')} of its samples"
    )


def criteria_table(certification: Facts) -> Table:
    """Show every criterion with its verdict, the mandatory ones first."""
    rows = []
    for outcome in sorted(certification["criteria"], key=lambda o: not o["mandatory"]):
        verdict = "waived" if outcome["waiver"] else outcome["verdict"]
        note = [] if outcome["mandatory"] else ["optional"]
        note += [part for part in (outcome["where"], outcome["reason"]) if part]
        if outcome["verdict"] == "warn" and not outcome["reason"]:
            note.append(f"warning limit {limit_text(outcome['warning'], outcome['unit'])}")
        rows.append(
            [
                outcome["title"],
                verdict,
                value_text(outcome),
                limit_text(outcome["target"], outcome["unit"]),
                "" if outcome["coverage"] is None else quantity(outcome["coverage"], "ratio"),
                "; ".join(note),
            ]
        )
    columns: list[Column | str] = [
        "Criterion",
        Column("Verdict", "verdict"),
        Column("Value", align="right"),
        Column("Target", align="right"),
        Column("Coverage", align="right"),
        "Note",
    ]
    return Table(columns, rows, caption="Criteria")


def waiver_table(certification: Facts) -> Table:
    """Show who accepted which failure, why and until when."""
    waivers = [o["waiver"] for o in certification["criteria"] if o["waiver"]]
    rows = [[w["criterion"], w["who"], w["why"], w["until"]] for w in waivers]
    return Table(
        ["Criterion", "Who", "Why", "Until"], rows, caption="Waivers", empty="Nothing is waived."
    )


def evidence_table(run: Run) -> Table:
    """Show the facts that no metric holds, and the files that were not given."""
    from tars_ga_lib.parameters import EVIDENCE_MODELS

    rows: list[list[object]] = []
    for kind in EVIDENCE_MODELS:
        facts = run.job.evidence.get(kind)
        given = None if facts is None else facts.source
        rows.append([kind, _facts_text(facts) if facts else None, given])
    return Table(
        ["Evidence", "What it says", "Source"],
        rows,
        caption="Evidence files",
        note="NO DATA: no such file was given to this run.",
    )


def _facts_text(facts: Any) -> str:
    """Write the plain facts of an evidence file in one line."""
    raw = facts.model_dump(mode="json", exclude_none=True, exclude={"source", "simulated"})
    parts = []
    for key, value in raw.items():
        name = key.replace("_", " ")
        if isinstance(value, list):
            parts.append(f"{len(value)} {name}")
        elif isinstance(value, dict):
            parts.append(f"{name} " + ", ".join(f"{k} {v}" for k, v in value.items()))
        else:
            text = {True: "yes", False: "no"}.get(value, value) if value in (True, False) else value
            parts.append(f"{name}: {text}")
    return "; ".join(parts) + (" (simulated)" if facts.simulated else "")


def notices(run: Run, certification: Facts) -> list[Table]:
    """Show what a reviewer must not overlook: waivers, and queries that went wrong."""
    found = [collection_table(run, problems_only=True)]
    if any(o["waiver"] for o in certification["criteria"]):
        found.insert(0, waiver_table(certification))
    return [table for table in found if table.rows]


# --- what happened -------------------------------------------------------------------------------


def incident_spans(analysis: Facts | None) -> list[charts.Span]:
    """Return the incidents that the drift analysis found, to shade in charts."""
    if analysis is None:
        return []
    return [
        charts.Span(each["began"], each["ended"], f"incident {each['region'] or ''}".strip())
        for each in analysis["incidents"]
        if len(each["findings"]) > 1
    ]


def timeline(run: Run, analysis: Facts | None = None) -> Figure:
    """Draw alerts, incidents and drifts on the window's clock."""
    window = run.recording.window
    fired = kpis.alerts(run.job, window)
    events = [
        charts.Event(
            alert.start,
            None if alert.ongoing else alert.end,
            f"{alert.name} {place(alert.region, alert.service)}",
            alert.severity if alert.severity in ("critical", "warning") else "info",  # type: ignore[arg-type]
        )
        for alert in fired.fired
    ]
    for each in analysis["incidents"] if analysis else []:
        if len(each["findings"]) > 1:
            label = f"incident {each['region'] or ''} ({len(each['findings'])} findings)"
            events.append(charts.Event(each["began"], each["ended"], label, "incident"))
    for incident in getattr(run.job.evidence.get("incidents"), "incidents", []):
        if incident.start < window.stop and (incident.end or window.stop) > window.start:
            label = f"{incident.id} {incident.severity} (incidents file)"
            events.append(charts.Event(incident.start, incident.end, label, "incident"))
    for finding in analysis["worst"] if analysis else []:
        if finding["began"] and finding["kind"] == "shift":
            events.append(charts.Event(finding["began"], None, finding["name"], "drift"))
    note = f" Alerts: NO DATA ({fired.reason})." if fired.reason else ""
    return charts.timeline(
        events,
        start=window.start,
        end=window.stop,
        caption="What happened in the window, UTC; an alert is known to the step." + note,
    )


def alerts_table(run: Run, most: int = 12) -> Table:
    """Show the alerts that fired in the window."""
    fired = kpis.alerts(run.job, run.recording.window)
    rank = {"critical": 0, "warning": 1}
    rows = [
        [
            alert.severity if alert.severity in ("critical", "warning", "info") else "info",
            alert.name,
            place(alert.region, alert.service),
            when(alert.start),
            "still firing" if alert.ongoing else duration(alert.end - alert.start),
        ]
        for alert in sorted(fired.fired, key=lambda a: (rank.get(a.severity, 2), a.start))
    ]
    known = "" if fired.known == 1 else f"Rules were evaluated in {fired.known:.1%} of the steps."
    return Table(
        [Column("Severity", "verdict"), "Alert", "Where", "Since", "For"],
        rows,
        caption="Alerts",
        empty=f"NO DATA: {fired.reason}." if fired.reason else "No alert fired.",
        note=known,
        most=most,
        rest="The others are in ga_kpi_summary.json.",
    )


def coverage_chart(run: Run, kpi: str = "requests") -> Figure:
    """Draw where samples are missing, by region: of one KPI that is told by service."""
    name = kpi if kpi in run.job.kpis else next(iter(run.job.kpis))
    series = {
        region: np.mean(
            [
                ~np.isnan(run.kpis.series(name, r, s))
                for r, s in run.kpis.places(name)
                if r == region
            ],
            axis=0,
        )
        for region in run.kpis.regions(name)
    }
    return charts.coverage(
        run.recording.window.times,
        series,
        step=run.recording.window.step,
        caption=f"Samples of the KPI '{run.job.kpis[name].title}' seen in each step, by region.",
    )


# --- service levels ------------------------------------------------------------------------------


def _target(run: Run, kpi: str) -> float | None:
    """Return the target of the mandatory criterion on a KPI, to draw it as a line."""
    found: list[Criterion] = [
        c for c in run.job.criteria.values() if c.kpi == kpi and c.scope == "overall"
    ]
    limit: Limit | None = found[0].target if found else None
    return limit.value if limit else None


def by_region(run: Run, kpi: str) -> dict[str, Floats]:
    """Series of a KPI in each region; of the whole where it is not told by region."""
    regions = run.kpis.regions(kpi)
    return {region: run.kpis.series(kpi, region) for region in regions} or {
        ALL: run.kpis.series(kpi)
    }


def _no_chart(run: Run, kpi: str) -> Figure:
    """Say that there is nothing to draw: a catalogue need not have a KPI of a certain name."""
    caption = f"The catalogue of this run has no KPI named '{kpi}' that could be drawn here."
    return charts.lines(run.recording.window.times, {}, title=kpi, caption=caption)


def kpi_chart(run: Run, kpi: str, analysis: Facts | None = None) -> Figure:
    """Draw one KPI by region over the window, with its target."""
    if kpi not in run.job.kpis:
        return _no_chart(run, kpi)
    facts = run.job.kpis[kpi]
    target = _target(run, kpi)
    draw = charts.availability if kpi == "availability" else charts.lines
    common: dict[str, Any] = {
        "title": f"{facts.title} by region",
        "name": kpi,
        "caption": facts.about,
        "spans": incident_spans(analysis),
        "colors": colours(run),
        "step": run.recording.window.step,
    }
    if kpi == "availability":
        common["limit"] = target
    else:
        common["unit"] = facts.unit
        common["limits"] = [] if target is None else [charts.Limit(target)]
    return draw(run.recording.window.times, by_region(run, kpi), **common)


def latency_chart(run: Run, analysis: Facts | None = None) -> Figure:
    """Draw P50, P95 and P99 of all requests over the window, with the P99 target."""
    names = {"P50": "latency_p50", "P95": "latency_p95", "P99": "latency_p99"}
    series = {q: run.kpis.series(name) for q, name in names.items() if name in run.job.kpis}
    return charts.latency(
        run.recording.window.times,
        series,
        limit=_target(run, "latency_p99"),
        spans=incident_spans(analysis),
        step=run.recording.window.step,
        caption="Latency of all requests of all regions, from the summed histogram buckets.",
    )


def delta_chart(run: Run, kpi: str = "error_rate", analysis: Facts | None = None) -> Figure:
    """Draw how far each region's KPI is from the primary's, over the window."""
    if kpi not in run.job.kpis or not run.kpis.regions(kpi):
        return _no_chart(run, kpi)
    primary = run.job.parameters.primary_region
    facts, series = run.job.kpis[kpi], by_region(run, kpi)
    differences = {r: values - series[primary] for r, values in series.items() if r != primary}
    return charts.region_delta(
        run.recording.window.times,
        differences,
        primary=primary,
        title=f"{facts.title}: difference from {primary}",
        unit="pp" if facts.unit == "ratio" else facts.unit,
        spans=incident_spans(analysis),
        colors=colours(run),
        step=run.recording.window.step,
        name=f"{kpi}-delta",
        caption=f"Each region's {facts.title.lower()} minus that of the primary region, per step.",
    )


def kpi_table(run: Run, names: Sequence[str] | None = None) -> Table:
    """Show every KPI over the window beside the baseline, with its coverage."""
    rows = []
    for name in names or run.job.kpis:
        kpi, now = run.job.kpis[name], run.kpis.figure(name)
        before = [each.figure(name).value for each in run.baseline_kpis]
        rows.append(
            [
                kpi.title,
                kpi_text(now),
                quantity(before[0] if before else None, kpi.unit),
                quantity(now.coverage, "ratio"),
                now.reason,
            ]
        )
    return Table(
        [
            "KPI",
            Column("Window", align="right"),
            Column("Baseline", align="right"),
            Column("Coverage", align="right"),
            "Note",
        ],
        rows,
        caption="KPIs over all regions and services",
        note="Totals of counters are of the samples seen; coverage says how many those are.",
    )


def kpi_text(figure: kpis.KpiValue) -> str:
    """Write a KPI's value; a percentile beyond the highest bucket is a lower bound."""
    text = quantity(figure.value, figure.unit)
    return f"> {text}" if figure.beyond else text


def region_table(run: Run, names: Sequence[str]) -> Table:
    """Show chosen KPIs for each region."""
    names = [name for name in names if name in run.job.kpis and run.kpis.regions(name)]
    rows = [
        [region, *(kpi_text(run.kpis.figure(name, region)) for name in names)]
        for region in run.job.parameters.regions
    ]
    primary = run.job.parameters.primary_region
    return Table(
        ["Region", *(Column(run.job.kpis[name].title, align="right") for name in names)],
        rows,
        caption="Service levels by region",
        note=f"The primary region is {primary}.",
    )


def service_table(run: Run, names: Sequence[str], most: int = 16) -> Table:
    """Show chosen KPIs for each service, the least available first."""
    names = [name for name in names if name in run.job.kpis and run.kpis.services(name)]
    order = names[0] if names else ""

    def badness(service: str) -> float:
        value = run.kpis.figure(order, None, service).value if order else None
        return -1.0 if value is None else value

    rows = [
        [service, *(kpi_text(run.kpis.figure(name, None, service)) for name in names)]
        for service in sorted(run.job.parameters.services, key=badness)
    ]
    return Table(
        ["Service", *(Column(run.job.kpis[name].title, align="right") for name in names)],
        rows,
        caption="Service levels by service, the least available first",
        most=most,
        rest="The others are in ga_kpi_summary.json.",
    )


def cost_note(run: Run) -> Markdown:
    """Write the cost estimate in one sentence."""
    facts = kpis.cost(run.kpis)
    if facts["usd_per_hour"] is None:
        return Markdown(md_escape(f"Estimated cost: NO DATA ({facts['reason']})."))
    return Markdown(
        f"Estimated cost: {facts['usd_per_hour']:.2f} USD per hour at "
        f"{facts['usd_per_core_hour']:g} USD per core and {facts['usd_per_gib_hour']:g} USD per "
        "GiB, without network and storage."
    )


# --- drift ---------------------------------------------------------------------------------------


def change_text(value: float | None, measure: str, unit: str, signed: bool = True) -> str:
    """Write a change in the measure of its rule."""
    if measure == "relative":
        return quantity(value, "ratio", digits=3, signed=signed)
    if measure == "points":
        return quantity(value, "pp" if unit == "ratio" else unit, digits=3, signed=signed)
    return "differs" if value else "same"


def _moved(analysis: Facts) -> list[Facts]:
    """Return the findings whose figure of the whole window moved, the worst first.

    What was only striking for a part of the window is told as an incident.
    """
    found = [e for e in analysis["evaluations"] if e["verdict"] in ("warn", "fail")]
    return sorted(
        (e for e in found if e["reason"] != "incident"),
        key=lambda e: (e["verdict"] != "fail", -_multiple(e, e["drift"]), e["id"]),
    )


def _multiple(evaluation: Facts, change: float) -> float:
    """Return a change as a multiple of its critical limit, to rank what has different units."""
    if evaluation["measure"] == "exact":
        return 1.0
    return float(abs(change / evaluation["critical"]))


def _as_far_as_known(text: str, missing: int, asked: int) -> str:
    """Say that nothing was found, as far as there was something to look at."""
    if missing == asked:
        return "NO DATA: nothing could be compared."
    return f"{text} {missing} of {asked} comparisons had no data." if missing else text


def _none(text: str, analysis: Facts) -> str:
    counts = analysis["counts"]
    return _as_far_as_known(text, counts["missing"], counts["evaluations"])


def drift_chart(analysis: Facts, most: int = 12) -> Figure:
    """Draw the worst drifts with their intervals against their own limits.

    Where none is worth a finding, the largest of those within their limits are drawn.
    """
    measured = [
        e for e in analysis["evaluations"] if e["measure"] != "exact" and e["low"] is not None
    ]
    found = [e for e in _moved(analysis) if e["measure"] != "exact"]
    found += [e for e in measured if e["reason"] == "uncertain"]
    found = found or sorted(measured, key=lambda e: -_multiple(e, e["drift"]))
    return charts.drift(
        [_mark(e) for e in found[:most]],
        caption="Drift of the window's figures, with 95 % intervals, as a multiple of each rule's "
        "critical limit.",
    )


def _mark(e: Facts) -> charts.Mark:
    """Turn an evaluation so that adverse is positive."""
    sign = {"up": 1.0, "down": -1.0}.get(e["adverse"]) or float(np.sign(e["drift"]) or 1)
    low, high = sorted(sign * x for x in (e["low"], e["high"]))
    text = change_text(e["drift"], e["measure"], e["unit"])
    limits = e["warning"], e["critical"]
    return charts.Mark(e["name"], sign * e["drift"], low, high, *limits, e["verdict"], text)


def drift_table(analysis: Facts, most: int = 16) -> Table:
    """Show the figures of the window that drifted beyond a limit, the worst first."""
    rows = [
        [
            e["verdict"],
            e["title"],
            place(e["region"], e["service"]),
            quantity(e["baseline"], e["unit"]),
            quantity(e["current"], e["unit"]),
            change_text(e["drift"], e["measure"], e["unit"]),
            _interval_text(e),
            _since(e, analysis),
        ]
        for e in _moved(analysis)
    ]
    return Table(
        [
            Column("Verdict", "verdict"),
            "Rule",
            "Where",
            Column("Baseline", align="right"),
            Column("Window", align="right"),
            Column("Drift", align="right"),
            Column("± (95 %)", align="right"),
            "Since",
        ],
        rows,
        caption="Findings",
        empty=_none("No figure of the window drifted beyond a limit.", analysis),
        most=most,
        rest="The others are in drift_analysis.json.",
    )


def _interval_text(e: Facts) -> str:
    """Write the half width of an interval, which is symmetric."""
    if e["low"] is None:
        return "exact"
    half = (e["high"] - e["low"]) / 2
    if half < abs(e["drift"]) / 1000:
        return "±\xa00"
    return f"±\xa0{change_text(half, e['measure'], e['unit'], signed=False)}"


def _since(e: Facts, analysis: Facts) -> str:
    if e["kind"] == "trend":
        return "growing" if e["slope_per_hour"] > 0 else "falling"
    if e["kind"] == "incident" and e["began"] and e["ended"]:
        return _from_to(e["began"], e["ended"], analysis)
    return _clock(e["began"], analysis) if e["began"] else "before the window"


def _from_to(began: str, ended: str, analysis: Facts) -> str:
    """Write a part of the window."""
    return f"{_clock(began, analysis)} to {_clock(ended, analysis)}".replace(" to ", "–", 1)


def _clock(time: str, analysis: Facts) -> str:
    """Write a time of the window, without its date where the window has but one."""
    window = analysis["window"]
    one_day = window["steps"] * window["step_seconds"] <= 86400
    return time[11:16] if one_day and window["start"][11:16] == "00:00" else when(time)


def incident_table(analysis: Facts, most: int = 8) -> Table:
    """Show what passed within the window: incidents by region, with what they hit."""
    known = {e["id"]: e for e in analysis["evaluations"]}
    rows = []
    for each in sorted(analysis["incidents"], key=lambda i: -len(i["findings"])):
        found = [known[identity] for identity in each["findings"]]
        rules = list(dict.fromkeys(e["title"] for e in found))
        worst = max(found, key=lambda e: _multiple(e, e["incident"]["excess"]))
        excess = change_text(worst["incident"]["excess"], worst["measure"], worst["unit"])
        rows.append(
            [
                each["region"] or ALL,
                _from_to(each["began"], each["ended"], analysis),
                f"{len(found)} series of {', '.join(rules)}",
                f"{worst['title']} {place(None, worst['service'])}: {excess}",
            ]
        )
    return Table(
        ["Region", "When", "What it hit", "Worst"],
        rows,
        caption="Incidents that passed within the window",
        empty=_none("No incident was found in the series.", analysis),
        most=most,
        rest="The others are in drift_analysis.json.",
    )


def action_table(analysis: Facts) -> Table:
    """Show what to do, each with the findings that it answers."""
    names = {e["id"]: e["name"] for e in analysis["evaluations"]}
    rows = []
    for each in analysis["actions"]:
        shown = [names[identity] for identity in each["findings"][:3]]
        more = len(each["findings"]) - len(shown)
        rows.append([each["action"], "; ".join(shown) + (f"; {more} more" if more else "")])
    return Table(
        ["Recommended action", "Answers"],
        rows,
        caption="Recommended actions",
        empty=_none("There is no finding to act on.", analysis),
    )


def drift_counts(analysis: Facts) -> Table:
    """Show how many evaluations there were, by category and verdict."""
    verdicts = ("pass", "warn", "fail", "no_data")
    rows = [
        [category, *(str(counts[v]) for v in verdicts)]
        for category, counts in analysis["counts"]["by_category"].items()
    ]
    total = analysis["counts"]["by_verdict"]
    rows.append(["all", *(str(total[v]) for v in verdicts)])
    heads = ("Pass", "Warning", "Critical", "No data")
    return Table(
        ["Category", *(Column(h, align="right") for h in heads)], rows, caption="Drift evaluations"
    )


def baseline_table(analysis: Facts, most: int = 12) -> Table:
    """Show what makes the baseline doubtful."""
    rows = [
        [
            p["title"],
            place(p["region"], p["service"]),
            p["problem"].replace("_", " "),
            f"{when(p['began'])} to {when(p['ended'])}",
        ]
        for p in analysis["baseline_problems"]
    ]
    return Table(
        ["KPI", "Where", "Problem", "When"],
        rows,
        caption="Problems of the baseline",
        empty="No incident, gap or trend of its own was found in the baseline.",
        most=most,
        rest="The others are in drift_analysis.json.",
    )


def alarm_table(analysis: Facts, most: int = 12) -> Table:
    """Show when each significant change could first have been known."""
    names = {e["id"]: e["name"] for e in analysis["evaluations"]}
    rows = [[when(time), names[identity]] for identity, time in analysis["first_alarms"].items()]
    return Table(
        ["First alarm", "Evaluation"],
        sorted(rows),
        caption="First alarms, if it had been watched step by step",
        empty=_none("No alarm would have been raised.", analysis),
        most=most,
        rest="The others are in drift_analysis.json.",
    )


def overlay(
    run: Run,
    kpi: str,
    region: str | None = None,
    service: str | None = None,
    analysis: Facts | None = None,
) -> Figure:
    """Lay a KPI of the window over its baseline by the hour of the day."""
    if kpi not in run.job.kpis:
        return _no_chart(run, kpi)
    facts, before = run.job.kpis[kpi], run.baseline_kpis[0]
    where = place(region, service)
    return charts.overlay(
        before.span.times,
        before.series(kpi, region, service),
        run.recording.window.times,
        run.kpis.series(kpi, region, service),
        title=f"{facts.title}, {where}",
        unit=facts.unit,
        spans=incident_spans(analysis),
        step=run.recording.window.step,
        caption=f"{facts.title} of {where}: the window over the baseline, and their difference.",
    )


def worst_overlays(run: Run, analysis: Facts, most: int = 3) -> list[Figure]:
    """Lay the worst measured findings over their baselines."""
    found = [e for e in _moved(analysis) if e["measure"] != "exact"]
    return [overlay(run, e["kpi"], e["region"], e["service"]) for e in found[:most]]


# --- regions -------------------------------------------------------------------------------------


def heatmap(comparison: Facts, names: Sequence[str] | None = None) -> Figure:
    """Draw regions by KPIs: how far each region is from the median of the others."""
    known = {
        name: kpi for name, kpi in comparison["kpis"].items() if names is None or name in names
    }
    regions = list(next(iter(known.values()))["regions"]) if known else []
    scores = np.full((len(regions), len(known)), np.nan)
    texts = [["NO DATA"] * len(known) for _ in regions]
    for j, kpi in enumerate(known.values()):
        # For a KPI with no better direction, colour says only how far away the region is.
        sign = -1.0 if kpi["better"] == "higher" else 1.0
        for i, region in enumerate(regions):
            change = kpi["regions"][region]["from_others"]
            by_ratio = kpi["unit"] == "ratio"
            value = change["absolute"] if by_ratio else change["relative"]
            if value is None:
                continue
            texts[i][j] = quantity(value, "pp" if by_ratio else "ratio", digits=2, signed=True)
            relative = change["relative"] if change["relative"] is not None else 0.0
            scores[i, j] = 0.0 if kpi["better"] == "either" else sign * relative / 0.10
    return charts.heatmap(
        regions,
        [kpi["title"] for kpi in known.values()],
        scores,
        texts,
        title="Each region against the median of the others",
        caption="Full colour: 10 % worse or better than the median of the other regions. Ratios "
        "differ in percentage points (pp), other KPIs in percent. White: no direction is better.",
    )


def shift_table(comparison: Facts, most: int = 12) -> Table:
    """Show which KPIs shifted from the baseline, where, and which region stands out."""
    compared = [region for kpi in comparison["kpis"].values() for region in kpi["regions"].values()]
    rows = []
    for kpi in comparison["kpis"].values():
        if kpi["scope"] == "none" and not kpi["stand_out"]:
            continue
        moves = ", ".join(
            f"{region} {_move(kpi['regions'][region]['shift'], kpi['unit'])}"
            for region in kpi["shifted"]
        )
        rows.append([kpi["title"], kpi["scope"], moves, ", ".join(kpi["stand_out"]) or "none"])
    return Table(
        ["KPI", "Shift", "Regions, against their baseline", "Stands out"],
        rows,
        caption="Shifts by region",
        empty=_as_far_as_known(
            "No region shifted from its baseline, and none stands out.",
            sum(bool(region["shift"]["reason"]) for region in compared),
            len(compared),
        ),
        note="global: every region moved the same way; local: one did; partial: some did.",
        most=most,
        rest="The others are in cross_region.json.",
    )


def _move(shift: Facts, unit: str) -> str:
    if shift["relative"] is not None:
        return quantity(shift["relative"], "ratio", digits=3, signed=True)
    return quantity(shift["effect"], unit, digits=3, signed=True)


def delta_table(comparison: Facts, names: Sequence[str]) -> Table:
    """Show chosen KPIs of each region and their delta from the primary."""
    rows = []
    for name in names:
        if name not in comparison["kpis"]:
            continue
        kpi = comparison["kpis"][name]
        for region, facts in kpi["regions"].items():
            primary = region == comparison["primary_region"]
            unit = "pp" if kpi["unit"] == "ratio" else kpi["unit"]
            delta = facts["from_primary"]["absolute"]
            rows.append(
                [
                    kpi["title"],
                    region,
                    quantity(facts["value"], kpi["unit"]),
                    "primary" if primary else quantity(delta, unit, digits=3, signed=True),
                    quantity(facts["coverage"], "ratio"),
                ]
            )
    return Table(
        [
            "KPI",
            "Region",
            Column("Value", align="right"),
            Column("From primary", align="right"),
            Column("Coverage", align="right"),
        ],
        rows,
        caption="Regions against the primary",
    )


def share_table(comparison: Facts) -> Table:
    """Show each region's share of all requests, now and in the baseline."""
    shares = comparison["request_share"]
    rows = [
        [
            region,
            quantity(facts["share"], "ratio"),
            quantity(facts["baseline"], "ratio"),
            quantity(facts["change"], "pp", digits=3, signed=True),
        ]
        for region, facts in shares["regions"].items()
    ]
    return Table(
        ["Region", *(Column(h, align="right") for h in ("Window", "Baseline", "Change"))],
        rows,
        caption="Share of all requests",
        empty=f"NO DATA: {shares['reason']}.",
        note=f"NO DATA where {shares['reason']}." if shares["reason"] else "",
    )


# --- where it all came from ----------------------------------------------------------------------


def collection_table(run: Run, *, problems_only: bool = False) -> Table:
    """Show what each query brought: series, samples, and what went wrong."""
    rows = []
    for span, each in run.recording.provenance():
        trouble = "; ".join([each.error, *each.warnings]).strip("; ")
        if not trouble and not each.series and each.id != "alerts.firing":
            trouble = "the query returned nothing"
        if each.nonfinite:
            trouble = "; ".join(filter(None, [trouble, f"{each.nonfinite} samples not finite"]))
        if problems_only and not trouble:
            continue
        rows.append([each.id, span.name, str(each.series), str(each.samples), trouble])
    if problems_only:
        rows = _same_taken_together(rows)
    return Table(
        [
            "Query",
            "Span",
            Column("Series", align="right"),
            Column("Samples", align="right"),
            "Note",
        ],
        rows,
        caption="Problems of the collection" if problems_only else "What was collected",
        empty="Every query was answered, without a warning.",
    )


def _same_taken_together(rows: Sequence[list[str]]) -> list[list[str]]:
    """Make one row of many queries with the same trouble: a server that is down is told once."""
    found: dict[str, list[list[str]]] = {}
    for row in rows:
        found.setdefault(row[-1], []).append(row)
    return [
        row if len(same) < 4 else [f"{len(same)} queries", "", "", "", trouble]
        for trouble, same in found.items()
        for row in (same if len(same) < 4 else same[:1])
    ]


def provenance_table(run: Run) -> Table:
    """Show each query that the figures rest on, with the digest of its samples."""
    rows = [
        [
            each.id,
            " ".join(each.template.split()),
            _seen(run, each.id),
            each.digest.removeprefix("sha256:")[:12],
        ]
        for span, each in run.recording.provenance()
        if span.name == "window"
    ]
    step = run.recording.window.step
    columns: list[Column | str] = [
        "Query",
        Column("PromQL", "code"),
        Column("Coverage", align="right"),
        Column("Samples", "code"),
    ]
    return Table(
        columns,
        rows,
        caption="Queries of the window",
        note=f"$step is {duration(step)}, $by the dimensions, and $match the regions and services "
        "of the run; recording/recording.json has every query as it was sent. The last column is "
        "the beginning of the SHA-256 of the samples.",
    )


def _seen(run: Run, identity: str) -> str:
    """Write the coverage of a query's KPI; alerts have none."""
    name = identity.partition(".")[0]
    return quantity(run.kpis.figure(name).coverage, "ratio") if name in run.job.kpis else ""


def changes_since_previous(run: Run, certification: Facts, analysis: Facts) -> list[Table]:
    """Show what changed since the last certified release, if the run was given one."""
    previous = run.job.parameters.previous
    if previous is None:
        empty = "NO DATA: the last certified release was not given to this run."
        return [Table(["What", "Change"], [], caption="Last certified release", empty=empty)]
    from tars_ga_lib import history

    now = history.facts_of(certification, run.read("ga_kpi_summary.json"), analysis)
    return history.tables(history.difference(history.facts(previous), now))
