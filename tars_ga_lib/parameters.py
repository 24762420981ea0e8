"""What a run is asked to do: the YAML files, read strictly and refused in one clear sentence.

A run is described by one file (`parameters/ga_day.yaml`) that names its catalogues and evidence
files. `load` reads them all, checks them against each other and returns a `Job`; whatever is wrong
raises `ParametersError`, whose text names the file, the key and the remedy.
"""

from __future__ import annotations

import difflib
import itertools
import math
import re
import reprlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypeVar
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.json_schema import models_json_schema

Kind = Literal["ratio", "histogram", "counter", "gauge"]
Verdict = Literal["pass", "warn", "fail", "no_data"]
Number = Annotated[StrictFloat, Field(allow_inf_nan=False)] | StrictInt
M = TypeVar("M", bound="Model")

_UNITS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:\d+w)?(?:\d+d)?(?:\d+h)?(?:\d+m)?(?:\d+s)?", re.ASCII)
_LONGEST = 10 * 366 * 86400


class ParametersError(ValueError):
    """Bad input: the text is one sentence for the user, and the exit code is 2."""


# --- the grammar of single values -----------------------------------------------------------


def parse_duration(text: object) -> int:
    """Seconds of a duration like `24h`, `5m`, `30s` or `1h30m` (units w, d, h, m, s).

    Raises
    ------
    ValueError
        If `text` is not a positive duration of that grammar.
    """
    if not isinstance(text, str) or not text or not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration; write it like 24h, 5m or 30s")
    parts = re.findall(r"(\d+)(\w)", text)
    # More digits than any duration has are not turned into a number at all.
    seconds = sum(int(n[:12]) * _UNITS[unit] for n, unit in parts)
    if seconds > _LONGEST or any(len(n) > 12 for n, _ in parts):
        raise ValueError(f"{text[:20]!r} is longer than ten years; write it like 24h, 5m or 30s")
    if not seconds:
        raise ValueError(f"{text!r} is an empty duration; write it like 24h, 5m or 30s")
    return seconds


def format_duration(seconds: int) -> str:
    """Write seconds in the grammar of `parse_duration`, in the largest units: 5400 is `1h30m`."""
    parts = []
    for unit, size in _UNITS.items():
        # A day reads better as 24h, a month of days better as 30d: days only from two on.
        if unit == "w" or (unit == "d" and seconds < 2 * size):
            continue
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_time(value: object) -> int:
    """Epoch seconds of an ISO time with a time zone.

    Raises
    ------
    ValueError
        If it is none, has no time zone, or parts of a second.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(
                f"{value!r} is not a time; write it like 2026-11-20T00:00:00Z"
            ) from None
    if not isinstance(value, datetime):
        raise ValueError(f"{value} is not a time; write it like 2026-11-20T00:00:00Z")
    if value.tzinfo is None:
        raise ValueError(f"{value.isoformat()} has no time zone; end it with Z for UTC")
    if value.microsecond:
        raise ValueError(f"{value.isoformat()} has parts of a second; give whole seconds")
    if not 1970 <= value.year <= 9000:
        raise ValueError(f"{value.isoformat()} is not a time of monitoring; correct the year")
    return int(value.timestamp())


def format_time(seconds: float) -> str:
    """ISO time in UTC of epoch seconds: `2026-11-20T00:00:00Z`."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _unique(names: Sequence[str]) -> Sequence[str]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is there twice; name each once")
    return names


Duration = Annotated[int, BeforeValidator(parse_duration), PlainSerializer(format_duration)]
Time = Annotated[int, BeforeValidator(parse_time), PlainSerializer(format_time)]
Name = Annotated[StrictStr, Field(min_length=1)]
Names = Annotated[list[Name], Field(min_length=1), AfterValidator(_unique)]


class Limit(NamedTuple):
    """One comparison of a criterion, like `>= 0.999`."""

    operator: str
    value: float

    def holds(self, value: float) -> bool:
        """Whether `value` satisfies the limit; a NaN never does."""
        return {
            ">=": value >= self.value,
            ">": value > self.value,
            "<=": value <= self.value,
            "<": value < self.value,
            "==": value == self.value,
        }[self.operator]

    def __str__(self) -> str:
        return f"{self.operator} {self.value:.15g}"


