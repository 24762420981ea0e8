"""A wide run, made without a server: as many regions and services as asked for, all SIMULATED.

It is for looks and sizes, not for statistics: one region is down for half an hour, another has no
data for two hours, some services need more memory or answer more slowly than in the baseline.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tars_ga_lib import parameters
from tars_ga_lib.parameters import Job
from tars_ga_lib.queries import Request, requests
from tests.helpers import ROOT, Rows, make_recording, make_span

EDGES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, "+Inf")
SHARES = np.array([0.05, 0.2, 0.5, 0.75, 0.92, 0.985, 0.996, 0.999, 0.9999, 1.0])
"""Share of the answers within each edge, in seconds."""


RULES = {
    "memory_usage": {
        "title": "Memory use", "kpi": "memory_usage", "category": "resource", "adverse": "up",
        "measure": "relative", "warning": 0.05, "critical": 0.1, "action": "Compare heap profiles.",
    }
}  # fmt: skip

FOUR_HOURS = [
    "window={start: 2026-11-20T00:00:00Z, duration: 4h, step: 5m}",
    "baseline={start: 2026-11-13T00:00:00Z, duration: 4h}",
]
"""Overrides for a window that is quicker to make."""


def regions(count: int) -> list[str]:
    """Return names of regions."""
    places = ("us-east", "us-west", "eu-central", "eu-west", "ap-southeast", "sa-east")
    return [f"{places[i % len(places)]}-{i // len(places) + 1}" for i in range(count)]


def services(count: int) -> list[str]:
    """Return names of services."""
    kinds = ("engine", "gateway", "worker", "scheduler", "store", "api")
    return [f"{kinds[i % len(kinds)]}-{i // len(kinds) + 1:02d}" for i in range(count)]


def write(
    folder: Path, names: Sequence[str], programs: Sequence[str], overrides: Sequence[str] = ()
) -> Job:
    """Write the recording and the parameters of a run with these regions and services.

    The window and the baseline are those of the demo unless told (a day in steps of five minutes),
    and there is one drift rule: to lay all of them over 720 places takes a quarter of a minute.
    """
    rules = folder.with_name(f"{folder.name}.rules.yaml")
    rules.parent.mkdir(parents=True, exist_ok=True)
    rules.write_text(f"rules: {json.dumps(RULES)}\n", encoding="utf-8")
    job = parameters.load(
        ROOT / "parameters" / "demo.yaml",
        [
            f"regions={json.dumps(list(names), ensure_ascii=False)}",
            f"services={json.dumps(list(programs), ensure_ascii=False)}",
            f"primary_region={json.dumps(names[0], ensure_ascii=False)}",
            f"drift_rules={rules}",
            *overrides,
        ],
    )
    steps = job.parameters.window.seconds // job.parameters.window.step
    spans = [
        make_span(job, {r.id: _rows(r, job, faults, steps) for r in requests(job)}, name)
        for name, faults in (("window", True), ("baseline_1", False))
    ]
    found = make_recording(*spans, simulated=True)
    found.save(folder / "recording")
    job.save(folder / "parameters", [(span.start, span.stop) for span in found.baselines])
    return job


def _rows(request: Request, job: Job, faults: bool, steps: int) -> Rows:
    """Return the series of one answer."""
    name, _, part = request.id.rpartition(".")
    if name == "scrapes":
        name, part = "availability", "targets" if part == "targets" else "denominator"
    if (name, part) == ("error_rate", "denominator"):
        name, part = "requests", "increase"  # every answer has its code
    if name == "alerts":
        return _alerts(request, job, part, faults, steps)
    kpi = job.kpis.get(name)
    wanted = {"region": job.parameters.regions, "service": list(job.parameters.services)}
    axes = [list(enumerate(wanted[dimension])) for dimension in request.by]
    rows: list[tuple[Mapping[str, str], Any]] = []
    for place in _product(axes):
        labels = {
            label: value for label, (_, value) in zip(request.by.values(), place, strict=True)
        }
        at = tuple(index for index, _ in place) or (0,)
        rng = np.random.default_rng([int(faults), *at, *name.encode()[:8]])
        noise = rng.normal(0.0, 0.01, steps)
        values = _values(part, str(getattr(kpi, "better", "higher")), name, noise)
        if faults:
            values = _faulty(values, name, part, at)
        if part == "buckets":
            rows += [
                ({**labels, "le": str(edge)}, np.round(values * share))
                for edge, share in zip(EDGES, SHARES, strict=True)
            ]
        else:
            rows.append((labels, values))
    return rows


def _product(axes: Sequence[list[tuple[int, str]]]) -> list[tuple[tuple[int, str], ...]]:
    found: list[tuple[tuple[int, str], ...]] = [()]
    for axis in axes:
        found = [(*before, each) for before in found for each in axis]
    return found


def _values(part: str, better: str, name: str, noise: Any) -> Any:
    """Return plausible values of one part of a KPI on a calm day."""
    if part == "targets":
        return np.ones_like(noise)
    if part == "denominator":
        return np.full_like(noise, 1000.0)
    if part == "numerator":
        if better == "higher":
            return np.round(1000 * (1 - 0.0002 * (1 + 10 * noise).clip(0)), 3)
        return np.round(1000 * (0.0003 if "error" in name else 0.3) * (1 + noise), 3)
    if part == "buckets":
        return np.round(2000 * (1 + noise))
    if better == "lower" and part == "value":
        return (
            1e9 * (1 + noise) if "memory" in name and "nodes" not in name else np.zeros_like(noise)
        )
    if better == "lower":
        return np.round(0.2 * (1 + noise))
    return np.round(1000 * (1 + noise)) if part == "increase" else np.round(12 + 0 * noise)


def _faulty(values: Any, name: str, part: str, at: tuple[int, ...]) -> Any:
    region, service = at[0], at[-1]
    if region == 2 and name == "availability" and part == "numerator":
        values[_at(values, 0.55, 0.58)] *= 0.4
    if region == 2 and name == "errors":
        values[_at(values, 0.55, 0.58)] = 60.0
    if region == 4:
        values[_at(values, 0.1, 0.19)] = np.nan
    if service % 7 == 3 and name in ("memory", "memory_usage"):
        values = values * (1.1 + 0.02 * region)
    return values


def _at(values: Any, start: float, end: float) -> slice:
    """Return the steps of a part of the window."""
    return slice(round(start * len(values)), max(round(end * len(values)), 1))


def _alerts(request: Request, job: Job, part: str, faults: bool, steps: int) -> Rows:
    if part == "evaluations":
        return [({}, 4.0)]
    if not faults or len(job.parameters.regions) < 3:
        return []
    firing = np.full(steps, np.nan)
    firing[_at(firing, 0.55, 0.58)] = 1.0
    given = list(request.by.values())
    return [
        (
            {"alertname": "HighErrorRate", "severity": "critical" if i < 2 else "warning",
             given[0]: job.parameters.regions[2], given[1]: service},
            firing,
        )
        for i, service in enumerate(list(job.parameters.services)[:24])
    ]  # fmt: skip
