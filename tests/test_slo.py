"""Error budgets: known truths, independent arithmetic, and the same numbers as Prometheus."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tars_ga_lib import collection, parameters, rules, slo, views
from tars_ga_lib.grammar import format_time, parse_duration
from tars_ga_lib.kpis import Kpis
from tars_ga_lib.parameters import Job
from tars_ga_lib.slo import ALERTS, Counts, budget_words, burn_rates
from tars_ga_lib.tables import written
from tests import servers
from tests.helpers import (
    KPIS,
    RATIO,
    START,
    STEP,
    make_job,
    make_span,
    places,
    write_run,
)
from tests.test_objectives import indicator, metric, ratio, threshold, write
from tests.test_objectives import slo as document

NAN = math.nan
DAY = 288
QUERY = "sum by ($by) (increase({}{{$match}}[$step]))"


def counted(**spec: Any) -> dict[str, Any]:
    """Return an SLO whose bad and all events are queries of their own."""
    both = {
        "counter": True,
        "bad": metric(QUERY.format("bad")),
        "total": metric(QUERY.format("all")),
    }
    return document(indicator=indicator({"ratioMetric": both}), **spec)


def sliced(every: str = "5m", share: float = 0.9, target: float = 0.9) -> dict[str, Any]:
    limits = {"target": target, "timeSliceTarget": share, "timeSliceWindow": every}
    return counted(budgetingMethod="Timeslices", objectives=[limits])


def job_of(folder: Path, *documents: Any, steps: int = DAY, **changes: Any) -> Job:
    folder.mkdir(parents=True, exist_ok=True)
    return make_job(folder, slos=str(write(folder, *documents)), steps=steps, **changes)


def kpis_of(
    job: Job, bad: Any, total: Any, by: Sequence[tuple[str, str]] | None = None, **provenance: Any
) -> Kpis:
    """Return the KPIs of a window in which every series counts the same events."""
    answers = {
        "slo:errors.numerator": places(bad, by),
        "slo:errors.denominator": places(total, by),
    }
    said = dict.fromkeys(answers, provenance) if provenance else None
    return Kpis(job, make_span(job, answers, provenance=said))


def evaluated(job: Job, bad: Any, total: Any, **more: Any) -> dict[str, Any]:
    """Return the facts of the one objective over all regions, as they are read from JSON."""
    found = slo.evaluate(kpis_of(job, bad, total, **more), job.slos)
    again: dict[str, Any] = json.loads(json.dumps(found, allow_nan=False))
    assert again == found
    facts: dict[str, Any] = again["objectives"]["errors"]["overall"]
    return facts


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Return a job with one objective of 99.9 % over a day."""
    return job_of(tmp_path_factory.mktemp("day"), counted())


def alert_of(facts: Mapping[str, Any], name: str = "page_1h") -> dict[str, Any]:
    (found,) = [each for each in facts["alerts"] if each["id"] == name]
    return dict(found)


def plain(text: str) -> str:
    return text.replace("\xa0", " ")


def at(step: int) -> str:
    """Time of the end of a step, counted from 1."""
    return format_time(START + step * STEP)


# --- known truths ---------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.0002, 0.001, 0.0011, 0.02, 1.0])
def test_a_constant_bad_share(day: Job, share: float) -> None:
    """Of 1000 requests a step the share was bad all day, in each of four series."""
    facts = evaluated(day, 1000 * share, 1000)
    assert facts["value"] == pytest.approx(1 - share, abs=1e-12)
    assert facts["met"] is (share <= 0.001)
    assert facts["verdict"] == ("pass" if share <= 0.001 else "fail")
    assert facts["coverage"] == 1
    assert facts["steps"] == {"all": 288, "with_events": 288, "no_traffic": 0, "missing": 0}
    budget, burn = facts["budget"], share / 0.001
    assert budget["allowed"] == pytest.approx(4 * 288)
    assert budget["spent"] == pytest.approx(4 * 288 * burn)
    assert budget["left"] == pytest.approx(4 * 288 * (1 - burn))
    assert budget["share_spent"] == pytest.approx(burn)
    assert budget["minutes"] == pytest.approx(
        {"allowed": 1.44, "spent": 1.44 * burn, "left": 1.44 * (1 - burn)}
    )
    assert budget["whole_window"]["minutes"] == pytest.approx(budget["minutes"])
    assert "800 bad events" in budget["minute_means"]
    assert facts["period"]["minutes"]["allowed"] == pytest.approx(40.32)
    assert facts["period"]["share_spent"] == pytest.approx(burn / 28)
    known = {name: facts["burn_rates"][name]["burn_rate"] for name in ("5m", "30m", "1h", "6h")}
    assert known == pytest.approx(dict.fromkeys(known, burn))
    assert facts["burn_rates"]["3d"] == {
        "burn_rate": None,
        "reason": "the data cover 24h, which is less than 3d",
    }
    assert facts["course"]["budget_left"] == pytest.approx(
        [1 - burn * k / 288 for k in range(1, 289)]
    )
    assert alert_of(facts)["firing"] is (burn > 14.4)
    assert len(facts["violations"]) == (burn > 1)
    assert (budget["exhausted_at"] is None) is (share <= 0.001)


