"""Checks of Grafana, against a server that speaks its documented API."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from tars_ga_lib.system.checks import Outcome
from tests import checking, grafana, servers
from tests.grafana import OVERVIEW, Grafana, panel

LOAD = "dashboard_load_time.tars-overview"
PANELS = "panel_query_time.tars-overview"


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TARS_GA_GRAFANA_TOKEN", grafana.TOKEN)


@pytest.fixture
def server() -> Iterator[Grafana]:
    with grafana.serve() as found:
        yield found


def outcomes(url: str, **more: Any) -> dict[str, Outcome]:
    facts = {
        "url": url,
        "token_env": "TARS_GA_GRAFANA_TOKEN",
        "dashboards": ["tars-overview"],
    } | more
    return checking.outcomes("grafana", facts, check_timeout="2s")


def dashboard(server: Grafana, *panels: Any, variables: Any = ()) -> None:
    model = copy.deepcopy(OVERVIEW) | {"panels": list(panels)}
    model["templating"] = {"list": list(variables)}
    server.dashboards = {"tars-overview": model}


def test_a_healthy_server_passes(server: Grafana) -> None:
    found = outcomes(server.url, load_time="< 60", panel_query="< 60")
    assert {name: o.verdict for name, o in found.items()} == dict.fromkeys(
        ("health", LOAD, PANELS), "pass"
    )
    assert found["health"].value == 1
    assert "version 12.4.0" in found["health"].reason
    assert (found[PANELS].value or 0) > 0
    assert "the slowest of 4 panels" in found[PANELS].reason


def test_panels_are_asked_as_the_dashboard_would(server: Grafana) -> None:
    outcomes(server.url, range="2h")
    # Collapsed rows and library panels too; hidden queries and panels of text not.
    assert [query["expr"] for query in server.queries()] == [
        'sum(rate(requests{region=~"(us-east-1|us-west-2)"}[$__rate_interval]))',
        'errors{service=~"(api|hypersync)"}',
        "latency",
        "shared",
    ]
    assert {query["datasource"]["uid"] for query in server.queries()} == {"prom-1"}
    (body, *_) = server.asked
    assert int(body["to"]) - int(body["from"]) == 7_200_000


def test_the_slowest_panel_is_named(server: Grafana) -> None:
    server.slow = {"latency": 0.4}
    outcome = outcomes(server.url, panel_query="< 0.35")[PANELS]
    assert outcome.verdict == "fail"
    assert (outcome.value or 0) >= 0.4
    assert outcome.reason == "Latency is the slowest of 4 panels"


def test_a_slow_dashboard_fails(server: Grafana) -> None:
    server.slow_dashboard = 0.3
    outcome = outcomes(server.url, load_time="< 0.2")[LOAD]
    assert outcome.verdict == "fail"
    assert (outcome.value or 0) >= 0.3


def test_an_unhealthy_server_is_a_failure_not_no_data(server: Grafana) -> None:
    server.database = "failing"
    health = outcomes(server.url)["health"]
    assert (health.verdict, health.value) == ("fail", 0)
    assert "HTTP 503" in health.reason
    assert "database failing" in health.reason


def test_a_panel_that_errs_is_no_pass(server: Grafana) -> None:
    server.broken = {"latency"}
    outcome = outcomes(server.url, panel_query="< 60")[PANELS]
    assert (outcome.verdict, outcome.cause) == ("no_data", "refused")
    assert "1 panels do not answer: Latency: bad_data: parse error" in outcome.reason


def test_what_is_known_to_be_slow_fails_although_another_errs(server: Grafana) -> None:
    server.broken, server.slow = {"latency"}, {"shared": 0.3}
    outcome = outcomes(server.url, panel_query="< 0.2")[PANELS]
    assert outcome.verdict == "fail"
    assert "Shared is the slowest" in outcome.reason
    assert "Latency: bad_data" in outcome.reason


def test_panels_without_a_single_row_are_no_pass(server: Grafana) -> None:
    dashboard(server, panel(1, "Latency", "latency"))
    server.empty = {"latency"}
    outcome = outcomes(server.url)[PANELS]
    assert (outcome.verdict, outcome.cause) == ("no_data", "no_rows")


def test_a_dashboard_without_a_query_is_no_pass(server: Grafana) -> None:
    dashboard(server, {"id": 1, "type": "text", "title": "About"})
    found = outcomes(server.url)
    assert (found[PANELS].verdict, found[PANELS].cause) == ("no_data", "no_rows")
    assert found[LOAD].verdict == "warn"


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ({"status": 401}, "unauthorised"),
        ({"status": 403}, "unauthorised"),
        ({"status": 302}, "refused"),
        ({"status": 500}, "error"),
        ({"status": 404}, "refused"),
        ({"garbage": True}, "error"),
        ({"hang": True}, "timed_out"),
    ],
)
def test_each_cause_of_no_data_is_told_apart(fault: dict[str, Any], cause: str) -> None:
    with grafana.serve(**fault) as server:
        found = outcomes(server.url)
    for name in (LOAD, PANELS):
        assert (found[name].verdict, found[name].cause) == ("no_data", cause)
    assert found["health"].verdict != "pass"


def test_nobody_there_is_unreachable() -> None:
    found = outcomes(f"http://127.0.0.1:{servers.free_port()}")
    assert {(o.verdict, o.cause) for o in found.values()} == {("no_data", "unreachable")}


def test_an_unknown_dashboard_is_named(server: Grafana) -> None:
    found = outcomes(server.url, dashboards=["nope"])
    outcome = found["dashboard_load_time.nope"]
    assert (outcome.verdict, outcome.cause) == ("no_data", "refused")
    assert outcome.reason == "dashboard nope: HTTP 404 (Dashboard not found)"


def test_a_wrong_token_is_unauthorised_and_not_repeated(
    server: Grafana, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TARS_GA_GRAFANA_TOKEN", "glsa_wrong-token")
    found = outcomes(server.url)
    assert found[LOAD].cause == "unauthorised"
    assert "TARS_GA_GRAFANA_TOKEN" in found[LOAD].reason
    # The server repeats what it was sent.
    assert "glsa_wrong-token" not in str([o.facts() for o in found.values()])


def test_a_token_that_is_not_set_is_not_configured(
    server: Grafana, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TARS_GA_GRAFANA_TOKEN")
    assert {o.cause for o in outcomes(server.url).values()} == {"not_configured"}


@pytest.mark.parametrize(
    ("variable", "expression", "sent"),
    [
        ({"current": {"value": "a.b"}}, 'up{x="$v"}', 'up{x="a.b"}'),
        ({"current": {"value": ["a.b"]}}, 'up{x=~"$v"}', r'up{x=~"a\\.b"}'),
        ({"current": {"value": ["a", "b"]}}, "${v:csv}", "a,b"),
        ({"current": {"value": ["a", "b"]}}, "[[v:pipe]]", "a|b"),
        ({"current": {"value": ["$__all"]}}, "$v", ".*"),
        ({"current": {"value": "$__all"}, "allValue": "all.+"}, "$v", "all.+"),
        ({"type": "constant", "query": "c"}, "$v", "c"),
        ({"current": {"value": "x"}}, "rate(a[$__interval]) $1 $vv", "rate(a[$__interval]) $1 $vv"),
    ],
)
def test_variables_are_filled_in(
    server: Grafana, variable: dict[str, Any], expression: str, sent: str
) -> None:
    dashboard(server, panel(1, "A", expression), variables=[{"name": "v"} | variable])
    assert outcomes(server.url)[PANELS].verdict != "no_data"
    assert [query["expr"] for query in server.queries()] == [sent]


def test_a_variable_without_a_value_is_asked_for(server: Grafana) -> None:
    dashboard(server, panel(1, "A", "up$v"), variables=[{"name": "v", "type": "query"}])
    outcome = outcomes(server.url)[PANELS]
    assert (outcome.verdict, outcome.cause) == ("no_data", "not_configured")
    assert "grafana.variables.v" in outcome.reason
    assert outcomes(server.url, variables={"v": "_"})[PANELS].verdict != "no_data"
    assert server.queries()[-1]["expr"] == "up_"


@pytest.mark.parametrize(
    ("source", "uid"), [(None, "prom-1"), ("Loki", "loki-1"), ({"uid": "other"}, "other")]
)
def test_data_sources_are_found(server: Grafana, source: Any, uid: str) -> None:
    dashboard(server, panel(1, "A", "up", source))
    outcomes(server.url)
    assert server.queries()[0]["datasource"]["uid"] == uid


def test_an_unknown_data_source_is_no_pass(server: Grafana) -> None:
    dashboard(server, panel(1, "A", "up", "Nobody"))
    outcome = outcomes(server.url)[PANELS]
    assert (outcome.verdict, outcome.cause) == ("no_data", "refused")
    assert "there is no data source 'Nobody'" in outcome.reason
