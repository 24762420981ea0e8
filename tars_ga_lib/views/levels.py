"""Service levels: charts and tables of KPIs, by region and by service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from IPython.display import Markdown

from tars_ga_lib import charts, kpis
from tars_ga_lib.charts import Chart, Limit
from tars_ga_lib.display import duration, md_escape, quantity, when
from tars_ga_lib.outages import AVAILABILITY, downtime, target
from tars_ga_lib.run import Run
from tars_ga_lib.tables import Column, frame
from tars_ga_lib.views.common import ALL, Facts, Floats, colours, incident_spans, no_chart
from tars_ga_lib.wording import place

WORSE: dict[str, charts.Worse] = {"higher": "down", "lower": "up", "either": "either"}
"""Which way is worse, by which way a KPI is better."""


def _limits(run: Run, kpi: str, label: str = "target") -> list[Limit]:
    """Return the target of the criterion on a KPI, to draw it as a line."""
    limit = target(run.job, kpi)
    return [Limit(limit.value, label)] if limit else []


def by_region(run: Run, kpi: str, service: str | None = None) -> pd.DataFrame:
    """Return a KPI at each step: a row a step's end, a column a region.

    A KPI that is not told by region has one column, `all`.
    """
    regions = run.kpis.regions(kpi)
    series = {region: run.kpis.series(kpi, region, service) for region in regions}
    return _frame(run, series or {ALL: run.kpis.series(kpi, None, service)})


def _frame(run: Run, series: dict[str, Floats]) -> pd.DataFrame:
    index = pd.DatetimeIndex(run.recording.window.times, name="step_end", tz="UTC")
    return pd.DataFrame(series, index=index)


def kpi_chart(
    run: Run,
    kpi: str,
    analysis: Facts | None = None,
    *,
    region: str | None = None,
    service: str | None = None,
) -> Chart:
    """Draw one KPI over the window, with its target: by region, or that of a region or service.

    Raises
    ------
    ParametersError
        If there is no such KPI, region or service; it names the nearest.
    """
    if kpi not in run.job.kpis:
        return no_chart(run, kpi)
    facts = run.job.kpis[kpi]
    if region is None:
        title = f"{facts.title} by region" + (f", {service}" if service else "")
        series = by_region(run, kpi, service)
    else:
        title = f"{facts.title}, {place(region, service)}"
        series = _frame(run, {region: run.kpis.series(kpi, region, service)})
    return charts.lines(
        series.index,
        series,
        title=title,
        unit=facts.unit,
        name=kpi,
        caption=facts.about,
        limits=_limits(run, kpi),
        spans=incident_spans(analysis),
        colors=colours(run),
        step=run.recording.window.step,
        floor=None if kpi == AVAILABILITY else 0.0,
        worse=WORSE[facts.better],
    )


def outage_chart(run: Run, analysis: Facts | None = None) -> Chart:
    """Draw for how long of each step a region was down, beside what its target allows in all."""
    if AVAILABILITY not in run.job.kpis:
        return no_chart(run, AVAILABILITY)
    step, shares = run.recording.window.step, by_region(run, AVAILABILITY)
    limit = target(run.job, AVAILABILITY)
    names = [str(name) for name in shares]
    down = {name: downtime(run.kpis, None if name == ALL else name) for name in names}
    allowed = (1 - limit.value) * len(shares) * step if limit else 0.0
    title = _down({name: lost for name, lost in down.items() if lost is not None}, allowed)
    return charts.lines(
        shares.index,
        {name: {name: (1 - shares[name]) * step} for name in names},
        title=title,
        unit="s",
        name=AVAILABILITY,
        caption=f"Availability as time lost: seconds of full outage in each {duration(step)}. A "
        "target that was not scraped at all is missing data, not an outage.",
        spans=incident_spans(analysis),
        colors=colours(run),
        step=step,
        fill=True,
        worse="up",
    )


def _down(lost: Mapping[str, float], allowed: float) -> str:
    """Say which of the regions that were seen were down for longer than is allowed in all."""
    if not lost or not allowed:
        return "Time down by region"
    over = [name for name, seconds in lost.items() if seconds > allowed]
    if not over:
        return f"No region that was seen was down for longer than the {duration(allowed)} allowed"
    worst = max(over, key=lambda name: lost[name])
    names = f"{', '.join(over[:3])}{' and others' if len(over) > 3 else ''}"
    return (
        f"{names} {'was' if len(over) == 1 else 'were'} down for longer than the "
        f"{duration(allowed)} allowed: {worst} for {duration(lost[worst])} in all"
    )


QUANTILES = {"P50": "#56B4E9", "P95": "#0072B2", "P99": "#12305C"}


def latency_chart(run: Run, analysis: Facts | None = None) -> Chart:
    """Draw P50, P95 and P99 of each region over the window, with the P99 target."""
    names = {q: f"latency_{q.lower()}" for q in QUANTILES if f"latency_{q.lower()}" in run.job.kpis}
    regions: list[str | None] = [*run.kpis.regions("latency_p99")] if "P99" in names else []
    series = {
        region or ALL: {q: run.kpis.series(name, region) for q, name in names.items()}
        for region in regions or [None]
    }
    figure = run.kpis.figure("latency_p99") if "P99" in names else None
    limits, title = _limits(run, "latency_p99", "P99 target"), "Latency by region"
    if figure and figure.value is not None and limits:
        side = "within" if figure.value <= limits[0].value else "beyond"
        value = quantity(figure.value, "s", limit=limits[0].value)
        title = f"P99 of the day was {value}, {side} its target of {quantity(limits[0].value, 's')}"
    return charts.lines(
        run.recording.window.times,
        series,
        title=title,
        unit="s",
        name="latency",
        caption="Latency of all requests of each region, from the summed histogram buckets, on a "
        "logarithmic axis.",
        limits=limits,
        spans=incident_spans(analysis),
        colors={q: charts.Style(color, "-") for q, color in QUANTILES.items()},
        step=run.recording.window.step,
        log=True,
        worse="up",
    )


def delta_chart(run: Run, kpi: str = "error_rate", analysis: Facts | None = None) -> Chart:
    """Draw how far each region's KPI is from the primary's, over the window."""
    if kpi not in run.job.kpis or not run.kpis.regions(kpi):
        return no_chart(run, kpi)
    primary = run.job.parameters.primary_region
    facts, series = run.job.kpis[kpi], by_region(run, kpi)
    differences = series.sub(series[primary], axis="index").drop(columns=primary)
    unit, title = "pp" if facts.unit == "ratio" else facts.unit, facts.title
    if np.isfinite(differences.to_numpy()).any():
        sign = {"down": -1.0}.get(WORSE[facts.better], 1.0)
        farthest = (differences * sign).max().idxmax()
        most = float((differences[farthest] * sign).max()) * sign
        worst: pd.Timestamp = (differences[farthest] * sign).idxmax()  # type: ignore[assignment]
        at = when(worst.timestamp())[11:16]
        difference = quantity(most, unit, digits=3, signed=True)
        title = f"{facts.title} of {farthest} was up to {difference} off {primary}, at {at}"
    return charts.lines(
        run.recording.window.times,
        differences,
        title=title,
        unit=unit,
        name=f"{kpi}-delta",
        caption=f"Each region's {facts.title.lower()} minus that of the primary region, per step.",
        spans=incident_spans(analysis),
        colors=colours(run),
        step=run.recording.window.step,
        signed=True,
        worse=WORSE[facts.better],
        height=1.9,
    )


def kpi_table(run: Run, names: Sequence[str] | None = None) -> pd.DataFrame:
    """Return every KPI over the window beside the baseline, with its coverage."""
    rows = []
    for name in names or run.job.kpis:
        kpi, now = run.job.kpis[name], run.kpis.figure(name)
        before = [span.figure(name).value for span in run.baseline_kpis[:1]] or [None]
        value = kpi_value(now)
        rows.append([name, kpi.title, kpi.unit, value, before[0], now.coverage, now.reason])
    return frame(
        [
            Column("Name", name="kpi", hidden=True),
            Column("KPI", name="title"),
            Column("Unit", hidden=True),
            Column("Window", align="right", unit_from="unit"),
            Column("Baseline", align="right", unit_from="unit"),
            Column("Coverage", align="right", unit="ratio"),
            Column("Note", optional=True),
        ],
        rows,
        caption="KPIs over all regions and services",
        note="Totals of counters are of the samples seen; coverage says how many those are.",
    )


def kpi_value(figure: kpis.KpiValue) -> float | str | None:
    """Return a KPI's value; of a percentile beyond the highest bucket, that it is higher."""
    return f"> {quantity(figure.value, figure.unit)}" if figure.beyond else figure.value


