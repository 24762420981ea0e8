"""Fill any Markdown template with the fields of a run.

A mark is `{{FIELD}}`, with spaces inside the braces if one likes; `{{FIELD.number}}` is the bare
number for a template that writes the unit itself, `{{FIELD.source}}` where the value comes from and
`{{FIELD.reason}}` why there is none. A mark is an expression of Jinja2, evaluated in its sandbox: a
field, an aspect of it, filters. It is no statement; what is no mark stays as it is, to the byte.

What a mark turns into depends on where it stands: in text and table cells it is escaped, in code it
is literal, in a link's target percent-encoded. A Markdown parser (markdown-it) says where it
stands; a filter says it instead: `{{FIELD|code}}`, or `text`, `cell`, `url`, `title`, `html`. A
block (a field that is a table or a list) stands alone on its line, gives its rows inside a table,
or is told in one line elsewhere.
"""

from __future__ import annotations

import difflib
import html
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import TemplateSyntaxError, nodes
from jinja2.sandbox import SandboxedEnvironment
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tars_ga_lib import tables
from tars_ga_lib.display import NO_DATA, clean, md_escape
from tars_ga_lib.fields.values import FieldValue, Items, link_target, markdown, plain
from tars_ga_lib.grammar import ParametersError

ASPECTS = ("number", "source", "reason")
LONGEST = 200
"""Letters of a mark; a longer one names no field."""

MARK = re.compile(r"(?<!\\)\{\{([^{}\r\n]*)\}\}")

Values = Mapping[str, FieldValue]


@dataclass(frozen=True)
class Mark:
    """One mark of a template: its line (from 1), the name in it, and what it was filled with.

    `value` is None where no such field is known; `near` is then a field of a similar name.
    """

    line: int
    name: str
    value: FieldValue | None
    near: str = ""


@dataclass(frozen=True)
class Filled:
    """A filled template and the marks that were in it."""

    text: str
    marks: Sequence[Mark]

    @property
    def unknown(self) -> list[Mark]:
        """Marks that name no field."""
        return [mark for mark in self.marks if mark.value is None]

    @property
    def missing(self) -> list[Mark]:
        """Marks of fields that have no data."""
        return [mark for mark in self.marks if mark.value is not None and mark.value.missing]


