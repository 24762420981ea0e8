"""An adversary: it takes one clean certified day, damages it, and asks for the decision again.

A day is what a run rests on: its recording, what was measured on the running system, the evidence
files and the waivers. An edit damages a part of a recording (a region, a cell, a metric, hours, the
baseline …) in one of the ways of `WAYS`. What must follow is worked out here from the samples and
from what the clean day held, by a few lines of plain arithmetic that share nothing with the
library: `Referee`.

Two laws are held against every damaged day:

- removing knowledge never improves a verdict (`improved`);
- a day that is truly bad, or whose unseen part could be, is never certified (`Referee.reasons`).

Everything is derived from the job's own requests, not from the ids of the catalogue.
"""

from __future__ import annotations

import copy
import functools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from demo import simulate
from tars_ga_lib import collection, criteria, drift, measured, parameters, queries, slo
from tars_ga_lib.catalogues import Kpi
from tars_ga_lib.grammar import ParametersError
from tars_ga_lib.kpis import Kpis
from tars_ga_lib.parameters import MEASURED, Job
from tars_ga_lib.recording import Recording, SampleSet, Span
from tests.helpers import ROOT, dump

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Place = tuple[str, str]

REGIONS = ("us-east-1", "us-west-2")
SERVICES = ("insight-engine", "dashboard-api", "hypersync")
REFUSED = "REFUSED"
"""Decision of a run that is turned away as bad input (exit code 2)."""

CRASHED = "CRASHED"
"""Decision of a run that ends in an error of ours (exit code 1): not certified, and yet wrong."""

NOWHERE = "http://127.0.0.1:9"
"""Source of jobs whose days were collected before."""

GOOD = ("CERTIFIED", "CERTIFIED WITH WAIVERS")


BASELINES = 3
"""Days of the baseline: the least of which a usual deviation is known."""


def scenario(seed: int = simulate.Scenario.seed, **changes: Any) -> simulate.Scenario:
    """Return a whole clean day of six cells."""
    base = simulate.Scenario(
        seed=seed, regions=REGIONS, services=SERVICES, baselines=BASELINES, faults=False
    )
    return replace(base, **changes)


# --- a day, and its decision ----------------------------------------------------------------------


@dataclass(frozen=True)
class Day:
    """What a run rests on.

    `documents` holds the results by kind (`validation`, `websocket`), the evidence files by kind
    (`evidence.incidents` …), and `waivers`, each as the file holds it; None: there is no such file.
    `overrides` are laid over the run's parameters.
    """

    job: Job
    recording: Recording
    documents: Mapping[str, Any]
    about: str = "clean"
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judged:
    """The decision on a day, and the verdict of each criterion and objective by name."""

    decision: str
    verdicts: dict[str, str]
    reasons: dict[str, str]

    @property
    def certified(self) -> bool:
        """Whether the release goes out."""
        return self.decision in GOOD


