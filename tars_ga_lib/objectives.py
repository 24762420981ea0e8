# ruff: noqa: N815 - the keys are OpenSLO's own
"""Service level objectives, as OpenSLO v1 documents say them: the models of `slos.yaml`.

A file is a stream of documents (`SLO`, `SLI`, `Service`, `DataSource`), which are read as a mapping
by kind and name, so that files are laid over each other like any other; `objectives_of` makes one
`Objective` of each target. What the specification allows but this project does not do is refused,
never ignored.
Source: OpenSLO specification, apiVersion openslo/v1.

An indicator's queries are templates like the KPI catalogue's, or plain PromQL:

* with marks (`$match`, `$by`, `$step`, `$step_seconds`), evaluated at the end of each step;
* for a `ratioMetric` with `counter: true`, one plain counter selector, `name{…}` or `sum(name{…})`,
  of which the increase is taken over each step for the run's regions and services;
* for a `thresholdMetric`, any plain PromQL that returns one series.
"""

from __future__ import annotations

import calendar
import re
import zoneinfo
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    InstanceOf,
    PlainSerializer,
    RootModel,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    WithJsonSchema,
    model_validator,
)

from tars_ga_lib.catalogues import Kpi
from tars_ga_lib.grammar import (
    Model,
    Name,
    Number,
    ParametersError,
    Problems,
    parse_documents,
    read_text,
)

Dimension = Literal["region", "service"]
Operator = Literal["lte", "gte", "lt", "gt"]

_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 604800}
_MONTHS = {"M": 1, "Q": 3, "Y": 12}
OURS = "tars-ga"
_OURS = OURS + "/"


# --- single values -------------------------------------------------------------------------------


class Period(NamedTuple):
    """Length of a time window: `28d`, or calendar months, which have no length in seconds."""

    text: str
    seconds: int = 0
    months: int = 0

    @classmethod
    def parse(cls, text: object) -> Period:
        """Read a duration as OpenSLO writes it: a number and one of m, h, d, w, M, Q, Y.

        Raises
        ------
        ValueError
            If it is none.
        """
        match = re.fullmatch(r"([1-9]\d{0,5})([mhdwMQY])", str(text), re.ASCII)
        if not isinstance(text, str) or not match:
            raise ValueError(f"{text!r} is not a duration of OpenSLO; write it like 28d, 1h or 1M")
        count, unit = int(match[1]), match[2]
        return cls(text, count * _UNITS.get(unit, 0), count * _MONTHS.get(unit, 0))


