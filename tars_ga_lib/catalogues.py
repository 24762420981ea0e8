"""The catalogues that a run names: KPIs, drift rules, criteria and waivers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    StrictBool,
    StrictFloat,
    StrictStr,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from tars_ga_lib.endpoints import FIGURES
from tars_ga_lib.grammar import Duration, Limit, LimitText, Model, Name, Number, Time
from tars_ga_lib.targets import MEASURES

Kind = Literal["ratio", "histogram", "counter", "gauge"]


class Kpi(Model):
    """One KPI: how it is asked for, and how its samples are joined into figures.

    `kind` decides which queries are needed: `ratio` has a numerator and a denominator,
    `histogram` has buckets and a quantile, `counter` has an increase, `gauge` has a value. A ratio
    is a share, from 0 to 1, unless it is `unbounded`; with `population` it speaks of the events in
    its denominator, and the rest of the population counts as not seen. One that is `optional` is
    told in the report where an installation has it; regions are not compared by it, and snapshots
    leave it out.
    """

    title: Name
    about: Name
    kind: Kind
    unit: Name
    better: Literal["higher", "lower", "either"]
    by: list[Literal["region", "service"]]
    labels: dict[Literal["region", "service"], Name] = Field(default={})
    numerator: StrictStr | None = None
    denominator: StrictStr | None = None
    population: StrictStr | None = None
    unbounded: StrictBool = False
    buckets: StrictStr | None = None
    quantile: Annotated[StrictFloat, Field(gt=0, lt=1)] | None = None
    increase: StrictStr | None = None
    per_second: StrictBool = False
    value: StrictStr | None = None
    across: Literal["sum", "mean", "max", "min"] = "sum"
    over: Literal["mean", "max", "min", "last"] = "mean"
    optional: StrictBool = False

    @model_validator(mode="after")
    def _queries_of_kind(self) -> Self:
        needed = {
            "ratio": {"numerator", "denominator"},
            "histogram": {"buckets", "quantile"},
            "counter": {"increase"},
            "gauge": {"value"},
        }
        for key in ("numerator", "denominator", "buckets", "quantile", "increase", "value"):
            given, wanted = getattr(self, key) is not None, key in needed[self.kind]
            if wanted and not given:
                raise ValueError(f"a {self.kind} needs the key '{key}'")
            if given and not wanted:
                raise ValueError(f"a {self.kind} has no key '{key}'; take it out")
        if self.kind != "ratio" and (self.population or self.unbounded):
            raise ValueError("'population' and 'unbounded' go with a ratio; take them out")
        if self.by not in ([], ["region"], ["region", "service"]):
            raise ValueError("'by' is [], [region] or [region, service]")
        return self

    def queries(self) -> dict[str, str]:
        """Return the query templates by the part that each plays."""
        parts = ("numerator", "denominator", "population", "buckets", "increase", "value")
        return {part: text for part in parts if (text := getattr(self, part)) is not None}


class Scrapes(Model):
    """What is scraped of the services: `selector` selects one series a target, like `up`.

    It tells how many scrapes were to be expected of each region and service, and how many of
    them were seen. Where its series do not name the service, `by: [region]` lets those of a region
    speak for all of its services.
    """

    selector: StrictStr = "up{$match}"
    by: list[Literal["region", "service"]] = Field(default=["region", "service"])
    labels: dict[Literal["region", "service"], Name] = Field(default={})

    @field_validator("selector")
    @classmethod
    def _plain(cls, text: str) -> str:
        if "$match" not in text or "(" in text or "[" in text:
            raise ValueError(
                f"{text!r} is no plain selector with $match; write it like up{{$match}}"
            )
        return text

    @field_validator("by")
    @classmethod
    def _by_region(cls, by: list[str]) -> list[str]:
        if by not in (["region"], ["region", "service"]):
            raise ValueError("'by' is [region] or [region, service]")
        return by

    def dimensions(self, labels: Mapping[str, str]) -> dict[str, str]:
        """Label that names each dimension; `labels` are the run's own."""
        names = dict(labels) | self.labels
        return {dimension: names[dimension] for dimension in self.by}

    @property
    def targets(self) -> str:
        """Query template of the targets there are at the end of a step."""
        return f"count by ($by) ({self.selector})"

    @property
    def seen(self) -> str:
        """Query template of the scrapes that a step holds."""
        return f"sum by ($by) (count_over_time({self.selector}[$step]))"


class Alerts(Model):
    """How alerts are read: `firing` finds them, `evaluations` proves that rules were evaluated."""

    firing: StrictStr
    evaluations: StrictStr