def job_of(url: str, folder: Path, documents: Mapping[str, Any], *overrides: str) -> Job:
    """Return the demo's job over a server, with documents of our own written into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    settings_of_run = [
        f"source={{prometheus: '{url}', connections: 2}}",
        f"regions=[{', '.join(REGIONS)}]",
        f"services=[{', '.join(SERVICES)}]",
        f"baseline.repeat=7d x {BASELINES}",
        "measured={}",
    ]
    evidence = {}
    for name, content in documents.items():
        kind, _, item = name.partition(".")
        if content is not None and kind == "evidence":
            evidence[item] = str(dump(folder / f"{item}.yaml", content))
        elif content is not None and kind == "waivers":
            settings_of_run.append(f"waivers={dump(folder / 'waivers.yaml', content)}")
    settings_of_run.append(f"evidence={json.dumps(evidence)}")
    # What an installation may lack decides nothing, and takes half of the time.
    catalogue = yaml.safe_load((ROOT / "parameters" / "kpis.yaml").read_text(encoding="utf-8"))
    kept = {name: kpi for name, kpi in catalogue["kpis"].items() if not kpi.get("optional")}
    settings_of_run.append(f"kpis={dump(folder / 'kpis.yaml', catalogue | {'kpis': kept})}")
    return parameters.load(ROOT / "parameters" / "demo.yaml", [*settings_of_run, *overrides])


def clean_documents() -> dict[str, Any]:
    """Return results and evidence that are complete, and pass: the demo's, of our regions.

    The demo watched its sessions for a minute; here every time of them is an hour's.
    """
    held = ROOT / "demo" / "measured"
    validation = json.loads((held / MEASURED["validation"]).read_text(encoding="utf-8"))
    websocket = json.loads((held / MEASURED["websocket"]).read_text(encoding="utf-8"))
    validation["checks"] = [c for c in validation["checks"] if c["region"] in (None, *REGIONS)]
    validation["counts"] = {
        v: sum(check["verdict"] == v for check in validation["checks"])
        for v in ("pass", "warn", "fail", "no_data")
    }
    websocket["endpoints"] = [e for e in websocket["endpoints"] if e["name"] in REGIONS]
    for place in (websocket, *websocket["endpoints"]):
        for key, value in place.items():
            if key.endswith("_seconds"):
                place[key] = value * 3600 / 60
    websocket["asked_seconds"] = 3600
    websocket["ended_at"] = websocket["ended_at"].replace("T20:17", "T21:16")
    documents: dict[str, Any] = {"validation": validation, "websocket": websocket, "waivers": None}
    run = yaml.safe_load((ROOT / "parameters" / "demo.yaml").read_text(encoding="utf-8"))
    for kind, file in run["evidence"].items():
        text = (ROOT / "parameters" / file).read_text(encoding="utf-8")
        documents[f"evidence.{kind}"] = yaml.safe_load(text)
    return documents


def collected_day(url: str, folder: Path, *overrides: str) -> Day:
    """Collect a day from a server, with the clean documents."""
    documents = clean_documents()
    job = job_of(url, folder, documents, *overrides)
    return Day(job, collection.collect(job), documents, overrides=overrides)


class Judge:
    """Decides on days, and remembers what a day shares with the one before.

    The statistics of drift are pure functions of their arrays, and an edit touches few of them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._jobs: dict[str, Job | ParametersError] = {}
        self._budgets: dict[Any, dict[str, Any]] = {}

    def __call__(self, day: Day) -> Judged:
        """Return the decision on a day."""
        try:
            with np.errstate(all="ignore"):
                job = self._job(day)
                return self._certify(job, day.recording, self._measured(job, day))
        except ParametersError as error:
            return Judged(REFUSED, {}, {REFUSED: str(error)})
        except Exception as error:  # whatever it is: it is to be told, with the day that did it
            return Judged(CRASHED, {}, {CRASHED: f"{type(error).__name__}: {error}"})

    def _job(self, day: Day) -> Job:
        """Read the evidence files and waivers as a run does."""
        files = {name: file for name, file in day.documents.items() if name not in MEASURED}
        key = json.dumps([files, day.overrides], sort_keys=True, default=str)
        if key not in self._jobs:
            try:
                folder = self.folder / str(len(self._jobs))
                self._jobs[key] = job_of(NOWHERE, folder, files, *day.overrides)
            except ParametersError as error:
                self._jobs[key] = error
        held = self._jobs[key]
        if isinstance(held, ParametersError):
            raise held
        return held

    def _measured(self, job: Job, day: Day) -> dict[str, measured.Results]:
        """Read the results as a run does."""
        folder = self.folder / "results"
        folder.mkdir(parents=True, exist_ok=True)
        for kind, name in MEASURED.items():
            (folder / name).unlink(missing_ok=True)
            if day.documents[kind] is not None:
                (folder / name).write_text(json.dumps(day.documents[kind]), encoding="utf-8")
        return measured.load(job, folder)

    def _certify(
        self, job: Job, recording: Recording, results: dict[str, measured.Results]
    ) -> Judged:
        window = Kpis(job, recording.window, recording.baselines)
        analysis = drift.analyse(window, window.others)
        budgets = self._slo(window)
        facts = criteria.certify(window, recording, analysis, results)
        verdicts = {each["name"]: each["verdict"] for each in facts["criteria"]}
        objectives = {f"slo:{n}": o["overall"]["verdict"] for n, o in budgets["objectives"].items()}
        return Judged(
            facts["decision"],
            verdicts | objectives,
            {each["name"]: each["reason"] for each in facts["criteria"]},
        )

    def _slo(self, window: Kpis) -> dict[str, Any]:
        """Evaluate the objectives; they rest on few of the sample sets."""
        job, key = window.job, []
        for objective in job.slos.values():
            by = queries.dimensions(objective.kpi, job.parameters)
            for template in objective.kpi.queries().values():
                one = window.span.find(template, by)
                facts = asdict(one.provenance) if one else {}
                key.append(json.dumps(facts | {"collected_at": ""}, sort_keys=True))
        known = (id(job), *key)
        if known not in self._budgets:
            self._budgets[known] = slo.evaluate(window, job.slos)
        return self._budgets[known]


def _key(value: Any) -> Any:
    """Return what tells an argument of a pure function from another."""
    if isinstance(value, np.ndarray):
        return value.shape, value.tobytes()
    return value


