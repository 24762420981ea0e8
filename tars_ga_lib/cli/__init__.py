"""The command `tars-ga`; each module holds the commands of one concern.

Exit codes: 0 certified, 3 not certified, 4 inconclusive, 2 bad input, 1 an error of ours.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from rich.markup import escape

from tars_ga_lib import __version__, extras
from tars_ga_lib.cli import certify, fields, notify, packages, slo, validate, watch, websocket
from tars_ga_lib.cli.console import err, out, print_what_the_terminal_can
from tars_ga_lib.grammar import ALLOWED_VARIABLES, ParametersError

app = typer.Typer(
    help="Certify a release from a day of production, with evidence.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    allow_env: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-env",
            metavar="NAME",
            help="Let files name this environment variable as the place of a secret; without it "
            "only those that begin with TARS_GA_. May be given several times.",
        ),
    ] = None,
) -> None:
    if allow_env:  # in the environment, where the notebooks' kernels have it too
        os.environ[ALLOWED_VARIABLES] = ",".join(allow_env)
    if version:
        out.print(f"tars-ga {__version__}")
        raise typer.Exit


for _panel, _commands in {
    "Certify": (certify.run, certify.preflight, certify.show, certify.schema),
    "On the day": (watch.watch, validate.validate, notify.notify, slo.rules, websocket.websocket),
    "Report": (fields.fields, fields.fill),
    "Evidence packages": (
        packages.package,
        packages.keygen,
        packages.verify,
        packages.history,
        packages.diff,
    ),
}.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)


def main() -> None:
    """Run the command and turn errors into one sentence and an exit code."""
    from tars_ga_lib.pipeline import NotebookError

    print_what_the_terminal_can()
    try:
        app()
    except ParametersError as error:
        for line in str(error).splitlines():
            err.print(f"[red]error:[/] {escape(line)}")
        sys.exit(2)
    except NotebookError as error:
        err.print(f"[red]error:[/] {escape(str(error))}\nSee {escape(str(error.notebook))}")
        sys.exit(1)
    except SystemExit as end:
        if end.code == 130:  # what typer makes of a KeyboardInterrupt, without a word
            err.print("interrupted; earlier results are untouched")
        raise
    except Exception as error:
        if isinstance(error, ImportError) and (sentence := extras.why(error)):
            err.print(f"[red]error:[/] {escape(sentence)}")
            sys.exit(2)
        err.print(
            f"[red]error:[/] {type(error).__name__}: {escape(str(error))}\n"
            "This is an error of tars-ga itself; earlier results are untouched."
        )
        sys.exit(1)
