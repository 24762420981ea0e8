"""The outlook: what a look sees of a window that is not over yet."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from tars_ga_lib import collection, criteria, drift, kpis, parameters
from tars_ga_lib.live import outlook
from tars_ga_lib.live.watch import LOOK
from tars_ga_lib.parameters import BaselineRun, Job
from tars_ga_lib.recording import Recording, Span
from tests.helpers import ROOT, STEP


@pytest.fixture(scope="module")
def demo() -> tuple[Job, Recording]:
    job = parameters.load(ROOT / "parameters" / "demo.yaml")
    return job, collection.collect(job)


def look(demo: tuple[Job, Recording], steps: int, **changes: Any) -> dict[str, Any]:
    job, found = demo
    window = found.window.cut(found.window.start, found.window.start + steps * STEP, STEP, "window")
    question: dict[str, Any] = {
        "job": job, "window": window, "baselines": found.baselines, "since": steps - 3
    }  # fmt: skip
    looks = outlook.look(**question | changes)
    assert [look["outlook"] is None for look in looks] == [True, True, False]
    # A step's own figures do not depend on what comes after it.
    snapshots = kpis.snapshots(kpis.Kpis(job, found.window))[steps - 3 : steps]
    assert [look["kpis"] for look in looks] == [snapshot["kpis"] for snapshot in snapshots]
    seen: dict[str, Any] = looks[-1]["outlook"]
    return seen


def test_the_last_look_is_the_certification(demo: tuple[Job, Recording]) -> None:
    job, found = demo
    seen, now = look(demo, 288), kpis.Kpis(job, found.window, found.baselines)
    analysis = drift.analyse(now, [kpis.Kpis(job, span) for span in found.baselines])
    known = criteria.evaluate(job, now, analysis, outlook._measured(job)).facts()
    assert (seen["decision"], seen["criteria"]) == (known["decision"], known["criteria"])
    assert seen["drift"]["worst"] == analysis["worst"]
    assert seen["alerts"]["count"] == kpis.alerts(job, found.window).count()
    assert 0.99 < seen["coverage"]["samples"] < 1


def test_a_look_early_in_the_day(demo: tuple[Job, Recording]) -> None:
    """Against the same hours of the baseline, and evidence of the time so far suffices."""
    job, found = demo
    seen = look(demo, 100)
    hours = 100 * STEP
    cut = [span.cut(span.start, span.start + hours, STEP, span.name) for span in found.baselines]
    window = found.window.cut(found.window.start, found.window.start + hours, STEP, "window")
    analysis = drift.analyse(kpis.Kpis(job, window), [kpis.Kpis(job, span) for span in cut])
    assert seen["drift"]["worst"] == analysis["worst"]
    assert seen["drift"]["counts"] == analysis["counts"]
    verdicts = {each["name"]: each["verdict"] for each in seen["criteria"]}
    # Of 8 hours, a region was not scraped for 20 minutes: what that could hide is not known.
    assert {name for name, verdict in verdicts.items() if verdict == "no_data"} == {
        "availability", "error_rate", "latency_p99", "websocket_probes", "oom_kills",
    }  # fmt: skip
    # What is sure was sure for whoever knows the whole day, and nothing is of hours to come.
    names = {field.name for field in fields(drift.Evaluation)} - {"details"}
    listed = [
        drift.Evaluation(**{name: each[name] for name in names})
        for each in seen["drift"]["worst"]
        if each["measure"] != "exact"
    ]
    every = drift.incremental(
        kpis.Kpis(job, found.window), [kpis.Kpis(job, span) for span in found.baselines], listed
    )
    known = {name: at for name, at in every.items() if at <= "2026-11-20T08:20:00Z"}
    assert seen["drift"]["first_alarms"] == known
    assert seen["drift"]["first_alarms"]


def test_a_look_against_an_earlier_run(demo: tuple[Job, Recording], tmp_path: Path) -> None:
    job, found = demo
    earlier = replace(found, spans={"window": replace(found.baselines[0], name="window")})
    replace(earlier, origin=None).save(tmp_path / "recording")
    baseline = BaselineRun(run=tmp_path)
    other = replace(job, parameters=job.parameters.model_copy(update={"baseline": baseline}))
    changed = look((other, found), 100, job=other, baselines=[])
    assert changed["drift"] == look(demo, 100, baselines=found.baselines[:1])["drift"]


def test_a_look_in_a_process_of_its_own(demo: tuple[Job, Recording]) -> None:
    job, found = demo
    window = found.window.cut(found.window.start, found.window.start + 20 * STEP, STEP, "window")
    question: tuple[Job, Span, list[Span], int] = (job, window, found.baselines, 19)
    done = subprocess.run(
        [sys.executable, *LOOK], input=pickle.dumps(question), capture_output=True, check=True
    )
    assert json.loads(done.stdout) == json.loads(json.dumps(outlook.look(*question)))
    missing = BaselineRun(run=Path("/nowhere"))
    other = replace(job, parameters=job.parameters.model_copy(update={"baseline": missing}))
    done = subprocess.run(
        [sys.executable, *LOOK], input=pickle.dumps((other, *question[1:])), capture_output=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"/nowhere" in done.stderr
