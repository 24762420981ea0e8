"""What happened in the window: alerts and incidents on one clock, and where samples are missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tars_ga_lib import charts, kpis
from tars_ga_lib.charts import Chart
from tars_ga_lib.display import instant
from tars_ga_lib.run import Run
from tars_ga_lib.tables import Column, frame
from tars_ga_lib.views.common import ALL, Facts, place

if TYPE_CHECKING:
    import pandas as pd


def timeline(run: Run, analysis: Facts | None = None) -> Chart:
    """Draw alerts, incidents and drifts on the window's clock."""
    window = run.recording.window
    fired = kpis.alerts(run.job, window)
    labels = _labels(fired.fired)
    events = [
        charts.Event(
            alert.start,
            None if alert.ongoing else alert.end,
            labels[alert.name, alert.region, alert.service],
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


_MOST_ROWS = 12


def _labels(fired: Sequence[kpis.Alert]) -> dict[tuple[str, str | None, str | None], str]:
    """Name each alert's row; where there would be too many, one row for all of a region's services.

    So an outage that makes one alert of each service fire leaves room for everything else.
    """
    places = dict.fromkeys((each.name, each.region, each.service) for each in fired)
    if len(places) <= _MOST_ROWS:
        return {p: f"{p[0]} {place(p[1], p[2])}" for p in places}
    counts = Counter((name, region) for name, region, _ in places)
    return {
        (name, region, service): f"{name} {place(region, service)}"
        if counts[name, region] == 1
        else f"{name} {region or ALL} (of {counts[name, region]} services)"
        for name, region, service in places
    }


def alerts_table(run: Run, most: int = 12) -> pd.DataFrame:
    """Show the alerts that fired in the window."""
    fired = kpis.alerts(run.job, run.recording.window)
    rank = {"critical": 0, "warning": 1}
    rows = [
        [
            alert.severity if alert.severity in ("critical", "warning", "info") else "info",
            alert.name,
            place(alert.region, alert.service),
            instant(alert.start),
            "still firing" if alert.ongoing else alert.end - alert.start,
        ]
        for alert in sorted(fired.fired, key=lambda a: (rank.get(a.severity, 2), a.start))
    ]
    known = "" if fired.known == 1 else f"Rules were evaluated in {fired.known:.1%} of the steps."
    return frame(
        [
            Column("Severity", "verdict"),
            "Alert",
            "Where",
            Column("Since", unit="time"),
            Column("For", unit="duration", name="seconds"),
        ],
        rows,
        caption="Alerts",
        empty=f"NO DATA: {fired.reason}." if fired.reason else "No alert fired.",
        note=known,
        most=most,
        rest="The others are in ga_kpi_summary.json.",
    )


def coverage_chart(run: Run, kpi: str = "requests") -> Chart:
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
