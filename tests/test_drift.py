"""The rules of drift over regions and services; the statistics are tested in test_shifts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tars_ga_lib import drift
from tars_ga_lib.change.shifts import fdr
from tars_ga_lib.kpis import Kpis
from tests.helpers import KPIS, PLACES, RULE, STEP, make_job, make_span, places

DAY = 288
NAN = np.nan
HERE = {"region": "east", "service": "api"}


def noisy(level: float, seed: int, noise: float = 0.01, steps: int = DAY) -> Any:
    """Return a day around a level, with the course of a day and some noise."""
    dice = np.random.default_rng(seed)
    course = 1 + 0.1 * np.sin(np.arange(steps) * 2 * np.pi / DAY)
    return level * course * (1 + noise * dice.standard_normal(steps))


def everywhere(level: float, seed: int, here: Any = None, noise: float = 0.01) -> Any:
    """Return a series for each place; `here` replaces that of east/api."""
    rows = [
        ({"region": region, "service": service}, noisy(level, seed + n, noise))
        for n, (region, service) in enumerate(PLACES)
    ]
    return rows if here is None else [(HERE, here), *rows[1:]]


def another_day(answers: dict[str, Any], day: int) -> dict[str, Any]:
    """Return what an earlier day answered: its own noise, and hardly another level."""
    if not day:
        return answers
    dice = np.random.default_rng(day)

    def again(values: Any) -> Any:
        if np.ndim(values) == 0:
            return values
        return values * (1 + 0.002 * dice.standard_normal() + 0.01 * dice.standard_normal(DAY))

    return {
        key: [(labels, again(values)) for labels, values in rows] for key, rows in answers.items()
    }


def analyse(
    folder: Path,
    before: dict[str, Any] | list[dict[str, Any]],
    after: dict[str, Any],
    *,
    rules: dict[str, Any] | None = None,
    days: int = 5,
) -> dict[str, Any]:
    """Analyse a window and earlier days that were answered like this; JSON it must be.

    One day stands for several like it.
    """
    rules = rules or {"memory": RULE | {"kpi": "memory"}}
    if isinstance(before, dict):
        before = [another_day(before, day) for day in range(days)]
    repeat = f"7d x {len(before)}"
    baseline = {"start": "2026-11-13T00:00:00Z", "duration": "24h", "repeat": repeat}
    job = make_job(folder, steps=DAY, rules_=rules, baseline=baseline)
    baselines = [make_span(job, day, f"baseline_{n}") for n, day in enumerate(before, 1)]
    found = drift.analyse(Kpis(job, make_span(job, after)), [Kpis(job, b) for b in baselines])
    json.dumps(found, allow_nan=False)
    check_sums(found)
    return found


def check_sums(found: dict[str, Any]) -> None:
    """See that what is counted adds up."""
    counts, every = found["counts"], found["evaluations"]
    assert counts["evaluations"] == len(every) == sum(counts["by_verdict"].values())
    assert counts["findings"] == counts["by_verdict"]["warn"] + counts["by_verdict"]["fail"]
    assert counts["missing"] == counts["by_verdict"]["no_data"]
    by_category: dict[str, int] = {}
    for verdicts in counts["by_category"].values():
        for verdict, number in verdicts.items():
            by_category[verdict] = by_category.get(verdict, 0) + number
    assert by_category == counts["by_verdict"]
    assert len({e["id"] for e in every}) == len(every)
    findings = [e for e in every if e["verdict"] in ("warn", "fail")]
    assert len(found["worst"]) == min(len(findings), drift.WORST)
    for e in every:
        if e["verdict"] == "no_data":
            assert e["reason"]
            little = e["coverage"] < drift.MIN_COVERAGE
            assert e["drift"] is None or e["measure"] == "exact" or little
            assert e["adjusted_p"] is None
        if e["adjusted_p"] is not None:
            assert e["adjusted_p"] >= e["p_value"] - 1e-12


def one(found: dict[str, Any], identity: str) -> dict[str, Any]:
    (evaluation,) = [e for e in found["evaluations"] if e["id"] == identity]
    return dict(evaluation)


MEMORY = "memory.value"
ID = "memory/east/api"


# --- Directions and limits ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("adverse", "factor", "verdict", "reason"),
    [
        ("up", 1.20, "fail", ""),
        ("up", 1.075, "warn", ""),
        ("up", 1.03, "pass", ""),
        ("up", 0.80, "pass", "improved"),
        ("up", 1.0, "pass", ""),
        ("down", 0.80, "fail", ""),
        ("down", 1.20, "pass", "improved"),
        ("either", 0.80, "fail", ""),
        ("either", 1.20, "fail", ""),
        ("either", 0.925, "warn", ""),
    ],
)
def test_only_adverse_movement_counts(
    tmp_path: Path, adverse: str, factor: float, verdict: str, reason: str
) -> None:
    rules = {"memory": RULE | {"kpi": "memory", "adverse": adverse}}
    here = noisy(1e9, 50) * factor
    found = analyse(
        tmp_path, {MEMORY: everywhere(1e9, 1)}, {MEMORY: everywhere(1e9, 21, here)}, rules=rules
    )
    e = one(found, ID)
    assert (e["verdict"], e["reason"]) == (verdict, reason)
    assert e["drift"] == pytest.approx(factor - 1, abs=0.01)
    assert e["low"] <= e["drift"] <= e["high"]
    assert (e["region"], e["service"], e["kpi"]) == ("east", "api", "memory")
    assert e["baseline"] == pytest.approx(1e9, rel=0.02)
    others = [e["verdict"] for e in found["evaluations"] if e["id"] != ID]
    assert others == ["pass"] * 3
    assert [w["id"] for w in found["worst"]] == ([ID] if verdict != "pass" else [])
    assert found["counts"]["improved"] == (reason == "improved")
    answered = [a["findings"] for a in found["actions"]]
    assert answered == ([[ID]] if verdict != "pass" else [])


def test_each_rule_has_its_own_limits(tmp_path: Path) -> None:
    rules = {
        "strict": RULE | {"kpi": "memory", "warning": 0.01, "critical": 0.02},
        "lax": RULE | {"kpi": "memory", "warning": 0.2, "critical": 0.3},
    }
    found = analyse(
        tmp_path,
        {MEMORY: everywhere(1e9, 1)},
        {MEMORY: everywhere(1e9, 21, noisy(1.05e9, 50))},
        rules=rules,
    )
    assert one(found, "strict/east/api")["verdict"] == "fail"
    assert one(found, "lax/east/api")["verdict"] == "pass"


def test_points_rule(tmp_path: Path) -> None:
    """A difference in the KPI's unit, however small the baseline."""
    rules = {
        "rate": RULE
        | {"kpi": "availability", "measure": "points", "warning": 0.0002, "critical": 0.0005}
    }
    total = [(dict(labels), 1e5) for labels, _ in places(0)]
    before = {
        "availability.numerator": everywhere(20, 1, noise=0.2),
        "availability.denominator": total,
    }
    for more, verdict in ((10, "pass"), (34, "warn"), (80, "fail")):
        after = before | {
            "availability.numerator": everywhere(20, 31, noisy(20, 50, 0.2) + more, noise=0.2)
        }
        found = analyse(tmp_path, before, after, rules=rules)
        e = one(found, "rate/east/api")
        assert e["verdict"] == verdict
        assert e["drift"] == pytest.approx(more / 1e5, abs=5e-5)
        assert found["stability"]["worst"] is None  # it is not measured in percent
        assert "percent" in found["stability"]["reason"]


