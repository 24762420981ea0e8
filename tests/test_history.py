"""History: what is listed, what a difference shows, and what a run is told of the last release."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tars_ga_lib import parameters, views
from tars_ga_lib.evidence import attestation, history
from tars_ga_lib.evidence import package as evidence
from tars_ga_lib.grammar import ParametersError
from tars_ga_lib.run import Run
from tars_ga_lib.tables import written
from tests.helpers import CRITERION, tars_ga
from tests.packages import command, finish, finished_run, unpack

WAIVER = (
    "waivers: [{release: v1.0.1, criterion: availability, who: A, why: B, "
    "until: 2026-12-24T00:00:00Z}]"
)
LAXER = {
    "availability": CRITERION | {"target": ">= 0.5"},
    "replicas": {"title": "Replicas", "kpi": "replicas", "target": ">= 1", "mandatory": False},
}


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with three packed runs: good, bad (refused) and lax (the bad one, let pass)."""
    folder = tmp_path_factory.mktemp("history")
    attestation.keygen(folder / "key")
    signer = attestation.load_signer(str(folder / "key"))
    release = {"name": "T.A.R.S.", "version": "v1.0.2"}
    evidence.build(finished_run(folder / "good"), signer)
    bad: dict[str, Any] = {"up": 0.99, "memory": 1.3, "release": release}
    evidence.build(finished_run(folder / "bad", **bad))
    evidence.build(finished_run(folder / "lax", **bad, criteria_=LAXER))
    for source in folder.glob("*.src"):
        shutil.rmtree(source)
    return folder


def _rows(tables: list[pd.DataFrame]) -> dict[str, list[list[str]]]:
    found = [written(table) for table in tables]
    return {table["caption"]: table["rows"] for table in found}


# --- differences ---------------------------------------------------------------------------------


def test_a_package_does_not_differ_from_itself(releases: Path, tmp_path: Path) -> None:
    facts = history.facts(releases / "good")
    assert facts == history.facts(releases / "good" / evidence.ARCHIVE)
    unpacked = history.facts(unpack(releases / "good" / evidence.ARCHIVE, tmp_path))
    assert unpacked | {"archive": facts["archive"]} == facts
    found = history.difference(facts, facts)
    assert not any(found[key] for key in ("criteria", "kpis", "findings"))
    captions = _rows(history.tables(found))
    assert captions["Criteria that changed"] == []
    assert [row[0] for row in captions["What is compared"]] == ["Release", "Decision"]


def test_a_difference_shows_what_changed_and_only_that(releases: Path) -> None:
    found = history.difference(history.facts(releases / "good"), history.facts(releases / "bad"))
    (criterion,) = found["criteria"]
    assert criterion["changed"] == ["verdict", "value"]
    assert (criterion["before"]["verdict"], criterion["after"]["verdict"]) == ("pass", "fail")
    changed = {(k["name"], k["place"]): k for k in found["kpis"]}
    assert changed["availability", "all"]["after"] == pytest.approx(0.99)
    assert changed["memory", "all"]["relative"] == pytest.approx(0.3, rel=1e-6)
    assert changed["memory", "east"]["relative"] == pytest.approx(0.3, rel=1e-6)
    assert ("availability", "east") not in changed, "below what is noteworthy"
    assert not any(name in ("requests", "replicas") for name, _ in changed)
    assert {f["id"] for f in found["findings"]} == {
        f"memory/{region}/{service}" for region in ("east", "west") for service in ("api", "web")
    }
    rows = _rows(history.tables(found))
    assert rows["What is compared"][:2] == [
        ["Release", "T.A.R.S. v1.0.1", "T.A.R.S. v1.0.2"],
        ["Decision", "CERTIFIED", "NOT CERTIFIED"],
    ]
    assert rows["KPIs that changed"][0][-1] == "worse"
    assert all(row[0] == "new" for row in rows["Drift findings that changed"])
    back = history.difference(history.facts(releases / "bad"), history.facts(releases / "good"))
    rows = _rows(history.tables(back))
    assert rows["KPIs that changed"][0][-1] == "better"
    assert all(row[0] == "gone" for row in rows["Drift findings that changed"])


def test_other_criteria_on_one_recording_are_told_apart(releases: Path) -> None:
    found = history.difference(history.facts(releases / "bad"), history.facts(releases / "lax"))
    assert found["kpis"] == found["findings"] == []
    by_name = {each["name"]: each for each in found["criteria"]}
    assert by_name["availability"]["changed"] == ["verdict", "target"]
    assert by_name["replicas"]["changed"] == ["new"]
    rows = _rows(history.tables(found, verdicts_only=True))
    assert set(rows) == {"What is compared", "Criteria that changed"}
    (first, *_) = rows["Criteria that changed"]
    assert first[:3] == ["Availability", "fail", "pass"]
    assert first[5:7] == ["≥\xa099.9\xa0%", "≥\xa050\xa0%"]
    policies = next(r for r in rows["What is compared"] if r[0].startswith("Policy"))
    assert policies[1] != policies[2]


def test_a_waiver_is_a_change_of_the_verdict(releases: Path, tmp_path: Path) -> None:
    waived = finished_run(
        tmp_path / "w", up=0.99, memory=1.3, waivers="w.yaml", texts={"w.yaml": WAIVER}
    )
    evidence.build(waived)
    found = history.difference(history.facts(releases / "bad"), history.facts(waived))
    assert _rows(history.tables(found))["Criteria that changed"][0][1:3] == [
        "fail",
        "fail (waived)",
    ]


