"""Preflight: which queries of the catalogue answer, what the others miss, and what was not scraped.

It is asked before the long work, and costs a small part of it. Of a window that has not ended, the
last hours before now are looked at.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tars_ga_lib import queries
from tars_ga_lib.catalogues import metric_names
from tars_ga_lib.collection import spans, utc_now, with_scrape_intervals
from tars_ga_lib.grammar import format_time
from tars_ga_lib.parameters import Job, Parameters
from tars_ga_lib.prometheus import Answer, Prometheus, QueryError, connect
from tars_ga_lib.queries import EVALUATIONS, FIRING, Request, requests
from tars_ga_lib.recording import Provenance, SampleSet, Span
from tars_ga_lib.scrapes import TOLERATED, Scrapes

LAST_HOURS = 6 * 3600
"""Seconds before now that are looked at where the window has not ended."""

_MATCHER = re.compile(r"([a-zA-Z_][a-zA-Z0-9_]*)\s*(?:=~|!~|!=|=)")
_STRING = re.compile(r'"(?:\\.|[^"\\])*"')


@dataclass(frozen=True)
class Finding:
    """What preflight found out about one query: nothing wrong, or one thing that is missing.

    `needed` says that a mandatory criterion or an objective rests on it, so that without it nothing
    can be certified; what another one would have told reads NO DATA.
    """

    request: Request
    problem: str
    needed: bool

    @property
    def ok(self) -> bool:
        """Whether the query answers for every region and service."""
        return not self.problem


def needed(job: Job) -> set[str]:
    """Return the templates of the queries that mandatory criteria and objectives rest on."""
    kpis = list(queries.needed(job).values())
    if any(criterion.drift and criterion.mandatory for criterion in job.criteria.values()):
        kpis += [job.kpis[kpi] for rule in job.rules.values() for kpi in rule.kpi]
    found = {template for kpi in kpis for template in kpi.queries().values()}
    if any(criterion.alerts and criterion.mandatory for criterion in job.criteria.values()):
        found |= {job.alerts.evaluations} if job.alerts else set()
    return found


def interval(job: Job, now: float | None = None) -> tuple[int, int]:
    """Start and end of what is looked at, in epoch seconds on the window's grid."""
    window = job.parameters.window
    now = time.time() if now is None else now
    if window.stop <= now:
        return window.start, window.stop
    stop = window.start + int((now - window.start) // window.step) * window.step
    length = min(window.seconds, LAST_HOURS // window.step * window.step)
    return stop - length, stop


def preflight(job: Job, *, instants: int = 6, now: float | None = None) -> Iterator[Finding]:
    """Say, before the long work, which queries return nothing, what they miss, what is not scraped.

    Each query is evaluated at a few instants of the window only, so this costs a small part of a
    collection; scrapes are counted over the whole of it and of the baseline.

    Raises
    ------
    SourceError
        If the server cannot be reached.
    """
    start, stop = interval(job, now)
    step = job.parameters.window.step
    steps = (stop - start) // step
    with connect(job.parameters.source) as server:
        server.version()
        known = server.metrics(start, stop)
        stride = max(1, steps // instants)
        last = start + steps // stride * stride * step
        look = _Look(job, server, known, start, stop)
        wanted = needed(job)
        for request in requests(job):
            try:
                answer = server.range(request.query, start, last, stride * step)
            except QueryError as error:
                problem = str(error)
            else:
                problem = look.missing(request, answer)
            mandatory = request.template in wanted or request.id.startswith("scrapes")
            yield Finding(request, problem, mandatory)
        yield from look.unscraped()
        yield from look.undeclared()


@dataclass(frozen=True)
class _Look:
    """What is looked at: a job's server, and the metrics that it has from `start` to `stop`."""

    job: Job
    server: Prometheus
    known: set[str]
    start: int
    stop: int

    def missing(self, request: Request, answer: Answer) -> str:
        """Return what an answer lacks, in words; empty if nothing."""
        if answer.warnings:
            return "the server warns: " + "; ".join(answer.warnings)
        if request.id == FIRING:
            return ""  # no alert is a good answer
        if answer.labels:
            return self._missing_members(request, answer)
        names = metric_names(request.query)
        if absent := [name for name in names if name not in self.known]:
            return f"no metric {', '.join(absent)} in the window"
        for name in names:
            if problem := self._missing_label(request, name):
                return problem
        return "its metrics are there, but the query returns nothing"

    def _missing_label(self, request: Request, name: str) -> str:
        plain = _STRING.sub('""', request.query)
        selectors = re.findall(rf"{re.escape(name)}\s*\{{([^}}]*)\}}", plain)
        labels = dict.fromkeys(label for text in selectors for label in _MATCHER.findall(text))
        for label in labels:
            values = self.server.label_values(label, name, self.start, self.stop)
            if not values:
                has = sorted(self.server.labels(name, self.start, self.stop) - {"__name__"})
                return f"the metric {name} has no label '{label}'; it has {', '.join(has[:8])}"
            for dimension, label_of in request.by.items():
                wanted = set(getattr(self.job.parameters, f"{dimension}s"))
                if label == label_of and not values & wanted:
                    return (
                        f"the label '{label}' of {name} has none of the {dimension}s asked for, "
                        "but " + ", ".join(sorted(values)[:5])
                    )
        return ""

    def _missing_members(self, request: Request, answer: Answer) -> str:
        parameters = self.job.parameters
        if request.id == EVALUATIONS or not request.by:
            return ""
        label = request.by
        if "service" not in label:
            seen = {labels.get(label["region"]) for labels in answer.labels}
            absent = [region for region in parameters.regions if region not in seen]
            return f"no samples for the region {', '.join(absent)}" if absent else ""
        places = {(x.get(label["region"]), x.get(label["service"])) for x in answer.labels}
        absent = _grouped([place for place in _expected(self.job, request) if place not in places],
                          parameters)  # fmt: skip
        return f"no samples for {'; '.join(absent)}" if absent else ""

    def unscraped(self) -> Iterator[Finding]:
        """Yield what of the scrapes of each region and service is missing."""
        parameters = self.job.parameters
        step = parameters.window.step
        counted = [r for r in requests(self.job) if r.template in
                   (self.job.scrapes.targets, self.job.scrapes.seen)]  # fmt: skip
        every: dict[str, Span] = {}
        for name, one in spans(parameters).items():
            start, stop = (self.start, self.stop) if name == "window" else (one.start, one.stop)
            sets = {}
            for request in counted:
                try:
                    answer = self.server.range(request.query, start, stop, step)
                except QueryError:
                    return  # said of the query itself
                provenance = Provenance(
                    request.id, request.template, request.by, request.query, self.server.url,
                    utc_now(),
                )  # fmt: skip
                sets[request.id] = SampleSet.of(provenance, answer.labels, answer.values)
            every[name] = Span(name, start, stop, step, sets)
        every = with_scrape_intervals(self.job, self.server, every)
        for name, span in every.items():
            others = [one for one in every.values() if one is not span]
            scrapes = Scrapes(self.job, span, others)
            lines: dict[str, list[tuple[str, str]]] = {}
            for i, region in enumerate(parameters.regions):
                for j, service in enumerate(parameters.services):
                    if parameters.runs(service, region):
                        text = _lacking(scrapes, span, (i, j))
                        lines.setdefault(text, []).append((region, service))
            lines.pop("", None)
            for text, places in lines.items():
                where = "; ".join(_grouped(places, parameters))
                problem = f"{name.replace('_', ' ')}, {where}: {text}"
                yield Finding(counted[-1], problem, needed=True)

    def undeclared(self) -> Iterator[Finding]:
        """Yield the regions and services that the server has and the parameters lack."""
        request = next(r for r in requests(self.job) if r.template == self.job.scrapes.targets)
        (name, *_) = metric_names(request.query) or [""]
        if name not in self.known:
            return
        for dimension, label in request.by.items():
            values = self.server.label_values(label, name, self.start, self.stop)
            more = sorted(values - set(getattr(self.job.parameters, f"{dimension}s")) - {""})
            if more:
                listed = ", ".join(more[:8]) + (f" and {len(more) - 8} more" if more[8:] else "")
                problem = f"the server also has the {dimension}s {listed}, which are not certified"
                yield Finding(request, problem, needed=False)


def _expected(job: Job, request: Request) -> list[tuple[str, str]]:
    """Return the places that a query is expected to answer for."""
    names = [n for n, kpi in job.kpis.items() if request.template in kpi.queries().values()]
    return [
        (region, service)
        for region in job.parameters.regions
        for service, placed in job.parameters.services.items()
        if job.parameters.runs(service, region)
        and not (names and all(name in (placed.without or ()) for name in names))
    ]


def _grouped(places: list[tuple[str, str]], parameters: Parameters) -> list[str]:
    """Name places for a reader; a region of which all services are meant only by its name."""
    words = []
    for region in dict.fromkeys(region for region, _ in places):
        members = [service for r, service in places if r == region]
        every = sum(parameters.runs(service, region) for service in parameters.services)
        words.append(region if len(members) == every else f"{region} / {', '.join(members)}")
    return words


def _lacking(scrapes: Scrapes, span: Span, place: tuple[int, int]) -> str:
    """Say what of a place's scrapes is missing; empty if no more than is tolerated."""
    expected = float(scrapes.expected[place].sum())
    if scrapes.missing(place) <= TOLERATED * expected:
        return ""
    seen = scrapes.seen[place]
    if not seen.any():
        return "no scrape"
    share = f"{min(float(seen.sum()) / expected, 1):.1%} of its scrapes were seen"
    last = int(np.flatnonzero(seen)[-1]) + 1
    if last < len(seen):
        share += f", none since {format_time(span.start + last * span.step)}"
    return share
