# ruff: noqa: N815 - the keys are OpenSLO's own
"""Service level objectives, as OpenSLO v1 documents say them: the models of `slos.yaml`.

`read` takes a stream of documents (`SLO`, `SLI`, `Service`, `DataSource`) and returns one
`Objective` for each target. What the specification allows but this project does not do is refused,
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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    RootModel,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

from tars_ga_lib.catalogues import Kpi
from tars_ga_lib.grammar import (
    Model,
    Name,
    Number,
    ParametersError,
    Problems,
    check,
    nearest,
    parse_yaml,
)
from tars_ga_lib.layers import Assignment, Files, Layered

Dimension = Literal["region", "service"]
Operator = Literal["lte", "gte", "lt", "gt"]

_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 604800}
_MONTHS = {"M": 1, "Q": 3, "Y": 12}
OURS = "tars-ga"
_OURS = OURS + "/"
_ANNOTATIONS = {
    "SLI": ("by", "region-label", "service-label"),
    "SLO": ("runbook",),
    "Service": (),
    "DataSource": (),
}


# --- single values -------------------------------------------------------------------------------


class Period(Model):
    """Length of a time window: `28d`, or calendar months, which have no length in seconds."""

    text: StrictStr
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
        return cls(
            text=text, seconds=count * _UNITS.get(unit, 0), months=count * _MONTHS.get(unit, 0)
        )


def _parse_slice(value: object) -> int:
    """Seconds of a time slice; a plain number counts minutes."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1_000_000:
        return value * 60
    seconds = Period.parse(value).seconds
    if not seconds:
        raise ValueError(f"{value!r} is no length of a time slice; write it like 5m or 1h")
    return seconds


def _minutes(seconds: int) -> int:
    return seconds // 60


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
    Period, BeforeValidator(Period.parse), PlainSerializer(lambda period: period.text, str)
]
Slice = Annotated[int, BeforeValidator(_parse_slice), PlainSerializer(_minutes, int | str)]
Description = Annotated[StrictStr, Field(max_length=1050)]


# --- the documents -------------------------------------------------------------------------------


class Metadata(Model):
    """Name and labels of a document; annotations that begin with `tars-ga/` are ours."""

    name: ObjectName
    displayName: Name | None = None
    labels: dict[Name, StrictStr | list[StrictStr]] = Field(default={})
    annotations: dict[Name, StrictStr] = Field(default={})


class QuerySpec(Model):
    """What a Prometheus is asked: a query, or a part of a KPI of the catalogue."""

    query: Name | None = None
    kpi: Name | None = None
    part: Literal["numerator", "denominator"] | None = None

    @model_validator(mode="after")
    def _one_query(self) -> Self:
        if (self.query is None) == (self.kpi is None) or (self.kpi is None) != (self.part is None):
            raise ValueError("give either 'query', or 'kpi' and its 'part'")
        return self


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

    counter: StrictBool = False
    good: Metric | None = None
    bad: Metric | None = None
    total: Metric | None = None
    raw: Metric | None = None
    rawType: Literal["success", "failure"] | None = None

    @model_validator(mode="after")
    def _two_queries(self) -> Self:
        if self.raw is not None or self.rawType is not None:
            raise ValueError(
                "a 'raw' ratio has no events that could be counted; give 'total' with 'good' or "
                "'bad' instead"
            )
        if self.total is None or (self.good is None) == (self.bad is None):
            raise ValueError("give 'total' with either 'good' or 'bad'")
        return self


class SliSpec(Model):
    """How a service level is measured."""

    description: Description = ""
    ratioMetric: RatioMetric | None = None
    thresholdMetric: Metric | None = None

    @model_validator(mode="after")
    def _one_metric(self) -> Self:
        if (self.ratioMetric is None) == (self.thresholdMetric is None):
            raise ValueError("give either 'ratioMetric' or 'thresholdMetric'")
        return self


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
        if self.isRolling is None and self.calendar is None:
            raise ValueError("give 'isRolling: true', or a 'calendar'")
        if bool(self.isRolling) == (self.calendar is not None):
            raise ValueError("a rolling window has no 'calendar', and another needs one")
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


Share = Annotated[StrictFloat, Field(allow_inf_nan=False)] | StrictInt


