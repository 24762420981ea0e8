"""What a run is asked to do: the YAML files, read strictly and refused in one clear sentence.

A run is described by one file (`parameters/ga_day.yaml`) that names its catalogues and evidence
files. `load` reads them all, checks them against each other and returns a `Job`; whatever is wrong
raises `ParametersError`, whose text names the file, the key and the remedy.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    metric_names,
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
    Problems,
    check,
    format_duration,
    format_time,
    nearest,
    parse_duration,
    parse_yaml,
    read_yaml,
)
from tars_ga_lib.layers import Assignment, Files, Layered, Layers, text_of
from tars_ga_lib.objectives import Objective
from tars_ga_lib.targets import ValidationTargets

_DEADLINE_TIMEOUTS = 30

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
    """Where samples come from: a Prometheus HTTP API or an earlier recording.

    `timeout` is for one request, and `deadline` for the whole collection: 30 times the timeout if
    not given.
    """

    prometheus: StrictStr | None = None
    recording: Path | None = None
    timeout: Duration = 120
    deadline: Duration | None = None
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

    @property
    def whole_deadline(self) -> int:
        """Seconds that the whole collection may take."""
        return self.deadline or _DEADLINE_TIMEOUTS * self.timeout


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
    if isinstance(services, list):  # of a copy that was given a list
        return services
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
    kpis: Layers
    drift_rules: Layers
    criteria: Layers
    drop: list[Name] = Field(default=[])
    waivers: Layers | None = None
    slos: Layers | None = None
    evidence: dict[EvidenceKind, Path] = Field(default={})
    validation: Layers | None = None
    websocket: Layers | None = None
    measured: Measured = Measured()
    notify: Layers | None = None
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

    def anchored(value: Any) -> Any:
        if isinstance(value, list):
            return [anchored(each) for each in value]
        return str(base / value) if isinstance(value, str) else value

    def join(holder: Any, *keys: str) -> Any:
        if not isinstance(holder, dict):
            return holder
        return {**holder, **{k: anchored(v) for k, v in holder.items() if k in keys}}

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


ENTRIES = {
    "kpis": "kpis",
    "drift_rules": "rules",
    "criteria": "criteria",
    "waivers": "waivers",
}
"""Key of each catalogue that holds its entries, so that `--set` need not name it."""


def _assignments(texts: Sequence[str]) -> dict[str, list[Assignment]]:
    """Read `key.path=YAML` assignments, by the file that they reach into; "" is the run's own.

    A key of the run's file that names another file stands for the path, and with more keys behind
    it for what is in that file.
    """
    found: dict[str, list[Assignment]] = {}
    problems = Problems()
    for text in texts:
        with problems.collected():
            dotted, equals, value = text.partition("=")
            keys, option = dotted.strip().split("."), f"--set {dotted.strip()}"
            if not equals or not all(keys):
                raise ParametersError(
                    f"--set {text}: is not an assignment; write it like --set window.step=1m"
                )
            file, inner = "", keys
            if keys[0] in NAMED and len(keys) > 1:
                file, inner = keys[0], keys[1:]
                entries = ENTRIES.get(file)
                if entries and inner[0] not in (entries, "alerts", "drop"):
                    inner = [entries, *inner]
            elif keys[0] == "evidence" and len(keys) > 2:
                file, inner = ".".join(keys[:2]), keys[2:]
            # YAML takes a leading > for a block of text; on one line it begins a limit.
            limit = value.strip() if value.lstrip().startswith(">") else None
            assignment = Assignment(option, inner, limit or parse_yaml(value, option))
            found.setdefault(file, []).append(assignment)
    problems.refuse()
    return found


def _run_file(path: Path, assignments: Sequence[Assignment]) -> Layered:
    """Read a run's file and lay the assignments to it over it."""
    layered = Layered.of(_anchor(read_yaml(path), path.parent), str(path))
    for option, keys, value in assignments:
        nested: Any = value
        for key in reversed(keys):
            nested = {key: nested}
        nested = _anchor(nested, Path.cwd())
        for key in keys:
            nested = nested[key]
        if keys[0] == "source" and len(keys) == 2 and keys[1] in ("prometheus", "recording"):
            # The two exclude each other, so naming one on the command line replaces the other.
            for other in {"prometheus", "recording"} - {keys[1]}:
                if isinstance(layered.value, dict) and isinstance(
                    layered.value.get("source"), dict
                ):
                    layered.value["source"].pop(other, None)
        layered.assign(Assignment(option, keys, nested))
    if assignments:
        # Where the parts do not fit together, either may be wrong.
        options = ", ".join(dict.fromkeys(each.option for each in assignments))
        layered.whole = f"{path} (with {options})"
    return layered


