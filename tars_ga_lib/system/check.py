"""One check of the running system: what is asked where, its limit, and how it is run.

A check knows all that a reader needs before anything is asked, so that a dry run can list it.
`run_check` asks, within a time that holds even where a driver hangs, and judges. Whatever was not
measured is `no_data` with its cause: no check passes without a finite number.
"""

from __future__ import annotations

import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args
from urllib.parse import quote, unquote, urlsplit

from tars_ga_lib import extras
from tars_ga_lib.grammar import Limit, ParametersError, Verdict
from tars_ga_lib.parameters import Job
from tars_ga_lib.targets import MEASURES, ValidationTargets

Group = Literal["replication", "kpi", "database", "grafana", "agent_memory"]
GROUPS: tuple[Group, ...] = get_args(Group)

Cause = Literal[
    "unreachable", "unauthorised", "timed_out", "not_configured", "refused", "no_rows", "error"
]


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

    value: float | None
    details: str = ""
    doubt: str = ""
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Check:
    """One check. Building it connects nowhere; `read` connects, when it is called.

    Parameters
    ----------
    id
        Its parts joined by dots, of letters, digits, `_` and `-`:
        `postgres.mission_query_time.us-east-1.by_status`.
    measure
        One of `targets.MEASURES`, for criteria; None where no criterion can ask for it.
    target
        Where it is asked, without credentials. Checks of one target run one after another, those
        of different targets side by side.
    query
        What is asked, verbatim.
    limit, warning
        What the value must keep, and a stricter limit beyond which it warns.
    read
        Measures; raises `NotMeasured` where it cannot.
    secrets
        Names of the environment variables whose values must never be repeated.
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
    secrets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w-]+(\.[\w-]+)*", self.id):
            raise ValueError(f"{self.id!r} is not an id of a check")
        if self.measure is not None and self.measure not in MEASURES:
            raise ValueError(f"{self.id}: {self.measure!r} is not a measure")


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
        check = self.check
        return {
            "id": check.id,
            "title": check.title,
            "group": check.group,
            "measure": check.measure,
            "region": check.region,
            "target": check.target,
            "query": check.query,
            "value": self.value,
            "interval": list(self.interval) if self.interval else None,
            "unit": check.unit,
            "limit": str(check.limit),
            "warning": str(check.warning) if check.warning else None,
            "verdict": self.verdict,
            "cause": self.cause,
            "reason": self.reason,
            "measured_at": self.measured_at,
            "took_seconds": self.took_seconds,
        }


def targets_of(job: Job) -> ValidationTargets:
    """Return what a job validates.

    Raises
    ------
    ParametersError
        If it names no validation file.
    """
    if job.validation is None:
        raise ParametersError(
            "validation: the run's file names no validation file; add 'validation: validation.yaml'"
        )
    return job.validation


def part(text: str) -> str:
    """Write a name so that it can be a part of a check's id."""
    return re.sub(r"[^\w-]+", "_", text).strip("_") or "_"


def not_measured(check: Check, cause: Cause, reason: str, took: float = 0.0) -> Outcome:
    """Return the outcome of a check that measured nothing."""
    reason = clean(reason, check.secrets)
    return Outcome(check, "no_data", None, cause, reason, round(took, 6), now())


def run_check(check: Check, timeout: float) -> Outcome:
    """Measure and judge, within `timeout` seconds whatever the check does.

    A read that does not come back is left to its thread, which ends with the process.
    """
    if timeout <= 0:
        return not_measured(check, "timed_out", "not asked: the time of the whole suite was up")
    answer: list[Reading | BaseException] = []

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
    found = answer[0]
    if isinstance(found, NotMeasured):
        return not_measured(check, found.cause, found.reason, took)
    if isinstance(found, ImportError) and (sentence := extras.why(found)):
        return not_measured(check, "not_configured", sentence, took)
    if isinstance(found, BaseException):
        return not_measured(check, "error", f"{type(found).__name__}: {found}", took)
    return judge(check, found, took)


def judge(check: Check, reading: Reading, took: float) -> Outcome:
    """Compare what was read with the check's limits."""
    problem = _unusable(reading)
    if problem:
        return not_measured(check, "error", problem, took)
    value = float(reading.value or 0.0)
    ends = reading.interval or (value, value)
    verdict: Verdict = "pass"
    if not check.limit.holds(value):
        verdict = "warn" if any(check.limit.holds(end) for end in ends) else "fail"
    elif reading.doubt or (check.warning and not check.warning.holds(value)):
        verdict = "warn"
    reason = "; ".join(text for text in (reading.details, reading.doubt) if text)
    reason = clean(reason, check.secrets)
    return Outcome(check, verdict, value, None, reason, round(took, 6), now(), reading.interval)


def _unusable(reading: object) -> str:
    """Return why something is no measurement; empty if it is one."""
    if not isinstance(reading, Reading) or reading.value is None:
        return "nothing was measured"
    numbers = (reading.value, *(reading.interval or ()))
    return "" if all(map(math.isfinite, numbers)) else "what was measured is not a finite number"


def now() -> str:
    """Return the time, in UTC and to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


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
    found = set()
    for name in {*names, *_OURS}:
        held = environ.get(name, "")
        found.add(held)
        try:
            password = urlsplit(held).password or ""
        except ValueError:
            password = ""
        found |= {password, unquote(password)}
        for match in _NAMED.finditer(held):
            found.add(match[3].strip("'\""))
    found |= {quote(each, safe="") for each in found}
    return {each for each in found if each}
