"""KPI figures: every total, ratio and percentile that is told anywhere is computed here.

A figure of a window, a region or a service is computed from the recorded increments and gauges: a
total is a sum of increments, a ratio is total over total, a percentile comes from the summed
buckets. Ratios and percentiles are never averaged. Each figure carries its coverage, what was seen
of what was expected, and between which values the whole may lie: what was not seen may have been as
bad, or as good, as can be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tars_ga_lib.catalogues import Kpi
from tars_ga_lib.grammar import clock, duration_words, format_time, known_as
from tars_ga_lib.intervals import runs
from tars_ga_lib.parameters import Job, Parameters
from tars_ga_lib.queries import EVALUATIONS, FIRING, dimensions, needed, sample_count
from tars_ga_lib.recording import Recording, SampleSet, Span
from tars_ga_lib.scrapes import Scrapes, place_of, sample_counts

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class KpiValue:
    """One number of the report, or the reason why there is none.

    `samples` of `expected` were seen: scrapes where they are counted, steps elsewhere. `bounds` are
    the edges of the histogram bucket that a percentile was interpolated in; with `beyond`, it lies
    above the highest edge, and `value` is only a lower bound. `worst_series_coverage` is the
    coverage of the worst of the series that the figure joins. `worst` is what the value would be if
    all that was not seen had been bad, and `best` if all of it had been good; of a percentile,
    `worst_bounds` are the edges that hold the worst. `doubt` says why what was seen cannot be
    believed to be all.
    """

    value: float | None
    unit: str
    samples: int
    expected: int
    worst_series_coverage: float
    reason: str = ""
    bounds: tuple[float, float] | None = None
    beyond: bool = False
    worst: float | None = None
    best: float | None = None
    worst_bounds: tuple[float, float] | None = None
    doubt: str = ""

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
        if self.worst is not None and self.worst != self.value:
            facts["worst"] = self.worst if np.isfinite(self.worst) else None
        if self.doubt:
            facts["doubt"] = self.doubt
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


_TORN = 0.01
"""Share of a step's events by which a bucket may count less than a smaller one."""


class _Cells:
    """Samples of one query laid out by region and service: shape (parts, R, S, T), NaN = missing.

    `parts` are the histogram's edges, else one.
    """

    def __init__(self, kpi: Kpi, part: str, parameters: Parameters, span: Span) -> None:
        by = dimensions(kpi, parameters)
        self.regions = parameters.regions if "region" in by else []
        self.services = list(parameters.services) if "service" in by else []
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
        # A histogram's step is whole only if every edge is there, and none counts less than a
        # smaller one, but for what racing scrapes make of it.
        dips = np.maximum.accumulate(self.values, axis=0) - self.values
        with np.errstate(invalid="ignore"):
            torn = (dips > np.maximum(_TORN * self.values.max(axis=0), 1.0)).any(axis=0)
        self.values[:, np.isnan(self.values).any(axis=0) | torn] = np.nan

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
        rows = []
        for row, labels in enumerate(self.set.labels):
            place = place_of(labels, by, self.regions, self.services)
            edge = _edge(labels.get("le", "")) if edges else np.inf
            if place is not None and not np.isnan(edge):
                rows.append((row, place, edge))
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


_LARGEST = {
    "seconds": 1e10,
    "bytes": 1e21,
    "bytes/s": 1e18,
    "cores": 1e8,
    "count": 1e15,
    "requests": 1e15,
    "requests/s": 1e13,
}
"""Values of each unit beyond which nothing physical is; of a unit not named, `_LARGEST_OTHER`."""
_LARGEST_OTHER = 1e21
_NEVER_NEGATIVE = ("bytes", "bytes/s", "cores", "count", "requests", "requests/s")

_EXPECTED_EVENTS = 20.0
"""Events that a baseline lets expect, from which on none at all cannot be chance: e^-20."""


