"""A check of the running system: a test function that returns what it measured.

`@check(…)` declares what is asked where and its limit, so that a dry run can list a check before
anything is asked; the function asks. `run_check` calls it, within a time that holds even where a
driver hangs, and judges. Whatever was not measured is `no_data` with its cause: no check passes
without a finite number.
"""

from __future__ import annotations

import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, Self, TypeVar, get_args
from urllib.parse import quote, unquote, urlsplit

from tars_ga_lib import extras
from tars_ga_lib.grammar import Limit, ParametersError, Verdict, parse_limit
from tars_ga_lib.parameters import Job
from tars_ga_lib.run import Run
from tars_ga_lib.targets import SPECIFIED, ValidationTargets

Group = Literal["replication", "kpi", "database", "grafana", "agent_memory"]
GROUPS: tuple[Group, ...] = get_args(Group)

Cause = Literal[
    "unreachable", "unauthorised", "timed_out", "not_configured", "refused", "no_rows", "error"
]

SECTIONS = {
    "kpis": "KPIs",
    "postgres": "PostgreSQL",
    "redis": "Redis",
    "chroma": "Chroma",
    "grafana": "Grafana",
    "agents": "Agents",
}
"""The validation file's sections, and how they are called before a reader."""


class NotMeasured(Exception):  # noqa: N818
    """Nothing was measured: why, as one of the causes and as one sentence without secrets."""

    def __init__(self, cause: Cause, reason: str) -> None:
        super().__init__(reason)
        self.cause: Cause = cause
        self.reason = reason


