"""Prose: CommonMark with GitHub's tables and strikethrough, as Typst markup and as HTML.

markdown-it-py reads it, and writes the HTML; this module writes the Typst. Raw HTML is text, and
a bare address is no link. What Typst could take for markup is escaped, every mark of it, so a name
such as `#read("/etc/passwd")` is only ever a name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token


def to_typst(texts: Sequence[str]) -> list[str]:
    """Write Markdown texts of one document as Typst markup, a string of it for each text."""
    return [_Typst(tokens).blocks() for tokens in _parsed(texts)]


def to_html(texts: Sequence[str]) -> list[str]:
    """Write Markdown texts of one document as HTML, a string of it for each text."""
    return [_reader().renderer.render(tokens, _reader().options, {}) for tokens in _parsed(texts)]


def _reader() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


def _parsed(texts: Sequence[str]) -> Iterator[list[Token]]:
    """Read each text by itself, so that an unclosed fence ends with it; anchors are of them all."""
    reader, anchors = _reader(), Anchors()
    for text in texts:
        tokens = reader.parse(text)
        for place, token in enumerate(tokens):
            if token.type == "heading_open" and (name := anchors.new(_words(tokens[place + 1]))):
                token.attrSet("id", name)
        yield tokens


def parts(markdown: str) -> list[dict[str, Any]]:
    """Split a text before each heading of the second level, where a part of a report begins.

    Returns
    -------
    list of dict
        ``text`` of each part, and its ``headings`` as pairs of level and words.
    """
    lines, tokens = markdown.splitlines(), _reader().parse(markdown)
    heads = [
        (int(token.tag[1]), _words(tokens[place + 1]), token.map[0])
        for place, token in enumerate(tokens)
        if token.type == "heading_open" and token.map
    ]
    cuts = [0, *(line for level, _, line in heads if level == 2), len(lines)]
    return [
        {
            "text": "\n".join(lines[first:last]),
            "headings": [(level, words) for level, words, line in heads if first <= line < last],
        }
        for first, last in pairwise(cuts)
        if any(line.strip() for line in lines[first:last])
    ]


def _words(inline: Token) -> str:
    return "".join(child.content or " " for child in inline.children or () if child.nesting == 0)


class Anchors:
    """The anchors that GitHub gives to a document's headings."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def new(self, heading: str) -> str:
        """Return the anchor of the next heading, from its text without marks."""
        name = re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        tried, count = name, 0
        while tried in self._seen:
            count += 1
            tried = f"{name}-{count}"
        self._seen.add(tried)
        return tried


# --- Typst ---------------------------------------------------------------------------------------

_MARKS = re.compile(r"[!-/:-@\[-`{-~]")
_INLINE = {"em": "emph", "strong": "strong", "s": "strike"}
_QUOTE = "#quote(block: true)"


def _literal(text: str) -> str:
    """Write a string of Typst's code."""
    return json.dumps(text, ensure_ascii=False).replace("\\b", "\\u{8}").replace("\\f", "\\u{c}")


def _code(text: str, more: str = "") -> str:
    return f"#raw({more}{_literal(text)})"


class _Typst:
    """The tokens of one text, read once from front to back."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = iter(tokens)

    def blocks(self, until: str = "") -> str:
        """Write the blocks up to the token that closes them."""
        written = []
        for token in self._tokens:
            if token.type == until:
                break
            written.append(self._block(token))
        return "\n\n".join(text for text in written if text)

    def _block(self, token: Token) -> str:
        kind = token.type
        if kind == "inline":
            return _inline(token.children or ())
        if kind == "heading_open":
            title = self.blocks("heading_close")
            label = f"\n#label({_literal(str(name))})" if (name := token.attrGet("id")) else ""
            return f"{'=' * int(token.tag[1:])} {title}{label}"
        if kind == "paragraph_open":
            return self.blocks("paragraph_close")
        if kind in ("bullet_list_open", "ordered_list_open"):
            return self._list(token)
        if kind == "blockquote_open":
            return f"{_QUOTE}[{self.blocks('blockquote_close')}]"
        if kind in ("fence", "code_block"):
            language = token.info.split()[:1]
            named = f"lang: {_literal(language[0])}, " if language else ""
            return _code(token.content.removesuffix("\n"), f"block: true, {named}")
        if kind == "hr":
            return "#horizontalrule"
        if kind == "table_open":
            return self._table()
        raise AssertionError(f"prose has no {kind}")

    def _list(self, opened: Token) -> str:
        """Write a list; a tight one has paragraphs that markdown-it marks as hidden."""
        items, tight = [], True
        closes = opened.type.replace("open", "close")
        for token in self._tokens:
            if token.type == closes:
                break
            inside = []
            for part in self._tokens:
                if part.type == "list_item_close":
                    break
                tight = tight and (part.type != "paragraph_open" or part.hidden)
                inside.append(self._block(part))
            items.append(f"[{chr(10).join(inside) if tight else (chr(10) * 2).join(inside)}]")
        start = opened.attrGet("start")
        first = f"start: {start}, " if start is not None else ""
        name = "list" if opened.type == "bullet_list_open" else "enum"
        return f"#{name}({first}tight: {str(tight).lower()}, {', '.join(items)})"

    def _table(self) -> str:
        head: list[str] = []
        body: list[str] = []
        aligned: list[str] = []
        for token in self._tokens:
            if token.type == "table_close":
                break
            if token.type == "th_open":
                style = str(token.attrGet("style") or "text-align:auto")
                aligned.append(style.removeprefix("text-align:"))
                head.append(f"[{self.blocks('th_close')}]")
            elif token.type == "td_open":
                body.append(f"[{self.blocks('td_close')}]")
        cells = ", ".join([f"table.header({', '.join(head)})", "table.hline()", *body])
        columns = f"columns: {len(head)}, align: ({', '.join(aligned)},)"
        return f"#figure(align(center, table({columns}, {cells})), kind: table)"


def _inline(tokens: Sequence[Token]) -> str:
    return "".join(map(_part, tokens))


def _part(token: Token) -> str:
    """Write one token inside a paragraph."""
    kind = token.type
    if kind == "text":
        return _MARKS.sub(r"\\\g<0>", token.content)
    if kind == "code_inline":
        return _code(token.content)
    if kind == "softbreak":
        return " "
    if kind == "hardbreak":
        return "#linebreak()"
    if kind == "image":
        alt = f", alt: {_literal(_words(token))}"
        return f"#box(image({_literal(str(token.attrGet('src')))}{alt}))"
    if kind == "link_open":
        target = str(token.attrGet("href"))
        place = _literal(target.removeprefix("#"))
        return f"#link({f'label({place})' if target.startswith('#') else place})["
    name, _, side = kind.rpartition("_")
    if side == "open":
        return f"#{_INLINE[name]}["
    return "]"