class Target(Model):
    """One of an SLO's `objectives`."""

    displayName: Name | None = None
    op: Operator | None = None
    value: Number | None = None
    target: Annotated[Share, Field(ge=0, lt=1)] | None = None
    targetPercent: Annotated[Share, Field(ge=0, lt=100)] | None = None
    timeSliceTarget: Annotated[Share, Field(gt=0, le=1)] | None = None
    timeSliceWindow: Slice | None = None
    indicator: Any = None
    indicatorRef: Any = None
    compositeWeight: Any = None

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if any(x is not None for x in (self.indicator, self.indicatorRef, self.compositeWeight)):
            raise ValueError(
                "composite SLOs are not supported; write an SLO of its own for each indicator"
            )
        if (self.target is None) == (self.targetPercent is None):
            raise ValueError("give either 'target' or 'targetPercent'")
        return self

    @property
    def share(self) -> float:
        """The target as a share, 0..1."""
        if self.target is not None:
            return float(self.target)
        return float(Decimal(repr(self.targetPercent)) / 100)


class SloSpec(Model):
    """What an SLO promises, of which indicator, over which time."""

    description: Description = ""
    service: Name
    indicator: Indicator | None = None
    indicatorRef: Name | None = None
    timeWindow: Annotated[list[TimeWindow], Field(max_length=1)] = Field(default=[])
    budgetingMethod: Literal["Occurrences", "Timeslices"]
    objectives: Annotated[list[Target], Field(min_length=1)]
    alertPolicies: list[Any] = Field(default=[])

    @model_validator(mode="before")
    @classmethod
    def _known_method(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping) and raw.get("budgetingMethod") == "RatioTimeslices":
            raise ValueError(
                "the budgetingMethod RatioTimeslices is not supported; use Occurrences or "
                "Timeslices"
            )
        return raw

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        composite = any(t.indicatorRef is not None or t.indicator is not None
                        for t in self.objectives)  # fmt: skip
        if not composite and (self.indicator is None) == (self.indicatorRef is None):
            raise ValueError("give either 'indicator' or 'indicatorRef'")
        if self.alertPolicies:
            raise ValueError(
                "alert policies are not read, as burn rates alert over the project's own windows "
                "(tars-ga rules); take 'alertPolicies' out"
            )
        for each in self.objectives:
            sliced = (each.timeSliceTarget, each.timeSliceWindow)
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
    """One OpenSLO document."""


_KINDS: dict[str, type[_Object]] = {
    "SLO": Slo, "SLI": Sli, "Service": Service, "DataSource": DataSource,
}  # fmt: skip


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


def read(
    files: Path | Sequence[Path],
    assignments: Sequence[Assignment] = (),
    kpis: Mapping[str, Kpi] | None = None,
) -> dict[str, Objective]:
    """Read the objectives of a file, or of several laid over each other, by name.

    Their sources may be parts of `kpis`.

    An SLO with several targets gives several objectives, named `NAME-PERCENT`. Of several files,
    documents of the same kind and name are laid over each other.

    Raises
    ------
    ParametersError
        In a sentence a problem that names the file, the document and the remedy.
    """
    several = Files([files] if isinstance(files, Path) else files)
    return objectives_of(layers_of(several, assignments), str(several), kpis or {})


def objectives_of(
    layers: Iterable[Layered], named: str, kpis: Mapping[str, Kpi]
) -> dict[str, Objective]:
    """Check documents and return their objectives, by name; `named` is what an error calls all.

    Raises
    ------
    ParametersError
        In a sentence a problem that names the file, the document and the remedy.
    """
    documents: dict[tuple[str, str], _Object] = {}
    places: dict[tuple[str, str], str] = {}
    problems = Problems()
    for layered in layers:
        with problems.collected():
            document = _document(layered)
            key = document.kind, document.metadata.name  # type: ignore[attr-defined]
            documents[key], places[key] = document, layered.name_of(())
    problems.refuse()
    found: dict[str, Objective] = {}
    for (kind, name), document in documents.items():
        if kind == "SLO":
            assert isinstance(document, Slo)
            for each in _objectives(document, documents, places[kind, name], kpis):
                if each.name in found:
                    raise ParametersError(
                        f"{places[kind, name]}: the objective '{each.name}' is there twice; give "
                        "its target or its SLO another name or value"
                    )
                found[each.name] = each
    if not found:
        raise ParametersError(f"{named}: it holds no SLO; add a document of kind SLO")
    return found


