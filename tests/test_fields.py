"""The report's fields: each with its source there, and with its source gone.

One run is built in full by the library's own writers, from a small recording that is made by hand
and the examples of evidence; others lack one source each.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tars_ga_lib import criteria, drift, fields, kpis, parameters, regions, slo
from tars_ga_lib.display import NO_DATA
from tars_ga_lib.evidence_files import EVIDENCE_MODELS
from tars_ga_lib.facts import RunFacts
from tars_ga_lib.fields import FIELDS
from tars_ga_lib.fields.blocks import KPIS
from tars_ga_lib.fields.values import FieldValue, markdown
from tars_ga_lib.fields.ways import TITLES
from tars_ga_lib.grammar import Interval
from tars_ga_lib.parameters import Job
from tars_ga_lib.queries import requests
from tars_ga_lib.recording import Recording, Span, write_json
from tars_ga_lib.run import Run
from tests.helpers import ROOT, answer, make_recording

STEPS = 288
REGIONS, SERVICES = ("east", "west"), ("api", "web")
JSONS = (
    "ga_kpi_summary.json",
    "baseline_metrics.json",
    "drift_analysis.json",
    "cross_region.json",
    "slo.json",
    "certification_metadata.json",
    "validation_results.json",
    "ws_health_metrics.json",
)
Values = dict[str, FieldValue]
Numbers = Mapping[str, Any]


# --- a run in full --------------------------------------------------------------------------------


def write_evidence(folder: Path, **changes: str) -> dict[str, str]:
    """Write the examples of all kinds of evidence, every role signed; changes are other texts."""
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, str] = {}
    for kind in EVIDENCE_MODELS:
        text = (ROOT / "parameters" / "evidence" / f"{kind}.yaml").read_text(encoding="utf-8")
        if kind == "sign_off":
            document = yaml.safe_load(text)
            document["sign_offs"] = [
                {"role": title, "name": f"({title})", "approved": True,
                 "at": "2026-11-21T09:00:00Z", "signature": "CHG-1"}
                for title in TITLES.values()
            ]  # fmt: skip
            text = json.dumps(document, default=str)
        path = folder / f"{kind}.yaml"
        path.write_text(changes.get(kind, text), encoding="utf-8")
        files[kind] = str(path)
    return files


def make_job(folder: Path, *overrides: str, **evidence: str) -> Job:
    """Return a job of our own catalogues over two small regions, with all evidence."""
    return parameters.load(
        ROOT / "parameters" / "ga_day.yaml",
        [
            f"regions={list(REGIONS)}",
            "primary_region=east",
            f"services={list(SERVICES)}",
            f"slos={ROOT / 'parameters' / 'slos.yaml'}",
            f"evidence={json.dumps(write_evidence(folder / 'evidence', **evidence))}",
            *overrides,
        ],
    )


RATIOS = {"availability": (1.0, 1.0), "error_rate": (1.0, 10_000.0)}


def samples(job: Job, identity: str, template: str, by: Mapping[str, str], numbers: Numbers) -> Any:
    """Return made-up series of one query: a place and an edge have the same numbers."""
    if identity in numbers:
        values = numbers[identity]
    elif "up{" in template or "probe_success" in template or "nash" in template:
        values = 10.0
    elif identity == "alerts.firing":
        return []
    elif "le," in template:
        edges = ("0.1", "0.5", "+Inf")
        return [
            ({**place, "le": edge}, count)
            for place in spots(by)
            for edge, count in zip(edges, (90.0, 99.0, 100.0), strict=True)
        ]
    else:
        values = {"error": 3.0, "denominator": 3000.0}.get(identity.rpartition(".")[2], 300.0)
        if identity == "requests.increase":
            values = 3000.0  # every answer has its code
        values = 3.0 if identity.startswith("error") and "denom" not in identity else values
    return [] if values is None else [(place, values) for place in spots(by)]


def spots(by: Mapping[str, str]) -> list[dict[str, str]]:
    members = {"region": REGIONS, "service": SERVICES}
    found: list[dict[str, str]] = [{}]
    for dimension, label in by.items():
        found = [{**place, label: name} for place in found for name in members[dimension]]
    return found


def make_spans(job: Job, numbers: Numbers) -> Recording:
    spans = []
    wanted: dict[str, Interval] = {"window": job.parameters.window}
    wanted |= {f"baseline_{n}": b for n, b in enumerate(job.parameters.baseline_intervals(), 1)}
    for name, interval in wanted.items():
        steps = interval.seconds // job.parameters.window.step
        own = {key.removeprefix(f"{name}:"): v for key, v in numbers.items()}
        sets = {
            r.id: answer(r, samples(job, r.id, r.template, r.by, own), steps) for r in requests(job)
        }
        spans.append(Span(name, interval.start, interval.stop, job.parameters.window.step, sets))
    return make_recording(*spans)


def collected(folder: Path, job: Job, recording: Recording) -> Run:
    """Write a run's folder as far as its collection does, by the library's own writers."""
    recording.save(folder / "recording")
    job.save(folder / "parameters", [(span.start, span.stop) for span in recording.baselines])
    run = Run(folder)
    run.write("ga_kpi_summary.json", kpis.collection_summary(run.kpis, run.recording))
    run.write("baseline_metrics.json", kpis.baseline_metrics(run.intervals[1:], run.recording))
    return run


def build(folder: Path, job: Job, recording: Recording, **measured: Any) -> Run:
    """Write a run's folder in full."""
    run = collected(folder, job, recording)
    for name, document in measured.items():
        write_json(folder / f"{name}.json", document)
    analysis = run.write("drift_analysis.json", drift.analyse(run.kpis, run.baseline_kpis))
    run.write("cross_region.json", regions.compare(run.kpis, run.baseline_kpis))
    run.write("slo.json", slo.evaluate(run.kpis, run.job.slos))
    certified = criteria.certify(run.kpis, run.recording, analysis, run.measured())
    run.write("certification_metadata.json", certified)
    return run


