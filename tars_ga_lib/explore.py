"""A run for analysts: DataFrames for questions that nobody prepared, and a decision asked again.

```python
run = Run("outputs/demo")              # a run's folder, or a package, packed or not
run.frame("latency_p99")               # a row a step, a column a region and service
run.figure("availability", exclude=[("13:10", "13:40")])
run.what_if(criteria={"latency_p99": {"target": "< 0.3", "warning": None}})
```

The index of every frame of steps is the *start* of each step in UTC, so that `resample("1h")` has
the hours of the window; its `attrs` name the KPI, its unit (SI: seconds, bytes, ratios 0 to 1) and
the seconds of a step. Nothing here writes a file.

The mean of a frame of ratios or percentiles is a trap: a quiet step counts as much as a busy one.
`Run.figure` adds up what was counted instead, over any part of the window.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tars_ga_lib import criteria, drift, measured, parameters, queries, timeline, wording
from tars_ga_lib import run as runs
from tars_ga_lib.evidence import verify
from tars_ga_lib.facts import RunFacts
from tars_ga_lib.grammar import ParametersError, check, known_as, project_root
from tars_ga_lib.kpis import Kpis, KpiValue
from tars_ga_lib.prometheus import connect
from tars_ga_lib.recording import SampleSet, Span

Time = str | pd.Timestamp
"""A time of the window: `13:10`, `2026-11-20T13:10Z` or a Timestamp; UTC if it has no zone."""


class Run(runs.Run):
    """One run, as `tars_ga_lib.run.Run` has it, that answers in DataFrames.

    Parameters
    ----------
    path
        The run's folder, or its evidence package: an archive, or the folder that it was unpacked
        to. A relative path is relative to the project's folder.

    Raises
    ------
    ParametersError
        If there is no run, or the package is not whole.
    """

    def __init__(self, path: Path | str) -> None:
        folder = project_root() / path
        if folder.is_file():
            opened = contextlib.ExitStack()
            folder = opened.enter_context(verify.unpacked(folder))
            weakref.finalize(self, opened.close)
        super().__init__(folder)

    # --- series and figures ---

    def frame(self, kpi: str, *, span: str = "window", part: str | None = None) -> pd.DataFrame:
        """KPI at each step: a row a step, a column a region and service.

        Parameters
        ----------
        span
            `window`, or `baseline_1` and so on, the latest first.
        part
            One of its queries instead, as its samples were recorded: `numerator`, `denominator`,
            `increase`, `value`, `buckets` (with a third level of columns, `le`) …

        Raises
        ------
        ParametersError
            If there is no such KPI, span or part; it names the nearest.
        """
        known_as("KPI", kpi, self.job.kpis)
        asked, interval = self.job.kpis[kpi], self._span(span)
        facts = {
            "kpi": kpi, "title": asked.title, "about": asked.about, "unit": asked.unit,
            "step_seconds": interval.step,
        }  # fmt: skip
        if part is None:
            kpis = Kpis(self.job, interval)
            places = [(region or "", service or "") for region, service in kpis.places(kpi)]
            columns = pd.MultiIndex.from_tuples(places, names=["region", "service"])
            return _framed(kpis.matrix(kpi).T, interval, columns, facts)
        known_as(f"part of {kpi}", part, asked.queries())
        by = queries.dimensions(asked, self.job.parameters)
        samples = interval.find(asked.queries()[part], by)
        labels = samples.labels if samples else []
        values = samples.values if samples else np.empty((0, interval.steps))
        names = [*by.items(), *([("le", "le")] if part == "buckets" else [])]
        columns = pd.MultiIndex.from_tuples(
            [tuple(row.get(label, "") for _, label in names) for row in labels],
            names=[name for name, _ in names],
        )
        query = samples.provenance.query if samples else None
        return _framed(values.T, interval, columns, facts | {"part": part, "query": query})

    def figure(
        self,
        kpi: str,
        start: Time | None = None,
        end: Time | None = None,
        *,
        exclude: Iterable[tuple[Time, Time]] = (),
        region: str | None = None,
        service: str | None = None,
        span: str = "window",
    ) -> KpiValue:
        """KPI over a part of the window, totals over totals, with its coverage.

        Parameters
        ----------
        start, end
            Only the steps that lie within; the whole window if not given.
        exclude
            Stretches of time, as (start, end), of which every step is left out that they touch.
        span
            `window`, or `baseline_1` and so on.

        Raises
        ------
        ParametersError
            If there is no such KPI, region, service or span, or no step is left.
        """
        interval = self._span(span)
        starts = interval.start + interval.step * np.arange(interval.steps)
        kept = np.ones(interval.steps, dtype=bool)
        if start is not None:
            kept &= starts >= self._moment(start, interval)
        if end is not None:
            kept &= starts + interval.step <= self._moment(end, interval)
        for first, last in exclude:
            begin, stop = self._moment(first, interval), self._moment(last, interval)
            kept &= (starts + interval.step <= begin) | (starts >= stop)
        if not kept.any():
            raise ParametersError(
                f"figure: no step of {interval.step} s is left between {start or 'the start'} and "
                f"{end or 'the end'}; choose a longer time"
            )
        sets = {key: replace(one, values=one.values[:, kept]) for key, one in interval.sets.items()}
        stop = interval.start + int(kept.sum()) * interval.step
        others = self.recording.baselines if span == "window" else []
        left = replace(interval, stop=stop, sets=sets)
        return Kpis(self.job, left, others).figure(kpi, region, service)

    def query(
        self, promql: str, server: str | None = None, *, span: str = "window"
    ) -> pd.DataFrame:
        """Ask any PromQL at each step: a column a series.

        The marks of the KPI catalogue (`$match`, `$by`, `$step`, `$step_seconds`) are filled in.

        Parameters
        ----------
        server
            URL of a Prometheus to ask. Without it the answer is that of the recording, which has
            the queries of the run's KPIs and objectives only.

        Raises
        ------
        ParametersError
            If the recording does not hold the query.
        SourceError, QueryError
            If the server does not answer it.
        """
        interval, given = self._span(span), self.job.parameters
        text = " ".join(promql.split())
        if server is None:
            held = {one.provenance.query: one for one in _asked(interval).values()}
            held |= {" ".join(one.provenance.template.split()): one for one in held.values()}
            if text not in held:
                near = difflib.get_close_matches(text, held, 1, 0.5)
                raise ParametersError(
                    f"query: the recording does not hold {promql!r}; ask a server for it with "
                    "query(…, 'http://…'), or for one of Run.queries"
                    + "".join(f", like {other!r}" for other in near)
                )
            found = held[text]
            text, labels, values = found.provenance.query, found.labels, found.values
        else:
            source = check(parameters.Source, {"prometheus": server}, f"query: {server}")
            text = queries.resolve(text, given.labels.model_dump(), given, "query", interval.step)
            with connect(source) as prometheus:
                answer = prometheus.range(text, interval.start, interval.stop, interval.step)
            labels, values = answer.labels, answer.values
        columns = pd.MultiIndex.from_frame(pd.DataFrame(labels).fillna("")) if any(labels) else None
        facts = {"query": text, "step_seconds": interval.step, "source": server or "recording"}
        return _framed(values.T, interval, columns, facts)

    @property
    def queries(self) -> pd.DataFrame:
        """The recording's queries by id: as the catalogues have them, and as they were sent."""
        facts = [(key, one.provenance.template, one.provenance.query)
                 for key, one in _asked(self.recording.window).items()]  # fmt: skip
        return pd.DataFrame(facts, columns=["id", "template", "query"]).set_index("id")

    def _span(self, name: str) -> Span:
        known_as("span", name, self.recording.spans)
        return self.recording.spans[name]

    def _moment(self, time: Time, span: Span) -> float:
        """Epoch seconds of a time; a time of day is the first such of the span."""
        day = pd.Timestamp(span.start, unit="s", tz="UTC")
        clock = isinstance(time, str) and re.fullmatch(r"\d?\d:\d\d(:\d\d)?", time)
        try:
            moment = pd.Timestamp(f"{day:%Y-%m-%d} {time}" if clock else time)
        except ValueError:
            raise ParametersError(f"{time!r} is not a time; write it like 13:10") from None
        moment = moment.tz_localize("UTC") if moment.tz is None else moment
        if clock and moment < day:
            moment += pd.Timedelta(days=1)
        return moment.timestamp()

    # --- what was found and decided ---

    @cached_property
    def evaluations(self) -> pd.DataFrame:
        """Every evaluation of a drift rule, by id, as `drift_analysis.json` has them."""
        return _table(self.read("drift_analysis.json")["evaluations"], "id")

    @property
    def findings(self) -> pd.DataFrame:
        """Evaluations beyond a limit, by id; the gravest first, in multiples of its limit."""
        found = self.evaluations[self.evaluations["verdict"].isin(["warn", "fail"])]
        change = found["drift"].abs() / found["critical"]
        order = pd.DataFrame({"fails": found["verdict"] == "fail", "change": change})
        return found.loc[order.sort_values(["fails", "change"], ascending=False).index]

    @property
    def incidents(self) -> pd.DataFrame:
        """Parts of the window that stood out, and the evaluations that say so."""
        return _table(self.read("drift_analysis.json")["incidents"])

    @property
    def criteria(self) -> pd.DataFrame:
        """Criteria with their verdicts, by name; `attrs` has the decision and why."""
        return _decided(self.read("certification_metadata.json"))

    @property
    def events(self) -> pd.DataFrame:
        """What happened, in order of time; see `timeline.frame` for its columns."""
        return timeline.frame(timeline.events(RunFacts(self)))

    def what_if(
        self,
        criteria: Mapping[str, Mapping[str, Any]] | Path | str | None = None,
        set: Sequence[str] = (),
    ) -> pd.DataFrame:
        """Decide again by other criteria, limits or objectives: the criteria, and what each was.

        Parameters
        ----------
        criteria
            What differs, by criterion and key, or the file of other criteria.
        set
            Assignments as `tars-ga run --set` takes them: `drift_rules.cpu_usage.critical=0.25`.

        Raises
        ------
        ParametersError
            If something in them is wrong, or they ask for another window.
        """
        changes = list(set)
        if isinstance(criteria, Mapping):
            changes += [
                f"criteria.{name}.{key}={json.dumps(value)}"
                for name, keys in criteria.items()
                for key, value in keys.items()
            ]
        elif criteria is not None:
            changes.append(f"criteria={json.dumps(str((project_root() / criteria).resolve()))}")
        job = parameters.load(self.folder / "parameters" / "run.yaml", changes)
        given = job.parameters
        if (
            given.window != self.job.parameters.window
            or given.baseline != self.job.parameters.baseline
        ):
            raise ParametersError(
                "what_if: decides on the samples of this run; for another window or baseline make "
                "a run of it: tars-ga run … --set source.recording=…"
            )
        certification = _certify(self, job)
        table = _decided(certification)
        table.insert(0, "was", self.criteria["verdict"].reindex(table.index))
        return table


