"""Commands of service level objectives: `rules`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from tars_ga_lib.cli.console import File, Overrides, err
from tars_ga_lib.grammar import ParametersError


def rules(
    file: File,
    output: Annotated[
        Path | None, typer.Option(help="File to write; printed if not given.")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Write the Prometheus rules that page on the same objectives as the certification.

    They record the burn rates, by region and over all, and alert on 14.4 over 1h/5m, 6 over 6h/30m
    (page) and 1 over 3d/6h (ticket). Exit codes: 0 written, 2 bad input.
    """
    from tars_ga_lib import parameters
    from tars_ga_lib import rules as made
    from tars_ga_lib.wording import count

    job = parameters.load(file, overrides or [], now=math.inf)  # rules are for the days to come
    if output is None:
        typer.echo(made.text(job), nl=False)
        return
    try:
        made.write(job, output)
    except OSError as error:
        raise ParametersError(
            f"{output}: cannot be written ({error.strerror}); choose another file"
        ) from None
    err.print(
        f"[green]✓[/] {escape(str(output))}: the rules of {count(len(job.slos), 'objective')}"
    )
