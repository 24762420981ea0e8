"""Parameters for a server that nobody has described yet: what it holds, and what that can decide.

A server is looked at with a bounded number of requests: a few for its metrics and days, at most
four for each metric of the catalogue that it has, and those of a preflight. What was chosen is
written with its reason and the alternatives seen; what was not found is left out, from the KPI to
the rules, criteria and objectives that rest on it, and listed. The catalogues themselves are copied
as they are, and laid over by the one file that differs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from tars_ga_lib import parameters
from tars_ga_lib.catalogues import KpiCatalogue, metric_names
from tars_ga_lib.grammar import (
    Model,
    Name,
    ParametersError,
    check,
    format_duration,
    format_time,
    read_yaml,
)
from tars_ga_lib.layers import text_of
from tars_ga_lib.preflight import Finding, preflight
from tars_ga_lib.prometheus import Prometheus, connect

HOUR, DAY = 3600, 86400
KEPT_DAYS = 56
"""How far back from the latest data a server is asked, in days."""

LONGEST = 400 * DAY
"""How long ago the latest data may be, in seconds."""

COPIED = ("kpis.yaml", "drift_rules.yaml", "criteria.yaml")
OVERLAY = "differences.yaml"

REGION = (
    "region", "aws_region", "cloud_region", "gcp_region", "dc", "datacenter", "data_center", "site",
    "location", "zone", "availability_zone", "az", "cluster", "k8s_cluster",
)  # fmt: skip
SERVICE = (
    "service", "service_name", "app", "application", "destination_workload",
    "destination_service_name", "exported_service", "workload", "microservice", "svc", "component",
    "deployment", "container", "ingress", "job",
)  # fmt: skip
VERSION = (
    "version",
    "app_version",
    "service_version",
    "release",
    "image_tag",
    "destination_version",
)
STATUS = (
    "code", "status", "status_code", "http_response_status_code", "http_status_code",
    "response_code", "http_code",
)  # fmt: skip
"""Labels by which instrumentations name a dimension, the commonest first."""

_STATUS = re.compile(r"[1-5](\d\d|xx)")
_PLACE = re.compile(r"[a-z]{2,}(-[a-z]+)+-?\d|[a-z]{2,4}\d{0,2}")

Dimension = Literal["region", "service"]
Ask = Callable[[str, Sequence[str]], str]
"""Asks which of several equally good labels is meant."""

# What only people or other probes know is not found on a server of metrics.
ELSEWHERE = {
    "websocket_uptime": "sessions are watched by 'tars-ga websocket'",
    "database_query_time": "queries are timed by 'tars-ga validate'",
    "failed_checks": "the running system is checked by 'tars-ga validate'",
}


class Profile(Model):
    """How one instrumentation names the requests of a service."""

    about: Name
    shown_by: Name
    requests: Name
    buckets: Name
    matchers: str = ""
    milliseconds: bool = False

    def kpis(self, status: str | None, has_buckets: bool) -> dict[str, dict[str, str | None]]:
        """Return what differs from the catalogue's KPIs, by name."""

        def increase(metric: str, by: str, *matchers: str) -> str:
            inside = ",".join(filter(None, [*matchers, self.matchers, "$match"]))
            return f"sum by ({by}) (increase({metric}{{{inside}}}[$step]))"

        requests = increase(self.requests, "$by")
        found: dict[str, dict[str, str | None]] = {
            "requests": {"increase": requests},
            "request_rate": {"increase": requests},
        }
        if status:
            # The series of a 5xx is made by the first; before, only requests that have a status
            # prove that none was. One without a status may have been an error.
            failed = increase(self.requests, "$by", f'{status}=~"5.."')
            told = increase(self.requests, "$by", f'{status}=~"[1-5].."')
            errors = f"{failed} or 0 * {told}"
            found["errors"] = {"increase": errors}
            found["error_rate"] = {
                "numerator": errors, "denominator": told, "population": requests,
            }  # fmt: skip
        if has_buckets:
            for name in LATENCIES:
                found[name] = {"buckets": increase(self.buckets, "le, $by")}
                if self.milliseconds:
                    found[name]["unit"] = "ms"
        return found