@contextmanager
def remembered() -> Iterator[None]:
    """Compute the same statistics of the same arrays once: they are pure, and all that is slow.

    When a drift could first have been known is left out: no decision rests on it.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in ("shifts", "baseline_problems"):
            patch.setattr(drift, name, _remember(getattr(drift, name)))
        patch.setattr(drift, "incremental", lambda *_: {})
        patch.setattr(criteria, "version", functools.cache(metadata.version))
        yield


def _remember(function: Callable[..., Any], most: int = 4000) -> Callable[..., Any]:
    known: dict[Any, Any] = {}

    @functools.wraps(function)
    def remembering(*args: Any, **kwargs: Any) -> Any:
        key = (*map(_key, args), *((name, _key(value)) for name, value in kwargs.items()))
        if key not in known:
            if len(known) >= most:
                known.clear()
            known[key] = function(*args, **kwargs)
        return copy.copy(known[key])

    return remembering


RANK = {"pass": 0, "warn": 1, "no_data": 2, "fail": 2}


def improved(before: Judged, after: Judged) -> list[str]:
    """Name what got a better verdict; `decision` if the release came closer to going out."""
    if after.decision in (REFUSED, CRASHED):
        return []
    better = [
        name
        for name, verdict in after.verdicts.items()
        if RANK[verdict] < RANK[before.verdicts.get(name, "pass")]
    ]
    return better + ["decision"] * (after.certified and not before.certified)


# --- edits of a recording -------------------------------------------------------------------------

LOSES = ("removed", "emptied", "renamed", "halved", "duplicated", "impossible", "warned", "refused")
"""Ways that only take knowledge away: no verdict may get better by them."""

ALTERS = ("zeroed", "scaled", "shifted")
"""Ways that tell another story, which may be a better one."""

WAYS = LOSES + ALTERS
IMPOSSIBLE = (np.inf, -np.inf, -1.0, -500.0, 1e308, -1e308)


@dataclass(frozen=True)
class Edit:
    """Damage to a part of a recording.

    `sets` are the ids of the sample sets, `spans` the names of the spans; `where` gives for a
    dimension (`region`, `service`, `le`) the values whose series are hit, all if it is not named;
    of these the steps from `first` to before `stop`, as shares of the span. `amount` is the factor
    or the impossible value.
    """

    kind: str
    way: str
    sets: frozenset[str]
    spans: tuple[str, ...] = ("window",)
    where: tuple[tuple[str, tuple[str, ...]], ...] = ()
    first: float = 0.0
    stop: float = 1.0
    amount: float = 1.0
    note: str = ""

    @property
    def loses(self) -> bool:
        """Whether it only takes knowledge away."""
        return self.way in LOSES

    def __str__(self) -> str:
        place = " ".join("|".join(values) for _, values in self.where) or "everywhere"
        sets = self.note or (", ".join(sorted(self.sets)[:3]) if len(self.sets) < 20 else "all")
        hours = f"{24 * self.first:.3g}-{24 * self.stop:.3g} h"
        amount = f" ({self.amount:.3g})" if self.way in ("scaled", "impossible", "shifted") else ""
        return f"{self.kind} {self.way}{amount}: {sets} of {place}, {hours}, {'+'.join(self.spans)}"

    def __call__(self, recording: Recording) -> Recording:
        """Return the damaged recording."""
        spans = {
            name: self._span(span)
            if name in self.spans or ("baseline" in self.spans and name != "window")
            else span
            for name, span in recording.spans.items()
        }
        return replace(recording, spans=spans, origin=None)

    def _span(self, span: Span) -> Span:
        hit = {key: self._set(span, one) for key, one in span.sets.items() if key in self.sets}
        return replace(span, sets=span.sets | hit)

    def _rows(self, one: SampleSet) -> Mask:
        hit = np.ones(len(one.labels), dtype=bool)
        for dimension, values in self.where:
            label = one.provenance.by.get(dimension, dimension)
            hit &= np.array([row.get(label) in values for row in one.labels], dtype=bool)
        return hit

    def _set(self, span: Span, one: SampleSet) -> SampleSet:
        provenance, labels, values = one.provenance, [*one.labels], one.values.copy()
        if self.way == "warned":
            said = [*provenance.warnings, "simulated: a store did not answer"]
            return replace(one, provenance=replace(provenance, warnings=said))
        if self.way == "refused":
            error = replace(provenance, error="simulated failure")
            return SampleSet.of(error, [], np.empty((0, span.steps)))
        rows = np.flatnonzero(self._rows(one))
        if not len(rows):
            return one
        steps = slice(round(self.first * span.steps), max(1, round(self.stop * span.steps)))
        whole = values[:, steps].shape[1] == span.steps
        block = np.ix_(rows, np.arange(span.steps)[steps])
        old = values[block]
        more_labels: list[dict[str, str]] = []
        more_values = np.empty((0, span.steps))
        if self.way == "removed" and whole:
            kept = np.setdiff1d(np.arange(len(labels)), rows)
            return SampleSet.of(provenance, [labels[i] for i in kept], values[kept])
        if self.way in ("removed", "emptied"):
            values[block] = np.nan
        elif self.way == "halved":
            values[np.ix_(rows, np.arange(span.steps)[steps][::2])] = np.nan
        elif self.way == "renamed":
            more_values = np.full((len(rows), span.steps), np.nan)
            more_values[:, steps] = old
            values[block] = np.nan
            more_labels = [self._renamed(labels[i], provenance.by) for i in rows]
        elif self.way == "duplicated":
            more_values = np.full((len(rows), span.steps), np.nan)
            more_values[:, steps] = old
            more_labels = [dict(labels[i]) for i in rows]
        elif self.way == "impossible":
            values[block] = self.amount
        elif self.way == "zeroed":
            values[block] = np.where(np.isnan(old), np.nan, 0.0)
        elif self.way == "scaled":
            values[block] = old * self.amount
        elif self.way == "shifted":
            values[block] = np.roll(old, round(self.amount), axis=1)
        return SampleSet.of(provenance, labels + more_labels, np.vstack([values, more_values]))

    def _renamed(self, labels: Mapping[str, str], by: Mapping[str, str]) -> dict[str, str]:
        """Return a series' labels under another name of what was chosen, or of its first label."""
        names = [by.get(dimension, dimension) for dimension, _ in self.where] or list(labels)[:1]
        return {key: f"{value}-other" if key in names else value for key, value in labels.items()}


