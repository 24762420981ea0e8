"""KPI figures: every total, ratio and percentile that is told anywhere is computed here.

A figure of a window, a region or a service is computed from the recorded increments and gauges: a
total is a sum of increments, a ratio is total over total, a percentile comes from the summed
buckets. Ratios and percentiles are never averaged. Each figure carries its coverage: the samples
that were seen over those that were expected.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tars_ga_lib.catalogues import Kpi
from tars_ga_lib.grammar import format_time
from tars_ga_lib.intervals import runs
from tars_ga_lib.parameters import Job, Parameters
from tars_ga_lib.queries import EVALUATIONS, FIRING, dimensions
from tars_ga_lib.recording import INFO, Recording, SampleSet, Span

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class KpiValue:
    """One number of the report, or the reason why there is none.

    `samples` of `expected` step samples were seen. `bounds` are the edges of the histogram bucket
    that a percentile was interpolated in; with `beyond`, it lies above the highest edge, and
    `value` is only a lower bound. `worst_series_coverage` is the coverage of the worst of the
    series that the figure joins.
    """

    value: float | None
    unit: str
    samples: int
    expected: int
    worst_series_coverage: float
    reason: str = ""
    bounds: tuple[float, float] | None = None
    beyond: bool = False

    @property
    def coverage(self) -> float:
        """Samples seen over samples expected, 0..1."""
        return self.samples / self.expected if self.expected else 0.0

    def facts(self) -> dict[str, Any]:
        """Return the figure as the JSON files have it."""
        facts: dict[str, Any] = {
            "value": self.value,
            "coverage": self.coverage,
            "samples": self.samples,
            "expected": self.expected,
        }
        if self.bounds:
            facts["between"] = list(self.bounds)
        if self.beyond:
            facts["beyond_highest_bucket"] = True
        if self.reason:
            facts["reason"] = self.reason
        return facts


_JOINS: dict[str, Callable[[Floats], Floats]] = {
    "sum": lambda values: values.sum(axis=0),
    "mean": lambda values: values.mean(axis=0),
    "max": lambda values: values.max(axis=0),
    "min": lambda values: values.min(axis=0),
    "last": lambda values: np.asarray(values[-1]),
}
"""Ways to join values along their first axis: series into a region, or steps into a window."""


class Extreme(NamedTuple):
    """The lowest or highest step of a series: its value and the end of its step."""

    value: float
    time: np.datetime64


def quantile(q: float, edges: Floats, counts: Floats) -> tuple[Floats, Floats, Floats]:
    """Percentile of cumulative histogram buckets, as Prometheus' `histogram_quantile` has it.

    Linear interpolation inside the bucket; the first bucket begins at 0 where its edge is positive;
    above the highest finite edge that edge is answered. Source: Prometheus documentation, "Query
    functions", `histogram_quantile`.

    Parameters
    ----------
    q
        The quantile, 0..1.
    edges
        Upper edges in rising order, the last +Inf; shape (buckets,).
    counts
        Cumulative counts, shape (buckets, …).

    Returns
    -------
    value, lower, upper
        Each of the shape of `counts` without its first axis, NaN where nothing was counted.
        `upper` is +Inf where the percentile lies above the highest finite edge.
    """
    counts = np.maximum.accumulate(counts, axis=0)  # increments of racing scrapes can dip
    total = counts[-1]
    rank = q * total
    with np.errstate(invalid="ignore"):
        bucket = np.minimum((counts < rank).sum(axis=0), len(edges) - 1)
    upper = edges[bucket]
    first_edge = min(0.0, float(edges[0]))
    lower = np.where(bucket > 0, edges[np.maximum(bucket - 1, 0)], first_edge)
    below = np.where(
        bucket > 0, np.take_along_axis(counts, np.maximum(bucket - 1, 0)[None], 0)[0], 0.0
    )
    inside = np.take_along_axis(counts, bucket[None], 0)[0] - below
    share = np.divide(rank - below, inside, out=np.zeros_like(rank), where=inside > 0)
    width = np.where(np.isfinite(upper), upper - lower, 0.0)
    value = lower + width * np.clip(share, 0.0, 1.0)
    empty = ~(total > 0)
    return tuple(np.where(empty, np.nan, x) for x in (value, lower, upper))  # type: ignore[return-value]


class _Cells:
    """Samples of one query laid out by region and service: shape (parts, R, S, T), NaN = missing.

    `parts` are the histogram's edges, else one.
    """

    def __init__(self, kpi: Kpi, part: str, parameters: Parameters, span: Span) -> None:
        by = dimensions(kpi, parameters)
        self.regions = parameters.regions if "region" in by else []
        self.services = parameters.services if "service" in by else []
        shape = (max(1, len(self.regions)), max(1, len(self.services)), span.steps)
        self.edges: Floats = np.array([np.inf])
        self.set = span.find(kpi.queries()[part], by)
        self.problem = self._problem(self.set)
        rows = self._rows(by, part == "buckets") if self.set else []
        if len({(place, edge) for _, place, edge in rows}) < len(rows):
            # Which of them is meant cannot be known.
            self.problem = "the query returns several series for one place; sum them by ($by)"
            rows = []
        if part == "buckets" and rows:
            self.edges = self._common_edges(rows)
            if len(self.edges) < 2 or np.isfinite(self.edges[-1]):
                self.problem = "its series have no buckets in common, or none is le=+Inf"
                self.edges, rows = np.array([np.inf]), []
        self.values = np.full((len(self.edges), *shape), np.nan)
        at = {edge: i for i, edge in enumerate(self.edges)}
        for row, place, edge in rows:
            assert self.set is not None
            if edge in at:
                self.values[(at[edge], *place)] = self.set.values[row]
        self.values[~np.isfinite(self.values)] = np.nan
        # A histogram's step is whole only if every edge is there.
        self.values[:, np.isnan(self.values).any(axis=0)] = np.nan

    @staticmethod
    def _problem(found: SampleSet | None) -> str:
        if found is None:
            return "the recording does not hold this query"
        if found.provenance.error:
            return found.provenance.error
        return "" if found.labels else "the query returned nothing"

    def _rows(self, by: dict[str, str], edges: bool) -> list[tuple[int, tuple[int, int], float]]:
        """Row, place and bucket edge (else +Inf) of each series that was asked for."""
        assert self.set is not None
        members = {"region": self.regions, "service": self.services}
        rows = []
        for row, labels in enumerate(self.set.labels):
            names = [labels.get(by[d]) if d in by else None for d in ("region", "service")]
            if all(d not in by or n in members[d] for d, n in zip(members, names, strict=True)):
                place = [
                    members[d].index(n) if n is not None and d in by else 0
                    for d, n in zip(members, names, strict=True)
                ]
                edge = _edge(labels.get("le", "")) if edges else np.inf
                if not np.isnan(edge):
                    rows.append((row, (place[0], place[1]), edge))
        return rows

    @staticmethod
    def _common_edges(rows: list[tuple[int, tuple[int, int], float]]) -> Floats:
        """Edges that all series have: cumulative counts may be summed at these only."""
        edges: dict[tuple[int, int], set[float]] = {}
        for _, place, edge in rows:
            edges.setdefault(place, set()).add(edge)
        return np.array(sorted(set.intersection(*edges.values())))


def _edge(text: str) -> float:
    """Return the edge of a bucket's label; NaN if it has none."""
    try:
        return float(text)
    except ValueError:
        return np.nan


