"""KPIs: against plain arithmetic, against a real server's PromQL, and against what really happened.

Tolerances against the server, whose `increase` extrapolates each of 288 steps where ours adds them
up (measured on the demo, see test_simulate): 0.3 % of a total; errors, which are few and come in
bursts, 2 % in total and 10 % or 5 of a service; 0.5 % of a percentile; ratios of `up`, gauges and
counts exactly.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo import simulate
from demo.simulate import HOUR, small
from tars_ga_lib import collection, kpis, parameters
from tars_ga_lib.kpis import Kpis
from tars_ga_lib.parameters import Job
from tars_ga_lib.queries import EVALUATIONS, FIRING
from tars_ga_lib.recording import Recording
from tests import servers
from tests.helpers import (
    COUNTER,
    GAUGE,
    KPIS,
    PLACES,
    ROOT,
    START,
    STEP,
    make_job,
    make_recording,
    make_span,
    places,
    small_job,
)
from tests.servers import Serve, Served

NAN = math.nan
UP = {"availability.numerator": places(9.0), "availability.denominator": places(10.0)}


def make_kpis(folder: Path, answers: dict[str, Any], **changes: Any) -> Kpis:
    """Return the KPIs of a window of 12 steps that was answered like this."""
    job = make_job(folder, **changes)
    return Kpis(job, make_span(job, answers))


def buckets(*counts: tuple[str, Any], region: str = "east", service: str = "api") -> list[Any]:
    """Return the series of one histogram."""
    return [({"region": region, "service": service, "le": le}, values) for le, values in counts]


# --- Percentiles ----------------------------------------------------------------------------------


def plain_quantile(q: float, edges: list[float], counts: list[float]) -> float:
    """Prometheus' histogram_quantile in plain words, from its documentation and source."""
    highest = 0.0
    counts = [highest := max(highest, count) for count in counts]
    total = counts[-1]
    if not total > 0:
        return NAN
    rank, index = q * total, 0
    while index < len(edges) - 1 and counts[index] < rank:
        index += 1
    if index == len(edges) - 1:
        return edges[-2]
    if index == 0 and edges[0] <= 0:
        return edges[0]
    start = edges[index - 1] if index else 0.0
    before = counts[index - 1] if index else 0.0
    inside = counts[index] - before
    return start + (edges[index] - start) * ((rank - before) / inside if inside else 0)


@st.composite
def histograms(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    numbers = st.floats(-10, 1e4, allow_nan=False).map(lambda x: round(x, 3))
    edges = sorted(draw(st.lists(numbers, min_size=1, max_size=8, unique=True)))
    increments = draw(
        st.lists(st.integers(0, 50), min_size=len(edges) + 1, max_size=len(edges) + 1)
    )
    return [*edges, math.inf], np.cumsum(increments).astype(float).tolist()


@given(histograms(), st.floats(0.01, 0.999))
def test_quantile_is_the_plain_one(histogram: tuple[list[float], list[float]], q: float) -> None:
    edges, counts = histogram
    value, lower, upper = kpis.quantile(q, np.array(edges), np.array(counts)[:, None])
    expected = plain_quantile(q, edges, counts)
    assert value[0] == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)
    if counts[-1]:
        assert lower[0] <= value[0] + 1e-9
        assert value[0] <= upper[0] + 1e-9


@settings(max_examples=60, deadline=None)
@given(st.lists(histograms(), min_size=1, max_size=1), st.sampled_from([0.5, 0.95, 0.99]))
def test_quantiles_of_many_series_at_once(found: list[Any], q: float) -> None:
    edges, counts = found[0]
    several = np.array([counts, counts[:], [0.0] * len(counts)]).T
    value = kpis.quantile(q, np.array(edges), several)[0]
    assert value[0] == pytest.approx(plain_quantile(q, edges, counts), nan_ok=True)
    assert np.isnan(value[2])


