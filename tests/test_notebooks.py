"""The notebooks: kept free of outputs, readable, explained, and each of them runs alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import ROOT, SMALL, digests

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]
LONGEST = 15


def cells(path: Path, kind: str = "code") -> list[dict[str, Any]]:
    every = json.loads(path.read_text("utf-8"))["cells"]
    return [cell for cell in every if cell["cell_type"] == kind]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def tool(name: str, *arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a command of the environment that the tests run in."""
    return subprocess.run(
        [str(Path(sys.executable).with_name(name)), *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"PYTHONPATH": str(cwd)},
    )  # fmt: skip


# --- As they are kept -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_kept_without_outputs(path: Path) -> None:
    for cell in cells(path):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
    done = tool("nbstripout", "--dry-run", path)
    assert "would have been" not in done.stderr + done.stdout


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_they_read_as_an_argument_in_small_steps(path: Path) -> None:
    for cell in cells(path):
        text = source(cell)
        assert len(text.splitlines()) <= LONGEST
        assert max(map(len, text.splitlines() or [""])) <= 110
    prose = cells(path, "markdown")
    assert source(prose[0]).startswith("# ")
    assert len(prose) >= 3


def test_numbered_as_the_design_says() -> None:
    assert sorted(NAMES) == NAMES
    assert {name[:2] for name in NAMES} >= {"01", "02", "03", "05"}


# --- Parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_parameters_have_a_type_a_default_and_a_word(path: Path) -> None:
    (cell,) = [c for c in cells(path) if "parameters" in c["metadata"].get("tags", [])]
    lines = source(cell).splitlines()
    assert any(line.startswith("run_dir") for line in lines)
    for line in lines:
        assert re.fullmatch(r"\w+: (str|list|int|float|bool) = \S+  # [A-Z].{10,}", line), line
    done = tool("papermill", "--help-notebook", path)
    assert done.returncode == 0, done.stderr
    for line in lines:
        name, kind, about = re.fullmatch(r"(\w+): (\w+) = .*?  # (.*)", line).groups()  # type: ignore[union-attr]
        said = " ".join(done.stdout.split())
        assert re.search(rf"{name}: {kind} \(default .*?\) {re.escape(about[:30])}", said), said


# --- Each alone -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy what a clone holds, so that the defaults' outputs do not land in this one."""
    folder = tmp_path_factory.mktemp("workspace")
    skipped = shutil.ignore_patterns("__pycache__")
    for name in ("tars_ga_lib", "notebooks", "parameters", "demo"):
        shutil.copytree(ROOT / name, folder / name, ignore=skipped)
    return folder


def test_nbval(workspace: Path) -> None:
    """Each runs with its default parameters, in order, as nbval and JupyterLab run them."""
    done = tool("pytest", "--nbval-lax", "-p", "no:cacheprovider", "-q", "notebooks", cwd=workspace)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    count = sum(len(cells(path)) for path in NOTEBOOKS)
    assert re.search(rf"\b{count} passed", done.stdout), done.stdout[-500:]
    left = set(digests(workspace / "outputs" / "demo"))
    assert left >= {
        "ga_kpi_summary.json", "baseline_metrics.json", "snapshots.jsonl", "drift_analysis.json",
        "cross_region.json", "certification_metadata.json",
    }  # fmt: skip


def papermill(name: str, out: Path, **given: object) -> subprocess.CompletedProcess[str]:
    chosen = [part for key, value in given.items() for part in ("-p", key, value)]
    listed = ["-y", json.dumps({"overrides": SMALL})] if name.startswith("01") else []
    return tool(
        "papermill", ROOT / "notebooks" / f"{name}.ipynb", out / f"{name}.ipynb", *chosen, *listed,
        "--no-progress-bar",
    )  # fmt: skip


def test_papermill_alone(tmp_path: Path, small_server: str) -> None:
    """Collection against a server, then the analysis, each by papermill and nothing else."""
    overrides = [*SMALL, f"source.prometheus={small_server}"]
    run = tmp_path / "run"
    done = tool(
        "papermill", "notebooks/01_collection.ipynb", tmp_path / "01.ipynb",
        "-p", "run_dir", run, "-p", "parameters_file", "parameters/ga_day.yaml",
        "-y", json.dumps({"overrides": overrides}), "--no-progress-bar",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert set(digests(run)) >= {"ga_kpi_summary.json", "recording/recording.json"}
    done = papermill("03_cross_region", tmp_path, run_dir=run)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (run / "cross_region.json").is_file()
    # What a notebook needs and does not find, it asks for by name.
    done = papermill("05_certification", tmp_path, run_dir=run)
    assert done.returncode != 0
    assert "drift_analysis.json: is missing or not JSON; run the notebook" in done.stderr