class Kpis:
    """The KPIs of one span of a recording.

    Regions and services are named as in the parameters; `None` stands for all of them.
    """

    def __init__(self, job: Job, span: Span) -> None:
        self.job = job
        self.span = span
        self._cells: dict[tuple[str, str], _Cells] = {}
        self._shared: dict[tuple[object, ...], _Cells] = {}

    def _part(self, name: str, part: str) -> _Cells:
        key = name, part
        if key not in self._cells:
            kpi, parameters = self.job.kpis[name], self.job.parameters
            by = dimensions(kpi, parameters)
            # P50, P95 and P99 share their buckets, and many ratios their denominators.
            query = kpi.queries()[part], tuple(by.items()), part == "buckets"
            if query not in self._shared:
                self._shared[query] = _Cells(kpi, part, parameters, self.span)
            self._cells[key] = self._shared[query]
        return self._cells[key]

    def regions(self, name: str) -> list[str]:
        """Regions that a KPI is told for; none if it is not told by region."""
        return list(self.job.parameters.regions) if "region" in self.job.kpis[name].by else []

    def services(self, name: str) -> list[str]:
        """Services that a KPI is told for; none if it is not told by service."""
        return list(self.job.parameters.services) if "service" in self.job.kpis[name].by else []

    def places(self, name: str) -> list[tuple[str | None, str | None]]:
        """Every (region, service) that a KPI has a series for."""
        regions: Sequence[str | None] = self.regions(name) or [None]
        services: Sequence[str | None] = self.services(name) or [None]
        return [(region, service) for region in regions for service in services]

    def _select(
        self, name: str, part: str, region: str | None, service: str | None
    ) -> tuple[_Cells, Floats]:
        """Cells of one part, joined to shape (edges, series, T)."""
        cells = self._part(name, part)
        values = cells.values
        if region is not None and cells.regions:
            values = values[:, [cells.regions.index(region)]]
        if service is not None and cells.services:
            values = values[:, :, [cells.services.index(service)]]
        return cells, values.reshape(len(cells.edges), -1, self.span.steps)

    def parts(
        self, name: str, region: str | None = None, service: str | None = None
    ) -> tuple[Floats, Floats]:
        """Numerator and denominator of a ratio at each step, shape (T,), NaN where none was seen.

        A step of a series counts only where both are there.
        """
        top, bottom = self._pair(name, region, service)
        return _total(top, 0), _total(bottom, 0)

    def buckets(
        self, name: str, region: str | None = None, service: str | None = None
    ) -> tuple[Floats, Floats]:
        """Upper edges (buckets,) and cumulative counts (buckets, T) of a histogram, NaN = none."""
        cells, counts = self._select(name, "buckets", region, service)
        return cells.edges, np.maximum.accumulate(_total(counts, 1), axis=0)

    def _pair(self, name: str, region: str | None, service: str | None) -> tuple[Floats, Floats]:
        top = self._select(name, "numerator", region, service)[1][0]
        bottom = self._select(name, "denominator", region, service)[1][0]
        missing = np.isnan(top) | np.isnan(bottom)
        return np.where(missing, np.nan, top), np.where(missing, np.nan, bottom)

    def series(self, name: str, region: str | None = None, service: str | None = None) -> Floats:
        """KPI at each step, shape (T,), NaN where there is no figure.

        A sum over several series (a gauge that is summed, a rate) has no figure at a step where
        one of the series that were otherwise seen is missing: it would be too small.
        """
        kpi = self.job.kpis[name]
        if kpi.kind == "ratio":
            return _ratio(*self.parts(name, region, service))
        if kpi.kind == "histogram":
            return quantile(kpi.quantile or 0.0, *self.buckets(name, region, service))[0]
        part = "increase" if kpi.kind == "counter" else "value"
        values = self._select(name, part, region, service)[1][0]
        seen = values[~np.isnan(values).all(axis=1)]
        if not len(seen):
            return np.full(self.span.steps, np.nan)
        if kpi.kind == "counter":
            return _JOINS["sum"](seen) / (self.span.step if kpi.per_second else 1)
        return _JOINS[kpi.across](seen)

    def matrix(self, name: str) -> Floats:
        """Series of every place of a KPI, shape (places, T), in the order of `places`."""
        return np.array([self.series(name, *place) for place in self.places(name)])

    def frame(self, name: str) -> pd.DataFrame:
        """KPI at each step as a table for analysts: a row a step, a column a region and service."""
        import pandas as pd  # takes half a second, and only analysts need it

        columns = pd.MultiIndex.from_tuples(
            [(region or "", service or "") for region, service in self.places(name)],
            names=["region", "service"],
        )
        index = pd.DatetimeIndex(self.span.times, name="step_end", tz="UTC")
        return pd.DataFrame(self.matrix(name).T, index=index, columns=columns)

    def doubts(self, name: str) -> list[str]:
        """Warnings of the server about a KPI's samples: its answer may be partial."""
        sets = [self._part(name, part).set for part in self.job.kpis[name].queries()]
        texts = [text for one in sets if one for text in one.provenance.warnings]
        return [text for text in dict.fromkeys(texts) if not text.startswith(INFO)]

    def extremes(self, name: str, region: str | None = None) -> tuple[Extreme, Extreme] | None:
        """Lowest and highest step of a KPI's series; none if there is no step."""
        series = self.series(name, region)
        if np.isnan(series).all():
            return None
        low, high = int(np.nanargmin(series)), int(np.nanargmax(series))
        return tuple(Extreme(float(series[i]), self.span.times[i]) for i in (low, high))  # type: ignore[return-value]

    def figure(self, name: str, region: str | None = None, service: str | None = None) -> KpiValue:
        """KPI over the whole span."""
        kpi = self.job.kpis[name]
        finders = {
            "ratio": self._ratio_figure,
            "histogram": self._histogram_figure,
            "counter": self._counter_figure,
            "gauge": self._gauge_figure,
        }
        return finders[kpi.kind](name, kpi, region, service)

    def _figure(
        self, kpi: Kpi, seen: NDArray[np.bool_], value: float, reason: str, **more: Any
    ) -> KpiValue:
        """Build a figure from its value (NaN: none) and which samples were seen, (series, T)."""
        if not seen.any():
            value = np.nan
        elif np.isnan(value):
            reason = reason or "there was no traffic"
        return KpiValue(
            value=None if np.isnan(value) else float(value),
            unit=kpi.unit,
            samples=int(seen.sum()),
            expected=seen.size,
            worst_series_coverage=float(seen.mean(axis=1).min()),
            reason=(reason or "no samples were seen") if np.isnan(value) else "",
            **({} if np.isnan(value) else more),
        )

    def _ratio_figure(
        self, name: str, kpi: Kpi, region: str | None, service: str | None
    ) -> KpiValue:
        top, bottom = self._pair(name, region, service)
        problems = [self._part(name, part).problem for part in ("numerator", "denominator")]
        total = float(np.nansum(bottom))
        value = float(np.nansum(top)) / total if total > 0 else np.nan
        return self._figure(kpi, ~np.isnan(bottom), value, next(filter(None, problems), ""))

    def _histogram_figure(
        self, name: str, kpi: Kpi, region: str | None, service: str | None
    ) -> KpiValue:
        cells, counts = self._select(name, "buckets", region, service)
        joined = np.nansum(counts, axis=(1, 2))
        value, lower, upper = (float(x) for x in quantile(kpi.quantile or 0, cells.edges, joined))
        beyond = np.isinf(upper)
        if beyond and np.isinf(lower):
            value = np.nan
        return self._figure(
            kpi, ~np.isnan(counts[0]), value, cells.problem,
            bounds=None if beyond else (lower, upper), beyond=beyond,
        )  # fmt: skip

    def _counter_figure(
        self, name: str, kpi: Kpi, region: str | None, service: str | None
    ) -> KpiValue:
        cells, values = self._select(name, "increase", region, service)
        seen = ~np.isnan(values[0])
        totals = np.nansum(values[0], axis=1)
        if kpi.per_second:
            # Each series' rate over the time in which it was seen: a gap must not slow it down.
            covered = seen.sum(axis=1) * self.span.step
            totals = np.divide(totals, covered, out=np.zeros_like(totals), where=covered > 0)
        return self._figure(kpi, seen, float(totals.sum()), cells.problem)

    def _gauge_figure(
        self, name: str, kpi: Kpi, region: str | None, service: str | None
    ) -> KpiValue:
        cells, values = self._select(name, "value", region, service)
        series = self.series(name, region, service)
        series = series[~np.isnan(series)]
        value = float(_JOINS[kpi.over](series)) if len(series) else np.nan
        reason = cells.problem or "its series were never seen all at one step"
        return self._figure(kpi, ~np.isnan(values[0]), value, reason)