_METRIC = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*[{\[]")
_STRING = re.compile(r'"(?:\\.|[^"\\])*"')


def metric_names(query: str) -> list[str]:
    """Names of the metrics that a PromQL query selects, in their order."""
    return list(dict.fromkeys(_METRIC.findall(_STRING.sub('""', query))))


class KpiCatalogue(Model):
    """The file `kpis.yaml`; `drop` takes KPIs out, with all that rests on them."""

    kpis: Annotated[dict[Name, Kpi], Field(min_length=1)]
    scrapes: Scrapes = Scrapes()
    alerts: Alerts | None = None
    drop: list[Name] = Field(default=[])


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class DriftRule(Model):
    """One drift rule and its limits.

    `relative` measures the change as a share of the baseline, `points` as a difference in the
    KPI's own unit, `exact` finds any difference at all and has no limits. `kpi` is one name or
    several; `action` is what to do about a finding.
    """

    title: Name
    kpi: Annotated[
        list[Name],
        Field(min_length=1),
        BeforeValidator(_listed),
        WithJsonSchema(
            {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
        ),
    ]
    action: Name
    category: Literal["resource", "performance", "configuration", "behaviour"]
    adverse: Literal["up", "down", "either"]
    measure: Literal["relative", "points", "exact"]
    warning: Number | None = None
    critical: Number | None = None

    @model_validator(mode="after")
    def _limits(self) -> Self:
        if self.measure == "exact":
            if self.warning is not None or self.critical is not None:
                raise ValueError("an exact rule has no limits; take 'warning' and 'critical' out")
        elif self.warning is None or self.critical is None:
            raise ValueError("give both 'warning' and 'critical'")
        elif not 0 < self.warning <= self.critical:
            raise ValueError("the limits must be above 0, and 'warning' not above 'critical'")
        return self


class DriftRules(Model):
    """The file `drift_rules.yaml`; `drop` takes rules out."""

    rules: Annotated[dict[Name, DriftRule], Field(min_length=1)]
    drop: list[Name] = Field(default=[])


class Criterion(Model):
    """One criterion of certification; exactly one of its six sources is given.

    `validation` names a measure of the validation's checks, of which the worst counts; `websocket`
    a figure of the WebSocket sessions, of which the worst endpoint counts; `alerts` counts those of
    one severity that fired. The target of a KPI may be that of an `objective`. `interpolate` lets a
    percentile pass or fail by its place inside of a bucket that holds the target. Evidence of a
    moment must not be older than `max_age` at the window's end.
    """

    EITHER = (("kpi", "drift", "evidence", "validation", "websocket", "alerts"),)

    title: Name
    kpi: Name | None = None
    objective: Name | None = None
    scope: Literal["overall", "worst_region", "worst_service", "worst_series"] = "overall"
    drift: Literal["worst_adverse"] | None = None
    evidence: (
        Literal[
            "incidents.critical",
            "incidents.count",
            "rollback.successful",
            "security_scan.critical",
            "security_scan.high",
            "customer.escalated",
            "sign_off.refused",
            "canary.promoted",
            "hotfix.failed",
            "load_test.failed",
        ]
        | None
    ) = None
    validation: Literal[MEASURES] | None = None  # type: ignore[valid-type]
    websocket: Literal[FIGURES] | None = None  # type: ignore[valid-type]
    alerts: Literal["critical", "warning", "info", "all"] | None = None
    target: LimitText | None = None
    warning: LimitText | None = None
    unit: Name | None = None
    weight: Annotated[Number, Field(gt=0)] = 1
    mandatory: StrictBool = True
    interpolate: StrictBool = False
    max_age: Duration | None = None
    min_coverage: Annotated[Number, Field(ge=0.5, le=1)] = 0.95
    min_series_coverage: Annotated[Number, Field(ge=0.5, le=1)] = 0.8

    @model_validator(mode="after")
    def _has_a_target(self) -> Self:
        if self.target is None and self.objective is None:
            raise ValueError("give a 'target', or the 'objective' that has it")
        if self.objective is not None and self.kpi is None:
            raise ValueError("an 'objective' gives the target of a 'kpi'; name the KPI as well")
        if self.target is not None:
            self._limits(self.target)
        return self

    def _limits(self, target: Limit) -> None:
        """Refuse limits that contradict each other, or that nothing could break."""
        counted = self.alerts or self.evidence
        if counted and target.operator in (">=", ">") and target.value <= 0:
            raise ValueError(f"the target '{target}' cannot fail, as a count is never below 0")
        if self.warning and target.operator == "==":
            raise ValueError("a target with '==' has no warning limit; take 'warning' out")
        if self.warning and self.warning.operator[0] != target.operator[0]:
            raise ValueError("'warning' and 'target' must point the same way")
        if self.warning and not _stricter(self.warning, target):
            raise ValueError(
                f"the warning limit '{self.warning}' is looser than the target '{target}', "
                "so it would never warn; make it the stricter of the two"
            )

    @property
    def limit(self) -> Limit:
        """The target, once that of an objective is filled in."""
        assert self.target is not None
        return self.target

    def aimed(self, target: Limit) -> Self:
        """Return the criterion with the target of its objective, or its own if that is stricter.

        Raises
        ------
        ValueError
            If its own target is looser, or its warning limit does not fit the target.
        """
        if self.target is None:
            self._limits(target)
            return self.model_copy(update={"target": target})
        if self.target != target and not _stricter(self.target, target):
            raise ValueError(
                f"its target '{self.target}' is looser than that of its objective, '{target}'; "
                "make it stricter, or take one of the two out"
            )
        return self


def _stricter(limit: Limit, target: Limit) -> bool:
    """Whether what holds a limit holds a target as well."""
    if limit.operator[0] != target.operator[0]:
        return False
    if limit.value == target.value:
        return limit.operator == target.operator or "=" not in limit.operator
    return limit.value > target.value if target.operator[0] == ">" else limit.value < target.value


class Criteria(Model):
    """The file `criteria.yaml`; `drop` takes criteria out."""

    criteria: Annotated[dict[Name, Criterion], Field(min_length=1)]
    drop: list[Name] = Field(default=[])

    @model_validator(mode="after")
    def _something_decides(self) -> Self:
        if not any(c.mandatory for c in self.criteria.values()):
            raise ValueError(
                "no criterion is mandatory, so nothing could refuse the release; make one mandatory"
            )
        return self


class Waiver(Model):
    """A person's written acceptance of one failed criterion of one release, until a date."""

    release: Name
    criterion: Name
    who: Name
    why: Name
    until: Time


class Waivers(Model):
    """The file `waivers.yaml`."""

    waivers: list[Waiver]