def test_one_outage(day: Job) -> None:
    """For 20 minutes from 02:00 half of the requests failed."""
    bad = np.zeros(DAY)
    bad[24:28] = 500
    facts = evaluated(day, bad, 1000)
    assert facts["value"] == 1 - 2000 / 288_000
    assert facts["violations"] == [
        {
            "start": at(24), "end": at(28), "duration_seconds": 1200,
            "peak_burn_rate": pytest.approx(500), "spent": pytest.approx(8000),
            "minutes": pytest.approx(10), "share_of_budget": pytest.approx(2000 / 288),
        }
    ]  # fmt: skip
    # Over an hour one bad step of twelve burns 41.7 times too fast: it pages at its end, and stops
    # as the last five minutes are clean.
    page = alert_of(facts)
    assert [(each["start"], each["end"]) for each in page["fired"]] == [(at(25), at(29))]
    assert page["fired"][0]["peak_burn_rate"] == pytest.approx(500 * 4 / 12)
    assert page["firing"] is False
    assert page["known"] == pytest.approx(277 / 288)
    assert page["known_from"] == at(12)
    # Over six hours there is no verdict before 06:00, and the outage has left the half hour then.
    assert alert_of(facts, "page_6h")["fired"] == []
    assert alert_of(facts, "page_6h")["known_from"] == at(72)
    assert alert_of(facts, "ticket_3d")["known"] == 0
    assert alert_of(facts, "ticket_3d")["firing"] is None
    assert facts["budget"]["exhausted_at"] == at(25)


def test_the_slow_alert_waits_until_the_burning_has_lasted(day: Job) -> None:
    """From 12:00 to 14:00 the burn rate is 20: six hours exceed 6 after 25 minutes over 108."""
    bad = np.zeros(DAY)
    bad[144:168] = 20
    facts = evaluated(day, bad, 1000)
    slow = alert_of(facts, "page_6h")
    # 72 steps × 6 / 20 = 21.6: the 22nd bad step begins it, and 15 minutes later it fires.
    assert [(each["start"], each["end"]) for each in slow["fired"]] == [(at(144 + 25), at(168 + 5))]


def test_an_alert_that_goes_on(day: Job) -> None:
    bad = np.zeros(DAY)
    bad[-3:] = 1000
    kpis = kpis_of(day, bad, 1000)
    facts = slo.evaluate(kpis, day.slos)
    page = alert_of(facts["objectives"]["errors"]["overall"])
    assert page["firing"] is True
    (fired,) = page["fired"]
    assert fired["ongoing"] is True
    assert (fired["start"], fired["end"]) == (at(286), at(288))
    assert facts["firing"] == [
        f"errors/{where}/{name}" for where in ("all", "east", "west") for name in ("page_1h",)
    ]
    assert facts["exhausted"] == ["errors/all", "errors/east", "errors/west"]
    assert facts["counts"] == {"pass": 0, "fail": 1, "no_data": 0}


def test_totals_not_mean_ratios(day: Job) -> None:
    """A bad step in the night, when nobody is there, costs little."""
    bad, total = np.zeros(DAY), np.full(DAY, 10_000.0)
    bad[10], total[10] = 1, 10
    facts = evaluated(day, bad, total)
    assert facts["value"] == pytest.approx(1 - 1 / (287 * 10_000 + 10))
    assert facts["violations"][0]["peak_burn_rate"] == pytest.approx(100)


def test_regions_and_all(tmp_path: Path) -> None:
    """One region fails: it overspends, the other does not, and the whole is total over total."""
    job = job_of(tmp_path, counted(), steps=12)
    rows = [("east", "api", 30, 1000), ("east", "web", 0, 1000), ("west", "api", 0, 8000)]
    answers = {
        f"slo:errors.{part}": [
            ({"region": row[0], "service": row[1]}, row[k]) for row in rows
        ]
        for part, k in (("numerator", 2), ("denominator", 3))
    }  # fmt: skip
    found = slo.evaluate(Kpis(job, make_span(job, answers)), job.slos)["objectives"]["errors"]
    assert found["regions"]["east"]["value"] == pytest.approx(1 - 30 / 2000)
    assert found["regions"]["west"]["value"] == 1
    assert found["overall"]["value"] == pytest.approx(1 - 30 / 10_000)
    # One of four series was never seen: there is a value, and no verdict.
    assert found["overall"]["verdict"] == "no_data"
    assert found["overall"]["coverage"] == 0.75
    assert "75" in found["overall"]["reason"]


def test_an_objective_of_one_service(tmp_path: Path) -> None:
    job = job_of(tmp_path, counted(service="api"), steps=12)
    bad = {("east", "api"): 1, ("west", "api"): 3, ("east", "web"): 500, ("west", "web"): 500}
    answers = {
        "slo:errors.numerator": [({"region": r, "service": s}, n) for (r, s), n in bad.items()],
        "slo:errors.denominator": places(1000),
    }
    found = slo.evaluate(Kpis(job, make_span(job, answers)), job.slos)["objectives"]["errors"]
    assert found["overall"]["value"] == pytest.approx(1 - 4 / 2000)
    assert found["regions"]["west"]["value"] == pytest.approx(1 - 3 / 1000)
    assert found["overall"]["expected"] == 24


