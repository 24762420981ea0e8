"""What a run is asked to do: the YAML files, read strictly and refused in one clear sentence.

A run is described by one file (`parameters/ga_day.yaml`) that names its catalogues and evidence
files. `load` reads them all, checks them against each other and returns a `Job`; whatever is wrong
raises `ParametersError`, whose text names the file, the key and the remedy.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

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
    read_text,
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

    EITHER = (("prometheus", "recording"),)

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

ENTRIES = {
    "kpis": "kpis",
    "drift_rules": "rules",
    "criteria": "criteria",
    "waivers": "waivers",
    "slos": "SLO",
}
"""Key of each catalogue that holds its entries, so that `--set` need not name it."""

_PATH = re.compile(
    rf"({'|'.join(NAMED)}|previous|source\.recording|baseline\.run|evidence\.[^.]+"
    rf"|measured\.({'|'.join(MEASURED)}))(\.\d+)?"
)
"""Places of a run's file that hold a path."""


def _anchored(raw: Any, base: Path, place: str = "") -> Any:
    """Make every relative path of a run's raw YAML, or of a part at a place, relative to `base`."""
    inner = f"{place}." if place else ""
    if isinstance(raw, dict):
        return {key: _anchored(value, base, f"{inner}{key}") for key, value in raw.items()}
    if isinstance(raw, list):
        return [_anchored(value, base, f"{inner}{n}") for n, value in enumerate(raw)]
    return str(base / raw) if isinstance(raw, str) and _PATH.fullmatch(place) else raw


def _assignments(texts: Sequence[str]) -> dict[str, list[Assignment]]:
    """Read `key.path=YAML` assignments, by the file that they reach into; "" is the run's own.

    A key of the run's file that names another file stands for the path, and with more keys behind
    it for what is in that file.
    """
    assigned: dict[str, list[Assignment]] = {}
    problems = Problems()
    for text in texts:
        with problems.collected():
            dotted, equals, value = text.partition("=")
            keys, option = dotted.strip().split("."), f"--set {dotted.strip()}"
            if not equals or not all(keys):
                raise ParametersError(
                    f"--set {text}: is not an assignment; write it like --set window.step=1m"
                )
            depth = 2 if keys[0] == "evidence" else 1 if keys[0] in NAMED else len(keys)
            file, inner = ".".join(keys[:depth]), keys[depth:]
            if not inner:
                file, inner = "", keys
            elif (entries := ENTRIES.get(file)) and inner[0] not in (entries, "alerts", "drop"):
                inner = [entries, *inner]
            # YAML takes a leading > for a block of text; on one line it begins a limit.
            limit = value.strip() if value.lstrip().startswith(">") else None
            assignment = Assignment(option, inner, limit or parse_yaml(value, option))
            assigned.setdefault(file, []).append(assignment)
    problems.refuse()
    return assigned


def _run_file(path: Path, assignments: Sequence[Assignment]) -> Layered:
    """Read a run's file and lay the assignments to it over it."""
    layered = Layered.of(_anchored(read_yaml(path), path.parent), str(path))
    for option, keys, value in assignments:
        source = layered.value.get("source") if isinstance(layered.value, dict) else None
        either = {"prometheus", "recording"}
        if keys[0] == "source" and either & {*keys[1:2]} and isinstance(source, dict):
            # The two exclude each other, so naming one on the command line replaces the other.
            for other in either - {keys[1]}:
                source.pop(other, None)
        layered.assign(Assignment(option, keys, _anchored(value, Path.cwd(), ".".join(keys))))
    if assignments:
        # Where the parts do not fit together, either may be wrong.
        options = ", ".join(dict.fromkeys(assignment.option for assignment in assignments))
        layered.whole = f"{path} (with {options})"
    return layered