def _catalogue(files: Sequence[Path], assignments: Sequence[Assignment], key: str) -> Layered:
    """Read a file, or several laid over each other, and lay assignments to it over them.

    What the files drop is united.
    """
    layered: Layered | None = None
    problems, drop = Problems(), []
    for file in files:
        with problems.collected():
            raw = read_yaml(file)
            if isinstance(raw, dict) and isinstance(raw.get("drop"), list):
                drop += raw["drop"]
            if layered is None:
                layered = Layered.of(raw, str(file))
            else:
                layered.lay(raw, str(file))
    problems.refuse()
    assert layered is not None
    if len(files) > 1 and drop:
        layered.value["drop"] = list(dict.fromkeys(drop))
    for each in assignments:
        with problems.collected():
            layered.assign(each, entries=ENTRIES.get(key, ""))
    problems.refuse()
    return layered


@dataclass(frozen=True)
class Job:
    """Everything that a run is asked to do, read and checked.

    `slos` holds the objectives by name, `evidence` the facts by kind, `validation` and `websocket`
    what of the running system is checked, `channels` who is told what, and `texts` the catalogues
    and evidence files as they were read, with what was laid over them, by the name that each gets
    in the run folder. `left_out` has the kind and name of each thing that `drop` took out.
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
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def save(self, folder: Path, baseline: Sequence[tuple[int, int]]) -> None:
        """Write the run's file and all that it names into `folder`, so that it stands alone.

        The source becomes the run's own recording, and the baseline the (start, stop) intervals
        that it holds: whoever replays the run reads these.
        """
        folder.mkdir(parents=True, exist_ok=True)
        raw = self.parameters.model_dump(mode="json", exclude_none=True)
        if not self.parameters.drop:
            del raw["drop"]
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


class _Reader:
    """The files of a run, each read once with what is laid over it."""

    def __init__(self, path: Path, overrides: Sequence[str]) -> None:
        self._assigned = _assignments(overrides)
        self.run = _run_file(path, self._assigned.get("", ()))
        self.parameters = check(Parameters, self.run.value, self.run.name_of)
        self.layers: dict[str, list[Layered]] = {}
        unknown = set(self._assigned) - {"", *self._named()}
        if unknown:
            key = min(unknown)
            option = self._assigned[key][0].option
            raise ParametersError(
                f"{option}: the run names no file for '{key}' to reach into; add the key to {path}"
            )

    def _named(self) -> dict[str, Files]:
        """Return the files that the run names, by the key that names them."""
        given = {key: getattr(self.parameters, key) for key in NAMED}
        found = {key: files for key, files in given.items() if files is not None}
        return found | {f"evidence.{k}": Files([f]) for k, f in self.parameters.evidence.items()}

    def documents(self, key: str) -> list[Layered]:
        """Return the effective documents of the file, or files, that a key names."""
        if key not in self.layers:
            files, assigned = self._named()[key], self._assigned.get(key, ())
            if key == "slos":
                self.layers[key] = objectives.layers_of(files, assigned)
            else:
                self.layers[key] = [_catalogue(files, assigned, key)]
        return self.layers[key]

    def every(self) -> dict[str, list[Layered]]:
        """Return the effective documents of all files that the run names, by key."""
        problems = Problems()
        for key in self._named():
            with problems.collected():
                self.documents(key)
        problems.refuse()
        return self.layers

    def given(self, key: str, model: type[M]) -> M | None:
        """Read and check a file; None if the run names none."""
        if key not in self._named():
            return None
        (layered,) = self.documents(key)
        return check(model, layered.value, layered.name_of)

    def texts(self) -> dict[str, str]:
        """Return the effective text of each file, by the name that it gets in the run's folder.

        A file that nothing was laid over is kept to the letter, comments and all.
        """
        found = {}
        for key, files in self._named().items():
            if len(files) == 1 and key not in self._assigned:
                text = files[0].read_text(encoding="utf-8")
            else:
                text = "---\n".join(text_of(each.value) for each in self.documents(key))
            found[f"{key.replace('.', '_')}.yaml"] = text
        return found


def whom_to_tell(
    path: Path | str, overrides: Sequence[str] = ()
) -> tuple[Parameters, Channels | None]:
    """Read only the run's file and its channels: a run that failed may have failed on the rest.

    Raises
    ------
    ParametersError
        If one of these two is wrong.
    """
    reader = _Reader(Path(path), overrides)
    return reader.parameters, reader.given("notify", Channels)


def effective(path: Path | str, overrides: Sequence[str] = ()) -> dict[str, list[Layered]]:
    """Return what a run's files say with all that is laid over them, by key; "" is the run's own.

    Raises
    ------
    ParametersError
        If a file cannot be read, or the run's own is wrong.
    """
    reader = _Reader(Path(path), overrides)
    return {"": [reader.run], **reader.every()}


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
        relative paths are relative to the working directory. A key that names a file reaches into
        it: `criteria.latency_p99.target=< 0.3`.
    now
        Epoch seconds that a window must not lie beyond; the clock's if not given.
    running
        Whether the window may end later, as that of a day which is watched; nothing else may lie
        beyond its end then.

    Raises
    ------
    ParametersError
        In a sentence a problem, a line each: all problems of all files that can be told at once.
    """
    path = Path(path)
    reader, problems = _Reader(path, overrides), Problems()
    parameters = reader.parameters
    now = datetime.now(UTC).timestamp() if now is None else now
    now = max(now, parameters.window.stop) if running else now
    baselines = [("baseline", each) for each in parameters.baseline_intervals()]
    for key, interval in [("window", parameters.window), *baselines]:
        with problems.collected():
            if interval.stop > now:
                raise ParametersError(
                    f"{reader.run.name_of((key,))}: {key}: it ends at "
                    f"{format_time(interval.stop)}, which is in the future; wait for its end or "
                    f"choose an earlier {key}"
                )

    def given(key: str, model: type[M]) -> M | None:
        with problems.collected():
            return reader.given(key, model)
        return None

    catalogue, rules = given("kpis", KpiCatalogue), given("drift_rules", DriftRules)
    criteria, waivers = given("criteria", Criteria), given("waivers", Waivers)
    slos: dict[str, Objective] = {}
    with problems.collected():
        if parameters.slos is not None:
            documents = reader.documents("slos")
            if catalogue is not None:
                slos = objectives.objectives_of(documents, str(parameters.slos), catalogue.kpis)
    evidence = {
        kind: given(f"evidence.{kind}", EVIDENCE_MODELS[kind]) for kind in parameters.evidence
    }
    validation, websocket = (
        given("validation", ValidationTargets),
        given("websocket", WebSocketTargets),
    )
    channels = given("notify", Channels)
    problems.refuse()
    assert catalogue
    assert rules
    assert criteria
    job = Job(
        parameters=parameters,
        kpis=catalogue.kpis,
        scrapes=catalogue.scrapes,
        alerts=catalogue.alerts,
        rules=rules.rules,
        criteria=criteria.criteria,
        waivers=waivers.waivers if waivers else [],
        slos=slos,
        evidence={kind: facts for kind, facts in evidence.items() if facts},
        validation=validation,
        websocket=websocket,
        channels=channels,
        texts=reader.texts(),
    )
    _check_names(job, reader)
    # What is dropped needs no objective, so it goes first.
    job = _without(job, [*parameters.drop, *catalogue.drop], rules.drop, criteria.drop)
    job = replace(job, criteria=_aimed(parameters, job.criteria, job.slos, job.kpis))
    _check_waivers(job)
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


