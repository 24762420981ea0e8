"""What happened in the window: alerts and incidents on one clock, and where samples are missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tars_ga_lib import charts
from tars_ga_lib.charts import Chart
from tars_ga_lib.display import instant
from tars_ga_lib.facts import DRIFT, Facts, Incident, RunFacts
from tars_ga_lib.run import Run
from tars_ga_lib.tables import Column, frame
from tars_ga_lib.timeline import Event, events
from tars_ga_lib.wording import count, listing, place

if TYPE_CHECKING:
    import pandas as pd

_MOST_ROWS = 12


def timeline(run: Run, analysis: Facts | None = None) -> Chart:
    """Draw alerts, incidents and drifts on the window's clock; None where alerts are not known."""
    window = run.recording.window
    nothing: dict[str, Any] = {"evaluations": [], "incidents": [], "first_alarms": {}}
    known = RunFacts(run, {DRIFT: analysis or nothing})
    singles = [leaf for event in events(known) for leaf in event.leaves]
    bars = [
        charts.Event(
            leaf.begin,
            None if leaf.ongoing else leaf.end,
            _label(leaf, singles),
            leaf.kind if leaf.kind in ("incident", "drift") else leaf.tone,  # type: ignore[arg-type]
        )
        for leaf in singles
        if leaf.kind in ("alert", "incident", "drift") and leaf.phase == "window"
    ]
    note = f" Alerts: NO DATA ({known.run.alerts.reason})." if known.run.alerts.reason else ""
    return charts.timeline(
        bars,
        start=window.start,
        end=window.stop,
        title=_title(bars),
        caption="What happened in the window, UTC; an alert is known to the step." + note,
    )


def _title(bars: Sequence[charts.Event]) -> str:
    """Say how much happened."""
    kinds = {"incident": 0, "drift": 0, "alert": 0}
    for bar in bars:
        kinds[bar.severity if bar.severity in kinds else "alert"] += 1
    some = [count(number, kind) for kind, number in kinds.items() if number]
    return f"{listing(some)} in the window" if some else "Alerts and incidents"


def _label(leaf: Event, singles: Sequence[Event]) -> str:
    """Name an event's row.

    Where there would be too many, one row holds all of a region's services: an outage that makes
    one alert of each service fire leaves room for everything else.
    """
    if leaf.kind == "drift":
        return leaf.name
    if leaf.kind == "incident":
        hit = f" ({len(leaf.raw.findings)} findings)" if isinstance(leaf.raw, Incident) else ""
        return f"incident {leaf.where}{hit}" if hit else leaf.text
    alerts = {(one.name, one.places[0]) for one in singles if one.kind == "alert"}
    region = leaf.places[0][0]
    number = sum((name, where) == (leaf.name, region) for name, (where, _) in alerts)
    if len(alerts) <= _MOST_ROWS or number == 1:
        return f"{leaf.name} {leaf.where}"
    return f"{leaf.name} {region or 'all'} (of {number} services)"


def alerts_table(run: Run, most: int = 12) -> pd.DataFrame:
    """Show the alerts that fired in the window."""
    fired = run.alerts
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
