"""The report as one HTML file for browsers: nothing is fetched, nothing is run.

Charts and styles are in the page, and its content security policy forbids scripts and the network,
so it can be sent by mail and opened anywhere. It follows the reader's choice of a light or a dark
theme (charts keep their white ground, since a region's colour is the same everywhere), can be read
on a telephone (what is too wide scrolls by itself), and prints.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from tars_ga_lib import sparks
from tars_ga_lib.display import TONES, chip, clean, decision_notes
from tars_ga_lib.fingerprint import qr_svg
from tars_ga_lib.report.blocks import Block, Notebook, blocks, decision_of, title_of
from tars_ga_lib.report.prose import to_html as prose_html

STYLE = Path(__file__).parent / "templates" / "report.css"

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)


def to_html(notebook: Notebook) -> str:
    """Write an executed notebook as one HTML file.

    Parameters
    ----------
    notebook : mapping
        A notebook as nbformat or ``json.load`` reads it.

    Raises
    ------
    ReportError
        If the notebook failed or was not run.
    """
    found = blocks(notebook)
    prose = _prose(found)
    body = _sections(
        [
            next(prose) if block["kind"] == "prose" else _block(block, place)
            for place, block in enumerate(found)
        ]
    )
    decision = decision_of(found)
    title = title_of(found)
    edge = ""
    if decision:
        title = f"{title} – {decision['release']}"
        edge = _edge(decision)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta name="referrer" content="no-referrer">\n<link rel="icon" href="data:,">\n'
        f"<title>{_text(title)}</title>\n<style>\n{_tones()}{STYLE.read_text(encoding='utf-8')}"
        '</style>\n</head>\n<body>\n<a class="skip" href="#report">Skip to the report</a>\n'
        f'{_contents(body)}<main id="report">\n{body}\n</main>\n{edge}</body>\n</html>\n'
    )


def _text(value: object) -> str:
    """Write a string from data, so that it is text wherever it stands."""
    return escape(clean(value), quote=True)


def _tones() -> str:
    """Write the tones of the verdicts as they are everywhere; the style sheet has the dark ones."""
    return "".join(
        f".{tone} {{ --tint: {tint}; --on-tint: {ink}; --strong: {strong}; }}\n"
        for tone, (tint, ink, strong) in TONES.items()
    )


# --- prose ---


def _prose(found: Sequence[Block]) -> Any:
    """Write the prose of all cells."""
    texts = [
        "\n".join(map(clean, block["text"].splitlines()))
        for block in found
        if block["kind"] == "prose"
    ]
    for made in prose_html(texts):
        wide = re.sub(r"<table>.*?</table>", lambda m: _scrolling(m[0]), made, flags=re.DOTALL)
        yield wide.strip()


_PART = re.compile(r'<h2 id="([^"]*)">(.*?)</h2>', re.DOTALL)


def _sections(made: Sequence[str]) -> str:
    """Put each part, from its heading to the next, into a section that the heading names."""
    written, is_open = [], False
    for text in made:
        if heading := _PART.match(text):
            written.append("</section>" if is_open else "")
            written.append(f'<section aria-labelledby="{heading[1]}">')
            is_open = True
        written.append(text)
    if is_open:
        written.append("</section>")
    return "\n".join(text for text in written if text)


def _contents(body: str) -> str:
    parts = [(m[1], re.sub(r"</?a\b[^>]*>", "", m[2])) for m in _PART.finditer(body)]
    if len(parts) < 2:
        return ""
    links = "".join(f'<li><a href="#{anchor}">{inner}</a></li>' for anchor, inner in parts)
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>\n'


def _edge(decision: Mapping[str, Any]) -> str:
    """Repeat at the foot what the page is about."""
    said = [decision["release"], decision["window"], decision["decision"]]
    said += [f"fingerprint {decision['fingerprint']}"] if decision["fingerprint"] else []
    return f"<footer>{' · '.join(map(_text, said))}</footer>\n"


# --- blocks ---


def _block(block: Block, place: int) -> str:
    kind = block["kind"]
    if kind == "decision":
        return _decision(block)
    if kind == "table":
        return _table(block, f"table-{place}")
    if kind == "figure":
        return _figure(block, place)
    if kind == "image":
        source = f"data:image/png;base64,{''.join(block['png'].split())}"
        return f'<figure><img src="{_text(source)}" alt="{_text(block["alt"])}"></figure>'
    if kind == "plain":
        return f"<pre>{chr(10).join(_text(line) for line in block['text'].splitlines())}</pre>"
    return ""  # the place of the contents, which stand beside or above the report here


def _decision(block: Block) -> str:
    look = chip(block["decision"])
    notes = "".join(f'<p class="note warn">⚠ {_text(n)}</p>' for n in decision_notes(block))
    facts = "".join(
        f"<div><dt>{_text(label)}</dt><dd>{_text(value)}</dd></div>"
        for label, value in block["facts"]
    )
    code = ""
    if block["proof"] and (drawn := qr_svg(block["proof"])):
        alt = _text(f"QR code that holds the lines: {block['proof'].rstrip()}")
        drawn = drawn.replace("<svg ", f'<svg role="img" aria-label="{alt}" ', 1)
        code = (
            f'<figure class="code">{drawn}<figcaption>{_text(block["fingerprint"])}</figcaption>'
            "</figure>"
        )
    return (
        f'<div class="decision {look.tone}"><p class="word">{_text(look.text)}</p>'
        f"<p>{_text(block['reason'])}</p></div>\n{notes}"
        f'<div class="about"><dl>{facts}</dl>{code}</div>'
    )


def _scrolling(inner: str, label: str = "", kind: str = "") -> str:
    """Let what is too wide for the page scroll by itself, by the keyboard too."""
    named = f'aria-labelledby="{label}"' if label else 'aria-label="table"'
    return f'<div class="scroll {kind}" role="region" {named} tabindex="0">{inner}</div>'


def _table(block: Block, name: str) -> str:
    caption = f"<strong>{_text(block['label'])}</strong>{_text(block['caption'])}"
    note = f'<p class="small">{_text(block["note"])}</p>' if block["note"] else ""
    if not block["rows"]:
        return f'<div class="table"><p>{caption}</p><p>{_text(block["empty"])}</p>{note}</div>'
    columns = block["columns"]
    head = "".join(
        f'<th scope="col" class="{c["align"]}">{_text(c["title"])}</th>' for c in columns
    )
    rows = "".join(
        f"<tr>{''.join(_cell(c, v) for c, v in zip(columns, row, strict=True))}</tr>\n"
        for row in block["rows"]
    )
    looks = {
        "tall": any(c["kind"] == "blank" for c in columns),
        "short": len(block["rows"]) <= 16,  # not torn by the end of a printed page
        "stacks": len(columns) > 4 and len(block["rows"]) <= 20,  # rows become cards on a telephone
    }
    look = " ".join(["table", *(name for name, holds in looks.items() if holds)])
    title = f'<caption id="{name}">{caption}</caption>' if block["caption"] else ""
    inner = f"<table>{title}<thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table>"
    return f'<div class="{look}">{_scrolling(inner, name if title else "")}{note}</div>'


def _cell(column: Mapping[str, str], value: Any) -> str:
    kind = column["kind"]
    if kind == "verdict":
        look = chip(value)
        inner = f'<span class="chip {look.tone}">{_text(look.text)}</span>'
    elif kind == "spark":
        inner = sparks.svg(value) if value else ""
    elif kind == "code":
        inner = f"<code>{_text(value)}</code>"
    else:
        inner = _text(value)
    looks = [column["align"], kind]
    looks += ["missing"] if value == "NO DATA" else []
    looks += (
        ["keep"] if kind == "verdict" or (column["align"] == "right" and len(value) <= 24) else []
    )
    label = _text(column["title"])
    return f'<td class="{" ".join(looks)}" data-label="{label}">{inner}</td>'


def _figure(block: Block, place: int) -> str:
    caption = f"<figcaption><strong>{_text(block['label'])}</strong>{_text(block['caption'])}"
    caption = f"{caption}</figcaption>" if block["caption"] else ""
    alt = _text(block["alt"])
    if block.get("foreign"):  # not drawn by us: as a picture, in which nothing can run
        data = base64.b64encode(block["svg"].encode()).decode()
        drawn = f'<img src="data:image/svg+xml;base64,{data}" alt="{alt}">'
    else:
        drawn = _inline(block["svg"], f"f{place}-")
    label = f'role="group" aria-label="{_text(block["label"] or "figure")}"'
    return f'<figure><div class="scroll plot" {label} tabindex="0">{drawn}</div>{caption}</figure>'


def _inline(svg: str, prefix: str) -> str:
    """Make a chart part of the page: its identifiers become its own, its style rules go.

    A rule inside an SVG would hold for the whole page, and all charts name their glyphs alike.
    """
    svg = re.sub(r"<metadata>.*?</metadata>|<style\b.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r'href="#', f'href="#{prefix}', svg)
    return re.sub(r"url\(#", f"url(#{prefix}", svg)