def _total(values: Floats, axis: int) -> Floats:
    """Sum over the series that were seen; NaN at a step where none was."""
    empty = np.isnan(values).all(axis=axis)
    return np.where(empty, np.nan, np.nansum(values, axis=axis))


def _ratio(top: Floats, bottom: Floats) -> Floats:
    """Ratio at each step, NaN where the denominator is 0 or missing."""
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)


# --- alerts --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Alert:
    """One time that an alert fired, known to the step: [start, end) in epoch seconds.

    `ongoing` says that it still fired in the last step.
    """

    name: str
    severity: str
    region: str
    service: str
    start: int
    end: int
    ongoing: bool

    def facts(self) -> dict[str, Any]:
        """Return the alert as the JSON files have it."""
        return {
            "name": self.name,
            "severity": self.severity,
            "region": self.region,
            "service": self.service,
            "start": format_time(self.start),
            "end": format_time(self.end),
            "duration_seconds": self.end - self.start,
            "ongoing": self.ongoing,
        }


@dataclass(frozen=True)
class Alerts:
    """Alerts that fired in a span; `known` is the share of steps in which rules were evaluated.

    With `reason`, nothing is known of them, and an empty list means nothing.
    """

    fired: list[Alert]
    known: float
    reason: str = ""

    def count(self, severity: str | None = None) -> int | None:
        """How often alerts of a severity (or any) fired; None if nothing is known."""
        if self.reason:
            return None
        return sum(severity in (None, alert.severity) for alert in self.fired)


