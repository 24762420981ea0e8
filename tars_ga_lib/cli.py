"""The command `tars-ga`.

Exit codes: 0 certified, 3 not certified, 4 inconclusive, 2 bad input, 1 an error of ours.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tars_ga_lib import __version__
from tars_ga_lib.parameters import ParametersError, interval_text

if TYPE_CHECKING:
    from tars_ga_lib.display import Table as Shown

app = typer.Typer(
    help="Certify a release from a day of production, with evidence.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# A table that goes to a file is not folded.
_out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
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

Sign = Annotated[
    str | None,
    typer.Option(
        envvar="TARS_GA_SIGNING_KEY",
        metavar="KEY",
        help="Sign the attestation with a private key's file (see 'tars-ga keygen'), or a key "
        "service's URI: gcpkms:, awskms:, azurekms:, hv:, hsm:, sigstore:.",
    ),
]
PublicKey = Annotated[
    Path | None, typer.Option("--public-key", help="Public key of a URI given to --sign.")
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
) -> None:
    """Collect, analyse, certify, write the report and pack the evidence.

    Exit codes: 0 certified, 3 not certified, 4 inconclusive, 2 bad input, 1 an error of ours.
    """
    from tars_ga_lib import pipeline
    from tars_ga_lib.criteria import EXIT_CODES

    signer = _signer(sign, public_key)
    with _given(file, output, overrides or []) as (file, output, overrides, source):
        result = pipeline.run(
            file,
            output,
            overrides,
            lambda name, seconds: _err.print(f"[green]✓[/] {name} [dim]{seconds:.1f} s[/]"),
            package=package,
            signer=signer,
        )
    _show(result.certification)
    if source is not None:
        _show_changes(source, result.certification)
    _out.print(f"Report: {escape(str(result.pdf))}")
    if package:
        _out.print(f"Evidence: {escape(str(result.archive))}{'' if sign else ' (unsigned)'}")
    code = EXIT_CODES[result.certification["decision"]]
    raise typer.Exit(0 if report_only else code)


def _signer(sign: str | None, public_key: Path | None) -> Any:
    from tars_ga_lib import attestation

    return attestation.load_signer(sign, public_key) if sign else None


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
        yield file, output, [*overrides], recording if _is_package(recording) else None
        return
    if not named:
        raise ParametersError(
            "PARAMETERS: is missing; name the run's YAML file, or a package to replay with "
            "--set source.recording=PACKAGE"
        )
    others = [each for each in overrides if not each.startswith(head)]
    with verify.unpacked(named[-1]) as folder:
        name = verify.locate(named[-1]).name.partition(".")[0]
        default = output or Path("outputs") / f"replay_of_{name}"
        yield folder / "parameters" / "run.yaml", default, others, named[-1]


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
    again = "the same" if was == now else f"[bold {_COLOURS.get(was, 'red')}]{escape(was)}[/]"
    _out.print(f"The package's own decision was {again}.")
    for table in history.tables(found, verdicts_only=True)[1:]:
        table.caption = "Criteria that changed from the package's own certification"
        _print_table(table)


def _print_table(shown: Shown) -> None:
    """Print a table of the library's."""
    facts = shown.to_json()
    _out.print(f"[bold]{escape(facts['caption'])}[/]")
    if not facts["rows"]:
        _out.print(escape(facts["empty"]))
        return
    table = Table(box=None, pad_edge=False)
    for column in facts["columns"]:
        table.add_column(column["title"], justify=column["align"], overflow="fold")
    for row in facts["rows"]:
        table.add_row(*(escape(cell) for cell in row))
    _out.print(table)
    if facts["note"]:
        _out.print(f"[dim]{escape(facts['note'])}[/]")


def _show(certification: dict[str, object]) -> None:
    from tars_ga_lib.wording import limit_text, value_text, why

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


# --- evidence ------------------------------------------------------------------------------------


@app.command()
def package(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    sign: Sign = None,
    public_key: PublicKey = None,
) -> None:
    """Build a finished run's evidence package again, for example to sign it.

    Exit codes: 0 built, 2 bad input.
    """
    from tars_ga_lib import atomic, evidence

    signer = _signer(sign, public_key)
    with atomic.writing(folder, str(folder)):
        built = evidence.build(folder, signer)
    who = f"signed by {built.signed_by}" if built.signed_by else "unsigned"
    _out.print(f"{escape(str(built.archive))} ({who})\nSHA-256 {built.digest}")


@app.command()
def keygen(
    file: Annotated[Path, typer.Argument(help="The private key's file; FILE.pub is the public.")],
) -> None:
    """Make an Ed25519 key pair to sign packages with.

    Exit codes: 0 made, 2 a file is there already or cannot be written.
    """
    from tars_ga_lib import attestation

    public, keyid = attestation.keygen(file)
    _out.print(f"Private key: {escape(str(file))} (keep it safe, and out of every run's folder)")
    _out.print(f"Public key:  {escape(str(public))} (give it to whoever verifies)")
    _out.print(f"Key id:      {keyid}")