def test_the_figure_is_the_kpis(tmp_path: Path) -> None:
    """An SLO on a KPI's own queries tells its figure, to the last bit, from the same samples."""
    good, every = QUERY.format("good"), QUERY.format("all")
    same = document(indicator=indicator(ratio(good, every, counter=False)))
    kpi = RATIO | {"numerator": good, "denominator": every}
    job = job_of(tmp_path, same, kpis_=KPIS | {"up": kpi})
    rng = np.random.default_rng(3)
    total = rng.uniform(1, 1000, DAY)
    part = total * rng.uniform(0.99, 1, DAY)
    span = make_span(job, {"up.numerator": places(part), "up.denominator": places(total)})
    facts = slo.evaluate(Kpis(job, span), job.slos)["objectives"]["errors"]
    assert facts["overall"]["value"] == Kpis(job, span).figure("up").value
    assert facts["regions"]["west"]["value"] == Kpis(job, span).figure("up", "west").value
    assert facts["overall"]["bad"] == pytest.approx(4 * (total - part).sum())
    assert facts["overall"]["total"] == pytest.approx(4 * total.sum())
    assert facts["queries"]["denominator"].startswith("sum by (region, service) (increase(all{")


# --- nothing, and less than all -------------------------------------------------------------------


def test_no_traffic_is_no_good_news(day: Job) -> None:
    facts = evaluated(day, 0, 0)
    assert (facts["verdict"], facts["met"], facts["value"]) == ("no_data", None, None)
    assert facts["reason"] == "there was no traffic"
    assert facts["coverage"] == 1
    assert facts["steps"]["no_traffic"] == 288
    assert facts["budget"]["words"] == "NO DATA: there was no traffic"
    assert facts["budget"]["minutes"] is None
    assert facts["period"]["words"] == "NO DATA"
    assert facts["burn_rates"]["1h"]["reason"] == "there was no traffic in the last 1h"
    assert alert_of(facts)["fired"] == []
    assert set(facts["course"]["budget_left"]) == {None}


def test_steps_without_traffic_burn_nothing(day: Job) -> None:
    bad, total = np.zeros(DAY), np.full(DAY, 100.0)
    bad[:12] = 1
    total[100:200] = 0
    facts = evaluated(day, bad, total)
    assert facts["value"] == pytest.approx(1 - 12 / 18_800)
    assert facts["steps"] == {"all": 288, "with_events": 188, "no_traffic": 100, "missing": 0}
    left = facts["course"]["budget_left"]
    assert left[99] == left[150] == left[199]
    assert facts["course"]["burn_rate"][150] is None
    assert facts["met"] is True


def test_what_was_not_seen_is_neither_good_nor_bad(day: Job) -> None:
    """An hour is missing: it changes no share, and the budget is of the time that was seen.

    But it could hold more bad events than the objective allows.
    """
    bad, total = np.full(DAY, 1.0), np.full(DAY, 2000.0)
    bad[50:62] = total[50:62] = NAN
    facts = evaluated(day, bad, total)
    assert facts["value"] == pytest.approx(0.9995)
    assert facts["coverage"] == pytest.approx(276 / 288)
    assert facts["steps"]["missing"] == 12
    assert (facts["verdict"], facts["met"]) == ("no_data", None)
    assert facts["reason"] == (
        "holds for what was seen; the 1 h (everywhere, 2026-11-20 04:10 to 05:10 UTC) "
        "not seen could break it"
    )
    assert facts["budget"]["minutes"]["allowed"] == pytest.approx(1.44 * 276 / 288)
    assert facts["course"]["budget_left"][50:62] == [None] * 12
    assert alert_of(facts)["known"] == pytest.approx((277 - 12) / 288)


@pytest.mark.parametrize("missing", [0, 14, 15, 200, 288])
def test_too_little_seen_has_no_verdict(day: Job, missing: int) -> None:
    """What could break the objective while nobody looked keeps it from being met."""
    total = np.full(DAY, 1000.0)
    total[:missing] = NAN
    facts = evaluated(day, 0, total)
    assert facts["verdict"] == ("no_data" if missing else "pass")
    if missing > 14:
        assert "samples were seen" in facts["reason"]
        assert facts["met"] is None


def test_a_series_that_was_hardly_seen_has_no_verdict(tmp_path: Path) -> None:
    services = [f"s{k}" for k in range(20)]
    job = job_of(tmp_path, counted(), services=services, steps=100, primary_region="east",
                 regions=["east"])  # fmt: skip
    values = np.full(100, 1000.0)
    gap = np.where(np.arange(100) < 21, NAN, values)
    rows = [({"region": "east", "service": s}, gap if s == "s3" else values) for s in services]
    zero = [({"region": "east", "service": s}, 0.0) for s in services]
    span = make_span(job, {"slo:errors.numerator": zero, "slo:errors.denominator": rows})
    facts = slo.evaluate(Kpis(job, span), job.slos)["objectives"]["errors"]["overall"]
    assert facts["coverage"] > 0.95
    assert facts["verdict"] == "no_data"
    assert facts["reason"].startswith("of its worst series only 79")


