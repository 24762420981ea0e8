"""The report as GitHub Markdown, with its charts as SVG files beside it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from tars_ga_lib.display import clean, decision_markdown, identity_markdown, md_escape
from tars_ga_lib.report.blocks import (
    Block,
    Notebook,
    Part,
    blocks,
    headings,
    title_of,
    unused,
)
from tars_ga_lib.report.prose import Anchors
from tars_ga_lib.tables import as_markdown


def to_markdown(
    notebook: Notebook, *, part: Part = "report", folder: str = "charts"
) -> tuple[str, dict[str, bytes]]:
    """Write an executed notebook as GitHub Markdown, with its charts as files beside it.

    Parameters
    ----------
    notebook : mapping
        A notebook as nbformat or ``json.load`` reads it.
    part : {"report", "appendix"}
    folder : str
        Where the charts go, relative to the Markdown file.

    Returns
    -------
    text : str
    files : dict of str to bytes
        Content by relative path, ``charts/NAME.svg``.
    """
    found = blocks(notebook, part)
    files: dict[str, bytes] = {}
    written = []
    for block in found:
        if block["kind"] == "contents":
            written.append(_md_contents(found))
        else:
            written.append(_md_block(block, folder, files))
    return "\n\n".join(text.strip("\n") for text in written if text) + "\n", files


def _md_block(block: Block, folder: str, files: dict[str, bytes]) -> str:
    kind = block["kind"]
    if kind == "prose":
        return str(block["text"])
    if kind == "decision":
        return decision_markdown(block)
    if kind == "identity":
        return identity_markdown(block)
    if kind == "table":
        return as_markdown(block, block["label"])
    if kind == "figure":
        path = f"{folder}/{block['name']}.svg"
        files[path] = block["svg"].encode()
        caption = f"\n\n*{block['label']}{md_escape(block['caption'])}*" if block["caption"] else ""
        return f"![{md_escape(block['alt'])}]({path}){caption}"
    if kind == "image":
        path = f"{folder}/{unused('picture', {Path(name).stem for name in files})}.png"
        files[path] = base64.b64decode(block["png"])
        return f"![{md_escape(block['alt'])}]({path})"
    return "\n".join(f"    {clean(line)}" for line in block["text"].splitlines())


def _md_contents(found: Sequence[Block]) -> str:
    """Link the parts by the anchors that GitHub gives to headings."""
    parts = headings(found, 2)
    if len(parts) < 2:
        return ""
    anchors = Anchors()
    anchors.new(title_of(found))
    links = [f"[{md_escape(part)}](#{anchors.new(part)})" for part in parts]
    return "Contents: " + " · ".join(links)
