"""Objectives: OpenSLO documents are read as they mean it, and what is not supported is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tars_ga_lib import objectives, parameters, queries
from tars_ga_lib.grammar import ParametersError, check, format_time, parse_time
from tars_ga_lib.objectives import Objective, TimeWindow
from tests.helpers import KPIS, ROOT, make_job

BAD = 'http_requests_total{code=~"5.."}'
ALL = "http_requests_total"
SERVICE = "kind: Service\napiVersion: openslo/v1\nmetadata: {name: a}\n"


def metric(query: str, **changes: Any) -> dict[str, Any]:
    return {"metricSource": {"type": "Prometheus", "spec": {"query": query}} | changes}


def slo(**spec: Any) -> dict[str, Any]:
    """Return an SLO document on plain selectors, its spec changed as told; None takes a key out."""
    ratio = {"counter": True, "bad": metric(BAD), "total": metric(ALL)}
    found = {
        "service": "shop",
        "indicator": {"metadata": {"name": "errors"}, "spec": {"ratioMetric": ratio}},
        "timeWindow": [{"duration": "28d", "isRolling": True}],
        "budgetingMethod": "Occurrences",
        "objectives": [{"target": 0.999}],
    } | spec
    return {
        "apiVersion": "openslo/v1",
        "kind": "SLO",
        "metadata": {"name": "errors"},
        "spec": {key: value for key, value in found.items() if value is not None},
    }


def indicator(sli: dict[str, Any], **annotations: str) -> dict[str, Any]:
    marks = {f"tars-ga/{key.replace('_', '-')}": value for key, value in annotations.items()}
    return {"metadata": {"name": "sli", "annotations": marks}, "spec": sli}


def ratio(good: str, every: str, /, **changes: Any) -> dict[str, Any]:
    return {
        "ratioMetric": {"counter": True, "good": metric(good), "total": metric(every)} | changes
    }


def threshold(query: str) -> dict[str, Any]:
    return {"thresholdMetric": metric(query)}


def write(folder: Path, *documents: Any) -> Path:
    path = folder / "slos.yaml"
    path.write_text(yaml.safe_dump_all(documents, sort_keys=False), encoding="utf-8")
    return path


def read_file(path: Path) -> dict[str, Objective]:
    documents = check(objectives.Documents, objectives.read(path), str(path))
    return objectives.objectives_of(documents, str(path), {})


def read(folder: Path, *documents: Any) -> dict[str, Objective]:
    return read_file(write(folder, *documents))


def refusal(folder: Path, *documents: Any, text: str | None = None) -> str:
    path = write(folder, *documents)
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(ParametersError) as caught:
        read_file(path)
    said = str(caught.value)
    assert said.startswith(str(path))
    assert "\n" not in said
    assert "pydantic" not in said.lower()
    assert len(said.removeprefix(str(path))) < 330
    return said.removeprefix(str(path))


# --- what is good ---------------------------------------------------------------------------------


def test_our_own_file() -> None:
    """The three objectives of the platform, and the queries that the KPIs ask already."""
    job = parameters.load(ROOT / "parameters" / "demo.yaml")
    assert {name: each.target for name, each in job.slos.items()} == {
        "availability": 0.999,
        "error-rate": 0.999,
        "latency-p99": 0.99,
    }
    assert [each.allowed for each in job.slos.values()] == [0.001, 0.001, 0.01]
    assert [each.counts for each in job.slos.values()] == ["good", "bad", "good"]
    assert {str(each.window and each.window.name) for each in job.slos.values()} == {"28d rolling"}
    asked = [each.id for each in queries.requests(job)]
    assert [each for each in asked if "slo" in each] == [
        "slo:latency-p99.numerator",
        "slo:latency-p99.denominator",
    ]


def test_plain_counter_selectors_become_increases(tmp_path: Path) -> None:
    (found,) = read(tmp_path, slo()).values()
    every = "sum by ($by) (increase(http_requests_total{$match}[$step]))"
    assert found.total == every
    # "No error" is known only where the same metric was read.
    assert found.part == (
        f'sum by ($by) (increase(http_requests_total{{code=~"5..",$match}}[$step])) or 0 * {every}'
    )
    assert found.by == ["region", "service"]


@pytest.mark.parametrize(
    ("good", "template"),
    [
        ("x", "sum by ($by) (increase(x{$match}[$step]))"),
        (" sum( x{} ) ", "sum by ($by) (increase(x{$match}[$step]))"),
        ("x:y{a=\"}$\", b!='c',}", "sum by ($by) (increase(x:y{a=\"}$$\", b!='c',$match}[$step]))"),
        ('sum(x{a="b\\"}c"})', 'sum by ($by) (increase(x{a="b\\"}c",$match}[$step]))'),
    ],
)
def test_selectors(tmp_path: Path, good: str, template: str) -> None:
    (found,) = read(tmp_path, slo(indicator=indicator(ratio(good, "y")))).values()
    assert found.part == template, found.part
    assert found.counts == "good"
    # Another metric proves nothing of this one.
    assert " or " not in found.part


def test_dimensions_are_as_annotated(tmp_path: Path) -> None:
    none = slo(indicator=indicator(ratio("x", "y"), by="none"))
    (found,) = read(tmp_path, none).values()
    assert found.part == "sum (increase(x[$step]))"
    assert found.by == []
    region = slo(indicator=indicator(ratio("x", "y"), by="region", region_label="dc"))
    (found,) = read(tmp_path, region).values()
    assert found.by == ["region"]
    assert found.labels == {"region": "dc"}


def test_templates_are_kept(tmp_path: Path) -> None:
    good, total = (f"sum by ($by) (increase({x}{{$match}}[$step]))" for x in "xy")
    (found,) = read(tmp_path, slo(indicator=indicator(ratio(good, total, counter=False)))).values()
    assert (found.part, found.total) == (good, total)


def test_threshold(tmp_path: Path) -> None:
    text = 'histogram_quantile(0.99, sum(rate(x_bucket{path=~"/a$"}[5m])) by (le))'
    document = slo(
        indicator=indicator(threshold(text)),
        budgetingMethod="Timeslices",
        objectives=[
            {"op": "lte", "value": 0.5, "targetPercent": 99.9, "timeSliceTarget": 0.95,
             "timeSliceWindow": 10},
        ],
    )  # fmt: skip
    (found,) = read(tmp_path, document).values()
    assert found.value == text.replace("$", "$$")  # plain PromQL, sent as it is
    assert found.by == []
    assert (found.op, found.threshold, found.target) == ("lte", 0.5, 0.999)
    assert (found.slice_seconds, found.slice_target) == (600, 0.95)
    job = make_job(tmp_path / "run", slos=str(tmp_path / "slos.yaml"))
    (query,) = [each.query for each in queries.requests(job) if "slo:" in each.id]
    assert query == text


def test_references_lists_and_other_documents(tmp_path: Path) -> None:
    """An SLI and a data source of their own, several documents in a list, and empty ones."""
    source = {"metricSourceRef": "prom", "type": None}
    sli = {"ratioMetric": {"counter": True, "good": metric("x", **source),
                           "total": metric("y", **source)}}  # fmt: skip
    for each in sli["ratioMetric"].values():
        if isinstance(each, dict):
            del each["metricSource"]["type"]
    path = tmp_path / "slos.yaml"
    documents = [
        {"kind": "Service", "metadata": {"name": "shop"}, "spec": {}},
        {"kind": "DataSource", "metadata": {"name": "prom"},
         "spec": {"type": "Prometheus", "connectionDetails": {}}},
        {"kind": "SLI", "metadata": {"name": "sli", "labels": {"team": ["a", "b"], "tier": "1"},
                                     "annotations": {"other.tool/x": "y"}}, "spec": sli},
        slo(indicator=None, indicatorRef="sli",
            objectives=[{"target": 0.99}, {"targetPercent": 99.95, "displayName": "strict"}]),
    ]  # fmt: skip
    stream = [each | {"apiVersion": "openslo/v1"} for each in documents]
    path.write_text(f"# a comment\n---\n{yaml.safe_dump(stream)}\n---\n", encoding="utf-8")
    found = read_file(path)
    assert {name: each.title for name, each in found.items()} == {
        "errors-99": "errors (99 %)",
        "errors-99.95": "strict",
    }
    assert found["errors-99.95"].allowed == 0.0005


def test_the_specifications_examples(tmp_path: Path) -> None:
    """An SLO as OpenSLO's own documentation writes one."""
    text = """
apiVersion: openslo/v1
kind: SLO
metadata:
  name: web-availability
  displayName: SLO for web availability
  labels: {env: [prod], team: [team-a, team-b]}
spec:
  description: X% of search requests are successful
  service: web
  indicator:
    metadata: {name: web-successful-requests-ratio}
    spec:
      ratioMetric:
        counter: true
        good:
          metricSource:
            type: Prometheus
            spec: {query: 'sum(http_requests{k8s_cluster="prod",component="web",code=~"2xx|4xx"})'}
        total:
          metricSource:
            type: Prometheus
            spec: {query: 'sum(http_requests{k8s_cluster="prod",component="web"})'}
  timeWindow:
    - duration: 1w
      isRolling: false
      calendar: {startTime: 2022-01-01 12:00:00, timeZone: America/New_York}
  budgetingMethod: Timeslices
  objectives:
    - {displayName: Good, target: 0.995, timeSliceTarget: 0.95, timeSliceWindow: 1m}
"""
    path = tmp_path / "slos.yaml"
    path.write_text(text, encoding="utf-8")
    (found,) = read_file(path).values()
    assert found.window is not None
    assert found.window.name == "1w by the calendar"
    assert found.slice_seconds == 60


