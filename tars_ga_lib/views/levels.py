"""Service levels: charts and tables of KPIs, by region and by service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import Markdown

from tars_ga_lib import charts, kpis
from tars_ga_lib.catalogues import Criterion
from tars_ga_lib.charts import Chart
from tars_ga_lib.display import md_escape, quantity, when
from tars_ga_lib.grammar import Limit
from tars_ga_lib.run import Run
from tars_ga_lib.tables import Column, frame
from tars_ga_lib.views.common import (
    ALL,
    Facts,
    Floats,
    colours,
    incident_spans,
    no_chart,
    place,
)

WORSE: dict[str, charts.Worse] = {"higher": "down", "lower": "up", "either": "either"}
"""Which way is worse, by which way a KPI is better."""


def _target(run: Run, kpi: str) -> float | None:
    """Return the target of the mandatory criterion on a KPI, to draw it as a line."""
    found: list[Criterion] = [
        c for c in run.job.criteria.values() if c.kpi == kpi and c.scope == "overall"
    ]
    limit: Limit | None = found[0].target if found else None
    return limit.value if limit else None


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
    target = _target(run, kpi)
    draw = charts.availability if kpi == "availability" else charts.lines
    common: dict[str, Any] = {
        "title": f"{facts.title} by region" + (f", {service}" if service else ""),
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
        common["worse"] = WORSE[facts.better]
        common["limits"] = [] if target is None else [charts.Limit(target)]
    if region is not None:
        common["title"] = f"{facts.title}, {place(region, service)}"
        series = _frame(run, {region: run.kpis.series(kpi, region, service)})
    else:
        series = by_region(run, kpi, service)
    return draw(run.recording.window.times, series, **common)


def latency_chart(run: Run, analysis: Facts | None = None) -> Chart:
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


def delta_chart(run: Run, kpi: str = "error_rate", analysis: Facts | None = None) -> Chart:
    """Draw how far each region's KPI is from the primary's, over the window."""
    if kpi not in run.job.kpis or not run.kpis.regions(kpi):
        return no_chart(run, kpi)
    primary = run.job.parameters.primary_region
    facts, series = run.job.kpis[kpi], by_region(run, kpi)
    differences = series.sub(series[primary], axis="index").drop(columns=primary)
    return charts.region_delta(
        run.recording.window.times,
        differences,
        primary=primary,
        title=f"{facts.title}: difference from {primary}",
        unit="pp" if facts.unit == "ratio" else facts.unit,
        worse=WORSE[facts.better],
        spans=incident_spans(analysis),
        colors=colours(run),
        step=run.recording.window.step,
        name=f"{kpi}-delta",
        caption=f"Each region's {facts.title.lower()} minus that of the primary region, per step.",
    )


def kpi_table(run: Run, names: Sequence[str] | None = None) -> pd.DataFrame:
    """Return every KPI over the window beside the baseline, with its coverage."""
    rows = []
    for name in names or run.job.kpis:
        kpi, now = run.job.kpis[name], run.kpis.figure(name)
        before = [each.figure(name).value for each in run.baseline_kpis]
        rows.append(
            [
                name, kpi.title, kpi.unit, kpi_value(now), before[0] if before else None,
                now.coverage, now.reason,
            ]
        )  # fmt: skip
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
    primary = run.job.parameters.primary_region
    return frame(
        ["Region", *_kpi_columns(run, names)],
        rows,
        caption="Service levels by region",
        note=f"The primary region is {primary}.",
    )


def _kpi_columns(run: Run, names: Sequence[str]) -> list[Column]:
    kpis_of = [run.job.kpis[name] for name in names]
    return [
        Column(kpi.title, align="right", unit=kpi.unit, name=name)
        for name, kpi in zip(names, kpis_of, strict=True)
    ]


def service_table(run: Run, names: Sequence[str], most: int = 16) -> pd.DataFrame:
    """Show chosen KPIs for each service, the least available first."""
    names = [name for name in names if name in run.job.kpis and run.kpis.services(name)]
    order = names[0] if names else ""

    def badness(service: str) -> float:
        value = run.kpis.figure(order, None, service).value if order else None
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


def figure_table(
    run: Run, kpi: str, region: str | None = None, service: str | None = None
) -> pd.DataFrame:
    """Return one KPI of one place, or of all, with its extremes and its coverage."""
    if kpi not in run.job.kpis:
        return frame(["KPI"], [], empty=no_chart(run, kpi).caption)
    facts = run.job.kpis[kpi]
    spans = [("Window", run.kpis), *(("Baseline", each) for each in run.baseline_kpis)]
    rows: list[list[object]] = []
    for title, span in spans:
        figure, series = span.figure(kpi, region, service), span.series(kpi, region, service)
        extremes: list[object] = [None, "", None, ""]
        if not np.isnan(series).all():
            low, high = int(np.nanargmin(series)), int(np.nanargmax(series))
            times = span.span.times
            extremes = [series[low], when(times[low]), series[high], when(times[high])]
        rows.append([title, kpi_value(figure), *extremes, figure.coverage, figure.reason])
    return frame(
        [
            "Span",
            Column("Figure", align="right", unit=facts.unit),
            Column("Lowest step", align="right", unit=facts.unit),
            Column("At", name="lowest_at"),
            Column("Highest step", align="right", unit=facts.unit),
            Column("At", name="highest_at"),
            Column("Coverage", align="right", unit="ratio"),
            Column("Note", optional=True),
        ],
        rows,
        caption=f"{facts.title}, {place(region, service)}",
        note=facts.about,
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
