"""Drift from the baseline: findings, incidents, actions, and the days laid over each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tars_ga_lib import charts
from tars_ga_lib.charts import Chart
from tars_ga_lib.display import quantity, when
from tars_ga_lib.run import Run
from tars_ga_lib.tables import Column, frame
from tars_ga_lib.views.common import Facts, as_far_as_known, incident_spans, no_chart, place

if TYPE_CHECKING:
    import pandas as pd


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


def _none(text: str, analysis: Facts) -> str:
    counts = analysis["counts"]
    return as_far_as_known(text, counts["missing"], counts["evaluations"])


def drift_chart(analysis: Facts, most: int = 12) -> Chart:
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


def drift_table(analysis: Facts, most: int = 16) -> pd.DataFrame:
    """Return the figures of the window that drifted beyond a limit, the worst first."""
    rows = [
        [
            e["verdict"],
            e["title"],
            place(e["region"], e["service"]),
            e["unit"],
            e["baseline"],
            e["current"],
            *_change(e),
            _half_width(e),
            _since(e, analysis),
        ]
        for e in _moved(analysis)
    ]
    return frame(
        [
            Column("Verdict", "verdict"),
            "Rule",
            "Where",
            *_COMPARED,
            Column("± (95 %)", align="right", unit_from="drift_unit", digits=3, name="half_width"),
            "Since",
        ],
        rows,
        caption="Findings",
        empty=_none("No figure of the window drifted beyond a limit.", analysis),
        most=most,
        rest="The others are in drift_analysis.json.",
    )


_COMPARED = (
    Column("Unit", hidden=True),
    Column("Baseline", align="right", unit_from="unit"),
    Column("Window", align="right", unit_from="unit"),
    Column("Drift unit", hidden=True),
    Column("Drift", align="right", unit_from="drift_unit", digits=3, signed=True),
)


def _change(e: Facts) -> tuple[str, object]:
    """Return the unit of a drift, and the drift; in words where it is compared exactly."""
    if e["measure"] == "exact":
        return "", None if e["drift"] is None else "differs" if e["drift"] else "same"
    if e["measure"] == "relative":
        return "ratio", e["drift"]
    return "pp" if e["unit"] == "ratio" else e["unit"], e["drift"]


def _half_width(e: Facts) -> float | str:
    """Return the half width of an interval, which is symmetric."""
    if e["low"] is None:
        return "exact"
    half = (e["high"] - e["low"]) / 2
    return 0.0 if half < abs(e["drift"]) / 1000 else float(half)


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


def incident_table(analysis: Facts, most: int = 8) -> pd.DataFrame:
    """Show what passed within the window: incidents by region, with what they hit."""
    known = {e["id"]: e for e in analysis["evaluations"]}
    rows = []
    for each in sorted(analysis["incidents"], key=lambda i: -len(i["findings"])):
        found = [known[identity] for identity in each["findings"]]
        rules = list(dict.fromkeys(e["title"] for e in found))
        worst = known[each["worst"]["finding"]]
        # The figure of the incident's own minutes; the excess is weighted by the day's traffic.
        figure = quantity(each["worst"]["figure"], worst["unit"])
        rows.append(
            [
                place(each["region"], each["service"]),
                _from_to(each["began"], each["ended"], analysis),
                f"{len(found)} series of {', '.join(rules)}",
                f"{worst['title']} {place(None, worst['service'])}: {figure}",
            ]
        )
    return frame(
        ["Region", "When", "What it hit", "Worst"],
        rows,
        caption="Incidents that passed within the window",
        empty=_none("No incident was found in the series.", analysis),
        most=most,
        rest="The others are in drift_analysis.json.",
    )


def action_table(analysis: Facts) -> pd.DataFrame:
    """Show what to do, each with the findings that it answers."""
    names = {e["id"]: e["name"] for e in analysis["evaluations"]}
    rows = []
    for each in analysis["actions"]:
        shown = [names[identity] for identity in each["findings"][:3]]
        more = len(each["findings"]) - len(shown)
        rows.append([each["action"], "; ".join(shown) + (f"; {more} more" if more else "")])
    return frame(
        ["Recommended action", "Answers"],
        rows,
        caption="Recommended actions",
        empty=_none("There is no finding to act on.", analysis),
    )


def baseline_table(analysis: Facts, most: int = 12) -> pd.DataFrame:
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
    return frame(
        ["KPI", "Where", "Problem", "When"],
        rows,
        caption="Problems of the baseline",
        empty="No incident, gap or trend of its own was found in the baseline.",
        most=most,
        rest="The others are in drift_analysis.json.",
    )


def alarm_table(analysis: Facts, most: int = 12) -> pd.DataFrame:
    """Show when each significant change could first have been known."""
    names = {e["id"]: e["name"] for e in analysis["evaluations"]}
    rows = [[when(time), names[identity]] for identity, time in analysis["first_alarms"].items()]
    return frame(
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
) -> Chart:
    """Lay a KPI of the window over its baseline by the hour of the day."""
    if kpi not in run.job.kpis:
        return no_chart(run, kpi)
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


def evaluation_table(
    analysis: Facts,
    kpi: str,
    region: str | None = None,
    service: str | None = None,
    most: int = 16,
) -> pd.DataFrame:
    """Show every evaluation of a KPI, what passed and what is missing included, the worst first."""
    rank = {"fail": 0, "warn": 1, "no_data": 2, "pass": 3}
    found = [
        e
        for e in analysis["evaluations"]
        if e["kpi"] == kpi and region in (None, e["region"]) and service in (None, e["service"])
    ]
    rows = [
        [
            e["verdict"],
            e["title"],
            place(e["region"], e["service"]),
            e["unit"],
            e["baseline"],
            e["current"],
            *_change(e),
            _limits_text(e),
            e["reason"].replace("_", " "),
        ]
        for e in sorted(found, key=lambda e: rank[e["verdict"]])
    ]
    return frame(
        [
            Column("Verdict", "verdict"),
            "Rule",
            "Where",
            *_COMPARED,
            Column("Limits", align="right"),
            Column("Note", optional=True),
        ],
        rows,
        caption=f"Drift evaluations of {kpi}, {place(region, service)}",
        empty="No drift rule is laid over this KPI there.",
        most=most,
        rest="The others are in drift_analysis.json.",
    )


def _limits_text(e: Facts) -> str:
    if e["measure"] == "exact":
        return "any difference"
    return " / ".join(
        change_text(e[limit], e["measure"], e["unit"], signed=False)
        for limit in ("warning", "critical")
    )


def worst_overlays(run: Run, analysis: Facts, most: int = 3) -> list[Chart]:
    """Lay the worst measured findings over their baselines: one an incident, or else one a rule.

    The finding that the drift criterion rests on comes first.
    """
    incidents = {name: each["began"] for each in analysis["incidents"] for name in each["findings"]}
    decisive = analysis["stability"]["finding"]
    found = [e for e in _moved(analysis) if e["measure"] != "exact"]
    found.sort(key=lambda e: e["id"] != decisive)
    chosen: dict[object, Facts] = {}
    for e in found:
        in_incident = e["reason"] == "incident" or e["kind"] == "incident"
        event = (incidents.get(e["id"]), e["region"]) if in_incident else e["rule"]
        chosen.setdefault(event, e)
    return [overlay(run, e["kpi"], e["region"], e["service"]) for e in [*chosen.values()][:most]]
