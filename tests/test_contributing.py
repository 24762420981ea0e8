"""The examples of CONTRIBUTING.md do what it says."""

import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tars_ga_lib import parameters
from tars_ga_lib.system.check import run_check
from tests.helpers import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def example(word: str) -> dict[str, Any]:
    """Run the one Python example that holds a word, and return its names."""
    (code,) = [c for c in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if word in c]
    names: dict[str, Any] = {}
    exec(compile(code, "CONTRIBUTING.md", "exec"), names)
    return names


def test_the_catalogues_take_what_is_added(tmp_path: Path) -> None:
    folder = tmp_path / "parameters"
    shutil.copytree(ROOT / "parameters", folder)
    blocks = re.findall(r"```yaml\n# parameters/(\S+)\n(.*?)```", TEXT, re.DOTALL)
    assert {name for name, _ in blocks} == {"kpis.yaml", "drift_rules.yaml", "criteria.yaml"}
    for name, text in blocks:
        file = folder / name
        catalogue = yaml.safe_load(file.read_text("utf-8"))
        for key, entries in yaml.safe_load(text).items():
            catalogue[key] |= entries
        file.write_text(yaml.safe_dump(catalogue, sort_keys=False), "utf-8")
    job = parameters.load(folder / "ga_day.yaml", now=math.inf)
    assert "queue_depth" in job.kpis
    assert "queue_depth" in job.criteria
    assert "queue_depth" in job.rules


def test_the_check_measures_or_says_why_not() -> None:
    make = example("queue_check")["queue_check"]
    assert run_check(make("a", {"a": 3}), 5).verdict == "pass"
    assert run_check(make("a", {"a": 900}), 5).verdict == "fail"
    silent = run_check(make("b", {}), 5)
    assert (silent.verdict, silent.cause) == ("no_data", "unreachable")


def test_the_chart_and_the_field_are_made() -> None:
    assert example("queue_chart")["figure"].svg.startswith("<svg")
    names = example("failed_criteria")

    class Known:
        @staticmethod
        def document(name: str) -> dict[str, Any]:
            return {"criteria": [{"verdict": "fail"}, {"verdict": "pass"}]}

    assert names["failed_criteria"](Known).value == 1.0


@pytest.mark.parametrize("name", re.findall(r"`([\w./]+/[\w.]+\.(?:py|yaml|ipynb|sh|md))`", TEXT))
def test_the_files_that_it_names_are_there(name: str) -> None:
    assert (ROOT / name).is_file()
