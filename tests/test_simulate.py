"""The simulator against a real Prometheus: what it says happened is what the server answers.

How near a server can come to the truth was measured on the demo, and is the tolerance here:

* `up`, gauges, replicas, restarts and gaps agree exactly;
* `increase(requests[24h])` of a region and service is within 0.02 % (it extrapolates to the ends of
  the window), and the sum of its 288 steps is within 0.2 % of what was not in a gap (each step sees
  nine of its ten intervals and extrapolates the tenth);
* errors are few and come in bursts: within 2 % in total, within 10 % or 5 errors of a service.
"""

from __future__ import annotations

import math
import string
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import yaml

from demo import simulate
from demo.simulate import GA_DAY, HOUR, Scenario, small
from tests import servers
from tests.servers import Serve, Served

CATALOGUE = Path(__file__).resolve().parent.parent / "parameters"
STEP = 300
REQUESTS = 'http_requests_total{service!=""}'
ERRORS = 'http_requests_total{service!="",code=~"5.."}'

Steps = dict[tuple[str, ...], dict[int, float]]


def steps(url: str, expression: str, day: simulate.DayTruth) -> Steps:
    """Ask a range query at the end of each step: {label values: {time: value}}."""
    parameters: dict[str, Any] = {"query": expression, "step": STEP}
    parameters |= {"start": day.start + STEP, "end": day.end}
    answer = requests.get(f"{url}/api/v1/query_range", params=parameters, timeout=60)
    assert answer.ok, answer.text
    return {
        tuple(value for _, value in sorted(series["metric"].items())): {
            int(time): float(value) for time, value in series["values"]
        }
        for series in answer.json()["data"]["result"]
    }


def lines(scenario: Scenario, path: Path) -> list[str]:
    simulate.write(path, scenario)
    return path.read_text(encoding="utf-8").splitlines()


# --- The text -------------------------------------------------------------------------------------


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    first, second, other = (tmp_path / name for name in ("first", "second", "other"))
    simulate.write(first, small(faults=True))
    simulate.write(second, small(faults=True))
    simulate.write(other, small(faults=True, seed=1))
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes() != other.read_bytes()


def test_leaving_a_service_out_changes_no_other(tmp_path: Path) -> None:
    whole = set(lines(small(), tmp_path / "whole"))
    part = lines(small(services=("hypersync",)), tmp_path / "part")
    assert {line for line in part if "dashboard-api" in line} == set()
    assert set(part) <= whole


def test_days_differ_and_weekends_are_calm() -> None:
    """Seven days in a row: a Friday, then Thursday to Saturday before it; the GA day is average."""
    found = simulate.truth(small(baselines=7, apart=simulate.DAY))
    assert list(found) == ["baseline", *(f"baseline-{k}" for k in range(2, 8)), "ga"]
    requests = {name: day.total("requests") for name, day in found.items()}
    usual = requests.pop("ga")
    # The 13th of November 2026 is a Friday; the sixth and seventh day are a Sunday and a Saturday.
    calm = [requests.pop(f"baseline-{k}") / usual for k in (6, 7)]
    assert all(0.65 < share < 0.75 for share in calm)
    shares = np.array(list(requests.values())) / usual
    assert 0.004 < shares.std() < 0.04
    assert np.abs(shares - 1).max() < 0.08


def test_everything_says_that_it_is_simulated(tmp_path: Path) -> None:
    text = lines(small(duration=HOUR), tmp_path / "text")
    families = {line.split()[2] for line in text if line.startswith("# TYPE")}
    told = {line.split()[2] for line in text if line.startswith("# HELP") and "Simulated" in line}
    assert families == told
    assert simulate.as_data(simulate.truth(small()))["simulated"] is True


def test_command_line(tmp_path: Path) -> None:
    simulate.main(["--output", str(tmp_path / "om"), "--truth", str(tmp_path / "t"), "--day", "ga"])
    assert (tmp_path / "om").read_bytes().endswith(b"# EOF\n")
    assert '"ga"' in (tmp_path / "t").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "changes", [{"duration": 100}, {"first": 1}, {"reset_at": 7}, {"regions": ("atlantis",)}]
)
def test_refuses_what_it_cannot_simulate_truly(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"multiple|unknown region"):
        small(**changes)


# --- The truth of the demo ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["baseline", "ga"])
def test_requests_agree(demo_server: Served, name: str) -> None:
    day = demo_server.truth[name]
    query = f"sum by (region, service) (increase({REQUESTS}[24h]))"
    answer = servers.query(demo_server.url, query, day.end)
    in_steps = steps(demo_server.url, f"sum by (region, service) (increase({REQUESTS}[5m]))", day)
    assert len(answer) == len(in_steps) == 24
    for (region, service), found in answer.items():
        tally = day.tallies[region][service]
        assert found == pytest.approx(tally.requests, rel=2e-4)
        seen = tally.requests - tally.unseen_requests
        assert sum(in_steps[region, service].values()) == pytest.approx(seen, rel=2e-3)