def _without(job: Job, kpis: Sequence[str], rules: Sequence[str], criteria: Sequence[str]) -> Job:
    """Take out what the files drop, with all that rests on it, and say so in the job."""
    files = job.parameters
    problems = Problems()
    given: list[tuple[Sequence[str], Iterable[str], Files, str]] = [
        (kpis, job.kpis, files.kpis, "KPI"),
        (rules, job.rules, files.drift_rules, "drift rule"),
        (criteria, job.criteria, files.criteria, "criterion"),
    ]
    for dropped, known, file, what in given:
        for name in dropped:
            with problems.collected():
                if name not in known:
                    raise ParametersError(
                        f"{file}: drop: there is no {what} named '{name}'; {nearest(name, known)}"
                    )
    problems.refuse()
    if not (kpis or rules or criteria):
        return job
    kept_kpis = {name: kpi for name, kpi in job.kpis.items() if name not in kpis}
    kept_rules = {
        name: rule.model_copy(update={"kpi": [kpi for kpi in rule.kpi if kpi not in kpis]})
        for name, rule in job.rules.items()
        if name not in rules and not set(rule.kpi) <= set(kpis)
    }
    kept_criteria = {
        name: each
        for name, each in job.criteria.items()
        if name not in criteria and each.kpi not in kpis
    }
    kept_slos = {
        name: each for name, each in job.slos.items() if not _rests_on(each.kpi, job.kpis, kpis)
    }
    if not kept_kpis or not kept_rules or not any(c.mandatory for c in kept_criteria.values()):
        raise ParametersError(
            f"{files.kpis}: drop: leaves no KPI, no drift rule or no mandatory criterion, so "
            "nothing could be decided; keep one of each"
        )
    parts = {
        "KPI": [n for n in job.kpis if n not in kept_kpis],
        "drift rule": [n for n in job.rules if n not in kept_rules],
        "criterion": [n for n in job.criteria if n not in kept_criteria],
        "objective": [n for n in job.slos if n not in kept_slos],
    }
    left_out = [(what, name) for what, names in parts.items() for name in names]
    return replace(
        job, kpis=kept_kpis, rules=kept_rules, criteria=kept_criteria, slos=kept_slos,
        left_out=left_out,
    )  # fmt: skip