# --- Exact rules ----------------------------------------------------------------------------------

EXACT = {
    "replicas": {
        "title": "Replicas", "kpi": "replicas", "action": "Restore.", "category": "configuration",
        "adverse": "either", "measure": "exact",
    }
}  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "verdict", "began", "differing"),
    [
        (2.0, 2.0, "pass", None, 0),
        (2.0, 1.0, "fail", None, DAY),  # it was so before the window began
        (2.0, 3.0, "fail", None, DAY),
        (2.0, np.r_[np.full(100, 2.0), 3.0, np.full(187, 2.0)], "fail", "2026-11-20T08:20:00Z", 1),
        (np.r_[np.full(287, 1.0), 2.0], 2.0, "pass", None, 0),  # the baseline's last one counts
        (2.0, np.r_[np.full(100, NAN), np.full(188, 2.0)], "no_data", None, None),
        (2.0, np.r_[np.full(50, NAN), np.full(238, 2.0)], "pass", None, 0),
        (2.0, np.r_[np.full(200, NAN), np.full(88, 3.0)], "fail", "2026-11-20T16:40:00Z", 88),
        (2.0, NAN, "no_data", None, None),
        (NAN, 2.0, "no_data", None, None),
        (NAN, NAN, "no_data", None, None),
    ],
)
def test_exact_rule(
    tmp_path: Path, before: Any, after: Any, verdict: str, began: str | None, differing: Any
) -> None:
    rows = {"replicas.value": [(HERE, before)]}, {"replicas.value": [(HERE, after)]}
    found = analyse(tmp_path, *rows, rules=EXACT)
    e = one(found, "replicas/east/api")
    assert (e["verdict"], e["began"], e["drift"]) == (verdict, began, differing)
    assert one(found, "replicas/west/web")["verdict"] == "no_data"
    assert found["stability"]["worst"] is None  # configuration is not measured in percent


