"""Queries: the catalogue's templates, resolved for a run, and understood by a real server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests

from tars_ga_lib import grammar, parameters, queries
from tests.helpers import COUNTER, GAUGE, KPIS, ROOT, make_job
from tests.servers import Served

ODD = ['a"b', "c\nd", "e\\f", "g.h", "i|j", "k(l)[m]{n}^$*+?", "snow ☃", "-", "tab\t"]


def texts(folder: Path, **changes: Any) -> dict[str, str]:
    return {each.id: each.query for each in queries.requests(make_job(folder, **changes))}


def test_resolved(tmp_path: Path) -> None:
    kpi = GAUGE | {
        "value": "sum by ($by)\n  (increase(x{a='$$1', $match}[$step])) / $step_seconds",
        "labels": {"service": "container"},
    }
    found = texts(tmp_path, kpis_=KPIS | {"x": kpi}, labels={"region": "dc"})
    assert found["x.value"] == (
        "sum by (dc, container) (increase(x{a='$1', "
        'dc=~"east|west",container=~"api|web"}[5m])) / 300'
    )


def test_step_is_the_runs(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    job = parameters.load(tmp_path / "run.yaml", ["window.step=90s", "window.duration=45m"])
    assert "[1m30s]" in {each.id: each.query for each in queries.requests(job)}["requests.increase"]


def test_each_query_is_asked_once(tmp_path: Path) -> None:
    found = texts(tmp_path)
    assert len(found) == len(set(found.values()))
    assert [name for name in found if "latency" in name] == ["latency_p99.buckets"]
    assert [name for name in found if "request" in name] == ["requests.increase"]


def test_same_text_by_other_labels_is_another_query(tmp_path: Path) -> None:
    """One template that is asked by region, and by region and service, is two questions."""
    text = "sum by ($by) (x{$match})"
    kpis = {
        "fine": COUNTER | {"increase": text},
        "coarse": COUNTER | {"increase": text, "by": ["region"]},
        "other": COUNTER | {"increase": text, "labels": {"service": "pod"}},
    }
    found = texts(tmp_path, kpis_=KPIS | kpis)
    assert len({found[f"{name}.increase"] for name in kpis}) == 3


def test_alerts(tmp_path: Path) -> None:
    alerts = {"firing": "ALERTS", "evaluations": "sum(increase(evaluations[$step]))"}
    found = texts(tmp_path, alerts_=alerts)
    assert found[queries.FIRING] == "ALERTS"
    assert found[queries.EVALUATIONS] == "sum(increase(evaluations[5m]))"


@pytest.mark.parametrize("mark", ["$macth", "${step", "$", "$(match)"])
def test_bad_marks(tmp_path: Path, mark: str) -> None:
    job = make_job(tmp_path, kpis_=KPIS | {"x": GAUGE | {"value": f"x{mark}"}})
    with pytest.raises(grammar.ParametersError, match=r"kpis.yaml: the query 'x.*unknown mark"):
        queries.requests(job)


def test_odd_names_match_exactly_themselves(tmp_path: Path, demo_server: Served) -> None:
    """The server itself says which of many odd names a matcher lets through."""
    job = make_job(tmp_path, regions=["r"], primary_region="r", services=ODD)
    for name in ODD:
        alone = job.parameters.model_copy(update={"services": [name]})
        matcher = queries._matchers({"service": "service"}, alone)
        for other in [*ODD, "gxh", "i", "j", "x", ""]:
            quoted = "".join(f"\\x{byte:02x}" for byte in other.encode())
            selected = f'label_replace(vector(1), "service", "{quoted}", "", "")'
            # A matcher selects series; a regular expression of label_replace matches the same way.
            pattern = matcher.removeprefix("service=~")
            query = f'label_replace({selected}, "hit", "yes", "service", {pattern})'
            answer = requests.post(
                f"{demo_server.url}/api/v1/query", data={"query": query}, timeout=30
            )
            assert answer.status_code == 200, answer.text
            (series,) = answer.json()["data"]["result"]
            assert ("hit" in series["metric"]) is (name == other), (name, other)


@pytest.mark.parametrize("name", ["demo", "ga_day"])
def test_our_catalogue_is_understood(name: str, demo_server: Served) -> None:
    job = parameters.load(ROOT / "parameters" / f"{name}.yaml")
    asked = queries.requests(job)
    assert len(asked) > 30
    for each in asked:
        answer = requests.post(
            f"{demo_server.url}/api/v1/query",
            data={"query": each.query, "time": job.parameters.window.stop},
            timeout=60,
        )
        assert answer.status_code == 200, (each.query, answer.text)
