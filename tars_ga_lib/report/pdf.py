"""The report as a PDF, set by Typst.

What is in the blocks reaches Typst as JSON and is set as text there, so that nothing in the data
can become markup. Prose becomes markup by :mod:`tars_ga_lib.report.prose`.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tars_ga_lib import sparks
from tars_ga_lib.display import TONES, chip, decision_notes, font_folder, printable
from tars_ga_lib.fingerprint import qr_svg
from tars_ga_lib.report.blocks import (
    PARTS,
    Block,
    Notebook,
    Paper,
    ReportError,
    blocks,
    decision_of,
    title_of,
)
from tars_ga_lib.report.prose import to_typst

TEMPLATES = Path(__file__).parent / "templates"


def to_pdf(
    notebook: Notebook,
    *,
    paper: Paper = "a4",
    timestamp: int | None = None,
) -> bytes:
    """Set an executed notebook as a PDF.

    Parameters
    ----------
    notebook : mapping
        A notebook as nbformat or ``json.load`` reads it.
    paper : {"a4", "us-letter"}
    timestamp : int, optional
        Seconds since 1970 that date the document. Unless given: the end of the window in the
        decision's banner, else ``SOURCE_DATE_EPOCH``, else 1970. Never now.

    Raises
    ------
    ReportError
        If the notebook failed, was not run, or cannot be set.
    """
    import typst

    found = blocks(notebook)
    source: Any = _source(found).encode()
    document = json.dumps(_document(found, paper), ensure_ascii=False)
    fonts = typst.Fonts(include_system_fonts=False, font_paths=[str(font_folder())])
    try:
        # PDF/A for the archive, PDF/UA for those who have the report read to them
        return typst.compile(
            source,
            root=str(TEMPLATES),
            font_paths=fonts,
            sys_inputs={"doc": document},
            timestamp=_timestamp(found, timestamp),
            pdf_standards=["a-2a", "ua-1"],
        )
    except RuntimeError as error:
        raise ReportError(f"the report could not be set: {error}") from error


def _timestamp(found: Sequence[Block], timestamp: int | None) -> int:
    if timestamp is not None:
        return timestamp
    decision = decision_of(found)
    if decision:
        return int(datetime.fromisoformat(decision["time"]).timestamp())
    return int(os.environ.get("SOURCE_DATE_EPOCH", "0"))


_SETTERS = {"decision": "banner", "table": "data-table", "figure": "chart", "image": "picture",
            "plain": "plain"}  # fmt: skip


def _source(found: Sequence[Block]) -> str:
    """Write the Typst document: prose as markup, everything else as a place in the JSON."""
    prose = iter(_typst_prose([b["text"] for b in found if b["kind"] == "prose"]))
    lines = [
        '#import "report.typ": *',
        "#let doc = json(bytes(sys.inputs.doc))",
        "#show: report.with(doc)",
    ]
    for place, block in enumerate(found):
        if block["kind"] == "prose":
            lines += _typst_chunk(block["text"].strip(), next(prose), found[place + 1 :])
        elif block["kind"] == "contents":
            lines.append("#contents()")
        else:
            lines.append(f"#{_SETTERS[block['kind']]}(doc.blocks.at({place}))")
    return "\n\n".join(lines) + "\n"


def _typst_chunk(markdown: str, typst: str, rest: Sequence[Block]) -> list[str]:
    """Set one chunk of prose; a short one stays with the table or chart that it introduces."""
    lines = ["#part()"] if re.match(rf"{PARTS}\s", markdown) else []
    if len(markdown) < _SHORT and rest and rest[0]["kind"] in _SETTERS:
        above = "0pt" if lines else "14pt" if re.match(r"###+\s", markdown) else "auto"
        return [*lines, f"#leading(above: {above})[\n{typst}\n]"]
    return [*lines, typst]


_SHORT = 500  # letters; about six lines


def _typst_prose(texts: Sequence[str]) -> list[str]:
    """Turn Markdown into Typst markup."""
    drawn = ["\n".join(_breakable(printable(line)) for line in text.splitlines()) for text in texts]
    return to_typst(drawn)


_LONG_WORD = re.compile(r"[^\s`()\[\]<>/\\]{48,}")


def _breakable(line: str) -> str:
    """Let a word that is longer than a line break, as a name from the data may be."""
    return _LONG_WORD.sub(lambda m: "\u200b".join(re.findall(".{1,24}", m[0])), line)


def _document(found: Sequence[Block], paper: Paper) -> dict[str, Any]:
    """Collect what the template is given, every text cut where it may break."""
    decision = decision_of(found)
    title = printable(title_of(found))
    document: dict[str, Any] = {
        "blocks": [_set_block(block) for block in found],
        "footer": pieces(_brief(title, 90)),
        "header": pieces(_brief(title, 90)),
        "keywords": [],
        "look": None,
        "mark": "",
        "paper": paper,
        "title": title,
    }
    if decision:
        release = printable(decision["release"])
        document["title"] = f"{title} – {release}"
        document["header"] = pieces(f"{_brief(release, 40)} · {decision['window']}")
        if decision["fingerprint"]:
            document["footer"] = [f"Fingerprint {decision['fingerprint']}"]
        document["keywords"] = [decision["decision"], release]
        document["look"] = _look(decision["decision"])
        marks = {"SIMULATED DATA": decision["simulated"], "DRAFT": decision["draft"]}
        document["mark"] = " · ".join(mark for mark, shown in marks.items() if shown)
    return document


def _brief(text: str, most: int) -> str:
    """Shorten what is only repeated at the edge of each page; the banner holds it in full."""
    return text if len(text) <= most else text[: most - 1] + "…"


def _look(verdict: str) -> dict[str, str]:
    look = chip(verdict)
    tint, ink, strong = TONES[look.tone]
    return {"text": look.text, "tint": tint, "ink": ink, "strong": strong}


def _set_block(block: Block) -> dict[str, Any]:
    """Return what the template needs of one block."""
    kind = block["kind"]
    if kind == "decision":
        return {
            "look": _look(block["decision"]),
            "reason": pieces(block["reason"]),
            "notes": decision_notes(block),
            "facts": [[pieces(label), pieces(value)] for label, value in block["facts"]],
            "code": qr_svg(block["proof"]) if block["proof"] else None,
            "mark": block["fingerprint"],
            "alt": printable(f"QR code that holds the lines: {block['proof'].rstrip()}"),
        }
    if kind == "table":
        return _set_table(block)
    if kind == "figure":
        return {
            "alt": printable(block["alt"]),
            "caption": pieces(block["caption"]),
            "label": block["label"],
            "svg": block["svg"],
        }
    if kind == "image":
        return {"alt": printable(block["alt"]), "format": "png",
                "data": list(base64.b64decode(block["png"]))}  # fmt: skip
    if kind == "plain":
        return {"lines": [pieces(line) or [" "] for line in block["text"].splitlines()]}
    return {}


_AFTER = re.compile(r"(?<=[^\w\s])(?=\w)|(?<=[,;:=/|&_.-])(?=[^\s])|(?<=[a-z])(?=[A-Z])")


def pieces(text: object, most: int = 12) -> list[str]:
    """Cut a text where a line may break inside its long words: after marks, else anywhere.

    Typst breaks at spaces only, and a query or a digest has none. The cuts leave no trace in the
    text that is copied out of the PDF.
    """
    found: list[str] = []
    at = 0
    string = printable(text)
    longest = 18 if most >= 12 else most * 4 // 3 + 1  # letters that are not all broad
    for match in re.finditer(rf"\S{{{longest},}}", string):
        found.append(string[at : match.start()])
        for part in _AFTER.split(match[0]):
            found += [part[i : i + most] for i in range(0, len(part), most)]
        at = match.end()
    found.append(string[at:])
    return _joined((piece for piece in found if piece), most)


def _joined(parts: Iterable[str], most: int) -> list[str]:
    """Join short pieces: a break after every dot of an address is not wanted."""
    found: list[str] = []
    for part in parts:
        if found and len(found[-1]) + len(part) <= most and " " not in found[-1] + part:
            found[-1] += part
        else:
            found.append(part)
    return found


# --- tables: Typst shares the line among the columns ---

_LINE = 490.0  # points between the margins of an A4 page; Letter has a little more
_SIZES = ((6, 8.5), (8, 8.0), (9, 7.5), (10, 7.0), (12, 6.5))
"""Columns that a type size, in points, is good for."""
_PAD = 9.0  # points of air that a column adds


def _set_table(block: Block) -> dict[str, Any]:
    columns, rows = block["columns"], block["rows"]
    size = next((size for most, size in _SIZES if len(columns) <= most), 6.0)
    # letters (bold ones) that a column has room for where all columns want much
    letters = max(min(int((_LINE / len(columns) - _PAD) / size / 0.75), 12), 1) if rows else 12

    def cut(text: str) -> list[str]:
        return pieces(text.replace("\u00a0", " ") if letters < 8 else text, letters)

    lines = sum(1 + max((len(str(cell)) for cell in row), default=0) // 32 for row in rows)
    return {
        "breakable": lines > 18,  # a short table is not torn apart by a page
        "caption": pieces(block["caption"]),
        "columns": [{**column, "title": cut(column["title"])} for column in columns],
        "empty": pieces(block["empty"]),
        "label": block["label"],
        "note": pieces(block["note"]),
        "rows": [
            [_set_cell(c["kind"], cell, cut) for c, cell in zip(columns, row, strict=True)]
            for row in rows
        ],
        "shares": _shares(block),
        "tall": any(column["kind"] == "blank" for column in columns),
        "size": size,
    }


def _shares(block: Block) -> list[int]:
    """Return what each column takes of the line that is left; 0 for as much as its cells ask.

    Where a text is long, texts share the line by their lengths, and figures stay on one line.
    """
    columns = block["columns"]
    if any(column["kind"] == "blank" for column in columns):  # room to write by hand
        return [40 if column["kind"] == "blank" else 0 for column in columns]
    longest = [
        max((len(row[place]) for row in block["rows"]), default=0)
        if column["kind"] in ("text", "number", "code")
        else 0
        for place, column in enumerate(columns)
    ]
    if len(columns) > 7 or max(longest, default=0) <= 60:
        return [0 for _ in columns]
    return [min(letters, 80) if letters > 16 else 0 for letters in longest]


def _set_cell(kind: str, value: Any, cut: Callable[[str], list[str]]) -> Any:
    if kind == "verdict":
        return _look(value)
    if kind == "spark":
        drawn = value and {"svg": sparks.svg(value), "alt": printable(value["alt"])}
        return drawn or {"svg": "", "alt": ""}
    return cut(value)