def test_a_server_that_doubts_its_answer_gives_no_verdict(day: Job) -> None:
    facts = evaluated(day, 0, 1000, warnings=["a store did not answer"])
    assert facts["verdict"] == "no_data"
    assert facts["reason"] == "the server warned about its answer: a store did not answer"
    assert facts["value"] == 1


def test_a_query_that_failed_says_why(day: Job) -> None:
    job = day
    span = make_span(job, {}, provenance={"slo:errors.denominator": {"error": "timed out"}})
    facts = slo.evaluate(Kpis(job, span), job.slos)["objectives"]["errors"]["overall"]
    assert (facts["verdict"], facts["value"]) == ("no_data", None)
    assert facts["reason"] == "the query returned nothing"
    assert facts["alerts"][0]["firing"] is None
    assert facts["alerts"][0]["reason"] == "nothing was seen"


def test_recordings_without_the_queries_have_no_data(day: Job) -> None:
    span = make_span(day, {})
    for key in [key for key in span.sets if key.startswith("slo:")]:
        del span.sets[key]
    facts = slo.evaluate(Kpis(day, span), day.slos)["objectives"]["errors"]
    assert facts["overall"]["verdict"] == "no_data"
    assert facts["overall"]["reason"] == "the recording does not hold this query"
    assert facts["queries"] == {"numerator": None, "denominator": None}


def test_no_objectives(day: Job) -> None:
    found = slo.evaluate(kpis_of(day, 0, 1), {})
    assert found["objectives"] == {}
    assert found["counts"] == {"pass": 0, "fail": 0, "no_data": 0}


# --- time slices and thresholds -------------------------------------------------------------------


def test_time_slices(tmp_path: Path) -> None:
    """A slice of ten minutes is good if 90 % of its requests were, however many there were."""
    job = job_of(tmp_path, sliced("10m", 0.9), steps=24)
    bad, total = np.zeros(24), np.full(24, 100.0)
    bad[0], bad[1] = 20, 0  # 10 % of the slice: just good
    bad[2], bad[3] = 20, 1  # bad
    total[4], bad[4], bad[5] = 10_000, 500, 100  # the second step is all bad, the slice is not
    total[6:8] = 0  # no traffic
    bad[8:10] = total[8:10] = NAN  # not seen
    bad[10], total[10] = NAN, NAN  # judged by its other step
    bad[11] = 50
    facts = evaluated(job, bad, total)
    assert facts["steps"] == {"all": 12, "with_events": 10, "no_traffic": 1, "missing": 1}
    assert (facts["bad"], facts["total"]) == (2, 10)
    assert facts["value"] == pytest.approx(0.8)
    assert facts["budget"]["minutes"] == pytest.approx({"allowed": 10, "spent": 20, "left": -10})
    assert facts["budget"]["minute_means"] == "each bad time slice of 10m spends all of its time"
    assert plain(facts["budget"]["words"]) == "20 of 10 minutes of budget used (200 %): overspent"
    assert [(v["start"], v["end"]) for v in facts["violations"]] == [
        (at(2), at(4)),
        (at(10), at(12)),
    ]
    assert facts["course"]["step_seconds"] == 600
    assert facts["burn_rates"]["5m"]["reason"] == "5m is not a whole number of units of 10m"
    # Over the last hour of 10-minute slices: none bad.
    assert facts["burn_rates"]["1h"]["burn_rate"] == 0


def test_thresholds_count_samples(tmp_path: Path) -> None:
    objective = [{"target": 0.75, "op": "lte", "value": 0.5}]
    query = "max by ($by) (latency{$match})"
    job = job_of(
        tmp_path, document(indicator=indicator(threshold(query)), objectives=objective), steps=12
    )
    slow = np.array([0.5] * 6 + [0.6] * 3 + [NAN] * 2 + [math.inf])
    rows = [
        ({"region": r, "service": s}, slow if (r, s) == ("east", "api") else 0.1)
        for r, s in itertools.product(("east", "west"), ("api", "web"))
    ]
    found = slo.evaluate(Kpis(job, make_span(job, {"slo:errors.value": rows})), job.slos)
    facts = found["objectives"]["errors"]
    assert facts["counts"] == "samples"
    assert plain(facts["indicator"]) == "samples ≤ 0.5"
    assert (facts["overall"]["bad"], facts["overall"]["total"]) == (3, 45)
    assert (facts["regions"]["east"]["bad"], facts["regions"]["east"]["total"]) == (3, 21)
    assert facts["regions"]["west"]["value"] == 1
    assert "samples" in facts["overall"]["budget"]["minute_means"]
    # With this target a burn rate of 14.4 cannot be.
    assert "cannot fire" in alert_of(facts["overall"])["reason"]


@pytest.mark.parametrize(("op", "bad"), [("lte", 1), ("lt", 2), ("gte", 1), ("gt", 2)])
def test_operators(tmp_path: Path, op: str, bad: int) -> None:
    objective = [{"target": 0.5, "op": op, "value": 2}]
    job = job_of(
        tmp_path, document(indicator=indicator(threshold("x")), objectives=objective), steps=3
    )
    span = make_span(job, {"slo:errors.value": [({}, [1.0, 2.0, 3.0])]})
    found = slo.evaluate(Kpis(job, span), job.slos)["objectives"]["errors"]
    assert found["overall"]["bad"] == bad
    assert found["regions"] == {}


