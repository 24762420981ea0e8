"""The command `validate`: the pytest suite against the running system."""

from __future__ import annotations

import math
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
    validation_results.json, .xml and .html.

    Exit codes: 0 all checks pass, 3 one fails, 4 one has no data, 2 bad input, 1 an error of ours.
    """
    from tars_ga_lib import parameters, pipeline
    from tars_ga_lib.system import session
    from tars_ga_lib.system.check import targets_of

    # Bad input is refused here, before a process is started.
    job = parameters.load(file, overrides or [], now=math.inf)
    deadline = targets_of(job).deadline
    chosen: dict[str, Any] = {
        "overrides": overrides or [],
        "run": run,
        "keyword": keyword,
        "markers": markers,
    }
    if dry_run:
        _list(session.plan(file, **chosen))
        return
    default = pipeline.default_output(file)
    folder = output or default.with_name(f"{default.name}_validation")
    results = session.measure(file, folder, deadline=deadline, note=note, progress=_tell, **chosen)
    _show(results, folder)
    counts = results["counts"]
    raise typer.Exit(3 if counts["fail"] else 4 if counts["no_data"] else 0)


def _list(checks: list[dict[str, Any]]) -> None:
    from tars_ga_lib.system import words
    from tars_ga_lib.wording import count

    for check in checks:
        out.print(f"[bold]{escape(check['id'])}[/]  {escape(check['title'])}")
        out.print(f"  at     {escape(check['target'])}")
        out.print(f"  query  {escape(check['query'] or 'none')}")
        out.print(f"  limit  {escape(words.limit(check['limit'], check['unit']))}")
    out.print(f"{count(len(checks), 'check')}; nothing was asked")


def _tell(outcome: dict[str, Any], done: int, total: int) -> None:
    colour = COLOURS[outcome["verdict"]]
    verdict = outcome["verdict"].replace("_", " ")
    err.print(f"[dim]{done}/{total}[/] [{colour}]{verdict:7}[/] {escape(outcome['id'])}")


def _show(results: dict[str, Any], folder: Path) -> None:
    from tars_ga_lib.system import words
    from tars_ga_lib.system.session import RESULTS

    print_table(words.table(results))
    for text in words.about(results):
        out.print(escape(text))
    out.print(f"Results: {escape(str(folder / RESULTS))}.json, .xml, .html")