def test_quantile_equals_the_servers(demo_server: Served) -> None:
    """The real histogram_quantile, of the same numbers, to the last digits."""
    dice = np.random.default_rng(7)
    edges = [0.005, 0.01, 0.1, 0.5, 1.0, math.inf]
    for _ in range(20):
        counts = np.cumsum(dice.integers(0, 9, len(edges))).astype(float)
        q = float(dice.choice([0.01, 0.5, 0.9, 0.99]))
        parts = " or ".join(
            f'label_replace(vector({count}), "le", "{le}", "", "")'
            for le, count in zip(["0.005", "0.01", "0.1", "0.5", "1", "+Inf"], counts, strict=True)
        )
        (said,) = servers.query(demo_server.url, f"histogram_quantile({q}, {parts})", 0).values()
        ours = kpis.quantile(q, np.array(edges), counts[:, None])[0][0]
        assert ours == pytest.approx(said, rel=1e-12, nan_ok=True)


def test_percentile_comes_from_summed_buckets(tmp_path: Path) -> None:
    """Never a mean of percentiles: a quiet slow series weighs less than a busy fast one."""
    fast = buckets(("0.1", 990.0), ("1", 990.0), ("+Inf", 990.0))
    slow = buckets(("0.1", 0.0), ("1", 10.0), ("+Inf", 10.0), service="web")
    found = make_kpis(tmp_path, {"latency_p99.buckets": fast + slow})
    assert found.figure("latency_p50").value == pytest.approx(0.1 * 500 / 990)
    assert found.figure("latency_p99", "east").value == pytest.approx(0.1)
    assert found.figure("latency_p99", "east", "web").value == pytest.approx(0.1 + 0.9 * 0.99)
    mean = (found.figure("latency_p99", "east", "api").value or 0) / 2 + 0.991 / 2
    assert found.figure("latency_p99").value != pytest.approx(mean, rel=0.1)
    assert found.figure("latency_p99").bounds == (0.0, 0.1)


def test_percentile_over_time_comes_from_summed_buckets(tmp_path: Path) -> None:
    busy = np.array([1.0] * 11 + [1000.0])
    found = make_kpis(
        tmp_path,
        {"latency_p99.buckets": buckets(("0.1", busy), ("1", busy + 1), ("+Inf", busy + 1))},
    )
    below, total = float(busy.sum()), float(busy.sum() + 12)
    expected = 0.1 + 0.9 * (0.99 * total - below) / (total - below)
    assert found.figure("latency_p99").value == pytest.approx(expected)
    assert expected < 0.3  # the mean of the steps' percentiles is above 0.9
    assert np.nanmean(found.series("latency_p99")) > 0.9
    assert found.series("latency_p50")[0] == pytest.approx(0.1)


def test_beyond_the_highest_bucket(tmp_path: Path) -> None:
    found = make_kpis(tmp_path, {"latency_p99.buckets": buckets(("0.1", 5.0), ("+Inf", 10.0))})
    figure = found.figure("latency_p99", "east", "api")
    assert (figure.value, figure.beyond, figure.bounds) == (0.1, True, None)
    assert figure.facts()["beyond_highest_bucket"] is True


@pytest.mark.parametrize(
    "rows",
    [
        buckets(("+Inf", 10.0)),  # nothing but the total
        buckets(("0.1", 5.0), ("1", 10.0)),  # no total
        buckets(("0.1", 5.0), ("+Inf", 9.0)) + buckets(("0.2", 5.0), ("+Inf", 9.0), service="web"),
        buckets(("0.1", 5.0), ("1", 9.0)) + buckets(("0.2", 5.0), ("2", 9.0), service="web"),
        buckets(("oops", 5.0), ("+Inf", 9.0)),
    ],
    ids=["only Inf", "no Inf", "nothing in common", "nothing at all in common", "no number"],
)
def test_buckets_of_which_no_percentile_can_be_told(tmp_path: Path, rows: Any) -> None:
    found = make_kpis(tmp_path, {"latency_p99.buckets": rows})
    figure = found.figure("latency_p99", "east")
    assert figure.value is None
    assert figure.reason
    assert np.isnan(found.series("latency_p99", "east")).all()


