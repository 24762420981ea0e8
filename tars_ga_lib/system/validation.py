"""The checks made by pytest within this process, and their three files of results."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from tars_ga_lib import extras
from tars_ga_lib.grammar import ParametersError
from tars_ga_lib.recording import write_bytes, write_json
from tars_ga_lib.system import (
    results,
    test_agents,
    test_database,
    test_grafana,
    test_kpis,
    test_replication,
)
from tars_ga_lib.system.checks import Scope, checks_of, not_measured, now

NEEDED = ("pytest", "pytest_html")
"""Packages without which no check is made."""

RESULTS = "validation_results"
"""Name of the files of results, without what follows the dot."""

MODULES = (test_replication, test_kpis, test_database, test_grafana, test_agents)
"""Our own checks, in the order in which they are shown."""

Progress = Callable[[dict[str, Any], int, int], None]
"""Called with the facts of each outcome, how many there are, and how many there will be."""


def listed(
    scope: Scope, *, more: Sequence[Path] = (), keyword: str = "", markers: str = ""
) -> list[dict[str, Any]]:
    """Return what would be checked, each with target, query and limit; connects nowhere.

    Raises
    ------
    ParametersError
        If the input is bad, or no check is selected.
    """
    if sentence := extras.missing(*NEEDED):
        raise ParametersError(f"--dry-run: {sentence}")
    from tars_ga_lib.system.suite import Suite  # needs pytest

    suite = Suite(scope, dry_run=True)
    _pytest(suite, None, more, keyword, markers)
    return [check.facts() for check in suite.selected]


def measure(
    scope: Scope,
    output: Path,
    *,
    more: Sequence[Path] = (),
    note: str = "",
    keyword: str = "",
    markers: str = "",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Make the checks, write the results into `output`, and return the content of the JSON file.

    Where pytest is not installed every check is `no_data`, with that cause, in the JSON alone.

    Parameters
    ----------
    more
        Files or folders of further checks, as `test_….py`.
    note
        A remark that goes into the results, as that they were measured on a test system.
    keyword, markers
        Select checks, as pytest's `-k` and `-m` do.

    Raises
    ------
    ParametersError
        If the input is bad, or no check is selected; earlier results are untouched.
    """
    if sentence := extras.missing(*NEEDED):
        document = _unmeasured(scope, sentence, note)
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / f"{RESULTS}.json", document)
        return document
    from tars_ga_lib.system.suite import Suite  # needs pytest

    suite = Suite(scope, note=note, progress=progress)
    with tempfile.TemporaryDirectory(prefix="tars-ga-") as scratch:
        page = Path(scratch) / f"{RESULTS}.html"
        _pytest(suite, page, more, keyword, markers)
        document = suite.document()
        text = _page(page.read_text(encoding="utf-8"), len(document["checks"]))
    output.mkdir(parents=True, exist_ok=True)
    write_bytes(output / page.name, text.encode())
    write_bytes(output / f"{RESULTS}.xml", results.junit(document))
    write_json(output / f"{RESULTS}.json", document)
    return document


def _pytest(
    suite: Any, page: Path | None, more: Sequence[Path], keyword: str, markers: str
) -> None:
    """Run pytest with nothing but what the checks need.

    Raises
    ------
    ParametersError
        If a selection or a file is bad, or no check is selected.
    """
    import pytest

    for file in more:
        if not file.exists():
            raise ParametersError(f"--checks {file}: there is no such file or folder")
    here = Path(__file__).parent
    wanted = ("pytest_metadata.plugin", "pytest_html.plugin") if page else ()
    unwanted = (
        "cacheprovider", "terminal", "faulthandler", "threadexception", "unraisableexception",
        "warnings",
    )  # fmt: skip
    command = [
        *(str(module.__file__) for module in MODULES), *map(str, more),
        f"--rootdir={here}", f"--confcutdir={here}", "-c", os.devnull,
        *(f"-p{name}" for name in wanted), *(f"-pno:{name}" for name in unwanted),
        "--import-mode=importlib", "--assert=plain", "--capture=no", "-k", keyword, "-m", markers,
    ]  # fmt: skip
    if page:
        command += [f"--html={page}", "--self-contained-html", "-o", "initial_sort=rank"]
    # Another's plugins and options have no part in it.
    ours = {"PYTEST_ADDOPTS": "", "PYTEST_PLUGINS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    with mock.patch.dict(os.environ, ours):
        code = pytest.main(command, plugins=[suite])
    if code == pytest.ExitCode.INTERRUPTED and not suite.problem:
        raise KeyboardInterrupt
    if suite.problem:
        raise ParametersError(suite.problem)
    if code == pytest.ExitCode.NO_TESTS_COLLECTED and not suite.selected:
        raise ParametersError("-k, -m: select no check; --dry-run lists them all")
    if code not in (0, 1, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise RuntimeError(f"pytest ended with {code!r}")


def _unmeasured(scope: Scope, reason: str, note: str) -> dict[str, Any]:
    """Return the document of our own checks where none of them could be made, and why."""
    functions = [function for module in MODULES for function in vars(module).values()]
    checks = [check for function in functions for check in checks_of(function, scope)]
    outcomes = [not_measured(check, "not_configured", reason) for check in checks]
    text = results.note(scope.targets, len(checks), len(checks), note)
    return results.document(scope.job, outcomes, text, now())


def _page(text: str, checks: int) -> str:
    """Return pytest-html's page with what screen readers need, its title, and a count of all.

    Its own count leaves errors out.
    """
    changes = {
        "<html>": '<html lang="en">',
        "<body>": "<body><main>",
        "</body>": "</main></body>",
        f">{RESULTS}.html<": ">Validation of the running system<",
    }
    for old, new in changes.items():
        text = text.replace(old, new)
    count = f"{checks} checks; those that fail or lack data are unfolded."
    line = f'<p class="run-count">{count}</p>'
    return re.sub(r'<p class="run-count">.*?</p>', line, text, count=1)
