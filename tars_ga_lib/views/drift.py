"""Drift from the baseline: findings, incidents, actions, and the days laid over each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tars_ga_lib import charts
from tars_ga_lib.charts import Chart
from tars_ga_lib.display import quantity, when
from tars_ga_lib.run import Run
from tars_ga_lib.tables import Column, frame
from tars_ga_lib.views.common import (
    Facts,
    Floats,
    as_far_as_known,
    clock,
    incident_spans,
    no_chart,
)
from tars_ga_lib.wording import change, place, whereabouts

if TYPE_CHECKING:
    import pandas as pd

REST = "The others are in drift_analysis.json."


def moved(analysis: Facts) -> list[Facts]:
    """Return the findings whose figure of the whole window moved, the worst first.

    What was only striking for a part of the window is told as an incident.
    """
    found = [e for e in analysis["evaluations"] if e["verdict"] in ("warn", "fail")]
    return sorted(
        (e for e in found if e["reason"] != "incident"),
        key=lambda e: (e["verdict"] != "fail", -_multiple(e, e["drift"]), e["id"]),
    )


def groups(analysis: Facts) -> list[list[Facts]]:
    """Return what moved, the services of one rule, region, verdict and kind together."""
    found: dict[tuple[object, ...], list[Facts]] = {}
    for e in moved(analysis):
        key = e["rule"], e["region"], e["verdict"], e["kind"]
        found.setdefault(key if e["region"] and e["service"] else (e["id"],), []).append(e)
    return list(found.values())


def group_place(analysis: Facts, group: Sequence[Facts]) -> str:
    """Write where a group is: its one place, or how many of the region's services."""
    first = group[0]
    every = {
        e["service"]
        for e in analysis["evaluations"]
        if e["service"] and (e["rule"], e["region"]) == (first["rule"], first["region"])
    }
    return whereabouts([(e["region"], e["service"]) for e in group], len(every))


def _multiple(evaluation: Facts, change: float) -> float:
    """Return a change as a multiple of its critical limit, to rank what has different units."""
    exact = evaluation["measure"] == "exact"
    return 1.0 if exact else float(abs(change / evaluation["critical"]))


def _none(text: str, analysis: Facts) -> str:
    counts = analysis["counts"]
    return as_far_as_known(text, counts["missing"], counts["evaluations"])


def drift_chart(analysis: Facts, most: int = 12) -> Chart:
    """Draw the worst drifts with their intervals against their own limits, a group a row.

    Where none is worth a finding, the largest of those within their limits are drawn.
    """
    measured = [
        e for e in analysis["evaluations"] if e["measure"] != "exact" and e["low"] is not None
    ]
    found = [group for group in groups(analysis) if group[0]["measure"] != "exact"]
    critical = sum(group[0]["verdict"] == "fail" for group in found)
    title = f"{len(found)} drifts beyond their limits, {critical} of them critical"
    found += [[e] for e in measured if e["reason"] == "uncertain"]
    if not found:
        title = "No drift is beyond its limit; these are the largest" if measured else "Drift"
        found = [[e] for e in sorted(measured, key=lambda e: -_multiple(e, e["drift"]))]
    return charts.drift(
        [_mark(group[0], group_place(analysis, group)) for group in found[:most]],
        title=title,
        caption="Drift of the window's figures with 95 % intervals, as a multiple of each rule's "
        "critical limit; of several services the worst.",
    )


def _mark(e: Facts, where: str) -> charts.Mark:
    """Turn an evaluation so that adverse is positive."""
    sign = {"up": 1.0, "down": -1.0}.get(e["adverse"]) or float(np.sign(e["drift"]) or 1)
    low, high = (
        sorted(sign * x for x in (e["low"], e["high"])) if e["low"] is not None else (None, None)
    )
    text = change(e["drift"], e["measure"], e["unit"])
    limits = e["warning"], e["critical"]
    label = f"{e['title']}, {where}"
    return charts.Mark(label, sign * e["drift"], low, high, *limits, e["verdict"], text)


def findings_table(analysis: Facts, most: int = 12) -> pd.DataFrame:
    """Return what drifted beyond a limit, the services of one rule and region in one row."""
    rows = [
        [
            group[0]["verdict"],
            group[0]["title"],
            group_place(analysis, group),
            _range(group, "baseline"),
            _range(group, "current"),
            _changes(group),
            _since(group, analysis),
        ]
        for group in groups(analysis)
    ]
    return frame(
        [
            Column("Verdict", "verdict"),
            "What drifted",
            "Where",
            Column("Baseline", align="right"),
            Column("Window", align="right"),
            Column("Change", align="right"),
            "When",
        ],
        rows,
        caption="Drifts beyond their limits",
        empty=_none("No figure of the window drifted beyond a limit.", analysis),
        most=most,
        rest="The appendix has the others.",
    )