def read_template(path: Path) -> str:
    """Read a template, its line ends as they are.

    Raises
    ------
    ParametersError
        If it cannot be read or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        remedy = "check the name" if isinstance(error, FileNotFoundError) else "name a file"
        raise ParametersError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    except UnicodeDecodeError:
        raise ParametersError(f"{path}: is not UTF-8 text; save it as UTF-8") from None


def fill(template: str, values: Values, notice: str = "") -> Filled:
    """Fill a template's marks; text without marks stays as it is, to the byte.

    A mark that names no field reads NO DATA, and is among `Filled.unknown`. A notice is put above
    all that a reader sees.
    """
    front = _front_matter(template)
    head = [_filled_front(line, values) for line in template[:front].splitlines(True)]
    above = f"> ⚠ **{md_escape(notice)}**\n\n" if notice else ""
    marks = [
        _look_up(match[1], template.count("\n", 0, match.start()) + 1, values)
        for match in MARK.finditer(template)
    ]
    return Filled("".join([*head, above, *_Body(template[front:], values).pieces()]), marks)


# --- what a mark says, and how it is written into each language -----------------------------------


class Written(str):
    """A text that a filter has written for its place; it is not escaped again."""

    __slots__ = ()


class _Field:
    """A field as a template sees it."""

    def __init__(self, value: FieldValue) -> None:
        self.value, self.text = value, value.text
        self.number = NO_DATA if value.missing else value.number or value.text
        self.source, self.reason = value.source, value.reason

    def __str__(self) -> str:
        return self.text


def _lines(said: object) -> list[str]:
    """Return the lines of a block; what is none is one line."""
    return plain(said.value.parts) if isinstance(said, _Field) and said.value.parts else [str(said)]


def _html(said: object) -> str:
    return "<br>".join(html.escape(clean(line)) for line in _lines(said)).replace("|", "&#124;")


def _url(said: object) -> str:
    """Write a whole target: only a web address may be one, 'javascript:' must not become a link."""
    if re.match(r"https?://[^\s/]", str(said)):
        return link_target(clean(str(said)))
    return _url_part(said)


def _url_part(said: object) -> str:
    return quote(str(said), safe="", errors="replace")


_WRITERS: dict[str, Callable[[object], str]] = {
    "text": lambda said: md_escape(str(said)),
    "cell": lambda said: "<br>".join(md_escape(line) for line in _lines(said)),
    "code": lambda said: clean(str(said)),
    "url": _url,
    "url_part": _url_part,
    "title": lambda said: re.sub(r"[\"'()]", r"\\\g<0>", md_escape(str(said))),
    "html": _html,
    "attribute": lambda said: html.escape(clean(str(said))).replace("|", "&#124;"),
}
"""How a value is written: what a template may name, and what the place of a mark chooses."""


def _filter(name: str) -> Callable[[object], Written]:
    return lambda said: Written(_WRITERS[name](said))


_SANDBOX = SandboxedEnvironment()
# And none of Jinja2's own, which could fail or look inside.
_SANDBOX.filters = {name: _filter(name) for name in _WRITERS}
_compiled = lru_cache(4096)(_SANDBOX.compile_expression)


@lru_cache(4096)
def _read(inner: str) -> tuple[str, str]:
    """Return the field and the aspect that a mark names; what is more than that names no field."""
    unknown = inner.strip().partition(".")[0], "?"
    if len(inner) > LONGEST:
        return unknown
    try:
        (output,) = _SANDBOX.parse("{{" + inner + "}}").body
        (node,) = getattr(output, "nodes", [None])
        _compiled(inner.strip())
    except (TemplateSyntaxError, ValueError):
        return unknown
    while isinstance(node, nodes.Filter) and not (node.args or node.kwargs):
        node = node.node
    aspect = ""
    if isinstance(node, nodes.Getattr):
        aspect, node = node.attr, node.node
    return (node.name, aspect) if isinstance(node, nodes.Name) else unknown


def _look_up(inner: str, line: int, values: Values) -> Mark:
    """Return the mark with the value that it names."""
    name, aspect = _read(inner)
    value = values.get(name)
    if value is None or aspect not in ("", *ASPECTS):
        near = difflib.get_close_matches(name.upper()[:60], values, 1)
        return Mark(line, inner.strip(), None, near[0] if near else "")
    return Mark(line, f"{name}.{aspect}" if aspect else name, value)


def _evaluated(inner: str, values: Values) -> object:
    """Return what a mark says: a field, a text, or what a filter has written."""
    name, aspect = _read(inner)
    if name not in values or aspect not in ("", *ASPECTS):
        return NO_DATA
    return _compiled(inner.strip())(**{name: _Field(values[name])})


# --- places: where a mark stands, as a Markdown parser says ---------------------------------------


@dataclass(frozen=True)
class _Place:
    """Where a mark stands: the filter that writes for it, and what is around it.

    `columns` are those of the table that it stands in, `fence` is that of its code, `span` whether
    that is within a line, `block` whether a block may stand there. What the parser does not show
    again is escaped for all places.
    """

    filter: str = "title"
    columns: int = 0
    fence: str = ""
    span: bool = False
    block: bool = False


_PARSER = MarkdownIt("commonmark", {"maxNesting": 100}).enable("table")
_STAND_IN = re.compile(r"tarsgamark(\d+)x", re.IGNORECASE)


def _places(body: str, found: Sequence[re.Match[str]]) -> list[_Place]:
    """Return the place of each mark: the template is parsed with a word in each mark's stead."""
    numbers = iter(range(len(found)))
    state: dict[str, Any] = {}
    tokens = _PARSER.parse(MARK.sub(lambda _: f"tarsgamark{next(numbers)}x", body), state)
    places = dict(_walk(tokens))
    for reference in (state.get("references") or {}).values():
        places |= dict(_target(reference["href"], _Place()))
    return [
        _beside(body[max(m.start() - 400, 0) : m.start()], places.get(number, _Place()))
        for number, m in enumerate(found)
    ]


def _in(text: object, place: _Place) -> Iterator[tuple[int, _Place]]:
    """Yield the marks whose stand-ins are in a text."""
    for match in _STAND_IN.finditer(str(text)):
        yield int(match[1]), place


def _target(text: object, place: _Place) -> Iterator[tuple[int, _Place]]:
    """Yield the marks of a link's target: only one at its beginning may be a web address."""
    for match in _STAND_IN.finditer(str(text)):
        whole = match.start() == 0 and not str(text)[match.end() :].startswith(":")
        yield int(match[1]), replace(place, filter="url" if whole else "url_part")


