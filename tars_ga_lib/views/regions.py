"""Regions compared: who stands out, who shifted, who serves the traffic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tars_ga_lib.display import quantity
from tars_ga_lib.tables import Column, frame
from tars_ga_lib.views.common import Facts, as_far_as_known

if TYPE_CHECKING:
    import pandas as pd


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