def test_rule_over_several_kpis(tmp_path: Path) -> None:
    rules = {"both": RULE | {"kpi": ["memory", "requests"], "adverse": "either"}}
    before = {MEMORY: everywhere(1e9, 1), "requests.increase": everywhere(500, 5)}
    after = {MEMORY: everywhere(1e9, 21), "requests.increase": everywhere(1000, 25)}
    found = analyse(tmp_path, before, after, rules=rules)
    assert one(found, "both:memory/east/api")["verdict"] == "pass"
    assert one(found, "both:requests/east/api")["verdict"] == "fail"
    assert found["counts"]["evaluations"] == 8
    assert set(found["first_alarms"]) >= {f"both:requests/{r}/{s}" for r, s in PLACES}
    baseline = {"start": "2026-11-13T00:00:00Z", "duration": "24h", "repeat": "7d x 5"}
    job = make_job(tmp_path, steps=DAY, rules_=rules, baseline=baseline)
    days = [make_span(job, another_day(before, n), f"baseline_{n + 1}") for n in range(5)]
    alarms = drift.incremental(Kpis(job, make_span(job, after)), [Kpis(job, day) for day in days])
    assert alarms.keys() >= {f"both:requests/{r}/{s}" for r, s in PLACES}


# --- Doubt ----------------------------------------------------------------------------------------


def test_uncertain_is_no_finding(tmp_path: Path) -> None:
    wild = 1e9 * np.repeat([0.6, 1.9, 0.7, 2.0, 0.8, 1.5], 48)
    days = {MEMORY: [(HERE, noisy(1e9, 1))]}, {MEMORY: [(HERE, wild)]}
    found = analyse(tmp_path, *days, days=1)
    e = one(found, ID)
    assert e["drift"] > 0.1
    assert (e["verdict"], e["reason"]) == ("pass", "uncertain")
    assert e["low"] < 0 < e["high"]
    assert found["counts"]["uncertain"] == 1
    assert found["counts"]["findings"] == 0
    assert found["stability"]["worst"] == 0.0
    assert found["first_alarms"] == {}


def test_one_day_of_baseline_cannot_tell(tmp_path: Path) -> None:
    """A fifth more beside a single day is no finding, and no stability either."""
    days = {MEMORY: everywhere(1e9, 1)}, {MEMORY: everywhere(1e9, 21, noisy(1.2e9, 50))}
    alone, several = (analyse(tmp_path, *days, days=n) for n in (1, 5))
    assert (one(alone, ID)["verdict"], one(alone, ID)["reason"]) == ("pass", "uncertain")
    assert alone["stability"]["worst"] == 0.0
    assert alone["stability"]["reason"] == (
        "1 drift beyond the critical limit cannot be told from how days differ by 1 day of "
        "baseline, the largest Rule, east / api"
    )
    assert one(several, ID)["verdict"] == "fail"
    assert several["stability"]["reason"] == ""


