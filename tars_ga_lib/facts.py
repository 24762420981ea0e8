"""What is known of a finished run, or the reason why it is not known.

Time line, story and report fields all ask here, so that a file counts for all of them or for none.
Nothing is worked out anew: figures are those of the run's files, outages those of `outages`, and
whether a file of evidence or of results counts is said by `evidence_files` and `measured`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from tars_ga_lib import outages
from tars_ga_lib.evidence_files import foreign, untimely
from tars_ga_lib.grammar import ParametersError, format_time, parse_time
from tars_ga_lib.intervals import overlaps, runs
from tars_ga_lib.outages import Outage
from tars_ga_lib.parameters import MEASURED
from tars_ga_lib.run import Run
from tars_ga_lib.wording import whereabouts

T = TypeVar("T")
Facts = Mapping[str, Any]

SUMMARY = "ga_kpi_summary.json"
BASELINE = "baseline_metrics.json"
CERTIFICATION = "certification_metadata.json"
DRIFT = "drift_analysis.json"
SLO = "slo.json"


class NoDataError(Exception):
    """There is no value; the text says why, `source` where it was looked for."""

    def __init__(self, reason: str, source: str = "") -> None:
        super().__init__(reason)
        self.source = source


def if_known(find: Callable[..., T], *args: Any) -> T | None:
    """Return what is found, None where there is no data."""
    try:
        return find(*args)
    except NoDataError:
        return None


@dataclass(frozen=True)
class Incident:
    """An incident in the series, [start, end) in epoch seconds; `reported` is what files say of it.

    `findings` are the evaluations of `drift_analysis.json` that it moved.
    """

    region: str | None
    service: str | None
    start: int
    end: int
    findings: tuple[Facts, ...]
    reported: tuple[Any, ...]

    @property
    def id(self) -> str:
        """Where `drift_analysis.json` has it."""
        return f"{DRIFT}#incidents/{self.region or ''}/{format_time(self.start)}"

    @property
    def severe(self) -> bool:
        """Whether it moved a figure of the whole window beyond its critical limit."""
        return any(e["verdict"] == "fail" for e in self.findings)


class RunFacts:
    """A run, and all that was derived, measured and given for it.

    Parameters
    ----------
    run
        The run.
    documents
        Contents that stand for files of the run, by their names.
    environment
        That of who looks at a finished run from outside, where a pipeline's names stand; without
        it, all that is found depends on the run alone.
    """

    def __init__(
        self,
        run: Run,
        documents: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.run, self.job, self.parameters = run, run.job, run.job.parameters
        self.environment = environment
        self._documents: dict[str, Any] = dict(documents or {})
        self.memo: dict[str, Any] = {}

    # --- files ------------------------------------------------------------------------------------

    def document(self, name: str) -> dict[str, Any]:
        """Return a derived file of the run.

        Raises
        ------
        NoDataError
            If it is missing, or was derived from something else than the run holds now.
        """
        if name not in self._documents:
            try:
                self._documents[name] = self.run.read(name)
            except ParametersError as error:
                text = str(error).removeprefix(f"{self.run.folder / name}: ").partition(";")[0]
                self._documents[name] = NoDataError(f"{name} {text}", name)
        found: dict[str, Any] | NoDataError = self._documents[name]
        if isinstance(found, NoDataError):
            raise found
        return found

    def measured(self, kind: str) -> dict[str, Any]:
        """Return what was measured on the running system: `validation` or `websocket`.

        Raises
        ------
        NoDataError
            If nothing was, or it does not speak of this run.
        """
        if isinstance(self._measured, str):
            raise NoDataError(self._measured, MEASURED[kind])
        found = self._measured[kind]
        if found.counted is None:
            raise NoDataError(found.problem or f"no {kind} results were given or measured")
        return dict(found.counted)

    @cached_property
    def _measured(self) -> Any:
        try:
            return self.run.measured()
        except ParametersError as error:  # a report names no machine's path
            return str(error).replace(f"{self.run.folder}/", "")

    def evidence(self, kind: str, *, whole: bool = True) -> Any:
        """Return an evidence file that speaks of this release, and of the `whole` window.

        Raises
        ------
        NoDataError
            If it was not given, or does not count.
        """
        facts, source = self.job.evidence.get(kind), f"{kind} file"
        if facts is None:
            raise NoDataError(f"no {kind} file was given", source)
        reason = foreign(kind, facts, self.parameters)
        if whole and not reason:
            ages = [
                c.max_age
                for c in self.job.criteria.values()
                if c.max_age is not None and str(c.evidence).startswith(f"{kind}.")
            ]
            reason = untimely(kind, facts, self.parameters, min(ages, default=None))
        if reason:
            raise NoDataError(reason, source)
        return facts

    def given(self, kind: str, *, whole: bool = False) -> Any | None:
        """Return an evidence file that speaks of this release; None where there is none."""
        return if_known(lambda: self.evidence(kind, whole=whole))

    # --- figures ----------------------------------------------------------------------------------

    def kpi(self, name: str, file: str = SUMMARY) -> dict[str, Any]:
        """Return what a derived file says of a KPI; of the latest baseline interval, if asked."""
        document = self.document(file)
        if file == BASELINE:
            if not document["intervals"]:
                raise NoDataError("there is no baseline", file)
            document = document["intervals"][0]
        if name not in document["kpis"]:
            raise NoDataError(f"the catalogue has no KPI '{name}'", f"KPI {name}")
        return dict(document["kpis"][name])

    def figure(self, name: str, file: str = SUMMARY) -> dict[str, Any]:
        """Return a KPI's figure over the whole window, which has a value."""
        facts = self.kpi(name, file)["overall"]
        if facts["value"] is None:
            raise NoDataError(facts.get("reason", "no samples were seen"), f"KPI {name}")
        return dict(facts)

    def limit(self, kpi: str) -> float | None:
        """Return the target of the criterion on a KPI, to round no figure across it."""
        target = outages.target(self.job, kpi)
        return None if target is None else target.value

    # --- what happened ----------------------------------------------------------------------------

    @property
    def simulated(self) -> bool:
        """Whether the run says that its data is simulated."""
        return bool(self.run.recording.simulated or self.parameters.simulated)

    @cached_property
    def window(self) -> tuple[int, int]:
        """Start and end of the window, in epoch seconds."""
        return self.run.recording.window.start, self.run.recording.window.stop

    @property
    def step(self) -> int:
        """Length of a step, in seconds."""
        return int(self.run.recording.window.step)

    def steps(self, start: int, end: int) -> tuple[int, int]:
        """Return the steps [first, last) of a time in the window, given in epoch seconds."""
        return (start - self.window[0]) // self.step, (end - self.window[0]) // self.step

    @cached_property
    def outages(self) -> list[Outage]:
        """Where a region fell below its target, in order of time."""
        return outages.outages(self.run.kpis)

    @cached_property
    def gaps(self) -> list[tuple[int, int, str | None]]:
        """Where nothing was seen: start and end in epoch seconds and region, in order of time."""
        start, step = self.window[0], self.step
        return sorted(
            (
                (start + first * step, start + last * step, region)
                for region, values in outages.available(self.run.kpis).items()
                for first, last in runs(np.isnan(values))
            ),
            key=lambda gap: (gap[0], gap[1], gap[2] or ""),
        )

    @cached_property
    def analysis(self) -> dict[str, Any]:
        """Content of `drift_analysis.json`."""
        return self.document(DRIFT)

    @cached_property
    def incidents(self) -> list[Incident]:
        """Incidents that the series show, in order of time, with what files say of them."""
        evaluations = {e["id"]: e for e in self.analysis["evaluations"]}
        file, found = self.given("incidents"), []
        for one in self.analysis["incidents"]:
            start, end = parse_time(one["began"]), parse_time(one["ended"])
            reported = tuple(
                other
                for other in (file.incidents if file else [])
                if overlaps(other.start, other.end, start, end)
                if None in (other.region, one["region"]) or other.region == one["region"]
            )
            hit = tuple(evaluations[identity] for identity in one["findings"])
            found.append(Incident(one["region"], one["service"], start, end, hit, reported))
        return sorted(found, key=lambda i: (i.start, i.region or ""))

    @cached_property
    def reported(self) -> list[Any]:
        """Incidents of the incidents file that touch the window, the gravest first."""
        file = self.given("incidents")
        inside = [
            i for i in (file.incidents if file else []) if overlaps(i.start, i.end, *self.window)
        ]
        return sorted(inside, key=lambda i: (i.severity, i.start))

    @cached_property
    def lasting(self) -> list[Facts]:
        """Findings of the drift analysis that did not pass with an incident, the worst first."""
        found = [
            e
            for e in self.analysis["evaluations"]
            if e["verdict"] in ("warn", "fail") and "incident" not in (e["kind"], e["reason"])
        ]
        return sorted(found, key=lambda e: (e["verdict"] != "fail", -multiple(e), e["id"]))

    def named(self, alike: Sequence[Facts]) -> str:
        """Name evaluations of one rule in one region: `Error rate, east, all 8 services`."""
        region, places = alike[0]["region"], [(e["region"], e["service"]) for e in alike]
        where = whereabouts(places, self.services(region))
        return str(alike[0]["name"]) if len(alike) == 1 else f"{alike[0]['title']}, {where}"

    def services(self, region: str | None) -> int:
        """Return how many services run in a region, or anywhere."""
        p = self.parameters
        return sum(region is None or p.runs(name, region) for name in p.services)


def multiple(evaluation: Facts) -> float:
    """Return a drift as a multiple of its critical limit, to rank what has different units."""
    if evaluation["measure"] == "exact" or not evaluation["critical"]:
        return 1.0
    return float(abs((evaluation["drift"] or 0.0) / evaluation["critical"]))


def file_of(kind: str, facts: Any) -> str:
    """Name an evidence file as a source, with what it says of itself."""
    return f"{kind} file ({facts.source})"


def grouped(items: Sequence[T], key: Callable[[T], Any]) -> list[list[T]]:
    """Return items of the same key together, in the order of their first."""
    groups: dict[Any, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())
