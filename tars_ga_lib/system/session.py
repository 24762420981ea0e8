"""The suite in a process of its own, and its three files of results.

pytest cannot be run twice in one process with confidence, least of all in a notebook's kernel; and
a process can be ended, whatever hangs in it.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tars_ga_lib import extras
from tars_ga_lib.grammar import ParametersError
from tars_ga_lib.parameters import load
from tars_ga_lib.recording import write_bytes, write_json
from tars_ga_lib.system import words

NEEDED = ("pytest", "pytest_html")
"""Packages without which no check is made."""

RESULTS = "validation_results"
"""Name of the files of results, without what follows the dot."""

GRACE = 30.0
"""Seconds beyond its deadline after which the suite's process is ended."""

Progress = Callable[[dict[str, Any], int, int], None]
"""Called with the facts of each outcome, how many there are, and how many there will be."""


def silent(outcome: dict[str, Any], done: int, total: int) -> None:
    """Progress that shows nothing."""


@dataclass
class _Said:
    """What the suite's process said."""

    selected: list[dict[str, Any]] = field(default_factory=list)
    document: dict[str, Any] | None = None


def plan(
    file: Path,
    *,
    overrides: Sequence[str] = (),
    run: Path | None = None,
    keyword: str = "",
    markers: str = "",
) -> list[dict[str, Any]]:
    """Return what would be checked, each with target, query and limit; connects nowhere.

    Raises
    ------
    ParametersError
        If the input is bad, or no check is selected.
    """
    if sentence := extras.missing(*NEEDED):
        raise ParametersError(f"--dry-run: {sentence}")
    arguments = ["--dry-run", *_arguments(file, overrides, run, None, "", keyword, markers)]
    return _pytest(arguments, 60.0, silent).selected