class _Reader:
    """The files of a run, each read once with what is laid over it."""

    def __init__(self, path: Path, overrides: Sequence[str]) -> None:
        self._assigned = _assignments(overrides)
        self.run = _run_file(path, self._assigned.get("", ()))
        self.parameters = check(Parameters, self.run.value, self.run.name_of)
        self._layers: dict[str, Layered] = {}
        given = {key: getattr(self.parameters, key) for key in NAMED}
        self.files: dict[str, Files] = {key: files for key, files in given.items() if files}
        self.files |= {f"evidence.{k}": Files([f]) for k, f in self.parameters.evidence.items()}
        if unknown := self._assigned.keys() - {"", *self.files}:
            key = min(unknown)
            raise ParametersError(
                f"{self._assigned[key][0].option}: the run names no file for '{key}' to reach "
                f"into; add the key to {path}"
            )

    def layered(self, key: str) -> Layered:
        """Return the files that a key names, laid over each other, and what is assigned to them.

        What the files drop is united.
        """
        if key in self._layers:
            return self._layers[key]
        problems, layers = Problems(), []
        for file in self.files[key]:
            with problems.collected():
                raw = objectives.read(file) if key == "slos" else read_yaml(file)
                layers.append((raw, str(file)))
        problems.refuse()
        layered = Layered.of(*layers[0])
        for raw, name in layers[1:]:
            layered.lay(raw, name)
        lists = [raw["drop"] for raw, _ in layers if isinstance(raw, dict) and "drop" in raw]
        if len(layers) > 1 and lists and all(isinstance(one, list) for one in lists):
            layered.value["drop"] = list(dict.fromkeys(itertools.chain(*lists)))
        for assignment in self._assigned.get(key, ()):
            with problems.collected():
                layered.assign(assignment, entries=ENTRIES.get(key, ""))
        problems.refuse()
        self._layers[key] = layered
        return layered

    def given(self, key: str, model: type[M]) -> M | None:
        """Read and check a file; None if the run names none."""
        if key not in self.files:
            return None
        layered = self.layered(key)
        return check(model, layered.value, layered.name_of)

    def texts(self) -> dict[str, str]:
        """Return the effective text of each file, by the name that it gets in the run's folder.

        A file that nothing was laid over is kept to the letter, comments and all.
        """
        texts = {}
        for key, files in self.files.items():
            if len(files) == 1 and key not in self._assigned:
                text = read_text(files[0])
            elif key == "slos":
                kinds = self.layered(key).value.values()
                text = "---\n".join(text_of(one) for kind in kinds for one in kind.values())
            else:
                text = text_of(self.layered(key).value)
            texts[f"{key.replace('.', '_')}.yaml"] = text
        return texts


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


def effective(path: Path | str, overrides: Sequence[str] = ()) -> dict[str, Layered]:
    """Return what a run's files say with all that is laid over them, by key; "" is the run's own.

    Raises
    ------
    ParametersError
        If a file cannot be read, or the run's own is wrong.
    """
    reader, problems, found = _Reader(Path(path), overrides), Problems(), {}
    for key in reader.files:
        with problems.collected():
            found[key] = reader.layered(key)
    problems.refuse()
    return {"": reader.run, **found}


# --- the job -------------------------------------------------------------------------------------


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
        raw["measured"] = {key: raw["measured"][key] for key in ("within", "min_watch")}
        raw["evidence"] = {kind: f"evidence_{kind}.yaml" for kind in self.evidence}
        if self.parameters.previous:
            raw["previous"] = PREVIOUS
        for name, text in {**self.texts, "run.yaml": text_of(raw)}.items():
            (folder / name).write_text(text, encoding="utf-8")


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
    reader, problems = _Reader(Path(path), overrides), Problems()
    parameters = reader.parameters
    now = datetime.now(UTC).timestamp() if now is None else now
    problems.add(*_from_the_future(reader, max(now, parameters.window.stop) if running else now))

    def given(key: str, model: type[M]) -> M | None:
        with problems.collected():
            return reader.given(key, model)
        return None

    catalogue, rules = given("kpis", KpiCatalogue), given("drift_rules", DriftRules)
    criteria, waivers = given("criteria", Criteria), given("waivers", Waivers)
    slos: dict[str, Objective] = {}
    if (documents := given("slos", objectives.Documents)) and catalogue:
        with problems.collected():
            slos = objectives.objectives_of(documents, str(parameters.slos), catalogue.kpis)
    evidence = {
        kind: given(f"evidence.{kind}", EVIDENCE_MODELS[kind]) for kind in parameters.evidence
    }
    validation = given("validation", ValidationTargets)
    websocket, channels = given("websocket", WebSocketTargets), given("notify", Channels)
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
    problems.add(*_unknown_kpis(job, reader))
    problems.refuse()
    # What is dropped needs no objective, so it goes first.
    job = _without(job, [*parameters.drop, *catalogue.drop], rules.drop, criteria.drop)
    job = replace(job, criteria={name: _aimed(job, name) for name in job.criteria})
    problems.add(*_bad_waivers(job), *_bad_slices(job))
    problems.refuse()
    return job