def _parse_limit(text: object) -> Limit:
    match = re.fullmatch(r"\s*(>=|<=|==|<|>)\s*(\S+)\s*", text) if isinstance(text, str) else None
    if not match:
        raise ValueError(f"{text!r} is not a limit; write it like '>= 0.999', '< 0.5' or '== 0'")
    number = {"true": "1", "false": "0"}.get(match[2], match[2])
    try:
        limit = Limit(match[1], float(number))
    except ValueError:
        limit = Limit(match[1], math.nan)
    if not math.isfinite(limit.value):
        raise ValueError(f"{match[2]!r} in {text!r} is not a number")
    return limit


LimitText = Annotated[Limit, BeforeValidator(_parse_limit), PlainSerializer(str)]


class Model(BaseModel):
    """Base of every file's model: unknown keys are refused, values never change."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)


# --- the run ---------------------------------------------------------------------------------


class Release(Model):
    """What is certified."""

    name: Name
    version: Name
    digest: Annotated[StrictStr, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None


class Interval(Model):
    """Times [start, end), given by a duration or by an end."""

    start: Time
    duration: Duration | None = None
    end: Time | None = None

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.duration is None) == (self.end is None):
            raise ValueError("give either 'duration' or 'end', and not both")
        if self.end is not None and self.end <= self.start:
            raise ValueError(
                f"the end {format_time(self.end)} is not after the start {format_time(self.start)}"
            )
        return self

    @property
    def stop(self) -> int:
        """End of the interval in epoch seconds."""
        return self.end if self.end is not None else self.start + (self.duration or 0)

    @property
    def seconds(self) -> int:
        """Length in seconds."""
        return self.stop - self.start


class Window(Interval):
    """The window that is certified and its sampling interval."""

    step: Duration

    @model_validator(mode="after")
    def _step_divides(self) -> Self:
        if self.seconds % self.step:
            raise ValueError(
                f"the step {format_duration(self.step)} does not divide the window of "
                f"{format_duration(self.seconds)}; choose a step that does, like 5m"
            )
        return self


class Repeat(NamedTuple):
    """How a baseline is repeated: `7d x 2` is two intervals, the second 7 days earlier."""

    every: int
    times: int

    def __str__(self) -> str:
        return f"{format_duration(self.every)} x {self.times}"


def _parse_repeat(text: object) -> Repeat:
    match = re.fullmatch(r"\s*(\w+)\s*[x×]\s*(\d+)\s*", text) if isinstance(text, str) else None
    if not match or not 1 <= int(match[2][:4]) <= 100:
        raise ValueError(f"{text!r} is not a repetition of up to 100; write it like '7d x 2'")
    return Repeat(parse_duration(match[1]), int(match[2]))


class Baseline(Interval):
    """A reference interval, or several of them at equal distances into the past."""

    repeat: Annotated[Repeat, BeforeValidator(_parse_repeat), PlainSerializer(str)] | None = None

    def intervals(self) -> list[Interval]:
        """Return the intervals, the latest first."""
        every, times = self.repeat or Repeat(0, 1)
        return [
            Interval.model_construct(start=self.start - k * every, duration=self.seconds, end=None)
            for k in range(times)
        ]


class BaselineRun(Model):
    """The window of an earlier run as the baseline."""

    run: Path


class Source(Model):
    """Where samples come from: a Prometheus HTTP API or an earlier recording."""

    prometheus: StrictStr | None = None
    recording: Path | None = None
    timeout: Duration = 120
    connections: Annotated[StrictInt, Field(ge=1, le=32)] = 2
    org_id: StrictStr | None = None

    @field_validator("prometheus")
    @classmethod
    def _plain_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        try:
            parts = urlsplit(url)
            good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            good = False
        if set(url) & set("@?#"):
            # The URL itself may hold the secret, so it is not repeated.
            raise ValueError(
                "the URL holds credentials; take them out and set TARS_GA_BEARER_TOKEN or "
                "TARS_GA_USERNAME and TARS_GA_PASSWORD in the environment"
            )
        if not good:
            raise ValueError(f"{url!r} is not a URL; write it like http://127.0.0.1:9090")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.prometheus is None) == (self.recording is None):
            raise ValueError("give either 'prometheus' (a URL) or 'recording' (a path)")
        return self


class Labels(Model):
    """How this Prometheus names the two dimensions."""

    region: Name = "region"
    service: Name = "service"


class Cost(Model):
    """Rates of the cost estimate, which leaves out network and storage."""

    cpu: Name = "cluster_cpu_cores"
    memory: Name = "cluster_memory"
    usd_per_core_hour: Number = 0.10
    usd_per_gib_hour: Number = 0.02


EvidenceKind = Literal["incidents", "rollback", "sign_off", "security_scan", "customer"]


class Parameters(Model):
    """One run, as its file says it."""

    release: Release
    window: Window
    baseline: BaselineRun | Baseline | list[Baseline]
    source: Source
    regions: Names
    primary_region: Name
    services: Names
    labels: Labels = Labels()
    kpis: Path
    drift_rules: Path
    criteria: Path
    waivers: Path | None = None
    evidence: dict[EvidenceKind, Path] = {}
    cost: Cost = Cost()
    previous: Path | None = None
    simulated: StrictBool = False

    @field_validator("baseline", mode="before")
    @classmethod
    def _which_baseline(cls, value: Any) -> Any:
        # Choosing the model here keeps pydantic from reporting the errors of all three.
        if isinstance(value, Mapping):
            return (BaselineRun if "run" in value else Baseline).model_validate(value)
        if isinstance(value, list) and value:
            return [Baseline.model_validate(item) for item in value]
        raise ValueError("give 'start' and 'duration', or 'run', or a list of intervals")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.primary_region not in self.regions:
            raise ValueError(
                f"primary_region {self.primary_region!r} is not one of the regions "
                f"({', '.join(self.regions)})"
            )
        for interval in self.baseline_intervals():
            if interval.seconds % self.window.step:
                raise ValueError(
                    f"the step {format_duration(self.window.step)} does not divide the baseline of "
                    f"{format_duration(interval.seconds)}; choose a step that does, like 5m"
                )
            if interval.start < self.window.stop and self.window.start < interval.stop:
                raise ValueError(
                    f"the baseline from {format_time(interval.start)} overlaps the window, so the "
                    "release would be compared with itself; choose an earlier baseline"
                )
        intervals = sorted(self.baseline_intervals(), key=lambda each: each.start)
        for one, other in itertools.pairwise(intervals):
            if other.start < one.stop:
                raise ValueError(
                    f"the baselines from {format_time(one.start)} and {format_time(other.start)} "
                    "overlap, so the same samples would count twice; choose others"
                )
        return self

    def baseline_intervals(self) -> list[Interval]:
        """Return the baseline's intervals; none where it is an earlier run."""
        if isinstance(self.baseline, BaselineRun):
            return []
        several = self.baseline if isinstance(self.baseline, list) else [self.baseline]
        return [interval for baseline in several for interval in baseline.intervals()]


