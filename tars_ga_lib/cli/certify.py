"""Commands of a run: `run`, `preflight` and `schema`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tars_ga_lib.cli.console import (
    COLOURS,
    File,
    Overrides,
    PublicKey,
    Sign,
    err,
    out,
    print_table,
    signer_of,
)
from tars_ga_lib.grammar import (
    ALLOWED_VARIABLES,
    ANY_VARIABLE,
    ParametersError,
    interval_text,
)


def run(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[PARAMETERS]",
            help="The run's YAML file; those of the package, with --set source.recording=PACKAGE.",
        ),
    ] = None,
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
    package: Annotated[
        bool, typer.Option("--package/--no-package", help="Build the evidence package.")
    ] = True,
    sign: Sign = None,
    public_key: PublicKey = None,
    notify: Annotated[
        bool,
        typer.Option(
            "--notify", help="Tell the decision, or a failure, to those who asked for it."
        ),
    ] = False,
) -> None:
    """Collect, analyse, certify, write the report and pack the evidence.

    Exit codes: 0 certified, 3 not certified, 4 inconclusive, 2 bad input, 1 an error of ours.
    """
    from tars_ga_lib import notify as notifications
    from tars_ga_lib import parameters, pipeline
    from tars_ga_lib.cli.notify import channels_of, show, told
    from tars_ga_lib.criteria import EXIT_CODES

    signer = signer_of(sign, public_key)
    with _given(file, output, overrides or []) as (file, output, overrides, source):
        if source is not None and notify:
            raise ParametersError(
                "--notify: a replay of a package tells nobody, as its files may be a stranger's; "
                "leave it out"
            )
        told_by, given = parameters.whom_to_tell(file, overrides)
        channels = channels_of(given) if notify else None
        with told(channels, told_by, output or pipeline.default_output(file)):
            result = pipeline.run(
                file,
                output,
                overrides,
                lambda name, seconds: err.print(f"[green]✓[/] {name} [dim]{seconds:.1f} s[/]"),
                package=package,
                signer=signer,
                offline=source is not None,
            )
    _show(result.certification)
    if source is not None:
        _show_changes(source, result.certification)
    out.print(f"Report: {escape(str(result.pdf))}")
    if package:
        out.print(f"Evidence: {escape(str(result.archive))}{'' if sign else ' (unsigned)'}")
    if channels is not None:
        event = notifications.decision(result.certification)
        show(notifications.tell(channels, event, notifications.log_of(result.folder)))
    code = EXIT_CODES[result.certification["decision"]]
    raise typer.Exit(0 if report_only else code)


@contextlib.contextmanager
def _given(
    file: Path | None, output: Path | None, overrides: Sequence[str]
) -> Iterator[tuple[Path, Path | None, list[str], Path | None]]:
    """Give the parameters of a run, and the package that it replays, if it does.

    Without a parameters file they are those of the package.
    """
    from tars_ga_lib import parameters, verify

    head = "source.recording="
    named = [Path(each.removeprefix(head)) for each in overrides if each.startswith(head)]
    if file is not None:
        recording = parameters.load(file, overrides).parameters.source.recording
        if recording is not None and (recording.is_file() or _is_unpacked(recording)):
            with verify.unpacked(recording):
                pass  # it can be read, in little memory, where nothing of it can do harm
        yield file, output, [*overrides], recording if _is_package(recording) else None
        return
    if not named:
        raise ParametersError(
            "PARAMETERS: is missing; name the run's YAML file, or a package to replay with "
            "--set source.recording=PACKAGE"
        )
    others = [each for each in overrides if not each.startswith(head)]
    # Its files name variables of their maker, which nobody reads here: nothing is measured.
    before = os.environ.get(ALLOWED_VARIABLES, "")
    os.environ[ALLOWED_VARIABLES] = ANY_VARIABLE
    try:
        with verify.unpacked(named[-1]) as folder:
            name = verify.locate(named[-1]).name.partition(".")[0]
            default = output or Path("outputs") / f"replay_of_{name}"
            yield folder / "parameters" / "run.yaml", default, others, named[-1]
    finally:
        os.environ[ALLOWED_VARIABLES] = before


def _is_unpacked(folder: Path) -> bool:
    from tars_ga_lib import evidence

    return (folder / evidence.MANIFEST).is_file()


def _is_package(path: Path | None) -> bool:
    from tars_ga_lib import verify

    try:
        return path is not None and bool(verify.locate(path))
    except ParametersError:
        return False


def _show_changes(source: Path, certification: Mapping[str, Any]) -> None:
    """Say which verdicts differ from those of the package that was replayed."""
    from tars_ga_lib import history

    before = history.facts(source)
    after = {**before, **certification, "policy": None}
    found = history.difference(before, after)
    was, now = str(found["before"]["decision"]), str(certification["decision"])
    again = "the same" if was == now else f"[bold {COLOURS.get(was, 'red')}]{escape(was)}[/]"
    out.print(f"The package's own decision was {again}.")
    for table in history.tables(found, verdicts_only=True)[1:]:
        table.caption = "Criteria that changed from the package's own certification"
        print_table(table)


def _show(certification: dict[str, object]) -> None:
    from tars_ga_lib.wording import limit_text, value_text, why

    table = Table(box=None, pad_edge=False)
    for title in ("criterion", "verdict", "value", "target", ""):
        table.add_column(title, overflow="fold")
    for outcome in certification["criteria"]:  # type: ignore[attr-defined]
        colour = COLOURS[outcome["verdict"]]
        verdict = outcome["verdict"] + (" (waived)" if outcome["waiver"] else "")
        table.add_row(
            escape(outcome["title"]) + ("" if outcome["mandatory"] else " [dim](optional)[/]"),
            f"[{colour}]{verdict}[/]",
            escape(value_text(outcome)),
            escape(limit_text(outcome["target"], outcome["unit"])),
            f"[dim]{escape(outcome['reason'])}[/]",
        )
    out.print(table)
    decision = str(certification["decision"])
    out.print(f"[bold {COLOURS[decision]}]{decision}[/] {escape(why(certification))}")


def preflight(file: File, overrides: Overrides = None) -> None:
    """Check the parameters and ask each query at a few instants, before the long work.

    Exit codes: 0 all queries answer that mandatory criteria and objectives rest on, for every
    region and service, 4 one does not, 2 bad input. What else does not answer will read NO DATA.
    """
    from tars_ga_lib import parameters
    from tars_ga_lib.preflight import preflight as examine
    from tars_ga_lib.prometheus import SourceError

    job = parameters.load(file, overrides or [])
    window = job.parameters.window
    out.print(f"Parameters are good. Window: {interval_text(window.start, window.stop)}")
    try:
        missing = optional = 0
        for finding in examine(job):
            missing += not finding.ok and finding.needed
            optional += not finding.ok and not finding.needed
            bad = "[red]✗[/]" if finding.needed else "[yellow]○[/]"
            problem = f": {escape(finding.problem)}" if finding.problem else ""
            mark = "[green]✓[/]" if finding.ok else bad
            out.print(f"{mark} {escape(finding.request.id)}{problem}")
    except SourceError as error:
        err.print(f"[red]error:[/] {escape(str(error))}")
        raise typer.Exit(4) from None
    if missing:
        out.print(f"[red]✗[/] {missing} without which the decision would be INCONCLUSIVE")
    if optional:
        out.print(f"[yellow]○[/] {optional} that no decision rests on: what they tell is NO DATA")
    raise typer.Exit(4 if missing else 0)


def schema() -> None:
    """Print the JSON Schema of every file that a user writes, for editors and checks."""
    import json

    from tars_ga_lib import parameters

    typer.echo(json.dumps(parameters.schema(), indent=2, ensure_ascii=False))
