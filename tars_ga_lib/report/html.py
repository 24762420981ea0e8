"""The report as one HTML file for browsers: nothing is fetched, nothing is run.

Charts and styles are in the page, and its content security policy forbids scripts and the network,
so it can be sent by mail and opened anywhere. It follows the reader's choice of a light or a dark
theme, can be read on a telephone (what is too wide scrolls by itself), and prints. The values of a
chart's lines stand in a table below it, and where the pointer is, without a script.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from tars_ga_lib.display import TONES, chip, clean
from tars_ga_lib.fingerprint import qr_svg
from tars_ga_lib.report.blocks import Block, Notebook, Part, blocks, decision_of, title_of
from tars_ga_lib.report.prose import to_html as prose_html
from tars_ga_lib.tables import as_html

STYLE = Path(__file__).parent / "templates" / "report.css"

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)


def to_html(notebook: Notebook, *, part: Part = "report") -> str:
    """Write an executed notebook as one HTML file.

    Parameters
    ----------
    notebook : mapping
        A notebook as nbformat or ``json.load`` reads it.
    part : {"report", "appendix"}

    Raises
    ------
    ReportError
        If the notebook failed or was not run.
    """
    found = blocks(notebook, part)
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


def _prose(found: Sequence[Block]) -> Iterator[str]:
    """Write the prose of all cells."""
    texts = [
        "\n".join(map(clean, block["text"].splitlines()))
        for block in found
        if block["kind"] == "prose"
    ]
    for made in prose_html(texts):
        scrolling = '<div class="scroll" role="region" aria-label="table" tabindex="0">'
        yield re.sub(
            r"<table>.*?</table>", rf"{scrolling}\g<0></div>", made, flags=re.DOTALL
        ).strip()


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
    if kind == "identity":
        return _identity(block)
    if kind == "table":
        return as_html(block, block["label"], f"table-{place}")
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
    notes = "".join(f'<p class="note warn">⚠ {_text(note)}</p>' for note in block["notes"])
    return (
        f'<div class="decision {look.tone}"><p class="word">{_text(look.text)}</p>'
        f"<p>{_text(block['release'])}, {_text(block['window'])}</p>"
        f"<p>{_text(block['reason'])}</p></div>\n{notes}"
    )


def _identity(block: Block) -> str:
    facts = "".join(
        f"<div><dt>{_text(label)}</dt><dd>{_text(value)}</dd></div>"
        for label, value in block["facts"]
    )
    code = qr_svg(block["proof"]) if block["proof"] else ""
    if code:
        alt = _text(f"QR code that holds the lines: {block['proof'].rstrip()}")
        code = code.replace("<svg ", f'<svg role="img" aria-label="{alt}" ', 1)
        code = f'<figure class="code">{code}</figure>'
    return f'<div class="about"><dl>{facts}</dl>{code}</div>'


def _figure(block: Block, place: int) -> str:
    caption = f"<figcaption><strong>{_text(block['label'])}</strong>{_text(block['caption'])}"
    caption = f"{caption}</figcaption>" if block["caption"] else ""
    if block.get("foreign"):  # not drawn by us: as a picture, in which nothing can run
        data = base64.b64encode(block["svg"].encode()).decode()
        drawn = f'<img src="data:image/svg+xml;base64,{data}" alt="{_text(block["alt"])}">'
    else:
        drawn = _inline(block["svg"], f"f{place}-")
        drawn = drawn.replace("</svg>", f"{_hints(drawn, block['values'])}</svg>")
    label = f'role="group" aria-label="{_text(block["label"] or "figure")}"'
    return (
        f'<figure><div class="scroll plot" {label} tabindex="0">{drawn}</div>{caption}'
        f"{''.join(map(_values, block['values']))}</figure>"
    )


def _hints(svg: str, panels: Sequence[Mapping[str, Any]]) -> str:
    """Lay a field over each hour of a chart, whose title browsers show where the pointer is."""
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    wide, high = (float(size[1]), float(size[2])) if size else (0.0, 0.0)
    made = []
    for panel in panels:
        left, top, width, height = panel["box"]
        for time, begin, end, *values in panel["rows"]:
            said = [f"from {time}", *map(": ".join, zip(panel["columns"], values, strict=True))]
            made.append(
                f'<rect x="{(left + begin * width) * wide:.1f}" y="{top * high:.1f}" '
                f'width="{(end - begin) * width * wide:.1f}" height="{height * high:.1f}" '
                f'fill="transparent"><title>{chr(10).join(map(_text, said))}</title></rect>'
            )
    return "".join(made)


def _values(panel: Mapping[str, Any]) -> str:
    """Write the values of a panel's lines as a table that opens."""
    columns = ["From", *panel["columns"]]
    facts = {
        "caption": "",
        "columns": [{"title": title, "kind": "text", "align": "left"} for title in columns],
        "rows": [[time, *values] for time, _, _, *values in panel["rows"]],
        "note": "The lowest and the highest step of each hour, or of each part of the window.",
    }
    title = f"Values{': ' if panel['title'] else ''}{panel['title']}"
    return f"<details><summary>{_text(title)}</summary>{as_html(facts)}</details>"


def _inline(svg: str, prefix: str) -> str:
    """Make a chart part of the page: its identifiers become its own, its style rules go.

    A rule inside an SVG would hold for the whole page, and all charts name their glyphs alike.
    """
    svg = re.sub(r"<metadata>.*?</metadata>|<style\b.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r'href="#', f'href="#{prefix}', svg)
    return re.sub(r"url\(#", f"url(#{prefix}", svg)