class Kpis:
    """The KPIs of one span of a recording.

    Regions and services are named as in the parameters; `None` stands for all of them.

    Parameters
    ----------
    span
        The span that the figures are of.
    others
        The other spans of the recording. What is usual is learnt from them: how many targets and
        scrapes there are, how much traffic, and which answers occur.
    """

    def __init__(self, job: Job, span: Span, others: Sequence[Span] = ()) -> None:
        self.job = job
        self.span = span
        self._cells: dict[tuple[str, str], _Cells] = {}
        self._shared: dict[tuple[object, ...], _Cells] = {}
        self._faults: dict[str, dict[tuple[int, int], str]] = {}
        self._shares: dict[str, tuple[Floats, Floats]] = {}
        self._peaks: dict[tuple[str, str], Floats] = {}
        self._places: dict[tuple[object, ...], list[tuple[int, int]]] = {}
        self.others = [Kpis(job, other) for other in others]
        self._needed = needed(job)

    @classmethod
    def together(cls, job: Job, spans: Sequence[Span]) -> list[Kpis]:
        """KPIs of several spans, the rest being the `others` of each; samples are laid out once."""
        alone = [cls(job, span) for span in spans]
        joined = []
        for one in alone:
            whole = copy(one)
            whole.others = [other for other in alone if other is not one]
            whole._shares, whole._peaks = {}, {}  # which the others have a part in
            joined.append(whole)
        return joined

    @cached_property
    def scrapes(self) -> Scrapes:
        """Scrapes seen and expected of each region and service."""
        return Scrapes(self.job, self.span, [other.span for other in self.others])

    def _kpi(self, name: str) -> Kpi:
        known_as("KPI", name, self.job.kpis)
        return self.job.kpis[name]

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
        return list(self.job.parameters.regions) if "region" in self._kpi(name).by else []

    def services(self, name: str) -> list[str]:
        """Services that a KPI is told for; none if it is not told by service."""
        return list(self.job.parameters.services) if "service" in self._kpi(name).by else []

    def places(self, name: str) -> list[tuple[str | None, str | None]]:
        """Every (region, service) that a KPI is expected of."""
        regions: Sequence[str | None] = self.regions(name) or [None]
        services: Sequence[str | None] = self.services(name) or [None]
        return [
            (region, service)
            for region in regions
            for service in services
            if self._declared(name, region, service)
        ]

    def _declared(self, name: str, region: str | None, service: str | None) -> bool:
        """Whether a KPI is expected of a region and service."""
        if service is None:
            return True
        parameters = self.job.parameters
        without = parameters.services[service].without or ()
        return name not in without and (region is None or parameters.runs(service, region))

    def _rows(
        self, cells: _Cells, name: str, region: str | None, service: str | None
    ) -> list[tuple[int, int]]:
        """Positions of the declared series that a region and service (None: all) stand for."""
        key = name, bool(cells.regions), bool(cells.services), region, service
        if key not in self._places:
            regions: Sequence[str | None] = cells.regions or [None]
            services: Sequence[str | None] = cells.services or [None]
            self._places[key] = [
                (i, j)
                for i, r in enumerate(regions)
                for j, s in enumerate(services)
                if (region is None or r in (None, region))
                and (service is None or s in (None, service))
                and self._declared(name, r, s)
            ]
        return self._places[key]

    def _select(
        self, name: str, part: str, region: str | None, service: str | None
    ) -> tuple[_Cells, Floats]:
        """Cells of one part, joined to shape (edges, series, T); impossible ones are missing."""
        if region is not None:
            known_as("region", region, self.job.parameters.regions)
        if service is not None:
            known_as("service", service, self.job.parameters.services)
        cells = self._part(name, part)
        rows = self._rows(cells, name, region, service)
        values = cells.values[:, *_at(rows)]
        if faults := self._impossible(name):
            values[:, [place in faults for place in rows]] = np.nan
        return cells, values

    def _impossible(self, name: str) -> dict[tuple[int, int], str]:
        """Series of a KPI that hold what cannot be, and what that is."""
        if name not in self._faults:
            kpi = self.job.kpis[name]
            parts = {part: self._part(name, part).values for part in kpi.queries()}
            largest = _LARGEST.get(kpi.unit, _LARGEST_OTHER)
            counted = kpi.kind != "gauge"
            found: dict[tuple[int, int], str] = {}

            def mark(wrong: NDArray[np.bool_], values: Floats, what: str) -> None:
                for i, j in np.argwhere(wrong.any(axis=(0, 3))):
                    first = values[:, i, j][wrong[:, i, j]][0]
                    found.setdefault((int(i), int(j)), f"{what}: {first:.6g}")

            with np.errstate(invalid="ignore"):
                for values in parts.values():
                    limit = _LARGEST_OTHER if kpi.kind in ("ratio", "histogram") else largest
                    mark(np.abs(values) > limit, values, "a value beyond anything physical")
                    if counted or kpi.unit in _NEVER_NEGATIVE:
                        least = -1e-9 * max(1.0, np.nanmax(np.abs(values), initial=0.0))
                        mark(values < least, values, "a negative count or size")
                if kpi.population:
                    some, everybody = parts["denominator"], parts["population"]
                    more = some > 1.01 * everybody + 1e-9
                    mark(more, some, "more events of known kinds than events")
                if kpi.kind == "ratio" and not kpi.unbounded:
                    top, bottom = parts["numerator"], parts["denominator"]
                    share = np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
                    mark((share > 1.01) | ((top > 0) & (bottom == 0)), share, "a share above 1")
            self._faults[name] = found
        return self._faults[name]

    def _fault(self, name: str, region: str | None, service: str | None) -> str:
        """Say what is impossible in the series of a figure; empty if nothing is."""
        faults = self._impossible(name)
        cells = self._part(name, next(iter(self.job.kpis[name].queries())))
        for i, j in self._rows(cells, name, region, service):
            if (i, j) in faults:
                where = [cells.regions[i]] if cells.regions else []
                where += [cells.services[j]] if cells.services else []
                return f"it has {faults[i, j]}" + (f" ({' / '.join(where)})" if where else "")
        return ""

    def _coverage(
        self, name: str, region: str | None, service: str | None
    ) -> tuple[Floats, Floats]:
        """Scrapes expected of each step of each series of a figure, and their share that was seen.

        Both (series, T). Where scrapes are not counted, a step counts as one.
        """
        if name not in self._shares:
            self._shares[name] = self._scraped(name)
        expected, share = self._shares[name]
        cells = self._part(name, next(iter(self.job.kpis[name].queries())))
        at = _at(self._rows(cells, name, region, service))
        return expected[at], share[at]

    def _scraped(self, name: str) -> tuple[Floats, Floats]:
        kpi, scrapes = self.job.kpis[name], self.scrapes
        by, labels = dimensions(kpi, self.job.parameters), self.job.parameters.labels.model_dump()
        if scrapes.known and self._counts_scrapes(kpi):
            places = slice(None) if "service" in by else slice(1)
            expected = scrapes.expected[:, places]
            return expected, np.clip(scrapes.seen[:, places] / expected, 0.0, 1.0)
        if not scrapes.known or by != labels:  # of other targets than the services'
            cells = self._part(name, next(iter(kpi.queries())))
            ones = np.ones(cells.values.shape[1:])
            return ones, ones
        if name in self._needed and (template := sample_count(kpi)):
            counts = sample_counts(self.job, self.span, template, by)
            if counts is None:
                return scrapes.expected, np.zeros_like(scrapes.expected)
            # What a counter counted between two scrapes is in the second, so one may be missing.
            share = (np.nan_to_num(counts) + 1) / scrapes.per_step[..., None]
            return scrapes.expected, np.clip(share, 0.0, 1.0) * (np.nan_to_num(counts) > 0)
        return scrapes.expected, scrapes.share

    def _counts_scrapes(self, kpi: Kpi) -> bool:
        """Whether the events of a ratio are the scrapes themselves, as those of availability."""
        scrapes, labels = self.job.scrapes, self.job.parameters.labels.model_dump()
        return (
            kpi.kind == "ratio"
            and kpi.denominator == scrapes.seen
            and dimensions(kpi, self.job.parameters) == scrapes.dimensions(labels)
        )

    def _peak(self, name: str, part: str, region: str | None, service: str | None) -> Floats:
        """Largest step of each series in any span, (series,): as much may be in one not seen."""
        key = name, part
        if key not in self._peaks:
            spans = [one._select(name, part, None, None)[1][-1] for one in (self, *self.others)]
            self._peaks[key] = np.max([np.nanmax(x, axis=1, initial=0.0) for x in spans], axis=0)
        cells = self._part(name, part)
        every = self._rows(cells, name, None, None)
        return self._peaks[key][[every.index(r) for r in self._rows(cells, name, region, service)]]

    def _unseen(
        self, name: str, part: str, events: Floats, region: str | None, service: str | None
    ) -> float:
        """How many events of a figure were not seen; `events` are those that were, (series, T)."""
        kpi = self.job.kpis[name]
        if self._counts_scrapes(kpi) and self.scrapes.known:
            cells = self._part(name, part)
            rows = self._rows(cells, name, region, service)
            return sum(self.scrapes.missing(rows[k], events[k]) for k in range(len(rows)))
        _, share = self._coverage(name, region, service)
        gone = np.isnan(events).sum(axis=1) * self._peak(name, part, region, service)
        partly = np.nansum((1 - share) * events, axis=1)
        unseen = float(gone.sum() + partly.sum())
        if kpi.population:
            everybody = self._select(name, "population", region, service)[1][0]
            others = np.where(np.isnan(events), np.nan, everybody - events)
            rest = float(np.nansum(others))
            unseen += rest if rest > 1e-9 * float(np.nansum(everybody)) else 0.0
        return unseen

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

    def leaving_out(self, name: str, places: Sequence[tuple[str | None, str | None]]) -> Kpis:
        """Return the KPIs without some series of one of them, as if they had no samples."""
        cells = self._part(name, next(iter(self.job.kpis[name].queries())))
        left = {place for region, service in places
                for place in self._rows(cells, name, region, service)}  # fmt: skip
        other = copy(self)
        other._peaks = {}
        other._faults = self._faults | {
            name: self._impossible(name) | dict.fromkeys(left, "series that were left out")
        }
        return other

    def _pair(self, name: str, region: str | None, service: str | None) -> tuple[Floats, Floats]:
        top = self._select(name, "numerator", region, service)[1][0]
        bottom = self._select(name, "denominator", region, service)[1][0]
        missing = np.isnan(top) | np.isnan(bottom)
        return np.where(missing, np.nan, top), np.where(missing, np.nan, bottom)

    def series(self, name: str, region: str | None = None, service: str | None = None) -> Floats:
        """KPI at each step, shape (T,), NaN where there is no figure.

        A sum over several series (a gauge that is summed, a rate) has no figure at a step where
        one of the series that were otherwise seen is missing: it would be too small.

        Raises
        ------
        ParametersError
            If there is no such KPI, region or service; it names the nearest.
        """
        kpi = self._kpi(name)
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
        return list(dict.fromkeys(t for one in sets if one for t in one.provenance.warnings))

    def unseen(self, name: str, region: str | None = None, service: str | None = None) -> str:
        """Say for how long, where and when a figure was not seen; empty if it was seen whole."""
        expected, share = self._coverage(name, region, service)
        part = next(iter(self.job.kpis[name].queries()))
        cells, values = self._select(name, part, region, service)
        lacking = 1 - share * ~np.isnan(values[-1])
        lacking[(expected > 1) & (lacking * expected < 1.5)] = 0.0  # a single scrape of a target
        steps = lacking.max(axis=0, initial=0.0)
        if not steps.any():
            return ""
        rows = self._rows(cells, name, region, service)
        hit = [rows[k] for k in np.flatnonzero(lacking.sum(axis=1) > 0)]
        where = self._places_words(cells, name, hit)
        return f"{duration_words(steps.sum() * self.span.step)} ({where}{self._when(steps > 0)})"

    def _when(self, steps: NDArray[np.bool_]) -> str:
        """Say when these steps were, if they are one stretch of the span and not the whole."""
        (first, last), *more = runs(steps)
        if more or steps.all():
            return ""
        start, end = (clock(self.span.start + i * self.span.step) for i in (first, last))
        if last == len(steps):
            return f", since {start} UTC"
        day = start[: len("2026-11-20 ")]
        return f", {start} to {end.removeprefix(day)} UTC"

    def _places_words(self, cells: _Cells, name: str, hit: Sequence[tuple[int, int]]) -> str:
        """Name places for a reader, whole regions and services as such."""
        every = self._rows(cells, name, None, None)
        if set(hit) == set(every):
            return "everywhere"
        by_region: dict[int, list[int]] = {}
        for i, j in hit:
            by_region.setdefault(i, []).append(j)
        words = []
        for i, members in by_region.items():
            region = cells.regions[i] if cells.regions else ""
            whole = len(members) == sum(r == i for r, _ in every)
            if not cells.services or (whole and region):
                words.append(region)
                continue
            names = [cells.services[j] for j in members]
            listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
            words.append(f"{region} / {listed}" if region else listed)
        return "; ".join(words[:4]) + (f"; and {len(words) - 4} more" if words[4:] else "")

    def during(
        self, name: str, begin: int, end: int, region: str | None = None, service: str | None = None
    ) -> float | None:
        """KPI over the steps [begin, end) alone: totals over totals, None where none was seen."""
        kpi = self.job.kpis[name]
        if kpi.kind == "ratio":
            top, bottom = (part[begin:end] for part in self.parts(name, region, service))
            total = float(np.nansum(bottom))
            return float(np.nansum(top)) / total if total > 0 else None
        if kpi.kind == "histogram":
            edges, counts = self.buckets(name, region, service)
            joined = np.nansum(counts[:, begin:end], axis=1)
            value = float(quantile(kpi.quantile or 0, edges, joined)[0])
            return None if np.isnan(value) else value
        series = self.series(name, region, service)[begin:end]
        seen = series[~np.isnan(series)]
        if not len(seen):
            return None
        if kpi.kind == "counter":
            return float(seen.mean() if kpi.per_second else seen.sum())
        return float(_JOINS[kpi.over](seen))

    def extremes(self, name: str, region: str | None = None) -> tuple[Extreme, Extreme] | None:
        """Lowest and highest step of a KPI's series; none if there is no step."""
        series = self.series(name, region)
        if np.isnan(series).all():
            return None
        low, high = int(np.nanargmin(series)), int(np.nanargmax(series))
        return tuple(Extreme(float(series[i]), self.span.times[i]) for i in (low, high))  # type: ignore[return-value]

    def coverage(self, name: str, region: str | None = None, service: str | None = None) -> float:
        """Share of a figure's scrapes that was seen, 0..1: that of `figure`, without its value."""
        part = next(iter(self.job.kpis[name].queries()))
        if part == "numerator":
            values = self._pair(name, region, service)[1]
        else:
            values = self._select(name, part, region, service)[1][0]
        expected, share = self._coverage(name, region, service)
        seen = round(float((expected * share)[~np.isnan(values)].sum()))
        asked = round(float(expected.sum()))
        return seen / asked if asked else 0.0

    def figure(self, name: str, region: str | None = None, service: str | None = None) -> KpiValue:
        """KPI over the whole span.

        Raises
        ------
        ParametersError
            If there is no such KPI, region or service; it names the nearest.
        """
        kpi = self._kpi(name)
        finders = {
            "ratio": self._ratio_figure,
            "histogram": self._histogram_figure,
            "counter": self._counter_figure,
            "gauge": self._gauge_figure,
        }
        return finders[kpi.kind](name, kpi, region, service)

    def _figure(
        self,
        name: str,
        place: tuple[str | None, str | None],
        values: Floats,
        value: float,
        reason: str,
        **more: Any,
    ) -> KpiValue:
        """Build a figure from its value (NaN: none) and its samples, (series, T)."""
        expected, share = self._coverage(name, *place)
        seen = expected * share * ~np.isnan(values)
        fault = self._fault(name, *place)
        if not reason and not share.any() and not np.isnan(values).all():
            reason = (
                "no scrape of its targets was seen "
                f"({self.job.scrapes.selector}; see 'scrapes' in the KPI catalogue)"
            )
        if fault or not seen.any():
            value, reason = np.nan, fault or reason
        elif np.isnan(value):
            reason = reason or "there was no traffic"
        whole = np.maximum(expected.sum(axis=1), 1e-300)
        return KpiValue(
            value=None if np.isnan(value) else float(value),
            unit=self.job.kpis[name].unit,
            samples=round(float(seen.sum())),
            expected=round(float(expected.sum())),
            worst_series_coverage=float((seen.sum(axis=1) / whole).min(initial=1.0)),
            reason=(reason or "no samples were seen") if np.isnan(value) else "",
            **({} if np.isnan(value) else more),
        )

    def _ratio_figure(
        self, name: str, kpi: Kpi, region: str | None, service: str | None
    ) -> KpiValue:
        top, bottom = self._pair(name, region, service)
        problems = [self._part(name, part).problem for part in ("numerator", "denominator")]
        good, total = float(np.nansum(top)), float(np.nansum(bottom))
        value = good / total if total > 0 else np.nan
        more: dict[str, Any] = {}
        if total > 0:
            unseen = self._unseen(name, "denominator", bottom, region, service)
            ends = good / (total + unseen), (good + unseen) / (total + unseen)
            # Without anything unseen, not a rounding away from the figure itself.
            low, high = ends if unseen > 0 else (value, value)
            best, worst = (high, low) if kpi.better == "higher" else (low, high)
            more = {"worst": worst, "best": best, "doubt": self._vanished(name, region, service)}
        reason = next(filter(None, problems), "")
        return self._figure(name, (region, service), bottom, value, reason, **more)

    def _vanished(self, name: str, region: str | None, service: str | None) -> str:
        """Say where a kind of event that the baseline had is not there at all any more.

        Errors that a server no longer labels as such read as none. With as many events in the
        baseline that this many could not be missing by chance, none is not believed.
        """
        if self.job.kpis[name].better != "lower" or not self.others:
            return ""
        cells = self._part(name, "numerator")
        for i, j in self._rows(cells, name, region, service):
            place = (
                cells.regions[i] if cells.regions else None,
                (cells.services[j] if cells.services else None),
            )
            top, bottom = self._pair(name, *place)
            if np.nansum(top) > 0 or not np.nansum(bottom) > 0:
                continue
            before = [other._pair(name, *place) for other in self.others]
            events, traffic = (float(sum(np.nansum(p[k]) for p in before)) for k in (0, 1))
            if traffic > 0 and events / traffic * float(np.nansum(bottom)) >= _EXPECTED_EVENTS:
                where = " / ".join(part for part in place if part) or "all of it"
                return (
                    f"{where} has none at all, where its baseline had {events:,.0f}; "
                    "see whether they are still counted under the same labels"
                )
        return ""

    def _histogram_figure(
        self, name: str, kpi: Kpi, region: str | None, service: str | None
    ) -> KpiValue:
        cells, counts = self._select(name, "buckets", region, service)
        joined = np.nansum(counts, axis=(1, 2))
        value, lower, upper = (float(x) for x in quantile(kpi.quantile or 0, cells.edges, joined))
        beyond = np.isinf(upper)
        if beyond and np.isinf(lower):
            value = np.nan
        slower = joined.copy()
        slower[-1] += self._unseen(name, "buckets", counts[-1], region, service)
        worst, low, high = (float(x) for x in quantile(kpi.quantile or 0, cells.edges, slower))
        return self._figure(
            name, (region, service), counts[0], value, cells.problem,
            bounds=None if beyond else (lower, upper), beyond=beyond,
            worst=np.inf if np.isinf(high) else worst, worst_bounds=(low, high),
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
        more: dict[str, Any] = {}
        if kpi.per_second and kpi.better != "either" and len(totals):
            # A rate has no bound: what was not seen counts as the worst step that was.
            peak = self._peak(name, "increase", region, service) / self.span.step
            gone = 1 - seen.mean(axis=1)
            low, high = totals * (1 - gone), totals * (1 - gone) + peak * gone
            more = {"worst": float((low if kpi.better == "higher" else high).sum())}
        return self._figure(
            name, (region, service), values[0], float(totals.sum()), cells.problem, **more
        )

    def _gauge_figure(
        self, name: str, kpi: Kpi, region: str | None, service: str | None
    ) -> KpiValue:
        cells, values = self._select(name, "value", region, service)
        series = self.series(name, region, service)
        seen = series[~np.isnan(series)]
        value = float(_JOINS[kpi.over](seen)) if len(seen) else np.nan
        more: dict[str, Any] = {}
        if len(seen):
            # A gauge has no bound: what was not seen counts as the worst that was.
            ends = [
                float(_JOINS[kpi.over](np.where(np.isnan(series), extreme, series)))
                for extreme in (seen.min(), seen.max())
            ]
            if kpi.better != "either":
                more = {"worst": ends[0] if kpi.better == "higher" else ends[1]}
        reason = cells.problem or "its series were never seen all at one step"
        return self._figure(name, (region, service), values[0], value, reason, **more)


def _at(places: Sequence[tuple[int, int]]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Index of places in an array (regions, services, …)."""
    return tuple(np.array(places, dtype=np.intp).reshape(-1, 2).T)  # type: ignore[return-value]


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


def alerts(job: Job, span: Span, others: Sequence[Span] = ()) -> Alerts:
    """Return the alerts that fired in a span.

    That none fired is believed only where the server's own counter shows that rules were evaluated,
    and where an alert that fired in all of another span (a dead man's switch) still fires.
    """
    firing, evaluations = span.sets.get(FIRING), span.sets.get(EVALUATIONS)
    if job.alerts is None or firing is None or evaluations is None:
        return Alerts([], 0.0, "the catalogue asks for no alerts")
    for one in (firing, evaluations):
        if one.provenance.error:
            return Alerts([], 0.0, one.provenance.error)
        if one.provenance.warnings:
            return Alerts([], 0.0, f"the server warned: {one.provenance.warnings[0]}")
    if silent := _switches(others) - {labels.get("alertname", "") for labels in firing.labels}:
        name = min(silent)
        return Alerts([], 0.0, f"the alert {name}, which always fires, is not there")
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


def _switches(spans: Sequence[Span]) -> set[str]:
    """Names of the alerts that fired in every step of a span."""
    return {
        labels.get("alertname", "")
        for span in spans
        if (firing := span.sets.get(FIRING)) is not None
        for labels, values in zip(firing.labels, firing.values, strict=True)
        if (np.nan_to_num(values) > 0).all()
    }


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


def collection_summary(kpis: Kpis, recording: Recording) -> dict[str, Any]:
    """Return the content of `ga_kpi_summary.json`, from the window's KPIs."""
    fired = alerts(kpis.job, recording.window, recording.baselines)
    return {
        "schema": "tars-ga/kpi-summary/1",
        "release": kpis.job.parameters.release.model_dump(),
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


def baseline_metrics(baselines: Sequence[Kpis], recording: Recording) -> dict[str, Any]:
    """Return the content of `baseline_metrics.json`, from the KPIs of each baseline interval."""
    return {
        "schema": "tars-ga/baseline/1",
        "simulated": recording.simulated,
        "recording": recording.digest(),
        "intervals": [summary(kpis) for kpis in baselines],
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