def test_all_questions_are_paid_for(tmp_path: Path) -> None:
    rules = {"memory": RULE | {"kpi": "memory"}, "rate": RULE | {"kpi": "request_rate"}}
    before = {MEMORY: everywhere(1e9, 1), "requests.increase": everywhere(500, 5)}
    after = {MEMORY: everywhere(1e9, 21), "requests.increase": everywhere(500, 25)}
    found = analyse(tmp_path, before, after, rules=rules)
    every = found["evaluations"]
    asked = [e["p_value"] for e in every] + [e["incident_p"] for e in every]
    np.testing.assert_allclose([e["adjusted_p"] for e in every], fdr(np.array(asked))[:8])
    assert len(every) == 8
    assert any(e["adjusted_p"] > e["p_value"] for e in every)


def test_an_incident_is_no_drift(tmp_path: Path) -> None:
    hit = noisy(1e9, 50)
    hit[156:164] *= 1.8
    found = analyse(tmp_path, {MEMORY: everywhere(1e9, 1)}, {MEMORY: everywhere(1e9, 21, hit)})
    e = one(found, ID)
    assert (e["verdict"], e["reason"]) == ("warn", "incident")
    (incident,) = e["incidents"]
    assert incident["began"] == "2026-11-20T13:00:00Z"
    assert incident["ended"] == "2026-11-20T13:40:00Z"
    assert incident["excess"] == pytest.approx(0.8, abs=0.2)
    (group,) = found["incidents"]
    assert (group["region"], group["service"], group["findings"]) == ("east", "api", [ID])
    assert group["worst"]["figure"] == incident["figure"]
    assert found["stability"]["worst"] < 0.05  # it ended


def test_incidents_at_one_time_in_one_region_are_one(tmp_path: Path) -> None:
    rows = everywhere(1e9, 21)
    for labels, values in rows:
        if labels["region"] == "west":
            values[100:112] *= 2.5
    found = analyse(tmp_path, {MEMORY: everywhere(1e9, 1)}, {MEMORY: rows})
    (group,) = found["incidents"]
    assert group["region"] == "west"
    assert sorted(group["findings"]) == ["memory/west/api", "memory/west/web"]


def test_all_incidents_of_a_window_are_named(tmp_path: Path) -> None:
    hit = noisy(1e9, 50)
    for begin in (60, 156, 240):
        hit[begin : begin + 6] *= 1.8
    found = analyse(tmp_path, {MEMORY: everywhere(1e9, 1)}, {MEMORY: everywhere(1e9, 21, hit)})
    began = sorted(incident["began"][11:16] for incident in one(found, ID)["incidents"])
    assert began == ["05:00", "13:00", "20:00"]
    assert [group["began"][11:16] for group in found["incidents"]] == began


def test_what_moved_is_told_from_growth(tmp_path: Path) -> None:
    """The east gains what the west loses; then both gain."""
    rules = {"rate": RULE | {"kpi": "request_rate", "adverse": "either", "category": "behaviour"}}
    before = {"requests.increase": everywhere(500, 1)}
    for west, reason in ((400, "moved"), (600, "")):
        rows = [
            ({"region": region, "service": service}, noisy(level, 30 + n))
            for n, (region, service, level) in enumerate(
                (r, s, 500 if s == "web" else 600 if r == "east" else west) for r, s in PLACES
            )
        ]
        found = analyse(tmp_path, before, {"requests.increase": rows}, rules=rules)
        for place in ("east/api", "west/api"):
            e = one(found, f"rate/{place}")
            assert (e["verdict"], e["reason"]) == ("fail", reason)
        assert one(found, "rate/east/web")["verdict"] == "pass"