@dataclass(frozen=True)
class Reading:
    """What a check measured, in SI units.

    `details` says in a sentence what the value rests on: which pod, which keys. `doubt` is a reason
    to warn although the value keeps its limit. `interval` are the ends of the confidence interval
    of an estimate: the check fails only if all of it breaks the limit, and warns where the estimate
    alone does.
    """

    value: float
    details: str = ""
    doubt: str = ""
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Scope:
    """What one validation is about.

    Parameters
    ----------
    job
        The run's job, which names the release and the window.
    targets
        Its validation file.
    run
        The run whose recording tells the KPIs; without one they are not known.
    prometheus
        URL of the server that tells the agents' memory, where neither the targets nor the job's
        source name one.
    environ
        Environment variables, which hold the secrets.
    """

    job: Job
    targets: ValidationTargets
    run: Run | None = None
    prometheus: str | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @classmethod
    def of(
        cls, job: Job, run: Run | None, prometheus: str | None, environ: Mapping[str, str]
    ) -> Scope:
        """Return the scope of a job.

        Raises
        ------
        ParametersError
            If it names no validation file, or the run is of another release.
        """
        if job.validation is None:
            raise ParametersError(
                "validation: the run's file names no validation file; add "
                "'validation: validation.yaml'"
            )
        wanted = job.parameters.release.version
        if run is not None and (has := run.job.parameters.release.version) != wanted:
            raise ParametersError(
                f"{run.folder}: is a run of {has}, and the parameters are about {wanted}; name a "
                "run of it"
            )
        return cls(job, job.validation, run, prometheus, environ)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a check is made.

    `address` is shown, and holds no credentials. `parts` tell the place apart in the check's id.
    `secrets` name the environment variables whose values must never be repeated. `settings` is its
    section of the validation file, and `of` what a check asks of it: a table, a query.
    """

    region: str | None = None
    address: str
    parts: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    settings: Any = None
    of: Any = None

    def asked(self, of: Any, *parts: str) -> Self:
        """Return it as the place of a check of something that it has."""
        return replace(self, of=of, parts=(*self.parts, *parts))

    def limits(self, key: str) -> tuple[Limit, Limit | None]:
        """Return the limit that the validation file has under a key, and beyond what it warns."""
        holder = self.of if hasattr(self.of, key) else self.settings
        warning = "warning" if key == "limit" else f"{key}_warning"
        return getattr(holder, key), getattr(holder, warning, None)


@dataclass(frozen=True)
class Check:
    """One check at one place. Making it connects nowhere; `read` connects, when it is called.

    `id` has parts of letters, digits, `_` and `-`, joined by dots. `measure` is one of
    `targets.MEASURES`, for criteria, or None where no criterion can ask for it. Checks of one
    `target` run one after another, those of different targets side by side. `query` is what is
    asked, verbatim. `read` raises `NotMeasured` where it cannot measure.
    """

    id: str
    title: str
    group: Group
    measure: str | None
    region: str | None
    target: str
    query: str
    unit: str
    limit: Limit
    warning: Limit | None
    read: Callable[[], Reading]
    place: Place

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w-]+(\.[\w-]+)*", self.id):
            raise ValueError(f"{self.id!r} is not an id of a check")
        if self.measure is not None and self.measure not in SPECIFIED:
            raise ValueError(f"{self.id}: {self.measure!r} is not a measure")

    def facts(self) -> dict[str, Any]:
        """Return what is known of it before it is made, as `validation_results.json` has it."""
        known = {key: value for key, value in vars(self).items() if key not in ("read", "place")}
        warning = str(self.warning) if self.warning else None
        return known | {"limit": str(self.limit), "warning": warning}


# --- declaring -----------------------------------------------------------------------------------

Function = TypeVar("Function", bound=Callable[..., Reading])


@dataclass(frozen=True, kw_only=True)
class check:  # noqa: N801
    """Make a test function a check: it returns a `Reading`, or raises `NotMeasured`.

    Parameters
    ----------
    name
        Beginning of the id, as `postgres.replication_lag`; the place's parts follow.
    title
        May hold what the place has, as `{at.region}`.
    query
        What is asked, or what returns it for a place.
    limit
        Such as `< 0.5`, or the key under which the validation file has it.
    measure
        As in `Check`. A check with one must not be missed: where there is no place for it, it
        stands among the results all the same, as not configured, unless it is `optional`.
    unit
        That of the measure if not given.
    target
        Where it is asked, of a function without places.
    at
        Returns the places; the function takes one, as `at`, and is a check at each of them.
    """

    name: str
    title: str
    group: Group
    limit: str
    query: str | Callable[[Any], str] = ""
    measure: str | None = None
    unit: str = ""
    target: str = ""
    at: Callable[[Scope], Sequence[Place]] | None = None
    optional: bool = False

    def __call__(self, function: Function) -> Function:
        """Declare the function."""
        vars(function)["check"] = self
        return function

    def made(self, function: Callable[..., Reading], scope: Scope) -> list[Check]:
        """Return the checks that a function makes; connects nowhere."""
        if self.at is None:
            return [self._made(Place(address=self.target), function)]
        system = self.name.partition(".")[0]
        section = "kpis" if system == "kpi" else system
        if section in scope.targets.left_out:
            return []
        places = self.at(scope)
        if not places and not self.optional and (self.measure or section == "kpis"):
            return [self._missing(system, section, scope.targets)]
        return [self._made(at, lambda at=at: function(at)) for at in places]  # type: ignore[misc]

    def _made(self, at: Any, read: Callable[[], Reading]) -> Check:
        literal = self.limit[0] in "<>="
        limit, warning = (parse_limit(self.limit), None) if literal else at.limits(self.limit)
        unit = self.unit or (SPECIFIED[self.measure].unit if self.measure else "bool")
        return self._check(
            at,
            read,
            id=".".join((self.name, *map(part, at.parts))),
            title=self.title.format(at=at),
            query=self.query if isinstance(self.query, str) else self.query(at),
            unit=unit.format(at=at),
            limit=limit,
            warning=warning,
        )

    def _missing(self, system: str, section: str, targets: ValidationTargets) -> Check:
        """Return a check of what no section configures."""
        reason = f"the section '{section}' names nothing that it could be measured on"
        if getattr(targets, section) is None:
            reason = (
                f"the validation file has no section '{section}'; add it, or say under "
                "'left_out' why this system has none"
            )

        def read() -> Reading:
            raise NotMeasured("not_configured", reason)

        unit, limit = SPECIFIED[self.measure] if self.measure else ("ratio", "== 1")
        return self._check(
            Place(address="not configured"),
            read,
            id=".".join(filter(None, (system, self.measure, "not_configured"))),
            title=f"{SECTIONS[section]}: {(self.measure or 'thresholds').replace('_', ' ')}",
            query="",
            unit=unit,
            limit=parse_limit(limit),
            warning=None,
        )

    def _check(self, at: Place, read: Callable[[], Reading], **facts: Any) -> Check:
        return Check(
            group=self.group,
            measure=self.measure,
            region=at.region,
            target=at.address,
            place=at,
            read=read,
            **facts,
        )


def checks_of(function: Any, scope: Scope) -> list[Check]:
    """Return the checks that a test function makes; none if it was not declared to be one."""
    declared = getattr(function, "check", None)
    return declared.made(function, scope) if isinstance(declared, check) else []


def part(text: str) -> str:
    """Write a name so that it can be a part of a check's id."""
    return re.sub(r"[^\w-]+", "_", text).strip("_") or "_"