LATENCY = {"count": 10, "mean": 0.02, "p99": 0.05, "max": 0.06}
RECONNECTS = {"attempts": 4, "successes": 4, "success_rate": 1.0, "latency": LATENCY}
LIMIT = {
    "name": "uptime", "title": "Uptime", "value": 1.0, "unit": "ratio", "limit": ">= 0.999",
    "verdict": "pass", "reason": "",
}  # fmt: skip


def endpoint(name: str, ping: Numbers, downtime: float | None) -> dict[str, Any]:
    """Return the results of one endpoint, as `tars-ga websocket` writes them."""
    figures = {
        "uptime": 1.0, "longest_downtime": downtime, "handshake_p99": 0.05, "ping_p99": ping["p99"],
        "reconnect_success_rate": 1.0, "reconnect_latency_mean": 0.02,
        "reconnect_latency_p99": 0.05,
    }  # fmt: skip
    return {
        "name": name, "url": "wss://example.com/ws", "observed_seconds": 3500.0,
        "connected_seconds": 3500.0, "forced_seconds": 1.0, "unobserved_seconds": 99.0,
        "uptime": 1.0, "handshake": LATENCY, "ping": ping, "forced": RECONNECTS,
        "reconnects": RECONNECTS | {"attempts": 0, "successes": 0, "success_rate": None},
        "longest_downtime": downtime or 0.0, "downtime_count": 0, "downtimes": [], "messages": 0,
        "problem": "", "figures": figures, "limits": [LIMIT], "verdict": "pass",
    }  # fmt: skip


def check(**changes: Any) -> dict[str, Any]:
    """Return the result of one check, as `tars-ga validate` writes it."""
    return {
        "id": "postgres.mission_query_time.east", "title": "Missions by status",
        "group": "database", "measure": "mission_query_time", "region": "east",
        "target": "127.0.0.1:5432", "query": "SELECT 1", "value": 0.02, "unit": "s",
        "limit": "< 0.05", "verdict": "pass", "cause": None, "reason": "",
        "measured_at": "2026-11-20T00:30:00Z", "took_seconds": 0.1,
    } | changes  # fmt: skip


