"""Collection: from a real server to a recording, and what becomes of all that goes wrong."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenacity

from demo.simulate import GA_DAY, HOUR, small
from tars_ga_lib import collection, parameters, queries, recording
from tars_ga_lib.grammar import ParametersError
from tars_ga_lib.kpis import Kpis
from tests import odd, servers
from tests.helpers import GAUGE, ROOT, SMALL, STEP, make_job, small_job, write_run
from tests.servers import Behaviour, Serve, Served


def test_all_that_was_asked_is_kept_with_where_it_came_from(small_server: str) -> None:
    job = small_job(small_server)
    found = collection.collect(job)
    asked = {each.id: each for each in queries.requests(job)}
    assert list(found.spans) == ["window", "baseline_1"]
    for span in found.spans.values():
        assert list(span.sets) == [*asked, queries.INTERVAL]
        apart = span.sets[queries.INTERVAL]
        assert len(apart.labels) == 6
        assert set(apart.values.ravel()) == {30.0}
        for key, each in span.sets.items():
            if key == queries.INTERVAL:
                continue
            provenance = each.provenance
            assert provenance.query == asked[key].query
            assert provenance.server == small_server
            assert provenance.collected_at.endswith("Z")
            assert (provenance.error, provenance.warnings) == ("", [])
            assert provenance.digest.startswith("sha256:")
            assert each.values.shape == (provenance.series, 24)
            if key != queries.FIRING:
                assert provenance.samples == each.values.size > 0
    assert (found.window.start, found.window.stop) == (GA_DAY + 12 * HOUR, GA_DAY + 14 * HOUR)
    assert found.simulated
    assert found.version == "2.42.0+ds" or found.version[0].isdigit()


def test_progress_is_told_the_total(small_server: str) -> None:
    seen: dict[str, Any] = {}

    def progress(items: Any, **options: Any) -> Any:
        seen.update(options, count=0)
        for item in items:
            seen["count"] += 1
            yield item

    job = small_job(small_server)
    collection.collect(job, progress)
    assert seen["count"] == seen["total"] == 2 * len(queries.requests(job))


def test_increments_and_gauges_are_the_servers(small_server: str) -> None:
    """The last step of each grid is an instant query at the window's end."""
    window = collection.collect(small_job(small_server)).window
    for key in (
        "requests.increase",
        "latency_p50.buckets",
        "memory.value",
        "availability.numerator",
    ):
        each = window.sets[key]
        answer = servers.query(small_server, each.provenance.query, window.stop)
        assert len(answer) == len(each.labels) > 3
        for labels, values in zip(each.labels, each.values, strict=True):
            assert values[-1] == answer[tuple(v for _, v in sorted(labels.items()))]


# --- What goes wrong ------------------------------------------------------------------------------


def unseen(found: recording.Recording) -> bool:
    return not any(p.samples or p.series for _, p in found.provenance())


def test_server_that_is_down() -> None:
    found = collection.collect(small_job(f"http://127.0.0.1:{servers.free_port()}"))
    assert unseen(found)
    (problem,) = found.problems
    assert "cannot be reached" in problem
    assert all("does not answer" in p.error for _, p in found.provenance())


def test_server_that_is_empty(empty_server: str) -> None:
    found = collection.collect(small_job(empty_server))
    assert unseen(found)
    assert found.problems == []
    assert not [p.error for _, p in found.provenance() if p.error]


def collect_through(upstream: str, *behaviours: Behaviour, **options: Any) -> recording.Recording:
    """Collect through a server that does these things, one request after the other."""
    with servers.faulty(upstream, *behaviours, only="/api/v1/query_range", **options) as server:
        return collection.collect(small_job(server.url))


def test_a_failed_query_does_not_stop_the_others(small_server: str) -> None:
    found = collect_through(small_server, "pass", "error", "html", "pass")
    errors = {(s.name, p.id): p.error for s, p in found.provenance() if p.error}
    assert len(errors) == 2
    assert any("HTTP 422: simulated failure" in text for text in errors.values())
    for (name, key), _ in errors.items():
        assert found.spans[name].sets[key].values.shape == (0, 24)
    assert found.problems == []
    assert sum(bool(p.samples) for _, p in found.provenance()) > 60


def test_warnings_are_recorded(small_server: str) -> None:
    found = collect_through(small_server, "warnings", "pass")
    (doubted,) = [p for _, p in found.provenance() if p.warnings]
    assert doubted.warnings == ["simulated: not whole"]
    assert doubted.samples > 0