def test_when_a_leak_began(tmp_path: Path) -> None:
    for hours in (0, 12):
        leak = noisy(1e9, 50) * (1 + 0.02 * np.maximum(np.arange(DAY) / 12 - hours, 0))
        found = analyse(tmp_path, {MEMORY: everywhere(1e9, 1)}, {MEMORY: everywhere(1e9, 21, leak)})
        e = one(found, ID)
        assert (e["kind"], e["began"]) == ("trend", f"2026-11-20T{hours:02}:00:00Z")
        assert e["incidents"] == []


def test_when_a_drift_began(tmp_path: Path) -> None:
    late = noisy(1e9, 50, noise=0.002)
    late[144:] *= 1.4
    found = analyse(tmp_path, {MEMORY: [(HERE, noisy(1e9, 1, 0.002))]}, {MEMORY: [(HERE, late)]})
    e = one(found, ID)
    assert e["verdict"] == "fail"
    assert "2026-11-20T11:30:00Z" <= e["began"] <= "2026-11-20T12:30:00Z"
    assert e["began"] <= found["first_alarms"][ID]


# --- Missing data ---------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["window", "baseline", "both"])
def test_nothing_there(tmp_path: Path, side: str) -> None:
    day = {MEMORY: everywhere(1e9, 1)}
    before, after = ({} if side in (each, "both") else day for each in ("baseline", "window"))
    found = analyse(tmp_path, before, after)
    assert found["counts"]["by_verdict"] == {"pass": 0, "warn": 0, "fail": 0, "no_data": 4}
    assert found["stability"] == {
        "worst": None, "finding": None, "where": None, "coverage": 0.0, "doubt": "",
        "reason": "no drift rule that is measured in percent had data", "compared": 0,
        "unseen": [e["id"] for e in found["evaluations"]],
    }  # fmt: skip
    assert found["worst"] == found["incidents"] == found["actions"] == []
    assert found["first_alarms"] == {}


def test_one_place_missing(tmp_path: Path) -> None:
    rows = everywhere(1e9, 21)
    found = analyse(tmp_path, {MEMORY: everywhere(1e9, 1)}, {MEMORY: rows[:3]})
    assert one(found, "memory/west/web")["verdict"] == "no_data"
    assert found["stability"]["coverage"] == 0.75
    assert found["stability"]["worst"] == 0.0
    assert found["stability"]["unseen"] == ["memory/west/web"]
    assert "Rule, west / web could not be compared: " in found["stability"]["reason"]


def test_half_of_the_window(tmp_path: Path) -> None:
    """Like hours are compared with like hours: half a day is not taken for the whole of it."""
    rows = everywhere(1e9, 21)
    for _, values in rows:
        values[144:] = NAN
    found = analyse(tmp_path, {MEMORY: everywhere(1e9, 1)}, {MEMORY: rows})
    for e in found["evaluations"]:
        assert e["coverage"] == pytest.approx(0.5, abs=0.01)
        assert (e["verdict"], e["adjusted_p"]) == ("no_data", None)
        assert e["reason"] == "only 50.0% of it was seen, and 80% are needed"
        assert abs(e["drift"]) < 0.01


def test_a_finding_in_half_of_the_window_stays_one(tmp_path: Path) -> None:
    rows = everywhere(1.3e9, 21)
    for _, values in rows:
        values[144:] = NAN
    found = analyse(tmp_path, {MEMORY: everywhere(1e9, 1)}, {MEMORY: rows})
    assert found["counts"]["by_verdict"]["fail"] == 4