# --- calendars ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "at", "start", "end"),
    [
        ("28d rolling", "2026-11-21T00:00:00Z", "2026-10-24T00:00:00Z", "2026-11-21T00:00:00Z"),
        ("1M UTC 2026-01-01", "2026-11-21T00:00:00Z", "2026-11-01T00:00:00Z",
         "2026-12-01T00:00:00Z"),
        # The end of a period belongs to it, not to the next.
        ("1M UTC 2026-01-01", "2026-12-01T00:00:00Z", "2026-11-01T00:00:00Z",
         "2026-12-01T00:00:00Z"),
        ("1M UTC 2026-01-31", "2026-02-28T12:00:00Z", "2026-02-28T00:00:00Z",
         "2026-03-31T00:00:00Z"),
        ("1Q UTC 2020-01-01", "2026-11-21T00:00:00Z", "2026-10-01T00:00:00Z",
         "2027-01-01T00:00:00Z"),
        ("1Y UTC 2020-01-01", "2026-11-21T00:00:00Z", "2026-01-01T00:00:00Z",
         "2027-01-01T00:00:00Z"),
        # By the clock on the wall: this week has an hour more.
        ("1w America/New_York 2026-10-26", "2026-11-01T12:00:00Z", "2026-10-26T04:00:00Z",
         "2026-11-02T05:00:00Z"),
        # Periods that begin after the moment reach back as well.
        ("1w UTC 2026-12-07", "2026-11-21T00:00:00Z", "2026-11-16T00:00:00Z",
         "2026-11-23T00:00:00Z"),
    ],
)  # fmt: skip
def test_periods(window: str, at: str, start: str, end: str) -> None:
    duration, zone, *first = window.split()
    raw: dict[str, Any] = {"duration": duration, "isRolling": zone == "rolling"}
    if first:
        raw["calendar"] = {"startTime": f"{first[0]} 00:00:00", "timeZone": zone}
    found = TimeWindow.model_validate(raw).around(parse_time(at))
    assert tuple(map(format_time, found)) == (start, end)