def _range(group: Sequence[Facts], key: str) -> str:
    """Write the figures of a group, from the lowest to the highest."""
    low, high = (f(e[key] for e in group) for f in (min, max))
    texts = [quantity(x, group[0]["unit"], digits=3) for x in (low, high)]
    return texts[0] if texts[0] == texts[1] else f"{texts[0]} to {texts[1]}"


def _changes(group: Sequence[Facts]) -> str:
    first, values = group[0], sorted((e["drift"] for e in group), key=abs)
    texts = [change(x, first["measure"], first["unit"]) for x in (values[0], values[-1])]
    return texts[0] if texts[0] == texts[1] else f"{texts[0]} to {texts[1]}"


def _since(group: Sequence[Facts], analysis: Facts) -> str:
    """Write since when, or from when to when, a group is beyond its limits."""
    e, begun = group[0], [e["began"] for e in group if e["began"]]
    if e["kind"] == "trend":
        text = "growing" if e["slope_per_hour"] > 0 else "falling"
        return f"{text} since {clock(min(begun), analysis)}" if begun else f"{text} all day"
    ended = [e["ended"] for e in group if e["ended"]]
    if e["kind"] == "incident" and begun and ended:
        return f"{clock(min(begun), analysis)}–{clock(max(ended), analysis)}"
    return f"since {clock(min(begun), analysis)}" if begun else "since before the window"


def drift_table(
    analysis: Facts,
    kpi: str | None = None,
    region: str | None = None,
    service: str | None = None,
    most: int | None = None,
) -> pd.DataFrame:
    """Return every figure of the window that drifted beyond a limit, the worst first.

    With a KPI all that was evaluated of it, what passed and what is missing included.
    """
    found, caption = moved(analysis), "Findings"
    if kpi is not None:
        caption = f"Drift evaluations of {kpi}, {place(region, service)}"
        rank = ("fail", "warn", "no_data", "pass")
        found = sorted(
            (
                e
                for e in analysis["evaluations"]
                if e["kpi"] == kpi
                if region in (None, e["region"]) and service in (None, e["service"])
            ),
            key=lambda e: rank.index(e["verdict"]),
        )
    rows = [
        [
            e["verdict"],
            e["title"],
            place(e["region"], e["service"]),
            *_compared(e),
            _half_width(e),
            _limits_text(e),
            _since([e], analysis) if e["verdict"] in ("warn", "fail") else "",
            e["reason"].replace("_", " "),
        ]
        for e in found
    ]
    return frame(
        [
            Column("Verdict", "verdict"),
            "Rule",
            "Where",
            Column("Unit", hidden=True),
            Column("Baseline", align="right", unit_from="unit"),
            Column("Window", align="right", unit_from="unit"),
            Column("Drift unit", hidden=True),
            Column("Drift", align="right", unit_from="drift_unit", digits=3, signed=True),
            Column("± (95 %)", align="right", unit_from="drift_unit", digits=3, name="half_width"),
            Column("Limits", align="right"),
            Column("When", optional=True),
            Column("Note", optional=True),
        ],
        rows,
        caption=caption,
        empty="No drift rule is laid over this KPI there."
        if kpi
        else _none("No figure of the window drifted beyond a limit.", analysis),
        most=most,
        rest=REST,
    )


def _compared(e: Facts) -> list[object]:
    """Return the figures with their units; a drift in words where it is compared exactly."""
    drift: object = e["drift"]
    unit = "ratio" if e["measure"] == "relative" else "pp" if e["unit"] == "ratio" else e["unit"]
    if e["measure"] == "exact" and drift is not None:
        drift = change(e["drift"], "exact", "")
    return [e["unit"], e["baseline"], e["current"], unit, drift]


def _half_width(e: Facts) -> float | str:
    """Return the half width of an interval, which is symmetric."""
    if e["low"] is None:
        return "exact" if e["measure"] == "exact" else ""
    half = (e["high"] - e["low"]) / 2
    return 0.0 if half < abs(e["drift"]) / 1000 else float(half)