# --- periods --------------------------------------------------------------------------------------


def test_data_longer_than_the_objectives_window(tmp_path: Path) -> None:
    """Of a day's data only the last six hours are in a window of six hours."""
    job = job_of(tmp_path, counted(timeWindow=[{"duration": "6h", "isRolling": True}]))
    bad = np.zeros(DAY)
    bad[:200] = 100
    bad[-10:] = 0.36
    facts = evaluated(job, bad, 1000)
    assert facts["period"]["young"] is False
    assert facts["period"]["minutes"]["allowed"] == pytest.approx(0.36)
    assert facts["period"]["share_spent"] == pytest.approx(10 * 0.36 / 72)
    words = "1.1 of 22 seconds of budget used (5 %) over 6h rolling"
    assert plain(facts["period"]["words"]) == words


def test_the_calendar_counts_from_the_months_start(tmp_path: Path) -> None:
    month = {"duration": "1M", "calendar": {"startTime": "2026-01-01 00:00:00", "timeZone": "UTC"}}
    job = job_of(tmp_path, counted(timeWindow=[month]))
    period = evaluated(job, 0, 1000)["period"]
    assert (period["start"], period["end"]) == ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z")
    assert period["covered_seconds"] == 86400
    assert period["words"].endswith("; the data cover 24h of 30d")
    assert period["assumes"]


def test_no_window_of_its_own(tmp_path: Path) -> None:
    assert evaluated(job_of(tmp_path, counted(timeWindow=None)), 0, 1)["period"] is None


@pytest.mark.parametrize(
    ("spent", "allowed", "words"),
    [
        (13, 86.4, "13 of 86 minutes of budget used (15 %)"),
        (0, 1.44, "0 of 1.44 minutes of budget used (0 %)"),
        (0.216, 1.44, "0.216 of 1.44 minutes of budget used (15 %)"),
        (0.5, 0.9, "30 of 54 seconds of budget used (56 %)"),
        (1.4401, 1.44, "1.4401 of 1.44 minutes of budget used (100.01 %): overspent"),
        (10.0000001, 10, None),
    ],
)
def test_words(spent: float, allowed: float, words: str | None) -> None:
    said = plain(budget_words(spent, allowed))
    assert said == words if words else said.endswith(": overspent")


# --- independent arithmetic -----------------------------------------------------------------------


EVENTS = st.lists(
    st.one_of(
        st.just((NAN, NAN)),
        st.just((0.0, 0.0)),
        st.tuples(st.integers(0, 30), st.integers(30, 1000)).map(
            lambda pair: (float(pair[0]), float(pair[1]))
        ),
    ),
    min_size=1,
    max_size=120,
)


def slow_burn(bad: Any, total: Any, end: int, steps: int) -> float | None:
    """Burn rate over the steps before `end`, added up singly; None: no verdict, NaN: no events."""
    if end < steps:
        return None
    seen = [(b, t) for b, t in zip(bad[end - steps : end], total[end - steps : end], strict=True)
            if not math.isnan(t)]  # fmt: skip
    if not seen:
        return None
    events = sum(t for _, t in seen)
    return sum(b for b, _ in seen) / events / 0.001 if events else NAN


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(EVENTS)
def test_burn_rates_are_what_adding_up_gives(events: list[tuple[float, float]]) -> None:
    bad, total = (np.array(column) for column in zip(*events, strict=True))
    for steps in (1, 6, 12, 72):
        found = burn_rates(Counts(STEP, bad, total), 0.001, steps * STEP)
        for end in range(1, len(bad) + 1):
            wanted = slow_burn(bad, total, end, steps)
            assert found.known[end - 1] == (wanted is not None)
            rate = found.rate[end - 1]
            if wanted is None or math.isnan(wanted):
                assert math.isnan(rate)
            else:
                assert rate == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(EVENTS, st.data())
