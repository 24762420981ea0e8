"""What was measured on the running system: results of the validation and of WebSocket sessions.

Unlike all else that a run leaves, these are not derived from its recording: like it, they are
measured once, kept as they were measured, and taken from the package when it is replayed. They
come from the run's own notebook `04_validation`, from files that the parameters name, or from the
run whose recording is replayed.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tars_ga_lib import sanitise, strict
from tars_ga_lib.evidence import verify
from tars_ga_lib.grammar import ParametersError, check, format_duration, parse_limit
from tars_ga_lib.parameters import MEASURED, Job
from tars_ga_lib.recording import write_bytes
from tars_ga_lib.results_files import MODELS
from tars_ga_lib.targets import SPECIFIED

SCHEMAS = {"validation": "tars-ga/validation/1", "websocket": "tars-ga/websocket/1"}

BESIDE = {
    "validation": ("validation_results.xml", "validation_results.html"),
    "websocket": (),
}
"""Files that tell the same to others, and go where the results go."""

_COMMANDS = {"validation": "tars-ga validate", "websocket": "tars-ga websocket"}

UNITS = {name: measure.unit for name, measure in SPECIFIED.items()}
"""Unit of each of `targets.MEASURES`."""


@dataclass(frozen=True)
class Results:
    """One kind of results: what was measured, or why it does not count.

    `document` is the content of the file, None where there is none; with `problem`, it says nothing
    of this run. `digest` is the SHA-256 of the file.
    """

    kind: str
    document: dict[str, Any] | None = None
    digest: str = ""
    problem: str = ""

    @property
    def counted(self) -> dict[str, Any] | None:
        """The content, where it speaks of this run."""
        return None if self.problem else self.document

    def facts(self) -> dict[str, Any]:
        """Return what `certification_metadata.json` keeps of them."""
        document = self.document or {}
        return {
            "sha256": self.digest or None,
            "started_at": document.get("started_at"),
            "ended_at": document.get("ended_at"),
            "problem": self.problem or None,
        }


def read(file: Path, kind: str) -> dict[str, Any]:
    """Read a file of results.

    Raises
    ------
    ParametersError
        If it is missing, or holds something else.
    """
    return _parse(file, kind)[0]


def _parse(file: Path, kind: str) -> tuple[dict[str, Any], str]:
    remedy = f"name what '{_COMMANDS[kind]}' wrote"
    try:
        content = file.read_bytes()
        document = sanitise.tree(strict.loads(content))
    except FileNotFoundError:
        raise ParametersError(f"{file}: there is no such file; {remedy}") from None
    except (OSError, ValueError) as error:
        raise ParametersError(f"{file}: is not JSON ({error}); {remedy}") from None
    found = document.get("schema") if isinstance(document, dict) else None
    if found != SCHEMAS[kind]:
        raise ParametersError(f"{file}: is no {SCHEMAS[kind]}; {remedy}")
    try:
        check(MODELS[kind], document, str(file))
    except ParametersError as error:
        cause = str(error).removeprefix(f"{file}: ")
        raise ParametersError(f"{file}: is not whole ({cause}); {remedy}") from None
    return document, "sha256:" + hashlib.sha256(content).hexdigest()


def _time(text: str) -> float:
    """Epoch seconds of an ISO time."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return moment.timestamp()


def load(job: Job, folder: Path) -> dict[str, Results]:
    """Return what a run's folder holds, by kind, and why it does not count where it does not.

    Raises
    ------
    ParametersError
        If a file of it is not what it should be.
    """
    found = {}
    for kind, name in MEASURED.items():
        file = folder / name
        if not file.is_file():
            found[kind] = Results(kind, problem=f"no {kind} results were given or measured")
            continue
        document, digest = _parse(file, kind)
        found[kind] = Results(kind, document, digest, _doubt(document, kind, job))
    return found


def _doubt(document: Mapping[str, Any], kind: str, job: Job) -> str:
    """Return why results do not speak of this run; empty if they do."""
    parameters, release = job.parameters, document["release"]
    for key, wanted in parameters.release.model_dump(exclude_none=True).items():
        # Results of a release whose digest nobody knew speak of it by name and version.
        if release.get(key, wanted if key == "digest" else None) != wanted:
            return f"the {kind} results are about {release.get(key)}, not {wanted}"
    if document.get("simulated") and not parameters.simulated:
        return f"the {kind} results say that they are simulated, and this run is not"
    began, ended = _time(document["started_at"]), _time(document["ended_at"])
    if ended <= parameters.window.start:
        return f"the {kind} results were measured before the window began"
    if began > parameters.window.stop + parameters.measured.within:
        within = format_duration(parameters.measured.within)
        return f"the {kind} results were measured more than {within} after the window ended"
    if ended < began:
        return f"the {kind} results ended before they began"
    return (_doubt_of_checks if kind == "validation" else _doubt_of_sessions)(document, job)


