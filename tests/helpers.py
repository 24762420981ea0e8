"""What several test modules build with: small jobs, spans made by hand, and the command."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tars_ga_lib import parameters
from tars_ga_lib.parameters import Job
from tars_ga_lib.queries import INTERVAL, Request, requests
from tars_ga_lib.recording import Provenance, Recording, SampleSet, Span

ROOT = Path(__file__).resolve().parent.parent
TARS_GA = Path(sys.executable).with_name("tars-ga")

START = 1_795_132_800  # 2026-11-20T00:00:00Z
WEEK = 604_800
STEP = 300

Rows = Sequence[tuple[Mapping[str, str], Any]]
"""The series of one answer: labels and values, a value a step."""

RATIO = {"kind": "ratio", "unit": "ratio", "better": "higher", "by": ["region", "service"]}
COUNTER = {"kind": "counter", "unit": "requests", "better": "either", "by": ["region", "service"]}
GAUGE = {"kind": "gauge", "unit": "bytes", "better": "lower", "by": ["region", "service"]}
HISTOGRAM = {"kind": "histogram", "unit": "seconds", "better": "lower", "by": ["region", "service"]}

KPIS: dict[str, dict[str, Any]] = {
    "availability": RATIO | {"numerator": "sum by ($by) (up{$match})", "denominator": "scrapes"},
    "requests": COUNTER | {"increase": "sum by ($by) (increase(requests{$match}[$step]))"},
    "request_rate": COUNTER
    | {"increase": "sum by ($by) (increase(requests{$match}[$step]))", "per_second": True},
    "latency_p99": HISTOGRAM | {"buckets": "sum by (le, $by) (buckets)", "quantile": 0.99},
    "latency_p50": HISTOGRAM | {"buckets": "sum by (le, $by) (buckets)", "quantile": 0.5},
    "memory": GAUGE | {"value": "sum by ($by) (memory)"},
    "replicas": GAUGE | {"value": "max by ($by) (replicas)", "over": "last", "unit": "count"},
}
"""A small catalogue with a KPI of each kind."""

RULE = {
    "title": "Rule",
    "action": "Look.",
    "category": "resource",
    "adverse": "up",
    "measure": "relative",
    "warning": 0.05,
    "critical": 0.10,
}
CRITERION = {"title": "Availability", "kpi": "availability", "target": ">= 0.999"}


def run_document(**changes: Any) -> dict[str, Any]:
    """Return the raw content of a run's file, changed as told; None takes a key out."""
    document: dict[str, Any] = {
        "release": {"name": "T.A.R.S.", "version": "v1.0.1"},
        "window": {"start": "2026-11-20T00:00:00Z", "duration": "24h", "step": "5m"},
        "baseline": {"start": "2026-11-13T00:00:00Z", "duration": "24h"},
        "source": {"prometheus": "http://127.0.0.1:9090"},
        "regions": ["east", "west"],
        "primary_region": "east",
        "services": ["api", "web"],
        "kpis": "kpis.yaml",
        "drift_rules": "drift_rules.yaml",
        "criteria": "criteria.yaml",
    } | changes
    return {key: value for key, value in document.items() if value is not None}


def write_run(folder: Path, **changes: Any) -> Path:
    """Write a run's file with small catalogues; `texts` holds more files, by name.

    A change is a key of the run's file, or `kpis_`, `scrapes_`, `rules_`, `criteria_` and
    `alerts_` for the catalogues' content.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kpis = changes.pop("kpis_", KPIS)
    catalogue: dict[str, Any] = {"kpis": titled(kpis)}
    if (scrapes := changes.pop("scrapes_", None)) is not None:
        catalogue["scrapes"] = scrapes
    if (alerts := changes.pop("alerts_", None)) is not None:
        catalogue["alerts"] = alerts
    rules = changes.pop("rules_", {"memory": RULE | {"kpi": "memory"}})
    criteria = changes.pop("criteria_", {"availability": CRITERION})
    for name, text in changes.pop("texts", {}).items():
        (folder / name).write_text(text, encoding="utf-8")
    dump(folder / "kpis.yaml", catalogue)
    dump(folder / "drift_rules.yaml", {"rules": rules})
    dump(folder / "criteria.yaml", {"criteria": criteria})
    return dump(folder / "run.yaml", run_document(**changes))


def dump(path: Path, document: Any) -> Path:
    """Write a YAML file."""
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def titled(kpis: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Give each KPI the title and description that every one needs."""
    return {name: {"title": name, "about": "A KPI."} | dict(kpi) for name, kpi in kpis.items()}


