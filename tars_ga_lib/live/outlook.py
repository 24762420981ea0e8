"""The outlook: what a window that is not over yet comes to so far.

The part that is over is judged as if it were the whole window, by what judges a run: its criteria,
its drift against the same part of the baseline, the budgets left, the alerts. As the statistics
take more memory than a watch may hold, it runs as a process of its own: it is asked by pickle on
standard input, and answers in JSON on standard output.
"""

from __future__ import annotations

import json
import pickle
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from tars_ga_lib import criteria, drift, kpis, measured, slo, wording
from tars_ga_lib.collection import baseline_run
from tars_ga_lib.grammar import ParametersError, format_time
from tars_ga_lib.kpis import Kpis
from tars_ga_lib.parameters import BaselineRun, Job
from tars_ga_lib.recording import Span


def look(job: Job, window: Span, baselines: list[Span], since: int) -> list[dict[str, Any]]:
    """Return of each step from `since` on its KPIs, and with the last one the outlook at its end.

    Parameters
    ----------
    window
        The steps that are over.
    baselines
        The whole baselines, as they were collected.

    Raises
    ------
    ParametersError
        If a run that is the baseline cannot be read, or does not fit.
    """
    steps = kpis.snapshots(Kpis(job, window))[since:]
    looks = [{"kpis": step["kpis"], "outlook": None} for step in steps]
    if isinstance(job.parameters.baseline, BaselineRun):
        baselines = [baseline_run(job.parameters, job.parameters.baseline)[0]]
    if looks:
        looks[-1]["outlook"] = _outlook(job, window, baselines)
    return looks


def _outlook(whole: Job, window: Span, baselines: Sequence[Span]) -> dict[str, Any]:
    planned = whole.parameters.window
    so_far = planned.model_copy(update={"duration": window.stop - window.start, "end": None})
    job = replace(whole, parameters=whole.parameters.model_copy(update={"window": so_far}))
    # A baseline as long as the whole window is cut where the window is; of one of another length,
    # the drift analysis takes the like hours itself.
    like = [
        span.cut(span.start, span.start + window.stop - window.start, span.step, span.name)
        if span.stop - span.start == planned.seconds
        else span
        for span in baselines
    ]
    now = Kpis(job, window, like)
    analysis = drift.analyse(now, [Kpis(job, span) for span in like])
    facts = criteria.evaluate(job, now, analysis, _measured(whole)).facts()
    fired = kpis.alerts(job, window, like)
    return {
        "decision": facts["decision"],
        "why": wording.why(facts),
        **{key: facts[key] for key in ("binding_criterion", "criteria")},
        "drift": {
            **{key: analysis[key] for key in ("counts", "worst")},
            "first_alarms": _first_alarms(whole, window, baselines, analysis["worst"]),
        },
        "slo": _budgets(slo.status(Kpis(whole, window), whole.slos)) if whole.slos else None,
        "alerts": {
            "known": fired.known,
            "reason": fired.reason or None,
            "count": fired.count(),
            "firing": [alert.facts() for alert in fired.fired if alert.ongoing],
        },
        "coverage": _coverage(now),
    }


def _first_alarms(
    job: Job, window: Span, baselines: Sequence[Span], findings: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    """Time by which each finding was sure, however often it was looked for, by its id.

    The part that is over is looked at again at every step, which would find something in the end.
    These checks know that (see `shifts.sequential`), and so must know how long the window will be.
    """
    planned = job.parameters.window
    names = [field.name for field in fields(drift.Evaluation) if field.name != "details"]
    asked = [
        drift.Evaluation(**{name: finding[name] for name in names}, details={})
        for finding in findings
        if finding["measure"] != "exact"
    ]
    now = window.cut(planned.start, planned.stop, window.step, window.name)
    alarms = drift.incremental(Kpis(job, now), [Kpis(job, span) for span in baselines], asked)
    # Without a sample more, the checks of the hours to come would ask for ever less.
    until = format_time(window.stop)
    return {name: at for name, at in alarms.items() if at <= until}


def _budgets(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return of the objectives what a watcher needs: figure, budget and alarms."""
    objectives = {
        name: {
            **{key: objective[key] for key in ("title", "target")},
            **{key: objective["overall"][key] for key in ("verdict", "value", "reason", "budget")},
        }
        for name, objective in status["objectives"].items()
    }
    return {**{key: status[key] for key in ("firing", "exhausted")}, "objectives": objectives}


def _measured(job: Job) -> Mapping[str, measured.Results]:
    """Return what was measured on the running system, where the parameters name a file of it."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            measured.bring(job, Path(folder))
            return measured.load(job, Path(folder))
        except ParametersError as error:
            return {kind: measured.Results(kind, problem=str(error)) for kind in measured.SCHEMAS}


def _coverage(now: Kpis) -> dict[str, Any]:
    """Return the share of samples that were seen of the KPIs that have any."""
    figures = [now.figure(name) for name, kpi in now.job.kpis.items() if not kpi.optional]
    expected = sum(figure.expected for figure in figures if figure.samples)
    seen = sum(figure.samples for figure in figures)
    return {"samples": seen / expected if expected else 0.0}


if __name__ == "__main__":
    try:
        json.dump(look(*pickle.load(sys.stdin.buffer)), sys.stdout, allow_nan=False)
    except ParametersError as error:
        sys.exit(str(error))
