"""The command `validate`: the checks of the running system."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from tars_ga_lib.cli.console import COLOURS, File, Overrides, err, out, print_table


def validate(
    file: File,
    run: Annotated[
        Path | None,
        typer.Option("--run", metavar="DIR", help="Run whose recording tells the KPIs."),
    ] = None,
    checks: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Further checks: a test_….py, or a folder of them."),
    ] = None,
    keyword: Annotated[
        str, typer.Option("-k", metavar="EXPR", help="Only checks whose name matches.")
    ] = "",
    markers: Annotated[
        str,
        typer.Option(
            "-m",
            metavar="MARKER",
            help="Only checks of a group: replication, kpi, database, grafana, agent_memory.",
        ),
    ] = "",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="List target, query and limit of each; connect nowhere."),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the results; outputs/NAME_validation if not given."),
    ] = None,
    note: Annotated[
        str, typer.Option(metavar="TEXT", help="A remark that is kept with the results.")
    ] = "",
    overrides: Overrides = None,
) -> None:
    """Validate the running system: replication, KPIs, databases, Grafana, agents.

    It only reads (a canary is written only where the validation file allows it), and writes
    validation_results.json, .xml and .html. CONTRIBUTING.md shows how to write a check of your own.

    Exit codes: 0 all checks pass, 3 one fails, 4 one has no data, 2 bad input, 1 an error of ours.
    """
    from tars_ga_lib import parameters, pipeline
    from tars_ga_lib.run import Run
    from tars_ga_lib.system import tables, validation
    from tars_ga_lib.system.checks import Scope

    job = parameters.load(file, overrides or [], now=math.inf)
    scope = Scope.of(job, Run(run) if run else None, None, os.environ)
    chosen: dict[str, Any] = {"more": checks or [], "keyword": keyword, "markers": markers}
    if dry_run:
        out.print(escape(tables.listing(validation.listed(scope, **chosen))))
        return
    default = pipeline.default_output(file)
    folder = output or default.with_name(f"{default.name}_validation")
    results = validation.measure(scope, folder, note=note, progress=_tell, **chosen)
    print_table(tables.validation_table(results))
    for text in tables.about(results):
        out.print(escape(text))
    out.print(f"Results: {escape(str(folder / validation.RESULTS))}.json, .xml, .html")
    counts = results["counts"]
    raise typer.Exit(3 if counts["fail"] else 4 if counts["no_data"] else 0)


def _tell(outcome: dict[str, Any], done: int, total: int) -> None:
    colour = COLOURS[outcome["verdict"]]
    verdict = outcome["verdict"].replace("_", " ")
    err.print(f"[dim]{done}/{total}[/] [{colour}]{verdict:7}[/] {escape(outcome['id'])}")