def _doubt_of_checks(document: Mapping[str, Any], job: Job) -> str:
    checks = document["checks"]
    began, ended = _time(document["started_at"]), _time(document["ended_at"])
    for one in checks:
        name, value = one["id"], one["value"]
        low = -float("inf") if one["measure"] == "agent_memory_growth" else 0
        high = 1 if one["unit"] in ("ratio", "bool") else float("inf")
        values = [value, *(one.get("interval") or ())]
        if any(v is not None and not low <= v <= high for v in values):
            return f"the validation's check {name} has the impossible value {value:g}"
        if one["unit"] != UNITS.get(one["measure"], one["unit"]):
            return f"the validation's check {name} is in the unit {one['unit']}"
        fails = one["verdict"] == "fail" and not one.get("interval") and value is not None
        if fails and parse_limit(one["limit"]).holds(value):
            return f"the validation's check {name} fails with a value that holds its limit"
        at = one.get("measured_at")
        if at is not None and not began - 1 <= _time(at) <= ended + 1:
            return f"the validation's check {name} was measured at another time than the others"
    regions = {one["region"] for one in checks}
    missing = [name for name in job.parameters.regions if name not in regions]
    if missing and regions != {None}:  # those of a dashboard belong to no region
        return f"the validation results have no check of {', '.join(missing)}"
    return ""


def _doubt_of_sessions(document: Mapping[str, Any], job: Job) -> str:
    given, least = job.websocket, job.parameters.measured.min_watch
    wanted = list(given.endpoints) if given else job.parameters.regions
    names = [session["name"] for session in document["endpoints"]]
    if missing := [name for name in wanted if name not in names]:
        return f"the WebSocket results have no session of {', '.join(missing)}"
    if len(set(names)) < len(names):
        return "the WebSocket results have two sessions of one name"
    least = min(least, given.duration) if given else least
    asked = document["asked_seconds"]
    passed = _time(document["ended_at"]) - _time(document["started_at"])
    if document["watched_seconds"] > passed + 2:
        return "the WebSocket sessions were watched for longer than passed"
    if asked < least:
        return (
            f"the WebSocket sessions were watched for {asked:g} s, and {format_duration(least)} "
            "are needed (measured.min_watch)"
        )
    for session in document["endpoints"]:
        held = session["connected_seconds"], session["observed_seconds"]
        if not 0 <= held[0] <= held[1] * (1 + 1e-6) or held[1] > 1.1 * asked + 60:
            return f"the WebSocket results of {session['name']} have impossible times"
        for figure, value in session["figures"].items():
            share = figure in ("uptime", "reconnect_success_rate")
            if value is not None and (value < 0 or (share and value > 1)):
                return (
                    f"the WebSocket results of {session['name']} have the impossible {figure} "
                    f"{value:g}"
                )
        uptime = session["figures"]["uptime"]
        if uptime is not None and abs(uptime * held[1] - held[0]) > 1e-3 * held[1]:
            return f"the uptime of {session['name']} is not that of its times"
    return ""


def bring(job: Job, folder: Path) -> None:
    """Copy the results that a job is given into a run's folder.

    Those that its parameters name come first, else those of the run whose recording it replays.

    Raises
    ------
    ParametersError
        If a file that is named is missing, or is none of that kind; nothing is copied then.
    """
    with _sources(job) as sources:
        contents: dict[str, bytes] = {}
        for kind, file in sources.items():
            _parse(file, kind)
            contents[MEASURED[kind]] = file.read_bytes()
            for name in BESIDE[kind]:
                if (beside := file.with_name(name)).is_file():
                    contents[name] = beside.read_bytes()
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_bytes(folder / name, content)


@contextlib.contextmanager
def _sources(job: Job) -> Iterator[dict[str, Path]]:
    """Give the files that a job's results come from, by kind."""
    parameters = job.parameters
    named = {kind: path for kind in MEASURED if (path := getattr(parameters.measured, kind))}
    source = parameters.source.recording
    with contextlib.ExitStack() as stack:
        if source is not None and named.keys() != MEASURED.keys():
            if source.is_file():
                source = stack.enter_context(verify.unpacked(source))
            for kind, name in MEASURED.items():
                places: Sequence[Path] = (source, source.parent, source / "artifacts")
                held = (place / name for place in places if _is_run(place))
                if found := next((file for file in held if file.is_file()), None):
                    named.setdefault(kind, found)
        yield named


def _is_run(folder: Path) -> bool:
    return (folder / "parameters" / "run.yaml").is_file()
