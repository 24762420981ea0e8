"""Regions compared: each with the primary, with the others, and with its own baseline.

A region *stands out* where it moved, and moved away from the median of the other regions. A shift
is *global* where every region moved the same way against its baseline, and *local* where one did.
Both are believed with the same care as a drift: correlated noise is accounted for, and p-values are
corrected over all KPIs and regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tars_ga_lib.change.shifts import Shift, fdr, scope, shifts, stands_out
from tars_ga_lib.drift import SIGNIFICANCE, baseline_days
from tars_ga_lib.grammar import format_time
from tars_ga_lib.kpis import Kpis
from tars_ga_lib.levels import level_matrix

Floats = NDArray[np.float64]

ENOUGH = 0.95
"""Coverage that a service needs on both sides for its region to be compared with it."""

NOTEWORTHY = 0.05
"""Share of the reference below which a difference between regions is not worth a reader's time."""


def compare(window: Kpis, baselines: Sequence[Kpis]) -> dict[str, Any]:
    """Compare the regions: the content of `cross_region.json`.

    Parameters
    ----------
    window
        KPIs of the window.
    baselines
        KPIs of each baseline interval, the latest first.
    """
    job = window.job
    names = [name for name, kpi in job.kpis.items() if window.regions(name) and not kpi.optional]
    found = {name: _kpi(name, window, baselines) for name in names}
    _correct([region["shift"] for kpi in found.values() for region in kpi["regions"].values()])
    _correct(
        [
            region["against_others"]
            for kpi in found.values()
            for region in kpi["regions"].values()
            if region["against_others"]
        ]
    )
    for kpi in found.values():
        kpi |= _conclusions(kpi["regions"])
    return {
        "schema": "tars-ga/cross-region/1",
        "significance": SIGNIFICANCE,
        "noteworthy": NOTEWORTHY,
        "primary_region": job.parameters.primary_region,
        "window": _interval(window),
        "baselines": [_interval(each) for each in baselines],
        "kpis": found,
        "request_share": _shares(window, baselines),
    }


def _interval(kpis: Kpis) -> dict[str, Any]:
    return {"start": format_time(kpis.span.start), "end": format_time(kpis.span.stop)}


def _difference(value: float | None, reference: float | None) -> dict[str, float | None]:
    """Absolute and relative difference; None where either side is missing."""
    if value is None or reference is None:
        return {"absolute": None, "relative": None}
    return {
        "absolute": value - reference,
        "relative": (value - reference) / abs(reference) if reference else None,
    }


def _kpi(name: str, window: Kpis, baselines: Sequence[Kpis]) -> dict[str, Any]:
    regions = window.regions(name)
    kpi = window.job.kpis[name]
    primary = window.job.parameters.primary_region
    figures = {region: window.figure(name, region) for region in regions}
    places = [(region, None) for region in regions]
    unlike = _unlike(name, window, baselines)
    like = [each.leaving_out(name, unlike) for each in baselines]
    now = level_matrix(window.leaving_out(name, unlike), name, places, like[0])
    days = baseline_days(like, name, places)
    before = days[:, 0] if days.shape[1] == 1 else days
    step = window.span.step
    moved = shifts(
        before,
        now,
        step=step,
        baseline_start=baselines[0].span.start,
        window_start=window.span.start,
    )
    whole = days.shape[2] == now.shape[1]
    apart = stands_out(now, step=step, baseline=before if whole else None) if len(now) > 1 else None
    facts = {}
    for i, region in enumerate(regions):
        others = [f.value for r, f in figures.items() if r != region and f.value is not None]
        facts[region] = {
            **figures[region].facts(),
            "from_primary": _difference(figures[region].value, figures[primary].value),
            "from_others": _difference(
                figures[region].value, float(np.median(others)) if others else None
            ),
            # What is missing on one side is left out on both: it would show as a change.
            "left_out": [service for r, service in unlike if r == region],
            # What the shifts below are shifts of: a counter's level is its increase a step.
            "level": _mean(now[i]),
            "shift": _shift(moved[i], window),
            "against_others": _shift(apart[i], window) if apart else None,
        }
    return {"title": kpi.title, "unit": kpi.unit, "better": kpi.better, "regions": facts}


