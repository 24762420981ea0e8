"""What the commands share: where they print, how a table reads in a terminal, common options."""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
import unicodedata
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tars_ga_lib import sanitise

if TYPE_CHECKING:
    import pandas as pd
    from securesystemslib.signer import Signer


class _Console(Console):
    """A console whose sentences are not broken, whose tables fit, and that no text can steer."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Turn a string, of a cell too, into what is shown."""
        return super().render_str(sanitise.text(text), **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print; a table that goes to a file of no known width is not folded."""
        fits = any(isinstance(each, Table) for each in objects) and _bounded(self.file)
        options.setdefault("soft_wrap", not fits)
        super().print(*objects, **options)


def _bounded(stream: IO[str]) -> bool:
    """Whether the width is known: a terminal's, or what COLUMNS says."""
    return stream.isatty() or os.environ.get("COLUMNS", "").isdigit()


out = _Console(highlight=False, width=None if _bounded(sys.stdout) else 160)
err = _Console(stderr=True, highlight=False)

_PLAIN = {
    "✓": "+", "✗": "x", "○": "o", "▲": "!", "◇": "*", "•": "*", "≥": ">=", "≤": "<=", "≠": "!=",
    "–": "-", "—": "-", "−": "-", "±": "+/-", "×": "x", "…": "...", "·": "-", "→": "->", "↵": " ",
    "‹": "<", "›": ">", "“": '"', "”": '"', "’": "'", "µ": "u", "\u00a0": " ", "━": "-", "╸": "-",
}  # fmt: skip
"""Characters that we print, as a terminal can write them that knows ASCII only."""


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """Write what a terminal's encoding does not have in plain letters, or as a question mark."""
    assert isinstance(error, UnicodeEncodeError)

    def plain(character: str) -> str:
        letters = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
        return _PLAIN.get(character) or letters or "?"

    text = "".join(map(plain, error.object[error.start : error.end]))
    # What is put in goes through the same encoder, and most encoders have ASCII.
    return text, error.end


def print_what_the_terminal_can() -> None:
    """Never let an output stream die of a character that its encoding does not have."""
    codecs.register_error("tars-ga.plain", _plainly)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="tars-ga.plain")


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

Json = Annotated[
    bool, typer.Option("--json", help="Write the result as JSON to the standard output.")
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


def print_json(document: object) -> None:
    """Print a result for a program: one JSON document, and nothing else on this stream."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


_WHOLE = 44
"""Letters up to which names stay whole, so that they can be copied."""


def print_table(shown: pd.DataFrame) -> None:
    """Print a table of the library's."""
    from tars_ga_lib.tables import written

    facts = written(shown)
    out.print(f"[bold]{escape(facts['caption'])}[/]")
    if not facts["rows"]:
        out.print(escape(facts["empty"]))
        return
    table = Table(box=None, pad_edge=False)
    for place, column in enumerate(facts["columns"]):
        widest = max(len(row[place] or "") for row in facts["rows"])
        names = column["kind"] == "code" and widest <= _WHOLE
        table.add_column(column["title"], justify=column["align"], overflow="fold", no_wrap=names)
    for row in facts["rows"]:
        table.add_row(*(escape(cell) for cell in row))
    out.print(table)
    if facts["note"]:
        out.print(f"[dim]{escape(facts['note'])}[/]")


def signer_of(sign: str | None, public_key: Path | None) -> Signer | None:
    """Return who signs, from the options `--sign` and `--public-key`; None where nobody does."""
    from tars_ga_lib.evidence import attestation

    return attestation.load_signer(sign, public_key) if sign else None
