"""What is tested for drift is the figure that the report tells."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from tars_ga_lib import parameters, recording
from tars_ga_lib.change.shifts import shift
from tars_ga_lib.kpis import Kpis, quantile
from tars_ga_lib.levels import Floats, _percentile, _ratio, level_series
from tests.helpers import ROOT

KPIS = ("availability", "error_rate", "cache_hit_rate", "latency_p50", "latency_p95", "latency_p99",
        "db_latency_p95", "cpu_usage", "memory_usage", "request_rate")  # fmt: skip


@pytest.fixture(scope="module")
def demo() -> Kpis:
    job = parameters.load(ROOT / "parameters" / "demo.yaml")
    return Kpis(job, recording.load(ROOT / "demo" / "recording").window)


@pytest.mark.parametrize("name", KPIS)
def test_the_mean_of_a_level_is_the_figure(demo: Kpis, name: str) -> None:
    """Of a region with a gap, one with an incident and one without, for each service too.

    A rate of several services is exact but for the steps in which one of them was not seen.
    """
    exact = demo.job.kpis[name].kind != "counter"
    for place in [(region, None) for region in demo.regions(name)] + demo.places(name):
        series = level_series(demo, name, *place)
        seen = series[~np.isnan(series)]
        assert len(seen) > 270
        assert seen.mean() == pytest.approx(
            demo.figure(name, *place).value, rel=1e-9 if exact else 5e-3
        )


def test_a_ratio_about_the_baselines_keeps_its_mean(demo: Kpis) -> None:
    """An incident does not lend the rest of its day another level."""
    recorded = recording.load(ROOT / "demo" / "recording")
    before = Kpis(demo.job, recorded.spans["baseline_1"])
    place = "us-west-2", "hypersync"
    series = level_series(demo, "error_rate", *place, before)
    assert np.nanmean(series) == pytest.approx(demo.figure("error_rate", *place).value, rel=1e-9)
    calm = np.r_[series[:150], series[170:]]  # without 13:10 to 13:40
    assert np.nanmean(calm) == pytest.approx(before.figure("error_rate", *place).value, rel=0.3)


def test_a_mean_of_percentiles_would_be_another_figure(demo: Kpis) -> None:
    """Otherwise this module would not be needed."""
    figure = demo.figure("db_latency_p95", "us-west-2").value
    mean = np.nanmean(demo.series("db_latency_p95", "us-west-2"))
    assert figure is not None
    assert abs(mean / figure - 1) > 0.02


def test_the_interval_of_a_linearised_percentile_covers_its_change() -> None:
    """Requests with log-normal latency in twelve buckets; the second day is 8 % slower.

    The truth is that of the buckets: what any report from them would tell of endless days.
    """
    rng = np.random.default_rng(20)
    edges = np.array([0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 1.0, np.inf])

    def shares(median: float) -> Floats:
        found: Floats = np.diff(norm.cdf(np.log(edges / median) / 0.6), prepend=0.0)
        return found

    def day(median: float) -> Floats:
        traffic = rng.poisson(600 + 300 * np.sin(np.arange(288) / 288 * 2 * np.pi))
        counts = rng.multinomial(traffic, shares(median))
        return np.asarray(counts.cumsum(axis=1).T, dtype=np.float64)

    truth = [
        float(quantile(0.95, edges, shares(m).cumsum()[:, None])[0][0]) for m in (0.08, 0.0864)
    ]
    covered = []
    for _ in range(200):
        before, after = (_percentile(0.95, edges, day(m)) for m in (0.08, 0.0864))
        found = shift(before, after, step=300, side_by_side=True)
        covered.append(found.low <= truth[1] - truth[0] <= found.high)
        assert found.p_value < 1e-3
    assert 0.90 <= np.mean(covered) <= 0.99  # 95 % ± 3 standard errors of 200


def test_without_traffic_there_is_no_level() -> None:
    nothing = np.zeros(5)
    assert np.isnan(_ratio(nothing, nothing)).all()
    edges = np.array([0.1, 1.0, np.inf])
    assert np.isnan(_percentile(0.5, edges, np.zeros((3, 5)))).all()
    beyond = np.repeat([[1.0], [1.0], [100.0]], 5, axis=1)
    assert np.isnan(_percentile(0.5, edges, beyond)).all()