def _unlike(
    name: str, window: Kpis, baselines: Sequence[Kpis]
) -> list[tuple[str | None, str | None]]:
    """Return the places that were not seen well enough on both sides to be compared."""
    if not window.services(name):
        return []
    return [
        place
        for place in window.places(name)
        if min(each.coverage(name, *place) for each in (window, *baselines)) < ENOUGH
    ]


def _shift(found: Shift, window: Kpis) -> dict[str, Any]:
    """Write a shift as JSON has it; the p-value is corrected later."""

    def number(value: float) -> float | None:
        return None if found.no_data or not np.isfinite(value) else float(value)

    def when(step: int | None) -> str | None:
        return None if step is None else format_time(window.span.start + step * window.span.step)

    return {
        "effect": number(found.effect),
        "low": number(found.low),
        "high": number(found.high),
        "relative": number(found.relative),
        "p_value": number(found.p_value),
        "adjusted_p": None,
        "kind": found.kind,
        "began": when(found.begin),
        "ended": when(found.end),
        "reason": found.reason,
    }


def _correct(found: Sequence[dict[str, Any]]) -> None:
    """Fill in the adjusted p-values of all shifts of one kind."""
    p_values = np.array([np.nan if s["p_value"] is None else s["p_value"] for s in found])
    for each, adjusted in zip(found, fdr(p_values), strict=True):
        each["adjusted_p"] = None if np.isnan(adjusted) else float(adjusted)


def _is_finding(found: dict[str, Any] | None, level: float | None) -> bool:
    """Whether a shift is significant, and large enough to matter beside the region's level."""
    if not found or found["adjusted_p"] is None or found["adjusted_p"] >= SIGNIFICANCE:
        return False
    return not level or abs(found["effect"]) >= NOTEWORTHY * abs(level)


def _mean(values: Floats) -> float | None:
    seen = values[~np.isnan(values)]
    return float(seen.mean()) if len(seen) else None


def _conclusions(regions: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Which regions stand out, and how far a shift reaches."""
    signs = [
        int(np.sign(r["shift"]["effect"])) if _is_finding(r["shift"], r["level"]) else 0
        for r in regions.values()
    ]
    # With few regions, one that moves also moves the median that the others are held against:
    # a region stands out only if it moved itself.
    return {
        "stand_out": [
            name
            for (name, r), sign in zip(regions.items(), signs, strict=True)
            if sign and _is_finding(r["against_others"], r["level"])
        ],
        "shifted": [name for name, sign in zip(regions, signs, strict=True) if sign],
        "scope": scope(signs),
    }


def _shares(window: Kpis, baselines: Sequence[Kpis]) -> dict[str, Any]:
    """Each region's share of all requests, now and in the latest baseline.

    A share needs every region: one that was not seen would make the others' shares too large.
    """
    name = "requests"
    if name not in window.job.kpis or window.job.kpis[name].kind != "counter":
        return {"reason": "the catalogue has no counter named requests", "regions": {}}
    regions = window.regions(name)
    now, before = (_rates(kpis, name, regions) for kpis in (window, baselines[0]))
    found = {}
    for region in regions:
        share, earlier = (_share(rates, region) for rates in (now, before))
        found[region] = {
            "share": share,
            "baseline": earlier,
            "change": None if share is None or earlier is None else share - earlier,
        }
    whole = all(each["share"] is not None for each in found.values())
    return {"reason": "" if whole else "a region was not seen", "regions": found}


def _rates(kpis: Kpis, name: str, regions: Sequence[str]) -> dict[str, float | None]:
    """Requests per observed step of each region, so that a gap in one favours no other."""
    rates: dict[str, float | None] = {}
    for region in regions:
        figure = kpis.figure(name, region)
        rates[region] = (
            figure.value / figure.samples if figure.value is not None and figure.samples else None
        )
    return rates


def _share(rates: dict[str, float | None], region: str) -> float | None:
    known = [rate for rate in rates.values() if rate is not None]
    own = rates[region]
    total = sum(known)
    return None if own is None or len(known) < len(rates) or not total else own / total