def alerts(job: Job, span: Span) -> Alerts:
    """Return the alerts that fired in a span.

    That none fired is believed only where the server's own counter shows that rules were evaluated.
    """
    firing, evaluations = span.sets.get(FIRING), span.sets.get(EVALUATIONS)
    if job.alerts is None or firing is None or evaluations is None:
        return Alerts([], 0.0, "the catalogue asks for no alerts")
    for one in (firing, evaluations):
        if one.provenance.error:
            return Alerts([], 0.0, one.provenance.error)
    ran = np.nan_to_num(evaluations.values) > 0
    known = float(ran.any(axis=0).mean()) if len(ran) else 0.0
    if not known and not firing.labels:
        return Alerts([], 0.0, "nothing shows that alerting rules were evaluated")
    names = job.parameters.labels
    found = []
    for labels, values in zip(firing.labels, firing.values, strict=True):
        for first, last in runs(np.nan_to_num(values) > 0):
            found.append(
                Alert(
                    name=labels.get("alertname", ""),
                    severity=labels.get("severity", "none"),
                    region=labels.get(names.region, ""),
                    service=labels.get(names.service, ""),
                    start=span.start + first * span.step,
                    end=span.start + last * span.step,
                    ongoing=last == span.steps,
                )
            )
    return Alerts(sorted(found, key=lambda a: (a.start, a.name, a.region, a.service)), known)


