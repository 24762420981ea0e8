"""Collection: from the parameters' source to a recording.

For each query of the KPI catalogue, each span is asked for as one grid: increments and gauges at
the end of each step, aggregated by the query engine. The same query is asked once, however many
KPIs use it. A query that fails does not stop the others; it is kept with its error, and what it
would have told is missing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from tars_ga_lib import __version__, recording
from tars_ga_lib.grammar import Interval, ParametersError
from tars_ga_lib.parameters import BaselineRun, Job, Parameters
from tars_ga_lib.queries import INTERVAL, Request, requests, resolve
from tars_ga_lib.recording import Provenance, Recording, SampleSet, Span

if TYPE_CHECKING:
    from tars_ga_lib.prometheus import Prometheus

SERIES_A_PLACE = 64
"""Series that an answer may have for a region and service: a histogram has one a bucket."""

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
        earlier, simulated = baseline_run(parameters, parameters.baseline)
        found = replace(
            found,
            spans={"window": found.window, earlier.name: earlier},
            simulated=found.simulated or simulated,
            origin=None,
        )
    return found


def baseline_run(parameters: Parameters, baseline: BaselineRun) -> tuple[Span, bool]:
    """Return the window of an earlier run as a baseline, and whether it was simulated.

    Raises
    ------
    ParametersError
        If it cannot be read, or does not fit the window.
    """
    run = recording.load(baseline.run)
    earlier = run.window
    if earlier.start < parameters.window.stop and parameters.window.start < earlier.stop:
        raise ParametersError(
            f"baseline.run: the window of {baseline.run} overlaps this window, so "
            "the release would be compared with itself; choose an earlier run"
        )
    cut = earlier.cut(earlier.start, earlier.stop, parameters.window.step, "baseline_1")
    return cut, run.simulated


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
    simulated = source.simulated or parameters.simulated
    whole = cuts.keys() == source.spans.keys()
    if whole and all(cuts[name].sets is source.spans[name].sets for name in cuts):
        # Nothing was cut: the recording stays what it is, to the byte.
        return (
            source
            if simulated == source.simulated
            else replace(source, simulated=simulated, origin=None)
        )
    return Recording(
        server=source.server,
        version=source.version,
        software=source.software,
        collected_at=source.collected_at,
        simulated=simulated,
        spans=cuts,
        problems=source.problems,
    )


def utc_now() -> str:
    """Return the time of asking, as it is recorded."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def with_scrape_intervals(
    job: Job, server: Prometheus, spans: Mapping[str, Span]
) -> dict[str, Span]:
    """Add to each span how far apart the scrapes of each region and service are, in seconds.

    It is the shorter of what the server's targets are configured to and of how far apart raw
    samples are, looked at twice in each span. What the server does not tell is left out.
    """
    labels = job.scrapes.dimensions(job.parameters.labels.model_dump())
    query = resolve(job.scrapes.selector, labels, job.parameters, job.parameters.kpis, 0)
    gaps: dict[tuple[str, ...], list[float]] = {}
    configured: dict[tuple[str, ...], list[float]] = {}

    def keep(
        into: dict[tuple[str, ...], list[float]], facts: Mapping[str, str], seconds: Any
    ) -> None:
        place = tuple(facts.get(label, "") for label in labels.values())
        into.setdefault(place, []).extend(seconds)

    for facts, seconds in server.scrape_intervals():
        keep(configured, facts, [seconds])
    for span in spans.values():
        for share in (0.25, 0.75):
            at = int(span.start + share * (span.stop - span.start))
            for facts, apart in server.spacings(query, at, 2 * span.step):
                keep(gaps, facts, apart)
    # The usual gap, in whole seconds: samples come a little early or late.
    usual = {p: [max(1.0, round(float(np.quantile(v, 0.25))))] for p, v in gaps.items() if v}
    declared = {place[: len(labels)] for place in _declared(job.parameters)}
    places = sorted((usual.keys() | configured.keys()) & declared)
    known = [min(usual.get(p, []) + configured.get(p, [])) for p in places]
    rows = [dict(zip(labels.values(), place, strict=True)) for place in places]
    found = {}
    for name, span in spans.items():
        provenance = Provenance(
            INTERVAL, job.scrapes.selector, labels, query, server.url, utc_now()
        )
        values = np.repeat(np.array(known, dtype=np.float64)[:, None], span.steps, axis=1)
        found[name] = replace(
            span, sets=span.sets | {INTERVAL: SampleSet.of(provenance, rows, values)}
        )
    return found


def _declared(parameters: Parameters) -> set[tuple[str, str]]:
    return {
        (region, service)
        for region in parameters.regions
        for service in parameters.services
        if parameters.runs(service, region)
    }


def _from_server(job: Job, progress: Progress) -> Recording:
    # A replay does without the client, which takes as long to import as a recording to read.
    from tars_ga_lib.prometheus import Answer, QueryError, SourceError, connect

    parameters, started = job.parameters, utc_now()
    problems: list[str] = []
    gone = threading.Event()
    source, places = parameters.source, len(parameters.regions) * len(parameters.services)
    series, deadline = places * SERIES_A_PLACE, source.whole_deadline
    with connect(source, series=series, deadline=deadline) as server:
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
                    raise QueryError(f"not asked, as the server does not answer ({problems[0]})")
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
                request.id, request.template, request.by, request.query, server.url, utc_now(),
                nonfinite=answer.nonfinite, warnings=answer.warnings, error=error,
                infos=answer.infos,
            )  # fmt: skip
            return SampleSet.of(provenance, answer.labels, answer.values)

        wanted = spans(parameters)
        asked = [(name, request) for name in wanted for request in requests(job)]
        with ThreadPoolExecutor(source.connections) as pool, server.interruptible():
            jobs = {pool.submit(ask, wanted[name], r): (name, r.id) for name, r in asked}
            for _ in progress(as_completed(jobs), total=len(jobs)):
                pass
        answers = {key: future.result() for future, key in jobs.items()}
    found = {}
    for name, each in wanted.items():
        sets = {r.id: answers[name, r.id] for r in requests(job)}
        found[name] = Span(name, each.start, each.stop, parameters.window.step, sets)
    if not gone.is_set():
        with connect(parameters.source) as server:
            found = with_scrape_intervals(job, server, found)
    return Recording(
        server=server.url,
        version=version,
        software=f"tars-ga {__version__}",
        collected_at=started,
        simulated=parameters.simulated,
        spans=found,
        problems=problems,
    )
