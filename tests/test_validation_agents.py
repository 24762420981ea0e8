"""Memory, growth, OOM kills and restarts of the agents, asked of a real Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tars_ga_lib.grammar import ParametersError
from tars_ga_lib.parameters import Job
from tars_ga_lib.system.checks import Outcome
from tars_ga_lib.system.test_agents import slope
from tests import checking, servers
from tests.helpers import START, STEP, make_job
from tests.servers import hanging

STEPS = 288
SCRAPE = 60
TIMES = np.arange(START - STEP, START + STEPS * STEP + 1, SCRAPE)
HOURS = (TIMES - START) / 3600
GROWTH = 30e6
REGIONS = ["growing", "flat", "killed", "silent", "unseen", "replaced"]

Series = dict[tuple[str, str], Any]


def wander(rng: np.random.Generator, deviation: float, persistence: float, n: int) -> Any:
    """Noise of an AR(1) process, from its stationary distribution."""
    steps = rng.normal(size=n) * np.sqrt(1 - persistence**2)
    steps[0] /= np.sqrt(1 - persistence**2)
    noise = np.empty(n)
    noise[0] = steps[0]
    for i in range(1, n):
        noise[i] = persistence * noise[i - 1] + steps[i]
    return deviation * noise


def simulated() -> tuple[Series, Series, Series]:
    """Return memory, restarts and OOM marks of each region's pods; NaN where there is no sample."""
    rng = np.random.default_rng(7)
    n = len(TIMES)

    def level(base: float) -> Any:
        return base + wander(rng, 15e6, 0.95, n)

    zero = np.zeros(n)
    nothing = np.full(n, np.nan)
    memory: Series = {
        ("growing", "ppo-agent-0"): level(5e8) + GROWTH * HOURS,
        ("growing", "ppo-agent-1"): level(4e8),
        ("growing", "web-0"): level(1e8) + 10 * GROWTH * HOURS,  # no agent
        ("flat", "ppo-agent-0"): level(6e8),
        ("flat", "ppo-agent-1"): level(5e8),
        ("silent", "ppo-agent-0"): level(5e8),
    }
    restarts: Series = {
        (region, f"ppo-agent-{i}"): zero for region in ("growing", "flat") for i in range(2)
    }
    marks: Series = {}
    # Killed at 8:00, 16:00 and 23:30: it grows by 200 MB an hour, until 2.1 GB.
    ends = np.array([8, 16, 23.5])
    restarted = (HOURS[:, None] >= ends).sum(axis=1).astype(np.float64)
    since = HOURS - np.array([0, *ends])[restarted.astype(np.int64)]
    memory["killed", "ppo-agent-0"] = level(5e8) + 200e6 * since
    restarts["killed", "ppo-agent-0"] = restarted
    marks["killed", "ppo-agent-0"] = np.where(HOURS >= 8, 1, nothing)
    # Its kill lies before the window: it is no kill of this window.
    memory["killed", "ppo-agent-1"] = level(5e8)
    restarts["killed", "ppo-agent-1"] = zero + 3
    marks["killed", "ppo-agent-1"] = zero + 1
    # A pod is replaced by another; the new one crashes twice, not for memory.
    early, late = HOURS < 12, HOURS >= 12
    memory["replaced", "ppo-agent-a"] = np.where(early, level(5e8), np.nan)
    memory["replaced", "ppo-agent-b"] = np.where(late, level(4e8), np.nan)
    restarts["replaced", "ppo-agent-a"] = np.where(early, 0, np.nan)
    restarts["replaced", "ppo-agent-b"] = np.where(
        late, np.clip(np.floor(HOURS - 12), 0, 2), np.nan
    )
    # A pod of the same name is made anew: its counter begins again, and shows one restart.
    memory["replaced", "ppo-agent-c"] = level(3e8)
    restarts["replaced", "ppo-agent-c"] = np.where(HOURS < 18, 5, 1)
    return memory, restarts, marks


def write(path: Path, families: Mapping[str, tuple[str, Series, str]]) -> None:
    """Write OpenMetrics; each family has its type, its series, and more labels."""
    with path.open("w", encoding="utf-8") as file:
        for name, (kind, series, labels) in families.items():
            file.write(f"# TYPE {name.removesuffix('_total')} {kind}\n")
            for (region, pod), values in series.items():
                head = f'{name}{{region="{region}",pod="{pod}"{labels}}}'
                for time, value in zip(TIMES, values, strict=True):
                    if np.isfinite(value):
                        file.write(f"{head} {value:.0f} {time}\n")
        file.write("# EOF\n")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("agents")
    memory, restarts, marks = simulated()
    write(
        folder / "agents.om",
        {
            "container_memory_working_set_bytes": ("gauge", memory, ',container="agent"'),
            "kube_pod_container_status_restarts_total": (
                "counter", restarts, ',container="agent"',
            ),
            "kube_pod_container_status_last_terminated_reason": (
                "gauge", marks, ',container="agent",reason="OOMKilled"',
            ),
        },
    )  # fmt: skip
    servers.backfill(folder / "prometheus", folder / "agents.om")
    with servers.prometheus(folder / "prometheus") as url:
        yield url


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    return make_job(
        tmp_path_factory.mktemp("job"), steps=STEPS, regions=REGIONS, primary_region=REGIONS[0]
    )