@pytest.mark.parametrize("name", ["baseline", "ga"])
def test_errors_agree(demo_server: Served, name: str) -> None:
    day = demo_server.truth[name]
    query = f"sum by (region, service) (increase({ERRORS}[24h]))"
    answer = servers.query(demo_server.url, query, day.end)
    assert sum(answer.values()) == pytest.approx(day.total("errors"), rel=0.02)
    for (region, service), found in answer.items():
        assert found == pytest.approx(day.tallies[region][service].errors, rel=0.1, abs=5)


@pytest.mark.parametrize("name", ["baseline", "ga"])
def test_up_agrees_exactly(demo_server: Served, name: str) -> None:
    day = demo_server.truth[name]
    for function, key in (("sum_over_time", "up"), ("count_over_time", "scrapes")):
        query = f'sum by (region, service) ({function}(up{{job="tars"}}[24h]))'
        answer = servers.query(demo_server.url, query, day.end)
        truth = {(r, s): t for r, rest in day.tallies.items() for s, t in rest.items()}
        assert answer == {key_: getattr(tally, key) for key_, tally in truth.items()}


@pytest.mark.parametrize("quantile", [0.5, 0.95, 0.99])
def test_latency_agrees(demo_server: Served, quantile: float) -> None:
    day = demo_server.truth["ga"]
    counts = np.sum([t.buckets for rest in day.tallies.values() for t in rest.values()], axis=0)
    edges, rank = np.array(simulate.EDGES), quantile * counts[-1]
    at = int(np.searchsorted(counts, rank))
    share = (rank - counts[at - 1]) / (counts[at] - counts[at - 1])
    truth = edges[at - 1] + (edges[at] - edges[at - 1]) * share
    buckets = "sum by (le) (increase(http_request_duration_seconds_bucket[24h]))"
    query = f"histogram_quantile({quantile}, {buckets})"
    (found,) = servers.query(demo_server.url, query, day.end).values()
    assert found == pytest.approx(truth, rel=1e-3)


@pytest.mark.parametrize("name", ["baseline", "ga"])
def test_counts_of_the_platform_agree(demo_server: Served, name: str) -> None:
    """What gateways, agents, browsers and collectors counted is what was made to happen."""
    day = demo_server.truth[name]
    truths: dict[str, dict[tuple[str, ...], float]] = defaultdict(dict)
    labels: dict[str, set[str]] = {}
    for region, counts in day.counts.items():
        for key, count in counts.items():
            kind, *parts = key.split(",")
            told = dict(part.split("=") for part in parts) | {"region": region}
            labels[kind] = set(told)
            truths[kind][tuple(value for _, value in sorted(told.items()))] = count.total
    assert len(truths) == 16
    for kind, truth in truths.items():
        query = f"sum by ({', '.join(labels[kind])}) (increase({kind}[24h]))"
        found = servers.query(demo_server.url, query, day.end)
        assert found.keys() == truth.keys(), kind
        for place, value in found.items():
            assert value == pytest.approx(truth[place], rel=5e-3, abs=3), (kind, place)


def test_figures_of_the_platform_agree(demo_server: Served) -> None:
    """The catalogue's own queries, summed over the steps, give what a scrape could see."""
    day, asked = demo_server.truth["ga"], queries()

    def total(*keys: str) -> float:
        return sum(
            count.seen for region in day.counts.values() for key, count in region.items()
            if key in keys
        )  # fmt: skip

    def answer(identity: str) -> float:
        series = steps(demo_server.url, asked[identity], day)
        return sum(value for one in series.values() for value in one.values())

    for kpi, keys in {
        "auth_failures increase": ("envoy_http_jwt_authn_denied",),
        "rbac_denied increase": ("envoy_http_rbac_denied",),
        "rate_limit_hits increase": ("envoy_http_local_rate_limit_rate_limited",),
        "blocked_requests increase": ("envoy_http_local_rate_limit_enforced",),
        "hypersync_operations increase": (
            "tars_hypersync_operations_total,result=success",
            "tars_hypersync_operations_total,result=failure",
        ),
        "log_volume increase": ("fluentbit_input_bytes_total",),
        "log_errors increase": ("log_messages_total,level=error",),
        "log_warnings increase": ("log_messages_total,level=warning",),
    }.items():
        # Few events, in a burst: increase() extrapolates a tenth of each step.
        assert answer(kpi) == pytest.approx(total(*keys), rel=0.02), kpi
    for kpi, key in {
        "automl_runs increase": "tars_automl_runs_total",
        "optuna_trials increase": "tars_optuna_trials_total",
        "agent_conflicts increase": "tars_agent_conflicts_total",
        "conflict_resolutions increase": "tars_agent_conflicts_resolved_total",
    }.items():
        found = answer(kpi)
        assert found == int(found)
        # At either end of the window a scrape is up to its interval late.
        assert found == pytest.approx(total(key), abs=20 if "trials" in key else 2), kpi


