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
from tars_ga_lib.sanitise import one_line

if TYPE_CHECKING:
    from tars_ga_lib.evidence.verify import Verification


def package(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    sign: Sign = None,
    public_key: PublicKey = None,
) -> None:
    """Build a finished run's evidence package again, for example to sign it.

    Its figures, decision and pages are computed again first, as for 'tars-ga verify --replay', in
    processes of 1 GiB of memory at most.

    Exit codes: 0 built, 2 bad input.
    """
    from tars_ga_lib import atomic, made
    from tars_ga_lib.evidence import package as packages
    from tars_ga_lib.evidence.replay import replay_apart

    signer = signer_of(sign, public_key)
    if (folder / "parameters" / "run.yaml").is_file():
        problem = next(replay_apart(folder, pages=True).problems(), None)
        if problem:
            raise ParametersError(
                f"{folder}: {problem[0]}: {problem[1]}; run it again, as what was changed by hand "
                "is not packed"
            )
    with atomic.writing(folder, str(folder)):
        built = packages.build(folder, signer)
        made.record(folder, [packages.ARCHIVE, f"{packages.ARCHIVE}.sha256", packages.EMAIL])
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
        float,
        typer.Option(
            min=0,
            max=0.01,
            help="Relative difference that a replayed figure may have, as the last digits are the "
            "processor's.",
        ),
    ] = 1e-9,
    pages: Annotated[
        bool,
        typer.Option(
            "--pages/--no-pages", help="With --replay: render the report again and compare it."
        ),
    ] = True,
    memory: Annotated[
        float,
        typer.Option(
            min=0.25,
            metavar="GIB",
            help="With --replay: memory that each of its processes may take; it stops there.",
        ),
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
    out.print(_verdict(found))
    if replay:
        out.print(f"[dim]The replay might take {memory:g} GiB of memory (--memory).[/]")
    if found.exit_code != 1 and found.fingerprint:
        compared = found.replay is not None and found.replay.pages
        where = "as on the report's pages" if compared else "of the certification"
        out.print(f"[dim]Fingerprint {found.fingerprint}[/], {where}")
    raise typer.Exit(found.exit_code)


_VERDICTS = {0: "VERIFIED", 1: "REFUSED", 4: "ORIGIN NOT PROVEN"}
_VERDICT_COLOURS = {0: "green", 1: "red", 4: "yellow"}


def _facts(found: Verification) -> dict[str, Any]:
    """Return what a verification found, for programs; of a refused package, nothing it claims."""
    claims = found.certification if found.exit_code != 1 else {}
    return {
        "exit_code": found.exit_code,
        "verdict": _VERDICTS[found.exit_code],
        "holds": found.holds,
        "failures": [failure._asdict() for failure in found.failures],
        "unproven": found.unproven,
        "notes": found.notes,
        "sha256": found.digest or None,
        "policy": found.policy or None,
        "signed_by": found.signed_by,
        **{key: claims.get(key) for key in ("release", "decision", "simulated")},
    }


def _verdict(found: Verification) -> str:
    code, claims = found.exit_code, found.certification
    text = f"[bold {_VERDICT_COLOURS[code]}]{_VERDICTS[code]}[/]"
    if claims:
        simulated = " (SIMULATED data)" if claims["simulated"] else ""
        text += f" {_release(claims)}: {_plain(claims['decision'])}{simulated}"
    return text


def _plain(claim: object) -> str:
    """Write what a package claims, for a terminal."""
    return escape(one_line(str(claim)))


def _release(claims: Mapping[str, Any]) -> str:
    return _plain(f"{claims['release']['name']} {claims['release']['version']}")


def history(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that holds packages.")],
    every: Annotated[
        bool, typer.Option("--all", help="Also list releases that were not certified.")
    ] = False,
) -> None:
    """List the certified releases among the packages below a folder.

    Exit codes: 0 all packages are whole, 1 one is not, 2 bad input.
    """
    from tars_ga_lib.evidence.history import releases

    found = releases(folder)
    table = Table(box=None, pad_edge=False)
    for title in ("release", "window", "decision", "signed by", "SHA-256", "package"):
        table.add_column(title, overflow="fold")
    hidden = 0
    for one in (one for one in found if not one.failures):
        claims, decision = one.certification, str(one.certification["decision"])
        if not every and not decision.startswith("CERTIFIED"):
            hidden += 1
            continue
        table.add_row(
            _release(claims),
            _plain(f"{claims['window']['start'][:16]} to {claims['window']['end'][:16]}"),
            f"[{COLOURS.get(decision, 'red')}]{_plain(decision)}[/]",
            (one.signed_by or "nobody")[:12],
            one.digest[:12],
            escape(str(one.package)),
        )
    out.print(table if table.row_count else "No certified release.")
    if hidden:
        out.print(f"[dim]{hidden} not certified; --all lists them.[/]")
    damaged = [one for one in found if one.failures]
    for one in damaged:
        err.print(f"[red]✗[/] {escape(str(one.package))}: {escape(str(one.failures[0]))}")
    raise typer.Exit(1 if damaged else 0)


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
    elif markdown:
        sys.stdout.write(past.markdown(found))
    else:
        for table in past.tables(found):
            print_table(table)