def _rests_on(indicator: Kpi, known: Mapping[str, Kpi], dropped: Sequence[str]) -> bool:
    """Whether an indicator asks for a metric that of all KPIs only dropped ones ask for."""

    def metrics(kpis: Iterable[Kpi]) -> set[str]:
        return {m for kpi in kpis for text in kpi.queries().values() for m in metric_names(text)}

    only = metrics(kpi for name, kpi in known.items() if name in dropped)
    only -= metrics(kpi for name, kpi in known.items() if name not in dropped)
    return bool(metrics([indicator]) & only)


def _check_waivers(job: Job) -> None:
    """See that waivers name criteria, and are valid at the window's end."""
    parameters, problems = job.parameters, Problems()
    release = parameters.release
    for waiver in job.waivers:
        with problems.collected():
            if waiver.release not in (release.version, f"{release.name} {release.version}"):
                raise ParametersError(
                    f"{parameters.waivers}: the waiver for '{waiver.criterion}' is of "
                    f"{waiver.release}, not {release.version}; take it out, or have it given for "
                    "this release"
                )
            if waiver.criterion not in job.criteria:
                raise ParametersError(
                    f"{parameters.waivers}: a waiver names the criterion '{waiver.criterion}', "
                    f"which is not in {parameters.criteria}; "
                    f"{nearest(waiver.criterion, job.criteria)}"
                )
            if waiver.until < parameters.window.stop:
                raise ParametersError(
                    f"{parameters.waivers}: the waiver for '{waiver.criterion}' expired at "
                    f"{format_time(waiver.until)}, before the window ended; renew it or take it out"
                )
    problems.refuse()


def _check_names(job: Job, reader: _Reader) -> None:
    """See that every KPI that a rule or criterion names is in the catalogue."""
    parameters = job.parameters
    users = [
        ("drift_rules", ("rules", n, "kpi"), kpi)
        for n, rule in job.rules.items()
        for kpi in rule.kpi
    ]
    users += [("criteria", ("criteria", n, "kpi"), c.kpi) for n, c in job.criteria.items() if c.kpi]
    problems = Problems()
    for service, placed in parameters.services.items():
        for kpi in placed.without or ():
            with problems.collected():
                if kpi not in job.kpis:
                    raise ParametersError(
                        f"{reader.run.name_of(('services',))}: services.{service}.without: the KPI "
                        f"'{kpi}' is not in {parameters.kpis}; {nearest(kpi, job.kpis)}"
                    )
    for file, place, kpi in users:
        with problems.collected():
            if kpi not in job.kpis:
                (layered,) = reader.documents(file)
                raise ParametersError(
                    f"{layered.name_of(place)}: {'.'.join(place)}: the KPI '{kpi}' is not in "
                    f"{parameters.kpis}; {nearest(kpi, job.kpis)}"
                )
    problems.refuse()


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


MODELS: dict[str, type[BaseModel]] = {
    "run": Parameters,
    "kpis": KpiCatalogue,
    "drift_rules": DriftRules,
    "criteria": Criteria,
    "waivers": Waivers,
    "slos": objectives.Document,
    "validation": ValidationTargets,
    "websocket": WebSocketTargets,
    "notify": Channels,
    **{f"evidence_{kind}": model for kind, model in EVIDENCE_MODELS.items()},
}
"""The model of each kind of file that a user writes."""

_DRAFT = {"$schema": "https://json-schema.org/draft/2020-12/schema"}


def schema() -> dict[str, Any]:
    """Return the JSON Schema of every file that a user writes, by the name of its model."""
    return {**_DRAFT, **_schemas()[1]}


def _schemas() -> tuple[dict[Any, dict[str, Any]], dict[str, Any]]:
    """Return the reference of each model, and the definitions that they refer to."""
    return models_json_schema(
        [(model, "serialization") for model in MODELS.values()],
        title="Files that T.A.R.S. GA reads",
    )


def schema_files() -> dict[str, dict[str, Any]]:
    """Return the schema's files by name: all of it, and one for each kind of file.

    Editors take one schema a file, and name it in the file's first line:
    `# yaml-language-server: $schema=schema/kpis.json`.
    """
    references, _ = _schemas()
    found = {"schema.json": schema()}
    for kind, model in MODELS.items():
        reference = references[model, "serialization"]["$ref"]
        found[f"schema/{kind}.json"] = {**_DRAFT, "$ref": f"../schema.json{reference}"}
    return found