def incident_table(analysis: Facts, most: int = 8) -> pd.DataFrame:
    """Show what passed within the window: incidents by region, with what they hit."""
    known = {e["id"]: e for e in analysis["evaluations"]}
    rows = []
    for incident in sorted(analysis["incidents"], key=lambda i: -len(i["findings"])):
        found = [known[identity] for identity in incident["findings"]]
        rules = list(dict.fromkeys(e["title"] for e in found))
        worst = known[incident["worst"]["finding"]]
        # The figure of the incident's own minutes; the excess is weighted by the day's traffic.
        figure = quantity(incident["worst"]["figure"], worst["unit"])
        times = [clock(incident[key], analysis) for key in ("began", "ended")]
        rows.append(
            [
                place(incident["region"], incident["service"]),
                "–".join(times),
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
        rest=REST,
    )


def action_table(analysis: Facts) -> pd.DataFrame:
    """Show what to do, each with the findings that it answers."""
    names = {e["id"]: e["name"] for e in analysis["evaluations"]}
    rows = []
    for action in analysis["actions"]:
        shown = [names[identity] for identity in action["findings"][:3]]
        more = len(action["findings"]) - len(shown)
        rows.append([action["action"], "; ".join(shown) + (f"; {more} more" if more else "")])
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
        rest=REST,
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
        rest=REST,
    )


def overlay(
    run: Run,
    kpi: str,
    region: str | None = None,
    service: str | None = None,
    analysis: Facts | None = None,
    title: str = "",
) -> Chart:
    """Lay a KPI of the window over its baselines by the hour of the day."""
    if kpi not in run.job.kpis:
        return no_chart(run, kpi)
    facts, times = run.job.kpis[kpi], run.recording.window.times
    where = place(region, service)
    series, looks = {}, {}
    for before in run.baseline_kpis:
        name = f"baseline {when(before.span.start)[:10]}"
        values = before.series(kpi, region, service)
        series[name] = like_hours(times, before.span.times, values, run.recording.window.step)
        looks[name] = charts.MUTED
    series["window"] = run.kpis.series(kpi, region, service)
    looks["window"] = charts.Style(charts.OKABE_ITO[0], "-")
    return charts.lines(
        times,
        series,
        title=title or f"{facts.title}, {where}",
        name=f"{facts.title}, {where}",
        unit=facts.unit,
        spans=incident_spans(analysis),
        colors=looks,
        step=run.recording.window.step,
        floor=None,
        caption=f"{facts.title} of {where}: the window over the baseline, like hours together.",
    )


def like_hours(times: Any, before: Any, values: Floats, step: int) -> Floats:
    """Return the values of a baseline at the same hours of a window's days, NaN where it has none.

    Beyond one day the baseline is laid from the window's first day on. `times` and `before` are
    the ends of steps.
    """
    ends, old = (np.asarray(t).astype("datetime64[s]").astype(np.int64) for t in (times, before))
    if not ends.size or not old.size:
        return np.full(ends.size, np.nan)
    moved_by = -(-(ends[0] - step // 2 - old[0]) // 86400) * 86400
    laid = old + moved_by
    if ends[-1] - ends[0] < 86400:  # one day at most: what comes late belongs to the morning
        laid = np.where(laid > ends[0] + 86400 - step // 2, laid - 86400, laid)
    known = dict(zip(laid.tolist(), values.tolist(), strict=True))
    return np.array([known.get(t, np.nan) for t in ends.tolist()])


def _limits_text(e: Facts) -> str:
    if e["measure"] == "exact":
        return "any difference"
    limits = (e["warning"], e["critical"])
    return " / ".join(change(x, e["measure"], e["unit"]) for x in limits)


def worst_overlays(run: Run, analysis: Facts, most: int = 3) -> list[Chart]:
    """Lay the worst lasting drifts over their baselines, one a rule; the deciding one first.

    What an incident moved has a chart of its own.
    """
    decisive = analysis["stability"]["finding"]
    found = [e for e in moved(analysis) if e["measure"] != "exact" and e["kind"] != "incident"]
    chosen: dict[str, Facts] = {}
    for e in sorted(found, key=lambda e: e["id"] != decisive):
        chosen.setdefault(e["rule"], e)
    return [
        overlay(run, e["kpi"], e["region"], e["service"], title=_answer(e, analysis))
        for e in [*chosen.values()][:most]
    ]


def _answer(e: Facts, analysis: Facts) -> str:
    """Write what a chart of one finding shows."""
    text = f"{e['title']} of {e['service'] or 'all'} in {e['region']}" if e["region"] else e["name"]
    changed = change(e["drift"], e["measure"], e["unit"])
    if e["kind"] == "trend":
        slope = quantity(abs(e["slope_per_hour"]), e["unit"], digits=3)
        verb = "grew" if e["slope_per_hour"] > 0 else "fell"
        return f"{text} {verb} by {slope} an hour; its mean is {changed} off the baseline"
    return f"{text} is {changed} off the baseline, {_since([e], analysis)}"