def test_samples_that_are_not_finite_are_counted(small_server: str) -> None:
    def spoilt(answer: dict[str, Any]) -> dict[str, Any]:
        answer["data"]["result"][0]["values"][3][1] = "NaN"
        answer["data"]["result"][0]["values"][4][1] = "+Inf"
        return answer

    found = collect_through(small_server, spoilt, "pass")
    (spoilt_set,) = [
        s for span in found.spans.values() for s in span.sets.values() if s.provenance.nonfinite
    ]
    assert spoilt_set.provenance.nonfinite == 2
    assert spoilt_set.provenance.samples == spoilt_set.values.size - 2
    job = small_job(small_server)
    figure = Kpis(job, found.window).figure("availability")
    if spoilt_set.provenance.id.startswith("availability"):
        assert figure.expected - figure.samples == 2 * (STEP // 30) * 2  # of two targets
        assert figure.worst is not None
        assert figure.value is not None
        assert figure.worst < figure.value


def test_server_that_dies_in_the_middle(small_server: str) -> None:
    found = collect_through(small_server, *["pass"] * 5, "drop")
    assert len(found.problems) == 1
    assert "cannot be reached" in found.problems[0]
    assert 0 < sum(bool(p.samples) for _, p in found.provenance()) <= 5


def test_refused_credentials_end_it_at_once(small_server: str) -> None:
    with servers.faulty(small_server, "pass", only="/", authorization="Bearer x") as server:
        found = collection.collect(small_job(server.url))
        assert len(server.asked) == 1
    assert unseen(found)
    assert "TARS_GA_BEARER_TOKEN" in found.problems[0]


def test_a_slow_query_is_not_a_server_that_is_gone(
    small_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenacity, "wait_random_exponential", lambda **_: lambda _state: 0.01)
    with servers.faulty(small_server, *["stall"] * 4, "pass", only="/api/v1/query_range") as server:
        found = collection.collect(small_job(server.url, "source.timeout=1s"))
    errors = [p.error for _, p in found.provenance() if p.error]
    assert errors == ["no answer in time; raise source.timeout"]
    assert found.problems == []


# --- Replays --------------------------------------------------------------------------------------


def replay(source: Path, *overrides: str) -> recording.Recording:
    job = parameters.load(
        ROOT / "parameters" / "ga_day.yaml",
        [*SMALL, f"source={{recording: '{source}'}}", *overrides],
    )
    return collection.collect(job)


def test_replay(small_server: str, tmp_path: Path) -> None:
    job = small_job(small_server)
    first = collection.collect(job)
    first.save(tmp_path / "rec")
    again = replay(tmp_path / "rec")
    again.save(tmp_path / "again")
    for name in ("recording.json", "window.parquet", "baseline_1.parquet"):
        assert (tmp_path / "rec" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert again.server == small_server
    part = replay(tmp_path / "rec", "window.duration=1h", "baseline.duration=1h")
    kpis, all_of_it = Kpis(job, part.window), Kpis(job, first.window)
    np.testing.assert_array_equal(kpis.series("requests"), all_of_it.series("requests")[:12])


def test_replay_of_fewer_services(small_server: str, tmp_path: Path) -> None:
    collection.collect(small_job(small_server)).save(tmp_path / "rec")
    whole, part = replay(tmp_path / "rec"), replay(tmp_path / "rec", "services=[hypersync]")
    job = small_job(small_server)
    fewer = small_job(small_server, "services=[hypersync]")
    alone = Kpis(job, whole.window).figure("requests", None, "hypersync").value
    assert Kpis(fewer, part.window).figure("requests").value == alone
    assert Kpis(fewer, part.window).figure("requests").coverage == 1


def test_replay_of_a_time_that_was_not_recorded(small_server: str, tmp_path: Path) -> None:
    collection.collect(small_job(small_server)).save(tmp_path / "rec")
    found = replay(tmp_path / "rec", "window.start=2026-11-20T13:00:00Z")
    job = small_job(small_server, "window.start=2026-11-20T13:00:00Z")
    figure = Kpis(job, found.window).figure("requests")
    assert figure.coverage == pytest.approx(0.5)
    nothing = replay(tmp_path / "rec", "window.start=2026-11-18T12:00:00Z")
    assert not any(p.samples for s, p in nothing.provenance() if s.name == "window")


def test_replay_on_another_grid_is_refused(small_server: str, tmp_path: Path) -> None:
    collection.collect(small_job(small_server)).save(tmp_path / "rec")
    with pytest.raises(ParametersError, match="recorded in steps of 5m"):
        replay(tmp_path / "rec", "window.step=10m")
    with pytest.raises(ParametersError, match="recorded in steps of 5m"):
        replay(tmp_path / "rec", "window.start=2026-11-20T12:01:00Z")


def test_replay_of_another_catalogue(small_server: str, tmp_path: Path) -> None:
    """A query that was never asked has no answer, whatever its KPI is called."""
    collection.collect(small_job(small_server)).save(tmp_path / "rec")
    text = (ROOT / "parameters" / "kpis.yaml").read_text("utf-8")
    changed = tmp_path / "kpis.yaml"
    changed.write_text(
        text.replace("sum_over_time(up{$match}", 'sum_over_time(up{job="tars",$match}'), "utf-8"
    )
    job = small_job(small_server, f"kpis={changed}")
    found = replay(tmp_path / "rec", f"kpis={changed}")
    figure = Kpis(job, found.window).figure("availability")
    assert (figure.value, figure.reason) == (None, "the recording does not hold this query")


def test_simulated_stays_simulated(small_server: str, tmp_path: Path) -> None:
    collection.collect(small_job(small_server)).save(tmp_path / "rec")
    assert replay(tmp_path / "rec", "simulated=false").simulated


def test_baseline_of_an_earlier_run(small_server: str, tmp_path: Path) -> None:
    before = "window={start: 2026-11-13T12:00:00Z, duration: 2h, step: 5m}"
    earlier = small_job(
        small_server, before, "baseline={start: 2026-11-13T10:00:00Z, duration: 1h}"
    )
    collection.collect(earlier).save(tmp_path / "rec")
    run = f"baseline={{run: '{tmp_path / 'rec'}'}}"
    found = collection.collect(small_job(small_server, run, "simulated=false"))
    direct = collection.collect(small_job(small_server))
    assert found.simulated  # as its baseline is
    assert list(found.spans) == ["window", "baseline_1"]
    for key, each in direct.spans["baseline_1"].sets.items():
        # A server adds the series of a sum up in any order: the last digit may differ.
        again = found.spans["baseline_1"].sets[key]
        np.testing.assert_allclose(again.values, each.values, rtol=1e-12)
    with pytest.raises(ParametersError, match="overlaps this window"):
        collection.collect(small_job(small_server, run, before, "simulated=false"))


def test_replay_of_nothing(tmp_path: Path) -> None:
    job = make_job(tmp_path, source={"recording": "x"})
    with pytest.raises(ParametersError, match="there is no recording in it"):
        collection.collect(job)


# --- Times and names ------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["europe", "america"])
def test_days_on_which_clocks_change(
    odd_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    path = write_run(
        tmp_path,
        **odd.run(when, odd_server),
        kpis_=odd.KPIS,
        rules_={"x": {"title": "x", "kpi": "requests", "action": "x", "category": "behaviour",
                      "adverse": "either", "measure": "relative", "warning": 0.1, "critical": 0.2}},
    )  # fmt: skip
    monkeypatch.setenv("TZ", odd.ZONES[when])
    time.tzset()
    try:
        job = parameters.load(path)
        found = collection.collect(job)
        for span in (found.window, found.spans["baseline_1"]):
            kpis = Kpis(job, span)
            assert span.steps == 288
            for place in kpis.places("requests"):
                rates = kpis.series("requests", *place) / odd.SCRAPE / 5
                hours = span.times.astype("datetime64[s]") - np.timedelta64(150, "s")
                busy = (hours.astype("datetime64[h]").astype(int) % 24) == odd.BUSY
                assert busy.sum() == 12
                np.testing.assert_allclose(rates, np.where(busy, 10, 1), rtol=0.02)
                assert kpis.figure("requests", *place).coverage == 1
    finally:
        monkeypatch.undo()
        time.tzset()


# --- Half a day -----------------------------------------------------------------------------------


def test_missing_region_and_half_a_window(serve: Serve) -> None:
    served: Served = serve(small(missing_region="us-west-2"))
    job = small_job(served.url)
    found = collection.collect(job)
    kpis = Kpis(job, found.window, found.baselines)
    west = kpis.figure("availability", "us-west-2")
    assert (west.value, west.samples) == (None, 0)
    assert west.reason == "no samples were seen"
    assert kpis.figure("availability").coverage == pytest.approx(0.5, abs=1e-3)
    assert kpis.figure("availability").worst_series_coverage == 0


def test_split_windows(odd_server: str, tmp_path: Path) -> None:
    """A window of more points than a server answers at once is asked for in parts."""
    run = odd.run("europe", odd_server)
    run["window"] = {"start": "2026-03-28T12:00:00Z", "duration": "12000s", "step": "1s"}
    run["baseline"] = {"start": "2026-03-21T12:00:00Z", "duration": "10s"}
    up = GAUGE | {"value": "sum by ($by) (up{$match})", "across": "min"}
    job = parameters.load(write_run(tmp_path, **run, kpis_=odd.KPIS | {"memory": up}, alerts_=None))
    job = replace(job, kpis={"memory": job.kpis["memory"]})
    found = collection.collect(job)
    assert found.window.steps == 12000
    np.testing.assert_array_equal(Kpis(job, found.window).series("memory"), np.ones(12000))
