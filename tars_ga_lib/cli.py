"""The command `tars-ga`.

Exit codes: 0 certified, 3 not certified, 4 inconclusive, 2 bad input, 1 an error of ours.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tars_ga_lib import __version__
from tars_ga_lib.parameters import ParametersError, interval_text

app = typer.Typer(
    help="Certify a release from a day of production, with evidence.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)

_COLOURS = {
    "CERTIFIED": "green",
    "CERTIFIED WITH WAIVERS": "yellow",
    "NOT CERTIFIED": "red",
    "INCONCLUSIVE": "yellow",
    "pass": "green",
    "warn": "yellow",
    "fail": "red",
    "no_data": "magenta",
}

File = Annotated[Path, typer.Argument(metavar="PARAMETERS", help="The run's YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Lay a value over the file: the key may be dotted, the value is YAML, as in "
        "--set window.step=1m. May be given several times.",
    ),
]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        _out.print(f"tars-ga {__version__}")
        raise typer.Exit


@app.command()
def run(
    file: File,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the run; outputs/NAME of the parameters file if not given."),
    ] = None,
    overrides: Overrides = None,
    report_only: Annotated[
        bool,
        typer.Option(
            "--report-only", help="Exit with 0 whatever the decision, if the run is whole."
        ),
    ] = False,
) -> None:
    """Collect, analyse, certify and write the report.

    Exit codes: 0 certified, 3 not certified, 4 inconclusive, 2 bad input, 1 an error of ours.
    """
    from tars_ga_lib import pipeline
    from tars_ga_lib.criteria import EXIT_CODES

    result = pipeline.run(
        file,
        output,
        overrides or [],
        lambda name, seconds: _err.print(f"[green]✓[/] {name} [dim]{seconds:.1f} s[/]"),
    )
    _show(result.certification)
    _out.print(f"Report: {escape(str(result.pdf))}")
    code = EXIT_CODES[result.certification["decision"]]
    raise typer.Exit(0 if report_only else code)


def _show(certification: dict[str, object]) -> None:
    from tars_ga_lib.views import limit_text, value_text, why

    table = Table(box=None, pad_edge=False)
    for title in ("criterion", "verdict", "value", "target", ""):
        table.add_column(title, overflow="fold")
    for outcome in certification["criteria"]:  # type: ignore[attr-defined]
        colour = _COLOURS[outcome["verdict"]]
        verdict = outcome["verdict"] + (" (waived)" if outcome["waiver"] else "")
        table.add_row(
            escape(outcome["title"]) + ("" if outcome["mandatory"] else " [dim](optional)[/]"),
            f"[{colour}]{verdict}[/]",
            escape(value_text(outcome)),
            escape(limit_text(outcome["target"], outcome["unit"])),
            f"[dim]{escape(outcome['reason'])}[/]",
        )
    _out.print(table)
    decision = str(certification["decision"])
    _out.print(f"[bold {_COLOURS[decision]}]{decision}[/] {escape(why(certification))}")


@app.command()
def preflight(file: File, overrides: Overrides = None) -> None:
    """Check the parameters and ask each query at a few instants, before the long work.

    Exit codes: 0 every query answers for every region and service, 4 some do not, 2 bad input.
    """
    from tars_ga_lib import parameters
    from tars_ga_lib.preflight import preflight as examine
    from tars_ga_lib.prometheus import SourceError

    job = parameters.load(file, overrides or [])
    window = job.parameters.window
    _out.print(f"Parameters are good. Window: {interval_text(window.start, window.stop)}")
    try:
        missing = 0
        for finding in examine(job):
            missing += not finding.ok
            mark = "[green]✓[/]" if finding.ok else "[red]✗[/]"
            problem = f": {escape(finding.problem)}" if finding.problem else ""
            _out.print(f"{mark} {escape(finding.request.id)}{problem}")
    except SourceError as error:
        _err.print(f"[red]error:[/] {escape(str(error))}")
        raise typer.Exit(4) from None
    raise typer.Exit(4 if missing else 0)


@app.command()
def schema() -> None:
    """Print the JSON Schema of every file that a user writes, for editors and checks."""
    import json

    from tars_ga_lib import parameters

    typer.echo(json.dumps(parameters.schema(), indent=2, ensure_ascii=False))


def main() -> None:
    """Run the command and turn errors into one sentence and an exit code."""
    from tars_ga_lib.pipeline import NotebookError

    try:
        app()
    except ParametersError as error:
        _err.print(f"[red]error:[/] {escape(str(error))}")
        sys.exit(2)
    except NotebookError as error:
        _err.print(f"[red]error:[/] {escape(str(error))}\nSee {escape(str(error.notebook))}")
        sys.exit(1)
    except KeyboardInterrupt:
        _err.print("interrupted; earlier results are untouched")
        sys.exit(130)
    except Exception as error:
        _err.print(
            f"[red]error:[/] {type(error).__name__}: {escape(str(error))}\n"
            "This is an error of tars-ga itself; earlier results are untouched."
        )
        sys.exit(1)