def _parse_slice(value: object) -> int:
    """Seconds of a time slice; a plain number counts minutes."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1_000_000:
        return value * 60
    seconds = Period.parse(value).seconds
    if not seconds:
        raise ValueError(f"{value!r} is no length of a time slice; write it like 5m or 1h")
    return seconds


def _parse_start(value: object) -> str:
    """Time without a zone, `2026-01-01 00:00:00`; YAML may have made a time of it already."""
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(
            f"{value!r} is not a time; write it like 2026-01-01 00:00:00, without a zone"
        ) from None
    if moment.tzinfo is not None or moment.microsecond:
        raise ValueError("it has a zone or parts of a second; give the zone as 'timeZone'")
    return moment.isoformat(sep=" ")


def _zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(
            f"{name!r} is not a time zone; write it like UTC or America/New_York"
        ) from None
    return name


def _object_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name, re.ASCII):
        raise ValueError(
            f"{name!r} is not a name of OpenSLO; use up to 63 lower-case letters, digits and '-'"
        )
    return name


ObjectName = Annotated[StrictStr, AfterValidator(_object_name)]
PeriodText = Annotated[
    InstanceOf[Period],
    BeforeValidator(Period.parse),
    PlainSerializer(lambda period: period.text, str),
    WithJsonSchema({"type": "string"}),
]
Slice = Annotated[
    int, BeforeValidator(_parse_slice), PlainSerializer(lambda seconds: seconds // 60, int | str)
]
Description = Annotated[StrictStr, Field(max_length=1050)]
Share = Annotated[StrictFloat, Field(allow_inf_nan=False)] | StrictInt


# --- the documents -------------------------------------------------------------------------------


class Metadata(Model):
    """Name and labels of a document; annotations that begin with `tars-ga/` are ours."""

    name: ObjectName
    displayName: Name | None = None
    labels: dict[Name, StrictStr | list[StrictStr]] = Field(default={})
    annotations: dict[Name, StrictStr] = Field(default={})

    def ours(self, *known: str) -> dict[str, str]:
        """Return our annotations, of which those named are known, without what they begin with.

        Raises
        ------
        ValueError
            If there is another.
        """
        given = {
            key.removeprefix(_OURS): text
            for key, text in self.annotations.items()
            if key.startswith(_OURS)
        }
        for key in given:
            if key not in known:
                names = ", ".join(_OURS + name for name in known) or "none"
                raise ValueError(
                    f"metadata.annotations: unknown key '{_OURS}{key}'; known here: {names}"
                )
        return given


class QuerySpec(Model):
    """What a Prometheus is asked: a query, or a part of a KPI of the catalogue."""

    EITHER = (("query", "kpi"), ("query", "part"))

    query: Name | None = None
    kpi: Name | None = None
    part: Literal["numerator", "denominator"] | None = None


class MetricSource(Model):
    """Where a metric comes from: always Prometheus, which the run's file names."""

    metricSourceRef: Name | None = None
    type: Name | None = None
    spec: QuerySpec

    @model_validator(mode="after")
    def _prometheus(self) -> Self:
        if self.type is None and self.metricSourceRef is None:
            raise ValueError("give 'type: Prometheus', or 'metricSourceRef' with its name")
        if (self.type == OURS) != (self.spec.kpi is not None):
            raise ValueError(f"a 'kpi' goes with 'type: {OURS}', and a 'query' with Prometheus")
        if self.type is not None and self.type.lower() not in ("prometheus", OURS):
            raise ValueError(
                f"the source type {self.type!r} is not supported; use Prometheus and a PromQL query"
            )
        return self


class Metric(Model):
    """One query of an indicator."""

    metricSource: MetricSource


class RatioMetric(Model):
    """Good or bad events over all events."""

    EITHER = (("good", "bad"),)

    counter: StrictBool = False
    good: Metric | None = None
    bad: Metric | None = None
    total: Metric


class SliSpec(Model):
    """How a service level is measured."""

    EITHER = (("ratioMetric", "thresholdMetric"),)

    description: Description = ""
    ratioMetric: RatioMetric | None = None
    thresholdMetric: Metric | None = None

    @property
    def sources(self) -> list[MetricSource]:
        """Where its metrics come from: the part and the total of a ratio, or a threshold's."""
        ratio = self.ratioMetric
        metrics = (ratio.good, ratio.bad, ratio.total) if ratio else (self.thresholdMetric,)
        return [metric.metricSource for metric in metrics if metric]


class Indicator(Model):
    """An indicator that is written inside its SLO."""

    metadata: Metadata | None = None
    spec: SliSpec


class Calendar(Model):
    """Where the periods of a calendar-aligned window begin."""

    startTime: Annotated[StrictStr, BeforeValidator(_parse_start)]
    timeZone: Annotated[StrictStr, AfterValidator(_zone)]