LATENCIES = ("latency_p50", "latency_p95", "latency_p99")
REQUESTED = ("requests", "request_rate", "errors", "error_rate", *LATENCIES)
"""KPIs that a profile tells."""


def catalogues_folder() -> Path:
    """Folder of the catalogues: in a checkout beside the package, in a wheel inside it."""
    here = Path(__file__).resolve().parent
    inside = here / "parameters"
    return inside if inside.is_dir() else here.parent / "parameters"


def _catalogue() -> KpiCatalogue:
    file = catalogues_folder() / "kpis.yaml"
    return check(KpiCatalogue, read_yaml(file), str(file))


def profiles() -> list[Profile]:
    """Return the instrumentations that are known."""
    files = sorted((Path(__file__).parent / "profiles").glob("*.yaml"))
    return [check(Profile, read_yaml(file), str(file)) for file in files]


@dataclass
class Choice:
    """One thing that was chosen: its value, why, and what else there was."""

    value: str
    why: str
    others: list[str] = field(default_factory=list)

    def comment(self) -> str:
        """Write it for a reader."""
        return self.why + (f"; also seen: {', '.join(self.others[:6])}" if self.others else "")


@dataclass
class Found:
    """What was found on a server and chosen of it."""

    url: str
    version: str
    profile: Profile
    others: list[str]
    labels: dict[Dimension, Choice]
    status: Choice | None
    release: Choice | None
    members: dict[Dimension, list[str]]
    cells: set[tuple[str, str]]
    window: tuple[int, int]
    baselines: tuple[int, int]
    why_baseline: str
    scrapes: dict[str, Any]
    kpis: dict[str, dict[str, Any]]
    left_out: dict[str, str]
    unknown: dict[str, str]


class _Look:
    """The server, as far as it was looked at."""

    def __init__(
        self, server: Prometheus, ask: Ask | None, given: Mapping[Dimension, str], end: int
    ) -> None:
        self.server, self.ask, self.given = server, ask, given
        self._labels: dict[str, set[str]] = {}
        self._values: dict[tuple[str, str], set[str]] = {}
        self.span = end - KEPT_DAYS * DAY, end

    @cached_property
    def metrics(self) -> set[str]:
        return self.server.metrics(*self.span)

    def labels(self, metric: str) -> set[str]:
        if metric not in self._labels:
            self._labels[metric] = self.server.labels(metric, *self.span)
        return self._labels[metric]

    def values(self, metric: str, label: str) -> set[str]:
        if (metric, label) not in self._values:
            found = self.server.label_values(label, metric, *self.span)
            self._values[metric, label] = {value for value in found if value}
        return self._values[metric, label]

    def dimension(self, what: Dimension, metric: str, taken: str = "") -> Choice:
        """Choose the label of a metric that names a dimension."""
        labels = self.labels(metric) - {taken}
        if (given := self.given.get(what)) is not None:
            if given not in labels:
                raise ParametersError(
                    f"--{what}-label {given}: {metric} has no such label; it has "
                    f"{', '.join(sorted(labels))}"
                )
            return Choice(given, "as given")
        known = REGION if what == "region" else SERVICE
        named = [label for label in known if label in labels]
        seen = [label for label in named if len(self.values(metric, label)) > 1] or named
        if not seen and what == "region":
            seen = [
                label
                for label in sorted(labels - {"instance", "pod", "method", *STATUS, *SERVICE})
                if (values := self.values(metric, label))
                and all(_PLACE.fullmatch(v) for v in values)
            ]
        if not seen:
            raise ParametersError(
                f"{self.server.url}: no label of {metric} names a {what}; say which does with "
                f"--{what}-label: {', '.join(sorted(labels)) or 'it has none'}"
            )
        chosen = seen[0]
        if len(seen) > 1 and self.ask is not None:
            chosen = self.ask(f"Which label of {metric} names the {what}?", seen)
        others = [label for label in seen if label != chosen]
        return Choice(chosen, f"a label of {metric} that is named as a {what} is", others)