def outcomes(
    job: Job, url: str | None, only: str = "", timeout: str = "10s", **more: Any
) -> dict[str, Outcome]:
    section = ({"prometheus": url} if url else {}) | more
    return checking.outcomes("agents", section, only=only, job=job, check_timeout=timeout)


@pytest.fixture(scope="module")
def seen(server: str, job: Job) -> dict[str, Outcome]:
    return outcomes(job, server)


def test_a_pod_that_grows_is_found_and_named(seen: dict[str, Outcome]) -> None:
    outcome = seen["memory_growth.growing"]
    assert outcome.verdict == "fail"
    assert outcome.value == pytest.approx(GROWTH, rel=0.1)
    assert "pod ppo-agent-0 over 23.9 h, 95% interval" in outcome.reason


def test_an_estimate_beyond_the_limit_warns_until_its_interval_is(server: str, job: Job) -> None:
    def growth(limit: float) -> Outcome:
        found = outcomes(job, server, growth=f"< {limit}", regions=["growing"])
        return found["memory_growth.growing"]

    known = growth(1e9)
    assert known.value is not None
    assert growth(known.value * 1.001).verdict == "pass"
    assert growth(known.value * 0.999).verdict == "warn"
    assert growth(known.value * 0.5).verdict == "fail"


def test_the_worst_of_many_pods_has_a_wider_interval(server: str, job: Job) -> None:
    def width(pods: str) -> float:
        (outcome,) = outcomes(job, server, "growth", pods=pods, regions=["growing"]).values()
        low, high = outcome.interval or (0.0, 0.0)
        return high - low

    alone, of_two = width("ppo-agent-0"), width("ppo-agent-.")
    assert alone > 0
    # Student's t at 97.5 % against 95 %, as two pods share the confidence.
    assert 1.1 < of_two / alone < 1.25


def test_noise_is_no_growth(seen: dict[str, Outcome]) -> None:
    outcome = seen["memory_growth.flat"]
    assert outcome.verdict == "pass"
    assert abs(outcome.value or 1e9) < 5e6


def test_growth_is_seen_through_restarts(seen: dict[str, Outcome]) -> None:
    outcome = seen["memory_growth.killed"]
    assert outcome.verdict == "fail"
    assert outcome.value == pytest.approx(200e6, rel=0.1)
    assert "pod ppo-agent-0 over 7.9 h" in outcome.reason


def test_memory_is_that_of_the_largest_pod_and_a_peak_warns(seen: dict[str, Outcome]) -> None:
    memory, _, _ = simulated()
    outcome = seen["memory.growing"]
    assert outcome.verdict == "pass"
    assert outcome.value == pytest.approx(memory["growing", "ppo-agent-0"][-1], abs=1)
    assert "pod ppo-agent-0, the largest of 2 pods, at 2026-11-21T00:00:00Z" in outcome.reason
    killed = seen["memory.killed"]
    assert killed.verdict == "warn"
    assert "ppo-agent-0 had 2." in killed.reason


def test_a_pod_above_the_limit_fails(server: str, job: Job) -> None:
    outcome = outcomes(job, server, limit="< 1e9", regions=["growing"])["memory.growing"]
    assert outcome.verdict == "fail"
    assert "ppo-agent-0" in outcome.reason


def test_oom_kills_of_the_window_are_counted_and_the_pod_named(seen: dict[str, Outcome]) -> None:
    outcome = seen["oom_kills.killed"]
    assert (outcome.verdict, outcome.value) == ("fail", 3)
    assert outcome.reason == "pod ppo-agent-0: 3, the last by 2026-11-20T23:30:00Z"
    assert (seen["oom_kills.flat"].verdict, seen["oom_kills.flat"].value) == ("pass", 0)
    assert seen["oom_kills.flat"].reason == "no OOM kill of 2 pods"


def test_restarts_that_are_no_oom_kills_are_restarts(seen: dict[str, Outcome]) -> None:
    assert (seen["oom_kills.replaced"].verdict, seen["oom_kills.replaced"].value) == ("pass", 0)
    restarts = seen["restarts.replaced"]
    assert (restarts.verdict, restarts.value) == ("fail", 3)
    assert "pod ppo-agent-b: 2, the last by 2026-11-20T14:00:00Z" in restarts.reason
    assert "pod ppo-agent-c: 1, the last by 2026-11-20T18:00:00Z" in restarts.reason
    assert (seen["restarts.killed"].verdict, seen["restarts.killed"].value) == ("fail", 3)


def test_a_pod_that_was_replaced_has_no_memory_now(seen: dict[str, Outcome]) -> None:
    # Of three pods that were seen, two are there; the one that is gone was the largest.
    assert "pod ppo-agent-b, the largest of 2 pods" in seen["memory.replaced"].reason