def measure(
    file: Path,
    output: Path,
    *,
    deadline: float,
    overrides: Sequence[str] = (),
    run: Path | None = None,
    prometheus: str | None = None,
    note: str = "",
    keyword: str = "",
    markers: str = "",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Run the suite, write its results into `output`, and return the content of the JSON file.

    Where pytest is not installed every check is `no_data`, with that cause, in the JSON alone.

    Parameters
    ----------
    file
        The run's YAML file.
    deadline
        Seconds that the checks may take.
    run
        Folder of the run whose recording tells the KPIs.
    prometheus
        Server that tells the agents' memory, where the parameters name none.
    keyword, markers
        Select checks, as pytest's `-k` and `-m` do.

    Raises
    ------
    ParametersError
        If the input is bad, or no check is selected; earlier results are untouched.
    """
    if sentence := extras.missing(*NEEDED):
        from tars_ga_lib.system import suite  # all the stores' drivers

        document = suite.unmeasured(load(file, overrides, now=math.inf), run, prometheus, sentence)
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / f"{RESULTS}.json", document)
        return document
    with tempfile.TemporaryDirectory(prefix="tars-ga-") as scratch:
        xml, html = (Path(scratch) / f"{RESULTS}.{kind}" for kind in ("xml", "html"))
        files = [f"--junitxml={xml}", f"--html={html}", "--self-contained-html"]
        arguments = _arguments(file, overrides, run, prometheus, note, keyword, markers)
        said = _pytest([*files, *arguments], deadline + GRACE, progress)
        if said.document is None:
            raise RuntimeError("the suite ended without results")
        contents = {
            xml.name: _plain_xml(xml, said.document),
            html.name: _plain_html(html.read_text(encoding="utf-8"), said.document),
        }
    output.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_bytes(output / name, content)
    write_json(output / f"{RESULTS}.json", said.document)
    return said.document


def _arguments(
    file: Path,
    overrides: Sequence[str],
    run: Path | None,
    prometheus: str | None,
    note: str,
    keyword: str,
    markers: str,
) -> list[str]:
    given = {
        "--ga-parameters": str(file),
        "--ga-run": str(run) if run else "",
        "--ga-prometheus": prometheus or "",
        "--ga-note": note,
        "-k": keyword,
        "-m": markers,
    }
    options = [f"--ga-set={each}" for each in overrides]
    for name, value in given.items():
        if value:
            options += [f"{name}={value}"] if name.startswith("--") else [name, value]
    return options


def _pytest(arguments: Sequence[str], timeout: float, progress: Progress) -> _Said:
    """Run the suite's process and listen to it.

    Raises
    ------
    ParametersError
        If it refuses its input.
    """
    here = Path(__file__).parent
    command = [
        sys.executable, "-m", "pytest", str(here / "test_system.py"),
        f"--rootdir={here}", f"--confcutdir={here}", "-c", os.devnull,
        "-p", "tars_ga_lib.system.plugin", "-p", "pytest_metadata.plugin",
        "-p", "pytest_html.plugin", "-p", "no:cacheprovider", "-p", "no:terminal",
        "-o", "junit_family=xunit2", "-o", "initial_sort=rank", "--strict-markers", "--capture=no",
        "--ga-mode", "--ga-progress", *arguments,
    ]  # fmt: skip
    # Another's plugins and options have no part in it.
    environment = {k: v for k, v in os.environ.items() if k != "PYTEST_ADDOPTS"}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        with _process(command, environment, errors, timeout) as lines:
            said = _listen(lines, progress)
        errors.seek(0)
        text, code = errors.read(), lines.returncode
    if code in (0, 1):
        return said
    if code == 4:
        refused = [line for line in text.splitlines() if line.startswith("ERROR: ")]
        raise ParametersError((refused or text.splitlines() or [""])[-1].removeprefix("ERROR: "))
    if code == 5:
        raise ParametersError("-k, -m: select no check; --dry-run lists them all")
    if code < 0:
        raise RuntimeError(f"the suite did not end within {timeout:.0f} s, and was ended")
    raise RuntimeError(f"the suite failed: {text.strip()[-500:] or f'exit code {code}'}")


@contextmanager
def _process(
    command: Sequence[str], environment: dict[str, str], errors: Any, timeout: float
) -> Iterator[subprocess.Popen[str]]:
    """Run a process, and end it when the time is up or the block is left."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        encoding="utf-8",
    )
    timer = threading.Timer(timeout, process.kill)
    timer.daemon = True
    timer.start()
    try:
        yield process
        process.wait()
    finally:
        timer.cancel()
        if process.poll() is None:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _listen(process: subprocess.Popen[str], progress: Progress) -> _Said:
    said, done = _Said(), 0
    assert process.stdout is not None
    for line in process.stdout:
        try:
            told = json.loads(line)
        except ValueError:
            continue  # what a driver prints is not for us
        if not isinstance(told, dict):
            continue
        if "outcome" in told:
            done += 1
            progress(told["outcome"], done, len(said.selected))
        said.selected = told.get("selected", said.selected)
        said.document = told.get("document", said.document)
    return said


def _plain_xml(file: Path, document: dict[str, Any]) -> bytes:
    """Return a JUnit file without the machine that wrote it, each case named by its check."""
    root = ElementTree.parse(file).getroot()
    root.set("name", "tars-ga validate")
    checks = {check["id"]: check for check in document["checks"]}
    for each in root.iter("testsuite"):
        each.attrib.pop("hostname", None)
        each.set("name", "validation")
        each.set("timestamp", document["started_at"])
    for case in root.iter("testcase"):
        identity = case.get("name", "").partition("[")[2].removesuffix("]")
        case.set("name", identity)
        check = checks[identity]
        case.set("classname", check["group"])
        for kind in ("failure", "error"):
            for each in case.iter(kind):
                each.set("message", words.why(check))
                each.set("type", check["cause"] or check["verdict"])
    ElementTree.indent(root)
    text: str = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'.encode()


def _plain_html(text: str, document: dict[str, Any]) -> bytes:
    """Return pytest-html's page with a count of all checks: its own leaves errors out."""
    count = f"{len(document['checks'])} checks; those that fail or lack data are unfolded."
    line = f'<p class="run-count">{count}</p>'
    return re.sub(r'<p class="run-count">.*?</p>', line, text, count=1).encode()