class TimeWindow(Model):
    """The time over which an objective is to hold: rolling, or aligned to a calendar."""

    duration: PeriodText
    isRolling: StrictBool | None = None
    calendar: Calendar | None = None

    @model_validator(mode="after")
    def _rolling_or_calendar(self) -> Self:
        if bool(self.isRolling) == (self.calendar is not None):
            raise ValueError("give either 'isRolling: true' or a 'calendar'")
        if self.calendar is None and self.duration.months:
            raise ValueError(
                f"a rolling window of {self.duration.text} has no fixed length; give days, like 30d"
            )
        return self

    @property
    def name(self) -> str:
        """How a reader is told: `28d rolling`, `1M by the calendar`."""
        return f"{self.duration.text} {'by the calendar' if self.calendar else 'rolling'}"

    def around(self, at: int) -> tuple[int, int]:
        """Start and end of the period of which the moment before `at` is a part, epoch seconds."""
        if self.calendar is None:
            return at - self.duration.seconds, at
        first = datetime.fromisoformat(self.calendar.startTime)
        zone = zoneinfo.ZoneInfo(self.calendar.timeZone)
        now = datetime.fromtimestamp(at - 1, UTC).astimezone(zone).replace(tzinfo=None)
        if self.duration.months:
            passed = (now.year - first.year) * 12 + now.month - first.month
            count = passed // self.duration.months
        else:
            count = (now - first) // timedelta(seconds=self.duration.seconds)
        starts = [self._start(first, zone, count + k) for k in (-1, 0, 1, 2)]
        k = max(k for k in range(3) if starts[k] < at)
        return starts[k], starts[k + 1]

    def _start(self, first: datetime, zone: zoneinfo.ZoneInfo, count: int) -> int:
        """Start of the period of that number, by the clock on the wall."""
        if self.duration.months:
            months = first.year * 12 + first.month - 1 + count * self.duration.months
            year, month = months // 12, months % 12 + 1
            day = min(first.day, calendar.monthrange(year, month)[1])
            begin = first.replace(year=year, month=month, day=day)
        else:
            begin = first + timedelta(seconds=count * self.duration.seconds)
        return int(begin.replace(tzinfo=zone).timestamp())


class Target(Model):
    """One of an SLO's `objectives`."""

    EITHER = (("target", "targetPercent"),)

    displayName: Name | None = None
    op: Operator | None = None
    value: Number | None = None
    target: Annotated[Share, Field(ge=0, lt=1)] | None = None
    targetPercent: Annotated[Share, Field(ge=0, lt=100)] | None = None
    timeSliceTarget: Annotated[Share, Field(gt=0, le=1)] | None = None
    timeSliceWindow: Slice | None = None

    @model_validator(mode="after")
    def _whole_comparison(self) -> Self:
        if (self.op is None) != (self.value is None):
            raise ValueError("'op' and 'value' go together; give both")
        return self

    @property
    def share(self) -> float:
        """The target as a share, 0..1."""
        if self.target is not None:
            return float(self.target)
        return float(Decimal(repr(self.targetPercent)) / 100)


class SloSpec(Model):
    """What an SLO promises, of which indicator, over which time."""

    EITHER = (("indicator", "indicatorRef"),)

    description: Description = ""
    service: Name
    indicator: Indicator | None = None
    indicatorRef: Name | None = None
    timeWindow: Annotated[list[TimeWindow], Field(max_length=1)] = Field(default=[])
    budgetingMethod: Literal["Occurrences", "Timeslices"]
    objectives: Annotated[list[Target], Field(min_length=1)]

    @model_validator(mode="after")
    def _sliced_or_not(self) -> Self:
        for one in self.objectives:
            sliced = (one.timeSliceTarget, one.timeSliceWindow)
            if self.budgetingMethod == "Timeslices" and None in sliced:
                raise ValueError("Timeslices need 'timeSliceTarget' and 'timeSliceWindow'")
            if self.budgetingMethod == "Occurrences" and sliced != (None, None):
                raise ValueError(
                    "'timeSliceTarget' and 'timeSliceWindow' go with Timeslices; take them out"
                )
        return self


class ServiceSpec(Model):
    """A service: only its name counts here."""

    description: Description = ""


class DataSourceSpec(Model):
    """A Prometheus. Where it is, the run's file says, and secrets come from the environment."""

    description: Description = ""
    type: Name
    connectionDetails: Any = None

    @model_validator(mode="after")
    def _no_details(self) -> Self:
        if self.type.lower() != "prometheus":
            raise ValueError(f"the source type {self.type!r} is not supported; use Prometheus")
        if self.connectionDetails:
            # This file goes into the evidence package, and they may hold a secret.
            raise ValueError(
                "connection details are not read; name the server as the run's 'source', keep "
                "secrets in the environment, and leave 'connectionDetails: {}'"
            )
        return self


