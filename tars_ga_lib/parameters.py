"""What a run is asked to do: the YAML files, read strictly and refused in one clear sentence.

A run is described by one file (`parameters/ga_day.yaml`) that names its catalogues and evidence
files. `load` reads them all, checks them against each other and returns a `Job`; whatever is wrong
raises `ParametersError`, whose text names the file, the key and the remedy.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    PlainSerializer,
    StrictBool,
    StrictInt,
    StrictStr,
    field_validator,
    model_validator,
)
from pydantic.json_schema import models_json_schema

from tars_ga_lib import objectives
from tars_ga_lib.catalogues import (
    Alerts,
    Criteria,
    Criterion,
    DriftRule,
    DriftRules,
    Kpi,
    KpiCatalogue,
    Scrapes,
    Waiver,
    Waivers,
)
from tars_ga_lib.channels import Channels
from tars_ga_lib.endpoints import WebSocketTargets
from tars_ga_lib.evidence_files import EVIDENCE_MODELS, Evidence, EvidenceKind
from tars_ga_lib.grammar import (
    Duration,
    Interval,
    Limit,
    M,
    Model,
    Name,
    Names,
    Number,
    ParametersError,
    check,
    format_duration,
    format_time,
    parse_duration,
    parse_yaml,
    read_yaml,
)
from tars_ga_lib.objectives import Objective
from tars_ga_lib.targets import ValidationTargets

# --- the run ---------------------------------------------------------------------------------


class Release(Model):
    """What is certified."""

    name: Name
    version: Name
    digest: Annotated[StrictStr, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None


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


class Placement(Model):
    """What is particular about one service.

    `regions` are those that it runs in, all of the run's if not given; `without` names the KPIs
    that it does not have anywhere.
    """

    regions: Names | None = None
    without: Names | None = None


def _placed(value: object) -> object:
    """Turn a plain list of services into a mapping of each to what is particular about it."""
    if not isinstance(value, list):
        return {k: v or {} for k, v in value.items()} if isinstance(value, Mapping) else value
    for name in value:
        if value.count(name) > 1:
            raise ValueError(f"{name!r} is there twice; name each once")
    return {name: {} for name in value}


def _services_text(services: Mapping[str, Placement]) -> list[str] | dict[str, dict[str, Any]]:
    written = {name: place.model_dump(exclude_none=True) for name, place in services.items()}
    return written if any(written.values()) else list(written)


Services = Annotated[
    dict[Name, Placement],
    Field(min_length=1),
    BeforeValidator(_placed),
    PlainSerializer(_services_text),
]


class Cost(Model):
    """Rates of the cost estimate, which leaves out network and storage."""

    cpu: Name = "cluster_cpu_cores"
    memory: Name = "cluster_memory"
    usd_per_core_hour: Number = 0.10
    usd_per_gib_hour: Number = 0.02


class Measured(Model):
    """Results of `tars-ga validate` and `tars-ga websocket` that were measured before this run.

    They count if they were measured for this release, for all of its regions or endpoints, and not
    later than `within` after the window; WebSocket sessions that were watched for `min_watch` at
    least.
    """

    validation: Path | None = None
    websocket: Path | None = None
    within: Duration = 7 * 86400
    min_watch: Duration = 3600


class Report(Model):
    """How the report is set."""

    paper: Literal["a4", "us-letter"] = "a4"


class Parameters(Model):
    """One run, as its file says it."""

    release: Release
    window: Window
    baseline: BaselineRun | Baseline | list[Baseline]
    source: Source
    regions: Names
    primary_region: Name
    services: Services
    labels: Labels = Labels()
    kpis: Path
    drift_rules: Path
    criteria: Path
    waivers: Path | None = None
    slos: Path | None = None
    evidence: dict[EvidenceKind, Path] = Field(default={})
    validation: Path | None = None
    websocket: Path | None = None
    measured: Measured = Measured()
    notify: Path | None = None
    report: Report = Report()
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
        self._check_placement()
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

    def _check_placement(self) -> None:
        for service, place in self.services.items():
            for region in place.regions or ():
                if region not in self.regions:
                    raise ValueError(
                        f"services.{service}: its region {region!r} is not one of the regions "
                        f"({', '.join(self.regions)})"
                    )
        for region in self.regions:
            if not any(self.runs(service, region) for service in self.services):
                raise ValueError(f"no service is placed in the region {region!r}; take it out")

    def runs(self, service: str, region: str) -> bool:
        """Whether a service is declared to run in a region."""
        placed = self.services[service].regions
        return placed is None or region in placed

    def baseline_intervals(self) -> list[Interval]:
        """Return the baseline's intervals; none where it is an earlier run."""
        if isinstance(self.baseline, BaselineRun):
            return []
        several = self.baseline if isinstance(self.baseline, list) else [self.baseline]
        return [interval for baseline in several for interval in baseline.intervals()]