def look(url: str, given: Mapping[Dimension, str] | None = None, ask: Ask | None = None) -> Found:
    """Look at a server and choose what can be certified from it.

    Parameters
    ----------
    given
        Labels that name a region or service, where they are known.
    ask
        Asks a person where several labels are as good; without it the commonest is taken.

    Raises
    ------
    ParametersError
        If what is needed is not there: metrics of requests, labels of regions and services, hours.
    SourceError
        If the server cannot be reached.
    """
    source = check(parameters.Source, {"prometheus": url}, f"tars-ga init {url}")
    with connect(source) as server:
        version = server.version()
        now = int(server.now())
        names = server.metrics(0, now)
        ends = {
            each.shown_by: (_latest(server, each, now), each)
            for each in profiles()
            if each.shown_by in names
        }
        # The one that is told of latest; of several, the commonest.
        several = sorted(ends.values(), key=lambda found: -found[0])
        seen = [each for end, each in several if end]
        if not seen:
            wanted = ", ".join(each.shown_by for each in profiles())
            raise ParametersError(
                f"{url}: holds none of the metrics of requests that are known ({wanted}); write "
                "the parameters by hand, as parameters/ga_day.yaml shows"
            )
        profile = seen[0]
        eye = _Look(server, ask, given or {}, several[0][0])
        metric = profile.requests
        region = eye.dimension("region", metric)
        labels: dict[Dimension, Choice] = {
            "region": region,
            "service": eye.dimension("service", metric, region.value),
        }
        window, baselines, why = _days(server, profile, eye.span[1])
        cells = _cells(server, profile, labels, window)
        members: dict[Dimension, list[str]] = {
            "region": sorted({region for region, _ in cells}),
            "service": sorted({service for _, service in cells}),
        }
        status = _status(eye, metric)
        release = next(
            (Choice(n, f"a label of {metric}") for n in VERSION if n in eye.labels(metric)), None
        )
        kpis, left_out = _kpis(eye, profile, status, labels, members)
        scrapes = _scrapes(eye, profile, labels, members)
        unknown = ELSEWHERE | _unwatched(eye)
    return Found(
        source.prometheus or url, version, profile, [each.about for each in seen[1:]], labels,
        status, release, members, cells, window, baselines, why, scrapes, kpis, left_out,
        unknown,
    )  # fmt: skip


def _latest(server: Prometheus, profile: Profile, now: int) -> int:
    """Epoch seconds of the latest step at which there were requests; 0 if there is none."""
    # Most servers have fresh data; only where there is none is it looked for further back.
    for reach, grid in ((KEPT_DAYS * DAY, HOUR), (LONGEST, 6 * HOUR)):
        last = now // grid * grid
        answer = server.range(f"count({profile.requests})", last - reach, last, grid)
        if len(answer.labels):
            (row,) = answer.values
            at = int(np.flatnonzero(~np.isnan(row))[-1])
            return last - reach + (at + 1) * grid
    return 0


