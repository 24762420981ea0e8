"""A run for analysts: what its frames and figures are, and that nothing is decided differently."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tars_ga_lib.evidence import package
from tars_ga_lib.explore import Run
from tars_ga_lib.grammar import ParametersError
from tests import packages, wide
from tests.helpers import ROOT, SMALL, digests

NOTEBOOK = ROOT / "notebooks" / "explore.ipynb"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a small finished run of four hours."""
    folder = tmp_path_factory.mktemp("explore") / "run"
    wide.write(folder, wide.regions(2), wide.services(3), wide.FOUR_HOURS)
    packages.finish(folder)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return Run(folder)


# --- frames and figures ---------------------------------------------------------------------------


def test_a_frame_is_the_kpi_by_the_start_of_each_step(run: Run) -> None:
    found = run.frame("latency_p99")
    window = run.job.parameters.window
    assert found.index[0].timestamp() == window.start
    assert len(found.resample("1h").mean()) == 4
    assert found.attrs["unit"] == "seconds"
    assert found.attrs["step_seconds"] == window.step
    np.testing.assert_array_equal(found.to_numpy(), run.kpis.matrix("latency_p99").T)
    assert found.columns.names == ["region", "service"]
    before = run.frame("latency_p99", span="baseline_1")
    assert before.index[0].timestamp() == run.recording.baselines[0].start


def test_parts_are_the_samples_as_they_were_recorded(run: Run) -> None:
    counted = run.frame("requests", part="increase")
    assert counted.sum().sum() == pytest.approx(run.kpis.figure("requests").value)
    buckets = run.frame("latency_p99", part="buckets")
    assert buckets.columns.names == ["region", "service", "le"]
    again = run.query(buckets.attrs["query"])
    assert again.sum().sum() == buckets.sum().sum()


def test_a_figure_of_a_part_is_totals_over_totals(run: Run) -> None:
    bad, total = (run.frame("error_rate", part=p) for p in ("numerator", "denominator"))
    start = run.frame("requests").index[0]
    later = start + pd.Timedelta(hours=1)
    gap = start + pd.Timedelta(hours=2), start + pd.Timedelta(hours=2, minutes=7)
    found = run.figure("error_rate", f"{later:%H:%M}", exclude=[gap])
    # Every step is left out that an excluded stretch touches: of 7 minutes two steps of five.
    kept = (bad.index >= later) & (
        (bad.index < gap[0]) | (bad.index >= gap[0] + pd.Timedelta("10m"))
    )
    assert kept.sum() == 34
    assert found.value == pytest.approx(bad[kept].sum().sum() / total[kept].sum().sum(), rel=1e-12)
    assert 0 < found.coverage <= 1
    assert run.figure("latency_p99") == run.kpis.figure("latency_p99")
    place = run.job.parameters.regions[0]
    assert run.figure("error_rate", region=place) == run.kpis.figure("error_rate", place)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda run: run.frame("latency_p9"), "there is no KPI named 'latency_p9'; did you mean"),
        (lambda run: run.frame("requests", part="value"), "no part of requests named 'value'"),
        (lambda run: run.frame("requests", span="last"), "there is no span named 'last'"),
        (lambda run: run.figure("requests", region="mars"), "there is no region named 'mars'"),
        (lambda run: run.figure("requests", "noon"), "'noon' is not a time; write it like 13:10"),
        (
            lambda run: run.figure("requests", "2020-01-01", "2020-01-02"),
            "no step of 300 s is left",
        ),
        (lambda run: run.query("up"), "the recording does not hold 'up'; ask a server for it"),
        (lambda run: run.what_if(set=["window.step=1m"]), "decides on the samples of this run"),
        (lambda run: run.what_if(set=["criteria.x.target=1"]), "no criteria entry named 'x'"),
    ],
)
def test_what_cannot_be_answered_says_why(run: Run, ask: Any, said: str) -> None:
    with pytest.raises(ParametersError, match=re.escape(said)):
        ask(run)


# --- what was found and decided -------------------------------------------------------------------


def test_tables_are_those_of_the_files(run: Run, folder: Path) -> None:
    analysis = json.loads((folder / "drift_analysis.json").read_bytes())
    certification = json.loads((folder / "certification_metadata.json").read_bytes())
    assert list(run.evaluations.index) == [each["id"] for each in analysis["evaluations"]]
    assert set(run.findings["verdict"]) <= {"warn", "fail"}
    found = [each["id"] for each in analysis["evaluations"] if each["verdict"] in ("warn", "fail")]
    assert set(run.findings.index) == set(found)
    assert len(run.incidents) == len(analysis["incidents"])
    assert run.criteria["verdict"].to_dict() == {
        each["name"]: each["verdict"] for each in certification["criteria"]
    }
    assert run.criteria.attrs["decision"] == certification["decision"]
    assert {"kind", "place", "what"} <= set(run.events.columns)


def test_a_decision_is_asked_again_and_nothing_is_written(run: Run, folder: Path) -> None:
    before = digests(folder)
    same = run.what_if()
    assert same.attrs == run.criteria.attrs
    pd.testing.assert_frame_equal(same.drop(columns="was"), run.criteria)
    target = run.criteria["value"].to_dict()["latency_p99"]
    changes = {"target": f"< {target / 10:.6f}", "warning": None}
    other = run.what_if(criteria={"latency_p99": changes})
    assert other["verdict"].to_dict()["latency_p99"] == "fail"
    assert other["was"].to_dict() == run.criteria["verdict"].to_dict()
    assert other.attrs["decision"] == "NOT CERTIFIED"
    # Other rules are tested anew, with the same samples.
    rule = run.evaluations["rule"].iloc[0]
    assert run.what_if(set=[f"drift_rules.{rule}.action=Look again."]).equals(same)
    assert digests(folder) == before


def test_a_package_opens_like_a_folder(run: Run, folder: Path) -> None:
    archive = package.build(folder).archive
    packed = Run(archive)
    assert packed.folder != run.folder
    pd.testing.assert_frame_equal(packed.criteria, run.criteria)
    pd.testing.assert_frame_equal(packed.frame("requests"), run.frame("requests"))
    where = packed.folder
    del packed
    assert not where.exists()


def test_a_live_server_is_asked_as_well(small_server: str, tmp_path: Path) -> None:
    """It says what the recording says, and answers what the recording does not hold."""
    source = f"source={{prometheus: '{small_server}'}}"
    run = Run.collect(tmp_path / "run", ROOT / "parameters" / "ga_day.yaml", [*SMALL, source])
    template = "sum by ($by) (increase(http_requests_total{$match}[$step]))"
    live, recorded = run.query(template, small_server), run.query(template)
    assert live.attrs["source"] == small_server
    pd.testing.assert_frame_equal(live[recorded.columns], recorded)
    assert run.query("vector(7)", small_server).to_numpy() == pytest.approx(7)


# --- the notebook and the page --------------------------------------------------------------------


def test_each_question_takes_at_most_eight_lines() -> None:
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    asked = ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]
    questions = [text for text in asked if text.startswith("## (")]
    assert [text[3:6] for text in questions] == [f"({letter})" for letter in "abcdefg"]
    for cell in cells:
        if cell["cell_type"] == "code":
            assert len("".join(cell["source"]).splitlines()) <= 8


def test_the_page_names_what_there_is() -> None:
    page = (ROOT / "docs" / "explore.md").read_text("utf-8")
    public = {name for name in vars(Run) if not name.startswith("_")}
    assert set(re.findall(r"\brun\.(\w+)", page)) == public