# --- reading -----------------------------------------------------------------------------------

NAMED = (
    "kpis",
    "drift_rules",
    "criteria",
    "waivers",
    "slos",
    "validation",
    "websocket",
    "notify",
)
"""Keys of a run's file that name another file."""

MEASURED = {"validation": "validation_results.json", "websocket": "ws_health_metrics.json"}
"""Files of a run's folder with what was measured on the running system."""

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

    raw = join(raw, *NAMED, "previous")
    inside = {
        "source": ("recording",),
        "baseline": ("run",),
        "measured": tuple(MEASURED),
    }
    for key, inner in inside.items():
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

    `slos` holds the objectives by name, `evidence` the facts by kind, `validation` and `websocket`
    what of the running system is checked, `channels` who is told what, and `texts` the catalogues
    and evidence files as they were read, by the name that each gets in the run folder.
    """

    parameters: Parameters
    kpis: dict[str, Kpi]
    scrapes: Scrapes
    alerts: Alerts | None
    rules: dict[str, DriftRule]
    criteria: dict[str, Criterion]
    waivers: list[Waiver]
    slos: dict[str, Objective]
    evidence: dict[str, Evidence]
    validation: ValidationTargets | None
    websocket: WebSocketTargets | None
    channels: Channels | None
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
        raw |= {key: f"{key}.yaml" for key in NAMED if raw.get(key)}
        # Results that were measured lie beside the recording, where a replay finds them.
        given = self.parameters.measured
        raw["measured"] = {
            key: format_duration(getattr(given, key)) for key in ("within", "min_watch")
        }
        raw["evidence"] = {kind: f"evidence_{kind}.yaml" for kind in self.evidence}
        if self.parameters.previous:
            raw["previous"] = PREVIOUS
        for name, text in self.texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        text = yaml.safe_dump(raw, sort_keys=False, allow_unicode=True, width=100)
        (folder / "run.yaml").write_text(text, encoding="utf-8")


def _read(path: Path, overrides: Sequence[str]) -> Parameters:
    raw = _override(_anchor(read_yaml(path), path.parent), overrides)
    return check(Parameters, raw, str(path))


def whom_to_tell(
    path: Path | str, overrides: Sequence[str] = ()
) -> tuple[Parameters, Channels | None]:
    """Read only the run's file and its channels: a run that failed may have failed on the rest.

    Raises
    ------
    ParametersError
        If one of these two is wrong.
    """
    parameters = _read(Path(path), overrides)
    file = parameters.notify
    return parameters, None if file is None else check(Channels, read_yaml(file), str(file))


def load(
    path: Path | str,
    overrides: Sequence[str] = (),
    *,
    now: float | None = None,
    running: bool = False,
) -> Job:
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
    running
        Whether the window may end later, as that of a day which is watched; nothing else may lie
        beyond its end then.

    Raises
    ------
    ParametersError
        In one sentence, whatever is wrong first.
    """
    path = Path(path)
    parameters = _read(path, overrides)
    now = datetime.now(UTC).timestamp() if now is None else now
    now = max(now, parameters.window.stop) if running else now
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
    slos = objectives.read(parameters.slos, catalogue.kpis) if parameters.slos else {}
    criteria = _aimed(parameters, criteria, slos, catalogue.kpis)
    files = {f"{key}.yaml": getattr(parameters, key) for key in NAMED if getattr(parameters, key)}
    files |= {f"evidence_{kind}.yaml": file for kind, file in parameters.evidence.items()}

    def given(key: str, model: type[M]) -> M | None:
        file = getattr(parameters, key)
        return None if file is None else check(model, read_yaml(file), str(file))

    job = Job(
        parameters=parameters,
        kpis=catalogue.kpis,
        scrapes=catalogue.scrapes,
        alerts=catalogue.alerts,
        rules=rules,
        criteria=criteria,
        waivers=_waivers(parameters, criteria),
        slos=slos,
        evidence={
            kind: check(EVIDENCE_MODELS[kind], read_yaml(file), str(file))
            for kind, file in parameters.evidence.items()
        },
        validation=given("validation", ValidationTargets),
        websocket=given("websocket", WebSocketTargets),
        channels=given("notify", Channels),
        texts={name: file.read_text(encoding="utf-8") for name, file in files.items()},
    )
    _check_names(job)
    _check_slices(job)
    return job


