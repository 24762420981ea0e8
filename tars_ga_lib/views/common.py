"""What the views share: names, colours and how places and times are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tars_ga_lib import charts, wording
from tars_ga_lib.charts import Chart
from tars_ga_lib.grammar import known_as, parse_time
from tars_ga_lib.run import Run

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

EXPECTED = (*KEY_KPIS, "requests", "request_rate")
"""KPIs that our notebooks name: a catalogue may be without them, any other name is a mistake."""


def colours(run: Run) -> dict[str, charts.Style]:
    """Return the look of each region, the same in every chart."""
    return charts.palette(run.job.parameters.regions)


def clock(time: str, analysis: Facts) -> str:
    """Write a time of the window, without its date where the window has but one."""
    window = analysis["window"]
    return wording.clock(parse_time(time), (parse_time(window["start"]), parse_time(window["end"])))


def incident_spans(analysis: Facts | None) -> list[charts.Span]:
    """Return the incidents that the drift analysis found, to shade in charts."""
    return [
        charts.Span(found["began"], found["ended"], f"incident {found['region'] or ''}".strip())
        for found in (analysis["incidents"] if analysis else ())
        if len(found["findings"]) > 1
    ]


def no_chart(run: Run, kpi: str) -> Chart:
    """Say that there is nothing to draw: a catalogue need not have a KPI that a notebook names.

    Raises
    ------
    ParametersError
        If no notebook of ours names it, so that it is mistyped; it names the nearest.
    """
    if kpi not in EXPECTED:
        known_as("KPI", kpi, run.job.kpis)
    caption = f"The catalogue of this run has no KPI named '{kpi}' that could be drawn here."
    return charts.nothing(kpi, kpi, "any series", caption)


def as_far_as_known(text: str, missing: int, asked: int) -> str:
    """Say that nothing was found, as far as there was something to look at."""
    if missing == asked:
        return "NO DATA: nothing could be compared."
    return f"{text} {missing} of {asked} comparisons had no data." if missing else text
