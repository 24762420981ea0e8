"""A run's folder: what it needs, what it refuses, and that no file outlives what it came from."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tars_ga_lib import grammar
from tars_ga_lib.grammar import ParametersError
from tars_ga_lib.run import Run
from tests.helpers import (
    ROOT,
    STEP,
    digests,
    make_job,
    make_recording,
    make_span,
    places,
    write_run,
)

WINDOW = {"start": "2026-11-20T00:00:00Z", "duration": "1h", "step": "5m"}
BASELINE = {"start": "2026-11-13T00:00:00Z", "duration": "1h"}


def recorded(folder: Path, value: float = 1.0) -> Path:
    """Write a recording of an hour into `folder/rec`, and a run's file that replays it."""
    job = make_job(folder / "job")
    spans = [
        make_span(job, {"requests.increase": places(value)}, name)
        for name in ("window", "baseline_1")
    ]
    make_recording(*spans).save(folder / "rec")
    return write_run(
        folder / "in", window=WINDOW, baseline=BASELINE, source={"recording": "../rec"}
    )


def test_collect(tmp_path: Path) -> None:
    found = Run.collect(tmp_path / "run", recorded(tmp_path))
    assert set(digests(tmp_path / "run")) == {
        "parameters/run.yaml", "parameters/kpis.yaml", "parameters/criteria.yaml",
        "parameters/drift_rules.yaml", "recording/recording.json", "recording/window.parquet",
        "recording/baseline_1.parquet",
    }  # fmt: skip
    assert found.kpis.figure("requests").value == 48
    assert found.baseline_kpis[0].span.start == found.kpis.span.start - 604800
    again = Run(tmp_path / "run")
    assert again.digests == found.digests
    assert again.job.parameters.source.recording == tmp_path / "run/parameters/../recording"
    assert again.kpis.span.step == STEP


def test_bad_parameters_touch_nothing(tmp_path: Path) -> None:
    path = recorded(tmp_path)
    Run.collect(tmp_path / "run", path)
    before = digests(tmp_path / "run")
    for bad in ("window.step=7m", "source.recording=nowhere", "window.step=10m"):
        with pytest.raises(ParametersError):
            Run.collect(tmp_path / "run", path, [bad])
        assert digests(tmp_path / "run") == before


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(ParametersError, match="there is no run in it; run notebook 01_collection"):
        Run(tmp_path)


def test_what_is_written_names_what_it_came_from(tmp_path: Path) -> None:
    found = Run.collect(tmp_path / "run", recorded(tmp_path))
    written = found.write("x.json", {"value": 1})
    assert written["derived_from"] == found.digests
    assert Run(tmp_path / "run").read("x.json") == {"value": 1, "derived_from": found.digests}


def test_files_of_another_recording_or_parameters_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    Run.collect(folder, recorded(tmp_path)).write("x.json", {"value": 1})
    said = "derived from another recording or other parameters"
    for path, overrides in [
        (recorded(tmp_path), ["release.version=v2"]),
        (recorded(tmp_path, value=2), []),
    ]:
        again = Run.collect(folder, path, overrides)
        with pytest.raises(ParametersError, match=said):
            again.read("x.json")
    again.write("x.json", {"value": 2})
    assert again.read("x.json")["value"] == 2
    criteria = folder / "parameters" / "criteria.yaml"
    criteria.write_text(criteria.read_text("utf-8") + "# changed\n", encoding="utf-8")
    with pytest.raises(ParametersError, match=said):
        Run(folder).read("x.json")


@pytest.mark.parametrize("text", [None, "", "{", "\xff"])
def test_files_that_are_not_there_or_not_whole(tmp_path: Path, text: str | None) -> None:
    found = Run.collect(tmp_path / "run", recorded(tmp_path))
    if text is not None:
        (tmp_path / "run" / "x.json").write_text(text, encoding="latin-1")
    with pytest.raises(ParametersError, match="is missing or not JSON; run the notebook that"):
        found.read("x.json")


def test_checksum(tmp_path: Path) -> None:
    found = Run.collect(tmp_path / "run", recorded(tmp_path))
    found.write("x.json", {})
    found.write_checksum("x.json")
    command = ["sha256sum", "--check", "--strict", "x.json.sha256"]
    subprocess.run(command, cwd=tmp_path / "run", check=True, capture_output=True)


def test_lines(tmp_path: Path) -> None:
    found = Run.collect(tmp_path / "run", recorded(tmp_path))
    found.write_lines("x.jsonl", [{"a": "☃\n"}, {"b": None}])
    lines = (tmp_path / "run" / "x.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"a": "☃\n"}, {"b": None}]
    with pytest.raises(ValueError, match="JSON"):
        found.write_lines("x.jsonl", [{"a": float("nan")}])
    assert len((tmp_path / "run" / "x.jsonl").read_text("utf-8").splitlines()) == 2


def test_project_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert grammar.project_root(ROOT / "notebooks") == ROOT
    assert grammar.project_root(ROOT) == ROOT
    assert grammar.project_root(tmp_path) == tmp_path
    monkeypatch.chdir(ROOT / "tests")
    assert grammar.project_root() == ROOT