# --- running -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """One check after it was run.

    `value` is None where nothing was measured; then `cause` says in a word why, else it is None.
    `interval` are the ends of an estimate's confidence interval.
    """

    check: Check
    verdict: Verdict
    value: float | None
    cause: Cause | None
    reason: str
    took_seconds: float
    measured_at: str
    interval: tuple[float, float] | None = None

    def facts(self) -> dict[str, Any]:
        """Return the outcome as `validation_results.json` has it."""
        return self.check.facts() | {
            "value": self.value,
            "interval": list(self.interval) if self.interval else None,
            "verdict": self.verdict,
            "cause": self.cause,
            "reason": self.reason,
            "measured_at": self.measured_at,
            "took_seconds": self.took_seconds,
        }


def not_measured(check: Check, cause: Cause, reason: str, took: float = 0.0) -> Outcome:
    """Return the outcome of a check that measured nothing."""
    reason = clean(reason, check.place.secrets)
    return Outcome(check, "no_data", None, cause, reason, round(took, 6), now())


def run_check(check: Check, timeout: float) -> Outcome:
    """Measure and judge, within `timeout` seconds whatever the check does.

    A read that does not come back is left to its thread, which ends with the process.
    """
    if timeout <= 0:
        return not_measured(check, "timed_out", "not asked: the time of the whole suite was up")
    answer: list[Any] = []

    def read() -> None:
        try:
            answer.append(check.read())
        except BaseException as error:
            answer.append(error)

    started = time.monotonic()
    thread = threading.Thread(target=read, name=check.id, daemon=True)
    thread.start()
    thread.join(timeout)
    took = time.monotonic() - started
    if not answer:
        return not_measured(check, "timed_out", f"no answer within {timeout:.3g} s", took)
    (result,) = answer
    if isinstance(result, Reading):
        return _judge(check, result, took)
    if isinstance(result, NotMeasured):
        return not_measured(check, result.cause, result.reason, took)
    if isinstance(result, ImportError) and (sentence := extras.why(result)):
        return not_measured(check, "not_configured", sentence, took)
    if isinstance(result, BaseException):
        return not_measured(check, "error", f"{type(result).__name__}: {result}", took)
    return not_measured(check, "error", "nothing was measured: the check returned no Reading", took)


def _judge(check: Check, reading: Reading, took: float) -> Outcome:
    """Compare what was read with the check's limits."""
    try:
        value = float(reading.value)
        ends = reading.interval or (value, value)
        finite = all(map(math.isfinite, (value, *ends)))
    except (TypeError, ValueError):
        finite = False
    if not finite:
        return not_measured(check, "error", "what was measured is not a finite number", took)
    verdict: Verdict = "pass"
    if not check.limit.holds(value):
        verdict = "warn" if any(check.limit.holds(end) for end in ends) else "fail"
    elif reading.doubt or (check.warning and not check.warning.holds(value)):
        verdict = "warn"
    reason = "; ".join(text for text in (reading.details, reading.doubt) if text)
    reason = clean(reason, check.place.secrets)
    return Outcome(check, verdict, value, None, reason, round(took, 6), now(), reading.interval)