def test_a_baseline_of_zero(tmp_path: Path) -> None:
    zero, some = {MEMORY: [(HERE, 0.0)]}, {MEMORY: [(HERE, noisy(1e9, 1))]}
    e = one(analyse(tmp_path, zero, some), ID)
    assert e["verdict"] == "no_data"
    assert e["reason"] == "the baseline is 0, so a relative drift has no meaning"
    assert e["untestable"]
    found = analyse(tmp_path, {MEMORY: [*everywhere(1e9, 1)[1:], (HERE, 0.0)]},
                    {MEMORY: [*everywhere(1e9, 21)[1:], (HERE, noisy(1e9, 1))]})  # fmt: skip
    # All of it was seen: a doubt, and not data that are missing.
    assert (found["stability"]["reason"], found["stability"]["unseen"]) == ("", [])
    assert found["stability"]["doubt"] == "Rule, east / api could not be tested"
    e = one(analyse(tmp_path, zero, zero), ID)
    assert (e["verdict"], e["drift"]) == ("pass", 0.0)


def test_a_service_that_lost_all_its_traffic(tmp_path: Path) -> None:
    """From something to nothing is a drift of -100 %, not missing data."""
    rules = {"rate": RULE | {"kpi": "request_rate", "adverse": "either", "category": "behaviour"}}
    before = {"requests.increase": everywhere(500, 1)}
    after = {"requests.increase": everywhere(500, 21, np.zeros(DAY))}
    found = analyse(tmp_path, before, after, rules=rules)
    e = one(found, "rate/east/api")
    assert e["verdict"] == "fail"
    assert e["drift"] == pytest.approx(-1, abs=0.01)
    assert found["stability"]["worst"] == pytest.approx(1, abs=0.01)


# --- Stability ------------------------------------------------------------------------------------


def test_stability_is_the_worst_sure_adverse_drift(tmp_path: Path) -> None:
    rules = {
        "memory": RULE | {"kpi": "memory"},
        "rate": RULE | {"kpi": "request_rate", "adverse": "down", "category": "behaviour"},
    }
    before = {MEMORY: everywhere(1e9, 1), "requests.increase": everywhere(500, 5)}
    after = {
        MEMORY: everywhere(1e9, 21, noisy(1.08e9, 50)),
        "requests.increase": everywhere(500, 25, noisy(450, 60)),
    }
    found = analyse(tmp_path, before, after, rules=rules)
    assert found["stability"]["finding"] == "rate/east/api"
    assert found["stability"]["worst"] == pytest.approx(0.1, abs=0.01)
    assert found["stability"]["coverage"] == 1.0
    assert {w["id"] for w in found["worst"]} == {"rate/east/api", ID}


def test_improvement_is_stable(tmp_path: Path) -> None:
    found = analyse(tmp_path, {MEMORY: everywhere(1e9, 1)}, {MEMORY: everywhere(0.5e9, 21)})
    assert found["stability"]["worst"] == 0.0
    assert found["counts"]["improved"] == 4


def test_worst_come_first(tmp_path: Path) -> None:
    factors = (1.12, 1.5, 1.07, 1.3)
    rows = [
        ({"region": region, "service": service}, noisy(1e9 * factor, 30 + n))
        for n, ((region, service), factor) in enumerate(zip(PLACES, factors, strict=True))
    ]  # fmt: skip
    found = analyse(tmp_path, {MEMORY: everywhere(1e9, 1)}, {MEMORY: rows})
    assert [e["drift"] for e in found["worst"]] == sorted(
        (e["drift"] for e in found["worst"]), reverse=True
    )
    assert [e["verdict"] for e in found["worst"]] == ["fail", "fail", "fail", "warn"]
    assert found["actions"] == [
        {"rule": "memory", "action": "Look.", "findings": [e["id"] for e in found["worst"]]}
    ]


# --- Baselines ------------------------------------------------------------------------------------