def edited(day: Day, edits: Iterable[Edit]) -> Day:
    """Return a damaged day."""
    recording = day.recording
    names = []
    for edit in edits:
        recording = edit(recording)
        names.append(str(edit))
    return replace(day, recording=recording, about=" + ".join([day.about, *names]))


# --- what decides ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """What a job's decision rests on, by the ids of its requests."""

    decisive: frozenset[str]
    metrics: dict[str, frozenset[str]]
    histograms: frozenset[str]
    counts: frozenset[str]
    every: frozenset[str]

    @classmethod
    def of(cls, job: Job) -> Asked:
        """Work it out from the criteria, the drift rules and the requests."""
        requests = queries.requests(job)
        wanted = {c.kpi for c in job.criteria.values() if c.kpi and c.mandatory}
        wanted |= {kpi for rule in job.rules.values() for kpi in rule.kpi}
        templates = {
            (template, *queries.dimensions(job.kpis[name], job.parameters).values())
            for name in wanted
            for template in job.kpis[name].queries().values()
        }
        decisive = {r.id for r in requests if (r.template, *r.by.values()) in templates}
        decisive |= {r.id for r in requests if r.id.startswith(("scrapes", "alerts."))}
        metrics: dict[str, set[str]] = {}
        for request in requests:
            for name in re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?=[{\[])", request.query):
                if request.id in decisive:
                    metrics.setdefault(name, set()).add(request.id)
        up = {
            r.id
            for r in requests
            if r.id in decisive and re.search(r"(sum|count)_over_time\(up\{", r.query)
        }
        return cls(
            frozenset(decisive),
            {name: frozenset(ids) for name, ids in metrics.items()},
            frozenset(r.id for r in requests if "sum by (le" in r.query and r.id in decisive),
            frozenset(up | {r.id for r in requests if r.id.startswith("scrapes")}),
            frozenset(r.id for r in requests),
        )


# --- the referee ----------------------------------------------------------------------------------

FORGIVEN = 0.0015
"""Share of a day that may be unseen: one missed scrape in a thousand keeps a release."""


class Referee:
    """Knows what the clean day held, and says why a damaged day must not be certified."""

    def __init__(self, clean: Day) -> None:
        self.job, self.clean = clean.job, clean.recording
        self.names = {
            f"{span.name} {one.provenance.id}": one
            for span in clean.recording.spans.values()
            for one in span.sets.values()
        }

    def _cells(self, span: Span, kpi: Kpi, part: str) -> dict[Place, dict[float, Floats]]:
        """Samples of one query by place and bucket edge (one edge, +Inf, if it has none).

        A place that is answered twice is not known.
        """
        by = queries.dimensions(kpi, self.job.parameters)
        one = span.find(kpi.queries()[part], by)
        found: dict[Place, dict[float, Floats]] = {}
        twice: set[tuple[Place, float]] = set()
        for labels, values in zip(one.labels, one.values, strict=True) if one else ():
            place = (labels.get(by.get("region", ""), ""), labels.get(by.get("service", ""), ""))
            try:
                edge = float(labels["le"]) if part == "buckets" else np.inf
            except (KeyError, ValueError):
                continue
            if edge in found.setdefault(place, {}):
                twice.add((place, edge))
            found[place][edge] = np.where(_plausible(values), values, np.nan)
        for place, edge in twice:
            found[place][edge] = np.full(span.steps, np.nan)
        return found

    def reasons(self, day: Day) -> list[str]:
        """Say why a day must not be certified; empty if it may be, or must be."""
        job, window = self.job, day.recording.window
        found = []
        for name, criterion in job.criteria.items():
            if not criterion.mandatory or not criterion.kpi:
                continue
            kpi = job.kpis[criterion.kpi]
            worst = {"ratio": self._ratio, "histogram": self._histogram}.get(kpi.kind)
            if worst is None:
                continue
            value, limit = worst(kpi, window, criterion.limit.value)
            if not (value >= limit if kpi.better == "higher" else value < limit):
                found.append(f"{name}: at worst {value:.4g}, and {limit:.4g} is needed")
        found += self._drift(day.recording)
        found += self._alerts(window)
        return found

    def _ratio(self, kpi: Kpi, window: Span, target: float) -> tuple[float, float]:
        """Worst value that what was seen allows, and the target."""
        population = "population" if "population" in kpi.queries() else "denominator"
        parts = ("numerator", "denominator", population)
        top, bottom, every = (self._cells(window, kpi, part) for part in parts)
        good = total = 0.0
        blank = {np.inf: np.full(window.steps, np.nan)}
        for place, edges in self._cells(self.clean.window, kpi, population).items():
            expected = np.nan_to_num(edges[np.inf])
            n, d, e = (
                cells.get(place, blank).get(np.inf, blank[np.inf]) for cells in (top, bottom, every)
            )
            seen = (n <= d * (1 + 1e-6)) & (d <= e * (1 + 1e-6))
            if kpi.better == "higher":
                # Fewer scrapes than there were: those that are missing were not good.
                part = np.divide(n, d, out=np.zeros_like(n), where=seen & (d > 0))
                good += float((part * np.minimum(np.where(seen, d, 0), expected)).sum())
                total += float(expected.sum())
            else:
                good += float(np.where(seen, d - n, 0).sum())
                total += float(np.where(seen, e, expected).sum())
        share = min(1.0, float(good / total) + FORGIVEN) if total else 0.0
        return (share, target) if kpi.better == "higher" else (1 - share, target)

    def _histogram(self, kpi: Kpi, window: Span, target: float) -> tuple[float, float]:
        """Share of events that may lie above the target, and the share that may."""
        cells = self._cells(window, kpi, "buckets")
        expected = self._cells(self.clean.window, kpi, "buckets")
        known = [set(cells[place]) for place in expected if place in cells]
        edges = sorted(set.intersection(*known)) if known else []
        below = max((edge for edge in edges if edge <= target), default=None)
        slow = total = 0.0
        for place, clean in expected.items():
            counts = [cells.get(place, {}).get(e, np.full(window.steps, np.nan)) for e in edges]
            if below is None or not edges or np.isfinite(edges[-1]):
                return 1.0, 1 - (kpi.quantile or 0)
            matrix = np.array(counts)
            seen = ~np.isnan(matrix).any(axis=0) & (np.diff(matrix, axis=0) >= -1).all(axis=0)
            bad = matrix[-1] - matrix[edges.index(below)]
            slow += float(np.sum(np.where(seen, bad, clean[np.inf])))
            total += float(np.sum(np.where(seen, matrix[-1], clean[np.inf])))
        share = slow / total - FORGIVEN if total else 1.0
        return share, 1 - (kpi.quantile or 0)

    def _drift(self, recording: Recording) -> list[str]:
        """Say whether too little was seen for the drifts that the decision rests on."""
        rules = [
            (kpi, rule)
            for rule in self.job.rules.values()
            if rule.measure == "relative" and rule.category in drift.STABILITY_CATEGORIES
            for kpi in rule.kpi
        ]
        shares = []
        for name, _ in rules:
            kpi = self.job.kpis[name]
            per_span = []
            for key, span in self.clean.spans.items():
                clean, now = (self._seen(s, kpi) for s in (span, recording.spans[key]))
                nothing = np.zeros(span.steps, dtype=bool)
                per_span.append(
                    {p: (now.get(p, nothing) & m).sum() / m.sum() for p, m in clean.items()}
                )
            shares += [min(each[place] for each in per_span) for place in per_span[0]]
        share, needed = float(np.mean(shares)), 0.93
        return [f"drift: {share:.1%} of its evaluations were seen"] if share < needed else []

    def _seen(self, span: Span, kpi: Kpi) -> dict[Place, Mask]:
        """Steps of each place in which every part of a KPI was seen."""
        found: dict[Place, Mask] = {}
        cells = [self._cells(span, kpi, part) for part in kpi.queries()]
        for place in set.intersection(*(set(each) for each in cells)):
            rows = [values for each in cells for values in each[place].values()]
            found[place] = np.all(np.isfinite(np.array(rows)), axis=0)
        return found

    def _alerts(self, window: Span) -> list[str]:
        found = []
        firing, ran = window.sets[queries.FIRING], window.sets[queries.EVALUATIONS]
        for labels, values in zip(firing.labels, firing.values, strict=True):
            if labels.get("severity") == "critical" and (values > 0).any():
                found.append(f"alerts: {labels.get('alertname')} is critical and fired")
        known = _plausible(ran.values) & (ran.values > 0)
        if not len(known) or known.any(axis=0).mean() < 0.95:
            found.append("alerts: rules were not evaluated, or nobody knows")
        return found


def _plausible(values: Floats) -> Mask:
    """Samples that a counter's increment or a gauge of ours can have."""
    return np.isfinite(values) & (values >= 0) & (values < 1e100)


# --- days that are truly bad ----------------------------------------------------------------------


@dataclass(frozen=True)
class Bad:
    """A day that must never be certified, and the sample sets that say so."""

    day: Day
    rests: frozenset[str] = frozenset()


def _changed(
    day: Day, about: str, kpi: str, part: str, change: Callable[[Span, SampleSet], Floats]
) -> Bad:
    """Change the window's samples of one part of a KPI; `change` gives the new values."""
    window, model = day.recording.window, day.job.kpis[kpi]
    by = queries.dimensions(model, day.job.parameters)
    one = window.find(model.queries()[part], by)
    assert one is not None
    new = SampleSet.of(one.provenance, one.labels, change(window, one))
    spans = day.recording.spans | {
        "window": replace(window, sets=window.sets | {one.provenance.id: new})
    }
    recording = replace(day.recording, spans=spans, origin=None)
    rests = frozenset(
        found.provenance.id
        for template in model.queries().values()
        if (found := window.find(template, by))
    )
    return Bad(replace(day, recording=recording, about=about), rests)


def _documented(day: Day, about: str, kind: str, change: Callable[[Any], None]) -> Bad:
    content = copy.deepcopy(day.documents[kind])
    change(content)
    return Bad(replace(day, documents={**day.documents, kind: content}, about=about))


def bad_days(day: Day) -> list[Bad]:
    """Return days that are bad in each mandatory criterion, and differ from the clean one in that.

    Derived from the criteria: a KPI's target is broken by an excess of bad events, everywhere and
    for hours of one region; drift by a step, and by a leak of one cell.
    """
    found = []
    for name, criterion in day.job.criteria.items():
        if not criterion.mandatory:
            continue
        if criterion.kpi and day.job.kpis[criterion.kpi].kind == "ratio":
            found += _bad_ratio(day, name, criterion.kpi)
        elif criterion.kpi and day.job.kpis[criterion.kpi].kind == "histogram":
            found.append(_slow(day, name, criterion.kpi, criterion.limit.value))
        elif criterion.validation:
            found.append(_documented(day, name, "validation", _slow_queries(criterion.validation)))
        elif criterion.websocket:
            found.append(_documented(day, name, "websocket", _sessions_down))
        elif criterion.evidence:
            kind = criterion.evidence.partition(".")[0]
            worse = critical if kind == "incidents" else failed
            found.append(_documented(day, name, f"evidence.{kind}", worse))
    found += [_step(day), _leak(day), _alert(day), _thinned(day)]
    return found


def _bad_ratio(day: Day, name: str, kpi: str) -> list[Bad]:
    """Break a ratio everywhere a little, and in one region for two hours wholly."""
    model = day.job.kpis[kpi]
    by = queries.dimensions(model, day.job.parameters)
    bottom = day.recording.window.find(model.queries()["denominator"], by)
    assert bottom is not None
    all_of_it = {
        tuple(sorted(x.items())): v for x, v in zip(bottom.labels, bottom.values, strict=True)
    }

    def little(window: Span, one: SampleSet) -> Floats:
        whole = np.array([all_of_it[tuple(sorted(labels.items()))] for labels in one.labels])
        values = one.values
        return values - 0.004 * whole if model.better == "higher" else values + 0.002 * whole

    def wholly(window: Span, one: SampleSet) -> Floats:
        whole = np.array([all_of_it[tuple(sorted(labels.items()))] for labels in one.labels])
        values = one.values.copy()
        rows = [i for i, x in enumerate(one.labels) if x[by["region"]] == REGIONS[1]]
        steps = slice(120, 144)
        for row in rows:
            values[row, steps] = 0.0 if model.better == "higher" else whole[row, steps]
        return values

    found = [
        _changed(day, f"{name}: a little everywhere", kpi, "numerator", little),
        _changed(day, f"{name}: two hours of a region", kpi, "numerator", wholly),
    ]
    if "population" in model.queries():
        bad = _changed(
            day, f"{name}: half of the events are of no known kind", kpi, "denominator",
            lambda window, one: 0.5 * one.values,
        )  # fmt: skip
        found.append(bad)
    return found


def _slow(day: Day, name: str, kpi: str, target: float) -> Bad:
    """Make three of a hundred events slower than the target."""

    def change(window: Span, one: SampleSet) -> Floats:
        share = [0.97 if float(x["le"]) <= target else 1.0 for x in one.labels]
        return np.array(share)[:, None] * one.values

    return _changed(day, name, kpi, "buckets", change)


def _steady(day: Day) -> str:
    """Name the KPI of the rule of drift that a gauge of region and service serves."""
    return next(
        kpi
        for rule in day.job.rules.values()
        for kpi in rule.kpi
        if rule.measure == "relative" and rule.adverse == "up" and day.job.kpis[kpi].kind == "gauge"
    )


def _step(day: Day) -> Bad:
    return _changed(
        day, "drift: a step of a quarter everywhere", _steady(day), "value",
        lambda window, one: one.values * 1.25,
    )  # fmt: skip


def _leak(day: Day) -> Bad:
    def change(window: Span, one: SampleSet) -> Floats:
        values = one.values.copy()
        values[0] *= np.linspace(1, 2, window.steps)
        return values

    return _changed(day, "drift: a leak of one cell", _steady(day), "value", change)


def _thinned(day: Day) -> Bad:
    """Let four of five scrapes of each step be missing."""
    counts = Asked.of(day.job).counts
    edit = Edit("scrapes", "scaled", counts, amount=0.2)
    return Bad(replace(edited(day, [edit]), about="four of five scrapes are missing"), counts)


def _alert(day: Day) -> Bad:
    """Let a critical alert fire for an hour."""
    window = day.recording.window
    one = window.sets[queries.FIRING]
    labels = {"alertname": "HighErrorRate", "severity": "critical", "region": REGIONS[0]}
    values = np.full((1, window.steps), np.nan)
    values[0, 100:112] = 1.0
    new = SampleSet.of(one.provenance, [*one.labels, labels], np.vstack([one.values, values]))
    spans = day.recording.spans | {
        "window": replace(window, sets=window.sets | {queries.FIRING: new})
    }
    recording = replace(day.recording, spans=spans, origin=None)
    rests = frozenset({queries.FIRING, queries.EVALUATIONS})
    return Bad(replace(day, recording=recording, about="a critical alert"), rests)


def _slow_queries(measure: str) -> Callable[[Any], None]:
    def change(results: Any) -> None:
        check = next(c for c in results["checks"] if c["measure"] == measure)
        check |= {"value": 3.0, "interval": None, "verdict": "fail"}

    return change


def _sessions_down(results: Any) -> None:
    one = results["endpoints"][-1]
    one["connected_seconds"] = 0.98 * one["observed_seconds"]
    one["uptime"] = one["figures"]["uptime"] = 0.98


def critical(incidents: Any) -> None:
    """Make an incident a critical one."""
    incidents["incidents"][0]["severity"] = "sev1"


def failed(rollback: Any) -> None:
    """Let the test of the rollback have failed."""
    rollback["successful"] = False


# --- drawing --------------------------------------------------------------------------------------


def edits(asked: Asked) -> st.SearchStrategy[Edit]:
    """Draw one edit of a recording."""
    spans = st.sampled_from([("window",), ("window",), ("baseline",), ("window", "baseline")])
    amounts = st.sampled_from([0.0, 0.01, 0.2, 0.5, 0.9, 1.1, 2.0, 10.0, 1e6])
    places = {
        "region": st.sampled_from([((d, (n,)),) for d, n in (("region", r) for r in REGIONS)]),
        "service": st.sampled_from([(("service", (s,)),) for s in SERVICES]),
        "cell": st.sampled_from(
            [(("region", (r,)), ("service", (s,))) for r in REGIONS for s in SERVICES]
        ),
    }
    metric = st.sampled_from(sorted(asked.metrics))
    hours = st.one_of(
        st.just((0.0, 1.0)),
        st.tuples(st.integers(0, 287), st.integers(1, 288)).map(
            lambda pair: (min(pair[0], pair[1] - 1) / 288, max(pair[0] + 1, pair[1]) / 288)
        ),
        st.tuples(st.integers(0, 270), st.integers(1, 18)).map(
            lambda pair: (pair[0] / 288, (pair[0] + pair[1]) / 288)
        ),
    )
    decisive = sorted(asked.decisive)

    @st.composite
    def draw_one(draw: Callable[..., Any]) -> Edit:
        kind = draw(st.sampled_from(KINDS))
        sets, note = asked.decisive, ""
        where: tuple[tuple[str, tuple[str, ...]], ...] = ()
        first, stop = draw(hours)
        way = draw(st.sampled_from(WAYS))
        if kind in places:
            where = draw(places[kind])
        elif kind == "metric":
            note = draw(metric)
            sets, where = asked.metrics[note], draw(st.one_of(st.just(()), *places.values()))
        elif kind == "label":
            label = draw(st.sampled_from(["region", "service", "le"]))
            names = {"region": REGIONS, "service": SERVICES, "le": EDGES}[label]
            sets = frozenset(draw(st.lists(st.sampled_from(decisive), min_size=1, max_size=3)))
            where = ((label, tuple(draw(st.sets(st.sampled_from(names), min_size=1)))),)
            way = draw(st.sampled_from(["renamed", "renamed", "duplicated", "removed"]))
        elif kind == "bucket":
            sets = asked.histograms
            where = (("le", tuple(sorted(draw(st.sets(st.sampled_from(EDGES), min_size=1))))),)
        elif kind == "scrapes":
            sets = asked.counts
            way = draw(st.sampled_from(["scaled", "scaled", "halved", "zeroed", "impossible"]))
        elif kind == "set":
            sets = frozenset([draw(st.sampled_from(decisive))])
            where = draw(st.one_of(st.just(()), *places.values()))
        if kind in ("region", "service", "cell", "hours", "baseline") and way in ALTERS:
            # All at once would be another day; one of its metrics is the harder question.
            note = draw(metric)
            sets = asked.metrics[note]
        amount = {
            "scaled": draw(amounts),
            "impossible": draw(st.sampled_from(IMPOSSIBLE)),
            "shifted": float(draw(st.integers(-48, 48))),
        }.get(way, 1.0)
        chosen = ("baseline",) if kind == "baseline" else draw(spans)
        return Edit(kind, way, sets, chosen, where, first, stop, amount, note)

    return draw_one()


KINDS = (
    "region", "service", "cell", "metric", "label", "bucket", "scrapes", "hours", "baseline", "set",
)  # fmt: skip
EDGES = tuple("+Inf" if np.isinf(edge) else str(edge) for edge in simulate.EDGES)


def drawn(asked: Asked, most: int) -> list[tuple[int, tuple[Edit, ...]]]:
    """Draw so many different groups of one or two edits, numbered, the same ones each time."""
    found: dict[tuple[Edit, ...], None] = {}

    @settings(
        max_examples=2 * most, derandomize=True, database=None, deadline=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.lists(edits(asked), min_size=1, max_size=2).map(tuple))
    def collect(group: tuple[Edit, ...]) -> None:
        # Those who hit nothing, or the same thing twice, try nothing.
        if all(edit.first < edit.stop for edit in group) and len(set(group)) == len(group):
            found[group] = None

    collect()
    return list(enumerate(found))[:most]


# --- the tally ------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What was tried, by kind and way, and what went wrong."""

    days: int = 0
    tried: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    falsely: list[tuple[str, str]] = field(default_factory=list)
    better: list[tuple[str, str]] = field(default_factory=list)
    crashed: list[tuple[str, str]] = field(default_factory=list)

    def add(
        self, kinds: Iterable[str], day: Day, judged: Judged, reasons: Sequence[str],
        better: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Count one damaged day: why it must not be certified, and what got better by a loss."""
        self.days += 1
        kinds = sorted(set(kinds))
        for kind in kinds:
            self.tried[kind] += 1
            self.refused[kind] += bool(reasons)
        if reasons and judged.certified:
            self.falsely.append((day.about, "; ".join(reasons)))
        if better:
            self.better.append((day.about, ", ".join(better)))
        if judged.decision == CRASHED:
            self.crashed.append((day.about, judged.reasons[CRASHED]))

    def __iadd__(self, other: Tally) -> Tally:
        """Add what another one counted."""
        self.days += other.days
        self.tried += other.tried
        self.refused += other.refused
        self.falsely += other.falsely
        self.better += other.better
        self.crashed += other.crashed
        return self

    def table(self) -> list[tuple[str, str, str]]:
        """Return kind, days tried and days that must be refused; a day of two kinds is in both."""
        return [
            (kind, str(self.tried[kind]), str(self.refused[kind])) for kind in sorted(self.tried)
        ]

    def wrongs(self) -> list[str]:
        """Return a line for everything that broke a law, or crashed."""
        lines = [f"falsely CERTIFIED: {day}\n    because {why}" for day, why in self.falsely]
        lines += [f"better by a loss: {day}\n    {which}" for day, which in self.better]
        return lines + [f"crashed: {day}\n    {error}" for day, error in self.crashed]


@dataclass(frozen=True)
class Court:
    """The clean day with all that is held against it."""

    clean: Day
    judge: Callable[[Day], Judged]
    referee: Referee
    asked: Asked
    base: Judged
    bad: list[tuple[Bad, Judged]]

    @classmethod
    def of(cls, clean: Day, folder: Path) -> Court:
        """Judge the clean day and the bad ones."""
        judge = Judge(folder)
        bad = [(one, judge(one.day)) for one in bad_days(clean)]
        return cls(clean, judge, Referee(clean), Asked.of(clean.job), judge(clean), bad)

    def recorded(
        self, kind: str, about: str, recording: Recording, tally: Tally, *, must: bool, loses: bool
    ) -> Judged:
        """Judge another recording of the clean day."""
        day = replace(self.clean, recording=recording, about=about)
        judged = self.judge(day)
        reasons = [about] * must + self.referee.reasons(day)
        tally.add([kind], day, judged, reasons, improved(self.base, judged) if loses else [])
        return judged

    def edits(self, groups: Iterable[tuple[int, Sequence[Edit]]], tally: Tally) -> None:
        """Damage the clean day by each group of edits, and the bad day of the group's number."""
        for turn, group in groups:
            loses, kinds = all(edit.loses for edit in group), [edit.kind for edit in group]
            day = edited(self.clean, group)
            judged, reasons = self.judge(day), self.referee.reasons(day)
            tally.add(kinds, day, judged, reasons, improved(self.base, judged) if loses else [])
            bad, before = self.bad[turn % len(self.bad)]
            # Another story about what makes it bad may make it good; a loss never does.
            if any(edit.sets & bad.rests for edit in group if not edit.loses):
                continue
            day = edited(bad.day, group)
            judged = self.judge(day)
            better = improved(before, judged) if loses else []
            tally.add(kinds, day, judged, [f"truly bad: {bad.day.about}"], better)