# --- summaries -----------------------------------------------------------------------------------


def summary(kpis: Kpis) -> dict[str, Any]:
    """Return every figure of a span: overall, by region, by service, and of each series."""
    return {
        "window": interval_facts(kpis.span),
        "kpis": {name: _kpi_facts(kpis, name, kpi) for name, kpi in kpis.job.kpis.items()},
    }


def interval_facts(span: Span) -> dict[str, Any]:
    """Return a span's interval as the JSON files have it."""
    return {
        "start": format_time(span.start),
        "end": format_time(span.stop),
        "step_seconds": span.step,
        "steps": span.steps,
    }


def _kpi_facts(kpis: Kpis, name: str, kpi: Kpi) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "title": kpi.title,
        "about": kpi.about,
        "kind": kpi.kind,
        "unit": kpi.unit,
        "better": kpi.better,
        "overall": kpis.figure(name).facts(),
    }
    if extremes := kpis.extremes(name):
        for key, one in zip(("lowest_step", "highest_step"), extremes, strict=True):
            facts[key] = {"value": one.value, "step_end": f"{one.time}Z"}
    if regions := kpis.regions(name):
        facts["regions"] = {r: kpis.figure(name, r).facts() for r in regions}
    if services := kpis.services(name):
        facts["services"] = {s: kpis.figure(name, None, s).facts() for s in services}
        facts["series"] = [
            {"region": r, "service": s, **kpis.figure(name, r, s).facts()}
            for r, s in kpis.places(name)
        ]
    facts["queries"] = {
        part: found.provenance.query if (found := kpis._part(name, part).set) else None
        for part in kpi.queries()
    }
    return facts