def test_several_days_of_baseline(tmp_path: Path) -> None:
    """Days that differ among themselves make the same change less sure."""
    baseline = {"start": "2026-11-13T00:00:00Z", "duration": "24h", "repeat": "7d x 3"}
    rules = {"memory": RULE | {"kpi": "memory"}}
    job = make_job(tmp_path, steps=DAY, baseline=baseline, rules_=rules)
    after = Kpis(job, make_span(job, {MEMORY: [(HERE, noisy(1.08e9, 50))]}))

    def analysis(*levels: float) -> dict[str, Any]:
        days = [
            Kpis(job, make_span(job, {MEMORY: [(HERE, noisy(level, n))]}, f"baseline_{n}"))
            for n, level in enumerate(levels, 1)
        ]
        found = drift.analyse(after, days)
        json.dumps(found, allow_nan=False)
        assert len(found["baselines"]) == 3
        return one(found, ID)

    steady, moody = analysis(1e9, 1e9, 1e9), analysis(0.8e9, 1e9, 1.2e9)
    assert steady["verdict"] == "warn"
    assert moody["high"] - moody["low"] > 2 * (steady["high"] - steady["low"])
    assert (moody["verdict"], moody["reason"]) == ("pass", "uncertain")


@pytest.mark.parametrize(
    ("baseline", "steps"),
    [
        ({"start": "2026-11-19T22:00:00Z", "duration": "2h"}, 24),  # just before the window
        ({"start": "2026-11-13T06:00:00Z", "duration": "24h"}, 288),  # a day, from another hour
        ({"start": "2026-11-12T00:00:00Z", "duration": "48h"}, 288),
        ({"start": "2026-11-13T00:00:00Z", "duration": "12h"}, 288),
        ({"start": "2026-11-13T03:00:00Z", "duration": "7h"}, 12),
    ],
)
def test_baselines_of_other_hours(tmp_path: Path, baseline: dict[str, str], steps: int) -> None:
    rules = {"memory": RULE | {"kpi": "memory"}}
    job = make_job(tmp_path, steps=steps, baseline=baseline, rules_=rules)
    length = job.parameters.baseline_intervals()[0].seconds // STEP
    dice = np.random.default_rng(4)
    old, new = 1e9 + 1e7 * dice.standard_normal(length), 2e9 + 1e7 * dice.standard_normal(steps)
    before = make_span(job, {MEMORY: [(HERE, old)]}, "baseline_1")
    after = make_span(job, {MEMORY: [(HERE, new)]})
    found = drift.analyse(Kpis(job, after), [Kpis(job, before)])
    json.dumps(found, allow_nan=False)
    check_sums(found)
    # One place and one baseline: what it usually differs by cannot be known. 48 hours are two.
    e = one(found, ID)
    two_days = baseline["duration"] == "48h"
    assert (e["verdict"], e["reason"]) == (("fail", "") if two_days else ("pass", "uncertain"))
    assert e["drift"] == pytest.approx(1, abs=0.05)
    assert e["low"] < e["drift"] < e["high"]


def test_what_is_wrong_with_the_baseline(tmp_path: Path) -> None:
    before = noisy(1e9, 1)
    before[100:150] = NAN
    days = {MEMORY: [(HERE, before)]}, {MEMORY: everywhere(1e9, 21)}
    found = analyse(tmp_path, *days, days=1)
    gaps = [p for p in found["baseline_problems"] if p["problem"] == "gap"]
    assert [(p["region"], p["service"]) for p in gaps] == [("east", "api")]
    assert (gaps[0]["began"], gaps[0]["ended"]) == ("2026-11-13T08:20:00Z", "2026-11-13T12:30:00Z")
    assert {p["problem"] for p in found["baseline_problems"]} == {"gap", "no_data"}


def test_sound_days_give_no_findings(tmp_path: Path) -> None:
    """Ten windows without change, beside five days each: no finding among 120 evaluations."""
    kpis = ("memory", "request_rate", "availability")
    rules = {kpi: RULE | {"kpi": kpi, "adverse": "either"} for kpi in kpis}
    for seed in range(0, 1000, 100):
        window, *days = [
            {
                MEMORY: everywhere(1e9, seed + at, noise=0.05),
                "requests.increase": everywhere(500, seed + at + 5, noise=0.05),
                "availability.numerator": places(10.0),
                "availability.denominator": places(10.0),
            }
            for at in range(0, 60, 10)
        ]
        found = analyse(tmp_path, days, window, rules=rules)
        assert found["counts"]["findings"] == 0
        assert found["counts"]["missing"] == 0
    assert set(KPIS) >= set(kpis)
