"""The outlook: what a window that is not over yet comes to so far.

The part that is over is looked at as if it were the whole window: its criteria, its drift against
the same part of the baseline, the budgets left, the alerts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tars_ga_lib import measured
from tars_ga_lib.collection import baseline_run, utc_now
from tars_ga_lib.grammar import ParametersError, format_time
from tars_ga_lib.parameters import BaselineRun, Job
from tars_ga_lib.recording import Span

SCHEMA = "tars-ga/watch/1"


@dataclass(frozen=True)
class Question:
    """What is looked at: the window up to now, the baselines, and from which step on is new."""

    job: Job
    window: Span
    baselines: list[Span]
    since: int


def look(question: Question) -> list[dict[str, Any]]:
    """Return a snapshot of each new step, the last one with the outlook as of its end.

    Raises
    ------
    ParametersError
        If a run that is the baseline cannot be read, or does not fit.
    """
    from tars_ga_lib import kpis

    each = kpis.snapshots(kpis.Kpis(question.job, question.window))[question.since :]
    found = [{**blank, **snapshot} for blank, snapshot in zip(without(question), each, strict=True)]
    if found:
        found[-1]["outlook"] = _outlook(question)
    return found


def without(question: Question) -> list[dict[str, Any]]:
    """Return a snapshot of each new step that only says that it is over."""
    window = question.window
    steps = question.job.parameters.window.seconds // window.step
    return [
        {
            "schema": SCHEMA,
            "step": number,
            "steps": steps,
            "taken_at": utc_now(),
            "step_end": format_time(window.start + number * window.step),
            "kpis": None,
            "outlook": None,
        }
        for number in range(question.since + 1, window.steps + 1)
    ]


def _outlook(question: Question) -> dict[str, Any]:
    from tars_ga_lib import criteria, drift, kpis, slo, wording

    whole, window = question.job, question.window
    job = _so_far(whole, window)
    like = list(_like(question))
    now = kpis.Kpis(job, window, like)
    before = [kpis.Kpis(job, span) for span in like]
    analysis = drift.analyse(now, before) if before else _no_drift("no baseline was collected")
    known = criteria.evaluate(job, now, analysis, _measured(whole))
    facts = known.facts()
    fired = kpis.alerts(job, window, like)
    return {
        "decision": known.decision,
        "why": wording.why(facts),
        **{key: facts[key] for key in ("binding_criterion", "criteria")},
        "drift": {
            "counts": analysis["counts"],
            "worst": analysis["worst"],
            "first_alarms": _first_alarms(question, analysis["worst"]) if before else {},
        },
        "slo": _budgets(slo.status(kpis.Kpis(whole, window), whole.slos)) if whole.slos else None,
        "alerts": {
            "known": fired.known,
            "reason": fired.reason or None,
            "count": fired.count(),
            "firing": [alert.facts() for alert in fired.fired if alert.ongoing],
        },
        "coverage": _coverage(now),
    }


def _so_far(job: Job, window: Span) -> Job:
    """Return the job as if its window ended where the samples do."""
    ended = job.parameters.window.model_copy(
        update={"duration": window.stop - window.start, "end": None}
    )
    return replace(job, parameters=job.parameters.model_copy(update={"window": ended}))


def _like(question: Question) -> list[Span]:
    """Return the part of each baseline that is like the window so far.

    One that is as long as the whole window is cut where the window is; of one of another length,
    the drift analysis takes the like hours itself.
    """
    window, whole = question.window, question.job.parameters.window.seconds
    return [
        span.cut(span.start, span.start + window.stop - window.start, span.step, span.name)
        if span.stop - span.start == whole
        else span
        for span in _baselines(question)
    ]


def _baselines(question: Question) -> list[Span]:
    """Return the whole baselines, those that were collected or an earlier run's."""
    baseline = question.job.parameters.baseline
    if isinstance(baseline, BaselineRun):
        return [baseline_run(question.job.parameters, baseline)[0]]
    return question.baselines


def _first_alarms(question: Question, findings: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Time by which each finding was sure, however often it was looked for, by its id.

    The part that is over is looked at again at every step, which would find something in the end.
    These checks know that (see `shifts.sequential`), and so must know how long the window will be.
    """
    from tars_ga_lib import drift, kpis

    job, window = question.job, question.window
    planned = job.parameters.window
    now = window.cut(planned.start, planned.stop, window.step, window.name)
    names = [each.name for each in fields(drift.Evaluation) if each.name != "details"]
    asked = [
        drift.Evaluation(**{name: finding[name] for name in names}, details={})
        for finding in findings
        if finding["measure"] != "exact"
    ]
    before = [kpis.Kpis(job, span) for span in _baselines(question)]
    alarms = drift.incremental(kpis.Kpis(job, now), before, asked)
    # Without a sample more, the checks of the hours to come would ask for ever less.
    until = format_time(window.stop)
    return {name: at for name, at in alarms.items() if at <= until}


def _budgets(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return of the objectives what a watcher needs: each one's figure and budget, and alarms."""
    objectives = {
        name: {
            "title": each["title"],
            "target": each["target"],
            **{key: each["overall"][key] for key in ("verdict", "value", "reason", "budget")},
        }
        for name, each in status["objectives"].items()
    }
    return {**{key: status[key] for key in ("firing", "exhausted")}, "objectives": objectives}


def _no_drift(reason: str) -> dict[str, Any]:
    stability = {"worst": None, "where": None, "coverage": 0.0, "reason": reason, "doubt": ""}
    return {"counts": {}, "worst": [], "stability": stability}


def _measured(job: Job) -> Mapping[str, measured.Results]:
    """Return what was measured on the running system, where the parameters name a file of it."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            measured.bring(job, Path(folder))
            return measured.load(job, Path(folder))
        except ParametersError as error:
            return {kind: measured.Results(kind, problem=str(error)) for kind in measured.SCHEMAS}


def _coverage(now: Any) -> dict[str, Any]:
    """Return the share of samples that were seen of the KPIs that have any, and which have none."""
    figures = {name: now.figure(name) for name, kpi in now.job.kpis.items() if not kpi.optional}
    seen = [figure for figure in figures.values() if figure.samples]
    expected = sum(figure.expected for figure in seen)
    return {
        "samples": sum(figure.samples for figure in seen) / expected if expected else 0.0,
        "without": [name for name, figure in figures.items() if not figure.samples],
    }