def cost(kpis: Kpis) -> dict[str, Any]:
    """Estimated cost per hour of the cluster: cores and memory, without network and storage."""
    rates = kpis.job.parameters.cost
    facts: dict[str, Any] = {
        "usd_per_core_hour": rates.usd_per_core_hour,
        "usd_per_gib_hour": rates.usd_per_gib_hour,
        "estimate": "leaves out network and storage",
        "usd_per_hour": None,
    }
    if rates.cpu not in kpis.job.kpis or rates.memory not in kpis.job.kpis:
        return facts | {"reason": f"the catalogue has no {rates.cpu} or {rates.memory}"}
    cores, memory = kpis.figure(rates.cpu), kpis.figure(rates.memory)
    facts["coverage"] = min(cores.coverage, memory.coverage)
    if cores.value is None or memory.value is None:
        return facts | {"reason": cores.reason or memory.reason}
    gib = memory.value / 2**30
    return facts | {
        "usd_per_hour": cores.value * rates.usd_per_core_hour + gib * rates.usd_per_gib_hour
    }


def collection_summary(job: Job, recording: Recording) -> dict[str, Any]:
    """Return the content of `ga_kpi_summary.json`."""
    kpis, fired = Kpis(job, recording.window), alerts(job, recording.window)
    return {
        "schema": "tars-ga/kpi-summary/1",
        "release": job.parameters.release.model_dump(),
        "simulated": recording.simulated,
        "source": {
            "server": recording.server,
            "version": recording.version,
            "collected_at": recording.collected_at,
            "recording": recording.digest(),
            "problems": recording.problems,
        },
        **summary(kpis),
        "cost": cost(kpis),
        "alerts": {
            "steps_with_evaluations": fired.known,
            "reason": fired.reason or None,
            "counts": {
                "all": fired.count(),
                **{severity: fired.count(severity) for severity in ("critical", "warning", "info")},
            },
            "fired": [alert.facts() for alert in fired.fired],
        },
    }


def baseline_metrics(job: Job, recording: Recording) -> dict[str, Any]:
    """Return the content of `baseline_metrics.json`: the KPIs of each baseline interval."""
    return {
        "schema": "tars-ga/baseline/1",
        "simulated": recording.simulated,
        "recording": recording.digest(),
        "intervals": [summary(Kpis(job, span)) for span in recording.baselines],
    }


def snapshots(kpis: Kpis) -> list[dict[str, Any]]:
    """One snapshot a step: each KPI overall and by region, None = missing; no optional KPI."""
    series = {
        name: {place or "overall": kpis.series(name, place) for place in (None, *regions)}
        for name, kpi in kpis.job.kpis.items()
        if not kpi.optional
        for regions in [kpis.regions(name)]
    }
    return [
        {
            "step_end": f"{time}Z",
            "kpis": {
                name: {
                    place: None if np.isnan(values[i]) else float(values[i])
                    for place, values in places.items()
                }
                for name, places in series.items()
            },
        }
        for i, time in enumerate(kpis.span.times)
    ]