# --- what is refused ------------------------------------------------------------------------------


def of(sli: dict[str, Any], objectives: Any = None, **annotations: str) -> dict[str, Any]:
    """Return an SLO with an indicator of its own."""
    spec = {"objectives": objectives} if objectives else {}
    return slo(indicator=indicator(sli, **annotations), **spec)


def total(source: dict[str, Any]) -> dict[str, Any]:
    """Return a ratio whose total is of another source."""
    return ratio("x", "y", total={"metricSource": {"spec": {"query": "y"}} | source})


LIMIT = {"op": "lt", "value": 1}
MARS = {"startTime": "2026-01-01 00:00:00", "timeZone": "Mars"}
REFUSED: list[tuple[dict[str, Any], str]] = [
    (slo(indicator=None, objectives=[{"target": 0.9, "indicatorRef": "x"}]),
     "unknown key 'SLO.errors.spec.objectives.0.indicatorRef'; take it out"),
    (slo(objectives=[{"target": 0.9, "compositeWeight": 2}]),
     "unknown key 'SLO.errors.spec.objectives.0.compositeWeight'; take it out"),
    (of(total({"type": "Datadog"})), "source type 'Datadog' is not supported; use Prometheus"),
    (of(total({})), "give 'type: Prometheus'"),
    (of(total({"metricSourceRef": "p"})), "the data source 'p' is not in the file"),
    (of({"ratioMetric": {"raw": metric("x"), "total": metric("x")}}),
     "unknown key 'SLO.errors.spec.indicator.spec.ratioMetric.raw'"),
    (of(ratio("x", "y", bad=metric("z"))), "give exactly one of 'good' and 'bad'"),
    (of(ratio("x", "y") | threshold("z")),
     "give exactly one of 'ratioMetric' and 'thresholdMetric'"),
    (of(ratio("sum(rate(x[5m]))", "y")),
     "the query 'sum(rate(x[5m]))' is no plain counter selector; write name{…}"),
    (of(ratio("x", "y", counter=False)), "set 'counter: true'"),
    (of(ratio("sum by ($by) (x{$match})", "sum by ($by) (y{$match})")),
     "has no $step, so it does not say what was counted in a step"),
    (of(ratio("sum(increase(x{$match}[$step]))", "y")), "has no $by"),
    (of(threshold("x"), [{"target": 0.9} | LIMIT], by="region"), "has no $by"),
    (of(ratio("x", "y"), by="service"), "write none, region, or"),
    (of(ratio("x", "y"), bye="region"), "unknown key 'tars-ga/bye'"),
    (slo(objectives=[{"target": 0.9} | LIMIT]), "'op' and 'value' go with a thresholdMetric"),
    (slo(objectives=[{"target": 0.9, "op": "lt"}]), "'op' and 'value' go together; give both"),
    (of(threshold("x")), "needs 'op' and 'value'"),
    (of(threshold("x"), [{"target": t} | LIMIT for t in (0.9, 0.99)]),
     "a thresholdMetric has only one objective"),
    (slo(objectives=[{"target": 1}]), "spec.objectives.0.target"),
    (slo(objectives=[{"target": 0.9, "targetPercent": 90}]),
     "give exactly one of 'target' and 'targetPercent'"),
    (slo(objectives=[{"target": 0.9}, {"targetPercent": 90}]),
     "the objective 'errors-90' is there twice"),
    (slo(alertPolicies=[{"alertPolicyRef": "x"}]),
     "unknown key 'SLO.errors.spec.alertPolicies'; take it out"),
    (slo(budgetingMethod="RatioTimeslices"),
     "spec.budgetingMethod: must be 'Occurrences' or 'Timeslices', not 'RatioTimeslices'"),
    (slo(budgetingMethod="Timeslices"), "Timeslices need 'timeSliceTarget'"),
    (slo(objectives=[{"target": 0.9, "timeSliceTarget": 0.9}]),
     "go with Timeslices; take them out"),
    (slo(timeWindow=[{"duration": "1M", "isRolling": True}]),
     "a rolling window of 1M has no fixed length; give days"),
    (slo(timeWindow=[{"duration": "28 days", "isRolling": True}]),
     "'28 days' is not a duration of OpenSLO; write it like 28d"),
    (slo(timeWindow=[{"duration": "28d", "isRolling": True}] * 2), "spec.timeWindow"),
    (slo(timeWindow=[{"duration": "1M", "calendar": MARS}]), "'Mars' is not a time zone"),
    (slo() | {"metadata": {"name": "Error rate"}}, "is not a name of OpenSLO"),
    (slo(timeWindows=[]), "unknown key 'SLO.errors.spec.timeWindows'; did you mean"),
    (slo() | {"apiVersion": "openslo/v2alpha"}, "apiVersion"),
    (slo() | {"kind": "AlertPolicy"}, "unknown key 'AlertPolicy'; take it out"),
    (slo(indicator=None, indicatorRef="gone"), "there is no SLI 'gone' in the file"),
    (slo(indicator=None), "give exactly one of 'indicator' and 'indicatorRef'"),
]  # fmt: skip