def test_story(demo_server: Served) -> None:
    """Each fact that the demo tells of is there to be found."""
    day, url = demo_server.truth["ga"], demo_server.url
    assert {fact.name for fact in day.facts} == {
        "gap", "down", "restart", "incident", "probe_down", "leak", "slower", "fuller",
        "scaled_down",
    }  # fmt: skip

    def ask(query: str, at: float = day.end) -> float:
        (found,) = servers.query(url, query, at).values()
        return found

    gap = next(fact for fact in day.facts if fact.name == "gap")
    scraped = f'count(count_over_time({{region="{gap.region}",job!=""}}[20m]))'
    assert servers.query(url, scraped, gap.end) == {}
    restarts = 'sum(resets(http_request_duration_seconds_count{job="tars"}[24h]))'
    assert ask(restarts) == 1
    assert ask("sum(delta(kube_pod_container_status_restarts_total[24h]))") == pytest.approx(
        1, 0.01
    )
    replicas = 'kube_deployment_spec_replicas{region="us-west-2",deployment="orchestration-agent"}'
    assert [ask(replicas, demo_server.truth[name].end) for name in ("baseline", "ga")] == [2, 1]
    rate = f"sum(increase({ERRORS}[24h])) / sum(increase({REQUESTS}[24h]))"
    assert 0.0010 < ask(rate) < 0.0013
    assert ask(rate, demo_server.truth["baseline"].end) < 0.0004
    up = 'sum(sum_over_time(up{job="tars"}[24h])) / sum(count_over_time(up{job="tars"}[24h]))'
    assert 0.9990 < ask(up) < 0.9995
    alerts = 'count by (alertname, severity) (count_over_time(ALERTS{alertstate="firing"}[24h]))'
    assert set(servers.query(url, alerts, day.end)) == {
        ("HighErrorRate", "critical"),
        ("TargetDown", "warning"),
        ("PodRestarted", "info"),
        ("ContainerMemoryGrowing", "warning"),
    }


def test_clean_days_are_clean(clean_server: Served) -> None:
    day = clean_server.truth["ga"]
    assert day.facts == []
    assert day.total("up") / day.total("scrapes") > 0.9999
    assert day.total("errors") / day.total("requests") < 0.0003
    assert servers.query(clean_server.url, "count_over_time(ALERTS[24h])", day.end) == {}
    rules = "sum(increase(prometheus_rule_evaluations_total[24h]))"
    (evaluations,) = servers.query(clean_server.url, rules, day.end).values()
    assert evaluations > 0


# --- Variants -------------------------------------------------------------------------------------


def test_missing_region(serve: Serve) -> None:
    found = serve(small(missing_region="us-west-2"))
    day = found.truth["ga"]
    answer = servers.query(found.url, f"sum by (region) (increase({REQUESTS}[2h]))", day.end)
    assert set(answer) == {("us-east-1",)}
    assert day.total("unseen_requests") == day.total("requests", region="us-west-2") > 0
    before = found.truth["baseline"].end
    assert len(servers.query(found.url, f"sum by (region) (increase({REQUESTS}[2h]))", before)) == 2


def test_half_of_the_window(serve: Serve) -> None:
    found = serve(small(present=0.5))
    day = found.truth["ga"]
    series = steps(found.url, f"sum(increase({REQUESTS}[5m]))", day)[()]
    assert len(series) == 12
    seen = day.total("requests") - day.total("unseen_requests")
    assert sum(series.values()) == pytest.approx(seen, rel=5e-3)
    assert servers.query(found.url, "prometheus_rule_evaluations_total", day.end) == {}


def test_idle_service(serve: Serve) -> None:
    """A service without traffic: its counter is there and does not move."""
    found = serve(small(idle_service="hypersync"))
    day = found.truth["ga"]
    query = f"sum by (service) (increase({REQUESTS}[2h]))"
    answer = servers.query(found.url, query, day.end)
    assert answer["hypersync",] == 0 == day.total("requests", service="hypersync")
    assert answer["dashboard-api",] > 0
    assert day.total("up", service="hypersync") > 0


def test_reset_at_the_edge_of_a_step(serve: Serve) -> None:
    found = serve(small(reset_at=13 * HOUR))
    day = found.truth["ga"]
    resets = servers.query(found.url, "resets(http_request_duration_seconds_count[2h])", day.end)
    assert set(resets.values()) == {1.0}
    # What happened between the last scrape of the old process and its end is lost for good.
    series = steps(found.url, f"sum(increase({REQUESTS}[5m]))", day)[()]
    assert sum(series.values()) == pytest.approx(day.total("requests"), rel=5e-3)
    assert all(value > 0 for value in series.values())


