"""The report as a PDF, set by Typst.

What is in the blocks reaches Typst as JSON and is set as text there, so that nothing in the data
can become markup; the template breaks long words and shares the line among the columns of a table.
Prose becomes markup by :mod:`tars_ga_lib.report.prose`.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tars_ga_lib.display import CHIPS, TONES, font_folder, printable
from tars_ga_lib.fingerprint import qr_svg
from tars_ga_lib.report.blocks import (
    Block,
    Notebook,
    Paper,
    Part,
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
    part: Part = "report",
    paper: Paper = "a4",
    timestamp: int | None = None,
) -> bytes:
    """Set an executed notebook as a PDF.

    Parameters
    ----------
    notebook : mapping
        A notebook as nbformat or ``json.load`` reads it.
    part : {"report", "appendix"}
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

    found = blocks(notebook, part)
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


_SHORT = 500  # letters; about six lines


def _source(found: Sequence[Block]) -> str:
    """Write the Typst source: the prose, and the place of everything else."""
    texts = [block["text"] for block in found if block["kind"] == "prose"]
    prose = iter(
        to_typst(["\n".join(printable(line) for line in text.splitlines()) for text in texts])
    )
    lines = [
        '#import "report.typ": *',
        '#let doc = json(bytes(sys.inputs.at("doc")))',
        "#show: report.with(doc)",
    ]
    for place, block in enumerate(found):
        if block["kind"] != "prose":
            lines.append(f"#setters.at({json.dumps(block['kind'])})(doc, doc.blocks.at({place}))")
            continue
        text, markup = block["text"].strip(), next(prose)
        if block["headings"] and block["headings"][0][0] == 2:
            lines.append("#part()")
        # what introduces a table or chart stays with it
        leads = len(text) < _SHORT and found[place + 1 :] and found[place + 1]["kind"] != "prose"
        lines.append(f"#leading[\n{markup}\n]" if leads else markup)
    return "\n\n".join(lines) + "\n"


def _document(found: Sequence[Block], paper: Paper) -> dict[str, Any]:
    """Collect what the template is given."""
    decision = decision_of(found) or {}
    title = printable(title_of(found))
    release = printable(decision.get("release", ""))
    mark = decision.get("fingerprint", "")
    edge = title if len(title) <= 90 else title[:89] + "…"
    about = release if len(release) <= 40 else release[:39] + "…"
    return {
        "blocks": [_block(block) for block in found],
        "footer": f"Fingerprint {mark}" if mark else edge,
        "header": f"{about} · {decision['window']}" if decision else edge,
        "keywords": [decision["decision"], release] if decision else [],
        "looks": {
            key: {
                "text": look.text,
                **dict(zip(("tint", "ink", "strong"), TONES[look.tone], strict=True)),
            }
            for key, look in CHIPS.items()
        },
        "decision": decision.get("decision", ""),
        "mark": "SIMULATED DATA" if decision.get("notes") else "",
        "paper": paper,
        "title": f"{title} – {release}" if decision else title,
    }


def _block(block: Block) -> dict[str, Any]:
    """Return a block as the template takes it, with only such characters as the fonts can draw."""
    if block["kind"] == "prose":
        return {}
    kept = {"svg", "png", "values"}
    made = {key: value if key in kept else _drawable(value) for key, value in block.items()}
    if block["kind"] == "image":
        made["png"] = list(base64.b64decode(block["png"]))
    if block["kind"] == "identity":
        made["code"] = qr_svg(block["proof"]) if block["proof"] else ""
        made["alt"] = _drawable(f"QR code that holds the lines: {block['proof'].rstrip()}")
    return made | {"values": None}


def _drawable(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {key: _drawable(one) for key, one in value.items()}
    return [_drawable(one) for one in value] if isinstance(value, (list, tuple)) else value
