"""What is known of a finished run, gathered once for all that is told of it.

Gaps and incidents are found here, from the steps of the recording, the drift analysis and the
evidence files, and outages by `tars_ga_lib.outages`; sentences about them are made in `events`,
`advice` and `story`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tars_ga_lib import kpis, outages
from tars_ga_lib.grammar import Limit, parse_time
from tars_ga_lib.intervals import overlaps, runs
from tars_ga_lib.outages import Outage
from tars_ga_lib.run import Run
from tars_ga_lib.story.phrases import listing, span, whereabouts

Facts = Mapping[str, Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Gap:
    """Steps in which nothing was seen of some regions: [start, end) in epoch seconds."""

    regions: tuple[str | None, ...]
    start: int
    end: int

    @property
    def where(self) -> str:
        """Where nothing was seen."""
        return whereabouts([(region, None) for region in self.regions])


@dataclass(frozen=True)
class Incident:
    """An incident that the drift analysis found, and those of the incidents file that match it."""

    region: str | None
    service: str | None
    start: int
    end: int
    findings: tuple[Facts, ...]
    worst: Facts  #: the finding that it moved most, its excess and its figure then
    told: tuple[Any, ...]

    @property
    def id(self) -> str:
        """Where `drift_analysis.json` has it."""
        start = np.datetime64(self.start, "s")
        return f"drift_analysis.json#incidents/{self.region or ''}/{start}Z"

    @property
    def severe(self) -> bool:
        """Whether it moved a figure of the whole window beyond its critical limit."""
        return any(e["verdict"] == "fail" for e in self.findings)


class Case:
    """A run and the documents that were derived from it.

    Parameters
    ----------
    run
        The run.
    analysis, comparison, certification
        Contents of `drift_analysis.json`, `cross_region.json` and `certification_metadata.json`.
    slos, validation, sessions
        Contents of `slo.json`, `validation_results.json` and `ws_health_metrics.json`, where the
        run has them.
    """

    def __init__(
        self,
        run: Run,
        analysis: Facts,
        comparison: Facts,
        certification: Facts,
        slos: Facts | None = None,
        validation: Facts | None = None,
        sessions: Facts | None = None,
    ) -> None:
        self.run = run
        self.analysis, self.comparison, self.certification = analysis, comparison, certification
        self.slos = slos
        self.validation = self._counted("validation", validation)
        self.sessions = self._counted("websocket", sessions)
        self.evaluations: dict[str, Facts] = {e["id"]: e for e in analysis["evaluations"]}

    def _counted(self, kind: str, document: Facts | None) -> Facts | None:
        """Leave out results that do not speak of this run."""
        facts = self.certification.get("measured", {}).get(kind) or {}
        foreign = document is not None and document["simulated"] and not self.simulated
        return None if facts.get("problem") or foreign else document

    @property
    def simulated(self) -> bool:
        """Whether the run says that its data is simulated."""
        return bool(self.run.recording.simulated or self.run.job.parameters.simulated)

    @cached_property
    def window(self) -> tuple[int, int]:
        """Start and end of the window, in epoch seconds."""
        window = self.run.recording.window
        return window.start, window.stop

    def evidence(self, kind: str) -> Any | None:
        """Return an evidence file; none where it was not given or does not speak of this run.

        That is one that is about another release, or is simulated where the run is not.
        """
        facts: Any = self.run.job.evidence.get(kind)
        if facts is None or (facts.simulated and not self.simulated):
            return None
        return facts if getattr(facts, "release", self.version) == self.version else None

    @property
    def version(self) -> str:
        """Version of the release."""
        return self.run.job.parameters.release.version

    @cached_property
    def alerts(self) -> kpis.Alerts:
        """Alerts that fired in the window."""
        return kpis.alerts(self.run.job, self.run.recording.window)

    def target(self, kpi: str) -> Limit | None:
        """Return the target of the criterion that rests on a KPI as a whole, else on its parts."""
        return outages.target(self.run.job, kpi)

    # --- steps ------------------------------------------------------------------------------------

    @cached_property
    def gaps(self) -> list[Gap]:
        """Where nothing was seen, the regions of one time together, in order of time."""
        found: dict[tuple[int, int], list[str | None]] = {}
        for region, values in outages.available(self.run.kpis).items():
            for first, last in runs(np.isnan(values)):
                found.setdefault(self._times(first, last), []).append(region)
        return [Gap(tuple(some), *times) for times, some in sorted(found.items())]

    def gaps_text(self, most: int = 3) -> str:
        """Write where and when nothing was seen, the longest first; empty if all was."""
        longest = sorted(self.gaps, key=lambda g: g.start - g.end)
        some = [f"{g.where}, {span(g.start, g.end, self.window)}" for g in longest]
        return listing(some, most) if some else ""

    @cached_property
    def outages(self) -> list[Outage]:
        """Where a region fell below its target, in order of time."""
        return outages.outages(self.run.kpis)

    def _times(self, first: int, last: int) -> tuple[int, int]:
        window = self.run.recording.window
        return window.start + first * window.step, window.start + last * window.step

    # --- findings ---------------------------------------------------------------------------------

    @cached_property
    def incidents(self) -> list[Incident]:
        """Incidents that the drift analysis found, in order of time, with what is told of them."""
        file = self.evidence("incidents")
        found = []
        for each in self.analysis["incidents"]:
            start, end = parse_time(each["began"]), parse_time(each["ended"])
            told = [
                one
                for one in (file.incidents if file else [])
                if overlaps(one.start, one.end, start, end)
                if None in (one.region, each["region"]) or one.region == each["region"]
            ]
            hit = [self.evaluations[identity] for identity in each["findings"]]
            place = each["region"], each["service"]
            found.append(Incident(*place, start, end, tuple(hit), each["worst"], tuple(told)))
        return sorted(found, key=lambda i: (i.start, i.region or ""))

    @cached_property
    def lasting(self) -> list[Facts]:
        """Findings of the drift analysis that did not pass with an incident, the worst first."""
        found = [
            e
            for e in self.analysis["evaluations"]
            if e["verdict"] in ("warn", "fail") and e["kind"] != "incident"
            if e["reason"] != "incident"
        ]
        return sorted(found, key=lambda e: (e["verdict"] != "fail", -multiple(e), e["id"]))

    def blamed(self, kpi: str) -> tuple[Incident, float] | None:
        """Return the incident that most of a ratio's bad events fell into, and their share."""
        if self.run.job.kpis[kpi].kind != "ratio":
            return None
        best = None
        window = self.run.recording.window
        total = float(np.nansum(self._bad(kpi, None)))
        for incident in self.incidents if total > 0 else []:
            if any(e["kpi"] == kpi for e in incident.findings):
                first, last = (
                    (t - window.start) // window.step for t in (incident.start, incident.end)
                )
                share = float(np.nansum(self._bad(kpi, incident.region)[first:last])) / total
                if best is None or share > best[1]:
                    best = incident, share
        return best

    def _bad(self, kpi: str, region: str | None) -> Floats:
        top, bottom = self.run.kpis.parts(kpi, region)
        return bottom - top if self.run.job.kpis[kpi].better == "higher" else top


def multiple(evaluation: Facts) -> float:
    """Return a drift as a multiple of its critical limit, to rank what has different units."""
    if evaluation["measure"] == "exact" or not evaluation["critical"]:
        return 1.0
    return float(abs((evaluation["drift"] or 0.0) / evaluation["critical"]))
