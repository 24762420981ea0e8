"""What the commands share: where they print, how a table reads in a terminal, common options."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd
    from securesystemslib.signer import Signer

# A table that goes to a file is not folded.
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
err = Console(stderr=True, highlight=False, soft_wrap=True)

COLOURS = {
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


def print_table(shown: pd.DataFrame) -> None:
    """Print a table of the library's."""
    from tars_ga_lib.tables import written

    facts = written(shown)
    out.print(f"[bold]{escape(facts['caption'])}[/]")
    if not facts["rows"]:
        out.print(escape(facts["empty"]))
        return
    table = Table(box=None, pad_edge=False)
    for column in facts["columns"]:
        table.add_column(column["title"], justify=column["align"], overflow="fold")
    for row in facts["rows"]:
        table.add_row(*(escape(cell) for cell in row))
    out.print(table)
    if facts["note"]:
        out.print(f"[dim]{escape(facts['note'])}[/]")


def signer_of(sign: str | None, public_key: Path | None) -> Signer | None:
    """Return who signs, from the options `--sign` and `--public-key`; None where nobody does."""
    from tars_ga_lib import attestation

    return attestation.load_signer(sign, public_key) if sign else None