# --- the catalogues --------------------------------------------------------------------------


class Kpi(Model):
    """One KPI: how it is asked for, and how its samples are joined into figures.

    `kind` decides which queries are needed: `ratio` has a numerator and a denominator,
    `histogram` has buckets and a quantile, `counter` has an increase, `gauge` has a value.
    """

    title: Name
    about: Name
    kind: Kind
    unit: Name
    better: Literal["higher", "lower", "either"]
    by: list[Literal["region", "service"]]
    labels: dict[Literal["region", "service"], Name] = {}
    numerator: StrictStr | None = None
    denominator: StrictStr | None = None
    buckets: StrictStr | None = None
    quantile: Annotated[StrictFloat, Field(gt=0, lt=1)] | None = None
    increase: StrictStr | None = None
    per_second: StrictBool = False
    value: StrictStr | None = None
    across: Literal["sum", "mean", "max", "min"] = "sum"
    over: Literal["mean", "max", "min", "last"] = "mean"

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
        if self.by not in ([], ["region"], ["region", "service"]):
            raise ValueError("'by' is [], [region] or [region, service]")
        return self

    def queries(self) -> dict[str, str]:
        """Return the query templates by the part that each plays."""
        parts = ("numerator", "denominator", "buckets", "increase", "value")
        return {part: text for part in parts if (text := getattr(self, part)) is not None}


class Alerts(Model):
    """How alerts are read: `firing` finds them, `evaluations` proves that rules were evaluated."""

    firing: StrictStr
    evaluations: StrictStr


