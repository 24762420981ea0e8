"""Regions compared: who stands out, who shifted, who serves the traffic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tars_ga_lib import charts
from tars_ga_lib.charts import Chart
from tars_ga_lib.display import quantity
from tars_ga_lib.tables import Column, frame
from tars_ga_lib.views.common import Facts, Floats, as_far_as_known

if TYPE_CHECKING:
    import pandas as pd


STRIKING = 0.5
"""Score from which on a chart names a region in its title: 5 % off the others."""


def heatmap(comparison: Facts, names: Sequence[str] | None = None) -> Chart:
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
        title=_answer(scores, list(known.values()), texts),
        caption="Full colour: 10 % worse or better than the median of the other regions. Ratios "
        "differ in percentage points (pp), other KPIs in percent. White: no direction is better.",
    )


def _answer(scores: Floats, kpis: Sequence[Facts], texts: Sequence[Sequence[str]]) -> str:
    """Name the region and KPI that are farthest off the other regions."""
    if not np.isfinite(scores).any():
        return "Each region against the others"
    if np.nanmax(scores) < STRIKING:
        return "No region is far off the others"
    row, column = divmod(int(np.nanargmax(scores)), len(kpis))
    regions = list(kpis[0]["regions"])
    text = texts[row][column]
    return f"{kpis[column]['title']} of {regions[row]} is farthest off the other regions: {text}"


def shift_table(comparison: Facts, most: int = 12) -> pd.DataFrame:
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
    return frame(
        ["KPI", "Shift", "Regions, against their baseline", "Stands out"],
        rows,
        caption="Shifts by region",
        empty=as_far_as_known(
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


def delta_table(comparison: Facts, names: Sequence[str]) -> pd.DataFrame:
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
                    kpi["unit"],
                    facts["value"],
                    unit,
                    "primary" if primary else delta,
                    facts["coverage"],
                ]
            )
    return frame(
        [
            "KPI",
            "Region",
            Column("Unit", hidden=True),
            Column("Value", align="right", unit_from="unit"),
            Column("Delta unit", hidden=True),
            Column("From primary", align="right", unit_from="delta_unit", digits=3, signed=True),
            Column("Coverage", align="right", unit="ratio"),
        ],
        rows,
        caption="Regions against the primary",
    )


def share_table(comparison: Facts) -> pd.DataFrame:
    """Show each region's share of all requests, now and in the baseline."""
    shares = comparison["request_share"]
    rows = [
        [region, facts["share"], facts["baseline"], facts["change"]]
        for region, facts in shares["regions"].items()
    ]
    return frame(
        [
            "Region",
            Column("Window", align="right", unit="ratio"),
            Column("Baseline", align="right", unit="ratio"),
            Column("Change", align="right", unit="pp", digits=3, signed=True),
        ],
        rows,
        caption="Share of all requests",
        empty=f"NO DATA: {shares['reason']}.",
        note=f"NO DATA where {shares['reason']}." if shares["reason"] else "",
    )
