"""Criteria: every verdict and every decision, and that nothing passes by not being known."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tars_ga_lib import criteria
from tars_ga_lib.decisions import Certification, Outcome, decide
from tars_ga_lib.kpis import Kpis
from tests.helpers import KPIS, PLACES, make_job, make_recording, make_span, places

NAN = math.nan
STABLE = {
    "worst": 0.02, "finding": "memory/east/api", "where": "Memory, east / api", "coverage": 1.0,
    "reason": "", "doubt": "",
}  # fmt: skip
WAIVER = (
    "waivers: [{release: v1.0.1, criterion: it, who: Ada, why: known, until: 2999-01-01T00:00:00Z}]"
)


def certify(
    folder: Path,
    criterion: Mapping[str, Any],
    answers: dict[str, Any] | None = None,
    *,
    stability: Mapping[str, Any] | None = None,
    provenance: dict[str, Any] | None = None,
    others: Mapping[str, Any] | None = None,
    waived: bool = False,
    **changes: Any,
) -> Certification:
    """Evaluate one criterion called `it`, and perhaps others, on a window of 12 steps."""
    all_of_them = {"it": {"title": "It"} | dict(criterion), **(others or {})}
    texts = dict(changes.pop("texts", {}))
    if waived:
        texts["waivers.yaml"] = WAIVER
        changes["waivers"] = "waivers.yaml"
    job = make_job(folder, criteria_=all_of_them, texts=texts, **changes)
    span = make_span(job, answers or {}, provenance=provenance)
    drift = {"stability": STABLE | dict(stability or {})}
    found = criteria.evaluate(job, Kpis(job, span), drift)
    json.dumps(found.facts(), allow_nan=False)
    return found


def it(found: Certification) -> Outcome:
    return found.outcomes[0]


def availability(up: float, seen: int = 12, by: Any = None) -> dict[str, Any]:
    """Return answers in which so much of 10,000 scrapes was up, in so many of 12 steps."""
    shape = np.where(np.arange(12) < seen, 1.0, NAN)
    return {
        "availability.numerator": places(1e4 * up * shape, by),
        "availability.denominator": places(1e4 * shape, by),
    }


UP = {"kpi": "availability", "target": ">= 0.999", "warning": ">= 0.9995"}

# --- KPIs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("up", "seen", "verdict", "decision", "code"),
    [
        (1.0, 12, "pass", "CERTIFIED", 0),
        (0.9992, 12, "warn", "CERTIFIED", 0),
        (0.999, 12, "warn", "CERTIFIED", 0),
        (0.9989, 12, "fail", "NOT CERTIFIED", 3),
        (1.0, 11, "no_data", "INCONCLUSIVE", 4),
        (0.5, 11, "fail", "NOT CERTIFIED", 3),  # whatever happened in the twelfth
        (1.0, 0, "no_data", "INCONCLUSIVE", 4),
    ],
)
def test_ratio(
    tmp_path: Path, up: float, seen: int, verdict: str, decision: str, code: int
) -> None:
    found = certify(tmp_path, UP, availability(up, seen))
    assert (it(found).verdict, found.decision, found.exit_code) == (verdict, decision, code)
    assert found.binding == "it"
    if verdict == "no_data":
        assert it(found).reason
    if seen == 11 and up == 1:
        assert "only 91.7% of its samples were seen, and 95% are needed" in it(found).reason
        assert it(found).coverage == pytest.approx(11 / 12)


def test_one_series_that_was_hardly_seen(tmp_path: Path) -> None:
    """Nineteen of twenty series say nothing about the twentieth."""
    services = [f"s{n}" for n in range(10)]
    by = [(region, service) for region in ("east", "west") for service in services]
    answers = {key: list(rows) for key, rows in availability(1.0, by=by).items()}
    for rows in answers.values():
        rows[3] = (rows[3][0], np.where(np.arange(12) < 3, rows[3][1], NAN))
    found = certify(tmp_path, UP, answers, services=services)
    assert it(found).coverage == pytest.approx(231 / 240)
    assert it(found).verdict == "no_data"
    assert "one of its series only 25.0%" in it(found).reason
    lax = UP | {"min_series_coverage": 0.5, "target": ">= 0.9", "warning": None}
    for rows in answers.values():
        rows[3] = (rows[3][0], np.where(np.arange(12) < 7, rows[0][1], NAN))
    assert it(certify(tmp_path, lax, answers, services=services)).verdict == "pass"


def test_missing_region_is_never_a_pass(tmp_path: Path) -> None:
    east = [("east", "api"), ("east", "web")]
    for scope in ("overall", "worst_region", "worst_service", "worst_series"):
        found = certify(
            tmp_path, UP | {"scope": scope, "min_coverage": 0.5}, availability(1, by=east)
        )
        assert found.decision == "INCONCLUSIVE", scope


@pytest.mark.parametrize(
    ("scope", "where"),
    [
        ("overall", ""),
        ("worst_region", "west"),
        ("worst_service", "web"),
        ("worst_series", "west, web"),
    ],
)
def test_scopes(tmp_path: Path, scope: str, where: str) -> None:
    answers = {key: list(rows) for key, rows in availability(1.0).items()}
    rows = answers["availability.numerator"]
    rows[3] = (rows[3][0], np.full(12, 9000.0))
    found = certify(tmp_path, UP | {"scope": scope, "target": ">= 0.96", "warning": None}, answers)
    value = {"overall": 0.975, "worst_region": 0.95, "worst_service": 0.95, "worst_series": 0.9}
    assert it(found).value == pytest.approx(value[scope])
    assert it(found).where == where
    assert it(found).verdict == ("pass" if scope == "overall" else "fail")


def test_a_region_that_fails_is_not_hidden_by_one_that_was_not_seen(tmp_path: Path) -> None:
    answers = availability(0.5, by=[("east", "api"), ("east", "web")])
    found = certify(tmp_path, UP | {"scope": "worst_region"}, answers)
    assert (it(found).verdict, it(found).where) == ("fail", "east")
    assert found.decision == "NOT CERTIFIED"


def test_worst_of_an_exact_target_is_what_is_furthest_from_it(tmp_path: Path) -> None:
    for odd in (1.0, 5.0):
        rows = [*places(3.0)[:3], ({"region": "west", "service": "web"}, odd)]
        found = certify(
            tmp_path,
            {"kpi": "replicas", "scope": "worst_series", "target": "== 3"},
            {"replicas.value": rows},
        )
        assert (it(found).verdict, it(found).value) == ("fail", odd)


def test_server_warning_is_no_pass(tmp_path: Path) -> None:
    doubt = {"availability.denominator": {"warnings": ["a store is gone"]}}
    found = certify(tmp_path, UP, availability(1.0), provenance=doubt)
    assert found.decision == "INCONCLUSIVE"
    assert it(found).reason == "the server warned about its answer: a store is gone"
    assert it(found).value == 1.0
    remark = {"availability.denominator": {"infos": ["a remark"]}}
    assert it(certify(tmp_path, UP, availability(1.0), provenance=remark)).verdict == "pass"


def test_failed_query(tmp_path: Path) -> None:
    error = {"availability.numerator": {"error": "HTTP 500: no"}}
    answers = availability(1.0)
    answers["availability.numerator"] = []
    found = certify(tmp_path, UP, answers, provenance=error)
    assert (it(found).verdict, it(found).reason) == ("no_data", "HTTP 500: no")


LATENCY = {"kpi": "latency_p99", "target": "< 0.5", "warning": "< 0.45"}


def latency(highest: str, inside: float) -> dict[str, Any]:
    """Return answers in which so many of 100 requests were within the highest bucket."""
    rows = [
        ({"region": r, "service": s, "le": le}, value)
        for r, s in PLACES
        for le, value in (("0.1", min(90.0, inside)), (highest, inside), ("+Inf", 100.0))
    ]
    return {"latency_p99.buckets": rows}


@pytest.mark.parametrize(
    ("highest", "inside", "verdict"),
    [
        ("0.4", 100.0, "pass"),
        ("0.5", 100.0, "warn"),
        ("2.0", 100.0, "no_data"),  # between 0.1 and 2: on which side of 0.5, nobody knows
        ("0.4", 50.0, "no_data"),  # above 0.4, but nobody knows by how much
        ("0.5", 50.0, "fail"),  # at least 0.5, whatever it is
        ("2.0", 50.0, "fail"),
    ],
)
def test_percentiles_above_the_highest_bucket(
    tmp_path: Path, highest: str, inside: float, verdict: str
) -> None:
    found = certify(tmp_path, LATENCY, latency(highest, inside))
    assert it(found).verdict == verdict
    if inside == 50:
        assert f"above the highest bucket, {float(highest):g} seconds" in it(found).reason


@pytest.mark.parametrize(
    ("target", "count", "seen", "verdict"),
    [
        ("== 0", 0.0, 12, "pass"),
        ("== 0", 1.0, 12, "fail"),
        ("== 0", 0.0, 6, "no_data"),  # none were seen, in half of the time
        ("== 0", 1.0, 6, "fail"),  # there was one, however little was seen
        ("< 40", 1.0, 6, "no_data"),
        ("< 10", 1.0, 6, "fail"),
        (">= 10", 1.0, 6, "no_data"),
        ("== 0", 0.0, 0, "no_data"),
    ],
)
def test_counts_are_lower_bounds(
    tmp_path: Path, target: str, count: float, seen: int, verdict: str
) -> None:
    values = np.where(np.arange(12) < seen, count, NAN)
    found = certify(
        tmp_path, {"kpi": "requests", "target": target}, {"requests.increase": places(values)}
    )
    assert it(found).verdict == verdict


# --- Drift ----------------------------------------------------------------------------------------

DRIFT = {"drift": "worst_adverse", "target": "<= 0.10", "warning": "<= 0.05"}


@pytest.mark.parametrize(
    ("stability", "verdict", "reason"),
    [
        ({}, "pass", ""),
        ({"worst": 0.0, "finding": None, "where": None}, "pass", ""),
        ({"worst": 0.05}, "pass", ""),
        ({"worst": 0.07}, "warn", ""),
        ({"worst": 0.10}, "warn", ""),
        ({"worst": 0.11}, "fail", ""),
        ({"doubt": "2 drifts are uncertain"}, "warn", "2 drifts are uncertain"),
        ({"coverage": 0.9}, "no_data", "only 90.0% of what the drift evaluations compare"),
        ({"coverage": 0.1, "worst": 0.2}, "fail", ""),  # what drifted for certain stays so
        ({"worst": None, "coverage": 0.0, "reason": "none had data"}, "no_data", "none had data"),
    ],
)
def test_drift(tmp_path: Path, stability: dict[str, Any], verdict: str, reason: str) -> None:
    found = it(certify(tmp_path, DRIFT, stability=stability))
    assert found.verdict == verdict
    assert reason in found.reason
    if verdict in ("warn", "fail") and not reason:
        assert found.where == "Memory, east / api"


# --- Evidence -------------------------------------------------------------------------------------

DAY = "{start: 2026-11-20T00:00:00Z, duration: 24h}"
OTHER = "{start: 2026-11-20T00:30:00Z, duration: 24h}"
INCIDENT = "{id: I1, severity: %s, title: t, start: 2026-11-20T%s:00Z, end: 2026-11-20T%s:00Z}"


def incidents(*each: str, covers: str = DAY) -> str:
    return f"{{source: me, release: v1.0.1, covers: {covers}, incidents: [{', '.join(each)}]}}"


ROLLBACK = "{source: me, release: %s, tested_at: 2026-11-18T15:00:00Z, successful: %s}"
SCAN = "{source: me, release: v1.0.1, scanner: s, scanned_at: 2026-11-19T12:00:00Z, %s}"
SIGNED = "{role: %s, name: A, approved: %s, at: 2026-11-21T09:00:00Z}"
SIGN_OFF = "{source: me, release: %s, sign_offs: [%s]}"
CUSTOMER = "{source: me, release: v1.0.1, covers: %s, support_tickets: 3, escalated: %d}"

EVIDENCE = [
    ("incidents.critical", "== 0", incidents(), "pass", ""),
    ("incidents.critical", "== 0", incidents(INCIDENT % ("sev1", "00:10", "00:20")), "fail", ""),
    ("incidents.critical", "== 0", incidents(INCIDENT % ("sev2", "00:10", "00:20")), "pass", ""),
    ("incidents.count", "== 0", incidents(INCIDENT % ("sev4", "00:10", "00:20")), "fail", ""),
    ("incidents.critical", "== 0", incidents(INCIDENT % ("sev1", "03:00", "03:20")), "pass", ""),
    ("incidents.critical", "== 0", incidents(covers=OTHER), "no_data", "ends before the window"),
    (
        "incidents.critical", "== 0",
        incidents(INCIDENT % ("sev1", "00:40", "00:50"), covers=OTHER), "fail", "",
    ),
    (
        "incidents.critical", "== 0",
        incidents("{id: I, severity: sev1, title: t, start: 2026-11-18T03:00:00Z}"), "fail", "",
    ),
    ("rollback.successful", "== true", ROLLBACK % ("v1.0.1", "true"), "pass", ""),
    ("rollback.successful", "== true", ROLLBACK % ("v1.0.1", "false"), "fail", ""),
    ("rollback.successful", "== true", ROLLBACK % ("v1.0.0", "true"), "no_data", "v1.0.0, not v1"),
    ("rollback.successful", "== true", ROLLBACK % ("v1.0.0", "false"), "no_data", "v1.0.0"),
    ("security_scan.critical", "== 0", SCAN % "critical: 0, high: 4", "pass", ""),
    ("security_scan.critical", "== 0", SCAN % "critical: 1, high: 0", "fail", ""),
    ("security_scan.high", "<= 3", SCAN % "critical: 0, high: 4", "fail", ""),
    ("sign_off.refused", "== 0", SIGN_OFF % ("v1.0.1", SIGNED % ("a", "true")), "pass", ""),
    (
        "sign_off.refused", "== 0",
        SIGN_OFF % ("v1.0.1", f"{SIGNED % ('a', 'true')}, {SIGNED % ('b', 'false')}"), "fail", "",
    ),
    ("sign_off.refused", "== 0", SIGN_OFF % ("v2", SIGNED % ("a", "true")), "no_data", "v2, not"),
    ("customer.escalated", "== 0", CUSTOMER % (DAY, 0), "pass", ""),
    ("customer.escalated", "== 0", CUSTOMER % (DAY, 2), "fail", ""),
    ("customer.escalated", "== 0", CUSTOMER % (OTHER, 0), "no_data", "ends before the window"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "target", "text", "verdict", "reason"), EVIDENCE, ids=range(len(EVIDENCE))
)
def test_evidence(
    tmp_path: Path, field: str, target: str, text: str, verdict: str, reason: str
) -> None:
    kind = field.partition(".")[0]
    found = certify(
        tmp_path,
        {"evidence": field, "target": target},
        evidence={kind: "facts.yaml"},
        texts={"facts.yaml": text},
    )
    assert (it(found).verdict, reason in it(found).reason) == (verdict, True)
    expected = {"pass": "CERTIFIED", "fail": "NOT CERTIFIED", "no_data": "INCONCLUSIVE"}
    assert found.decision == expected[verdict]


@pytest.mark.parametrize("field", sorted({row[0] for row in EVIDENCE}))
def test_evidence_without_a_file(tmp_path: Path, field: str) -> None:
    found = certify(tmp_path, {"evidence": field, "target": "== 0"})
    assert found.decision == "INCONCLUSIVE"
    assert it(found).reason == f"no {field.partition('.')[0]} file was given"
    assert it(found).value is None


def test_simulated_evidence_is_no_evidence_of_a_real_day(tmp_path: Path) -> None:
    text = ROLLBACK % ("v1.0.1", "true")
    facts = text.replace("{source", "{simulated: true, source")
    rows: dict[str, Any] = {
        "evidence": {"rollback": "facts.yaml"},
        "texts": {"facts.yaml": facts},
    }
    criterion = {"evidence": "rollback.successful", "target": "== true"}
    assert it(certify(tmp_path, criterion, simulated=True, **rows)).verdict == "pass"
    found = it(certify(tmp_path, criterion, **rows))
    assert found.verdict == "no_data"
    assert "simulated" in found.reason


# --- Waivers --------------------------------------------------------------------------------------


def test_a_waiver_accepts_a_failure(tmp_path: Path) -> None:
    found = certify(tmp_path, UP, availability(0.9), waived=True)
    assert (found.decision, found.exit_code) == ("CERTIFIED WITH WAIVERS", 0)
    assert it(found).verdict == "fail"  # it still says so
    assert it(found).waiver is not None
    assert it(found).waiver == {
        "release": "v1.0.1", "criterion": "it", "who": "Ada",
        "why": "known", "until": "2999-01-01T00:00:00Z",
    }  # fmt: skip
    assert "waived" in found.because


def test_a_waiver_never_covers_missing_data(tmp_path: Path) -> None:
    found = certify(tmp_path, UP, availability(1.0, seen=3), waived=True)
    assert (found.decision, it(found).waiver) == ("INCONCLUSIVE", None)


def test_a_waiver_that_is_not_needed(tmp_path: Path) -> None:
    found = certify(tmp_path, UP, availability(1.0), waived=True)
    assert (found.decision, it(found).waiver) == ("CERTIFIED", None)


def test_a_waiver_covers_its_own_criterion_only(tmp_path: Path) -> None:
    other = {"other": {"title": "Other", "kpi": "availability", "target": ">= 0.999"}}
    found = certify(tmp_path, UP, availability(0.9), waived=True, others=other)
    assert (found.decision, found.binding) == ("NOT CERTIFIED", "other")


# --- The decision ---------------------------------------------------------------------------------


def outcome(name: str, verdict: Any, **changes: Any) -> Outcome:
    facts: dict[str, Any] = {
        "name": name, "title": name.title(), "source": "x", "unit": "ratio", "target": ">= 1",
        "warning": None, "weight": 1.0, "mandatory": True, "value": None, "coverage": None,
        "where": "", "reason": "why", "waiver": None,
    }  # fmt: skip
    return Outcome(verdict=verdict, **facts | changes)


PASS, WARN, FAIL, NO_DATA = (outcome(v, v) for v in ("pass", "warn", "fail", "no_data"))
WAIVED = outcome("waived", "fail", waiver={"who": "Ada"})
OPTIONAL = [outcome(f"{v}_o", v, mandatory=False) for v in ("pass", "warn", "fail", "no_data")]


@pytest.mark.parametrize(
    ("outcomes", "decision", "binding"),
    [
        ([PASS], "CERTIFIED", "pass"),
        ([PASS, WARN], "CERTIFIED", "warn"),
        ([PASS, FAIL], "NOT CERTIFIED", "fail"),
        ([PASS, NO_DATA], "INCONCLUSIVE", "no_data"),
        ([NO_DATA, FAIL], "NOT CERTIFIED", "fail"),
        ([PASS, WAIVED], "CERTIFIED WITH WAIVERS", "waived"),
        ([WAIVED, WARN], "CERTIFIED WITH WAIVERS", "waived"),
        ([WAIVED, FAIL], "NOT CERTIFIED", "fail"),
        ([WAIVED, NO_DATA], "INCONCLUSIVE", "no_data"),
        ([PASS, *OPTIONAL], "CERTIFIED", "pass"),
        (OPTIONAL, "INCONCLUSIVE", ""),
        ([], "INCONCLUSIVE", ""),
    ],
)
def test_decisions(outcomes: list[Outcome], decision: str, binding: str) -> None:
    found = decide(outcomes)
    assert (found.decision, found.binding) == (decision, binding)
    assert found.exit_code == {
        "CERTIFIED": 0, "CERTIFIED WITH WAIVERS": 0, "NOT CERTIFIED": 3, "INCONCLUSIVE": 4,
    }[decision]  # fmt: skip
    assert found.because.endswith(".")
    if binding and decision != "CERTIFIED":
        assert binding.title() in found.because


def test_the_heaviest_decides_and_else_the_first() -> None:
    light, first, second = (
        outcome(name, "fail", weight=w) for name, w in (("a", 1.0), ("b", 3.0), ("c", 3.0))
    )
    found = decide([light, first, second])
    assert found.binding == "b"
    assert found.because == "B, and 2 more of the mandatory criteria fail."


verdicts = st.lists(
    st.tuples(
        st.sampled_from(["pass", "warn", "fail", "no_data"]), st.booleans(), st.booleans(),
        st.floats(0.1, 9),
    ),
    max_size=6,
)  # fmt: skip


@given(verdicts)
def test_nothing_unknown_and_nothing_failed_is_certified(found: Any) -> None:
    outcomes = [
        outcome(str(n), verdict, mandatory=mandatory, weight=weight,
                waiver={"who": "x"} if waived and verdict == "fail" else None)
        for n, (verdict, mandatory, waived, weight) in enumerate(found)
    ]  # fmt: skip
    decision = decide(outcomes)
    mandatory = [o for o in outcomes if o.mandatory]
    good = bool(mandatory) and not any(o.blocks for o in mandatory)
    assert (decision.exit_code == 0) is good
    waivers = any(o.waiver for o in mandatory)
    assert (decision.decision == "CERTIFIED") is (good and not waivers)


def test_certification_facts(tmp_path: Path) -> None:
    job = make_job(tmp_path, criteria_={"it": {"title": "It"} | UP})
    recording = make_recording(
        make_span(job, availability(1.0)), make_span(job, {}, "baseline_1"), problems=["slow"]
    )
    facts = criteria.certify(Kpis(job, recording.window), recording, {"stability": STABLE}, {})
    json.dumps(facts, allow_nan=False)
    assert facts["decision"] == "CERTIFIED"
    assert facts["release"]["version"] == "v1.0.1"
    assert facts["window"] == {"start": "2026-11-20T00:00:00Z", "end": "2026-11-20T01:00:00Z"}
    assert facts["baselines"][0]["start"] == "2026-11-13T00:00:00Z"
    assert facts["source"]["problems"] == ["slow"]
    assert facts["simulated"] is False
    assert set(KPIS) >= {"availability"}