class _Object(Model):
    """What every document has."""

    apiVersion: Literal["openslo/v1"]
    metadata: Metadata


class Slo(_Object):
    """A document of kind SLO."""

    kind: Literal["SLO"]
    spec: SloSpec


class Sli(_Object):
    """A document of kind SLI."""

    kind: Literal["SLI"]
    spec: SliSpec


class Service(_Object):
    """A document of kind Service."""

    kind: Literal["Service"]
    spec: ServiceSpec = ServiceSpec()


class DataSource(_Object):
    """A document of kind DataSource."""

    kind: Literal["DataSource"]
    spec: DataSourceSpec


class Document(RootModel[Annotated[Slo | Sli | Service | DataSource, Field(discriminator="kind")]]):
    """One OpenSLO document, as an editor checks it."""


_Services = dict[str, Service]  # pydantic takes a field's name for its type otherwise
_DataSources = dict[str, DataSource]


class Documents(Model):
    """The documents of `slos.yaml`, by kind and name."""

    SLO: dict[str, Slo] = Field(default={})
    SLI: dict[str, Sli] = Field(default={})
    Service: _Services = Field(default={})
    DataSource: _DataSources = Field(default={})


# --- what is evaluated ---------------------------------------------------------------------------


class Objective(Model):
    """One objective, with its indicator, target and window.

    A ratio has `part` (the `good` or the `bad` events, as `counts` says) and `total`; a threshold
    has `value`, of which every sample is to compare to `threshold` as `op` says. All are query
    templates. With `slice_seconds`, time slices are counted instead of events: a slice is good if
    at least the share `slice_target` of it is.
    """

    name: Name
    title: Name
    about: str
    service: Name
    target: float
    counts: Literal["good", "bad", "samples"]
    part: str = ""
    total: str = ""
    population: str = ""
    value: str = ""
    op: Operator | None = None
    threshold: float | None = None
    slice_seconds: int | None = None
    slice_target: float | None = None
    window: TimeWindow | None = None
    by: list[Dimension]
    labels: dict[Dimension, Name] = Field(default={})
    runbook: str = ""

    @property
    def allowed(self) -> float:
        """Share of bad events that the target allows: 0.001 for 0.999, without a rounding error."""
        return float(1 - Decimal(repr(self.target)))

    @property
    def kpi(self) -> Kpi:
        """The indicator as a KPI, so that it is asked for and read as one."""
        common: dict[str, Any] = {
            "title": self.title, "about": self.about or self.title, "unit": "ratio",
            "by": self.by, "labels": self.labels,
        }  # fmt: skip
        if self.counts == "samples":
            return Kpi(kind="gauge", better="either", value=self.value, **common)
        better: Any = "higher" if self.counts == "good" else "lower"
        return Kpi(
            kind="ratio", better=better, numerator=self.part, denominator=self.total,
            population=self.population or None, **common,
        )  # fmt: skip