@pytest.mark.parametrize(("document", "words"), REFUSED, ids=range(len(REFUSED)))
def test_refused(tmp_path: Path, document: dict[str, Any], words: str) -> None:
    assert words in refusal(tmp_path, copy.deepcopy(document))


def test_the_errors_document_is_named(tmp_path: Path) -> None:
    bad = slo(objectives=[{"target": 2}]) | {"metadata": {"name": "second"}}
    assert refusal(tmp_path, slo(), bad).startswith(": SLO.second.spec.objectives.0.target: ")


def test_services_are_checked_where_the_file_has_any(tmp_path: Path) -> None:
    service = {"apiVersion": "openslo/v1", "kind": "Service", "metadata": {"name": "tars"}}
    said = refusal(tmp_path, service | {"spec": {}}, slo())
    assert "'shop' is not one of the file's services (tars)" in said


def test_connection_details_never_reach_the_package(tmp_path: Path) -> None:
    """They may hold a secret, and the file is packed with the evidence."""
    details = {"url": "https://user:hunter2@prometheus.example"}
    source = {"type": "Prometheus", "connectionDetails": details}
    document = {"apiVersion": "openslo/v1", "kind": "DataSource", "metadata": {"name": "prom"}}
    said = refusal(tmp_path, slo(), document | {"spec": source})
    assert "connection details are not read" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it holds no SLO"),
        ("---\n---\n", "it holds no SLO"),
        ("just words", "a document is not one of OpenSLO; begin each with 'apiVersion:"),
        ("kind: SLO\nkind: SLO\n", ", line 2: the key 'kind' is there twice"),
        (f"{SERVICE}---\n\nx: 1\nx: 2\n", ", line 7: the key 'x' is there twice"),
        (f"{SERVICE}---\n{SERVICE}", ": the Service 'a' is there twice; rename one"),
        ("a: [\n---\nb: 1\n", ", line 2: "),
        (f"{SERVICE}---\nb: *x\n", ", line 5: "),
        ("kind: [SLO]\n", "is not one of OpenSLO"),
    ],
)
def test_streams_are_read_strictly(tmp_path: Path, text: str, words: str) -> None:
    assert words in refusal(tmp_path, text=text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ParametersError, match="there is no such file"):
        objectives.read(tmp_path / "gone.yaml")
    with pytest.raises(ParametersError, match="cannot be read"):
        objectives.read(tmp_path)
    (tmp_path / "slos.yaml").write_bytes(b"\xff")
    with pytest.raises(ParametersError, match="is not UTF-8"):
        objectives.read(tmp_path / "slos.yaml")


