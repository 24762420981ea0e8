"""The pytest plugin of the suite: its options and markers, and nothing else without `--ga-mode`.

It may be loaded into every pytest of an environment, so it imports nothing that costs time.
"""

from __future__ import annotations

from typing import Any

import pytest

GROUPS = ("replication", "kpi", "database", "grafana", "agent_memory")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the suite."""
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
    group.addoption(
        "--ga-prometheus", metavar="URL", help="server that tells the agents' memory, by default"
    )
    group.addoption("--ga-results", metavar="FILE", help="write the results as JSON")
    group.addoption("--ga-note", metavar="TEXT", default="", help="a remark for the results")
    group.addoption("--ga-progress", action="store_true", help="tell outcomes as lines of JSON")
    group.addoption(
        "--dry-run", dest="ga_dry_run", action="store_true",
        help="list what --ga-mode would check, and connect nowhere",
    )  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Name the markers; in `--ga-mode` read the parameters and build the checks, or refuse."""
    for group in GROUPS:
        config.addinivalue_line("markers", f"{group}: checks of the running system ({group})")
    if not config.getoption("ga_mode"):
        if config.getoption("ga_dry_run"):
            raise pytest.UsageError("--dry-run: needs --ga-mode")
        return
    if getattr(config.option, "numprocesses", None) or hasattr(config, "workerinput"):
        raise pytest.UsageError("--ga-mode: the checks run side by side anyway; take -n out")
    from tars_ga_lib.grammar import ParametersError
    from tars_ga_lib.system import hooks

    try:
        hooks.start(config)
    except ParametersError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(optionalhook=True)
def pytest_metadata(metadata: dict[str, Any], config: pytest.Config) -> None:
    """Keep the machine out of the results: they are evidence about another."""
    if config.getoption("ga_mode"):
        metadata.clear()
