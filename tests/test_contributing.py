"""The examples of CONTRIBUTING.md do what it says."""

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tars_ga_lib import parameters
from tars_ga_lib.initial import Profile
from tests import stores
from tests.helpers import ROOT, dump, tars_ga, write_run

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


def test_the_profile_is_one() -> None:
    (text,) = re.findall(r"```yaml\n# tars_ga_lib/profiles/\S+\n(.*?)```", TEXT, re.DOTALL)
    found = Profile.model_validate(yaml.safe_load(text))
    assert found.renames({"traefik_service_requests_total"}) == {
        "http_requests_total": "traefik_service_requests_total"
    }


def test_checks_of_ones_own_are_made_beside_ours(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(# my_checks/.*?)```", TEXT, re.DOTALL)
    (tmp_path / "my_checks").mkdir()
    (tmp_path / "my_checks" / "test_queues.py").write_text(code)
    left = dict.fromkeys(("kpis", "chroma", "grafana", "agents"), "not part of this test")
    with stores.postgres_cluster(50, regions=["us-east-1"]) as cluster:
        section = cluster.section(canary=False)
        dump(tmp_path / "validation.yaml", {"postgres": section, "left_out": left})
        file = write_run(tmp_path, validation="validation.yaml")
        done = tars_ga(
            "validate", file, "--checks", tmp_path / "my_checks", "-k", "waiting or broker",
            "--output", tmp_path / "out", env=cluster.secrets,
        )  # fmt: skip
    assert done.returncode == 4, done.stderr
    results = json.loads((tmp_path / "out" / "validation_results.json").read_text())
    waiting, broker = results["checks"]
    assert (waiting["id"], waiting["verdict"]) == ("postgres.waiting.us-east-1", "pass")
    assert waiting["reason"] == "of the table missions"
    assert (broker["verdict"], broker["cause"]) == ("no_data", "unreachable")
    (tmp_path / "my_checks" / "test_other.py").write_text("def test_it(): pass\n")
    refused = tars_ga("validate", file, "--checks", tmp_path / "my_checks", "--dry-run")
    assert refused.returncode == 2
    assert refused.stderr.endswith("test_it: is a test, and no check; declare it with @check\n")
    assert refused.stderr.count("\n") == 1


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