# --- in a run -------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", ["7m", "10h"])
def test_slices_fit_the_run(tmp_path: Path, every: str) -> None:
    document = slo(
        budgetingMethod="Timeslices",
        objectives=[{"target": 0.99, "timeSliceTarget": 0.9, "timeSliceWindow": every}],
    )
    with pytest.raises(ParametersError, match=r"slos.yaml: errors: its time slice of .* choose"):
        make_job(tmp_path / "run", slos=str(write(tmp_path, document)), steps=288)


def test_an_unknown_mark_names_the_objectives_file(tmp_path: Path) -> None:
    query = "sum by ($by) (increase(x{$macth}[$step]))"
    path = write(tmp_path, slo(indicator=indicator(ratio(query, query))))
    job = make_job(tmp_path / "run", slos=str(path))
    with pytest.raises(ParametersError, match=r"slos\.yaml: the query .* unknown mark"):
        queries.requests(job)


def test_the_same_template_is_asked_once(tmp_path: Path) -> None:
    kpi = KPIS["requests"]["increase"]
    document = slo(indicator=indicator(ratio(kpi, "other")))
    # The marks of one query make templates of both.
    document["spec"]["indicator"]["spec"]["ratioMetric"]["total"] = metric(
        "sum by ($by) (increase(other{$match}[$step]))"
    )
    job = make_job(tmp_path / "run", slos=str(write(tmp_path, document)))
    asked = [each.id for each in queries.requests(job)]
    assert "slo:errors.denominator" in asked
    assert "slo:errors.numerator" not in asked


def test_the_schema_knows_our_own_file_and_refuses_another() -> None:
    """Editors check a file by it: a duration is a text, whatever we make of it."""
    schema = parameters.schema() | {"$ref": "#/$defs/Document"}
    documents = list(yaml.safe_load_all((ROOT / "parameters" / "slos.yaml").read_text()))
    assert len(documents) == 4
    for document in documents:
        jsonschema.validate(document, schema)
    documents[1]["spec"]["timeWindow"][0]["duration"] = 28
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(documents[1], schema)
