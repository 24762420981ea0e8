"""Does what the recording tells of the window keep the thresholds?

The criteria's own evaluation reads the figures, so a figure that was not seen well enough is no
data here as it is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

from tars_ga_lib import criteria, drift
from tars_ga_lib.catalogues import Criterion, Kpi
from tars_ga_lib.grammar import ParametersError
from tars_ga_lib.run import Run
from tars_ga_lib.system.checks import NotMeasured, Place, Reading, Scope, check

kpi = partial(check, group="kpi")


@dataclass(frozen=True, kw_only=True)
class Threshold(Place):
    """A threshold on a KPI, or on the drift analysis, of a run."""

    name: str
    kpi: Kpi | None
    run: Run | None

    @property
    def title(self) -> str:
        """Its own title, or the KPI's."""
        return self.of.title or (self.kpi.title if self.kpi else self.name)

    @property
    def unit(self) -> str:
        """The KPI's unit; a drift is a share."""
        return self.kpi.unit if self.kpi else "ratio"

    @property
    def query(self) -> str:
        """What is read: the KPI with its scope and queries, or the drift analysis."""
        if self.of.drift:
            return f"drift_analysis.json, stability ({self.of.drift})"
        texts = self.kpi.queries().values() if self.kpi else ()
        queries = "; ".join(" ".join(text.split()) for text in texts)
        return f"KPI {self.of.kpi}, {self.of.scope}" + (f": {queries}" if queries else "")


def thresholds(scope: Scope) -> list[Threshold]:
    """Return the validation file's thresholds."""
    return [
        Threshold(
            name=name,
            of=threshold,
            kpi=scope.job.kpis.get(threshold.kpi or ""),
            run=scope.run,
            address="the run's recording",
            parts=(name,),
        )
        for name, threshold in scope.targets.kpis.items()
    ]


@kpi(
    name="kpi",
    title="{at.title}",
    limit="limit",
    query=lambda at: at.query,
    unit="{at.unit}",
    at=thresholds,
)
def test_kpi(at: Threshold) -> Reading:
    """Evaluate a threshold as a criterion is evaluated."""
    run, threshold = at.run, at.of
    if run is None:
        raise NotMeasured(
            "not_configured", "no run was given whose recording tells it; name one with --run"
        )
    if threshold.kpi is not None and threshold.kpi not in run.job.kpis:
        raise NotMeasured(
            "not_configured", f"the KPI '{threshold.kpi}' is not in the run's catalogue"
        )
    facts = threshold.model_dump(mode="json", exclude={"limit"})
    facts |= {"title": at.title, "target": str(threshold.limit)}
    criterion = Criterion.model_validate(facts)
    job = replace(run.job, criteria={at.name: criterion}, waivers=[])
    analysis = _drift(run) if threshold.drift else {}
    outcome = criteria.evaluate(job, run.kpis, analysis).outcomes[0]
    if outcome.verdict == "no_data" or outcome.value is None:
        raise NotMeasured("no_rows", outcome.reason or "the recording does not tell it")
    seen = "" if outcome.coverage is None else f"coverage {outcome.coverage:.1%}"
    details = ", ".join(text for text in (outcome.where, seen) if text)
    return Reading(outcome.value, details, outcome.reason if outcome.verdict == "warn" else "")


@lru_cache(maxsize=1)
def _drift(run: Run) -> Mapping[str, Any]:
    """Return the drift analysis of a run, or make it where its notebook is not done yet."""
    try:
        return run.read("drift_analysis.json")
    except ParametersError:
        return drift.analyse(run.kpis, run.baseline_kpis)
