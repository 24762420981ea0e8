"""Commands on the report's fields: `fields` and `fill`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from tars_ga_lib.cli.console import err, out, print_json, print_table
from tars_ga_lib.grammar import ParametersError

SIMULATED = "Simulated data: this day was generated, not observed in production."


def fields(
    run: Annotated[
        Path | None, typer.Option("--run", metavar="DIR", help="Folder of a finished run.")
    ] = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="Only the fields without data, and why.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """List the report's fields: what each means and where it comes from, or its value in a run.

    Exit codes: 0 listed, 2 bad input.
    """
    from tars_ga_lib import fields as report
    from tars_ga_lib.fields import lists

    if run is None:
        if missing:
            raise ParametersError("--missing: of which run? name its folder with --run DIR")
        if as_json:
            print_json([field.facts() for field in report.FIELDS.values()])
        else:
            print_table(lists.registry())
        return
    values = report.values(run.resolve(), os.environ)
    if as_json:
        chosen = [value for value in values.values() if value.missing or not missing]
        print_json({v.name: report.FIELDS[v.name].facts() | v.facts() for v in chosen})
        return
    if not missing:
        print_table(lists.filled(values))
    print_table(lists.missing(values))
    out.print(lists.summary(values))


def fill(
    template: Annotated[
        Path, typer.Argument(metavar="TEMPLATE", help="A Markdown file with {{FIELD}} marks.")
    ],
    run: Annotated[Path, typer.Option("--run", metavar="DIR", help="Folder of a finished run.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write.")],
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Write nothing and exit with 3 if a mark names no field. NO DATA is no mistake of "
            "the template, and is let pass.",
        ),
    ] = False,
) -> None:
    """Fill a Markdown template with the fields of a run.

    Marks without data and marks that name no field read NO DATA, and are listed with their lines.
    {{FIELD.number}} is the bare number, {{FIELD.source}} where it comes from.

    Exit codes: 0 filled, 3 with --strict if a mark names no field, 2 bad input.
    """
    from tars_ga_lib import fields as report
    from tars_ga_lib.fields import fill as filling
    from tars_ga_lib.recording import write_text
    from tars_ga_lib.run import Run
    from tars_ga_lib.wording import count

    text = filling.read_template(template)
    _refuse(output, template)
    finished = Run(run.resolve())
    notice = SIMULATED if finished.recording.simulated else ""
    filled = filling.fill(text, report.values(finished, os.environ), notice)
    for mark in filled.missing:
        reason = mark.value.reason if mark.value else ""
        err.print(f"line {mark.line}: {mark.name} [magenta]NO DATA[/]: {escape(reason)}")
    for mark in filled.unknown:
        near = f"; did you mean {mark.near}?" if mark.near else ""
        err.print(f"line {mark.line}: [red]no field[/] is named {escape(repr(mark.name))}{near}")
    marks, without, unknown = len(filled.marks), len(filled.missing), len(filled.unknown)
    told = (
        f"{count(marks, 'mark')}: {marks - without - unknown} filled, {without} NO DATA, "
        f"{unknown} unknown"
    )
    if strict and unknown:
        err.print(f"{told}. Nothing was written, as --strict asks.")
        raise typer.Exit(3)
    try:
        write_text(output, filled.text)
    except OSError as error:
        raise ParametersError(
            f"--output {output}: cannot be written ({error.strerror}); name another file"
        ) from None
    out.print(f"{told}.\nWritten: {escape(str(output))}")


def _refuse(output: Path, template: Path) -> None:
    """Refuse to write over the template, or where no file can be."""
    if output.is_dir():
        raise ParametersError(f"--output {output}: is a folder; name a file")
    if output.exists() and output.samefile(template):
        raise ParametersError(f"--output {output}: is the template itself; name another file")
