"""Thresholds on the KPIs of a run's window and on its drift, by the code that certifies them.

The criteria's own evaluation reads the figures, so a figure that was not seen well enough is no
data here as it is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from tars_ga_lib import criteria, drift
from tars_ga_lib.catalogues import Criterion
from tars_ga_lib.grammar import ParametersError
from tars_ga_lib.parameters import Job
from tars_ga_lib.run import Run
from tars_ga_lib.system.check import Check, NotMeasured, Reading, part
from tars_ga_lib.targets import KpiThreshold, ValidationTargets


def checks(targets: ValidationTargets, job: Job, folder: Path | None) -> list[Check]:
    """Return a check for each threshold.

    Parameters
    ----------
    folder
        Folder of the run whose recording is read; without one nothing can be known.

    Raises
    ------
    ParametersError
        If the folder holds no run, or that of another release.
    """
    outcomes = _Outcomes(targets, _run(job, folder)) if folder else None
    return [_check(name, each, job, outcomes) for name, each in targets.kpis.items()]


def _run(job: Job, folder: Path) -> Any:
    run = Run(folder)
    has, wanted = run.job.parameters.release.version, job.parameters.release.version
    if has != wanted:
        raise ParametersError(
            f"{folder}: is a run of {has}, and the parameters are about {wanted}; name a run of it"
        )
    return run


class _Outcomes:
    """The thresholds as criteria, evaluated on a run when the first is asked for."""

    def __init__(self, targets: ValidationTargets, run: Any) -> None:
        self._thresholds, self._run = targets.kpis, run

    def of(self, name: str) -> Any:
        """Return the outcome of one threshold."""
        threshold = self._thresholds[name]
        if threshold.kpi is not None and threshold.kpi not in self._run.job.kpis:
            raise NotMeasured(
                "not_configured", f"the KPI '{threshold.kpi}' is not in the run's catalogue"
            )
        job = replace(self._run.job, criteria={name: _criterion(name, threshold)}, waivers=[])
        drift = self._drift() if threshold.drift else {}
        return criteria.evaluate(job, self._run.kpis, drift).outcomes[0]

    def _drift(self) -> Mapping[str, Any]:
        """Return the drift analysis of the run, or make it where its notebook is not done yet."""
        return _analysis(self._run)


@lru_cache(maxsize=1)
def _analysis(run: Any) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = run.read("drift_analysis.json")
    except ParametersError:
        found = drift.analyse(run.kpis, run.baseline_kpis)
    return found


def _criterion(name: str, threshold: KpiThreshold) -> Criterion:
    return Criterion.model_validate(
        {
            "title": threshold.title or name,
            "kpi": threshold.kpi,
            "drift": threshold.drift,
            "scope": threshold.scope,
            "target": str(threshold.limit),
            "warning": str(threshold.warning) if threshold.warning else None,
            "min_coverage": threshold.min_coverage,
            "min_series_coverage": threshold.min_series_coverage,
        }
    )


def _check(name: str, threshold: KpiThreshold, job: Job, outcomes: _Outcomes | None) -> Check:
    kpi = job.kpis.get(threshold.kpi or "")
    return Check(
        id=f"kpi.{part(name)}",
        title=threshold.title or (kpi.title if kpi else name),
        group="kpi",
        measure=None,
        region=None,
        target="the run's recording",
        query=_asked(threshold, job),
        unit=kpi.unit if kpi else "ratio",
        limit=threshold.limit,
        warning=threshold.warning,
        read=_reader(name, outcomes),
    )


def _asked(threshold: KpiThreshold, job: Job) -> str:
    """Write what is read: the KPI with its scope and queries, or the drift analysis."""
    if threshold.drift:
        return f"drift_analysis.json, stability ({threshold.drift})"
    kpi = job.kpis.get(threshold.kpi or "")
    queries = "; ".join(" ".join(q.split()) for q in kpi.queries().values()) if kpi else ""
    return f"KPI {threshold.kpi}, {threshold.scope}" + (f": {queries}" if queries else "")


def _reader(name: str, outcomes: _Outcomes | None) -> Callable[[], Reading]:
    def read() -> Reading:
        if outcomes is None:
            raise NotMeasured(
                "not_configured", "no run was given whose recording tells it; name one with --run"
            )
        outcome = outcomes.of(name)
        if outcome.verdict == "no_data" or outcome.value is None:
            raise NotMeasured("no_rows", outcome.reason or "the recording does not tell it")
        seen = "" if outcome.coverage is None else f"coverage {outcome.coverage:.1%}"
        details = ", ".join(text for text in (outcome.where, seen) if text)
        doubt = outcome.reason if outcome.verdict == "warn" else ""
        return Reading(outcome.value, details, doubt)

    return read
