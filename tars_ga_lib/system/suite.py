"""The suite: every check of a job, run side by side, and the document of their outcomes.

What SPEC asks for and no section configures stands among the checks as well: it is `no_data`, cause
`not_configured`, so that a reader sees what was not checked.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple, get_args

from tars_ga_lib import __version__
from tars_ga_lib.grammar import Limit, ParametersError, Verdict
from tars_ga_lib.parameters import Job
from tars_ga_lib.system import agents, chroma, grafana, kpis, postgres, redis
from tars_ga_lib.system.check import (
    Check,
    Group,
    NotMeasured,
    Outcome,
    Reading,
    not_measured,
    now,
    run_check,
    targets_of,
)
from tars_ga_lib.targets import ValidationTargets

SCHEMA = "tars-ga/validation/1"


class _Asked(NamedTuple):
    """What must be checked in a section; it is missed where the section has no such check."""

    section: str
    measure: str
    title: str
    group: Group
    unit: str
    limit: Limit


ASKED = (
    _Asked("postgres", "count_difference", "Rows agree", "replication", "count", Limit("==", 0)),
    _Asked("postgres", "replication_lag", "Replication lag", "replication", "s", Limit("<", 0.1)),
    _Asked("postgres", "mission_query_time", "Mission query", "database", "s", Limit("<", 0.05)),
    _Asked("postgres", "analytics_query_time", "Analytics query", "database", "s", Limit("<", 0.2)),
    _Asked("redis", "count_difference", "Keys agree", "replication", "count", Limit("==", 0)),
    _Asked("redis", "replication_lag", "Replication lag", "replication", "s", Limit("<", 0.1)),
    _Asked("chroma", "count_difference", "Vectors agree", "replication", "count", Limit("==", 0)),
    _Asked("grafana", "dashboard_load_time", "Dashboard loads", "grafana", "s", Limit("<", 2)),
    _Asked("grafana", "panel_query_time", "Panel query", "grafana", "s", Limit("<", 0.5)),
    _Asked("agents", "agent_memory", "Memory", "agent_memory", "bytes", Limit("<", 1.5e9)),
    _Asked("agents", "agent_memory_growth", "Growth", "agent_memory", "bytes/h", Limit("<", 1e7)),
    _Asked("agents", "oom_kills", "OOM kills", "agent_memory", "count", Limit("==", 0)),
)
_NAMES = {
    "kpis": "KPIs",
    "postgres": "PostgreSQL",
    "redis": "Redis",
    "chroma": "Chroma",
    "grafana": "Grafana",
    "agents": "Agents",
}


def build(job: Job, run: Path | None = None, prometheus: str | None = None) -> list[Check]:
    """Return every check of a job; connects nowhere.

    Parameters
    ----------
    run
        Folder of a run, whose recording and drift analysis the KPI thresholds are checked on.
    prometheus
        URL of the server that is asked for the agents' memory; that of the job's source if not
        given.

    Raises
    ------
    ParametersError
        If the job names no validation file, or two checks have one id.
    """
    targets = targets_of(job)
    of_window = kpis.checks(targets, job, run)  # which refuses a folder that holds no run
    found = [
        *([] if "kpis" in targets.left_out else of_window),
        *postgres.checks(targets),
        *redis.checks(targets),
        *chroma.checks(targets),
        *grafana.checks(targets),
        *agents.checks(targets, job, prometheus),
    ]
    found += _missed(targets, found)
    for identity, times in Counter(check.id for check in found).items():
        if times > 1:
            raise ParametersError(
                f"validation: two checks would be named {identity}; give them different names"
            )
    return sorted(found, key=lambda check: get_args(Group).index(check.group))


def _missed(targets: ValidationTargets, found: Sequence[Check]) -> list[Check]:
    """Return a check that cannot be made for all that no section configures."""
    missed = []
    for asked in ASKED:
        made = any(
            c.id.startswith(f"{asked.section}.") and c.measure == asked.measure for c in found
        )
        if made or asked.section in targets.left_out:
            continue
        if getattr(targets, asked.section) is None:
            reason = (
                f"the validation file has no section '{asked.section}'; add it, or say under "
                "'left_out' why this system has none"
            )
        else:
            reason = f"the section '{asked.section}' names nothing that it could be measured on"
        missed.append(_unconfigured(asked, reason))
    if not targets.kpis and "kpis" not in targets.left_out:
        asked = _Asked("kpi", "", "KPI thresholds", "kpi", "ratio", Limit("==", 1))
        missed.append(_unconfigured(asked, "the section 'kpis' is empty"))
    return missed


def _unconfigured(asked: _Asked, reason: str) -> Check:
    def read() -> Reading:
        raise NotMeasured("not_configured", reason)

    name = _NAMES.get(asked.section)
    return Check(
        id=".".join(part for part in (asked.section, asked.measure, "not_configured") if part),
        title=f"{name}: {asked.title}" if name else asked.title,
        group=asked.group,
        measure=asked.measure or None,
        region=None,
        target="not configured",
        query="",
        unit=asked.unit,
        limit=asked.limit,
        warning=None,
        read=read,
    )


class Runner:
    """Runs checks: those of one target one after another, those of different targets side by side.

    So no measurement is disturbed by another of the same system, and a target that hangs holds up
    nothing but itself. What is computed here from samples comes last, or its work would be in the
    times that the others measure; it does not wait longer than half the time. All ends within
    `deadline` seconds of `start`.
    """

    def __init__(self, checks: Sequence[Check], timeout: float, deadline: float) -> None:
        self._timeout, self._deadline = timeout, deadline
        self._lanes: dict[str, list[Check]] = {}
        self._outcomes: dict[str, Future[Outcome]] = {}
        for check in checks:
            self._lanes.setdefault(check.target, []).append(check)
            self._outcomes[check.id] = Future()
        self._started = 0.0

    def start(self) -> None:
        """Begin, in threads that end with the process."""
        self._started = time.monotonic()
        timed: list[threading.Thread] = []
        for lane in sorted(self._lanes.values(), key=_is_computed):
            after = tuple(timed) if _is_computed(lane) else ()
            thread = threading.Thread(target=self._run, args=(lane, after), daemon=True)
            if not _is_computed(lane):
                timed.append(thread)
            thread.start()

    def _left(self) -> float:
        return self._started + self._deadline - time.monotonic()

    def _run(self, lane: Sequence[Check], after: Sequence[threading.Thread]) -> None:
        for thread in after:
            thread.join(max(0.0, self._left() - self._deadline / 2))
        hung = 0  # checks in a row that got no answer
        for check in lane:
            if hung < 2:
                outcome = run_check(check, min(self._timeout, self._left()))
            else:
                reason = "not asked: the checks of this target before it got no answer in time"
                outcome = not_measured(check, "timed_out", reason)
            hung = hung + 1 if outcome.cause == "timed_out" else 0
            self._outcomes[check.id].set_result(outcome)

    def outcome(self, check: Check) -> Outcome:
        """Return the outcome of a check, when it is known or the time is up."""
        try:
            return self._outcomes[check.id].result(max(0.0, self._left()) + 1)
        except TimeoutError:
            return not_measured(check, "timed_out", "the time of the whole suite was up")


def _is_computed(lane: Sequence[Check]) -> bool:
    return lane[0].group in ("kpi", "agent_memory")


def note(targets: ValidationTargets, made: int, known: int, more: str = "") -> str:
    """Write what a reader must know of the results: what was left out, and why."""
    parts = [more] if more else []
    if made < known:
        parts.append(f"Only {made} of {known} checks were selected.")
    parts += [
        f"{_NAMES[section]} left out: {reason.rstrip('.')}."
        for section, reason in targets.left_out.items()
    ]
    return " ".join(parts)


def unmeasured(job: Job, run: Path | None, prometheus: str | None, reason: str) -> dict[str, Any]:
    """Return the document of a job's checks where none of them could be made, and why."""
    checks = build(job, run, prometheus)
    outcomes = [not_measured(check, "not_configured", reason) for check in checks]
    return document(job, outcomes, note(targets_of(job), len(checks), len(checks)), now(), now())


def document(
    job: Job, outcomes: Sequence[Outcome], note: str, started_at: str, ended_at: str
) -> dict[str, Any]:
    """Return the content of `validation_results.json`."""
    parameters = job.parameters
    counted = Counter(outcome.verdict for outcome in outcomes)
    verdicts: tuple[Verdict, ...] = ("pass", "warn", "fail", "no_data")
    return {
        "schema": SCHEMA,
        "release": {"name": parameters.release.name, "version": parameters.release.version},
        "simulated": parameters.simulated,
        "note": note,
        "started_at": started_at,
        "ended_at": ended_at,
        "software": f"tars-ga {__version__}",
        "checks": [outcome.facts() for outcome in outcomes],
        "counts": {verdict: counted[verdict] for verdict in verdicts},
    }