# --- reading -------------------------------------------------------------------------------------


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Read a stream of documents, not checked yet, by kind and name.

    Raises
    ------
    ParametersError
        If it cannot be read, or a document has no name or that of another.
    """
    found: dict[str, dict[str, Any]] = {}
    for raw in parse_documents(read_text(path), str(path)):
        for document in raw if isinstance(raw, list) else [raw]:
            if document is None:
                continue
            kind, name = _named(document)
            if kind is None or name is None:
                raise ParametersError(
                    f"{path}: a document is not one of OpenSLO; begin each with "
                    "'apiVersion: openslo/v1', a 'kind' and its 'metadata: {name: …}'"
                )
            if name in found.setdefault(kind, {}):
                raise ParametersError(f"{path}: the {kind} '{name}' is there twice; rename one")
            found[kind][name] = document
    return found


def _named(document: Any) -> tuple[str | None, str | None]:
    metadata = document.get("metadata") if isinstance(document, dict) else None
    if not isinstance(metadata, dict):
        return None, None
    kind, name = document.get("kind"), metadata.get("name")
    return kind if isinstance(kind, str) else None, name if isinstance(name, str) else None


def objectives_of(documents: Documents, file: str, kpis: Mapping[str, Kpi]) -> dict[str, Objective]:
    """Return the objectives of documents by name; their sources may be parts of `kpis`.

    An SLO with several targets gives several objectives, named `NAME-PERCENT`. `file` is what an
    error names.

    Raises
    ------
    ParametersError
        In a sentence a problem that names the file, the document and the remedy.
    """
    found: dict[str, Objective] = {}
    problems = Problems()
    if not documents.SLO:
        problems.add(f"{file}: it holds no SLO; add a document of kind SLO")
    for name, slo in documents.SLO.items():
        try:
            for one in _objectives(slo, documents, kpis):
                if one.name in found:
                    raise ValueError(
                        f"the objective '{one.name}' is there twice; give its target or its SLO "
                        "another name or value"
                    )
                found[one.name] = one
        except ValueError as error:
            problems.add(f"{file}: SLO.{name}: {error}")
    problems.refuse()
    return found


def _objectives(slo: Slo, documents: Documents, kpis: Mapping[str, Kpi]) -> list[Objective]:
    """Return the objectives of one SLO document; a `ValueError` says what does not fit."""
    spec, title = slo.spec, slo.metadata.displayName or slo.metadata.name
    if documents.Service and spec.service not in documents.Service:
        raise ValueError(
            f"spec.service: '{spec.service}' is not one of the file's services "
            f"({', '.join(documents.Service)}); correct it, or add a document of kind Service"
        )
    indicator = spec.indicator or documents.SLI.get(str(spec.indicatorRef))
    if indicator is None:
        raise ValueError(
            f"spec.indicatorRef: there is no SLI '{spec.indicatorRef}' in the file; add it or "
            "correct the name"
        )
    sli, several = indicator.spec, len(spec.objectives) > 1
    for source in sli.sources:
        reference = source.metricSourceRef
        if reference and source.type is None and reference not in documents.DataSource:
            raise ValueError(
                f"the data source '{reference}' is not in the file; add it, or write "
                "'type: Prometheus'"
            )
    if several and sli.thresholdMetric:
        raise ValueError("a thresholdMetric has only one objective; write an SLO for each")
    common = _queries(indicator.metadata, sli, kpis) | {
        "about": spec.description or sli.description,
        "service": spec.service,
        "window": spec.timeWindow[0] if spec.timeWindow else None,
        "runbook": slo.metadata.ours("runbook").get("runbook", ""),
    }
    found = []
    for one in spec.objectives:
        if (one.op is None) == (sli.thresholdMetric is not None):
            raise ValueError(
                "a thresholdMetric needs 'op' and 'value'; add them"
                if sli.thresholdMetric
                else "'op' and 'value' go with a thresholdMetric; take them out"
            )
        percent = f"{Decimal(repr(one.share)) * 100:f}".rstrip("0").rstrip(".")
        found.append(Objective(
            name=f"{slo.metadata.name}-{percent}" if several else slo.metadata.name,
            title=(one.displayName or f"{title} ({percent} %)") if several else title,
            target=one.share,
            op=one.op,
            threshold=None if one.value is None else float(one.value),
            slice_seconds=one.timeSliceWindow,
            slice_target=None if one.timeSliceTarget is None else float(one.timeSliceTarget),
            **common,
        ))  # fmt: skip
    return found


# --- queries -------------------------------------------------------------------------------------

_STRING = r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`"""
_SELECTOR = re.compile(
    rf"(?P<sum>sum\s*\(\s*)?(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)\s*"
    rf"(?:\{{(?P<matchers>(?:[^{{}}\"'`]|{_STRING})*)\}})?\s*(?(sum)\)\s*)",
    re.DOTALL,
)


def _has_marks(text: str) -> bool:
    """Tell a template from plain PromQL, which has a dollar sign only inside of strings."""
    return "$" in re.sub(_STRING, '""', text, flags=re.DOTALL)