def _walk(tokens: Sequence[Token]) -> Iterator[tuple[int, _Place]]:
    columns, around = 0, ""
    for token in tokens:
        if token.type in ("table_open", "table_close"):
            columns = 0
        columns += token.type == "th_open"
        if token.type == "fence":
            yield from _in(token.info, _Place("code", fence="`", span=True))
            yield from _in(token.content, _Place("code", fence=token.markup))
        elif token.type in ("code_block", "html_block"):
            yield from _in(token.content, _Place(token.type.removesuffix("_block")))
        elif token.type == "inline":
            block = around in ("paragraph_open", "td_open")
            place = _Place("cell" if columns else "text", columns, block=block)
            yield from _inline(token.children or [], place)
        around = token.type


def _inline(tokens: Sequence[Token], place: _Place) -> Iterator[tuple[int, _Place]]:
    for token in tokens:
        if token.type == "code_inline":
            yield from _in(token.content, _Place("code", place.columns, token.markup, span=True))
        elif token.type == "html_inline":
            yield from _in(token.content, _Place("html", place.columns))
        elif token.type in ("link_open", "image"):
            target = token.attrs.get("href", token.attrs.get("src", ""))
            yield from _target(target, _Place(columns=place.columns))
            yield from _in(token.attrs.get("title", ""), _Place("title", place.columns))
            yield from _inline(token.children or [], replace(place, block=False))
        else:
            yield from _in(token.content, place)


def _beside(before: str, place: _Place) -> _Place:
    """Add what only the text before a mark tells: a tag's attribute, an address in plain text."""
    line = re.split(r"[\r\n]", before)[-1]
    if place.filter == "html":
        tag = line.rpartition("<")[2]
        if "<" not in line or ">" in tag:
            return place
        if re.search(r"\b(?:href|src|action|cite|data)\s*=\s*[\"']?[^\"'>]*$", tag, re.IGNORECASE):
            whole = re.search(r"=\s*[\"']?$", tag)
            return replace(place, filter="url" if whole else "url_part")
        return replace(place, filter="attribute")
    if place.filter in ("text", "cell") and re.search(r"https?://[^\s<>()\[\]`|*]*$", line):
        return replace(place, filter="url_part", block=False)
    return place


# --- what a mark turns into, with what is around it -----------------------------------------------

_ITEM = r"(?:[-*+]|\d{1,9}[.)])[ \t]+"
_PREFIX = re.compile(rf"(?:[ \t]*>[ \t]?)*[ \t]*(?:{_ITEM})*")
_REST = re.compile(r"[ \t]*(\r\n|\n|\r|\Z)")