def layers_of(files: Sequence[Path], assignments: Sequence[Assignment] = ()) -> list[Layered]:
    """Return the documents of several files, those of the same kind and name joined.

    Raises
    ------
    ParametersError
        If a file cannot be read, a document is there twice in it, or an assignment names none.
    """
    found: dict[tuple[str, str], Layered] = {}
    unnamed: list[Layered] = []
    problems = Problems()
    for file in files:
        with problems.collected():
            seen = set()
            for place, raw in _raw(file):
                key = _named(raw)
                if not all(key):
                    unnamed.append(Layered.of(raw, place))
                    continue
                if key in seen:
                    raise ParametersError(
                        f"{place}: the {key[0]} '{key[1]}' is there twice; rename one"
                    )
                seen.add(key)
                if key in found:
                    found[key].lay(raw, place)
                    found[key].whole = place
                else:
                    found[key] = Layered.of(raw, place)
    for option, keys, value in assignments:
        with problems.collected():
            names = {name: one for (kind, name), one in found.items() if kind == "SLO"}
            if keys[0] not in names:
                raise ParametersError(
                    f"{option}: there is no SLO named {keys[0]!r}; {nearest(keys[0], names)}"
                )
            if not keys[1:]:
                raise ParametersError(
                    f"{option}: names a whole SLO; name a key in it, like "
                    f"slos.{keys[0]}.spec.objectives.0.target"
                )
            names[keys[0]].assign(Assignment(option, keys[1:], value))
    problems.refuse()
    return [*found.values(), *unnamed]


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    """Yield each document's text, on its own lines of the file, and what an error calls it.

    So every document is read by `parse_yaml`, as strictly as any other file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ParametersError(f"{path}: there is no such file; check the name") from None
    except OSError as error:
        raise ParametersError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ParametersError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    starts = []
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.DocumentStartEvent) and event.start_mark:
                starts.append(event.start_mark.line)
    except (yaml.YAMLError, ValueError, RecursionError):
        pass  # `parse_yaml` says what is wrong with the last of them
    lines = text.splitlines(keepends=True)
    starts = starts or [0]
    starts[0] = 0
    for number, (first, last) in enumerate(zip(starts, [*starts[1:], len(lines)], strict=True), 1):
        yield f"{path}, document {number}", "\n" * first + "".join(lines[first:last])


def _raw(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield every document of a file as it was read, and what an error calls it."""
    for place, text in _texts(path):
        raw = parse_yaml(text, place)
        for one in raw if isinstance(raw, list) else [raw]:
            if one is not None:
                kind, name = _named(one)
                yield (f"{place} ({kind} {name})" if name else place), one


def _document(layered: Layered) -> _Object:
    """Check one document."""
    called, (kind, _) = layered.name_of(()), _named(layered.value)
    if not kind:
        raise ParametersError(
            f"{called}: it is no OpenSLO document; begin it with 'apiVersion: openslo/v1' "
            "and a 'kind'"
        )
    if kind not in _KINDS:
        raise ParametersError(
            f"{called}: the kind {kind!r} is not supported; use "
            f"{', '.join(_KINDS)}, and take others out"
        )
    document = check(_KINDS[kind], layered.value, layered.name_of)
    _check_annotations(document.metadata, kind, called)
    return document


def _named(raw: Any) -> tuple[str, str]:
    """Kind and name of a raw document, as far as it has them."""
    if not isinstance(raw, Mapping):
        return "", ""
    metadata = raw.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    return str(raw.get("kind", "")), name if isinstance(name, str) else ""


def _check_annotations(metadata: Metadata, kind: str, place: str) -> None:
    for key in metadata.annotations:
        if key.startswith(_OURS) and key.removeprefix(_OURS) not in _ANNOTATIONS[kind]:
            known = ", ".join(_OURS + each for each in _ANNOTATIONS[kind]) or "none"
            raise ParametersError(
                f"{place}: metadata.annotations: unknown key '{key}'; of ours, a document of kind "
                f"{kind} has: {known}"
            )