def _of_kpi(sli: SliSpec, kpis: Mapping[str, Kpi]) -> dict[str, Any]:
    """Return the query templates, dimensions and labels of a ratio of the catalogue."""
    names = {source.spec.kpi for source in sli.sources}
    name = next(iter(names - {None}))
    kpi, ratio = kpis.get(str(name)), sli.ratioMetric
    if len(names) > 1 or ratio is None or kpi is None or kpi.kind != "ratio":
        known = ", ".join(key for key, one in kpis.items() if one.kind == "ratio" and one.by)
        raise ValueError(
            "'good' or 'bad', and 'total', are to be parts of one ratio of the KPI catalogue, "
            f"which has: {known or 'none'}"
        )
    counts, better = ("good", "higher") if ratio.good else ("bad", "lower")
    parts = [source.spec.part for source in sli.sources]
    if parts != ["numerator", "denominator"] or kpi.better != better:
        raise ValueError(
            f"the numerator of '{name}' counts {'good' if kpi.better == 'higher' else 'bad'} "
            "events, and its denominator is 'total'"
        )
    return {
        "counts": counts, "part": kpi.numerator, "total": kpi.denominator,
        "population": kpi.population or "", "by": kpi.by, "labels": kpi.labels,
    }  # fmt: skip


def _queries(metadata: Metadata | None, sli: SliSpec, kpis: Mapping[str, Kpi]) -> dict[str, Any]:
    """Return an indicator's query templates, dimensions and labels."""
    ours = metadata.ours("by", "region-label", "service-label") if metadata else {}
    if any(source.spec.kpi for source in sli.sources):
        return _of_kpi(sli, kpis)
    texts = [str(source.spec.query) for source in sli.sources]
    marked, ratio = any(map(_has_marks, texts)), sli.ratioMetric
    words = ours.pop("by", "region, service" if marked or ratio else "none")
    by = [] if words == "none" else words.replace(",", " ").split()
    if by not in ([], ["region"], ["region", "service"]):
        raise ValueError(
            f"the annotation {_OURS}by is '{words}'; write none, region, or region, service"
        )
    found: dict[str, Any] = {
        "by": by,
        "labels": {key.removesuffix("-label"): label for key, label in ours.items()},
    }
    for text in texts:
        if by and (marked or ratio is None) and not re.search(r"\$\{?by\b", text):
            raise ValueError(
                f"the query {text!r} has no $by, so it could not be told by region or service; "
                f"add it, or set the annotation {_OURS}by: none"
            )
        if marked and ratio and not re.search(r"\$\{?step\b", text):
            raise ValueError(
                f"the query {text!r} has no $step, so it does not say what was counted in a step; "
                "write it like sum by ($by) (increase(name{$match}[$step]))"
            )
    if ratio is None:
        value = texts[0] if marked else texts[0].replace("$", "$$")
        return found | {"counts": "samples", "value": value}
    counts, (part, total) = "good" if ratio.good else "bad", texts
    if not marked:
        if not ratio.counter:
            raise ValueError(
                "a ratioMetric of plain selectors is read as increases of counters; set "
                "'counter: true', or write queries with $match, $by and $step"
            )
        (name, part), (whole, total) = _increase(part, by), _increase(total, by)
        if counts == "bad" and name == whole:
            # A client library makes the series of an answer's code at the first such answer. Before
            # that, "no bad event" is known only where the same metric was read.
            part = f"{part} or 0 * {total}"
    return found | {"counts": counts, "part": part, "total": total}


def _increase(text: str, by: list[str]) -> tuple[str, str]:
    """Name of a plain counter selector's metric, and the template of its increase in a step."""
    match = _SELECTOR.fullmatch(text.strip())
    if not match:
        raise ValueError(
            f"the query {text!r} is no plain counter selector; write name{{…}} or sum(name{{…}}), "
            "or a query with $match, $by and $step"
        )
    matchers = (match["matchers"] or "").strip().rstrip(",").strip().replace("$", "$$")
    inside = ",".join(filter(None, [matchers, "$match" if by else ""]))
    head = "sum by ($by)" if by else "sum"
    selector = f"{match['name']}{{{inside}}}" if inside else match["name"]
    return match["name"], f"{head} (increase({selector}[$step]))"