def test_different_bucket_layouts_meet_at_their_common_edges(tmp_path: Path) -> None:
    one = buckets(("0.1", 50.0), ("0.5", 90.0), ("1", 100.0), ("+Inf", 100.0))
    two = buckets(("0.1", 40.0), ("0.7", 90.0), ("1", 100.0), ("+Inf", 100.0), service="web")
    figure = make_kpis(tmp_path, {"latency_p99.buckets": one + two}).figure("latency_p50", "east")
    assert figure.value == pytest.approx(0.1 + 0.9 * (100 - 90) / (200 - 90))
    assert figure.bounds == (0.1, 1.0)


@pytest.mark.parametrize("edge", [0, 1, 2])
def test_a_step_without_one_of_its_edges_is_missing(tmp_path: Path, edge: int) -> None:
    rows = buckets(("0.1", np.full(12, 5.0)), ("1", np.full(12, 9.0)), ("+Inf", np.full(12, 10.0)))
    rows[edge][1][4] = NAN
    found = make_kpis(tmp_path, {"latency_p99.buckets": rows})
    figure = found.figure("latency_p99", "east", "api")
    assert (figure.samples, figure.expected) == (11, 12)
    assert figure.value == 1.0
    assert np.isnan(found.series("latency_p99", "east", "api")[4])


# --- Ratios, counters, gauges ---------------------------------------------------------------------


def test_ratio_is_total_over_total(tmp_path: Path) -> None:
    """Never a mean of ratios."""
    answers = {
        "availability.numerator": places(np.array([0.0] + [1000.0] * 11)),
        "availability.denominator": places(np.array([1.0] + [1000.0] * 11)),
    }
    found = make_kpis(tmp_path, answers)
    assert found.figure("availability").value == 11000 / 11001
    assert found.series("availability")[0] == 0
    assert found.series("availability")[1] == 1


def test_ratio_needs_both_sides(tmp_path: Path) -> None:
    half = np.array([9.0] * 6 + [NAN] * 6)
    found = make_kpis(
        tmp_path,
        {"availability.numerator": places(half), "availability.denominator": places(10.0)},
    )
    figure = found.figure("availability")
    assert figure.value == 0.9  # not 0.45
    assert figure.coverage == 0.5
    other = make_kpis(tmp_path, {"availability.denominator": places(10.0)})
    assert other.figure("availability").value is None
    assert other.figure("availability").reason == "the query returned nothing"


def test_totals_and_rates(tmp_path: Path) -> None:
    gap = np.array([60.0] * 9 + [NAN] * 3)
    found = make_kpis(tmp_path, {"requests.increase": [*places(60.0)[:3], (_web(), gap)]})
    assert found.figure("requests").value == 60 * 12 * 3 + 60 * 9
    assert found.figure("requests").coverage == 45 / 48
    assert found.figure("requests").worst_series_coverage == 0.75
    assert found.figure("requests", "west", "web").value == 540
    assert found.figure("requests", None, "api").value == 1440
    # A rate is of the time that was seen: a gap does not slow it down.
    assert found.figure("request_rate").value == pytest.approx(4 * 60 / 300)
    assert found.series("request_rate", "east", "api")[0] == 0.2
    assert np.isnan(found.series("request_rate")[9:]).all()  # not all were there


def _web() -> dict[str, str]:
    return {"region": "west", "service": "web"}


def test_gauges(tmp_path: Path) -> None:
    ramp = np.arange(12.0)
    found = make_kpis(tmp_path, {"memory.value": places(ramp), "replicas.value": places(ramp)})
    assert found.figure("memory").value == 4 * 5.5
    assert found.figure("replicas").value == 4 * 11
    assert found.figure("memory", "east", "api").value == 5.5