# Each of these yields a sentence a problem.


def _from_the_future(reader: _Reader, now: float) -> Iterator[str]:
    parameters = reader.parameters
    baselines = [("baseline", interval) for interval in parameters.baseline_intervals()]
    for key, interval in [("window", parameters.window), *baselines]:
        if interval.stop > now:
            yield (
                f"{reader.run.name_of((key,))}: {key}: it ends at {format_time(interval.stop)}, "
                f"which is in the future; wait for its end or choose an earlier {key}"
            )


def _unknown_kpis(job: Job, reader: _Reader) -> Iterator[str]:
    """Name each KPI that a service, rule or criterion names and the catalogue lacks."""
    run, rules, criteria = reader.run, reader.layered("drift_rules"), reader.layered("criteria")
    users = [
        (run.name_of(("services",)), f"services.{service}.without", kpi)
        for service, placed in job.parameters.services.items()
        for kpi in placed.without or ()
    ]
    users += [
        (rules.name_of(("rules", name, "kpi")), f"rules.{name}.kpi", kpi)
        for name, rule in job.rules.items()
        for kpi in rule.kpi
    ]
    users += [
        (criteria.name_of(("criteria", name, "kpi")), f"criteria.{name}.kpi", criterion.kpi)
        for name, criterion in job.criteria.items()
        if criterion.kpi
    ]
    for file, place, kpi in users:
        if kpi not in job.kpis:
            yield (
                f"{file}: {place}: the KPI '{kpi}' is not in {job.parameters.kpis}; "
                f"{nearest(kpi, job.kpis)}"
            )


def _bad_waivers(job: Job) -> Iterator[str]:
    parameters = job.parameters
    release = parameters.release
    for waiver in job.waivers:
        head = f"{parameters.waivers}: the waiver for '{waiver.criterion}'"
        if waiver.release not in (release.version, f"{release.name} {release.version}"):
            yield (
                f"{head} is of {waiver.release}, not {release.version}; take it out, or have it "
                "given for this release"
            )
        elif waiver.criterion not in job.criteria:
            yield (
                f"{parameters.waivers}: a waiver names the criterion '{waiver.criterion}', which "
                f"is not in {parameters.criteria}; {nearest(waiver.criterion, job.criteria)}"
            )
        elif waiver.until < parameters.window.stop:
            yield (
                f"{head} expired at {format_time(waiver.until)}, before the window ended; renew "
                "it or take it out"
            )


def _bad_slices(job: Job) -> Iterator[str]:
    """See that the objectives' time slices are whole steps, and the window whole slices."""
    window = job.parameters.window
    for name, objective in job.slos.items():
        length = objective.slice_seconds
        if length is not None and (length % window.step or window.seconds % length):
            yield (
                f"{job.parameters.slos}: {name}: its time slice of {format_duration(length)} is "
                f"not whole steps of {format_duration(window.step)}, or does not divide the window "
                f"of {format_duration(window.seconds)}; choose a slice that does both"
            )


def _aimed(job: Job, name: str) -> Criterion:
    """Give a criterion that refers to an objective its target."""
    criterion, place = job.criteria[name], f"{job.parameters.criteria}: criteria.{name}"
    kpi = job.kpis.get(str(criterion.kpi))
    if criterion.objective is not None:
        objective = job.slos.get(criterion.objective)
        if objective is None:
            known = ", ".join(job.slos) or "the run names no file of them under 'slos'"
            raise ParametersError(
                f"{place}.objective: there is no objective '{criterion.objective}' ({known}); "
                "correct it, or give a 'target'"
            )
        target = _target_of(objective, kpi)
        if target is None:
            raise ParametersError(
                f"{place}.objective: '{criterion.objective}' is not about the KPI "
                f"'{criterion.kpi}'; correct one of them, or give a 'target'"
            )
        try:
            criterion = criterion.aimed(target)
        except ValueError as error:
            raise ParametersError(f"{place}: {error}") from None
    if kpi and kpi.kind == "ratio" and not kpi.unbounded and _never_fails(criterion.limit):
        raise ParametersError(
            f"{place}.target: '{criterion.limit}' cannot fail, as a share lies between 0 and 1; "
            "give one that can"
        )
    return criterion


