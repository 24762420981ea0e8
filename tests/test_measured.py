"""Results measured on the running system: brought along, believed where they fit, decided on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tars_ga_lib import criteria, endpoints, measured, parameters, targets
from tars_ga_lib.criteria import Outcome
from tars_ga_lib.grammar import ParametersError
from tars_ga_lib.kpis import Kpis
from tars_ga_lib.measured import Results
from tests.helpers import make_job, make_span

TIMES = {"started_at": "2026-11-20T00:30:00Z", "ended_at": "2026-11-20T00:31:00Z"}
STABLE = {"worst": 0.0, "where": "", "coverage": 1.0, "reason": "", "doubt": ""}


def check(value: float | None, verdict: str = "pass", **changes: Any) -> dict[str, Any]:
    return {
        "id": "postgres.mission_query_time.east", "measure": "mission_query_time", "unit": "s",
        "value": value, "verdict": verdict, "reason": "", "group": "database", "title": "A check",
        "region": "east", "target": "postgres 127.0.0.1", "limit": "< 0.05",
    } | changes  # fmt: skip


def job_of(folder: Path, **changes: Any) -> parameters.Job:
    """Return a job of one region that is content with a watch of half a minute."""
    given = {"min_watch": "30s"} | changes.pop("measured", {})
    return make_job(folder, regions=["east"], measured=given, **changes)


def unknown(reason: str = "127.0.0.1:5432 cannot be reached", **changes: Any) -> dict[str, Any]:
    return check(None, "no_data", reason=reason) | changes


def validation(*checks: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "schema": "tars-ga/validation/1", "release": {"name": "T.A.R.S.", "version": "v1.0.1"},
        "simulated": False, "checks": list(checks), "counts": {"no_data": 0}, **TIMES,
    } | changes  # fmt: skip


def session(uptime: float | None = 1.0, **changes: Any) -> dict[str, Any]:
    figures = dict.fromkeys(endpoints.FIGURES, 0.5) | {"uptime": uptime, "longest_downtime": 0.0}
    observed = changes.get("observed_seconds", 60.0)
    connected = observed * (uptime or 0.0) if isinstance(observed, float) else 0.0
    return {
        "name": "east", "observed_seconds": observed, "forced_seconds": 0.0, "problem": "",
        "ping": {"count": 1}, "downtimes": [], "limits": [],
        "connected_seconds": connected,
        "figures": figures | changes.pop("figures", {}),
    } | changes  # fmt: skip


def sessions(*of: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "schema": "tars-ga/websocket/1", "release": {"name": "T.A.R.S.", "version": "v1.0.1"},
        "simulated": False, "asked_seconds": 60.0, "watched_seconds": 30.0, "complete": True,
        "stopped_by": None, "endpoints": list(of), **TIMES,
    } | changes  # fmt: skip


def write(file: Path, document: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document), encoding="utf-8")
    return file


def decide(folder: Path, criterion: Mapping[str, Any], document: Any, kind: str = "") -> Outcome:
    """Evaluate one criterion on results."""
    kind = kind or ("validation" if "validation" in criterion else "websocket")
    job = job_of(folder, criteria_={"it": {"title": "It"} | dict(criterion)})
    results = {}
    if document is not None:
        write(folder / "run" / parameters.MEASURED[kind], document)
        results = measured.load(job, folder / "run")
    kpis = Kpis(job, make_span(job, {}))
    return criteria.evaluate(job, kpis, {"stability": STABLE}, results).outcomes[0]


QUERY = {"validation": "mission_query_time", "target": "< 0.05"}
UPTIME = {"websocket": "uptime", "target": ">= 0.999"}


# --- criteria on the validation -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("checks", "verdict", "value"),
    [
        ([check(0.01), check(0.02)], "pass", 0.02),
        ([check(0.01), check(0.06, "fail")], "fail", 0.06),
        # What is known to be too slow stays so, however little is known of the others.
        ([unknown(), check(0.06, "fail")], "fail", 0.06),
        ([unknown(), check(0.01)], "no_data", 0.01),
        ([unknown()], "no_data", None),
        ([check(0.01, measure="replication_lag")], "no_data", None),
        ([], "no_data", None),
        # The criterion's own limit decides, not that of the check.
        ([check(0.01, "fail", limit="< 0.005")], "pass", 0.01),
        ([check(0.06, "pass")], "fail", 0.06),
    ],
)
def test_the_worst_check_counts(
    tmp_path: Path, checks: list[dict[str, Any]], verdict: str, value: float | None
) -> None:
    outcome = decide(tmp_path, QUERY, validation(*checks))
    assert (outcome.verdict, outcome.value, outcome.unit) == (verdict, value, "s")
    assert bool(outcome.reason) is (verdict == "no_data")


@pytest.mark.parametrize(
    ("value", "interval", "verdict", "told"),
    [
        (0.03, [0.02, 0.04], "pass", 0.03),
        (0.04, [0.03, 0.06], "warn", 0.04),
        (0.06, [0.04, 0.08], "warn", 0.04),
        (0.08, [0.06, 0.10], "fail", 0.06),
    ],
)
def test_an_estimate_fails_only_as_a_whole(
    tmp_path: Path, value: float, interval: list[float], verdict: str, told: float
) -> None:
    results = validation(check(0.045), check(value, interval=interval))
    outcome = decide(tmp_path, QUERY, results)
    assert (outcome.verdict, outcome.value) == (verdict, 0.045 if verdict == "pass" else told)
    assert bool(outcome.reason) is (verdict == "warn")
    broken = validation(check(0.051), check(value, interval=interval))
    assert decide(tmp_path / "broken", QUERY, broken).verdict == "fail"


def test_who_has_no_data_is_named(tmp_path: Path) -> None:
    outcome = decide(tmp_path, QUERY, validation(check(0.01), unknown(), unknown(id="other")))
    assert outcome.reason == (
        "postgres.mission_query_time.east, and 1 more: 127.0.0.1:5432 cannot be reached"
    )
    assert outcome.coverage == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("checks", "verdict", "value"),
    [
        ([check(0.01), check(0.01, measure=None)], "pass", 0),
        ([check(0.01, "warn")], "pass", 0),
        ([check(1.0, "fail", measure=None)], "fail", 1),
        ([check(1.0, "fail"), unknown()], "fail", 1),
        ([check(0.01), unknown()], "no_data", 0),
        ([], "no_data", None),
    ],
)
def test_failed_checks_are_counted(
    tmp_path: Path, checks: list[dict[str, Any]], verdict: str, value: int | None
) -> None:
    outcome = decide(tmp_path, {"validation": "failed", "target": "== 0"}, validation(*checks))
    assert (outcome.verdict, outcome.value) == (verdict, value)


# --- criteria on the sessions ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "verdict", "value"),
    [
        (sessions(session(1.0), session(0.9995, name="west")), "pass", 0.9995),
        (sessions(session(1.0), session(0.99, name="west")), "fail", 0.99),
        (sessions(session(1.0), session(None, name="west")), "no_data", None),
        (sessions(session(0.99), session(None, name="west")), "fail", 0.99),
        (sessions(session(1.0, observed_seconds=30.0)), "no_data", 1.0),
        (sessions(session(1.0), complete=False), "no_data", 1.0),
        # It is certain already that the whole time cannot hold the limit.
        (sessions(session(0.5), complete=False), "fail", 0.5),
        (sessions(session(0.999, observed_seconds=6.0), complete=False), "no_data", 0.999),
        (sessions(), "no_data", None),
    ],
)
def test_the_worst_session_counts(
    tmp_path: Path, document: dict[str, Any], verdict: str, value: float | None
) -> None:
    outcome = decide(tmp_path, UPTIME, document)
    assert (outcome.verdict, outcome.value) == (verdict, value)


def test_a_long_outage_stays_one_however_early_the_watch_ended(tmp_path: Path) -> None:
    limit = {"websocket": "longest_downtime", "target": "< 60"}
    long, short = (session(figures={"longest_downtime": seconds}) for seconds in (61.0, 1.0))
    assert decide(tmp_path, limit, sessions(long, complete=False)).verdict == "fail"
    assert decide(tmp_path, limit, sessions(short, complete=False)).verdict == "no_data"


@pytest.mark.parametrize("figure", endpoints.FIGURES)
def test_every_figure_is_read(tmp_path: Path, figure: str) -> None:
    outcome = decide(tmp_path, {"websocket": figure, "target": ">= 0"}, sessions(session()))
    assert outcome.value == session()["figures"][figure]
    assert outcome.unit in ("s", "ratio")


def test_every_measure_has_a_unit() -> None:
    assert measured.UNITS.keys() == set(targets.MEASURES)


# --- what does not count --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"release": {"name": "T.A.R.S.", "version": "v1"}}, "are about v1, not v1.0.1"),
        ({"simulated": True}, "they are simulated, and this run is not"),
        ({"started_at": "2026-11-19T22:00:00Z", "ended_at": "2026-11-19T23:00:00Z"}, "before the"),
        (
            {"started_at": "2026-11-27T01:00:01Z", "ended_at": "2026-11-27T02:00:00Z"},
            "were measured more than 7d after the window ended",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["validation", "websocket"])
def test_results_of_something_else_are_no_data(
    tmp_path: Path, changes: dict[str, Any], reason: str, kind: str
) -> None:
    good = validation(check(0.01)) if kind == "validation" else sessions(session())
    criterion = QUERY if kind == "validation" else UPTIME
    assert decide(tmp_path / "good", criterion, good).verdict == "pass"
    outcome = decide(tmp_path / "bad", criterion, good | changes)
    assert outcome.verdict == "no_data"
    assert reason in outcome.reason


def test_without_results_there_is_no_data(tmp_path: Path) -> None:
    assert decide(tmp_path / "a", QUERY, None).reason == "the running system was not validated"
    assert decide(tmp_path / "b", UPTIME, None).reason == "no WebSocket session was watched"
    outcome = decide(tmp_path / "c", UPTIME, validation(check(0.01)), "validation")
    assert outcome.reason == "no websocket results were given or measured"


# --- bringing them --------------------------------------------------------------------------------


def test_named_results_come_with_their_reports(tmp_path: Path) -> None:
    write(tmp_path / "there" / "mine.json", validation(check(0.01)))
    (tmp_path / "there" / "validation_results.xml").write_text("<testsuites/>")
    job = job_of(tmp_path, measured={"validation": "there/mine.json"})
    measured.bring(job, tmp_path / "run")
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "validation_results.json", "validation_results.xml",
    ]  # fmt: skip
    found = measured.load(job, tmp_path / "run")
    assert found["validation"].problem == ""
    facts = found["validation"].facts()
    assert str(facts["sha256"]).startswith("sha256:")
    assert facts["started_at"] == TIMES["started_at"]
    assert found["websocket"] == Results(
        "websocket", problem="no websocket results were given or measured"
    )


@pytest.mark.parametrize("place", ["", "recording"])
def test_a_replay_takes_those_of_the_run_that_it_replays(tmp_path: Path, place: str) -> None:
    source = tmp_path / "earlier"
    write(source / "ws_health_metrics.json", sessions(session()))
    write(source / "validation_results.json", validation(check(0.04)))
    job = job_of(
        tmp_path, source={"recording": str(source / place)},
        measured={"validation": str(write(tmp_path / "newer.json", validation(check(0.01))))},
    )  # fmt: skip
    # Beside something that is not a run, a file of that name is somebody else's.
    measured.bring(job, tmp_path / "not_yet")
    assert not (tmp_path / "not_yet" / "ws_health_metrics.json").exists()
    (source / "parameters").mkdir()
    (source / "parameters" / "run.yaml").touch()
    measured.bring(job, tmp_path / "run")
    found = measured.load(job, tmp_path / "run")
    assert found["websocket"].document == sessions(session())
    assert found["validation"].document == validation(check(0.01))


@pytest.mark.parametrize(
    "broken",
    [
        {"asked_seconds": 0}, {"complete": None, "asked_seconds": "x"}, {"endpoints": [{}]},
        {"endpoints": [session(float("inf"))]}, {"endpoints": [session(observed_seconds="x")]},
    ],
)  # fmt: skip
def test_sessions_that_are_not_whole_are_refused(tmp_path: Path, broken: dict[str, Any]) -> None:
    file = write(tmp_path / "ws.json", sessions(session()) | broken)
    with pytest.raises(ParametersError, match="is not whole"):
        measured.read(file, "websocket")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "there is no such file; name what 'tars-ga validate' wrote"),
        ("{", "is not JSON"),
        ("[]", "is no tars-ga/validation/1"),
        (json.dumps(sessions(session())), "is no tars-ga/validation/1"),
        (json.dumps(validation() | {"ended_at": "today"}), "is not whole"),
        (json.dumps(validation(check(0.1)) | {"release": None}), "is not whole"),
        (json.dumps(validation({"id": "x"})), "is not whole"),
        (json.dumps(validation(check(float("nan")))), "is not whole"),
        (json.dumps(validation(check("fast"))), "is not whole"),  # type: ignore[arg-type]
    ],
)
def test_what_are_no_results_is_refused_and_nothing_copied(
    tmp_path: Path, content: str | None, reason: str
) -> None:
    file = tmp_path / "results.json"
    if content is not None:
        file.write_text(content)
    job = job_of(tmp_path, measured={"validation": "results.json"})
    with pytest.raises(ParametersError) as error:
        measured.bring(job, tmp_path / "run")
    assert str(error.value).startswith(f"{file}: ")
    assert reason in str(error.value)
    assert not (tmp_path / "run").exists()
