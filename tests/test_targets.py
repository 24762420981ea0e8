"""The model of validation.yaml: what it takes, what it refuses, and its defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tars_ga_lib.grammar import ParametersError, check, read_yaml
from tars_ga_lib.targets import ValidationTargets
from tests.helpers import ROOT

POSTGRES = {"primary": {"region": "east", "host": "db.example.com"}}
REDIS = {"primary": {"region": "east", "host": "cache.example.com"}}
CHROMA = {
    "primary": {"region": "east", "url": "http://127.0.0.1:8000"},
    "collections": [{"name": "missions"}],
}
GRAFANA = {"url": "https://grafana.example.com", "dashboards": ["overview"]}


def read(document: dict[str, Any]) -> ValidationTargets:
    return check(ValidationTargets, document, "validation.yaml")


def test_the_defaults_are_those_of_the_specification() -> None:
    found = read({"postgres": POSTGRES, "redis": REDIS, "grafana": GRAFANA, "agents": {}})
    assert found.deadline == 60
    limits = {name: str(each.limit) for name, each in found.kpis.items()}
    assert limits == {
        "availability": ">= 0.999",
        "error_rate": "< 0.001",
        "latency_p99": "< 0.5",
        "websocket_uptime": ">= 0.999",
        "drift_stability": "<= 0.1",
    }
    assert str(found.kpis["drift_stability"].warning) == "<= 0.05"
    assert found.postgres is not None
    assert found.redis is not None
    assert found.grafana is not None
    assert found.agents is not None
    assert str(found.postgres.replication_lag) == str(found.redis.replication_lag) == "< 0.1"
    queries = {q.index: (q.kind, str(q.limit)) for q in found.postgres.queries}
    assert queries == {
        "idx_missions_status": ("mission", "< 0.05"),
        "idx_missions_created_at": ("mission", "< 0.05"),
        "idx_telemetry_timestamp": ("analytics", "< 0.2"),
    }
    assert (str(found.grafana.load_time), str(found.grafana.panel_query)) == ("< 2", "< 0.5")
    agents = found.agents
    assert [str(x) for x in (agents.limit, agents.growth, agents.oom_kills)] == [
        "< 1500000000",
        "< 10000000",
        "== 0",
    ]
    assert not found.postgres.canary.enabled
    assert not found.redis.canary.enabled


def test_the_example_is_good_and_names_every_section() -> None:
    file = ROOT / "parameters" / "validation.yaml"
    found = check(ValidationTargets, read_yaml(file), str(file))
    sections = {"kpis", "postgres", "redis", "chroma", "grafana", "agents"}
    assert sections <= found.model_fields_set
    assert not found.left_out


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"postgress": POSTGRES}, "did you mean 'postgres'?"),
        ({"postgres": {"primary": {"region": "east"}}}, "give either 'dsn_env' or 'host'"),
        (
            {"postgres": {"primary": {"region": "e", "dsn_env": "TARS_GA_DSN", "user": "me"}}},
            "with 'dsn_env' give nothing else",
        ),
        ({"redis": {"primary": {"region": "east"}}}, "redis.primary.host"),
        ({"chroma": CHROMA | {"collections": []}}, "chroma.collections"),
        ({"grafana": GRAFANA | {"url": "grafana.example.com"}}, "is not a URL"),
        ({"grafana": GRAFANA | {"dashboards": []}}, "grafana.dashboards"),
        ({"grafana": GRAFANA | {"load_time": "> 2"}}, "must be an upper limit"),
        (
            {"grafana": GRAFANA | {"panel_query": "< 0.5", "panel_query_warning": "< 0.9"}},
            "would never warn",
        ),
        ({"kpis": {"a": {"limit": "< 1"}}}, "give either 'kpi' or 'drift'"),
        ({"kpis": {"a": {"kpi": "a", "limit": "< 1", "warning": "< 2"}}}, "would never warn"),
        ({"agents": {"pods": "ppo-("}}, "is not a regular expression"),
        ({"agents": {"growth": "10 MB"}}, "is not a limit"),
        ({"deadline": "5s"}, "'check_timeout' is longer than 'deadline'"),
        ({"grafana": GRAFANA, "left_out": {"grafana": "none"}}, "is configured and left out"),
        ({"left_out": {"mysql": "none"}}, "left_out"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(document: dict[str, Any], said: str) -> None:
    with pytest.raises(ParametersError) as refused:
        read(document)
    assert str(refused.value).startswith("validation.yaml: ")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "document",
    [
        {"postgres": {"primary": {"region": "e", "host": "h", "password_env": "hunter2!"}}},
        {"postgres": {"primary": {"region": "e", "host": "h", "password_env": "hunter2"}}},
        {"postgres": {"primary": {"region": "e", "dsn_env": "postgresql://u:hunter2@h/d"}}},
        {"postgres": {"primary": {"region": "e", "host": "u:hunter2@h"}}},
        {"grafana": GRAFANA | {"url": "https://u:hunter2@grafana.example.com"}},
        {"grafana": GRAFANA | {"url": "https://grafana.example.com/?auth_token=hunter2"}},
        {"grafana": GRAFANA | {"token_env": "glsa-hunter2"}},
        {"redis": {"primary": {"region": "e", "host": "redis://:hunter2@h"}}},
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(document: dict[str, Any]) -> None:
    with pytest.raises(ParametersError) as refused:
        read(document)
    assert "hunter2" not in str(refused.value)
    assert "environment variable" in str(refused.value) or "host name" in str(refused.value)


def test_the_file_survives_being_written_and_read(tmp_path: Path) -> None:
    first = read({"postgres": POSTGRES, "redis": REDIS, "chroma": CHROMA, "grafana": GRAFANA})
    again = read(first.model_dump(mode="json", exclude_none=True, exclude_unset=True))
    assert again == first
