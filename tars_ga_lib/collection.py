"""Collection: from the parameters' source to a recording.

For each query of the KPI catalogue, each span is asked for as one grid: increments and gauges at
the end of each step, aggregated by the query engine. The same query is asked once, however many
KPIs use it. A query that fails does not stop the others; it is kept with its error, and what it
would have told is missing.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from tars_ga_lib import __version__, recording
from tars_ga_lib.parameters import (
    BaselineRun,
    Interval,
    Job,
    Parameters,
    ParametersError,
)
from tars_ga_lib.prometheus import Answer, Prometheus, QueryError, SourceError
from tars_ga_lib.queries import EVALUATIONS, FIRING, Request, requests
from tars_ga_lib.recording import Provenance, Recording, SampleSet, Span

Progress = Callable[..., Iterable[Any]]
"""Wraps an iterable, as `tqdm.tqdm` does; it is told the `total`."""


def silent(items: Iterable[Any], **_: object) -> Iterable[Any]:
    """Progress that shows nothing."""
    return items


def spans(parameters: Parameters) -> dict[str, Interval]:
    """Name and interval of what is to be collected from a server."""
    baselines = enumerate(parameters.baseline_intervals(), 1)
    return {"window": parameters.window} | {f"baseline_{k}": each for k, each in baselines}


def collect(job: Job, progress: Progress = silent) -> Recording:
    """Read the window and the baseline from the job's source.

    A server that cannot be reached gives a recording that is empty and says so: what follows from
    it is INCONCLUSIVE, never a crash and never a pass.

    Raises
    ------
    ParametersError
        If a recording that is named as the source or the baseline cannot be read or does not fit.
    """
    parameters = job.parameters
    if parameters.source.recording is not None:
        found = _replay(parameters, recording.load(parameters.source.recording))
    else:
        found = _from_server(job, progress)
    if isinstance(parameters.baseline, BaselineRun):
        earlier = recording.load(parameters.baseline.run).window
        if earlier.start < parameters.window.stop and parameters.window.start < earlier.stop:
            raise ParametersError(
                f"baseline.run: the window of {parameters.baseline.run} overlaps this window, so "
                "the release would be compared with itself; choose an earlier run"
            )
        step = parameters.window.step
        found.spans["baseline_1"] = earlier.cut(earlier.start, earlier.stop, step, "baseline_1")
    return found


def _replay(parameters: Parameters, source: Recording) -> Recording:
    """Return the recorded samples on the intervals that are asked for."""
    step = parameters.window.step
    recorded = list(source.spans.values())
    cuts = {}
    for name, interval in spans(parameters).items():
        # The recorded span that covers most of it; a span of another time would be all missing.
        nearest = max(
            recorded, key=lambda s: min(s.stop, interval.stop) - max(s.start, interval.start)
        )
        cuts[name] = nearest.cut(interval.start, interval.stop, step, name)
    return Recording(
        server=source.server,
        version=source.version,
        software=source.software,
        collected_at=source.collected_at,
        simulated=source.simulated or parameters.simulated,
        spans=cuts,
        problems=source.problems,
    )


def client(parameters: Parameters) -> Prometheus:
    """Return a client of the parameters' Prometheus server."""
    source = parameters.source
    if source.prometheus is None:
        raise ParametersError("source: it names a recording, and this needs 'prometheus' (a URL)")
    return Prometheus(
        source.prometheus,
        timeout=source.timeout,
        connections=source.connections,
        org_id=source.org_id,
    )


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _from_server(job: Job, progress: Progress) -> Recording:
    parameters, started = job.parameters, _now()
    problems: list[str] = []
    gone = threading.Event()
    with client(parameters) as server:
        try:
            version = server.version()
        except SourceError as error:
            version = "unknown"
            problems.append(str(error))
            gone.set()

        def ask(interval: Interval, request: Request) -> SampleSet:
            answer, error = (
                Answer([], np.empty((0, interval.seconds // parameters.window.step))),
                "",
            )
            try:
                if gone.is_set():
                    raise QueryError("not asked, as the server does not answer")
                answer = server.range(
                    request.query, interval.start, interval.stop, parameters.window.step
                )
            except QueryError as problem:
                error = str(problem)
            except SourceError as problem:
                # The first to find the server gone says so for all.
                if not gone.is_set():
                    problems.append(str(problem))
                gone.set()
                error = str(problem)
            provenance = Provenance(
                request.id, request.template, request.by, request.query, server.url, _now(),
                nonfinite=answer.nonfinite, warnings=answer.warnings, error=error,
            )  # fmt: skip
            return SampleSet.of(provenance, answer.labels, answer.values)

        wanted = spans(parameters)
        asked = [(name, request) for name in wanted for request in requests(job)]
        with ThreadPoolExecutor(parameters.source.connections) as pool:
            jobs = {pool.submit(ask, wanted[name], r): (name, r.id) for name, r in asked}
            for _ in progress(as_completed(jobs), total=len(jobs)):
                pass
        answers = {key: future.result() for future, key in jobs.items()}
    found = {}
    for name, each in wanted.items():
        sets = {r.id: answers[name, r.id] for r in requests(job)}
        found[name] = Span(name, each.start, each.stop, parameters.window.step, sets)
    return Recording(
        server=server.url,
        version=version,
        software=f"tars-ga {__version__}",
        collected_at=started,
        simulated=parameters.simulated,
        spans=found,
        problems=problems,
    )


# --- preflight -----------------------------------------------------------------------------------

_METRIC = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*[{\[]")
_STRING = re.compile(r'"(?:\\.|[^"\\])*"')


@dataclass(frozen=True)
class Finding:
    """What preflight found out about one query: nothing wrong, or what is missing."""

    request: Request
    problem: str

    @property
    def ok(self) -> bool:
        """Whether the query answers for every region and service."""
        return not self.problem


def metric_names(query: str) -> list[str]:
    """Names of the metrics that a PromQL query selects, in their order."""
    return list(dict.fromkeys(_METRIC.findall(_STRING.sub('""', query))))


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
    with client(parameters) as server:
        server.version()
        known = server.metrics(window.start, window.stop)
        stride = max(1, steps // instants)
        last = window.start + steps // stride * stride * window.step
        for request in requests(job):
            try:
                answer = server.range(request.query, window.start, last, stride * window.step)
            except QueryError as error:
                yield Finding(request, str(error))
                continue
            yield Finding(request, _missing(request, answer, server, known, parameters))


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