def test_a_region_without_agents_is_no_data(seen: dict[str, Outcome]) -> None:
    for name in ("memory", "memory_growth", "oom_kills", "restarts"):
        outcome = seen[f"{name}.unseen"]
        assert (outcome.verdict, outcome.cause) == ("no_data", "no_rows")
        assert "no agent of unseen" in outcome.reason


def test_no_kill_is_told_where_kube_state_metrics_is_silent(seen: dict[str, Outcome]) -> None:
    for name in ("oom_kills", "restarts"):
        outcome = seen[f"{name}.silent"]
        assert (outcome.verdict, outcome.cause) == ("no_data", "no_rows")
        assert "ppo-agent-0" in outcome.reason
    assert seen["memory.silent"].verdict == "pass"


def test_a_window_that_was_hardly_seen_is_no_data(server: str, tmp_path: Path) -> None:
    long = make_job(tmp_path, steps=2 * STEPS, regions=["flat"], primary_region="flat")
    found = outcomes(long, server)
    assert {o.cause for o in found.values()} == {"no_rows"}
    assert "only in 50% of the window's steps" in found["memory.flat"].reason


def test_three_queries_serve_every_check(server: str, job: Job) -> None:
    with servers.faulty(server) as between:
        outcomes(job, between.url)
        assert len(between.asked) == 3


def test_a_server_that_warns_is_not_believed(server: str, job: Job) -> None:
    with servers.faulty(server, "warnings") as between:
        found = outcomes(job, between.url, regions=["flat"])
    assert {(o.verdict, o.cause) for o in found.values()} == {("no_data", "error")}
    assert "the server warned" in found["memory.flat"].reason


@pytest.mark.parametrize(
    ("behaviour", "cause"),
    [("unauthorised", "unauthorised"), ("hang", "timed_out"), ("gone", "unreachable")],
)
def test_each_cause_of_no_data_is_told_apart(job: Job, behaviour: str, cause: str) -> None:
    with hanging() as port:
        if behaviour == "unauthorised":
            with servers.faulty(None, authorization="Bearer other") as refusing:
                found = outcomes(job, refusing.url, regions=["flat"])
        else:
            free = servers.free_port() if behaviour == "gone" else port
            url = f"http://127.0.0.1:{free}"
            found = outcomes(job, url, timeout="1s", regions=["flat"])
    assert {o.verdict for o in found.values()} == {"no_data"}
    assert {o.cause for o in found.values()} == {cause}


def test_a_recording_has_no_agents(tmp_path: Path) -> None:
    source = {"recording": str(tmp_path)}
    replay = make_job(tmp_path, source=source, regions=["flat"], primary_region="flat")
    found = outcomes(replay, None)
    assert {(o.verdict, o.cause) for o in found.values()} == {("no_data", "not_configured")}
    assert "agents.prometheus" in found["memory.flat"].reason


def test_queries_may_be_ones_own(server: str, job: Job) -> None:
    query = "max by ($by) (container_memory_working_set_bytes{$match})"
    found = outcomes(job, server, memory=query, regions=["flat"])["memory.flat"]
    assert 'region=~"flat"' in found.check.query
    assert found.verdict == "pass"
    with pytest.raises(ParametersError, match=r"agents.memory: has an unknown mark"):
        outcomes(job, server, memory="a{$pods}")


# --- the slope -----------------------------------------------------------------------------------


@pytest.mark.parametrize("persistence", [0.0, 0.5, 0.9, 0.97])
def test_growth_at_its_limit_seldom_fails_and_growth_beyond_it_does(persistence: float) -> None:
    rng = np.random.default_rng(20261120)
    hours = np.arange(STEPS) * STEP / 3600
    false_alarms = found = covered = 0
    repeats = 200
    for _ in range(repeats):
        noise = wander(rng, 25e6, persistence, STEPS)
        _, low, high = slope(hours, 5e8 + 1e7 * hours + noise, 0.95)
        false_alarms += low > 1e7
        covered += low <= 1e7 <= high
        found += slope(hours, 5e8 + 2e7 * hours + noise, 0.95)[1] > 1e7
    assert false_alarms / repeats <= 0.05  # 2.5 % are expected
    assert covered / repeats >= 0.90
    assert found / repeats >= 0.90


def test_a_constant_does_not_grow() -> None:
    hours = np.arange(100) / 12
    assert slope(hours, np.full(100, 5e8), 0.95) == (0.0, 0.0, 0.0)


def test_gaps_do_not_bend_the_slope() -> None:
    rng = np.random.default_rng(3)
    hours = np.arange(STEPS) * STEP / 3600
    values = 5e8 + 2e7 * hours + wander(rng, 5e6, 0.5, STEPS)
    kept = np.flatnonzero((hours < 6) | (hours > 15))
    value, low, high = slope(hours[kept], values[kept], 0.95)
    assert low < 2e7 < high
    assert value == pytest.approx(2e7, rel=0.1)