def results() -> dict[str, Any]:
    """Return results of the validation and of WebSocket sessions, as their commands write them."""
    common = {
        "release": {"name": "T.A.R.S.", "version": "v1.0.1"}, "simulated": False, "note": "",
        "started_at": "2026-11-20T00:30:00Z", "ended_at": "2026-11-20T01:30:00Z",
        "software": "tars-ga 0",
    }  # fmt: skip
    lag = {"id": "b", "title": "Lag", "group": "replication", "measure": None, "region": "west"}
    return {
        "validation_results": common | {
            "schema": "tars-ga/validation/1",
            "checks": [check(), check(**lag, value=0.09, verdict="fail")],
            "counts": {"pass": 1, "warn": 0, "fail": 1, "no_data": 0},
        },
        "ws_health_metrics": common | {
            "schema": "tars-ga/websocket/1", "asked_seconds": 3600.0, "watched_seconds": 3600.0,
            "complete": True, "stopped_by": None, "parameters": {}, "unobserved": [],
            "endpoints": [
                endpoint("east", LATENCY, 0.5),
                endpoint("west", LATENCY | {"count": 30, "mean": 0.06, "p99": 0.2}, 2.0),
            ],
            "verdict": "pass",
        },
    }  # fmt: skip


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Build a run in which every source is there, and its package's checksum."""
    folder = tmp_path_factory.mktemp("full")
    job = make_job(folder)
    run = build(folder / "run", job, make_spans(job, {}), **results())
    name = "ga_certification_package.tar.gz"
    (run.folder / f"{name}.sha256").write_text(f"{'a' * 64}  {name}\n", encoding="utf-8")
    (run.folder / "validation_results.html").write_text("<p>", encoding="utf-8")
    return run


@pytest.fixture(scope="module")
def there(full: Run) -> Values:
    return fields.values(full, {})


def lacking(full: Run, *kinds: str) -> Run:
    """Return the run as if some files of evidence had not been given; its samples are shared."""
    run = copy.copy(full)
    evidence = {kind: facts for kind, facts in full.job.evidence.items() if kind not in kinds}
    run.job = replace(full.job, evidence=evidence)
    return run


@pytest.fixture(scope="module")
def without(full: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Values]:
    """Return the values of runs that lack one source each, by the name of the source."""
    found = {f"{kind} file": fields.values(lacking(full, kind), {}) for kind in EVIDENCE_MODELS}
    for name in (*JSONS, "ga_certification_package.tar.gz.sha256"):
        run = copy.copy(full)
        run.folder = tmp_path_factory.mktemp("without") / "run"
        shutil.copytree(full.folder, run.folder)
        (run.folder / name).unlink()
        found[name] = fields.values(run, {})
    return found


@pytest.fixture(scope="module")
def blind(full: Run, tmp_path_factory: pytest.TempPathFactory) -> Values:
    """Return the values of a run whose every query was answered by nothing, without evidence."""
    folder = tmp_path_factory.mktemp("blind")
    job = make_job(folder, "evidence={}")
    nothing = {request.id: None for request in requests(job)}
    run = build(folder / "run", job, make_spans(job, nothing))
    return fields.values(run, {})


# --- the registry ---------------------------------------------------------------------------------


def sections() -> Iterator[tuple[str, str]]:
    text = (ROOT / "tests" / "data" / "report_fields.txt").read_text(encoding="utf-8")
    section = ""
    for line in filter(None, text.splitlines()):
        if line.startswith("# "):
            section = line[2:]
        else:
            yield line, section


def test_registry_is_the_list_of_fields() -> None:
    assert [(field.name, field.section) for field in FIELDS.values()] == list(sections())
    assert len(FIELDS) == 185


def test_each_field_says_what_it_is_and_where_it_comes_from() -> None:
    for name, field in FIELDS.items():
        assert field.meaning.endswith("."), name
        assert field.source, name
        assert field.sort in ("run", "query", "evidence", "computation"), name
        assert field.block == name.startswith("INSERT_"), name