@pytest.mark.parametrize(
    ("across", "over", "value"),
    [
        ("sum", "mean", 12.0), ("sum", "last", 13.0), ("mean", "max", 6.5), ("max", "mean", 10.0),
        ("min", "min", 1.0), ("max", "last", 10.0), ("sum", "min", 11.0),
    ],
)  # fmt: skip
def test_ways_to_join_gauges(tmp_path: Path, across: str, over: str, value: float) -> None:
    kpi = GAUGE | {"value": "x", "across": across, "over": over}
    rows = [
        ({"region": "east", "service": "api"}, np.array([1.0, 2.0, 3.0] * 4)),
        ({"region": "east", "service": "web"}, 10.0),
    ]
    found = make_kpis(tmp_path, {"x.value": rows}, kpis_=KPIS | {"x": kpi})
    assert found.figure("x", "east").value == value


def test_a_sum_without_one_of_its_parts_is_no_sum(tmp_path: Path) -> None:
    hole = np.array([5.0, NAN] * 6)
    rows = [*places(10.0)[:3], (_web(), hole)]
    found = make_kpis(tmp_path, {"memory.value": rows})
    assert found.figure("memory").value == 35  # 30 would be the mean of sums with a part missing
    assert found.figure("memory", "west").coverage == 0.75
    never = [(places(0)[0][0], np.array([1.0, NAN] * 6)), (_web(), np.array([NAN, 1.0] * 6))]
    figure = make_kpis(tmp_path, {"memory.value": never}).figure("memory")
    assert figure.value is None
    assert figure.reason == "its series were never seen all at one step"


# --- Missing data is never good news --------------------------------------------------------------


@pytest.mark.parametrize("kpi", list(KPIS))
@pytest.mark.parametrize("what", ["nothing", "error", "all NaN", "all infinite", "other places"])
def test_no_figure_from_nothing(tmp_path: Path, kpi: str, what: str) -> None:
    job = make_job(tmp_path)
    elsewhere = [("north", "api"), ("east", "db")]
    rows: dict[str, Any] = {
        "nothing": [],
        "error": [],
        "all NaN": places(NAN),
        "all infinite": places(math.inf),
        "other places": places(1.0, elsewhere),
    }
    names = [
        "availability.numerator", "availability.denominator", "requests.increase", "memory.value",
        "replicas.value",
    ]  # fmt: skip
    answers = dict.fromkeys(names, rows[what])
    answers["latency_p99.buckets"] = [
        (labels | {"le": le}, values) for labels, values in rows[what] for le in ("0.1", "+Inf")
    ]
    errors = {name: {"error": "HTTP 500: no"} for name in answers} if what == "error" else {}
    found = Kpis(job, make_span(job, answers, provenance=errors))
    for place in [(None, None), ("east", None), (None, "api"), ("east", "api")]:
        figure = found.figure(kpi, *place)
        assert figure.value is None
        assert figure.samples == 0
        assert figure.coverage == 0
        assert figure.expected in (12, 24, 48)
        assert figure.reason
        assert "value" in figure.facts()
        assert np.isnan(found.series(kpi, *place)).all()
    if what == "error":
        assert found.figure(kpi).reason == "HTTP 500: no"
    text = json.dumps(kpis.summary(found), allow_nan=False)
    assert '"value": 0' not in text
    assert '"value": 1' not in text


def test_zero_traffic_is_no_ratio_and_no_percentile(tmp_path: Path) -> None:
    answers = {
        "availability.numerator": places(0.0),
        "availability.denominator": places(0.0),
        "requests.increase": places(0.0),
        "latency_p99.buckets": [
            (dict(labels) | {"le": le}, 0.0) for labels, _ in places(0) for le in ("0.1", "+Inf")
        ],
    }
    found = make_kpis(tmp_path, answers)
    for kpi in ("availability", "latency_p99"):
        figure = found.figure(kpi)
        assert (figure.value, figure.coverage) == (None, 1.0)
        assert figure.reason == "there was no traffic"
    assert found.figure("requests").value == 0  # that much was counted


def test_several_series_of_one_place_are_refused(tmp_path: Path) -> None:
    """A query that was not summed must not answer with whichever of its series came last."""
    rows = [({"region": "east", "service": "api", "pod": str(n)}, float(n)) for n in range(3)]
    found = make_kpis(tmp_path, {"memory.value": rows, "requests.increase": rows})
    for kpi in ("memory", "requests"):
        figure = found.figure(kpi, "east", "api")
        assert figure.value is None
        assert "several series" in figure.reason
        assert "$by" in figure.reason