def _days(
    server: Prometheus, profile: Profile, end: int
) -> tuple[tuple[int, int], tuple[int, int], str]:
    """Choose the window and baseline among the hours that the server has requests of."""
    last = end // HOUR * HOUR
    first = last - KEPT_DAYS * DAY
    answer = server.range(f"count({profile.requests})", first, last, HOUR)
    hours = np.flatnonzero(~np.isnan(answer.values).all(axis=0)) if answer.labels else np.zeros(0)
    if len(hours) < 4:
        raise ParametersError(
            f"{server.url}: has fewer than four hours of {profile.requests} within {KEPT_DAYS} "
            "days; collect more of it first"
        )
    known = {first + (int(hour) + 1) * HOUR for hour in hours}

    def whole(start: int, stop: int) -> bool:
        # One hour may be missing within: a gap is for the certification to tell.
        marks = range(start, stop + 1, HOUR)
        return start in known and stop in known and sum(m not in known for m in marks) <= 1

    stop = max(known)
    midnight = stop // DAY * DAY
    if whole(midnight - DAY, midnight):
        stop = midnight
    for length in range(DAY, HOUR, -HOUR):
        start = stop - length
        if not whole(start, stop):
            continue
        # Days differ, and only several tell by how much: of like weekdays if there are some.
        weeks, days = (
            next((k for k in range(7) if not whole(start - (k + 1) * e, stop - (k + 1) * e)), 7)
            for e in (7 * DAY, DAY)
        )
        if weeks > 1 or weeks >= max(days, 1):
            why = "the same hours of the weeks before, as far as data reach"
            return (start, stop), (7 * DAY, weeks), why
        if days:
            why = "the days before, as far as data reach: there are not two like weekdays"
            return (start, stop), (DAY, days), why
    for half in range(DAY // 2, 0, -HOUR):
        if whole(stop - 2 * half, stop):
            return (stop - half, stop), (half, 1), "the time before the window: there is no more"
    raise ParametersError(
        f"{server.url}: has no hours to compare the window with; collect more of it first"
    )


def _cells(
    server: Prometheus,
    profile: Profile,
    labels: Mapping[Dimension, Choice],
    window: tuple[int, int],
) -> set[tuple[str, str]]:
    names = [labels["region"].value, labels["service"].value]
    matchers = f"{{{profile.matchers}}}"
    query = f"count by ({', '.join(names)}) ({profile.requests}{matchers})"
    answer = server.range(query, window[0], window[1], HOUR)
    cells = {(row.get(names[0], ""), row.get(names[1], "")) for row in answer.labels}
    return {cell for cell in cells if all(cell)}


def _status(eye: _Look, metric: str) -> Choice | None:
    """Choose the label that holds an answer's status."""
    good = [
        label
        for label in STATUS
        if label in eye.labels(metric)
        and (values := eye.values(metric, label))
        and any(_STATUS.fullmatch(value) for value in values)
    ]
    return Choice(good[0], f"its values on {metric} are HTTP statuses", good[1:]) if good else None


def _kpis(
    eye: _Look,
    profile: Profile,
    status: Choice | None,
    labels: Mapping[Dimension, Choice],
    members: Mapping[Dimension, Sequence[str]],
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return what differs from the catalogue by KPI, and why others are left out."""
    catalogue = _catalogue().kpis
    told = profile.kpis(status.value if status else None, profile.buckets in eye.metrics)
    changes: dict[str, dict[str, Any]] = {}
    left_out: dict[str, str] = {}
    for name, kpi in catalogue.items():
        if name in REQUESTED and name not in told:
            needs = "a label with HTTP statuses" if "err" in name else profile.buckets
            left_out[name] = f"there is no {needs}"
            continue
        differs: dict[str, Any] = {
            key: text for key, text in told.get(name, {}).items() if getattr(kpi, key) != text
        }
        effective = kpi.model_copy(update=differs)
        metrics = {m for text in effective.queries().values() for m in metric_names(text)}
        if absent := sorted(metrics - eye.metrics):
            left_out[name] = f"there is no metric {', '.join(absent)}"
            continue
        own = _labels_of(eye, effective.by, metrics, labels, members)
        if isinstance(own, str):
            left_out[name] = own
        elif differs | own:
            changes[name] = differs | ({"labels": own} if own else {})
    return changes, left_out


def _unwatched(eye: _Look) -> dict[str, str]:
    """Return the criterion on alerts, and why, where nothing proves that rules are evaluated."""
    alerts = _catalogue().alerts
    absent = sorted(set(metric_names(alerts.evaluations)) - eye.metrics) if alerts else []
    why = f"alerts are not evaluated here: there is no metric {', '.join(absent)}"
    return {"critical_alerts": why} if absent else {}


def _scrapes(
    eye: _Look,
    profile: Profile,
    labels: Mapping[Dimension, Choice],
    members: Mapping[Dimension, Sequence[str]],
) -> dict[str, Any]:
    """Return what differs from the catalogue in how scrapes are counted.

    Where `up` does not name these services, as of metrics that are pushed, the series of requests
    are counted: they name them, and have a sample a scrape as well.
    """
    if "up" in eye.metrics:
        own = _labels_of(eye, ("region", "service"), {"up"}, labels, members)
        if not isinstance(own, str):
            return {"labels": own} if own else {}
    inside = ",".join(filter(None, [profile.matchers, "$match"]))
    return {"selector": f"{profile.requests}{{{inside}}}"}


def _labels_of(
    eye: _Look,
    by: Iterable[Dimension],
    metrics: Iterable[str],
    labels: Mapping[Dimension, Choice],
    members: Mapping[Dimension, Sequence[str]],
) -> dict[str, str] | str:
    """Return the labels by which metrics name dimensions otherwise, or what they lack."""
    own: dict[str, str] = {}
    for dimension in by:
        usual, candidates = labels[dimension].value, REGION if dimension == "region" else SERVICE
        shared = set.intersection(*(eye.labels(metric) for metric in metrics))
        for label in dict.fromkeys([usual, *candidates]):
            if label in shared and any(
                eye.values(metric, label) & set(members[dimension]) for metric in metrics
            ):
                if label != usual:
                    own[dimension] = label
                break
        else:
            return f"no label of {', '.join(sorted(metrics))} names these {dimension}s"
    return own


# --- writing -------------------------------------------------------------------------------------


def write(found: Found, folder: Path, *, name: str, version: str) -> list[Finding]:
    """Write a folder of parameters, and return what a preflight of them found.

    A KPI whose queries bring nothing is left out as well.

    Raises
    ------
    ParametersError
        If the folder holds something.
    SourceError
        If the server cannot be reached.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ParametersError(f"-o {folder}: is not empty; name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    for file in COPIED:
        text = (catalogues_folder() / file).read_text(encoding="utf-8")
        text = re.sub(r"\A# yaml-language-server:.*\n", "", text)
        (folder / file).write_text(text, encoding="utf-8")
    _write_all(found, folder, name, version)
    job = parameters.load(folder / "run.yaml")
    findings = list(preflight(job))
    empty = {each.request.template: each.problem for each in findings
             if not each.ok and not each.problem.startswith("no samples for the ")}  # fmt: skip
    for kpi, facts in job.kpis.items():
        if problems := [empty[text] for text in facts.queries().values() if text in empty]:
            found.left_out[kpi] = problems[0]
            found.kpis.pop(kpi, None)
    _write_all(found, folder, name, version)
    job = parameters.load(folder / "run.yaml")
    asked = {text for kpi in [*job.kpis.values(), *(s.kpi for s in job.slos.values())]
             for text in kpi.queries().values()}  # fmt: skip
    asked |= {job.scrapes.targets, job.scrapes.seen}
    return [each for each in findings if each.request.template in asked]


def _write_all(found: Found, folder: Path, name: str, version: str) -> None:
    (folder / OVERLAY).write_text(_overlay(found), encoding="utf-8")
    (folder / "criteria_differences.yaml").write_text(_criteria(found), encoding="utf-8")
    slos = _slos(found, folder)
    if slos:
        (folder / "slos.yaml").write_text(slos, encoding="utf-8")
    else:
        (folder / "slos.yaml").unlink(missing_ok=True)
    (folder / "run.yaml").write_text(_run(found, name, version, bool(slos)), encoding="utf-8")


def _quoted(text: str) -> str:
    """Write a text so that YAML reads the same text, and no number, time or comment."""
    written = yaml.safe_dump([text], default_flow_style=True, allow_unicode=True, width=10**6)
    return written.strip()[1:-1]


def _comment(text: str) -> str:
    return " ".join(text.split())


def _run(found: Found, name: str, version: str, slos: bool) -> str:
    every, times = found.baselines
    start, stop = found.window
    hours = (stop - start) // HOUR
    first = found.members["region"][0]
    missing = [
        f"{region} / {service}"
        for region in found.members["region"]
        for service in found.members["service"]
        if (region, service) not in found.cells
    ]
    repeat = f", repeat: {format_duration(every)} x {times}" if times > 1 else ""
    labels = found.labels
    lines = [
        f"# Written by 'tars-ga init' from what {_comment(found.url)} held.",
        f"# Requests are told by {found.profile.about}.",
        *(f"# It holds {_comment(other)} as well, which was not chosen." for other in found.others),
        "",
        f"release: {{name: {_quoted(name)}, version: {_quoted(version)}}}  # what is certified",
        "",
        f"# The last {hours} hours of which there is data.",
        f"window: {{start: {format_time(start)}, duration: {hours}h, step: 5m}}",
        f"# {found.why_baseline}.",
        f"baseline: {{start: {format_time(start - every)}, duration: {hours}h{repeat}}}",
        "",
        f"source: {{prometheus: {_quoted(found.url)}}}",
        "",
        "labels:",
        *(
            f"  {dimension}: {_quoted(choice.value)}  # {_comment(choice.comment())}"
            for dimension, choice in labels.items()
        ),
        "regions:",
        *(f"  - {_quoted(region)}" for region in found.members["region"]),
        f"primary_region: {_quoted(first)}  # the first by name: choose yours",
        "services:",
        *(f"  - {_quoted(service)}" for service in found.members["service"]),
    ]
    if missing:
        lines += ["# No requests were seen of these, so they are NO DATA:"]
        lines += [f"#   {_comment(cell)}" for cell in missing[:20]]
    if found.release:
        lines += [f"# The label {found.release.value} tells versions ({found.release.why})."]
    lines += [
        "",
        "# The catalogues as they come, and what differs for this server.",
        f"kpis: [kpis.yaml, {OVERLAY}]",
        "drift_rules: drift_rules.yaml",
        "criteria: [criteria.yaml, criteria_differences.yaml]",
        *(["slos: slos.yaml"] if slos else []),
        "",
        "# Facts that no metric holds; without these files mandatory criteria have no data, and",
        "# the decision is INCONCLUSIVE. Examples are in parameters/evidence of the project.",
        "# evidence: {incidents: incidents.yaml, rollback: rollback.yaml}",
        "evidence: {}",
        "",
    ]
    return "\n".join(lines)


def _overlay(found: Found) -> str:
    status = (
        f"# Errors are told by the label {found.status.value}: {found.status.comment()}."
        if found.status
        else "# No label holds HTTP statuses, so errors are not known."
    )
    lines = ["# What differs from kpis.yaml on this server.", _comment(status)]
    changes = {"scrapes": found.scrapes, "kpis": found.kpis}
    for key, inner in changes.items():
        if inner:
            lines += ["", text_of({key: inner}).rstrip()]
    lines += [
        "",
        "# Not found, and left out with the rules, criteria and objectives that rest on it:",
    ]
    if found.left_out:
        lines += ["drop:"]
        lines += [f"  - {kpi}  # {_comment(why)}" for kpi, why in found.left_out.items()]
    return "\n".join([*lines, ""])


def _criteria(found: Found) -> str:
    lines = ["# What differs from criteria.yaml on this server."]
    if "latency_p99" not in found.left_out:
        limits = "'< 500', warning: '< 450'" if found.profile.milliseconds else "'< 0.5'"
        unit = "milliseconds" if found.profile.milliseconds else "seconds"
        lines += [
            "criteria:",
            f"  # In {unit}, as this instrumentation counts; no objective is written for it, as",
            "  # that needs a bucket with this edge.",
            f"  latency_p99: {{objective: null, target: {limits}}}",
        ]
    lines += ["# Not to be known from this server; take a line out when it is measured:", "drop:"]
    lines += [f"  - {name}  # {why}" for name, why in found.unknown.items()]
    return "\n".join([*lines, ""])


def _slos(found: Found, folder: Path) -> str:
    """Write objectives of the two ratios that every service has, where they are there."""
    raw = read_yaml(folder / "kpis.yaml")["kpis"]
    documents = []
    for kpi, title, key in (("availability", "Availability", "good"),
                            ("error_rate", "Error rate", "bad")):  # fmt: skip
        if kpi in found.left_out:
            continue
        facts = raw[kpi] | found.kpis.get(kpi, {})
        own = {f"tars-ga/{d}-label": label for d, label in facts.get("labels", {}).items()}
        parts = {key: facts["numerator"], "total": facts["denominator"]}
        metric = {
            part: {"metricSource": {"type": "Prometheus", "spec": {"query": query}}}
            for part, query in parts.items()
        }
        documents.append(text_of({
            "apiVersion": "openslo/v1",
            "kind": "SLO",
            "metadata": {"name": kpi.replace("_", "-"), "displayName": title},
            "spec": {
                "service": "all",
                "indicator": {
                    "metadata": {"name": kpi.replace("_", "-"), "annotations": own},
                    "spec": {"ratioMetric": {"counter": False, **metric}},
                },
                "timeWindow": [{"duration": "28d", "isRolling": True}],
                "budgetingMethod": "Occurrences",
                "objectives": [{"target": 0.999}],
            },
        }))  # fmt: skip
    return "---\n".join(documents)
