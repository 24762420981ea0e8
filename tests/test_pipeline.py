"""The pipeline: what it leaves when all goes well, and when a notebook fails or it is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat
import pytest

from tars_ga_lib import atomic, collection, pipeline
from tars_ga_lib.grammar import ParametersError
from tests.helpers import ROOT, SMALL, TARS_GA, digests, small_job, tars_ga
from tests.packages import unpack

GA_DAY = ROOT / "parameters" / "ga_day.yaml"


@pytest.fixture(scope="module")
def arguments(small_server: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options of a run that replays two hours."""
    folder = tmp_path_factory.mktemp("two-hours") / "rec"
    collection.collect(small_job(small_server)).save(folder)
    sets = [*SMALL, f"source={{recording: '{folder}'}}"]
    return ["--no-package", *(part for each in sets for part in ("--set", each))]


def start(target: Path, arguments: list[str], **options: Any) -> subprocess.Popen[str]:
    """Start a run in a process group of its own."""
    command = [str(TARS_GA), "run", str(GA_DAY), "--output", str(target), *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        stdin=subprocess.DEVNULL, start_new_session=True, **options,
    )  # fmt: skip


def wait_for_first_notebook(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    assert "01_collection" in process.stderr.readline()


def earlier_run(folder: Path) -> dict[str, str]:
    """Put what looks like a run into a folder, and return its digests."""
    (folder / "parameters").mkdir(parents=True)
    (folder / "parameters" / "run.yaml").write_text("earlier", encoding="utf-8")
    return digests(folder)


def test_killed_in_the_middle(tmp_path: Path, arguments: list[str]) -> None:
    """The earlier run is as it was, and the next one clears away what was left."""
    before = earlier_run(tmp_path / "out")
    process = start(tmp_path / "out", arguments)
    wait_for_first_notebook(process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    assert digests(tmp_path / "out") == before
    assert [path for path in tmp_path.iterdir() if "partial" in path.name]
    with atomic.beside(tmp_path / "out"):  # as the next run begins
        assert len(list(tmp_path.iterdir())) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert digests(tmp_path / "out") == before


def test_interrupted(tmp_path: Path, arguments: list[str]) -> None:
    before = earlier_run(tmp_path / "out")
    process = start(tmp_path / "out", arguments)
    wait_for_first_notebook(process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "interrupted; earlier results are untouched"
    assert "Traceback" not in err
    assert digests(tmp_path / "out") == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.fixture(scope="module")
def finished(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run of two hours, with its package."""
    here = tmp_path_factory.mktemp("finished")
    done = tars_ga(
        "run", GA_DAY, "--output", here / "out", "--report-only", *arguments[1:], "--json",
        "--junit", here / "criteria.xml", "--summary", here / "summary.md",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (here / "run.json").write_text(done.stdout, encoding="utf-8")
    return here / "out"


def test_a_run_tells_programs(finished: Path) -> None:
    told = json.loads((finished.parent / "run.json").read_text("utf-8"))
    kept = json.loads((finished / "certification_metadata.json").read_text("utf-8"))
    assert {key: told[key] for key in kept} == kept
    assert (told["exit_code"], told["folder"], told["kept"]) == (0, str(finished), [])
    assert Path(told["package"]).is_file()
    assert Path(told["report"]).is_file()
    suite = ElementTree.parse(finished.parent / "criteria.xml").getroot()[0]
    assert [case.get("name") for case in suite] == [o["name"] for o in kept["criteria"]]
    summary = (finished.parent / "summary.md").read_text("utf-8")
    assert f": {kept['decision']}\n" in summary
    done = tars_ga("verify", finished, "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["verdict"]) == (4, "ORIGIN NOT PROVEN")
    assert found["decision"] == kept["decision"]
    done = tars_ga("diff", finished, finished, "--json")
    assert json.loads(done.stdout)["criteria"] == []
    done = tars_ga("verify", finished.parent / "run.json", "--json")
    assert (done.returncode, json.loads(done.stdout)["verdict"]) == (1, "REFUSED")


@pytest.mark.parametrize("where", ["in place", "moved", "unpacked"])
def test_notebooks_of_a_run_run_again(finished: Path, tmp_path: Path, where: str) -> None:
    """All of them, with the same outputs, and what they write is what they wrote before."""
    folder = finished
    if where == "moved":
        folder = shutil.copytree(finished, tmp_path / "elsewhere" / "moved")
    elif where == "unpacked":
        folder = unpack(finished / "ga_certification_package.tar.gz", tmp_path)
    before = digests(folder)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval", "-p", "no:cacheprovider", "-q",
         str(folder / "notebooks")],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    after = digests(folder)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) <= {"ga_kpi_summary.json.sha256", "snapshots.jsonl",
                                        "baseline_metrics.json"}  # fmt: skip


def test_a_run_replaces_only_what_it_made(finished: Path, arguments: list[str]) -> None:
    """Notes, notebooks and a notebook that was worked in are there after the next run."""
    (finished / "notes.md").write_text("mine", encoding="utf-8")
    (finished / "notebooks" / "my_analysis.ipynb").write_text("{}", encoding="utf-8")
    worked = finished / "notebooks" / "02_drift_analysis.ipynb"
    original = worked.read_bytes()
    worked.write_bytes(original.replace(b"# 2. Drift", b"# 2. Drift, my notes"))
    done = tars_ga("run", GA_DAY, "--output", finished, "--report-only", *arguments[1:])
    assert done.returncode == 0, done.stderr
    assert (finished / "notes.md").read_text("utf-8") == "mine"
    assert (finished / "notebooks" / "my_analysis.ipynb").read_text("utf-8") == "{}"
    kept = finished / "kept" / "notebooks" / "02_drift_analysis.ipynb"
    assert b"my notes" in kept.read_bytes()
    assert worked.read_bytes() == original
    assert "Kept aside, as they were changed after the earlier run: kept/notebooks/0" in done.stdout
    with tarfile.open(finished / "ga_certification_package.tar.gz") as archive:
        assert not [name for name in archive.getnames() if "my_" in name or "kept" in name]


def workspace(folder: Path) -> Path:
    """Copy the project, as far as a run needs it."""
    for name in ("tars_ga_lib", "notebooks", "parameters"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_broken_notebook(tmp_path: Path, arguments: list[str]) -> None:
    """An error of ours: exit 1, one sentence, what there is for us to look at, nothing lost."""
    here = workspace(tmp_path / "project")
    file = here / "notebooks" / "02_drift_analysis.ipynb"
    notebook = json.loads(file.read_text("utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    code[2]["source"] = ["print('as far as this')\n", "1 / 0\n"]
    file.write_text(json.dumps(notebook), encoding="utf-8")
    before = earlier_run(tmp_path / "out")
    done = subprocess.run(
        [sys.executable, "-c", "from tars_ga_lib.cli import main; main()", "run",
         str(here / "parameters" / "ga_day.yaml"), "--output", str(tmp_path / "out"), *arguments],
        cwd=here, env=os.environ | {"PYTHONPATH": str(here)}, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "error: 02_drift_analysis: ZeroDivisionError: division by zero" in done.stderr
    failed = tmp_path / "out.failed" / "notebooks" / "02_drift_analysis.ipynb"
    assert f"See {failed}" in done.stderr.replace("\n", "")
    assert "Traceback" not in done.stderr
    assert "as far as this" in failed.read_text("utf-8")
    assert digests(tmp_path / "out") == before
    assert {path.name for path in tmp_path.iterdir()} == {"out", "out.failed", "project"}


def test_unknown_parameters_of_a_notebook_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ParametersError, match=r"02_drift_analysis.ipynb: has no parameter colour"):
        pipeline.execute("02_drift_analysis", tmp_path, {"colour": "red"}, None)


def test_normalise(tmp_path: Path) -> None:
    """What differs from run to run is taken out, and nothing else."""

    def executed(run: int) -> Path:
        notebook = nbformat.v4.new_notebook(metadata={"papermill": {"duration": run}})
        injected = nbformat.v4.new_code_cell(
            f"# Parameters\nrun_dir = '/tmp/{run}'", metadata={"tags": ["injected-parameters"]}
        )
        cell = nbformat.v4.new_code_cell(
            "1 + 1",
            execution_count=run,
            metadata={"execution": {"iopub.execute_input": str(run)}, "papermill": {}, "tags": []},
            outputs=[
                nbformat.v4.new_output("stream", name="stderr", text=f"{run} it/s"),
                nbformat.v4.new_output("stream", name="stdout", text="kept"),
                nbformat.v4.new_output("execute_result", {"text/plain": "2"}, execution_count=run),
            ],
        )
        notebook.cells = [nbformat.v4.new_markdown_cell("# Text"), injected, cell]
        file = tmp_path / f"{run}.ipynb"
        nbformat.write(notebook, file)
        pipeline.normalise(file)
        return file

    one, two = executed(3), executed(9)
    assert one.read_bytes() == two.read_bytes()
    notebook = nbformat.read(one, as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[1].source == '# Parameters\nrun_dir = "."\n'
    assert [output["output_type"] for output in notebook.cells[2].outputs] == [
        "stream", "execute_result",
    ]  # fmt: skip
    assert notebook.cells[2].outputs[0]["text"] == "kept"


def test_notebooks_are_those_of_the_checkout() -> None:
    assert pipeline.notebooks_folder() == ROOT / "notebooks"
    names = {f"{name}.ipynb" for name in pipeline.NOTEBOOKS}
    assert names <= {path.name for path in (ROOT / "notebooks").iterdir()}
    assert pipeline.default_output(Path("x/my_day.yaml")).parts[-2:] == ("outputs", "my_day")
