"""Commands of a run: `run`, `preflight` and `schema`."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tars_ga_lib.cli.console import (
    COLOURS,
    File,
    Json,
    Overrides,
    PublicKey,
    Sign,
    err,
    out,
    print_json,
    print_table,
    signer_of,
)
from tars_ga_lib.grammar import (
    ALLOWED_VARIABLES,
    ANY_VARIABLE,
    ParametersError,
    format_time,
    interval_text,
)

if TYPE_CHECKING:
    from rich.console import Console

    from tars_ga_lib.parameters import Job
    from tars_ga_lib.pipeline import Result


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
    as_json: Json = False,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the criteria as JUnit XML.")
    ] = None,
    summary: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Add the decision in Markdown to a file, as to GitHub's $GITHUB_STEP_SUMMARY.",
        ),
    ] = None,
) -> None:
    """Collect, analyse, certify, write the report and pack the evidence.

    The recording of a package is first read in a process of 1 GiB of memory at most.

    Exit codes: 0 certified, 3 not certified, 4 inconclusive, 2 bad input, 1 an error of ours.
    """
    from tars_ga_lib import atomic, ci, parameters, pipeline
    from tars_ga_lib.cli.notify import channels_of, show, told
    from tars_ga_lib.decisions import EXIT_CODES
    from tars_ga_lib.live import notify as notifications

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
    code = 0 if report_only else EXIT_CODES[result.certification["decision"]]
    if junit:
        with atomic.writing(junit, f"--junit {junit}"), atomic.file(junit) as stream:
            stream.write(ci.junit(result.certification))
    if summary:
        with atomic.writing(summary, f"--summary {summary}"), summary.open("ab") as stream:
            stream.write(ci.summary(result.certification).encode())
    if as_json:
        package_file = str(result.archive) if package else None
        print_json({
            "exit_code": code,
            "folder": str(result.folder),
            "report": str(result.pdf),
            "package": package_file,
            "kept": result.kept,
            **result.certification,
        })  # fmt: skip
    else:
        _say(result, source, package=package, signed=bool(sign))
    if channels is not None:
        event = notifications.decision(result.certification)
        receipts = notifications.tell(channels, event, notifications.log_of(result.folder))
        show(receipts, err if as_json else out)
    raise typer.Exit(code)


def _say(result: Result, source: Path | None, *, package: bool, signed: bool) -> None:
    """Say how a run ended: criteria, decision, and where its results are."""
    _show(result.certification)
    if result.kept:
        some = ", ".join(result.kept[:5]) + (", …" if len(result.kept) > 5 else "")
        out.print(f"Kept aside, as they were changed after the earlier run: {escape(some)}")
    if source is not None:
        _show_changes(source, result.certification)
    out.print(f"Report: {escape(str(result.pdf))}")
    if package:
        out.print(f"Evidence: {escape(str(result.archive))}{'' if signed else ' (unsigned)'}")


@contextlib.contextmanager
def _given(
    file: Path | None, output: Path | None, overrides: Sequence[str]
) -> Iterator[tuple[Path, Path | None, list[str], Path | None]]:
    """Give the parameters of a run, and the package that it replays, if it does.

    Without a parameters file they are those of the package.
    """
    from tars_ga_lib import parameters
    from tars_ga_lib.evidence import verify

    if file is not None:
        job = parameters.load(file, overrides)
        say_left_out(job, err)
        recording = job.parameters.source.recording
        package = None
        with contextlib.suppress(ParametersError):
            package = recording and verify.locate(recording)
        if package and package == recording:
            with verify.unpacked(package):
                pass  # it can be read, in little memory, where nothing of it can do harm
        yield file, output, [*overrides], recording if package else None
        return
    head = "source.recording="
    named = [Path(one.removeprefix(head)) for one in overrides if one.startswith(head)]
    if not named:
        raise ParametersError(
            "PARAMETERS: is missing; name the run's YAML file, or a package to replay with "
            "--set source.recording=PACKAGE"
        )
    others = [one for one in overrides if not one.startswith(head)]
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


def _show_changes(source: Path, certification: Mapping[str, Any]) -> None:
    """Say which verdicts differ from those of the package that was replayed."""
    from tars_ga_lib.evidence import history

    before = history.facts(source)
    after = {**before, **certification, "policy": None}
    found = history.difference(before, after)
    was, now = str(found["before"]["decision"]), str(certification["decision"])
    again = "the same" if was == now else f"[bold {COLOURS.get(was, 'red')}]{escape(was)}[/]"
    out.print(f"The package's own decision was {again}.")
    for table in history.tables(found, verdicts_only=True)[1:]:
        table.attrs["caption"] = "Criteria that changed from the package's own certification"
        print_table(table)


def _show(certification: dict[str, object]) -> None:
    from tars_ga_lib.wording import criteria_rows, why

    table = Table(box=None, pad_edge=False)
    for title in ("criterion", "verdict", "value", "target", ""):
        table.add_column(title, overflow="fold")
    for row in criteria_rows(certification["criteria"]):  # type: ignore[arg-type]
        table.add_row(
            escape(row.title) + ("" if row.mandatory else " [dim](optional)[/]"),
            f"[{COLOURS[row.verdict]}]{row.verdict}{' (waived)' if row.waived else ''}[/]",
            escape(row.value),
            escape(row.target),
            f"[dim]{escape(row.reason)}[/]",
        )
    out.print(table)
    decision = str(certification["decision"])
    out.print(f"[bold {COLOURS[decision]}]{decision}[/] {escape(why(certification))}")


def left_out_by_kind(job: Job) -> dict[str, list[str]]:
    """Return the names of what the parameters leave out, by kind."""
    found: dict[str, list[str]] = {}
    for what, name in job.left_out:
        found.setdefault(what, []).append(name)
    return found


def say_left_out(job: Job, where: Console) -> None:
    """Say what the parameters leave out, if anything."""
    if job.left_out:
        texts = []
        for what, names in left_out_by_kind(job).items():
            some = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
            texts.append(f"{what} {some}")
        where.print(f"[yellow]left out by the parameters:[/] {escape('; '.join(texts))}")


def preflight(file: File, overrides: Overrides = None, as_json: Json = False) -> None:
    """Check the parameters, each query and what was scraped, before the long work.

    Of a window that has not ended, the last hours before now are looked at. Exit codes: 0 all
    queries answer that mandatory criteria and objectives rest on, for every region and service, and
    their scrapes were seen; 4 one does not; 2 bad input. What else is missing will read NO DATA.
    """
    from tars_ga_lib import parameters
    from tars_ga_lib.preflight import interval
    from tars_ga_lib.preflight import preflight as examine
    from tars_ga_lib.prometheus import SourceError

    job = parameters.load(file, overrides or [], running=True)
    window = job.parameters.window
    start, stop = interval(job)
    findings = []
    try:
        for finding in examine(job):
            findings.append(finding)
    except SourceError as error:
        err.print(f"[red]error:[/] {escape(str(error))}")
        raise typer.Exit(4) from None
    problems: dict[tuple[bool, str], list[str]] = {}
    for finding in findings:
        if not finding.ok:
            problems.setdefault((finding.needed, finding.problem), []).append(finding.request.id)
    missing = sum(needed for needed, _ in problems)
    if as_json:
        print_json({
            "exit_code": 4 if missing else 0,
            "window": {"start": format_time(window.start), "end": format_time(window.stop)},
            "looked_at": {"start": format_time(start), "end": format_time(stop)},
            "left_out": [" ".join(names) for names in job.left_out],
            "queries": [
                {"id": one.request.id, "query": one.request.query, "ok": one.ok,
                 "needed": one.needed, "problem": one.problem}
                for one in findings
            ],
        })  # fmt: skip
        raise typer.Exit(4 if missing else 0)
    out.print(f"Parameters are good. Window: {interval_text(window.start, window.stop)}")
    if (start, stop) != (window.start, window.stop):
        out.print(f"It has not ended; looked at: {interval_text(start, stop)}")
    say_left_out(job, out)
    out.print(f"[green]✓[/] {sum(one.ok for one in findings)} queries answer")
    for (needed, problem), queries in sorted(problems.items(), key=lambda one: not one[0][0]):
        mark = "[red]✗[/]" if needed else "[yellow]○[/]"
        listed = ", ".join(dict.fromkeys(name.partition(".")[0] for name in queries))
        out.print(f"{mark} {escape(problem)} [dim]({escape(listed)})[/]")
    if missing:
        out.print(f"[red]✗[/] {missing} without which the decision would be INCONCLUSIVE")
    if optional := len(problems) - missing:
        out.print(f"[yellow]○[/] {optional} that no decision rests on: what they tell is NO DATA")
    raise typer.Exit(4 if missing else 0)


def show(file: File, overrides: Overrides = None) -> None:
    """Print the effective files of a run, with what is laid over them and where each line is from.

    Exit codes: 0 printed, 2 bad input.
    """
    from tars_ga_lib import layers, parameters

    effective = parameters.effective(file, overrides or [])
    job, problem = None, None
    try:
        job = parameters.load(file, overrides or [], now=math.inf)
    except ParametersError as error:
        problem = error  # what is wrong is easier to mend where all is seen
    for key, layered in effective.items():
        typer.echo(f"# --- {key or file} ---")
        lines = layers.with_origins(layered)
        width = min(max(len(line) for line, _ in lines), 60)
        for line, origin in lines:
            typer.echo(f"{line:<{width}}  # {origin}" if origin else line)
    if job:
        say_left_out(job, err)
    if problem:
        raise problem


def schema(
    folder: Annotated[
        Path | None,
        typer.Option(
            help="Write schema.json, and a schema for each kind of file, into this folder."
        ),
    ] = None,
) -> None:
    """Print the JSON Schema of every file that a user writes, for editors and checks."""
    import json

    from tars_ga_lib import atomic, parameters

    if folder is None:
        typer.echo(json.dumps(parameters.schema(), indent=2, ensure_ascii=False))
        return
    for name, content in parameters.schema_files().items():
        with atomic.writing(folder, f"--folder {folder}"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
            (folder / name).write_text(text, encoding="utf-8")