def _aimed(
    parameters: Parameters,
    criteria: Mapping[str, Criterion],
    slos: Mapping[str, Objective],
    kpis: Mapping[str, Kpi],
) -> dict[str, Criterion]:
    """Give the criteria that refer to an objective its target."""
    aimed = dict(criteria)
    for name, criterion in criteria.items():
        place = f"{parameters.criteria}: criteria.{name}"
        if criterion.objective is not None:
            objective = slos.get(criterion.objective)
            if objective is None:
                known = ", ".join(slos) or "the run names no file of them under 'slos'"
                raise ParametersError(
                    f"{place}.objective: there is no objective '{criterion.objective}' ({known}); "
                    "correct it, or give a 'target'"
                )
            target = _target_of(objective, kpis.get(str(criterion.kpi)))
            if target is None:
                raise ParametersError(
                    f"{place}.objective: '{criterion.objective}' is not about the KPI "
                    f"'{criterion.kpi}'; correct one of them, or give a 'target'"
                )
            try:
                aimed[name] = criterion.aimed(target)
            except ValueError as error:
                raise ParametersError(f"{place}: {error}") from None
        kpi, limit = kpis.get(str(criterion.kpi)), aimed[name].limit
        if kpi and kpi.kind == "ratio" and not kpi.unbounded and _never_fails(limit):
            raise ParametersError(
                f"{place}.target: '{limit}' cannot fail, as a share lies between 0 and 1; give one "
                "that can"
            )
    return aimed


def _target_of(objective: Objective, kpi: Kpi | None) -> Limit | None:
    """Target of a KPI that says what an objective says; None if they speak of different things."""
    if kpi is None or objective.slice_seconds:
        return None
    if kpi.kind == "ratio" and (objective.part, objective.total) == (
        kpi.numerator,
        kpi.denominator,
    ):
        if objective.counts == "good":
            return Limit(">=", objective.target)
        return Limit("<", objective.allowed)
    edge = re.search(r'_bucket\{[^}]*le="([0-9.e+-]+)"', objective.part)
    of_kpi = re.search(r"(\w+)\{", kpi.buckets or "")
    if kpi.kind == "histogram" and edge and of_kpi and f"{of_kpi[1]}{{" in objective.part:
        same = objective.counts == "good" and objective.target == kpi.quantile
        return Limit("<", float(edge[1])) if same else None
    return None


def _never_fails(limit: Limit) -> bool:
    """Whether no share can break a limit."""
    operator, value = limit
    return {
        ">=": value <= 0, ">": value < 0, "<=": value >= 1, "<": value > 1, "==": False,
    }[operator]  # fmt: skip


def _waivers(parameters: Parameters, criteria: Mapping[str, Criterion]) -> list[Waiver]:
    if parameters.waivers is None:
        return []
    file = parameters.waivers
    waivers = check(Waivers, read_yaml(file), str(file)).waivers
    for waiver in waivers:
        release = parameters.release
        if waiver.release not in (release.version, f"{release.name} {release.version}"):
            raise ParametersError(
                f"{file}: the waiver for '{waiver.criterion}' is of {waiver.release}, not "
                f"{release.version}; take it out, or have it given for this release"
            )
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
    users: list[tuple[Path | str, str, str]] = [
        (parameters.drift_rules, f"rules.{n}.kpi", kpi)
        for n, rule in job.rules.items()
        for kpi in rule.kpi
    ]
    users += [
        (parameters.criteria, f"criteria.{n}.kpi", c.kpi) for n, c in job.criteria.items() if c.kpi
    ]
    for service, place in parameters.services.items():
        users += [
            ("the run's file", f"services.{service}.without", kpi) for kpi in place.without or ()
        ]
    for file, key, kpi in users:
        if kpi not in job.kpis:
            near = difflib.get_close_matches(kpi, job.kpis, 1)
            remedy = f"did you mean '{near[0]}'?" if near else "add it there"
            raise ParametersError(
                f"{file}: {key}: the KPI '{kpi}' is not in {parameters.kpis}; {remedy}"
            )


def _check_slices(job: Job) -> None:
    """See that the objectives' time slices are whole steps, and that the window is whole slices."""
    window = job.parameters.window
    for name, objective in job.slos.items():
        each = objective.slice_seconds
        if each is not None and (each % window.step or window.seconds % each):
            raise ParametersError(
                f"{job.parameters.slos}: {name}: its time slice of {format_duration(each)} is not "
                f"whole steps of {format_duration(window.step)}, or does not divide the window of "
                f"{format_duration(window.seconds)}; choose a slice that does both"
            )


def schema() -> dict[str, Any]:
    """Return the JSON Schema of every file that a user writes, by the name of its model."""
    models: list[type[BaseModel]] = [
        Parameters,
        KpiCatalogue,
        DriftRules,
        Criteria,
        Waivers,
        objectives.Document,
        ValidationTargets,
        WebSocketTargets,
        Channels,
        *EVIDENCE_MODELS.values(),
    ]
    _, found = models_json_schema(
        [(model, "serialization") for model in models], title="Files that T.A.R.S. GA reads"
    )
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}