def test_every_kpi_that_a_field_names_is_in_our_catalogue() -> None:
    named = {kpi for field in FIELDS.values() for kpi in re.findall(r"KPI (\w+)", field.source)}
    known = yaml.safe_load((ROOT / "parameters" / "kpis.yaml").read_text(encoding="utf-8"))["kpis"]
    assert named <= known.keys()
    optional = {name for name, kpi in known.items() if kpi.get("optional")}
    limits_of_others = {"short_lived_series"}  # tells what the request counters cannot count
    assert optional - limits_of_others <= named | set(KPIS["agents"])  # each is there for a field


# --- with the source, and without -----------------------------------------------------------------


def test_with_its_source(there: Values) -> None:
    for name, value in there.items():
        assert not value.missing, (name, value.reason)
        assert value.source, name
        assert value.text, name
        assert NO_DATA not in value.text or value.parts, name
        assert "nan" not in value.text.lower().split(), name
        assert bool(value.parts) == FIELDS[name].block, name
        assert value.unit == FIELDS[name].unit.si, name
    for name in ("PIPELINE_RUN_ID", "ARTIFACT_LOCATION"):
        assert there[name].source.startswith("links file")


RUN_ITSELF = {
    "GENERATION_TIMESTAMP", "CERTIFICATION_STATUS", "GA_START_TIME", "GA_END_TIME",
    "GA_DURATION_HOURS", "OVERALL_HEALTH_STATUS", "INSERT_CERTIFICATION_CRITERIA",
    "FINAL_CERTIFICATION_STATUS", "INSERT_CONFIG_SNAPSHOTS", "INSERT_DRIFT_SEVERITY_BREAKDOWN",
}  # fmt: skip
"""Fields that a run without samples and evidence has: it is INCONCLUSIVE, and says so."""


def test_without_any_source(blind: Values) -> None:
    """A run that saw nothing claims nothing."""
    for name, value in blind.items():
        if name in RUN_ITSELF:
            assert not value.missing, name
        elif FIELDS[name].source.startswith("story"):
            assert not re.search(r"\b(all|everything) (is )?(well|good)\b", value.text, re.I), name
        else:
            assert value.missing, (name, value.text)
            assert (value.text, value.value, value.coverage) == (NO_DATA, None, None), name


def test_a_run_that_saw_nothing_is_inconclusive(blind: Values) -> None:
    assert blind["CERTIFICATION_STATUS"].text == "INCONCLUSIVE"
    assert blind["OVERALL_HEALTH_STATUS"].value == "unknown"


def sources_of(name: str) -> set[str]:
    """Name the sources that a field may rest on, as its registry entry says."""
    source = FIELDS[name].source
    found = {f"{kind} file" for kind in EVIDENCE_MODELS if f"{kind} file" in source}
    found |= {file for file in JSONS if file in source}
    if "KPI" in source:
        found.add("ga_kpi_summary.json")
    if source.startswith("story"):
        found |= {*JSONS, *(f"{kind} file" for kind in EVIDENCE_MODELS)}
    if "the run's folder" in source:
        found |= {"validation_results.json", *(f"{kind} file" for kind in EVIDENCE_MODELS)}
    if "baseline" in source:
        found.add("baseline_metrics.json")
    if ".sha256" in source:
        found.add("ga_certification_package.tar.gz.sha256")
    return found


EITHER = {
    "CRITICAL_VULNS", "HIGH_VULNS", "INSERT_DETAILED_TEST_RESULTS_LINK", "INSERT_ROLLBACK_PLAN",
}  # fmt: skip
"""Fields that rest on either of two sources."""


def test_without_its_own_source(without: dict[str, Values]) -> None:
    """Each field loses its value with a source that its entry names."""
    for name in FIELDS:
        lost = [source for source, values in without.items() if values[name].missing]
        if name == "INSERT_CONFIG_SNAPSHOTS" or name in EITHER:  # a run has its parameters
            assert lost == [], name
            continue
        assert lost, name
        assert set(lost) <= sources_of(name), name
        for source in lost:
            value = without[source][name]
            assert value.text == NO_DATA, (name, source)
            assert value.reason, (name, source)


