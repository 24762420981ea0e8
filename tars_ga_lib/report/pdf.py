"""The report as a PDF, set by Typst.

What is in the blocks reaches Typst as JSON and is set as text there, so that nothing in the data
can become markup. Prose becomes markup by :mod:`tars_ga_lib.report.prose`.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tars_ga_lib import sparks
from tars_ga_lib.display import TONES, chip, decision_notes, font_folder, printable, text_width
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
    for match in re.finditer(rf"\S{{{min(most + 6, 18) if most >= 12 else most + 1},}}", string):
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


# --- tables: widths that fit the page, whatever is in them ---

_LINE = 490.0  # points between the margins of an A4 page; Letter has a little more
_SIZES = (8.5, 8.0, 7.5, 7.0, 6.5, 6.0)
_PAD = 9.0  # points of air that a column adds


def _set_table(block: Block) -> dict[str, Any]:
    kinds = [column["kind"] for column in block["columns"]]
    widths, size, width, most = _widths(block)
    lines = _lines(block, widths, size)

    def cut(text: str) -> list[str]:
        return pieces(text.replace("\u00a0", " ") if most < 12 else text, most)

    return {
        "breakable": lines > 16,
        "caption": pieces(block["caption"]),
        "columns": [{**column, "title": cut(column["title"])} for column in block["columns"]],
        "empty": pieces(block["empty"]),
        "label": block["label"],
        "note": pieces(block["note"]),
        "rows": [
            [_set_cell(k, v, cut) for k, v in zip(kinds, row, strict=True)] for row in block["rows"]
        ],
        "tall": "blank" in kinds,
        "size": size,
        "width": width,
        "widths": widths,
    }


def _set_cell(kind: str, value: Any, cut: Callable[[str], list[str]]) -> Any:
    if kind == "verdict":
        return _look(value)
    if kind == "spark":
        drawn = value and {"svg": sparks.svg(value), "alt": printable(value["alt"])}
        return drawn or {"svg": "", "alt": ""}
    return cut(value)


def _widths(block: Block) -> tuple[list[float], float, float, int]:
    """Share the line among the columns, in the largest type in which it reads well.

    Returns
    -------
    widths, size, width, most
        Width of each column and type size in points, width of the whole table as a share of the
        line, and the most letters that stay together in a long word.
    """
    if not block["rows"]:
        return [1.0 for _ in block["columns"]], _SIZES[0], 1.0, 12
    wanted, least = _demands(block)
    pad = _PAD * len(wanted)
    fitting = [size for size in _SIZES if sum(least) * size + pad <= _LINE]
    if fitting:
        # smaller type only where it saves lines, and the smallest only where nothing else fits
        lines = {s: min(sum(wanted) * s + pad, _LINE) for s in fitting if s >= 7 or s == fitting[0]}
        shared = {size: _shared(wanted, least, size, line) for size, line in lines.items()}
        heights = {s: _lines(block, each[0], s) * (1.2 * s + 5) for s, each in shared.items()}
        return shared[max(s for s, high in heights.items() if high <= 1.12 * min(heights.values()))]
    # more columns than the page holds words of: break the words as finely as the columns ask
    size = _SIZES[-1]
    room = (_LINE / len(wanted) - _PAD) / size / 0.75  # a bold letter
    return [1.0 for _ in wanted], size, 1.0, max(int(room), 1)


def _demands(block: Block) -> tuple[list[float], list[float]]:
    """Return for each column, in em, the width of its longest cell and of its longest word."""
    wanted, least = [], []
    for place, column in enumerate(block["columns"]):
        kind = column["kind"]
        cells = [row[place] for row in block["rows"]]
        # a head may take two lines, so only its words count
        head = max((text_width(word, BOLD) for word in _words(column["title"])), default=0.0)
        whole = max((_cell_width(kind, cell) for cell in cells), default=0.0)
        words = whole
        if kind in ("text", "number", "code"):
            words = max((_cell_width(kind, w) for cell in cells for w in _words(cell)), default=0.0)
        wanted.append(max(head, whole) + 0.2)
        least.append(max(head, words) + 0.2)
    return wanted, least


def _lines(block: Block, widths: Sequence[float], size: float) -> int:
    """Estimate the lines of a table's body: a short table is not torn apart by a page."""
    kinds = [column["kind"] for column in block["columns"]]
    return sum(
        max(
            math.ceil(_cell_width(kind, cell) * size / max(width - _PAD, size))
            for kind, cell, width in zip(kinds, row, widths, strict=True)
        )
        for row in block["rows"]
    )


BOLD = "DejaVuSans-Bold"


def _cell_width(kind: str, text: str) -> float:
    """Width of a cell on one line, in em of the table's type; as the template sets it."""
    if kind == "spark":
        return 9.8
    if kind == "blank":
        return max(text_width(printable(text)), 10.0)  # room to write by hand
    if kind == "verdict":
        return 0.88 * text_width(chip(text).text, BOLD) + 1.0
    if kind == "code":
        return 0.92 * text_width(printable(text), "DejaVuSansMono")
    return text_width(printable(text))


def _words(text: str) -> list[str]:
    """Return what stays together when a text is broken into lines."""
    return [word for piece in pieces(text) for word in piece.split(" ")]


def _shared(
    wanted: Sequence[float], least: Sequence[float], size: float, line: float
) -> tuple[list[float], float, float, int]:
    """Give each column its longest word, and the rest of the line to those that want more.

    Who wants little gets all of it, so that times and figures stay on one line and only the
    longest texts wrap.
    """
    free = max(line - _PAD * len(wanted) - sum(least) * size, 0.0)
    widths = [need * size + _PAD for need in least]
    more = [(want - need) * size for want, need in zip(wanted, least, strict=True)]
    hungry = sorted(range(len(more)), key=lambda i: more[i])
    for place, column in enumerate(hungry):
        given = min(more[column], free / (len(hungry) - place))
        widths[column] += given
        free -= given
    # a table that nearly fills the line fills it, so that the tables of a page align
    return widths, size, 1.0 if line > 0.7 * _LINE else line / _LINE, 12