def now() -> str:
    """Return the time, in UTC and to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Runner:
    """Runs checks: those of one target one after another, those of different targets side by side.

    So no measurement is disturbed by another of the same system, and a target that hangs holds up
    nothing but itself. What is computed here from samples comes last, or its work would be in the
    times that the others measure; it does not wait longer than half the time. All ends within
    `deadline` seconds of the runner's making, in threads that end with the process.
    """

    def __init__(self, checks: Sequence[Check], timeout: float, deadline: float) -> None:
        self._timeout, self._deadline = timeout, deadline
        self._end = time.monotonic() + deadline
        self._outcomes: dict[str, Future[Outcome]] = {check.id: Future() for check in checks}
        lanes: dict[str, list[Check]] = {}
        for check in checks:
            lanes.setdefault(check.target, []).append(check)
        computed = [lane for lane in lanes.values() if lane[0].group in ("kpi", "agent_memory")]
        timed = [self._start(lane, []) for lane in lanes.values() if lane not in computed]
        for lane in computed:
            self._start(lane, timed)

    def _start(self, lane: list[Check], after: list[threading.Thread]) -> threading.Thread:
        thread = threading.Thread(target=self._run, args=(lane, after), daemon=True)
        thread.start()
        return thread

    def left(self) -> float:
        """Return the seconds that are left."""
        return self._end - time.monotonic()

    def _run(self, lane: list[Check], after: list[threading.Thread]) -> None:
        for thread in after:
            thread.join(max(0.0, self.left() - self._deadline / 2))
        hung = 0  # checks in a row that got no answer
        for check in lane:
            if hung < 2:
                outcome = run_check(check, min(self._timeout, self.left()))
            else:
                reason = "not asked: the checks of this target before it got no answer in time"
                outcome = not_measured(check, "timed_out", reason)
            hung = hung + 1 if outcome.cause == "timed_out" else 0
            self._outcomes[check.id].set_result(outcome)

    def outcome(self, check: Check) -> Outcome:
        """Return the outcome of a check, when it is known or the time is up."""
        try:
            return self._outcomes[check.id].result(max(0.0, self.left()) + 1)
        except TimeoutError:
            return not_measured(check, "timed_out", "the time of the whole suite was up")


# --- secrets -----------------------------------------------------------------------------------

_OURS = ("TARS_GA_BEARER_TOKEN", "TARS_GA_PASSWORD")
_IN_URL = re.compile(r"(\w+://)[^\s/@]*@")
_NAMED = re.compile(r"(?i)\b(password|passwd|pwd|token|secret)(\s*[=:]\s*)('[^']*'|\"[^\"]*\"|\S+)")


def clean(text: str, names: Iterable[str] = (), environ: Mapping[str, str] = os.environ) -> str:
    """Take secrets out of a text and make it one line: a driver may quote what it was given.

    Parameters
    ----------
    names
        Environment variables that hold secrets: passwords, tokens, or connection strings.
    """
    for secret in sorted(_values(names, environ), key=len, reverse=True):
        text = text.replace(secret, "…")
    text = _NAMED.sub(r"\1\2…", _IN_URL.sub(r"\1…@", text))
    return " ".join(text.split())


def _values(names: Iterable[str], environ: Mapping[str, str]) -> set[str]:
    """Return what the variables hold, in each form in which it could be repeated."""
    values = set()
    for held in (environ.get(name, "") for name in {*names, *_OURS}):
        try:
            password = urlsplit(held).password or ""
        except ValueError:
            password = ""
        values |= {held, password, unquote(password)}
        values |= {match[3].strip("'\"") for match in _NAMED.finditer(held)}
    values |= {quote(each, safe="") for each in values}
    return {each for each in values if each}