def test_no_other_source_matters(there: Values, without: dict[str, Values]) -> None:
    facts = {name: value.facts() for name, value in there.items()}
    for source, values in without.items():
        for name, value in values.items():
            if source not in sources_of(name):
                assert value.facts() == facts[name], (name, source)


def test_values_of_other_kpis_do_not_matter(full: Run, there: Values, tmp_path: Path) -> None:
    """Half of the queries are answered by nothing: what rests on the others stays as it was."""
    job = full.job
    asked = [request.id for request in requests(job)]
    gone = {each: None for each in asked if each.partition(".")[0] in {
        name for n, name in enumerate(job.kpis) if n % 2
    }}  # fmt: skip
    run = build(tmp_path / "run", job, make_spans(job, gone), **results())
    values = fields.values(run, {})
    summary = json.loads((run.folder / "ga_kpi_summary.json").read_text(encoding="utf-8"))["kpis"]
    told = {True: 0, False: 0}
    for name, field in FIELDS.items():
        if field.sort != "query":
            continue
        kpi = re.findall(r"KPI (\w+)", field.source)[0]
        known = summary[kpi]["overall"]["value"] is not None
        told[known] += 1
        if known:
            assert values[name].facts() == there[name].facts()
        else:
            assert values[name].missing
    assert min(told.values()) > 10


# --- figures --------------------------------------------------------------------------------------


def find(values: Values, name: str) -> Any:
    assert not values[name].missing, values[name].reason
    return values[name].value


def test_figures_of_the_full_run(there: Values) -> None:
    assert find(there, "OVERALL_AVAILABILITY") == 1.0
    assert there["OVERALL_AVAILABILITY"].text == "100\xa0%"
    assert find(there, "TOTAL_REQUESTS") == 3000.0 * STEPS * 4
    assert find(there, "TOTAL_REQUESTS_24H") == find(there, "TOTAL_REQUESTS")
    assert find(there, "TOTAL_ERRORS") == 3.0 * STEPS * 4
    assert find(there, "AVG_RPS") == pytest.approx(40.0)
    assert find(there, "P99_LATENCY_MS") == pytest.approx(0.5)
    assert find(there, "GA_DURATION_HOURS") == 86400.0
    assert there["GA_DURATION_HOURS"].text == "24\xa0h"
    assert find(there, "TOTAL_DOWNTIME_MINUTES") == 0.0
    assert there["MEAN_TIME_TO_RECOVERY"].text.startswith("no outage was seen")
    assert find(there, "CPU_EFFICIENCY") == pytest.approx(40.0 / 4.0)
    assert find(there, "INCIDENT_COUNT") == 1
    assert [find(there, f"SEV{n}_COUNT") for n in (1, 2, 3, 4)] == [0, 1, 0, 0]
    assert find(there, "AVG_ALERT_RESPONSE_TIME") == 240.0
    assert find(there, "REWARD_IMPROVEMENTS") == 0.0
    assert find(there, "ARTIFACT_SHA256") == "a" * 64
    assert find(there, "LOG_RETENTION_DAYS") == 30 * 86400
    assert there["LOG_RETENTION_DAYS"].text == "30\xa0d"


def test_sessions_are_joined_truly(there: Values) -> None:
    assert find(there, "WS_TOTAL_TESTS") == 8
    assert find(there, "WS_SUCCESS_RATE") == 1.0
    # 10 pings of 20 ms and 30 of 60 ms: the mean of all, not of the means.
    assert find(there, "WS_AVG_LATENCY") == pytest.approx(0.05)
    assert find(there, "WS_P99_LATENCY") == 0.2
    assert there["WS_MAX_DOWNTIME"].text == "2\xa0s (west)"