class KpiCatalogue(Model):
    """The file `kpis.yaml`."""

    kpis: Annotated[dict[Name, Kpi], Field(min_length=1)]
    alerts: Alerts | None = None


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class DriftRule(Model):
    """One drift rule and its limits.

    `relative` measures the change as a share of the baseline, `points` as a difference in the
    KPI's own unit, `exact` finds any difference at all and has no limits. `kpi` is one name or
    several; `action` is what to do about a finding.
    """

    title: Name
    kpi: Annotated[list[Name], Field(min_length=1), BeforeValidator(_listed)]
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
    """The file `drift_rules.yaml`."""

    rules: Annotated[dict[Name, DriftRule], Field(min_length=1)]


class Criterion(Model):
    """One criterion of certification; exactly one of `kpi`, `drift`, `evidence` is its source."""

    title: Name
    kpi: Name | None = None
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
        ]
        | None
    ) = None
    target: LimitText
    warning: LimitText | None = None
    unit: Name | None = None
    weight: Annotated[Number, Field(gt=0)] = 1
    mandatory: StrictBool = True
    min_coverage: Annotated[Number, Field(gt=0, le=1)] = 0.95
    min_series_coverage: Annotated[Number, Field(gt=0, le=1)] = 0.8

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(x is not None for x in (self.kpi, self.drift, self.evidence)) != 1:
            raise ValueError("give exactly one of 'kpi', 'drift' and 'evidence'")
        if self.warning and self.warning.operator[0] != self.target.operator[0]:
            raise ValueError("'warning' and 'target' must point the same way")
        if self.warning and not self._warning_is_stricter(self.warning):
            raise ValueError(
                f"the warning limit '{self.warning}' is looser than the target '{self.target}', "
                "so it would never warn; make it the stricter of the two"
            )
        return self

    def _warning_is_stricter(self, warning: Limit) -> bool:
        if self.target.operator[0] == ">":
            return warning.value >= self.target.value
        return warning.value <= self.target.value


class Criteria(Model):
    """The file `criteria.yaml`."""

    criteria: Annotated[dict[Name, Criterion], Field(min_length=1)]

    @model_validator(mode="after")
    def _something_decides(self) -> Self:
        if not any(c.mandatory for c in self.criteria.values()):
            raise ValueError(
                "no criterion is mandatory, so nothing could refuse the release; make one mandatory"
            )
        return self


class Waiver(Model):
    """A person's written acceptance of one failed criterion, until a date."""

    criterion: Name
    who: Name
    why: Name
    until: Time


class Waivers(Model):
    """The file `waivers.yaml`."""

    waivers: list[Waiver]


# --- evidence files: facts that no metric holds ----------------------------------------------


class Evidence(Model):
    """What every evidence file says of itself."""

    source: Name
    simulated: StrictBool = False


class Incident(Model):
    """One incident; `sev1` is critical."""

    id: Name
    severity: Literal["sev1", "sev2", "sev3", "sev4"]
    title: Name
    start: Time
    end: Time | None = None
    region: Name | None = None
    root_cause: Name | None = None
    remediation: Name | None = None

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> Self:
        # With its times confused, an incident could fall out of the window.
        if self.end is not None and self.end < self.start:
            raise ValueError(
                f"the end {format_time(self.end)} is before the start {format_time(self.start)}"
            )
        return self


class Incidents(Evidence):
    """The incidents of an interval; an empty list says that there were none in it."""

    covers: Interval
    incidents: list[Incident]


class Rollback(Evidence):
    """A test that the release can be rolled back."""

    release: Name
    tested_at: Time
    successful: StrictBool
    duration: Duration | None = None
    environment: Name | None = None
    data_migration_reversible: StrictBool | None = None


class SignOff(Model):
    """One role's word on the release."""

    role: Name
    name: Name
    approved: StrictBool
    at: Time


class SignOffs(Evidence):
    """Who has signed, and who has refused."""

    release: Name
    sign_offs: Annotated[list[SignOff], Field(min_length=1)]


class SecurityScan(Evidence):
    """A vulnerability scan of the release."""

    release: Name
    scanner: Name
    scanned_at: Time
    critical: Annotated[StrictInt, Field(ge=0)]
    high: Annotated[StrictInt, Field(ge=0)]
    patched: Annotated[StrictInt, Field(ge=0)] | None = None


class Customer(Evidence):
    """What customers said in an interval."""

    covers: Interval
    support_tickets: Annotated[StrictInt, Field(ge=0)]
    escalated: Annotated[StrictInt, Field(ge=0)]
    satisfaction: Annotated[Number, Field(ge=0, le=1)] | None = None