def main_kpis(run: Run) -> list[str]:
    """Return the KPIs that every run should have: those that are not optional."""
    return [name for name, kpi in run.job.kpis.items() if not kpi.optional]


def region_table(run: Run, names: Sequence[str]) -> pd.DataFrame:
    """Return chosen KPIs for each region."""
    names = [name for name in names if name in run.job.kpis and run.kpis.regions(name)]
    rows = [
        [region, *(kpi_value(run.kpis.figure(name, region)) for name in names)]
        for region in run.job.parameters.regions
    ]
    note = f"The primary region is {run.job.parameters.primary_region}."
    columns: list[Column | str] = ["Region", *_kpi_columns(run, names)]
    return frame(columns, rows, caption="Service levels by region", note=note)


def _kpi_columns(run: Run, names: Sequence[str]) -> list[Column]:
    known = [(name, run.job.kpis[name]) for name in names]
    return [Column(kpi.title, align="right", unit=kpi.unit, name=name) for name, kpi in known]


def service_table(run: Run, names: Sequence[str], most: int = 16) -> pd.DataFrame:
    """Show chosen KPIs for each service, the least available first."""
    names = [name for name in names if name in run.job.kpis and run.kpis.services(name)]

    def badness(service: str) -> float:
        value = run.kpis.figure(names[0], None, service).value if names else None
        return -1.0 if value is None else value

    rows = [
        [service, *(kpi_value(run.kpis.figure(name, None, service)) for name in names)]
        for service in sorted(run.job.parameters.services, key=badness)
    ]
    return frame(
        ["Service", *_kpi_columns(run, names)],
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