def _target_of(objective: Objective, kpi: Kpi | None) -> Limit | None:
    """Target of a KPI that says what an objective says; None if they speak of different things."""
    if kpi is None or objective.slice_seconds:
        return None
    asked = (objective.part, objective.total)
    if kpi.kind == "ratio" and asked == (kpi.numerator, kpi.denominator):
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
    """Whether no share can break a limit: one that fails, fails at 0 or at 1."""
    return limit.operator != "==" and limit.holds(0) and limit.holds(1)


# --- what is left out ----------------------------------------------------------------------------


def _without(job: Job, kpis: Sequence[str], rules: Sequence[str], criteria: Sequence[str]) -> Job:
    """Take out what the files drop, with all that rests on it, and say so in the job."""
    files, problems = job.parameters, Problems()
    given: list[tuple[Sequence[str], Iterable[str], Files, str]] = [
        (kpis, job.kpis, files.kpis, "KPI"),
        (rules, job.rules, files.drift_rules, "drift rule"),
        (criteria, job.criteria, files.criteria, "criterion"),
    ]
    for dropped, known, file, what in given:
        problems.add(*(
            f"{file}: drop: there is no {what} named '{name}'; {nearest(name, known)}"
            for name in dropped
            if name not in known
        ))  # fmt: skip
    problems.refuse()
    kept = replace(
        job,
        kpis={name: kpi for name, kpi in job.kpis.items() if name not in kpis},
        rules={
            name: rule.model_copy(update={"kpi": [kpi for kpi in rule.kpi if kpi not in kpis]})
            for name, rule in job.rules.items()
            if name not in rules and not set(rule.kpi) <= set(kpis)
        },
        criteria={
            name: criterion
            for name, criterion in job.criteria.items()
            if name not in criteria and criterion.kpi not in kpis
        },
        slos={
            name: objective
            for name, objective in job.slos.items()
            if not _rests_on(objective.kpi, job.kpis, kpis)
        },
    )
    if not kept.kpis or not kept.rules or not any(c.mandatory for c in kept.criteria.values()):
        raise ParametersError(
            f"{files.kpis}: drop: leaves no KPI, no drift rule or no mandatory criterion, so "
            "nothing could be decided; keep one of each"
        )
    parts = {"KPI": "kpis", "drift rule": "rules", "criterion": "criteria", "objective": "slos"}
    left_out = [
        (what, name)
        for what, key in parts.items()
        for name in getattr(job, key)
        if name not in getattr(kept, key)
    ]
    return replace(kept, left_out=left_out)


def _rests_on(indicator: Kpi, known: Mapping[str, Kpi], dropped: Sequence[str]) -> bool:
    """Whether an indicator asks for a metric that of all KPIs only dropped ones ask for."""

    def metrics(kpis: Iterable[Kpi]) -> set[str]:
        return {m for kpi in kpis for text in kpi.queries().values() for m in metric_names(text)}

    only = metrics(kpi for name, kpi in known.items() if name in dropped)
    only -= metrics(kpi for name, kpi in known.items() if name not in dropped)
    return bool(metrics([indicator]) & only)


# --- the schema ----------------------------------------------------------------------------------

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


def schema_files() -> dict[str, dict[str, Any]]:
    """Return the JSON Schemas by file name: `schema.json` has all of them, by model.

    Editors take one schema a file, and name it in the file's first line:
    `# yaml-language-server: $schema=schema/kpis.json`.
    """
    references, definitions = models_json_schema(
        [(model, "serialization") for model in MODELS.values()],
        title="Files that T.A.R.S. GA reads",
    )
    files = {"schema.json": {**_DRAFT, **definitions}}
    for kind, model in MODELS.items():
        reference = references[model, "serialization"]["$ref"]
        files[f"schema/{kind}.json"] = {**_DRAFT, "$ref": f"../schema.json{reference}"}
    return files


def schema() -> dict[str, Any]:
    """Return the JSON Schema of every file that a user writes, by the name of its model."""
    return schema_files()["schema.json"]
