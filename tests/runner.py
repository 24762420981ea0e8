"""Run a GitHub workflow's steps on this machine, in the order in which GitHub would.

It stands in for GitHub's runner, which is not to be had here: a fresh checkout for each job, the
files that steps talk through (GITHUB_ENV, GITHUB_PATH, GITHUB_OUTPUT, GITHUB_STEP_SUMMARY), the
artifact actions, matrices one leg after the other, and the expressions that our workflows use.
Every `run:` step is run as it stands, by bash.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from tests.helpers import ROOT, TARS_GA

_EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}")
_CHECKOUT = ("parameters", "notebooks", ".github", "demo", "Makefile", "requirements.lock",
             "pyproject.toml")  # fmt: skip


@dataclass
class Job:
    """What became of one job: its result, its outputs, and what its steps printed."""

    result: str = "skipped"
    outputs: dict[str, str] = field(default_factory=dict)
    log: str = ""


@dataclass
class Runner:
    """One run of a workflow.

    `programs` is a folder whose programs come before all others; `jobs` and `kept` tell what became
    of the jobs and artifacts: name to folder and days.
    """

    workflow: dict[str, Any]
    folder: Path
    inputs: Mapping[str, Any]
    secrets: Mapping[str, str]
    programs: Path
    prepare: Any = None
    jobs: dict[str, Job] = field(default_factory=dict)
    kept: dict[str, tuple[Path, int]] = field(default_factory=dict)
    attested: list[str] = field(default_factory=list)
    summary: str = ""

    def run(self) -> None:
        """Run every job; ours stand in an order in which each needs earlier ones only."""
        for name, job in self.workflow["jobs"].items():
            self.jobs[name] = self._job(name, job)

    def _job(self, name: str, job: Mapping[str, Any]) -> Job:
        needs = job.get("needs", [])
        needs = {need: self.jobs[need] for need in ([needs] if isinstance(needs, str) else needs)}
        context = self._context(needs)
        default = all(need.result == "success" for need in needs.values())
        condition = job.get("if")
        wanted = default if condition is None else self._value(str(condition), context)
        if condition is not None and not re.search(r"always\(|cancelled\(", str(condition)):
            wanted = wanted and default
        if not wanted:
            return Job()
        found = Job("success")
        for leg in job.get("strategy", {}).get("matrix", {}).get("leg", [None]):
            context["matrix"] = SimpleNamespace(leg=leg)
            one = self._leg(f"{name}-{leg}", job, context)
            found.log += one.log
            found.outputs |= one.outputs
            found.result = one.result if one.result == "failure" else found.result
        return found

    def _leg(self, name: str, job: Mapping[str, Any], context: dict[str, Any]) -> Job:
        work = self.folder / name / "work"
        checkout(work)
        if self.prepare:
            self.prepare(work)
        env = {key: value for key, value in os.environ.items() if not key.startswith("TARS_GA_")}
        env |= {"RUNNER_TEMP": str(self.folder / name), "PATH": f"{self.programs}:{env['PATH']}"}
        for key in ("ENV", "PATH", "OUTPUT", "STEP_SUMMARY"):
            file = self.folder / name / key.lower()
            file.touch()
            env[f"GITHUB_{key}"] = str(file)
        env |= self._filled(self.workflow.get("env", {}), context)
        found, outputs = Job("success"), SimpleNamespace()
        context = context | {"steps": outputs}
        for step in job["steps"]:
            always = "always()" in str(step.get("if", ""))
            if found.result == "failure" and not always:
                continue
            ok, log = self._step(step, work, env, context)
            found.log += log
            if "id" in step:
                lines = Path(env["GITHUB_OUTPUT"]).read_text().splitlines()
                told = SimpleNamespace(**dict(line.split("=", 1) for line in lines))
                setattr(outputs, step["id"], SimpleNamespace(outputs=told))
            if not ok and not step.get("continue-on-error"):
                found.result = "failure"
        if found.result == "success":
            found.outputs = self._filled(job.get("outputs", {}), context)
        self.summary += Path(env["GITHUB_STEP_SUMMARY"]).read_text()
        return found

    def _step(
        self, step: Mapping[str, Any], work: Path, env: dict[str, str], context: dict[str, Any]
    ) -> tuple[bool, str]:
        if "run" in step:
            added = self._filled(step.get("env", {}), context)
            path = Path(env["GITHUB_PATH"]).read_text().splitlines()
            path = [str(self.programs), *path, env["PATH"]]
            # As GitHub runs `shell: bash`.
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
                cwd=work, env=env | added | {"PATH": ":".join(path)}, stdin=subprocess.DEVNULL,
                capture_output=True, text=True, timeout=300, check=False,
            )  # fmt: skip
            log = f"## {step.get('name', '')}\n{done.stdout}{done.stderr}"
            return done.returncode == 0, log
        given = self._filled(step.get("with", {}), context)
        name = step["uses"].partition("@")[0]
        if name.startswith("./"):
            action = yaml.safe_load((work / name / "action.yml").read_text())
            defaults = {key: one["default"] for key, one in action["inputs"].items()}
            context = context | {"inputs": _inputs(defaults | given)}
            ran = [self._step(each, work, env, context) for each in action["runs"]["steps"]]
            return all(ok for ok, _ in ran), "".join(log for _, log in ran)
        do = getattr(self, f"_{name.partition('/')[2].replace('-', '_')}")
        return bool(do(work, given)), f"## {name} {given}\n"

    # --- actions ---

    def _checkout(self, work: Path, given: Mapping[str, str]) -> bool:
        return (work / "pyproject.toml").is_file()

    def _setup_python(self, work: Path, given: Mapping[str, str]) -> bool:
        return True

    def _attest_build_provenance(self, work: Path, given: Mapping[str, str]) -> bool:
        self.attested.append(given["subject-path"])
        return (work / given["subject-path"]).is_file()

    def _upload_artifact(self, work: Path, given: Mapping[str, str]) -> bool:
        paths = [work / line for line in given["path"].split()]
        there = [path for path in paths if path.exists()]
        if not there:
            return given.get("if-no-files-found", "warn") != "error"
        target = self.folder / "artifacts" / given["name"]
        target.mkdir(parents=True)
        for path in there:
            if path.is_dir():
                shutil.copytree(path, target, dirs_exist_ok=True)
            else:
                shutil.copy(path, target)
        self.kept[given["name"]] = target, int(given["retention-days"])
        return True

    def _download_artifact(self, work: Path, given: Mapping[str, str]) -> bool:
        if "name" in given:
            if given["name"] not in self.kept:
                return False
            shutil.copytree(self.kept[given["name"]][0], work / given["path"])
            return True
        for name in fnmatch.filter(self.kept, given.get("pattern", "*")):
            shutil.copytree(self.kept[name][0], work / given["path"] / name)
        return True

    # --- expressions ---

    def _context(self, needs: Mapping[str, Job]) -> dict[str, Any]:
        return {
            "inputs": _inputs(self.inputs),
            "secrets": _Secrets(self.secrets),
            "github": SimpleNamespace(token="token", repository="owner/repository"),
            "needs": SimpleNamespace(
                **{
                    name: SimpleNamespace(result=job.result, outputs=_Secrets(job.outputs))
                    for name, job in needs.items()
                }
            ),
            "always": lambda: True,
            "cancelled": lambda: False,
        }

    def _value(self, expression: str, context: Mapping[str, Any]) -> Any:
        text = expression.strip().removeprefix("${{").removesuffix("}}").strip()
        text = text.replace("&&", " and ").replace("||", " or ")
        text = re.sub(r"!(?!=)", " not ", text).strip()
        text = re.sub(r"(?<=\w)-(?=\w)", "_", text)  # a hyphen in a name is no minus
        return eval(text, {"__builtins__": {}}, dict(context))

    def _filled(self, given: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, str]:
        def fill(value: object) -> str:
            return _EXPRESSION.sub(lambda m: _text(self._value(m[1], context)), str(value))

        return {key: fill(value) for key, value in given.items()}


class _Secrets:
    """Secrets and outputs: one that is not set is empty."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def __getattr__(self, name: str) -> str:
        return self._values.get(name, "")


def _inputs(given: Mapping[str, Any]) -> SimpleNamespace:
    return SimpleNamespace(**{key.replace("-", "_"): value for key, value in given.items()})


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def checkout(work: Path) -> None:
    """Lay out what a job's steps use of a checkout; it is installed already."""
    work.mkdir(parents=True)
    for name in _CHECKOUT:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, work / name)
    (work / ".venv").symlink_to(TARS_GA.parent.parent)
    (work / "deploy").mkdir()
    shutil.copy(ROOT / "deploy" / "requirements.lock", work / "deploy")
    for name in ("deploy/requirements.lock", "pyproject.toml"):
        os.utime(work / name, (0, 0))  # nothing to install: make compares times


def programs(folder: Path, **scripts: str) -> Path:
    """Write programs that stand in for those that would leave this machine, or tell the time."""
    folder.mkdir(parents=True)
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return folder