def _objectives(
    slo: Slo,
    documents: Mapping[tuple[str, str], _Object],
    place: str,
    kpis: Mapping[str, Kpi],
) -> Iterator[Objective]:
    """Yield the objectives of one SLO document."""
    spec = slo.spec
    services = [name for kind, name in documents if kind == "Service"]
    if services and spec.service not in services:
        raise ParametersError(
            f"{place}: spec.service: '{spec.service}' is not one of the file's services "
            f"({', '.join(services)}); correct it, or add a document of kind Service"
        )
    metadata, sli = _indicator(slo, documents, place)
    indicator = _queries(metadata, sli, place, kpis) | {
        "about": spec.description or sli.description,
        "service": spec.service,
        "window": spec.timeWindow[0] if spec.timeWindow else None,
        "runbook": slo.metadata.annotations.get(_OURS + "runbook", ""),
    }
    for source in _sources(sli):
        reference = source.metricSourceRef
        if reference and source.type is None and ("DataSource", reference) not in documents:
            raise ParametersError(
                f"{place}: the data source '{reference}' is not in the file; add it, or write "
                "'type: Prometheus'"
            )
    several = len(spec.objectives) > 1
    if several and sli.thresholdMetric:
        raise ParametersError(
            f"{place}: spec.objectives: a thresholdMetric has only one objective; write an SLO "
            "for each"
        )
    for each in spec.objectives:
        compared = (each.op, each.value)
        if sli.thresholdMetric and None in compared:
            raise ParametersError(
                f"{place}: spec.objectives: a thresholdMetric needs 'op' and 'value'; add them"
            )
        if sli.ratioMetric and compared != (None, None):
            raise ParametersError(
                f"{place}: spec.objectives: 'op' and 'value' go with a thresholdMetric; take them "
                "out"
            )
        percent = f"{Decimal(repr(each.share)) * 100:f}".rstrip("0").rstrip(".")
        title = slo.metadata.displayName or slo.metadata.name
        yield Objective(
            name=f"{slo.metadata.name}-{percent}" if several else slo.metadata.name,
            title=(each.displayName or f"{title} ({percent} %)") if several else title,
            target=each.share,
            op=each.op,
            threshold=None if each.value is None else float(each.value),
            slice_seconds=each.timeSliceWindow,
            slice_target=None if each.timeSliceTarget is None else float(each.timeSliceTarget),
            **indicator,
        )


def _indicator(
    slo: Slo, documents: Mapping[tuple[str, str], _Object], place: str
) -> tuple[Metadata | None, SliSpec]:
    """Return the indicator of an SLO, written in it or referred to."""
    if slo.spec.indicator is not None:
        metadata = slo.spec.indicator.metadata
        if metadata is not None:
            _check_annotations(metadata, "SLI", f"{place}: spec.indicator")
        return metadata, slo.spec.indicator.spec
    sli = documents.get(("SLI", str(slo.spec.indicatorRef)))
    if not isinstance(sli, Sli):
        raise ParametersError(
            f"{place}: spec.indicatorRef: there is no SLI '{slo.spec.indicatorRef}' in the file; "
            "add it or correct the name"
        )
    return sli.metadata, sli.spec


def _sources(sli: SliSpec) -> list[MetricSource]:
    ratio = sli.ratioMetric
    metrics = (ratio.good, ratio.bad, ratio.total) if ratio else (sli.thresholdMetric,)
    return [metric.metricSource for metric in metrics if metric]


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


def _of_kpi(sli: SliSpec, place: str, kpis: Mapping[str, Kpi]) -> dict[str, Any]:
    """Return the query templates, dimensions and labels of a ratio of the catalogue."""
    names = {source.spec.kpi for source in _sources(sli)}
    name = next(iter(names - {None}))
    kpi, ratio = kpis.get(str(name)), sli.ratioMetric
    if len(names) > 1 or ratio is None or kpi is None or kpi.kind != "ratio":
        known = ", ".join(key for key, one in kpis.items() if one.kind == "ratio" and one.by)
        raise ParametersError(
            f"{place}: 'good' or 'bad', and 'total', are to be parts of one ratio of the KPI "
            f"catalogue, which has: {known or 'none'}"
        )
    wanted = {"good": "higher", "bad": "lower"}
    counts: Any = "good" if ratio.good else "bad"
    parts = [source.spec.part for source in _sources(sli)]
    if parts != ["numerator", "denominator"] or kpi.better != wanted[counts]:
        raise ParametersError(
            f"{place}: the numerator of '{name}' counts "
            f"{'good' if kpi.better == 'higher' else 'bad'} events, and its denominator is 'total'"
        )
    return {
        "counts": counts, "part": kpi.numerator, "total": kpi.denominator,
        "population": kpi.population or "", "by": kpi.by, "labels": kpi.labels,
    }  # fmt: skip