@app.command()
def verify(
    path: Annotated[
        Path, typer.Argument(metavar="PACKAGE", help="The archive, or a folder unpacked from it.")
    ],
    key: Annotated[
        Path | None, typer.Option(help="Public key that must have signed the package.")
    ] = None,
    replay: Annotated[
        bool, typer.Option("--replay", help="Compute every figure again from its recording.")
    ] = False,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.01,
            help="Relative difference that a replayed figure may have; none with the same "
            "versions, 1e-9 with others.",
        ),
    ] = None,
) -> None:
    """Check an evidence package, offline. Nothing of it is run.

    Exit codes: 0 all holds and the given key signed it, 1 something does not hold, 2 there is
    nothing to read, 4 nothing is wrong, but who made it is not proven (unsigned, or no --key). The
    decision in the package plays no part: a true refusal is verified as well.
    """
    from tars_ga_lib import attestation
    from tars_ga_lib import verify as verification

    trusted = attestation.load_key(key) if key else None
    found = verification.verify(path, trusted, replay=replay, tolerance=tolerance)
    for text in found.holds:
        _out.print(f"[green]✓[/] {escape(text)}")
    for failure in found.failures:
        _out.print(f"[red]✗[/] {escape(str(failure))}")
    for text in found.unproven:
        _out.print(f"[yellow]?[/] {escape(text)}")
    for text in found.notes:
        _out.print(f"[dim]  {escape(text)}[/]")
    _out.print(_verdict(found.exit_code, found.certification))
    raise typer.Exit(found.exit_code)


def _verdict(code: int, certification: Mapping[str, Any]) -> str:
    from tars_ga_lib.archive import printable

    words = {
        0: "[bold green]VERIFIED[/]",
        1: "[bold red]REFUSED[/]",
        4: "[bold yellow]ORIGIN NOT PROVEN[/]",
    }
    try:
        release = certification["release"]
        what = f"{release['name']} {release['version']}: {certification['decision']}"
        if certification["simulated"]:
            what += " (SIMULATED data)"
    except (KeyError, TypeError):
        return words[code]
    return f"{words[code]} {escape(printable(what))}"


@app.command()
def history(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that holds packages.")],
    every: Annotated[
        bool, typer.Option("--all", help="Also list releases that were not certified.")
    ] = False,
) -> None:
    """List the certified releases among the packages below a folder.

    Exit codes: 0 all packages are whole, 1 one is not, 2 bad input.
    """
    from tars_ga_lib import history as past
    from tars_ga_lib.archive import printable

    found = past.releases(folder)
    table = Table(box=None, pad_edge=False)
    for title in ("release", "window", "decision", "signed by", "SHA-256", "package"):
        table.add_column(title, overflow="fold")
    sound = [r for r in found if not r.problem and r.certification]
    for each in (r for r in sound if every or r.certified):
        facts = each.certification or {}
        release, window = facts["release"], facts["window"]
        table.add_row(
            escape(printable(f"{release['name']} {release['version']}")),
            escape(printable(f"{window['start'][:16]} to {window['end'][:16]}")),
            f"[{_COLOURS.get(facts['decision'], 'red')}]{escape(printable(facts['decision']))}[/]",
            (each.signed_by or "nobody")[:12],
            each.digest[:12],
            escape(str(each.path)),
        )
    _out.print(table if table.row_count else "No certified release.")
    if hidden := 0 if every else sum(not r.certified for r in sound):
        _out.print(f"[dim]{hidden} not certified; --all lists them.[/]")
    for each in (r for r in found if r.problem):
        _err.print(f"[red]✗[/] {escape(str(each.path))}: {escape(each.problem)}")
    raise typer.Exit(1 if any(r.problem for r in found) else 0)


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(metavar="A", help="The earlier package.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="The later package.")],
    markdown: Annotated[bool, typer.Option("--markdown", help="Write Markdown.")] = False,
) -> None:
    """Show what changed from one package to another: criteria, KPIs and findings.

    Exit codes: 0 shown, 2 a package cannot be read or is not whole.
    """
    from tars_ga_lib import history as past

    found = past.difference(past.facts(before), past.facts(after))
    if markdown:
        sys.stdout.write(past.markdown(found))
        return
    for table in past.tables(found):
        _print_table(table)


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
    except SystemExit as end:
        if end.code == 130:  # what typer makes of a KeyboardInterrupt, without a word
            _err.print("interrupted; earlier results are untouched")
        raise
    except Exception as error:
        _err.print(
            f"[red]error:[/] {type(error).__name__}: {escape(str(error))}\n"
            "This is an error of tars-ga itself; earlier results are untouched."
        )
        sys.exit(1)