def make_job(
    folder: Path,
    *,
    steps: int = 12,
    baseline: Any = None,
    **changes: Any,
) -> Job:
    """Return a job over a window of that many steps of 5 minutes."""
    window = {"start": "2026-11-20T00:00:00Z", "duration": f"{steps * STEP}s", "step": "5m"}
    before = baseline or {"start": "2026-11-13T00:00:00Z", "duration": f"{steps * STEP}s"}
    return parameters.load(write_run(folder, window=window, baseline=before, **changes))


SMALL = [
    "window={start: 2026-11-20T12:00:00Z, duration: 2h, step: 5m}",
    "baseline={start: 2026-11-13T12:00:00Z, duration: 2h}",
    "regions=[us-east-1, us-west-2]",
    "services=[insight-engine, dashboard-api, hypersync]",
    "simulated=true",
]


def small_job(url: str, *overrides: str) -> Job:
    """Return the job of our own catalogue over a small simulated scenario."""
    source = f"source={{prometheus: '{url}', timeout: 5s, connections: 1}}"
    return parameters.load(ROOT / "parameters" / "ga_day.yaml", [*SMALL, source, *overrides])


def answer(request: Request, rows: Rows, steps: int, **provenance: Any) -> SampleSet:
    """Return the sample set of one request; a value may be one number for all steps."""
    values = np.array([np.broadcast_to(v, steps) for _, v in rows], dtype=np.float64)
    return SampleSet.of(
        Provenance(
            request.id, request.template, request.by, request.query,
            "http://127.0.0.1:9090", "2026-11-21T00:00:00Z", **provenance,
        ),
        [dict(labels) for labels, _ in rows],
        values.reshape(len(rows), steps),
    )  # fmt: skip


def make_span(
    job: Job,
    answers: Mapping[str, Rows],
    name: str = "window",
    provenance: Mapping[str, dict[str, Any]] | None = None,
) -> Span:
    """Return a span with these answers by request id; what is not named was answered by nothing."""
    every = [job.parameters.window, *job.parameters.baseline_intervals()]
    each = every[0] if name == "window" else every[int(name.removeprefix("baseline_"))]
    step = job.parameters.window.step
    asked = requests(job)
    unknown = set(answers) - {request.id for request in asked} - {INTERVAL}
    assert not unknown, f"no such request: {unknown}"
    answers = scraped(job) | dict(answers)
    sets = {
        r.id: answer(
            r, answers.get(r.id, ()), each.seconds // step, **(provenance or {}).get(r.id, {})
        )
        for r in asked
    }
    interval = Request(INTERVAL, job.scrapes.selector, job.parameters.labels.model_dump(), "up")
    sets[INTERVAL] = answer(interval, answers[INTERVAL], each.seconds // step)
    return Span(name, each.start, each.stop, step, sets)


def scraped(job: Job) -> dict[str, Rows]:
    """Return answers that say: one target of each service, scraped once a step without a miss."""
    labels, p = job.parameters.labels, job.parameters
    rows = [
        {labels.region: region, labels.service: service}
        for region in p.regions
        for service in p.services
        if p.runs(service, region)
    ]
    found: dict[str, Rows] = {INTERVAL: [(row, p.window.step) for row in rows]}
    for request in requests(job):
        if request.id.startswith("scrapes"):
            found[request.id] = [(row, 1.0) for row in rows]
    return found


def places(values: Any, by: Sequence[tuple[str, str]] | None = None) -> Rows:
    """Return a series for each region and service, all with the same values."""
    return [({"region": region, "service": service}, values) for region, service in by or PLACES]


PLACES = [(region, service) for region in ("east", "west") for service in ("api", "web")]


def make_recording(*spans: Span, **changes: Any) -> Recording:
    """Return a recording of spans."""
    facts: dict[str, Any] = {
        "server": "http://127.0.0.1:9090",
        "version": "2.42.0",
        "software": "tars-ga 0",
        "collected_at": "2026-11-21T00:00:00Z",
        "simulated": False,
    }
    return Recording(spans={span.name: span for span in spans}, **facts | changes)


def tars_ga(
    *arguments: object, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TARS_GA_")}
    return subprocess.run(
        [str(TARS_GA), *map(str, arguments)],
        cwd=cwd,
        env=kept | {"COLUMNS": "200"} | dict(env or {}),
        capture_output=True,
        text=True,
        timeout=500,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a folder by its relative path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