def test_one_template_asked_by_two_sets_of_labels(tmp_path: Path) -> None:
    text = "sum by ($by) (x{$match})"
    several = {
        "coarse": COUNTER | {"increase": text, "by": ["region"]},
        "fine": COUNTER | {"increase": text},
        "all": COUNTER | {"increase": "sum by ($by) (x{$match})", "by": []},
    }
    regions = [({"region": region}, 10.0) for region in ("east", "west")]
    answers = {
        "coarse.increase": regions,
        "fine.increase": places(1.0),
        "all.increase": [({}, 7.0)],
    }
    for order in (["coarse", "fine", "all"], ["fine", "all", "coarse"]):
        found = make_kpis(tmp_path, answers, kpis_=KPIS | several)
        for name in order:
            found.figure(name)
        assert found.figure("coarse", "east").value == 120
        assert found.figure("fine", "east", "api").value == 12
        assert found.figure("fine").expected == 48
        assert found.figure("all").value == 84
        assert found.figure("coarse").expected == 24


def test_kpis_share_what_they_have_in_common(tmp_path: Path) -> None:
    found = make_kpis(tmp_path, {"requests.increase": places(1.0)})
    found.figure("requests")
    found.figure("request_rate")
    cells = {id(each) for each in found._cells.values()}
    assert len(cells) == 1


