"""Parameters for a server that nobody has described yet: what it holds, and what that can decide.

A server is looked at with a bounded number of requests: a few for its metrics and days, those for
the labels of the catalogue's metrics that it has and their values, and a preflight. What was chosen
is written with its reason and the alternatives seen; what was not found is left out, from the KPI
to the rules, criteria and objectives that rest on it, and listed. A metric that no profile knows is
never taken for one that is known. The catalogues are copied as they are, and laid over by files
that say what differs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import jinja2
import numpy as np
import yaml
from pydantic import Field

from tars_ga_lib import objectives, parameters
from tars_ga_lib.catalogues import DriftRules, KpiCatalogue, metric_names
from tars_ga_lib.grammar import (
    M,
    Model,
    Name,
    ParametersError,
    check,
    format_duration,
    format_time,
    read_yaml,
    shipped,
)
from tars_ga_lib.layers import text_of
from tars_ga_lib.preflight import Finding, preflight
from tars_ga_lib.prometheus import Prometheus, connect

HOUR, DAY = 3600, 86400
KEPT_DAYS = 57
"""How far back from the latest data hours are looked for, in days: a window and seven weeks."""

LIKE_DAYS = (
    (7 * DAY, 7, "the same hours of the weeks before, as far as data reach"),
    (DAY, 7, "the days before, as far as data reach: there are no data of a week before"),
)
"""What a window is compared with: seconds from one to the next, the most of them, and why."""

RECENT = 8 * DAY
"""How far back from the latest data metrics and labels are looked for, in seconds."""

LONGEST = 400 * DAY
"""How long ago the latest data may be, in seconds."""

COPIED = ("kpis.yaml", "drift_rules.yaml", "criteria.yaml")
OVERLAY = "differences.yaml"

REQUESTS = "http_requests_total"
BUCKETS = "http_request_duration_seconds_bucket"
"""Metrics of the catalogue that tell requests: every instrumentation has names of its own."""

UP = "up"
TARGET = 0.5
"""Seconds that 99 % of requests take at most, by our own criteria and objectives."""

COMMON: dict[str, tuple[str, ...]] = {
    "region": (
        "region", "aws_region", "cloud_region", "gcp_region", "dc", "datacenter", "data_center",
        "site", "location", "zone", "availability_zone", "az", "cluster", "k8s_cluster",
    ),
    "service": (
        "service", "service_name", "app", "application", "exported_service", "workload",
        "microservice", "svc", "component", "deployment", "container", "job",
    ),
    "status": (
        "code", "status", "status_code", "http_response_status_code", "http_status_code",
        "response_code", "http_code",
    ),
    "version": ("version", "app_version", "service_version", "release", "image_tag"),
}  # fmt: skip
"""Labels that commonly name a dimension, the commonest first; a profile has its own before them."""

_STATUS = re.compile(r"[1-5](\d\d|xx)")
_PLACE = re.compile(r"[a-z]{2,}(-[a-z]+)+-?\d|[a-z]{2,4}\d{0,2}")

Dimension = Literal["region", "service"]
Ask = Callable[[str, Sequence[str]], str]
"""Asks which of several equally good names is meant."""

# What only people or other probes know is not found on a server of metrics.
ELSEWHERE = {
    "websocket_uptime": "sessions are watched by 'tars-ga websocket'",
    "database_query_time": "queries are timed by 'tars-ga validate'",
    "failed_checks": "the running system is checked by 'tars-ga validate'",
}


class Profile(Model):
    """How one instrumentation names what the catalogue asks for.

    One of `shown_by` is on every server that has it. `metrics` gives its names for metrics of the
    catalogue that it calls otherwise, the newest first; `matchers` select what counts of them.
    `labels` are those by which it names a dimension or an answer's status, before the common ones.
    """

    about: Name
    shown_by: Annotated[list[Name], Field(min_length=1)]
    metrics: dict[Name, list[Name]] = Field(default={})
    matchers: str = ""
    labels: dict[Literal["region", "service", "status", "version"], list[Name]] = Field(default={})

    def renames(self, known: set[str]) -> dict[str, str]:
        """Return which of the server's metrics stands for each of the catalogue's."""
        found = {}
        for metric, names in self.metrics.items():
            # OpenMetrics ends the name of a counter with _total, older libraries do not.
            several = [other for name in names for other in (name, name.removesuffix("_total"))]
            if here := next((name for name in several if name in known), None):
                found[metric] = here
        return found


def profiles() -> list[Profile]:
    """Return the instrumentations that are known, those whose file is the first by name first."""
    files = sorted((Path(__file__).parent / "profiles").glob("*.yaml"))
    return [check(Profile, read_yaml(file), str(file)) for file in files]


def _catalogue(name: str, model: type[M]) -> M:
    file = shipped("parameters") / name
    return check(model, read_yaml(file), str(file))


@dataclass
class Choice:
    """One thing that was chosen: its value, why, and what else there was."""

    value: str
    why: str
    others: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return self.why + (f"; also seen: {', '.join(self.others[:6])}" if self.others else "")


def look(url: str, given: Mapping[str, str | None] | None = None, ask: Ask | None = None) -> Look:
    """Look at a server and choose what can be certified from it.

    Parameters
    ----------
    given
        What is known already: labels that name a `region` or `service`, and the metrics that count
        `requests` and the buckets of their `latency`.
    ask
        Asks a person where several names are as good; without it the commonest is taken.

    Raises
    ------
    ParametersError
        If what is needed is not there: regions, services, hours, something to compare.
    SourceError
        If the server cannot be reached.
    """
    source = check(parameters.Source, {"prometheus": url}, f"tars-ga init {url}")
    known = {key: name for key, name in (given or {}).items() if name}
    with connect(source) as server:
        return Look(server, known, ask)


class Look:
    """What was found on a server, and chosen of it.

    Attributes
    ----------
    requests
        The metric that tells requests, or `up`.
    seen, unknown
        Other instrumentations, and metrics that may count requests and that no profile knows.
    labels, status, release
        Labels that name region and service, an answer's status, and a version.
    cells, members
        Regions and services that were seen together, and the names of each.
    window, baseline
        Start and end in epoch seconds; how far apart baselines are, how many, and why.
    kpis, scrapes, left_out
        What differs from the catalogue by KPI, and in how scrapes are counted; why a KPI is left
        out.
    unmeasured
        Criteria that no server of metrics tells, and why.
    edge
        Text of the bucket's edge at the target, if there is one.
    """

    def __init__(self, server: Prometheus, given: Mapping[str, str], ask: Ask | None) -> None:
        self.url, self._server, self._given, self._ask = server.url, server, given, ask
        self.now = int(server.now())
        self._labels_of = cache(lambda metric: server.labels(metric, *self._span))
        self._values_of = cache(
            lambda metric, label: server.label_values(label, metric, *self._span) - {""}
        )
        self._metrics = server.metrics(0, self.now)
        self.unknown: list[str] = []
        self.profile, others, end = self._instrumentation()
        self._span = end - RECENT, end
        self._metrics = server.metrics(*self._span)
        self.renames = self.profile.renames(self._metrics)
        self._buckets = self.renames.get(BUCKETS, "")
        self.milliseconds = bool({"milliseconds", "ms"} & {*self._buckets.split("_")})
        metric = self.renames.get(REQUESTS, UP)
        self.requests = Choice(metric, self.profile.about, [other.about for other in others])
        infrastructure = [
            one
            for one in profiles()
            if REQUESTS not in one.metrics and self._metrics & {*one.shown_by}
        ]
        for one in infrastructure:
            names = one.renames(self._metrics)
            self.renames |= {m: name for m, name in names.items() if m not in self._metrics}
        self._known = [self.profile, *infrastructure]
        self.seen = [one.about for one in infrastructure]
        region = self._dimension("region")
        self.labels: dict[Dimension, Choice] = {
            "region": region,
            "service": self._dimension("service", region.value),
        }
        self.window, self.baseline = self._days(metric, end)
        self.cells = self._cells()
        self.members: dict[Dimension, list[str]] = {
            "region": sorted({region for region, _ in self.cells}),
            "service": sorted({service for _, service in self.cells}),
        }
        self.status, self.release = self._status(), self._release()
        self.scrapes = self._scrapes()
        self.kpis: dict[str, dict[str, Any]] = {}
        self.left_out: dict[str, str] = {}
        self._choose_kpis()
        self.unmeasured = ELSEWHERE | self._unwatched()
        self.edge = self._edges().get(TARGET * 1000 if self.milliseconds else TARGET)
        self.refuse_empty()

    def _instrumentation(self) -> tuple[Profile, list[Profile], int]:
        """Choose what tells requests, the others that could, and the end of its data."""
        every = profiles()
        if requests := self._given.get("requests"):
            latency = self._given.get("latency")
            for option, given in (("--requests", requests), ("--latency", latency)):
                if given and given not in self._metrics:
                    raise ParametersError(
                        f"{option} {given}: {self.url} has no such metric; correct the name"
                    )
            metrics = {REQUESTS: [requests]} | ({BUCKETS: [latency]} if latency else {})
            every = [Profile(about="as given", shown_by=[requests], metrics=metrics)]
        ends = [
            (self._latest(here), profile)
            for profile in every
            if (here := profile.renames(self._metrics).get(REQUESTS))
        ]
        last = max((end for end, _ in ends), default=0)
        # Of those that were told of latest, the commonest.
        latest = {profile.about: profile for end, profile in ends if end == last and end}
        if latest:
            chosen = latest[self._asked("Which tells the requests?", [*latest])]
            return chosen, [one for end, one in ends if end and one is not chosen], last
        last = self._latest(UP) if UP in self._metrics else 0
        self.unknown = self._candidates_of_requests(last or self.now)
        names = [name.partition(" ")[0] for name in self.unknown]
        question = "No metric of requests is known here. Which of these counts them?"
        if self._ask and names and (name := self._ask(question, [*names, "none"])) != "none":
            chosen = Profile(about="as chosen", shown_by=[name], metrics={REQUESTS: [name]})
            return chosen, [], self._latest(name)
        if last:
            about = "no metric of requests is known here, only targets"
            return Profile(about=about, shown_by=[UP]), [], last
        wanted = ", ".join(one.shown_by[0] for one in every if REQUESTS in one.metrics)
        raise ParametersError(
            f"{self.url}: holds neither targets (up) nor metrics of requests that are known "
            f"({wanted}); {self._remedy()}"
        )

    def _remedy(self) -> str:
        """Say how to name what counts requests."""
        buckets = sorted(name for name in self._metrics if name.endswith("_bucket"))
        some = [
            f"there {text}: {', '.join(names[:6])}"
            for text, names in (("are HTTP statuses on", self.unknown), ("are buckets", buckets))
            if names
        ]
        return "; ".join([f"say what counts requests: tars-ga init {self.url} --requests METRIC "
                          "--latency METRIC", *some])  # fmt: skip

    def _asked(self, question: str, names: Sequence[str]) -> str:
        """Ask which of several names is meant; the first where nobody is asked."""
        return self._ask(question, names) if self._ask and len(names) > 1 else names[0]

    def _latest(self, metric: str) -> int:
        """Epoch seconds of the latest step at which there was a metric; 0 if there is none."""
        # Most servers have fresh data; only where there is none is it looked for further back.
        for reach, grid in ((KEPT_DAYS * DAY, HOUR), (LONGEST, 6 * HOUR)):
            last = self.now // grid * grid
            answer = self._server.range(f"count({metric})", last - reach, last, grid)
            if len(answer.labels):
                at = int(np.flatnonzero(~np.isnan(answer.values[0]))[-1])
                return last - reach + (at + 1) * grid
        return 0

    def _candidates_of_requests(self, end: int) -> list[str]:
        """Metrics that no profile knows, and that have a label of HTTP statuses near the end."""
        found = {}
        for label in COMMON["status"]:
            query = f'count by (__name__) ({{{label}=~"[1-5](..)"}})'
            for row in self._server.range(query, end - HOUR, end, HOUR).labels:
                found[row.get("__name__", "")] = label
        every = {name: label for name, label in found.items() if not name.endswith("_bucket")}
        return [f"{name} (by {label})" for name, label in sorted(every.items()) if name]

    def _dimension(self, what: Dimension, taken: str = "") -> Choice:
        """Choose the label of the requests that names a dimension."""
        metric = self.requests.value
        labels = self._labels_of(metric) - {taken, "__name__"}
        if (label := self._given.get(what)) is not None:
            if label not in labels:
                raise ParametersError(
                    f"--{what}-label {label}: {metric} has no such label; it has "
                    f"{', '.join(sorted(labels))}"
                )
            return Choice(label, "as given")
        named = [label for label in self._candidates(what) if label in labels]
        # A label that says the same of everything tells nothing apart.
        good = [label for label in named if len(self._values_of(metric, label)) > 1] or named
        why = f"a label of {metric} that is named as a {what} is"
        if not good and what == "region":
            others = {*COMMON["status"], *COMMON["service"]}
            good = [
                label
                for label in sorted(labels - {"instance", "pod", "method"} - others)
                if (values := self._values_of(metric, label)) and all(map(_PLACE.fullmatch, values))
            ]
            why = f"the values of this label of {metric} look like places"
        if not good:
            raise ParametersError(
                f"{self.url}: no label of {metric} names a {what}; say which does with "
                f"--{what}-label: {', '.join(sorted(labels)) or 'it has none'}"
            )
        chosen = self._asked(f"Which label of {metric} names the {what}?", good)
        return Choice(chosen, why, [label for label in good if label != chosen])

    def _candidates(self, what: Literal["region", "service", "status", "version"]) -> list[str]:
        """Labels that may name a dimension, those of the instrumentations first."""
        own = [label for profile in self._known for label in profile.labels.get(what, ())]
        return list(dict.fromkeys([*own, *COMMON[what]]))

    def _days(self, metric: str, end: int) -> tuple[tuple[int, int], tuple[int, int, str]]:
        """Choose the window and baseline among the hours that the server has a metric of."""
        last = end // HOUR * HOUR
        first = last - KEPT_DAYS * DAY
        answer = self._server.range(f"count({metric})", first, last, HOUR)
        seen = ~np.isnan(answer.values).all(axis=0) if answer.labels else np.zeros(0)
        known = {first + (int(hour) + 1) * HOUR for hour in np.flatnonzero(seen)}
        if len(known) < 4:
            raise ParametersError(
                f"{self.url}: has fewer than four hours of {metric} within {KEPT_DAYS} days; "
                "collect more of it first"
            )

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
            for every, most, why in LIKE_DAYS:
                times = 0
                while times < most and whole(
                    start - (times + 1) * every, stop - (times + 1) * every
                ):
                    times += 1
                if times:
                    return (start, stop), (every, times, why)
        for half in range(DAY // 2, 0, -HOUR):
            if whole(stop - 2 * half, stop):
                why = "the time before the window: there is no more"
                return (stop - half, stop), (half, 1, why)
        raise ParametersError(
            f"{self.url}: has no hours to compare the window with; collect more of it first"
        )

    def _cells(self) -> set[tuple[str, str]]:
        """Regions and services that were seen together in the window."""
        names = [choice.value for choice in self.labels.values()]
        selector = f"{self.requests.value}{{{self.profile.matchers}}}"
        answer = self._server.range(
            f"count by ({', '.join(names)}) ({selector})", *self.window, HOUR
        )
        cells = {(row.get(names[0], ""), row.get(names[1], "")) for row in answer.labels}
        return {cell for cell in cells if all(cell)}

    def _status(self) -> Choice | None:
        """Choose the label that holds an answer's status."""
        metric = self.requests.value
        good = [
            label
            for label in self._candidates("status")
            if label in self._labels_of(metric)
            and any(map(_STATUS.fullmatch, self._values_of(metric, label)))
        ]
        why = f"its values on {metric} are HTTP statuses"
        return Choice(good[0], why, good[1:]) if good else None

    def _release(self) -> str | None:
        """Return the label that tells versions."""
        labels = self._labels_of(self.requests.value)
        return next((label for label in self._candidates("version") if label in labels), None)

    def _choose_kpis(self) -> None:
        """See how each KPI differs from the catalogue, or why it is left out."""
        usual = {dimension: choice.value for dimension, choice in self.labels.items()}
        for name, kpi in _catalogue("kpis.yaml", KpiCatalogue).kpis.items():
            asked = {metric for text in kpi.queries().values() for metric in self._asked_of(text)}
            if why := self._why_not(asked, "code=" in str(kpi.queries())):
                self.left_out[name] = why
                continue
            labels = self._naming(kpi.by, {self.renames.get(metric, metric) for metric in asked})
            if isinstance(labels, str):
                self.left_out[name] = labels
                continue
            differs: dict[str, Any] = {
                part: here
                for part, template in kpi.queries().items()
                if (here := self.renamed(template)) != template
            }
            if BUCKETS in asked and self.milliseconds:
                differs["unit"] = "ms"
            own = usual | kpi.labels
            if others := {d: label for d, label in labels.items() if label != own[d]}:
                differs["labels"] = others
            if differs:
                self.kpis[name] = differs

    def _has(self, metric: str) -> bool:
        """Whether the server has a metric of the catalogue, or one that stands for it."""
        if metric in (REQUESTS, BUCKETS):  # by the names of the chosen instrumentation alone
            return metric in self.renames
        return self.renames.get(metric, metric) in self._metrics

    def _asked_of(self, template: str) -> list[str]:
        """Metrics that a query needs: of alternatives (`or`) those that the server has."""
        several = [metric_names(one) for one in re.split(r"\bor\b", template)]
        here = [names for names in several if all(map(self._has, names))]
        return [metric for names in here or several for metric in names]

    def _why_not(self, metrics: set[str], statuses: bool) -> str:
        """Say why metrics of the catalogue cannot be asked for here; empty if they can."""
        absent = sorted(metric for metric in metrics if not self._has(metric))
        if absent:
            return f"there is no metric {', '.join(absent)}, nor one known to stand for it"
        if REQUESTS in metrics and statuses and self.status is None:
            return f"no label of {self.requests.value} holds HTTP statuses"
        if BUCKETS in metrics and not {"seconds", "milliseconds", "ms"} & {
            *self._buckets.split("_")
        }:
            return f"the name of {self._buckets} does not say whether it counts seconds"
        highest = max(self._edges(), default=0.0)
        if BUCKETS in metrics and not self.milliseconds and highest > HOUR:
            return f"a bucket of {self._buckets} ends at {highest:g}, which is no number of seconds"
        return ""

    def renamed(self, template: str) -> str:
        """Ask a query of the catalogue by the server's names of metrics and statuses."""
        for metric, here in self.renames.items():
            ours = metric in (REQUESTS, BUCKETS) and self.profile.matchers
            if metric == REQUESTS and self.status:
                template = template.replace(f"{metric}{{code=", f"{metric}{{{self.status.value}=")
            chosen = f"{here}{{{ours}," if ours else f"{here}{{"
            template = re.sub(rf"\b{metric}\{{", chosen.replace("\\", r"\\"), template)
        return template

    def _edges(self) -> dict[float, str]:
        """Finite edges of the requests' buckets, and how the server writes them."""
        edges = self._values_of(self._buckets, "le") if self._buckets else set()
        return {float(edge): edge for edge in sorted(edges - {"+Inf"})}

    def _unwatched(self) -> dict[str, str]:
        """Return the criterion on alerts, and why, where no rules are seen to be evaluated."""
        alerts = _catalogue("kpis.yaml", KpiCatalogue).alerts
        absent = sorted({*metric_names(alerts.evaluations)} - self._metrics) if alerts else []
        why = f"alerts are not evaluated here: there is no metric {', '.join(absent)}"
        return {"critical_alerts": why} if absent else {}

    def _scrapes(self) -> dict[str, Any]:
        """Return what differs from the catalogue in how scrapes are counted.

        Where `up` does not name these services, as of metrics that are pushed, the series of
        requests are counted: they name them, and have a sample a scrape as well.
        """
        if UP in self._metrics:
            own = self._naming(("region", "service"), {UP})
            if not isinstance(own, str):
                own = {d: label for d, label in own.items() if label != self.labels[d].value}
                return {"labels": own} if own else {}
        inside = ",".join(filter(None, [self.profile.matchers, "$match"]))
        return {"selector": f"{self.requests.value}{{{inside}}}"}

    def _naming(self, by: Iterable[Dimension], metrics: set[str]) -> dict[Dimension, str] | str:
        """Return the labels by which metrics name each dimension, or what they lack.

        It is that label of which the most values are names of regions or services.
        """
        own: dict[Dimension, str] = {}
        series = sorted(metrics)
        for dimension in by:
            shared = set.intersection(*map(self._labels_of, series))
            wanted = {*self.members[dimension]}
            matches = {
                label: sum(len(self._values_of(selector, label) & wanted) for selector in series)
                for label in [self.labels[dimension].value, *self._candidates(dimension)]
                if label in shared
            }
            best = max(matches, key=lambda label: matches[label], default="")
            if not matches.get(best):
                return f"no label of {', '.join(sorted(metrics))} names these {dimension}s"
            own[dimension] = best
            series = [f'{metric}{{{best}!=""}}' for metric in sorted(metrics)]  # of these alone
        return own

    def refuse_empty(self) -> None:
        """Refuse a server of which nothing could be compared.

        Raises
        ------
        ParametersError
            If no drift rule has a KPI left.
        """
        rules = _catalogue("drift_rules.yaml", DriftRules).rules.values()
        if all({*rule.kpi} <= {*self.left_out} for rule in rules):
            raise ParametersError(
                f"{self.url}: holds nothing that a drift rule compares, by the names that are "
                f"known; {self._remedy()}"
            )

    def objectives(self) -> list[Any]:
        """Return our OpenSLO documents by the server's names, those that rest on what is there."""
        documents = objectives.read(shipped("parameters") / "slos.yaml")
        rest = {
            "availability": "availability" not in self.left_out,
            "error-rate": "error_rate" not in self.left_out,
            "latency-p99": "latency_p99" not in self.left_out and self.edge,
        }
        slos = {name: slo for name, slo in documents["SLO"].items() if rest[name]}
        kept = [*documents["Service"].values(), *slos.values()]
        text = self.renamed(text_of(kept)).replace('le="0.5"', f'le="{self.edge}"')
        return yaml.safe_load(text) if slos else []