EVIDENCE_MODELS: dict[str, type[Evidence]] = {
    "incidents": Incidents,
    "rollback": Rollback,
    "sign_off": SignOffs,
    "security_scan": SecurityScan,
    "customer": Customer,
}

# --- reading -----------------------------------------------------------------------------------


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # seven times faster where libyaml is


class _StrictLoader(_Loader):  # type: ignore[misc]
    """YAML in which a key that stands twice is an error, as the last one would win silently."""


def _mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[object] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            raise yaml.constructor.ConstructorError(
                None, None, "a key must be a plain name", key_node.start_mark
            )
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} is there twice", key_node.start_mark
            )
        seen.add(key)
    found: dict[Any, Any] = loader.construct_mapping(node, deep=True)
    return found


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def parse_yaml(text: str, name: str) -> Any:
    """Read one YAML text; `name` is what an error calls it.

    Raises
    ------
    ParametersError
        If it is not YAML, or a key stands twice.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error) or "it is nested too deeply"
        problem = " ".join(str(problem).split())
        raise ParametersError(f"{name}{where}: {problem}; correct the YAML") from None


def read_yaml(path: Path) -> Any:
    """Read a YAML file strictly.

    Raises
    ------
    ParametersError
        If the file is missing, unreadable, not UTF-8 or not YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ParametersError(f"{path}: there is no such file; check the name") from None
    except OSError as error:
        raise ParametersError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ParametersError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    return parse_yaml(text, str(path))


def _keys_at(model: type[BaseModel], location: Iterable[int | str]) -> list[str]:
    """Return the keys that the model allows at an error's location, to suggest the right one."""
    here: Any = model
    for part in location:
        if isinstance(here, type) and issubclass(here, BaseModel) and part in here.model_fields:
            here = here.model_fields[str(part)].annotation
        else:
            here = getattr(here, "__args__", [None])[-1]
        here = (
            getattr(here, "__args__", [here])[0]
            if type(None) in getattr(here, "__args__", [])
            else here
        )
    # A union allows the keys of each of its models.
    several = [here, *getattr(here, "__args__", [])]
    models = [m for m in several if isinstance(m, type) and issubclass(m, BaseModel)]
    return [key for model in models for key in model.model_fields]


_BRANCHES = ("Baseline", "BaselineRun", "float", "int", "[key]")
"""What pydantic puts into an error's location that is no key of the file."""


def _sentence(name: str, model: type[BaseModel], error: ValidationError) -> str:
    """Write the first problem of a validation as one sentence: file, key, remedy."""
    problems = error.errors()
    first = problems[0]
    locations = [[part for part in each["loc"] if part not in _BRANCHES] for each in problems]
    location, more = locations[0], len({str(each) for each in locations}) - 1
    key, kind = ".".join(map(str, location)), first["type"]
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(location[-1]), _keys_at(model, location[:-1]), 1)
        remedy = f"did you mean '{near[0]}'?" if near else "take it out"
        text = f"unknown key '{key}'; {remedy}"
    elif kind == "missing":
        text = f"the key '{key}' is missing; add it"
    elif kind == "value_error":
        text = f"{key}: {first['ctx']['error']}" if key else str(first["ctx"]["error"])
    else:
        wanted = first["msg"].replace("Input should be", "must be").replace("Input", "it")
        if kind in ("model_type", "dict_type"):
            wanted = "must be a mapping of keys to values"
        elif kind == "path_type":
            wanted = "must be a path"
        # A URL may hold a secret, so it is not repeated.
        hidden = isinstance(first["input"], (dict, list)) or "@" in str(first["input"])
        given = "" if hidden else f", not {reprlib.repr(first['input'])}"
        hint = "; put it in quotes" if kind == "string_type" else ""
        text = f"{key}: {wanted}{given}{hint}" if key else f"{wanted}{given}"
    return f"{name}: {text}" + (f" (and {more} more)" if more else "")


def check(model: type[M], raw: object, name: str) -> M:
    """Validate raw YAML against a model.

    Raises
    ------
    ParametersError
        With one sentence that names `name`, the key and the remedy.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise ParametersError(_sentence(name, model, error)) from None


_PATHS = ("kpis", "drift_rules", "criteria", "waivers")

PREVIOUS = "previous.json"
"""File in a run's `parameters` with the facts of the last certified release."""


