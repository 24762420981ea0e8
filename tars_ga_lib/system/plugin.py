"""The pytest plugin of the checks: its options, and nothing else without `--ga-mode`.

    pytest my_checks --ga-mode --ga-parameters my_day.yaml
    pytest --pyargs tars_ga_lib.system --ga-mode --ga-parameters my_day.yaml

It may be loaded into every pytest of an environment, so it imports nothing that costs time.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the checks."""
    group = parser.getgroup("tars-ga", "validation of the running system by tars-ga")
    group.addoption("--ga-mode", action="store_true", help="validate the running system")
    group.addoption("--ga-parameters", metavar="FILE", help="the run's YAML file")
    group.addoption(
        "--ga-set", metavar="KEY=VALUE", action="append", default=[],
        help="lay a value over the file, as tars-ga run --set does",
    )  # fmt: skip
    group.addoption(
        "--ga-run", metavar="DIR", help="folder of the run whose recording tells the KPIs"
    )
    group.addoption("--ga-results", metavar="FILE", type=Path, help="write the results as JSON")
    group.addoption(
        "--dry-run", dest="ga_dry_run", action="store_true",
        help="list what --ga-mode would check, and connect nowhere",
    )  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Read the parameters in `--ga-mode`, or refuse."""
    get = config.getoption
    if not get("ga_mode"):
        if get("ga_dry_run"):
            raise pytest.UsageError("--dry-run: needs --ga-mode")
        return
    if getattr(config.option, "numprocesses", None) or hasattr(config, "workerinput"):
        raise pytest.UsageError("--ga-mode: the checks run side by side anyway; take -n out")
    if not get("ga_parameters"):
        raise pytest.UsageError("--ga-mode: needs --ga-parameters FILE, the run's YAML file")
    # The library costs a second to import, and only this mode needs it.
    from tars_ga_lib.grammar import ParametersError
    from tars_ga_lib.parameters import load
    from tars_ga_lib.run import Run
    from tars_ga_lib.system.checks import Scope
    from tars_ga_lib.system.suite import Suite

    try:
        # On the day itself the window is not over yet, so its end may lie in the future.
        job = load(Path(get("ga_parameters")), get("ga_set"), now=math.inf)
        run = Run(Path(get("ga_run"))) if get("ga_run") else None
        suite = Suite(
            Scope.of(job, run, None, os.environ), dry_run=get("ga_dry_run"), file=get("ga_results")
        )
    except ParametersError as error:
        raise pytest.UsageError(str(error)) from None
    config.pluginmanager.register(suite, "tars-ga-suite")


def pytest_pycollect_makeitem(collector: pytest.Collector, obj: Any) -> list[pytest.Item] | None:
    """Leave the checks out without `--ga-mode`: a plain pytest connects nowhere."""
    declared = "check" in getattr(obj, "__dict__", {})
    return [] if declared and not collector.config.getoption("ga_mode") else None
