"""Checks of the running system as the suite makes them, without pytest around them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from tars_ga_lib import grammar
from tars_ga_lib.parameters import Job
from tars_ga_lib.run import Run
from tars_ga_lib.system import test_agents, test_database, test_grafana, test_replication
from tars_ga_lib.system.checks import Check, Outcome, Scope, checks_of, run_check
from tars_ga_lib.system.validation import MODULES
from tars_ga_lib.targets import ValidationTargets

HIDDEN = "hidden-Zb7-secret"
"""A wrong secret, which must never be told."""

Measure = Callable[..., dict[str, Outcome]]


def checks(
    document: Mapping[str, Any],
    *,
    job: Job | None = None,
    run: Run | None = None,
    environ: Mapping[str, str] = os.environ,
    modules: tuple[ModuleType, ...] = MODULES,
) -> list[Check]:
    """Return the checks of a validation file; only those of agents and KPIs need a job."""
    targets = grammar.check(ValidationTargets, document, "validation.yaml")
    scope = Scope(job, targets, run, environ=environ)  # type: ignore[arg-type]
    functions = [function for module in modules for function in vars(module).values()]
    return [check for function in functions for check in checks_of(function, scope)]


def outcomes(
    section: str,
    content: Mapping[str, Any],
    environ: Mapping[str, str] = os.environ,
    only: str = "",
    *,
    job: Job | None = None,
    check_timeout: str = "10s",
) -> dict[str, Outcome]:
    """Run the checks of a section whose id holds `only`; return what came of each."""
    modules = {"agents": (test_agents,), "grafana": (test_grafana,)}
    made = checks(
        {section: content, "check_timeout": check_timeout},
        job=job,
        environ=environ,
        modules=modules.get(section, (test_replication, test_database)),
    )
    named = [check for check in made if check.id.startswith(f"{section}.")]
    chosen = [c for c in named if only in c.id and c.target != "not configured"]
    assert chosen, f"no check is named like {only}"
    return {check.id.partition(".")[2]: run_check(check, 30) for check in chosen}


def one(found: dict[str, Outcome]) -> Outcome:
    """Return the only outcome."""
    (outcome,) = found.values()
    return outcome


def verdicts(found: dict[str, Outcome]) -> set[str]:
    """Return the verdicts that there are."""
    return {outcome.verdict for outcome in found.values()}