def copied(full: Run, folder: Path, name: str, change: Callable[[Any], None]) -> Values:
    """Return the values of a copy of the run in which one file is changed."""
    shutil.copytree(full.folder, folder)
    document = json.loads((folder / name).read_text(encoding="utf-8"))
    change(document)
    write_json(folder / name, document)
    return fields.values(folder)


def test_what_was_never_observed_was_not_up(full: Run, tmp_path: Path) -> None:
    def silence(document: Any) -> None:
        document["endpoints"][1] = endpoint("west", LATENCY | {"count": 0, "p99": None}, None)

    values = copied(full, tmp_path / "run", "ws_health_metrics.json", silence)
    for name in ("WS_MAX_DOWNTIME", "WS_P99_LATENCY"):
        assert (values[name].text, values[name].reason) == (NO_DATA, "west has none")
    assert find(values, "WS_AVG_LATENCY") == pytest.approx(0.02)


def test_of_several_objectives_the_worst_counts(full: Run, tmp_path: Path) -> None:
    def add(document: Any) -> None:
        other = json.loads(json.dumps(document["objectives"]["availability"]))
        other["overall"]["budget"] |= {"share_left": -0.25, "words": "overspent"}
        document["objectives"] = {"availability-2": other} | document["objectives"]

    value = copied(full, tmp_path / "run", "slo.json", add)["AVAILABILITY_ERROR_BUDGET"]
    assert value.value == -0.25
    assert value.source == "slo.json, objectives.availability-2.overall.budget"


def up(*steps: int, failed: float = 5.0) -> Any:
    values = np.full(STEPS, 10.0)
    values[list(steps)] -= failed
    return values