def test_server_warnings_are_doubts(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    warnings = {
        "requests.increase": {"infos": ["not a counter"], "warnings": ["one store is gone"]}
    }
    found = Kpis(job, make_span(job, {"requests.increase": places(1.0)}, provenance=warnings))
    assert found.doubts("requests") == ["one store is gone"]
    assert found.doubts("memory") == []


def test_extremes(tmp_path: Path) -> None:
    values = np.array([3.0, 9.0, NAN, 1.0] + [5.0] * 8)
    found = make_kpis(tmp_path, {"memory.value": [(places(0)[0][0], values)]})
    low, high = found.extremes("memory") or (None, None)
    assert low is not None
    assert high is not None
    assert (low.value, str(low.time)) == (1.0, "2026-11-20T00:20:00")
    assert (high.value, str(high.time)) == (9.0, "2026-11-20T00:10:00")
    assert found.extremes("requests") is None


# --- Alerts ---------------------------------------------------------------------------------------

ALERTS = {"firing": "ALERTS", "evaluations": "evaluations"}
LABELS = {"alertname": "Down", "severity": "critical", "region": "east", "service": "api"}


def found_alerts(folder: Path, firing: Any, evaluations: Any, **more: Any) -> kpis.Alerts:
    job = make_job(folder, alerts_=ALERTS)
    return kpis.alerts(job, make_span(job, {FIRING: firing, EVALUATIONS: evaluations}, **more))


def test_alerts_are_found_with_their_times(tmp_path: Path) -> None:
    on = np.array([NAN, 1, 1, NAN, NAN, 1, NAN, NAN, NAN, NAN, 1, 1])
    found = found_alerts(tmp_path, [(LABELS, on)], [({}, 5.0)])
    times = [((a.start - START) // STEP, (a.end - START) // STEP, a.ongoing) for a in found.fired]
    assert times == [(1, 3, False), (5, 6, False), (10, 12, True)]
    assert (found.known, found.reason) == (1.0, "")
    assert (found.count(), found.count("critical"), found.count("info")) == (3, 3, 0)
    facts = found.fired[0].facts()
    assert facts["duration_seconds"] == 600
    assert (facts["start"], facts["end"]) == ("2026-11-20T00:05:00Z", "2026-11-20T00:15:00Z")


def test_no_alerts_are_believed_with_proof_only(tmp_path: Path) -> None:
    assert found_alerts(tmp_path, [], [({}, 5.0)]).count() == 0
    proofs: list[Any] = [[], [({}, 0.0)], [({}, NAN)]]
    for proof in proofs:
        found = found_alerts(tmp_path, [], proof)
        assert found.count() is None
        assert found.count("critical") is None
        assert "evaluated" in found.reason
    half = found_alerts(tmp_path, [], [({}, np.array([1.0] * 6 + [NAN] * 6))])
    assert (half.known, half.count()) == (0.5, 0)


def test_alerts_that_could_not_be_asked_for(tmp_path: Path) -> None:
    error = {"error": "HTTP 500: no"}
    for name in (FIRING, EVALUATIONS):
        found = found_alerts(tmp_path, [], [({}, 5.0)], provenance={name: error})
        assert (found.count(), found.reason) == (None, "HTTP 500: no")
    job = make_job(tmp_path)
    assert kpis.alerts(job, make_span(job, {})).count() is None


def test_alerts_without_proof_are_still_told(tmp_path: Path) -> None:
    found = found_alerts(tmp_path, [(LABELS, 1.0)], [])
    assert (found.count(), found.known) == (1, 0)


# --- Cost -----------------------------------------------------------------------------------------


def cost_of(folder: Path, answers: dict[str, Any]) -> dict[str, Any]:
    gauge = GAUGE | {"by": ["region"]}
    names = {
        "cluster_cpu_cores": gauge | {"value": "cores"},
        "cluster_memory": gauge | {"value": "m"},
    }
    return kpis.cost(make_kpis(folder, answers, kpis_=KPIS | names))


def test_cost(tmp_path: Path) -> None:
    cores = [({"region": region}, 10.0) for region in ("east", "west")]
    memory = [({"region": region}, 32.0 * 2**30) for region in ("east", "west")]
    found = cost_of(tmp_path, {"cluster_cpu_cores.value": cores, "cluster_memory.value": memory})
    assert found["usd_per_hour"] == pytest.approx(20 * 0.10 + 64 * 0.02)
    assert "network and storage" in found["estimate"]
    nothing = cost_of(tmp_path, {"cluster_cpu_cores.value": cores})
    assert nothing["usd_per_hour"] is None
    assert nothing["reason"]
    assert kpis.cost(make_kpis(tmp_path, {}))["usd_per_hour"] is None


# --- The files ------------------------------------------------------------------------------------


def test_files_hold_no_nan_and_the_same_numbers(tmp_path: Path) -> None:
    job = make_job(tmp_path, alerts_=ALERTS)
    answers = UP | {"requests.increase": places(np.array([1.0] * 11 + [NAN]))}
    recording = make_recording(
        make_span(job, answers), make_span(job, answers, "baseline_1"), simulated=True
    )
    window, before = Kpis.together(job, [recording.window, *recording.baselines])
    summary = kpis.collection_summary(window, recording)
    baseline = kpis.baseline_metrics([before], recording)
    lines = kpis.snapshots(window)
    json.dumps([summary, baseline, lines], allow_nan=False)
    assert summary["simulated"] is True
    assert summary["kpis"]["availability"]["overall"]["value"] == 0.9
    assert summary["kpis"]["requests"]["regions"]["east"]["value"] == 22
    assert len(summary["kpis"]["requests"]["series"]) == len(PLACES)
    assert summary["kpis"]["availability"]["queries"]["numerator"].startswith("sum by (region")
    assert summary["alerts"]["counts"]["critical"] is None
    (interval,) = baseline["intervals"]
    assert interval["window"]["start"] == "2026-11-13T00:00:00Z"
    assert interval["kpis"]["requests"]["overall"]["value"] == 44
    assert len(lines) == 12
    assert lines[0]["step_end"] == "2026-11-20T00:05:00Z"
    assert lines[0]["kpis"]["requests"] == {"overall": 4, "east": 2, "west": 2}
    assert lines[-1]["kpis"]["requests"] == {"overall": None, "east": None, "west": None}


# --- Against a real server, and the truth ---------------------------------------------------------


@pytest.fixture(scope="module")
def demo(demo_server: Served) -> tuple[Job, Recording]:
    sets = [f"source={{prometheus: '{demo_server.url}'}}", "baseline.repeat=7d x 1"]
    job = parameters.load(ROOT / "parameters" / "demo.yaml", sets)
    return job, collection.collect(job)


def both_days(demo: tuple[Job, Recording], served: Served) -> list[tuple[Kpis, simulate.DayTruth]]:
    job, recording = demo
    return [
        (Kpis(job, recording.window), served.truth["ga"]),
        (Kpis(job, recording.spans["baseline_1"]), served.truth["baseline"]),
    ]


def test_figures_are_the_truth(demo: tuple[Job, Recording], demo_server: Served) -> None:
    for found, day in both_days(demo, demo_server):
        seen = {
            (r, s): day.total("requests", str(r), str(s))
            - day.total("unseen_requests", str(r), str(s))
            for r, s in found.places("requests")
        }
        for place, truth in seen.items():
            assert found.figure("requests", *place).value == pytest.approx(truth, rel=3e-3)
        assert found.figure("requests").value == pytest.approx(sum(seen.values()), rel=1e-3)
        errors = day.total("errors") - day.total("unseen_errors")
        assert found.figure("errors").value == pytest.approx(errors, rel=0.02)
        rate = errors / sum(seen.values())
        assert found.figure("error_rate").value == pytest.approx(rate, rel=0.02)
        for region, service in found.places("availability"):
            up, scrapes = (day.total(k, str(region), str(service)) for k in ("up", "scrapes"))
            assert found.figure("availability", region, service).value == up / scrapes
        assert found.figure("availability").value == day.total("up") / day.total("scrapes")
        cpu = day.total("cpu_seconds") - day.total("unseen_cpu_seconds")
        covered = found.figure("cpu_cores")
        assert covered.value == pytest.approx(cpu / (covered.coverage * 86400), rel=0.01)


def test_figures_are_the_servers_over_the_whole_window(
    demo: tuple[Job, Recording], demo_server: Served
) -> None:
    """The figures of the report, and PromQL over 24 h at once."""
    for found, day in both_days(demo, demo_server):

        def ask(query: str, at: float = day.end) -> dict[tuple[str, ...], float]:
            return servers.query(demo_server.url, query, at)

        total = 'increase(http_requests_total{service!=""}[24h])'
        for (region,), said in ask(f"sum by (region) ({total})").items():
            figure = found.figure("requests", region)
            # The server's increase bridges a gap; ours leaves out what nobody saw.
            bridged = day.total("unseen_requests", region)
            assert (figure.value or 0) + bridged == pytest.approx(said, rel=3e-3)
        for quantile, name in ((0.5, "latency_p50"), (0.95, "latency_p95"), (0.99, "latency_p99")):
            by = "sum by (le, region) (increase(http_request_duration_seconds_bucket[24h]))"
            for (region,), said in ask(f"histogram_quantile({quantile}, {by})").items():
                assert found.figure(name, region).value == pytest.approx(said, rel=5e-3)
        (said,) = ask(
            "histogram_quantile(0.95, sum by (le) ("
            "increase(db_query_duration_seconds_bucket[24h])))"
        ).values()
        assert found.figure("db_latency_p95").value == pytest.approx(said, rel=5e-3)
        (said,) = ask("sum(avg_over_time(redis_memory_used_bytes[24h]))").values()
        assert found.figure("redis_memory").value == pytest.approx(said, rel=1e-3)
        hits, misses = (
            sum(ask(f"increase(redis_keyspace_{what}_total[24h])").values())
            for what in ("hits", "misses")
        )
        assert found.figure("cache_hit_rate").value == pytest.approx(
            hits / (hits + misses), abs=1e-3
        )
        (said,) = ask("sum(kube_deployment_spec_replicas)").values()
        assert found.figure("replica_count").value == said
        (said,) = ask(
            'sum(max_over_time(kube_node_status_condition{condition="DiskPressure"}[24h]))'
        ).values()
        assert found.figure("nodes_disk_pressure").value == said == 0


def test_steps_are_the_servers(demo: tuple[Job, Recording], demo_server: Served) -> None:
    found, _ = both_days(demo, demo_server)[0]
    at = int(found.span.start + 160 * STEP)  # in the incident
    rate = (
        'sum(increase(http_requests_total{code=~"5..",region="us-west-2"}[5m]))'
        ' / sum(increase(http_requests_total{region="us-west-2"}[5m]))'
    )
    (said,) = servers.query(demo_server.url, rate, at).values()
    assert found.series("error_rate", "us-west-2")[159] == pytest.approx(said, rel=1e-9)
    assert said > 0.05
    (p99,) = servers.query(
        demo_server.url,
        "histogram_quantile(0.99, sum by (le) ("
        "increase(http_request_duration_seconds_bucket[5m])))",
        at,
    ).values()
    assert found.series("latency_p99")[159] == pytest.approx(p99, rel=1e-9)


def test_events_of_the_day(demo: tuple[Job, Recording], demo_server: Served) -> None:
    found, day = both_days(demo, demo_server)[0]
    assert found.figure("container_restarts").value == 1
    assert found.figure("container_restarts", "us-east-1", "causal-inference").value == 1
    assert found.figure("oom_kills").value == 0
    gap = next(fact for fact in day.facts if fact.name == "gap")
    steps = (gap.end - gap.start) // STEP
    seen = found.figure("requests", gap.region, "hypersync")
    a_step = STEP // 30  # scrapes
    assert (seen.samples, seen.expected) == ((288 - steps) * a_step, 288 * a_step)
    fired = kpis.alerts(demo[0], demo[1].window)
    expected = {
        (a.name, a.severity, a.region, a.service) for a in simulate.alerts(_ga(demo_server))
    }
    assert {(a.name, a.severity, a.region, a.service) for a in fired.fired} == expected
    for alert in simulate.alerts(_ga(demo_server)):
        (told,) = [
            a
            for a in fired.fired
            if (a.name, a.region, a.service) == (alert.name, alert.region, alert.service)
        ]
        assert abs(told.start - alert.start) <= STEP + 30
        assert abs(told.end - min(alert.end, day.end)) <= STEP + 30


def _ga(served: Served) -> simulate.Day:
    return simulate.days(served.scenario)[-1]


def test_reset_at_the_edge_of_a_step(serve: Serve) -> None:
    served = serve(small(reset_at=13 * HOUR))
    job = small_job(served.url)
    found = Kpis(job, collection.collect(job).window)
    day = served.truth["ga"]
    for region, service in found.places("requests"):
        # What a counter had counted since its last scrape is lost with the process.
        truth = day.total("requests", str(region), str(service))
        assert found.figure("requests", region, service).value == pytest.approx(truth, rel=0.015)
    assert (found.series("requests") > 0).all()
    assert found.figure("container_restarts").value == 2 * (1 + 2 + 1)  # each replica
    errors = found.figure("errors").value or 0
    assert 0 < errors < 3 * day.total("errors")


def test_idle_service(serve: Serve) -> None:
    served = serve(small(idle_service="hypersync"))
    job = small_job(served.url)
    found = Kpis(job, collection.collect(job).window)
    assert found.figure("requests", None, "hypersync").value == 0
    assert (found.figure("availability", None, "hypersync").value or 0) > 0.99
    for name in ("error_rate", "latency_p99"):
        figure = found.figure(name, None, "hypersync")
        assert (figure.value, figure.reason) == (None, "there was no traffic")
        assert (found.figure(name).value or 0) > 0


def test_half_of_the_window(serve: Serve) -> None:
    served = serve(small(present=0.5))
    job = small_job(served.url)
    span = collection.collect(job).window
    found, day = Kpis(job, span), served.truth["ga"]
    for name in job.kpis:
        figure = found.figure(name)
        assert 0.45 <= figure.coverage <= 0.55, name
        assert figure.worst_series_coverage <= 0.55
    assert found.figure("requests").value == pytest.approx(
        day.total("requests") - day.total("unseen_requests"), rel=0.01
    )
    assert kpis.alerts(job, span).known == pytest.approx(0.5, abs=0.05)