def test_missing_figures_are_no_data_and_no_change_of_0(releases: Path) -> None:
    good = history.facts(releases / "good")
    bare = json.loads(json.dumps(good))
    bare["kpis"]["memory"]["values"]["all"] = None
    del bare["kpis"]["requests"]
    bare["kpis"]["replicas"]["unit"] = "other"
    rows = {r[0]: r for r in _rows(history.tables(history.difference(good, bare)))[
        "KPIs that changed"] if r[1] == "all"}  # fmt: skip
    assert rows["memory"][3:] == ["NO DATA", "NO DATA", ""]
    assert rows["requests"][3:] == ["NO DATA", "NO DATA", ""]
    assert rows["replicas"][2] == "NO DATA"


def test_the_command_writes_a_table_or_markdown(
    releases: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = command(capsys, "diff", releases / "good", releases / "bad")
    assert done.returncode == 0, done.stderr
    assert "Criteria that changed" in done.stdout
    done = command(capsys, "diff", "--markdown", releases / "good", releases / "bad")
    assert done.returncode == 0
    assert done.stdout.startswith("# From T.A.R.S. v1.0.1 to T.A.R.S. v1.0.2\n")
    assert "| Availability | pass | fail |" in done.stdout
    assert command(capsys, "diff", releases / "good", releases).returncode == 2


def test_a_damaged_package_is_not_compared(releases: Path, tmp_path: Path) -> None:
    package = unpack(releases / "good" / evidence.ARCHIVE, tmp_path)
    (package / "drift_analysis.json").write_text("{}")
    with pytest.raises(ParametersError, match=r"drift_analysis.json: was changed"):
        history.facts(package)
    (tmp_path / "x.json").write_text('{"schema": "other"}')
    with pytest.raises(ParametersError, match="does not hold the facts of a release"):
        history.facts(tmp_path / "x.json")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(ParametersError, match="is not sound JSON"):
        history.facts(tmp_path / "x.json")


# --- lists ---------------------------------------------------------------------------------------


def test_history_lists_the_certified_releases(
    releases: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = command(capsys, "history", releases)
    assert done.returncode == 0, done.stderr
    assert "good" in done.stdout
    assert "lax" in done.stdout
    assert "NOT CERTIFIED" not in done.stdout
    assert "1 not certified; --all lists them." in done.stdout
    # A process of its own, so that its width is not that of the terminal we were started from.
    assert "NOT CERTIFIED" in tars_ga("history", releases, "--all").stdout
    found = history.releases(releases)
    assert [r.package.parent.name for r in found] == ["bad", "good", "lax"]
    assert [bool(r.signed_by) for r in found] == [False, True, False]


def test_history_hides_no_damage(
    releases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("good", "lax"):
        (tmp_path / name).mkdir()
        shutil.copy(releases / name / evidence.ARCHIVE, tmp_path / name)
    damaged = tmp_path / "lax" / evidence.ARCHIVE
    damaged.write_bytes(damaged.read_bytes()[:-9])
    unpack(releases / "good" / evidence.ARCHIVE, tmp_path / "unpacked")
    done = command(capsys, "history", tmp_path)
    assert done.returncode == 1
    assert f"{damaged}: {evidence.ARCHIVE}: ends early" in done.stderr.replace("\n", "")
    assert done.stdout.count("CERTIFIED") == 2
    assert command(capsys, "history", tmp_path / "nothing").returncode == 2
    (tmp_path / "empty").mkdir()
    done = command(capsys, "history", tmp_path / "empty")
    assert (done.returncode, done.stdout) == (0, "No certified release.\n")


# --- the last certified release ------------------------------------------------------------------


def test_a_run_keeps_the_facts_of_the_last_release(releases: Path, tmp_path: Path) -> None:
    good, bad = releases / "good" / evidence.ARCHIVE, releases / "bad"
    file = bad / "parameters" / "run.yaml"
    run = Run.collect(tmp_path / "run", file, [f"previous={good}"])
    assert run.job.parameters.previous == tmp_path / "run" / "parameters" / "previous.json"
    assert history.facts(run.job.parameters.previous) == history.facts(good)
    raw = yaml.safe_load((tmp_path / "run/parameters/run.yaml").read_text())
    assert raw["previous"] == "previous.json"
    finish(tmp_path / "run")
    certification, analysis = (
        run.read(name) for name in ("certification_metadata.json", "drift_analysis.json")
    )
    rows = _rows(views.changes_since_previous(run, certification, analysis))
    assert rows["What is compared"][1] == ["Decision", "CERTIFIED", "NOT CERTIFIED"]
    assert rows["Criteria that changed"][0][:3] == ["Availability", "pass", "fail"]
    # It stands alone: packed, unpacked and run again without the earlier package.
    evidence.build(tmp_path / "run")
    package = unpack(tmp_path / "run" / evidence.ARCHIVE, tmp_path / "x")
    again = Run.collect(tmp_path / "again", package / "parameters" / "run.yaml")
    assert again.digests == run.digests
    assert (tmp_path / "again/parameters/previous.json").read_bytes() == (
        tmp_path / "run/parameters/previous.json"
    ).read_bytes()


def test_without_it_the_report_says_no_data(releases: Path) -> None:
    (table,) = views.changes_since_previous(Run(releases / "good"), {}, {})
    assert table.empty
    assert table.attrs["empty"].startswith("NO DATA: the last certified release was not given")


def test_a_previous_release_that_cannot_be_read_is_refused(releases: Path, tmp_path: Path) -> None:
    file = releases / "bad" / "parameters" / "run.yaml"
    for bad in (tmp_path / "nothing.tar.gz", tmp_path):
        with pytest.raises(ParametersError):
            Run.collect(tmp_path / "run", file, [f"previous={bad}"])
    assert not (tmp_path / "run").exists()
    assert parameters.load(file).parameters.previous is None