def _queries(
    metadata: Metadata | None, sli: SliSpec, place: str, kpis: Mapping[str, Kpi]
) -> dict[str, Any]:
    """Return an indicator's query templates, dimensions and labels."""
    if any(source.spec.kpi for source in _sources(sli)):
        return _of_kpi(sli, place, kpis)
    annotations = metadata.annotations if metadata else {}
    texts = [str(source.spec.query) for source in _sources(sli)]
    marked = any(map(_has_marks, texts))
    default = "region, service" if marked or sli.ratioMetric else "none"
    words = annotations.get(_OURS + "by", default).replace(",", " ").split()
    by = [] if words == ["none"] else words
    if by not in ([], ["region"], ["region", "service"]):
        raise ParametersError(
            f"{place}: the annotation {_OURS}by is '{' '.join(words)}'; write none, region, or "
            "region, service"
        )
    labels = {
        each: annotations[f"{_OURS}{each}-label"]
        for each in ("region", "service")
        if f"{_OURS}{each}-label" in annotations
    }
    found: dict[str, Any] = {"by": by, "labels": labels}
    if sli.thresholdMetric:
        (text,) = texts
        if by and not marked:
            raise ParametersError(_without_by(text, place))
        value = _marked(text, by, place, steps=False) if marked else text.replace("$", "$$")
        return found | {"counts": "samples", "value": value}
    ratio = sli.ratioMetric
    assert ratio is not None
    part, total = texts
    counts = "good" if ratio.good else "bad"
    if marked:
        parts = [_marked(text, by, place, steps=True) for text in texts]
        return found | {"counts": counts, "part": parts[0], "total": parts[1]}
    if not ratio.counter:
        raise ParametersError(
            f"{place}: a ratioMetric of plain selectors is read as increases of counters; set "
            "'counter: true', or write queries with $match, $by and $step"
        )
    name, counted = _increase(part, by, place)
    whole, every = _increase(total, by, place)
    if counts == "bad" and name == whole:
        # A client library makes the series of an answer's code at the first such answer. Before
        # that, "no bad event" is known only where the same metric was read.
        counted = f"{counted} or 0 * {every}"
    return found | {"counts": counts, "part": counted, "total": every}


def _without_by(text: str, place: str) -> str:
    return (
        f"{place}: the query {text!r} has no $by, so it could not be told by region or service; "
        f"add it, or set the annotation {_OURS}by: none"
    )


def _marked(text: str, by: list[str], place: str, *, steps: bool) -> str:
    """Check a query with marks."""
    if by and not re.search(r"\$\{?by\b", text):
        raise ParametersError(_without_by(text, place))
    if steps and not re.search(r"\$\{?step\b", text):
        raise ParametersError(
            f"{place}: the query {text!r} has no $step, so it does not say what was counted in a "
            "step; write it like sum by ($by) (increase(name{$match}[$step]))"
        )
    return text


def _increase(text: str, by: list[str], place: str) -> tuple[str, str]:
    """Name of a plain counter selector's metric, and the template of its increase in a step."""
    match = _SELECTOR.fullmatch(text.strip())
    if not match:
        raise ParametersError(
            f"{place}: the query {text!r} is no plain counter selector; write name{{…}} or "
            "sum(name{…}), or a query with $match, $by and $step"
        )
    matchers = (match["matchers"] or "").strip().rstrip(",").strip().replace("$", "$$")
    inside = ",".join(filter(None, [matchers, "$match" if by else ""]))
    head = "sum by ($by)" if by else "sum"
    selector = f"{match['name']}{{{inside}}}" if inside else match["name"]
    return match["name"], f"{head} (increase({selector}[$step]))"