def _anchor(raw: Any, base: Path) -> Any:
    """Make every relative path of a run's raw YAML relative to `base`."""
    if not isinstance(raw, dict):
        return raw

    def join(holder: Any, *keys: str) -> Any:
        if not isinstance(holder, dict):
            return holder
        joined = {k: str(base / v) for k, v in holder.items() if k in keys and isinstance(v, str)}
        return {**holder, **joined}

    raw = join(raw, *_PATHS, "previous")
    for key, inner in (("source", ("recording",)), ("baseline", ("run",))):
        if key in raw:
            raw[key] = join(raw[key], *inner)
    if isinstance(raw.get("evidence"), dict):
        raw["evidence"] = join(raw["evidence"], *raw["evidence"])
    return raw


def _override(raw: Any, assignments: Sequence[str]) -> Any:
    """Apply `key.path=YAML` assignments to a run's raw YAML."""
    for assignment in assignments:
        dotted, equals, text = assignment.partition("=")
        keys = dotted.strip().split(".")
        if not equals or not all(keys):
            raise ParametersError(
                f"--set {assignment}: is not an assignment; write it like --set window.step=1m"
            )
        value: Any = parse_yaml(text, f"--set {dotted}")
        for key in reversed(keys):
            value = {key: value}
        value = _anchor(value, Path.cwd())
        if keys[0] == "source" and len(keys) == 2 and keys[1] in ("prometheus", "recording"):
            # The two exclude each other, so naming one on the command line replaces the other.
            for other in {"prometheus", "recording"} - {keys[1]}:
                if isinstance(raw, dict) and isinstance(raw.get("source"), dict):
                    raw["source"].pop(other, None)
        raw = _merge(raw, value, len(keys))
    return raw


def _merge(raw: Any, value: Any, depth: int) -> Any:
    """Lay a nested assignment over `raw`; below `depth` keys the value replaces what was there."""
    if depth == 0 or not isinstance(value, dict):
        return value
    merged = dict(raw) if isinstance(raw, dict) else {}
    for key, inner in value.items():
        merged[key] = _merge(merged.get(key), inner, depth - 1)
    return merged


@dataclass(frozen=True)
class Job:
    """Everything that a run is asked to do, read and checked.

    `evidence` holds the facts by kind; `texts` the catalogues and evidence files as they were
    read, by the name that each gets in the run folder.
    """

    parameters: Parameters
    kpis: dict[str, Kpi]
    alerts: Alerts | None
    rules: dict[str, DriftRule]
    criteria: dict[str, Criterion]
    waivers: list[Waiver]
    evidence: dict[str, Evidence]
    texts: dict[str, str]

    def save(self, folder: Path, baseline: Sequence[tuple[int, int]]) -> None:
        """Write the run's file and all that it names into `folder`, so that it stands alone.

        The source becomes the run's own recording, and the baseline the (start, stop) intervals
        that it holds: whoever replays the run reads these.
        """
        folder.mkdir(parents=True, exist_ok=True)
        raw = self.parameters.model_dump(mode="json", exclude_none=True)
        raw["source"] = {"recording": "../recording"}
        raw["baseline"] = [
            {"start": format_time(start), "duration": format_duration(stop - start)}
            for start, stop in baseline
        ]
        raw |= {key: f"{key}.yaml" for key in _PATHS if raw.get(key)}
        raw["evidence"] = {kind: f"evidence_{kind}.yaml" for kind in self.evidence}
        if self.parameters.previous:
            raw["previous"] = PREVIOUS
        for name, text in self.texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        text = yaml.safe_dump(raw, sort_keys=False, allow_unicode=True, width=100)
        (folder / "run.yaml").write_text(text, encoding="utf-8")