def _asked(span: Span) -> dict[str, SampleSet]:
    """Samples that answer a query, by id: the seconds between scrapes were worked out."""
    return {key: one for key, one in span.sets.items() if key != queries.INTERVAL}


def _certify(run: Run, job: parameters.Job) -> dict[str, Any]:
    """Decide on a run's samples by another job; drift is tested again only where it may differ."""

    def compared(one: parameters.Job) -> tuple[object, ...]:
        given = one.parameters
        return one.rules, one.kpis, one.scrapes, given.regions, given.services

    window = Kpis(job, run.recording.window, run.recording.baselines)
    if compared(job) == compared(run.job):
        analysis = run.read("drift_analysis.json")
    else:
        analysis = drift.analyse(window, window.others)
    return criteria.certify(window, run.recording, analysis, measured.load(job, run.folder))


def _decided(certification: Mapping[str, Any]) -> pd.DataFrame:
    table = _table(certification["criteria"], "name")
    table.attrs["decision"] = certification["decision"]
    table.attrs["why"] = wording.why(certification)
    return table


def _table(rows: Sequence[Mapping[str, Any]], index: str | None = None) -> pd.DataFrame:
    """Make a table of facts; times become times."""
    table = pd.DataFrame(rows)
    for name in ("began", "ended"):
        if name in table:
            table[name] = pd.to_datetime(table[name], utc=True)
    return table.set_index(index) if index and len(table) else table


def _framed(
    values: NDArray[np.float64], span: Span, columns: pd.Index | None, attrs: Mapping[str, Any]
) -> pd.DataFrame:
    index = pd.to_datetime(span.start + span.step * np.arange(span.steps), unit="s", utc=True)
    index.name = "step_start"
    table = pd.DataFrame(values, index=index, columns=columns)
    table.attrs |= dict(attrs)
    return table