@dataclass
class _Body:
    """A template below its front matter, and the values that its marks are filled with."""

    text: str
    values: Values
    found: list[re.Match[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.found = list(MARK.finditer(self.text))
        self.newline = "\r\n" if "\r\n" in self.text else "\n"

    def pieces(self) -> Iterator[str]:
        """Yield the text, filled."""
        places, at, number = _places(self.text, self.found), 0, 0
        while number < len(self.found):
            match, place = self.found[number], places[number]
            if place.span and (span := self._code_span(match, place.fence)):
                inside = [m for m in self.found[number:] if m.start() < span[1]]
                start, end, text = *span, self._filled_span(span, inside, place)
                number += len(inside)
            else:
                start, end, text = self._set(match, place)
                number += 1
            yield from (self.text[at:start], text)
            at = end
        yield self.text[at:]

    def _set(self, match: re.Match[str], place: _Place) -> tuple[int, int, str]:
        """Return what a mark replaces (from, to), and with what."""
        said = _evaluated(match[1], self.values)
        start, end = match.span()
        line = max(self.text.rfind("\n", 0, start), self.text.rfind("\r", 0, start)) + 1
        prefix, rest = self.text[line:start], _REST.match(self.text, end)
        alone = rest is not None and _PREFIX.fullmatch(prefix)
        newline = (rest[1] if rest else "") or self.newline
        if isinstance(said, Written):
            return start, end, said
        if alone and place.filter == "code":
            lines = [_guarded(clean(line), place.fence) for line in _lines(said)]
        elif alone and place.block and place.columns:
            lines = [f"| {' | '.join(row)} |" for row in _rows(said, place.columns)]
        elif alone and place.block and isinstance(said, _Field) and _is_block(said.value):
            before = self.text[:line].splitlines()[-1:] or [""]
            after = self.text[rest.end() if rest else end :].splitlines()[:1] or [""]
            return line, end, newline.join(_set_apart(prefix, said.value, before[0], after[0]))
        else:
            return start, end, _WRITERS[place.filter](said)
        return start, end, (newline + prefix).join(lines)

    def _code_span(self, match: re.Match[str], fence: str) -> tuple[int, int] | None:
        """Return where the code within a line begins and ends, its fences included."""
        exact = re.compile(rf"(?<!`){fence}(?!`)")
        earliest = max(match.start() - 2000, 0)
        opening = [m.start() for m in exact.finditer(self.text, earliest, match.start())]
        closing = exact.search(self.text, match.end())
        return (opening[-1], closing.end()) if opening and closing else None

    def _filled_span(
        self, span: tuple[int, int], inside: Sequence[re.Match[str]], place: _Place
    ) -> str:
        """Fill code within a line, its fences made longer where the code holds one like them."""
        pieces, at = [], span[0] + len(place.fence)
        for match in inside:
            said = clean(str(_evaluated(match[1], self.values)))
            pieces.append(self.text[at : match.start()])
            pieces.append(said.replace("|", "\\|") if place.columns else said)
            at = match.end()
        code = "".join([*pieces, self.text[at : span[1] - len(place.fence)]])
        held = {len(run) for run in re.findall("`+", code)}
        fence = "`" * (max(held) + 1) if len(place.fence) in held else place.fence
        pad = " " if "`" in (code[:1], code[-1:]) else ""
        return f"{fence}{pad}{code}{pad}{fence}"


def _guarded(text: str, fence: str) -> str:
    """Indent a line that would end the code that it stands in."""
    closes = fence and re.fullmatch(rf"[ \t]*{re.escape(fence[0])}{{{len(fence)},}}[ \t]*", text)
    return f"    {text}" if closes else text


def _is_block(value: FieldValue) -> bool:
    return bool(value.parts) or value.unit == "Markdown"


def _set_apart(prefix: str, value: FieldValue, before: str, after: str) -> list[str]:
    """Return the lines of a block, indented as its mark was, with a blank line on each side."""
    missing = f"{NO_DATA}: {md_escape(value.reason)}."
    marker = re.sub(_ITEM, lambda m: " " * len(m[0]), prefix)
    text = missing if value.missing else markdown(value.parts)
    lines = [f"{marker}{line}".rstrip() for line in text.split("\n")]
    if prefix != marker:  # it begins an item of a list
        lines[0] = prefix + lines[0][len(marker) :]
    elif _PREFIX.sub("", before, count=1).strip():
        lines.insert(0, marker.rstrip())
    if _PREFIX.sub("", after, count=1).strip() and not re.match(rf"[ \t]*{_ITEM}", after + " "):
        lines.append(marker.rstrip())
    return lines


def _rows(said: object, columns: int) -> Iterator[list[str]]:
    """Yield a block's rows for a table that the template began, with as many cells as it has."""
    rows: list[list[str]] = []
    for part in said.value.parts if isinstance(said, _Field) else ():
        if isinstance(part, Items):
            rows += [[md_escape(line)] for line in part.lines()]
            continue
        facts = tables.written(part)
        rows += tables.markdown_rows(facts, strong=False) or [[md_escape(facts["empty"])]]
    for row in rows or [[md_escape(str(said))]]:
        extra = [" · ".join(row[columns - 1 :])] if len(row) > columns else row[columns - 1 :]
        cells = [*row[: columns - 1], *extra]
        yield cells + [""] * (columns - len(cells))


# --- front matter ---------------------------------------------------------------------------------


def _front_matter(template: str) -> int:
    """Return the length of the YAML that a template begins with, both fences included."""
    fence = re.match(r"\ufeff?---[ \t]*\r?\n", template)
    closing = re.compile(r"^(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.M)
    end = fence and closing.search(template, fence.end())
    return end.end() if end else 0


def _filled_front(line: str, values: Values) -> str:
    """Fill a line of YAML, so that it stays YAML."""
    if not MARK.search(line):
        return line

    def put(text: str, how: Callable[[str], str]) -> str:
        return MARK.sub(lambda m: how(clean(str(_evaluated(m[1], values)))), text)

    content = line.rstrip("\r\n")
    key = re.match(r"\s*(?:-\s+)*(?:[\w.-]+:\s+)?", content)
    at = key.end() if key else 0
    head, scalar, end = content[:at], content[at:], line[len(content) :]
    if scalar.startswith('"'):
        return head + put(scalar, lambda said: json.dumps(said, ensure_ascii=False)[1:-1]) + end
    if scalar.startswith("'"):
        return head + put(scalar, lambda said: said.replace("'", "''")) + end
    return head + json.dumps(put(scalar, str), ensure_ascii=False) + end