def load(path: Path | str, overrides: Sequence[str] = (), *, now: float | None = None) -> Job:
    """Read a run's file, its catalogues and evidence files, and check them against each other.

    Parameters
    ----------
    path
        The run's YAML file. Relative paths in it are relative to its folder.
    overrides
        Assignments `key=value` laid over the file; the value is YAML, the key may be dotted, and
        relative paths are relative to the working directory.
    now
        Epoch seconds that a window must not lie beyond; the clock's if not given.

    Raises
    ------
    ParametersError
        In one sentence, whatever is wrong first.
    """
    path = Path(path)
    raw = _override(_anchor(read_yaml(path), path.parent), overrides)
    parameters = check(Parameters, raw, str(path))
    now = datetime.now(UTC).timestamp() if now is None else now
    baselines = [("baseline", each) for each in parameters.baseline_intervals()]
    for key, interval in [("window", parameters.window), *baselines]:
        if interval.stop > now:
            raise ParametersError(
                f"{path}: {key}: it ends at {format_time(interval.stop)}, which is in the future; "
                f"wait for its end or choose an earlier {key}"
            )
    catalogue = check(KpiCatalogue, read_yaml(parameters.kpis), str(parameters.kpis))
    rules = check(DriftRules, read_yaml(parameters.drift_rules), str(parameters.drift_rules)).rules
    criteria = check(Criteria, read_yaml(parameters.criteria), str(parameters.criteria)).criteria
    files = {f"{key}.yaml": getattr(parameters, key) for key in _PATHS if getattr(parameters, key)}
    files |= {f"evidence_{kind}.yaml": file for kind, file in parameters.evidence.items()}
    job = Job(
        parameters=parameters,
        kpis=catalogue.kpis,
        alerts=catalogue.alerts,
        rules=rules,
        criteria=criteria,
        waivers=_waivers(parameters, criteria),
        evidence={
            kind: check(EVIDENCE_MODELS[kind], read_yaml(file), str(file))
            for kind, file in parameters.evidence.items()
        },
        texts={name: file.read_text(encoding="utf-8") for name, file in files.items()},
    )
    _check_names(job)
    return job


def _waivers(parameters: Parameters, criteria: Mapping[str, Criterion]) -> list[Waiver]:
    if parameters.waivers is None:
        return []
    file = parameters.waivers
    waivers = check(Waivers, read_yaml(file), str(file)).waivers
    for waiver in waivers:
        if waiver.criterion not in criteria:
            raise ParametersError(
                f"{file}: a waiver names the criterion '{waiver.criterion}', which is not in "
                f"{parameters.criteria}; correct the name"
            )
        if waiver.until < parameters.window.stop:
            raise ParametersError(
                f"{file}: the waiver for '{waiver.criterion}' expired at "
                f"{format_time(waiver.until)}, before the window ended; renew it or take it out"
            )
    return waivers


def _check_names(job: Job) -> None:
    """See that every KPI that a rule or criterion names is in the catalogue."""
    parameters = job.parameters
    users = [
        (parameters.drift_rules, f"rules.{n}.kpi", kpi)
        for n, rule in job.rules.items()
        for kpi in rule.kpi
    ]
    users += [
        (parameters.criteria, f"criteria.{n}.kpi", c.kpi) for n, c in job.criteria.items() if c.kpi
    ]
    for file, key, kpi in users:
        if kpi not in job.kpis:
            near = difflib.get_close_matches(kpi, job.kpis, 1)
            remedy = f"did you mean '{near[0]}'?" if near else "add it there"
            raise ParametersError(
                f"{file}: {key}: the KPI '{kpi}' is not in {parameters.kpis}; {remedy}"
            )


def interval_text(start: int, stop: int) -> str:
    """Write an interval for a reader: `2026-11-20 00:00 to 2026-11-21 00:00 UTC (24h)`."""
    first, last = (datetime.fromtimestamp(t, UTC) for t in (start, stop))
    form = "%Y-%m-%d %H:%M" + (":%S" if (start % 60 or stop % 60) else "")
    length = format_duration(int(timedelta(seconds=stop - start).total_seconds()))
    return f"{first:{form}} to {last:{form}} UTC ({length})"


def project_root(start: Path | None = None) -> Path:
    """Return the nearest folder above that holds `notebooks` and `parameters`; else the start.

    A notebook's relative paths are relative to it, whether papermill runs it from the project's
    folder or JupyterLab from `notebooks`.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "notebooks").is_dir() and (folder / "parameters").is_dir():
            return folder
    return start


def schema() -> dict[str, Any]:
    """Return the JSON Schema of every file that a user writes, by the name of its model."""
    models: list[type[BaseModel]] = [
        Parameters,
        KpiCatalogue,
        DriftRules,
        Criteria,
        Waivers,
        *EVIDENCE_MODELS.values(),
    ]
    _, found = models_json_schema(
        [(model, "serialization") for model in models], title="Files that T.A.R.S. GA reads"
    )
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}
