"""Commands on evidence packages: `package`, `keygen`, `verify`, `history` and `diff`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tars_ga_lib.cli.console import (
    COLOURS,
    Json,
    PublicKey,
    Sign,
    err,
    out,
    print_json,
    print_table,
    signer_of,
)
from tars_ga_lib.grammar import ParametersError

if TYPE_CHECKING:
    from tars_ga_lib.evidence.verify import Verification


def package(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    sign: Sign = None,
    public_key: PublicKey = None,
) -> None:
    """Build a finished run's evidence package again, for example to sign it.

    Its figures, decision and pages are computed again first, as for 'tars-ga verify --replay'.

    Exit codes: 0 built, 2 bad input.
    """
    from tars_ga_lib import atomic, made
    from tars_ga_lib.evidence import package as evidence
    from tars_ga_lib.evidence import replay

    signer = signer_of(sign, public_key)
    if (folder / "parameters" / "run.yaml").is_file():
        found = replay.replay_apart(folder, pages=True)
        if problem := next(replay.problems(found), None):
            raise ParametersError(
                f"{folder}: {problem[0]}: {problem[1]}; run it again, as what was changed by hand "
                "is not packed"
            )
    with atomic.writing(folder, str(folder)):
        built = evidence.build(folder, signer)
        made.record(folder, [evidence.ARCHIVE, f"{evidence.ARCHIVE}.sha256", evidence.EMAIL])
    who = f"signed by {built.signed_by}" if built.signed_by else "unsigned"
    out.print(f"{escape(str(built.archive))} ({who})\nSHA-256 {built.digest}")


def keygen(
    file: Annotated[Path, typer.Argument(help="The private key's file; FILE.pub is the public.")],
) -> None:
    """Make an Ed25519 key pair to sign packages with.

    Exit codes: 0 made, 2 a file is there already or cannot be written.
    """
    from tars_ga_lib.evidence import attestation

    public, keyid = attestation.keygen(file)
    out.print(f"Private key: {escape(str(file))} (keep it safe, and out of every run's folder)")
    out.print(f"Public key:  {escape(str(public))} (give it to whoever verifies)")
    out.print(f"Key id:      {keyid}")


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
            help="Relative difference that a replayed figure may have; 1e-9 if not given, as the "
            "last digits are the processor's.",
        ),
    ] = None,
    pages: Annotated[
        bool,
        typer.Option(
            "--pages/--no-pages", help="With --replay: render the report again and compare it."
        ),
    ] = True,
    memory: Annotated[
        float,
        typer.Option(min=0.25, metavar="GIB", help="With --replay: memory that it may take."),
    ] = 1.0,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="DIGEST|FILE",
            help="What it must have been certified under: the policy's SHA-256, a criteria file, "
            "or a folder with criteria.yaml, drift_rules.yaml and kpis.yaml.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check an evidence package, offline. Nothing of it is run.

    Exit codes: 0 all holds and the given key signed it, 1 something does not hold, 2 there is
    nothing to read, 4 nothing is wrong, but who made it is not proven (unsigned, or no --key). The
    decision in the package plays no part: a true refusal is verified as well.
    """
    from tars_ga_lib.evidence import attestation
    from tars_ga_lib.evidence import verify as verification

    trusted = attestation.load_key(key) if key else None
    found = verification.verify(
        path,
        trusted,
        replay=replay,
        tolerance=tolerance,
        pages=pages,
        memory=int(memory * 2**30),
        policy=policy,
    )
    if as_json:
        print_json(_facts(found))
        raise typer.Exit(found.exit_code)
    for text in found.holds:
        out.print(f"[green]✓[/] {escape(text)}")
    for failure in found.failures:
        out.print(f"[red]✗[/] {escape(str(failure))}")
    for text in found.unproven:
        out.print(f"[yellow]?[/] {escape(text)}")
    for text in found.notes:
        out.print(f"[dim]  {escape(text)}[/]")
    out.print(_verdict(found.exit_code, found.certification))
    if replay:
        out.print(f"[dim]The replay might take {memory:g} GiB of memory (--memory).[/]")
    if found.exit_code != 1 and found.fingerprint:
        compared = found.replay is not None and found.replay.pages
        where = "as on the report's pages" if compared else "of the certification"
        out.print(f"[dim]Fingerprint {found.fingerprint}[/], {where}")
    raise typer.Exit(found.exit_code)


def _facts(found: Verification) -> dict[str, Any]:
    """Return what a verification found, for programs; of a refused package, nothing it claims."""
    words = {0: "VERIFIED", 1: "REFUSED", 4: "ORIGIN NOT PROVEN"}
    claims = found.certification if found.exit_code != 1 else {}
    return {
        "exit_code": found.exit_code,
        "verdict": words[found.exit_code],
        "holds": found.holds,
        "failures": [{"file": each.file, "cause": each.cause} for each in found.failures],
        "unproven": found.unproven,
        "notes": found.notes,
        "sha256": found.digest or None,
        "policy": found.policy or None,
        "signed_by": found.signed_by,
        "release": claims.get("release"),
        "decision": claims.get("decision"),
        "simulated": claims.get("simulated"),
    }


def _verdict(code: int, certification: Mapping[str, Any]) -> str:
    from tars_ga_lib.evidence.tarball import printable

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


def history(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that holds packages.")],
    every: Annotated[
        bool, typer.Option("--all", help="Also list releases that were not certified.")
    ] = False,
) -> None:
    """List the certified releases among the packages below a folder.

    Exit codes: 0 all packages are whole, 1 one is not, 2 bad input.
    """
    from tars_ga_lib.evidence import history as past
    from tars_ga_lib.evidence.tarball import printable

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
            f"[{COLOURS.get(facts['decision'], 'red')}]{escape(printable(facts['decision']))}[/]",
            (each.signed_by or "nobody")[:12],
            each.digest[:12],
            escape(str(each.path)),
        )
    out.print(table if table.row_count else "No certified release.")
    if hidden := 0 if every else sum(not r.certified for r in sound):
        out.print(f"[dim]{hidden} not certified; --all lists them.[/]")
    for each in (r for r in found if r.problem):
        err.print(f"[red]✗[/] {escape(str(each.path))}: {escape(each.problem)}")
    raise typer.Exit(1 if any(r.problem for r in found) else 0)


def diff(
    before: Annotated[Path, typer.Argument(metavar="A", help="The earlier package.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="The later package.")],
    markdown: Annotated[bool, typer.Option("--markdown", help="Write Markdown.")] = False,
    as_json: Json = False,
) -> None:
    """Show what changed from one package to another: criteria, KPIs and findings.

    Exit codes: 0 shown, 2 a package cannot be read or is not whole.
    """
    from tars_ga_lib.evidence import history as past

    found = past.difference(past.facts(before), past.facts(after))
    if as_json:
        print_json(found)
        return
    if markdown:
        sys.stdout.write(past.markdown(found))
        return
    for table in past.tables(found):
        print_table(table)