def test_alerts_are_what_replaying_the_day_gives(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[float, float]], data: Any
) -> None:
    """Walk through the day step by step, as a server would, and note when each alert fires."""
    bad, total = (np.array(column) for column in zip(*events, strict=True))
    job = job_of(tmp_path_factory.mktemp("replay"), counted(), steps=len(bad))
    kpis = kpis_of(job, bad, total, by=[("east", "api")])
    facts = slo.evaluate(kpis, job.slos)["objectives"]["errors"]["overall"]
    for alert in ALERTS:
        since, fires = None, []
        for end in range(1, len(bad) + 1):
            rates = [slow_burn(bad, total, end, s // STEP) for s in (alert.long, alert.short)]
            burning = all(rate is not None and rate > alert.factor for rate in rates)
            since = (end if since is None else since) if burning else None
            held = since is not None and (end - since) >= alert.hold // STEP
            fires.append(held)
        told = np.zeros(len(bad), dtype=bool)
        for each in alert_of(facts, alert.id)["fired"]:
            first, last = ((_seconds(each[key]) - START) // STEP for key in ("start", "end"))
            told[first - 1 : last if each["ongoing"] else last - 1] = True
        assert told.tolist() == fires, alert.id
    # As of any step, the state is that of a window that ended there.
    step = data.draw(st.integers(1, len(bad)))
    cut = job_of(tmp_path_factory.mktemp("cut"), counted(), steps=step)
    as_of = slo.status(kpis, job.slos, step)["objectives"]["errors"]["overall"]
    alone = slo.evaluate(
        kpis_of(cut, bad[:step], total[:step], by=[("east", "api")]), cut.slos
    )["objectives"]["errors"]["overall"]  # fmt: skip
    del alone["course"]
    for one in (as_of, alone):
        one["budget"].pop("whole_window")
    assert as_of == alone


def _seconds(text: str) -> int:
    return int(np.datetime64(text.removesuffix("Z")).astype("datetime64[s]").astype(int))


# --- live -----------------------------------------------------------------------------------------


def test_status_while_the_window_runs(day: Job) -> None:
    """After 6 of 24 hours, 6 minutes of outage have overspent the day's 1.44 minutes already."""
    bad, total = np.full(DAY, NAN), np.full(DAY, NAN)
    bad[:72], total[:72] = 0.2, 1000
    kpis = kpis_of(day, bad, total)
    found = slo.status(kpis, day.slos, 72)
    facts = found["objectives"]["errors"]["overall"]
    assert "course" not in facts
    assert found["as_of"] == at(72)
    assert facts["coverage"] == 1
    assert facts["verdict"] == "pass"
    assert facts["budget"]["minutes"]["allowed"] == pytest.approx(0.36)
    assert facts["budget"]["share_spent"] == pytest.approx(0.2)
    assert facts["budget"]["whole_window"]["minutes"]["allowed"] == pytest.approx(1.44)
    assert facts["budget"]["whole_window"]["share_spent"] == pytest.approx(0.05)
    assert found["exhausted"] == []
    bad[71] = 600
    late = slo.status(kpis_of(day, bad, total), day.slos, 72)
    assert late["exhausted"][0] == "errors/all"
    # The rest of the day has not been seen: it is missing for who looks at all of it.
    whole = slo.status(kpis, day.slos)["objectives"]["errors"]["overall"]
    assert (whole["coverage"], whole["verdict"]) == (0.25, "no_data")


@pytest.mark.parametrize("step", [0, -1, 289])
def test_status_of_no_step(day: Job, step: int) -> None:
    with pytest.raises(ValueError, match="between 1 and"):
        slo.status(kpis_of(day, 0, 1), day.slos, step)


def test_status_before_a_slice_has_ended(tmp_path: Path) -> None:
    job = job_of(tmp_path, sliced("1h"), steps=24)
    facts = slo.status(kpis_of(job, 0, 1), job.slos, 3)["objectives"]["errors"]["overall"]
    assert (facts["verdict"], facts["reason"]) == ("no_data", "no time slice has ended")


# --- what is shown --------------------------------------------------------------------------------


def shown(job: Job, bad: Any, total: Any, **more: Any) -> tuple[Any, dict[str, Any]]:
    """Return a run that holds what the views need of one, and its objectives' facts."""
    kpis = kpis_of(job, bad, total, **more)
    run = SimpleNamespace(job=job, recording=SimpleNamespace(window=kpis.span))
    return run, slo.evaluate(kpis, job.slos)


def cells(table: pd.DataFrame) -> list[list[str]]:
    return [[plain(str(cell)) for cell in row] for row in written(table)["rows"]]


def test_tables(day: Job) -> None:
    bad = np.zeros(DAY)
    bad[24:28] = 500
    run, facts = shown(day, bad, 1000)
    rows = cells(views.slo_table(run, facts))
    assert [row[1] for row in rows] == ["all", "east", "west"]
    assert rows[0] == [
        "errors", "all", "fail", "99.31 %", "99.9 %",
        "10 of 1.44 minutes used (690 %): overspent", "25 %", "100 %",
    ]  # fmt: skip
    note = plain(written(views.slo_table(run, facts))["note"])
    assert "The data cover 1 d of 28d" in note
    alerts = views.burn_alert_table(run, facts)
    assert cells(alerts)[0] == [
        "page", "14.4 over 1h/5m", "errors", "all", "2026-11-20 02:05 UTC", "20 min", "167",
    ]  # fmt: skip
    assert "1 over 3d/6h: the data cover 24h, which is less than 3d" in written(alerts)["note"]


def test_tables_of_a_good_day_and_of_nothing(day: Job) -> None:
    run, good = shown(day, 0, 1000)
    said = written(views.burn_alert_table(run, good))["empty"]
    assert said == "None of the alerts that have a verdict would have fired."
    run, nothing = shown(day, NAN, NAN)
    assert "NO DATA" in str(cells(views.slo_table(run, nothing))[0])
    assert cells(views.slo_table(run, nothing))[0][2] == "no_data"
    assert "no data" in views.budget_chart(run, nothing).alt


def test_charts(day: Job) -> None:
    bad, total = np.zeros(DAY), np.full(DAY, 1000.0)
    bad[24:28] = 500
    total[100:110] = NAN
    run, facts = shown(day, bad, total)
    budget = plain(views.budget_chart(run, facts).alt)
    assert "errors, east: lowest 0 % " in budget
    assert "errors, east has no data for 50 min, first from 2026-11-20 08:20 UTC" in budget
    assert "all of the budget 100 %" in budget
    by_region = views.budget_chart(run, facts, None, "errors")
    assert by_region.name == "error-budget-errors"
    assert "east: lowest" in by_region.alt
    incident = {"began": at(24), "ended": at(28), "region": "west", "findings": [1, 2]}
    shaded = views.budget_chart(run, facts, {"incidents": [incident]})
    assert "incident west" in shaded.alt


def test_charts_of_slices_stand_on_the_steps(tmp_path: Path) -> None:
    job = job_of(tmp_path, sliced("30m"), steps=24)
    bad = np.zeros(24)
    bad[6:12] = 50
    run, facts = shown(job, bad, 100.0)
    drawn = views.slo._course(run, facts["objectives"]["errors"]["overall"], "burn_rate")
    assert drawn.tolist() == pytest.approx([0] * 6 + [10] * 6 + [0] * 12)


# --- false alarms ---------------------------------------------------------------------------------


def test_no_page_for_noise_and_a_page_for_an_outage(day: Job) -> None:
    """Over 200 days at half of the allowed errors no page; with 3 % bad, one within 35 minutes.

    With 2,000 requests a step the allowed are 2: an hour of the mean's 12 reaches 14.4 × 24 with a
    probability below 1e-300, so one page here would be a defect of ours.
    """
    rng = np.random.default_rng(11)
    total = np.full((200, DAY), 2000.0)
    bad = rng.binomial(2000, 0.0005, (200, DAY)).astype(float)
    for k in range(200):
        counts = Counts(STEP, bad[k], total[k])
        for alert in ALERTS[:2]:
            rates = [burn_rates(counts, 0.001, s).rate for s in (alert.long, alert.short)]
            assert not ((rates[0] > alert.factor) & (rates[1] > alert.factor)).any()
    bad[0, 150:] += rng.binomial(2000, 0.03, DAY - 150)
    page = alert_of(evaluated(day, bad[0], total[0]))
    (fired,) = page["fired"]
    # 12 steps × 14.4 / 30 = 5.8: the sixth bad step.
    assert at(150 + 5) <= fired["start"] <= at(150 + 7)


# --- the same numbers as a Prometheus -------------------------------------------------------------

HOURS = 7
SCRAPE = 30
SERIES = [(region, service) for region in ("east", "west") for service in ("api", "web")]


def history() -> Iterator[str]:
    """Write counters and a gauge: an outage, a restart, a gap, and a first error that is late."""
    rng = np.random.default_rng(5)
    times = np.arange(START - 600, START + HOURS * 3600 + 60, SCRAPE)
    outage = (times > START + 3 * 3600) & (times < START + 3.5 * 3600)
    gap = (times > START + 5 * 3600) & (times < START + 5.4 * 3600)
    counters, gauges = ["# TYPE requests counter"], ["# TYPE queue gauge"]
    for (region, service), offset in zip(SERIES, (7, 12, 19, 26), strict=True):
        labels = f'region="{region}",service="{service}"'
        requests = rng.poisson(3000, len(times))
        likely = np.where(outage & (region == "west"), 0.2, 0.01)
        if (region, service) == ("east", "api"):
            likely[times < START + 2 * 3600] = 0
        failed = rng.binomial(requests, likely)
        restart = len(times) // 2 if service == "web" else 0
        good, bad = _counter(requests - failed, restart), _counter(failed, restart)
        queue = rng.normal(50, 30, len(times)) + 100 * outage
        for k in np.flatnonzero(~gap | (service != "api")):
            when = times[k] + offset
            gauges.append(f"queue{{{labels}}} {_odd(when, service) or f'{queue[k]:.6g}'} {when}")
            counters.append(f'requests_total{{{labels},code="200"}} {good[k]} {when}')
            if bad[k] or region == "west":  # the first error makes the series
                counters.append(f'requests_total{{{labels},code="500"}} {bad[k]} {when}')
    yield from (*counters, *gauges, "# EOF")


def _odd(when: int, service: str) -> str:
    """Return what is no sample of a gauge, for half an hour of one service."""
    if service != "web" or not START + 300 < when < START + 2100:
        return ""
    return "NaN" if when < START + 1200 else "+Inf"


def _counter(events: Any, restart: int) -> Any:
    """Count events up; at a restart the counter begins again."""
    counter = np.cumsum(events)
    if restart:
        counter[restart:] -= counter[restart - 1]
    return counter


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("slo")
    file = folder / "history.om"
    file.write_text("\n".join(history()) + "\n", encoding="utf-8")
    servers.backfill(folder / "data", file)
    with servers.prometheus(folder / "data") as url:
        yield url


ENDS = (12, 36, 37, 40, 42, 48, 54, 62, 64, 72, 84)
"""Steps at whose end is compared: before, in and after the outage, the restart and the gap."""

OBJECTIVES = {
    "plain": document(
        indicator=indicator(
            {"ratioMetric": {"counter": True, "bad": metric('requests_total{code=~"5.."}'),
                             "total": metric("requests_total")}}
        )
    ),
    "good": document(
        indicator=indicator(ratio('requests_total{code="200"}', "requests_total"))
    ),
    "one service": document(
        service="web",
        indicator=indicator(ratio('requests_total{code="200"}', "requests_total")),
    ),
    "threshold": document(
        indicator=indicator(threshold("max by ($by) (queue{$match})")),
        objectives=[{"target": 0.95, "op": "lte", "value": 90}],
    ),
    "slices": document(
        indicator=indicator(ratio('requests_total{code="200"}', "requests_total")),
        budgetingMethod="Timeslices",
        objectives=[{"target": 0.95, "timeSliceTarget": 0.9898, "timeSliceWindow": "5m"}],
    ),
    "threshold slices": document(
        indicator=indicator(threshold("max by ($by) (queue{$match})")),
        budgetingMethod="Timeslices",
        objectives=[
            {"target": 0.95, "op": "lte", "value": 90, "timeSliceTarget": 0.75,
             "timeSliceWindow": "15m"},
        ],
    ),
}  # fmt: skip


def inlined(job: Job, record: str) -> str:
    """Return a recording rule's expression, with the rules that it reads put into it.

    A range over a recorded series becomes a subquery with the interval of its group.
    """
    made = {
        rule["record"]: (rule["expr"], group.get("interval", "5m"))
        for group in rules.groups(job)
        for rule in group["rules"]
        if "record" in rule
    }

    def put(expression: str) -> str:
        def whole(match: re.Match[str]) -> str:
            inner, interval = made[match[1]]
            window = f"[{match[2]}:{interval}]" if match[2] else ""
            return f"({put(inner)}){window}"

        return re.sub(r'([a-z_]+:slo_\w+:\w+)\{slo="[^"]*"\}(?:\[(\w+)\])?', whole, expression)

    return put(made[record][0])


def added_up(job: Job, seconds: int) -> str:
    """Return PromQL that adds up the steps of a window, as we do: the burn rate by region."""
    (objective,) = job.slos.values()
    bad, total = (
        f"sum by (region) (sum_over_time(({each})[{seconds - 1}s:5m]))"
        for each in rules._Objective(job, objective)._events(STEP)
    )
    return f"{bad} / {total} / 0.001"


@pytest.mark.parametrize("case", OBJECTIVES)
def test_the_same_numbers_as_prometheus(tmp_path: Path, served: str, case: str) -> None:
    """At many times, over every window, the server's own arithmetic gives our burn rates.

    Exactly (to 1e-9) where it adds up the same steps, or takes the same samples and slices. For
    events the rules ask increase() for a whole window at once. There the outage's edges differ: at
    a scrape in 30 s a step of 5 minutes sees 270 s, and extrapolates the rest. So these agree to
    7 %, and to 2.5 % where no edge lies in the window.
    """
    write(tmp_path, OBJECTIVES[case])
    window = {"start": format_time(START), "duration": f"{HOURS}h", "step": "5m"}
    before = {"start": "2026-11-13T00:00:00Z", "duration": f"{HOURS}h"}
    source = {"prometheus": served}
    job = parameters.load(
        write_run(
            tmp_path,
            source=source,
            slos="slos.yaml",
            window=window,
            baseline=before,
            scrapes_={"selector": 'requests_total{code="200",$match}'},
        )
    )
    kpis = Kpis(job, collection.collect(job).window)
    (objective,) = job.slos.values()
    recorded = {rule.get("record") for group in rules.groups(job) for rule in group["rules"]}
    compared = 0
    for end, length in itertools.product(ENDS, ("5m", "30m", "1h", "6h")):
        record, seconds = f"slo_burn_rate:ratio{length}", parse_duration(length)
        if f"global:{record}" not in recorded:
            continue
        facts = slo.status(kpis, job.slos, end)["objectives"]["errors"]
        ours: dict[tuple[str, ...], Any] = {(): facts["overall"]}
        ours |= {(region,): facts["regions"][region] for region in ("east", "west")}
        when = START + end * STEP
        theirs = servers.query(served, inlined(job, f"region:{record}"), when)
        theirs |= servers.query(served, inlined(job, f"global:{record}"), when)
        by_step: dict[tuple[str, ...], float] = {}
        if objective.counts != "samples" and objective.slice_seconds is None:
            by_step = servers.query(served, added_up(job, seconds), when)
        for place, of_place in ours.items():
            rate = of_place["burn_rates"][length]["burn_rate"]
            if end * STEP < seconds:
                assert rate is None  # the server has what came before, we do not
                continue
            compared += 1
            if place in by_step:
                assert rate == pytest.approx(by_step[place], rel=1e-9, abs=1e-9)
            if objective.counts == "samples" or objective.slice_seconds is not None:
                near = 1e-9
            else:
                edge = 36 < end <= 42 + seconds // STEP
                near = 0.07 if edge else 0.025
            assert rate == pytest.approx(theirs[place], rel=near, abs=1e-9), (end, length, place)
    assert compared > 30