def first_half_unseen() -> Any:
    return np.where(np.arange(STEPS) < STEPS // 2, np.nan, 300.0)


UP = "window:availability.numerator"
BELOW = {"window:errors.increase": 2.99996, "window:requests.increase": 3000.0}
FELL = {"agent_reward.value": 0.8, "window:agent_reward.value": 0.6}
HALF_A_DAY = ("window={start: 2026-11-20T00:00:00Z, duration: 12h, step: 5m}",
              "baseline.duration=12h")  # fmt: skip
SCAN = "security_scan file (report of the scanner in the build pipeline) says 0"


@pytest.mark.parametrize(
    ("name", "numbers", "overrides", "value", "said"),
    [
        # Two steps of half an outage in every place, and one lone failed scrape, which is noise.
        ("TOTAL_DOWNTIME_MINUTES", {UP: up(100, 101) - up(200, failed=-1.0) + 10.0}, (),
         pytest.approx(330.0), "5.5 min"),
        ("MEAN_TIME_TO_RECOVERY", {UP: up(100, 101) - up(200, failed=-1.0) + 10.0}, (),
         600.0, "10 min (2 outages"),
        ("MEAN_TIME_TO_RECOVERY", {UP: up(286, 287)}, (), None, "2 lasted to the end"),
        ("TOTAL_REQUESTS", {"requests.increase": first_half_unseen()}, (),
         300.0 * STEPS * 4 / 2, "(of 50 % of the samples)"),
        ("TOTAL_REQUESTS_24H", {}, HALF_A_DAY, None, "the window holds 12h, not the whole 24h"),
        ("TOTAL_REQUESTS", {}, HALF_A_DAY, 3000.0 * STEPS / 2 * 4, "1.728 M"),
        ("OVERALL_ERROR_RATE", BELOW, (), pytest.approx(0.00099999, rel=1e-4), "0.099999 %"),
        ("REWARD_IMPROVEMENTS", FELL, (), pytest.approx(-0.25), "−25 % (0.8 → 0.6)"),
        ("CRITICAL_VULNS", {"vulnerabilities_critical.value": 3.0}, (), 3, SCAN),
        ("NASH_CONVERGENCE_STATUS", {"window:nash_convergence.numerator": up(-1, failed=10.0)}, (),
         "not converged", "not converged at the end"),
    ],
)  # fmt: skip
def test_figures_of_other_samples(
    tmp_path: Path, name: str, numbers: Numbers, overrides: tuple[str, ...], value: Any, said: str
) -> None:
    job = make_job(tmp_path, *overrides)
    run = collected(tmp_path / "run", job, make_spans(job, numbers))
    found = FIELDS[name].value(RunFacts(run))
    assert found.value == value
    assert said in (found.text.replace("\xa0", " ") if value is not None else found.reason)
    if name == "CRITICAL_VULNS":
        assert found.source == "KPI vulnerabilities_critical"


HEAD = "source: x, release: v1.0.1"
DAY = "covers: {start: 2026-11-20T00:00:00Z, duration: 24h}"
LAST = f"{HEAD}, covers: {{start: 2026-11-19T00:00:00Z, duration: 3d}}"
ROLLOUT = "{at: 2026-11-19T01:00:00Z, kind: rollout, title: A}"
ROLLBACK = "tested_at: 2026-11-18T15:00:00Z, successful: true"
SIGNED = (
    "{role: Release-Manager, name: R, approved: true, at: 2026-11-21T00:00:00Z}, "
    "{role: release manager, name: S, approved: false, at: 2026-11-21T01:00:00Z}"
)


@pytest.mark.parametrize(
    ("name", "kind", "text", "said"),
    [
        ("DEPLOYMENT_STATUS", "deployments", f"{LAST}, deployments: [{ROLLOUT}]", "deployed: A"),
        ("DEPLOYMENT_STATUS", "deployments", f"{LAST}, deployments: [{ROLLOUT}, "
         "{at: 2026-11-20T02:00:00Z, kind: rollback, title: B, region: east}]",
         "rolled back: B in east"),
        ("DEPLOYMENT_STATUS", "deployments", f"{LAST}, deployments: "
         "[{at: 2026-11-19T01:00:00Z, kind: rollout, title: A, version: v0.9}]", "v0.9 deployed"),
        ("DEPLOYMENT_STATUS", "deployments", f"{LAST}, deployments: [{{at: 2026-11-20T23:00:00Z, "
         "end: 2026-11-21T02:00:00Z, kind: rollout, title: A}]", "in progress: A"),
        ("DEPLOYMENT_STATUS", "deployments", f"{LAST}, deployments: [{ROLLOUT}, "
         "{at: 2026-11-21T02:00:00Z, kind: rollback, title: after the window}]", "deployed: A"),
        ("DEPLOYMENT_STATUS", "deployments", f"{LAST}, deployments: "
         "[{at: 2026-11-19T01:00:00Z, kind: configuration, title: A}]",
         "the deployments file names no deployment before the end of the window"),
        ("INCIDENT_COUNT", "incidents", f"{HEAD}, incidents: [], "
         "covers: {start: 2026-11-20T00:00:00Z, duration: 12h}",
         "the incidents file ends before the window does, or begins after it did"),
        ("ROLLBACK_TEST_STATUS", "rollback", f"source: x, release: v9, {ROLLBACK}",
         "the rollback file is about v9, not v1.0.1"),
        # What counts for the criterion counts for the field, and what does not, does not.
        ("ROLLBACK_TEST_STATUS", "rollback", f"source: x, release: T.A.R.S. v1.0.1, {ROLLBACK}",
         "passed: 2026-11-18 15:00 UTC"),
        ("ROLLBACK_TEST_STATUS", "rollback",
         f"{HEAD}, tested_at: 2035-11-18T15:00:00Z, successful: true",
         "its time 2035-11-18T15:00:00Z is more than 7d after the window ended"),
        ("ROLLBACK_TEST_STATUS", "rollback",
         f"{HEAD}, tested_at: 1971-11-18T15:00:00Z, successful: true",
         "its time 1971-11-18T15:00:00Z is more than 30d before the window's end"),
        ("SUPPORT_TICKETS", "customer",
         f"{HEAD}, simulated: true, {DAY}, support_tickets: 0, escalated: 0",
         "the customer file says that it is simulated, and this run is not"),
        ("DATA_MIGRATION_REVERSIBLE", "rollback", f"{HEAD}, {ROLLBACK}",
         "the rollback file does not say it"),
        ("QA_LEAD_NAME", "sign_off", f"{HEAD}, sign_offs: [{SIGNED}]",
         "the sign_off file names no QA lead"),
        ("RELEASE_MANAGER_SIGNATURE", "sign_off", f"{HEAD}, sign_offs: [{SIGNED}]", "refused"),
        ("RELEASE_MANAGER_NAME", "sign_off", f"{HEAD}, sign_offs: [{SIGNED}]", "R, S"),
        ("RELEASE_MANAGER_DATE", "sign_off", f"{HEAD}, sign_offs: [{SIGNED}]",
         "2026-11-21 01:00 UTC"),
        ("INSERT_RUNBOOK_REFERENCES", "links", HEAD, "the links file names no runbook"),
    ],
)  # fmt: skip
def test_evidence(full: Run, tmp_path: Path, name: str, kind: str, text: str, said: str) -> None:
    run = Run(full.folder)
    run.job = replace(full.job, evidence=make_job(tmp_path, **{kind: f"{{{text}}}"}).evidence)
    value = FIELDS[name].value(RunFacts(run))
    assert (value.reason or value.text).startswith(said)
    assert (value.text == NO_DATA) is value.missing


# --- what depends on the run alone ----------------------------------------------------------------


def test_within_a_run_nothing_depends_on_the_environment(
    full: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: value.facts() for name, value in fields.values(full).items()}
    monkeypatch.setenv("GITHUB_RUN_ID", "1")
    assert {name: value.facts() for name, value in fields.values(full).items()} == before
    assert before["ARTIFACT_SHA256"]["text"] == (
        "in ga_certification_package.tar.gz.sha256, beside the package"
    )


CI = {
    "GITHUB_RUN_ID": "4712",
    "GITHUB_SERVER_URL": "https://git.example.com",
    "GITHUB_REPOSITORY": "tars/tars",
    "GITHUB_TOKEN": "sesame",
}


def test_a_pipeline_is_known_from_its_environment(full: Run, tmp_path: Path) -> None:
    values = fields.values(lacking(full, "links"), CI)
    assert values["PIPELINE_RUN_ID"].text == "4712"
    assert values["ARTIFACT_LOCATION"].text == (
        "https://git.example.com/tars/tars/actions/runs/4712#artifacts"
    )
    assert "sesame" not in str([value.facts() for value in values.values()])
    assert fields.values(full, CI)["PIPELINE_RUN_ID"].text == "4711"  # the links file goes first


def test_a_stale_file_has_no_data(full: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(full.folder, folder)
    file = folder / "slo.json"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('"sha256:', '"sha256:0'), encoding="utf-8")
    value = fields.values(folder)["SLO_COMPLIANCE_STATUS"]
    assert value.missing
    assert "another recording" in value.reason


def test_results_that_are_not_whole_have_no_data(full: Run, tmp_path: Path) -> None:
    values = copied(
        full, tmp_path / "run", "validation_results.json", lambda d: d["checks"][0].pop("group")
    )
    assert values["INSERT_TEST_RESULTS_BREAKDOWN"].reason.startswith(
        "validation_results.json: is not whole (the key 'checks.0.group' is missing"
    )
    assert values["INSERT_FAILED_TESTS"].missing


def test_blocks_are_markdown_and_no_text_breaks_them(full: Run, tmp_path: Path) -> None:
    text = (
        "{source: x, release: v1.0.1, covers: {start: 2026-11-20T00:00:00Z, duration: 24h}, "
        "incidents: "
        '[{id: "I|1", severity: sev1, title: "a|b <script> {{X}}", start: 2026-11-20T01:00:00Z}]}'
    )
    run = Run(full.folder)
    run.job = replace(full.job, evidence=make_job(tmp_path, incidents=text).evidence)
    found = markdown(fields.values(run)["INSERT_INCIDENT_DETAILS"].parts)
    assert "I\\|1" in found
    assert "a\\|b \\<script\\>" in found
    assert "still open" in found
