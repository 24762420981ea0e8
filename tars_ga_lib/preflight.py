"""Preflight: which queries of the catalogue answer, and what the others miss.

It is asked before the long work, and costs a small part of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tars_ga_lib.catalogues import metric_names
from tars_ga_lib.parameters import Job, Parameters
from tars_ga_lib.prometheus import Answer, Prometheus, QueryError, connect
from tars_ga_lib.queries import EVALUATIONS, FIRING, Request, requests


@dataclass(frozen=True)
class Finding:
    """What preflight found out about one query: nothing wrong, or what is missing.

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
    mandatory = [criterion for criterion in job.criteria.values() if criterion.mandatory]
    names = {str(criterion.kpi) for criterion in mandatory if criterion.kpi}
    if any(criterion.drift for criterion in mandatory):
        names |= {kpi for rule in job.rules.values() for kpi in rule.kpi}
    kpis = [job.kpis[name] for name in names] + [each.kpi for each in job.slos.values()]
    return {template for kpi in kpis for template in kpi.queries().values()}


def preflight(job: Job, *, instants: int = 6) -> Iterator[Finding]:
    """Say, before the long work, which queries return nothing and what they miss.

    Each query is evaluated at a few instants of the window only, so this costs a small part of a
    collection.

    Raises
    ------
    SourceError
        If the server cannot be reached.
    """
    parameters = job.parameters
    window = parameters.window
    steps = window.seconds // window.step
    with connect(parameters.source) as server:
        server.version()
        known = server.metrics(window.start, window.stop)
        stride = max(1, steps // instants)
        last = window.start + steps // stride * stride * window.step
        wanted = needed(job)
        for request in requests(job):
            try:
                answer = server.range(request.query, window.start, last, stride * window.step)
            except QueryError as error:
                problem = str(error)
            else:
                problem = _missing(request, answer, server, known, parameters)
            yield Finding(request, problem, request.template in wanted)


def _missing(
    request: Request,
    answer: Answer,
    server: Prometheus,
    known: set[str],
    parameters: Parameters,
) -> str:
    """Return what an answer lacks, in words; empty if nothing."""
    if answer.warnings:
        return "the server warns: " + "; ".join(answer.warnings)
    if request.id == FIRING:
        return ""  # no alert is a good answer
    if answer.labels:
        return _missing_members(request, answer, parameters)
    names = metric_names(request.query)
    if absent := [name for name in names if name not in known]:
        return f"no metric {', '.join(absent)} in the window"
    for name in names:
        for dimension, label in request.by.items():
            values = server.label_values(
                label, name, parameters.window.start, parameters.window.stop
            )
            if not values:
                return f"the metric {name} has no label '{label}'"
            wanted = getattr(parameters, f"{dimension}s")
            if not values & set(wanted):
                return (
                    f"the label '{label}' of {name} has none of the {dimension}s asked for, but "
                    + ", ".join(sorted(values)[:5])
                )
    return "its metrics are there, but the query returns nothing"


def _missing_members(request: Request, answer: Answer, parameters: Parameters) -> str:
    if request.id == EVALUATIONS:
        return ""
    for dimension, label in request.by.items():
        wanted = getattr(parameters, f"{dimension}s")
        seen = {labels.get(label) for labels in answer.labels}
        if absent := [name for name in wanted if name not in seen]:
            return f"no samples for the {dimension} {', '.join(absent)}"
    return ""