# --- writing -------------------------------------------------------------------------------------


def write(found: Look, folder: Path, *, name: str, version: str) -> list[Finding]:
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
        text = (shipped("parameters") / file).read_text(encoding="utf-8")
        text = re.sub(r"\A# yaml-language-server:.*\n", "", text)
        (folder / file).write_text(text, encoding="utf-8")
    release = {"name": name, "version": version}
    job = _written(found, folder, release)
    findings = list(preflight(job))
    empty = {each.request.template: each.problem for each in findings
             if not each.ok and not each.problem.startswith("no samples for the ")}  # fmt: skip
    for kpi, facts in job.kpis.items():
        if problems := [empty[text] for text in facts.queries().values() if text in empty]:
            found.left_out[kpi] = problems[0]
            found.kpis.pop(kpi, None)
    found.refuse_empty()
    job = _written(found, folder, release)
    asked = {text for kpi in [*job.kpis.values(), *(s.kpi for s in job.slos.values())]
             for text in kpi.queries().values()}  # fmt: skip
    asked |= {job.scrapes.targets, job.scrapes.seen}
    return [each for each in findings if each.request.template in asked]


def _written(found: Look, folder: Path, release: Mapping[str, str]) -> parameters.Job:
    """Write the files that differ by server, and read them."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "profiles" / "written"),
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False,
    )  # fmt: skip
    templates.filters |= {
        "quoted": _quoted,
        "comment": _comment,
        "time": format_time,
        "length_of": format_duration,
        "yaml": lambda value: text_of(value).rstrip(),
        "documents": lambda values: "---\n".join(map(text_of, values)).rstrip(),
    }
    slos = found.objectives()
    for template in templates.list_templates():
        text = templates.get_template(template).render(look=found, release=release, slos=slos)
        (folder / template.removesuffix(".j2")).write_text(f"{text}\n", encoding="utf-8")
    if not slos:
        (folder / "slos.yaml").unlink()
    return parameters.load(folder / "run.yaml")


def _quoted(text: str) -> str:
    """Write a text so that YAML reads the same text, and no number, time or comment."""
    written = yaml.safe_dump([text], default_flow_style=True, allow_unicode=True, width=10**6)
    return written.strip()[1:-1]


def _comment(text: object) -> str:
    """Write what a server said on one line, so that it stays a comment."""
    return " ".join(str(text).split())