def test_scaled() -> None:
    scenario = simulate.scaled(services=9, duration=HOUR)
    truth = simulate.truth(scenario)["ga"]
    assert len(truth.tallies) == 5
    assert sum(len(rest) for rest in truth.tallies.values()) == 45
    assert truth.total("requests") > 0


def test_victoria_metrics_holds_the_same(tmp_path: Path, serve: Serve) -> None:
    """VictoriaMetrics counts from the sample before a step and extrapolates nothing: within 1 %."""
    scenario = small(faults=True)
    text, prometheus = tmp_path / "text", serve(scenario)
    day = simulate.write(text, scenario, milliseconds=True)["ga"]
    with servers.victoria_metrics(tmp_path / "victoria") as url:
        servers.import_text(url, text)
        query = f"sum by (region, service) (increase({REQUESTS}[2h]))"
        answer, other = (servers.query(each, query, day.end) for each in (url, prometheus.url))
        assert answer.keys() == other.keys()
        for key, value in answer.items():
            assert value == pytest.approx(other[key], rel=0.01)
        up = 'sum(sum_over_time(up{job="tars"}[2h]))'
        assert servers.query(url, up, day.end) == servers.query(prometheus.url, up, day.end)


# --- The catalogue --------------------------------------------------------------------------------


def queries() -> dict[str, str]:
    """Resolve every query of the KPI catalogue for the demo: {kpi and part: PromQL}."""
    catalogue = yaml.safe_load((CATALOGUE / "kpis.yaml").read_text(encoding="utf-8"))
    values = {"region": simulate.REGIONS, "service": simulate.SERVICES}
    found = {}
    for name, kpi in catalogue["kpis"].items():
        labels = {each: kpi.get("labels", {}).get(each, each) for each in kpi["by"]}
        match = ",".join(f'{labels[each]}=~"{"|".join(values[each])}"' for each in kpi["by"])
        by = ", ".join(labels.values())
        for part in ("numerator", "denominator", "increase", "buckets", "value"):
            if part in kpi:
                found[f"{name} {part}"] = string.Template(kpi[part]).substitute(
                    match=match, by=by, step="5m", step_seconds=STEP
                )
    return found


def test_demo_answers_every_query_of_the_catalogue(demo_server: Served) -> None:
    day = demo_server.truth["ga"]
    sizes = defaultdict(set)
    for name, query in queries().items():
        answer = steps(demo_server.url, query, day)
        kind = "buckets" if name.endswith("buckets") else "rest"
        sizes[kind].add(len(answer))
        for key, series in answer.items():
            # One region was not scraped for four steps, and in another all replicas of two services
            # were down for a whole step: nobody may fill these in.
            gap = 4 if "eu-central-1" in key else 0
            stopped = {"orchestration-agent", "dashboard-api"} & set(key)
            down = 1 if "us-west-2" in key and stopped else 0
            assert 288 - gap - down <= len(series) <= 288 - gap, (name, key)
    assert sizes == {"rest": {1, 3, 24}, "buckets": {33, 288}}


def test_empty_server_answers_none(empty_server: str) -> None:
    for name, query in queries().items():
        assert servers.query(empty_server, query, GA_DAY + HOUR) == {}, name


def test_errors_are_zero_only_where_requests_were_counted(serve: Serve) -> None:
    """After a restart the series of code="500" is gone; the requests say that there were none."""
    found = serve(small(reset_at=13 * HOUR, services=("hypersync",)))
    day, errors = found.truth["ga"], queries()["errors increase"]
    answer = steps(found.url, errors, day)
    assert set(answer) == {("us-east-1", "hypersync"), ("us-west-2", "hypersync")}
    assert all(len(series) == 24 for series in answer.values())
    assert all(0.0 in series.values() for series in answer.values())
    assert not any(math.isnan(value) for series in answer.values() for value in series.values())


def test_twelve_drift_rules_name_kpis_of_the_catalogue() -> None:
    rules = yaml.safe_load((CATALOGUE / "drift_rules.yaml").read_text(encoding="utf-8"))["rules"]
    kpis = yaml.safe_load((CATALOGUE / "kpis.yaml").read_text(encoding="utf-8"))["kpis"].keys()
    assert len(rules) == 12
    named = [rule["kpi"] for rule in rules.values()]
    assert {kpi for each in named for kpi in ([each] if isinstance(each, str) else each)} <= kpis
    exact = {name for name, rule in rules.items() if rule["measure"] == "exact"}
    assert exact == {"replica_count", "resource_limits"}
    for name in rules.keys() - exact:
        assert 0 < rules[name]["warning"] < rules[name]["critical"] < 1
