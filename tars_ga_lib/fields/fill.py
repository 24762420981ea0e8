"""Fill any Markdown template with the fields of a run.

A mark is `{{FIELD}}`, with spaces inside the braces if one likes; `{{FIELD.number}}` is the bare
number for a template that writes the unit itself, `{{FIELD.source}}` where the value comes from and
`{{FIELD.reason}}` why there is none. What a mark turns into depends on where it stands: in text and
table cells it is escaped, in code it is literal, in a link's target percent-encoded. A block (a
field that is a table or a list) stands alone on its line, or is told in one line elsewhere.

Nothing of a template is executed: a mark is looked up, and no more.
"""

from __future__ import annotations

import difflib
import html
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from tars_ga_lib.display import CHIPS, NO_DATA, Table, clean, md_code, md_escape
from tars_ga_lib.fields.values import FieldValue, Items, link_target, markdown, plain
from tars_ga_lib.grammar import ParametersError

ASPECTS = ("number", "source", "reason")

_MARK = r"\{\{[^{}\r\n]*\}\}"
MARK = re.compile(r"\{\{([^{}\r\n]*)\}\}")
_LINES = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+")


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


def fill(template: str, values: Mapping[str, FieldValue], notice: str = "") -> Filled:
    """Fill a template's marks; text without marks stays as it is, to the byte.

    A mark that names no field reads NO DATA, and is among `Filled.unknown`. A notice is put above
    all that a reader sees.
    """
    filler = _Filler(values)
    lines = _LINES.findall(template)
    filled = list(filler.lines(lines))
    if notice:
        filled.insert(_front_matter(lines), f"> ⚠ **{md_escape(notice)}**\n\n")
    return Filled("".join(filled), filler.marks)


# --- what a mark turns into, by where it stands ---------------------------------------------------


def _in_text(value: FieldValue) -> str:
    return md_escape(value.text)


def _in_cell(value: FieldValue) -> str:
    if value.parts:
        return "<br>".join(md_escape(line) for line in plain(value.parts))
    return md_escape(value.text)


def _literal(value: FieldValue) -> str:
    return clean(value.text)


def _in_html(value: FieldValue) -> str:
    lines = plain(value.parts) if value.parts else [value.text]
    return "<br>".join(html.escape(clean(line)) for line in lines).replace("|", "&#124;")


def _in_attribute(value: FieldValue) -> str:
    return html.escape(clean(value.text)).replace("|", "&#124;")


def _in_title(value: FieldValue) -> str:
    return re.sub(r"[\"'()]", r"\\\g<0>", md_escape(value.text))


def _in_target(value: FieldValue) -> str:
    return quote(value.text, safe="", errors="replace")


def _whole_target(value: FieldValue) -> str:
    # Only a web address may be one: 'javascript:' must not become a link.
    if re.match(r"https?://[^\s/]", value.text):
        return link_target(clean(value.text))
    return _in_target(value)


Put = Callable[[FieldValue], str]


# --- the lines of a template ----------------------------------------------------------------------

_QUOTE = r"(?:[ \t]*>[ \t]?)*"
_LIST = r"(?:[-*+]|\d{1,9}[.)])[ \t]+"
_CONTAINER = re.compile(rf"{_QUOTE}[ \t]*(?:{_LIST})*")
_ALONE = re.compile(rf"({_QUOTE}[ \t]*(?:{_LIST})*)({_MARK})[ \t]*(\r?\n|\r)?")
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})([^\r\n]*)")
_DELIMITERS = re.compile(r"\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*")
_HTML_BLOCK = re.compile(
    r" {0,3}</?(?:address|article|aside|base|blockquote|body|caption|center|col|colgroup|dd|details"
    r"|dialog|dir|div|dl|dt|fieldset|figcaption|figure|footer|form|frame|h[1-6]|head|header|hr|html"
    r"|iframe|legend|li|link|main|menu|nav|ol|optgroup|option|p|param|search|section|summary|table"
    r"|tbody|td|tfoot|th|thead|title|tr|track|ul)(?:[\s>/]|$)",
    re.IGNORECASE,
)
_RAW_HTML = re.compile(r" {0,3}<(?:(!--)|(pre|script|style|textarea)(?=[\s>]|$))", re.IGNORECASE)
_ADDRESS = re.compile(
    rf"(\b(?:href|src|action|cite|data)\s*=\s*[\"']?)((?:{_MARK}|[^\"'>])*+)", re.IGNORECASE
)
_CELLS = re.compile(rf"{_MARK}|\\.|\|")


def _body(line: str) -> str:
    """Return a line without its quote marks and line end."""
    return re.sub(rf"^{_QUOTE}", "", line).rstrip("\r\n")


def _cells(line: str) -> list[str]:
    """Cut a table's line at its pipes, which stay at the beginning of the cells after them."""
    cuts = [m.start() for m in _CELLS.finditer(line) if m[0] == "|"]
    edges = [0, *(cut for cut in cuts if cut), len(line)]
    return [line[a:b] for a, b in itertools.pairwise(edges)]


def _width(line: str) -> int:
    """Count a table line's columns."""
    inner = line.strip().removeprefix("|")
    return len(_cells(inner[:-1] if inner.endswith("|") else inner))


@dataclass
class _Filler:
    """Goes through a template from top to bottom and keeps the marks that it meets."""

    values: Mapping[str, FieldValue]
    marks: list[Mark] = field(default_factory=list)

    def look_up(self, inner: str, line: int) -> FieldValue:
        """Return the value that a mark names, and note the mark."""
        name, _, aspect = inner.strip().partition(".")
        value = self.values.get(name)
        if value is None or (aspect and aspect not in ASPECTS) or inner.strip().endswith("."):
            near = difflib.get_close_matches(name.upper()[:60], self.values, 1)
            self.marks.append(Mark(line, inner.strip(), None, near[0] if near else ""))
            return FieldValue(name, NO_DATA, reason="no such field")
        self.marks.append(Mark(line, inner.strip(), value))
        if not aspect:
            return value
        text = str(getattr(value, aspect))
        if aspect == "number":
            text = NO_DATA if value.missing else text or value.text
        return FieldValue(name, text, reason=value.reason)

    def put(self, text: str, line: int, how: Put) -> str:
        """Replace every mark of a text that is all in one context."""

        def one(match: re.Match[str]) -> str:
            return how(self.look_up(match[1], line + text.count("\n", 0, match.start())))

        return MARK.sub(one, text)

    def lines(self, lines: Sequence[str]) -> Iterator[str]:
        """Yield the filled lines."""
        at = 0
        if (end := _front_matter(lines)) > 0:
            for at in range(end):
                yield self.front(lines[at], at + 1)
            at = end
        in_list = False
        before = ""
        while at < len(lines):
            line, body = lines[at], _body(lines[at])
            if re.match(rf"[ \t]*{_LIST}", body):
                in_list = True
            elif body and body[0] not in " \t":
                in_list = False
            if fence := _fence(body):
                stop = self.until(lines, at + 1, _closes(fence))
                yield self.put(line, at + 1, lambda v: _literal(v).replace("`", "'"))
                for n in range(at + 1, stop):
                    yield from self.code_line(lines[n], n + 1, fence)
            elif raw := _RAW_HTML.match(body):
                ends = _holds("-->" if raw[1] else f"</{raw[2]}")
                stop = at + 1 if ends(body) else self.until(lines, at + 1, ends)
                yield from (self.html_line(lines[n], n + 1) for n in range(at, stop))
            elif _HTML_BLOCK.match(body):
                stop = self.until(lines, at + 1, lambda b: not b.strip(), keep=False)
                yield from (self.html_line(lines[n], n + 1) for n in range(at, stop))
            elif columns := _table_at(lines, at):
                stop = at + 2
                yield self.row(line, at + 1)
                yield lines[at + 1]
                while stop < len(lines) and _body(lines[stop]).strip():
                    yield from self.table_line(lines[stop], stop + 1, columns)
                    stop += 1
            elif body[:4] in ("    ", "\t") and not before.strip() and not in_list:
                stop = at + 1
                yield from self.code_line(line, at + 1, "")
            elif (alone := _ALONE.fullmatch(line)) and (found := self.block(alone, at + 1)):
                stop = at + 1
                after = lines[stop] if stop < len(lines) else ""
                yield _set_apart(alone, found, before, after)
            else:
                stop = at + 1
                while stop < len(lines) and _continues(lines, stop):
                    stop += 1
                yield self.inline("".join(lines[at:stop]), at + 1)
            before = _body(lines[stop - 1])
            at = stop

    @staticmethod
    def until(
        lines: Sequence[str], first: int, ends: Callable[[str], bool], *, keep: bool = True
    ) -> int:
        """Return the index after the line that ends a block, or of it where it is not kept."""
        for n in range(first, len(lines)):
            if ends(_body(lines[n])):
                return n + 1 if keep else n
        return len(lines)

    # --- one line ---

    def front(self, line: str, number: int) -> str:
        """Fill a line of YAML front matter, so that it stays YAML."""
        if not MARK.search(line):
            return line
        body = line.rstrip("\r\n")
        end = line[len(body) :]
        key = re.match(r"\s*(?:-\s+)*(?:[\w.-]+:\s+)?", body)
        head, scalar = body[: key.end()] if key else "", body[key.end() if key else 0 :]
        if scalar.startswith('"'):
            how: Put = lambda v: json.dumps(_literal(v), ensure_ascii=False)[1:-1]  # noqa: E731
            return head + self.put(scalar, number, how) + end
        if scalar.startswith("'"):
            return head + self.put(scalar, number, lambda v: _literal(v).replace("'", "''")) + end
        return head + json.dumps(self.put(scalar, number, _literal), ensure_ascii=False) + end

    def code_line(self, line: str, number: int, fence: str) -> Iterator[str]:
        """Fill a line of code, in which everything is literal."""
        alone = _ALONE.fullmatch(line)
        mark = MARK.fullmatch(alone[2]) if alone else None
        if alone is None or mark is None:
            yield self.put(line, number, _literal)
            return
        value = self.look_up(mark[1], number)
        texts = plain(value.parts) if value.parts else [value.text]
        for n, text in enumerate(texts):
            shown = clean(text)
            if fence and _closes(fence)(shown):
                shown = "    " + shown  # or it would end the code
            more = n < len(texts) - 1
            yield alone[1] + shown + ((alone[3] or "\n") if more else (alone[3] or ""))

    def html_line(self, line: str, number: int) -> str:
        """Fill a line of HTML."""
        parts, last = [], 0
        for tag in re.finditer(rf"<(?:{_MARK}|[^<>])*+>", line):
            parts.append(self.put(line[last : tag.start()], number, _in_html))
            parts.append(self.tag(tag[0], number))
            last = tag.end()
        return "".join(parts) + self.put(line[last:], number, _in_html)

    def tag(self, tag: str, number: int) -> str:
        """Fill an HTML tag: addresses are percent-encoded, other attributes escaped."""

        def address(match: re.Match[str]) -> str:
            return match[1] + self.target(match[2], number)

        return self.put(_ADDRESS.sub(address, tag), number, _in_attribute)

    def target(self, text: str, number: int) -> str:
        """Fill a link's target: only a mark that is all of it, or its beginning, may be a URL."""
        whole = MARK.match(text)
        if whole and not text[whole.end() :].startswith(":"):
            value = self.look_up(whole[1], number)
            rest = self.put(text[whole.end() :], number, _in_target)
            return _whole_target(value) + rest
        return self.put(text, number, _in_target)

    def row(self, line: str, number: int) -> str:
        """Fill a line of a table, cell by cell."""
        return "".join(self.inline(cell, number, cell=True) for cell in _cells(line))

    def table_line(self, line: str, number: int, columns: int) -> Iterator[str]:
        """Fill a line below a table's head: a block that stands alone gives its rows."""
        alone = _ALONE.fullmatch(line)
        mark = MARK.fullmatch(alone[2]) if alone else None
        if not alone or not mark:
            yield self.row(line, number)
            return
        value = self.look_up(mark[1], number)
        rows = list(_rows(value))
        end = alone[3] or "\n"
        for n, row in enumerate(rows):
            extra = [" · ".join(row[columns - 1 :])] if len(row) > columns else row[columns - 1 :]
            cells = [*row[: columns - 1], *extra]
            cells += [""] * (columns - len(cells))
            last = n == len(rows) - 1
            yield f"{alone[1]}| {' | '.join(cells)} |{alone[3] or '' if last else end}"

    def block(self, alone: re.Match[str], number: int) -> str:
        """Return the Markdown of a block field that stands alone; empty if it is none."""
        mark = MARK.fullmatch(alone[2])
        value = self.values.get(mark[1].strip()) if mark else None
        if value is None or not (value.parts or value.unit == "Markdown"):
            return ""
        self.marks.append(Mark(number, value.name, value))
        if value.missing:
            return f"{NO_DATA}: {md_escape(value.reason)}."
        return markdown(value.parts)

    # --- inside a line ---

    def inline(self, text: str, number: int, *, cell: bool = False) -> str:
        """Fill a paragraph or a table's cell, by what each mark stands in."""
        if not MARK.search(text):
            return text
        how = _in_cell if cell else _in_text
        parts, at = [], 0
        while at < len(text):
            here = number + text.count("\n", 0, at)
            match = _TOKEN.match(text, at)
            kind = match.lastgroup if match else None
            if match is None:
                parts.append(text[at])
                at += 1
                continue
            whole = match[0]
            if kind == "ticks":
                end, filled = self.code_span(text, at, len(whole), here, cell=cell)
                parts.append(filled)
                at = end
                continue
            if kind == "mark":
                parts.append(self.put(whole, here, how))
            elif kind == "link":
                parts.append(self.link(whole, here))
            elif kind == "comment":
                parts.append(self.put(whole, here, _in_attribute))
            elif kind == "auto":
                parts.append("<" + self.put(whole[1:-1], here, _in_target) + ">")
            elif kind == "tag":
                parts.append(self.tag(whole, here))
            elif kind == "bare":
                parts.append(self.put(whole, here, _in_target))
            else:
                parts.append(whole)
            at = match.end()
        return "".join(parts)

    def code_span(
        self, text: str, at: int, ticks: int, number: int, *, cell: bool
    ) -> tuple[int, str]:
        """Fill a code span, its fence made longer where the code holds one like it."""
        close = next((m for m in re.finditer("`+", text[at + ticks :]) if len(m[0]) == ticks), None)
        if close is None:
            return at + ticks, "`" * ticks  # a lone backtick
        content = text[at + ticks : at + ticks + close.start()]
        end = at + ticks + close.end()
        pipe: Put = lambda v: _literal(v).replace("|", "\\|") if cell else _literal(v)  # noqa: E731
        filled = self.put(content, number, pipe)
        if filled == content:
            return end, text[at:end]
        runs = {len(run) for run in re.findall("`+", filled)}
        fence = "`" * (max(runs) + 1 if ticks in runs else ticks)
        pad = " " if "`" in (filled[:1], filled[-1:]) else ""
        return end, f"{fence}{pad}{filled}{pad}{fence}"

    def link(self, text: str, number: int) -> str:
        """Fill the target and the title of a link: `](target "title")`, or a definition."""
        match = _LINK.fullmatch(text)
        if match is None:
            return self.put(text, number, _in_text)
        head, target, rest = match[1], match[2], match[3]
        if target.startswith("<"):
            filled = "<" + self.target(target[1:-1], number) + ">"
        else:
            filled = self.target(target, number)
        return head + filled + self.put(rest, number, _in_title)


# Possessive throughout: what can be read in two ways takes exponentially long without.
_TARGET = rf"(?:<(?:{_MARK}|[^<>\r\n])*+>|(?:{_MARK}|\\.|[^\s()<>\\]|\((?:{_MARK}|[^\s()])*+\))*+)"
_TITLE = rf"(?:\s+(?:\"(?:{_MARK}|\\.|[^\"\\])*+\"|'(?:{_MARK}|\\.|[^'\\])*+'))?"
_LINK = re.compile(rf"(\]\([ \t]*|\[[^\[\]]*\]:[ \t]*)({_TARGET})({_TITLE}[ \t]*\)?)", re.S)
_TOKEN = re.compile(
    rf"(?P<escape>\\[!-/:-@\[-`{{-~])"
    rf"|(?P<ticks>`+)"
    rf"|(?P<mark>{_MARK})"
    rf"|(?P<link>\]\([ \t]*{_TARGET}{_TITLE}[ \t]*\)|^\[[^\[\]\n]+\]:[ \t]*{_TARGET}{_TITLE})"
    rf"|(?P<comment><!--.*?-->)"
    rf"|(?P<auto><[A-Za-z][A-Za-z0-9+.-]{{1,31}}:(?:{_MARK}|[^<>\s])*+>)"
    rf"|(?P<tag></?[A-Za-z](?:{_MARK}|[^<>])*+>)"
    rf"|(?P<bare>https?://(?:{_MARK}|[^\s<>()\[\]`|*])*+)"
    rf"|(?P<plain>[A-Za-z0-9 ,.;\n]+?(?=[^A-Za-z0-9 ,.;\n]|https?://|\Z))",
    re.S | re.M,
)


def _front_matter(lines: Sequence[str]) -> int:
    """Return how many lines of YAML a template begins with, both fences included."""
    if not lines or lines[0].removeprefix("\ufeff").rstrip() != "---":
        return 0
    ends = (n for n, line in enumerate(lines[1:], 1) if line.rstrip() in ("---", "..."))
    return next(ends, -1) + 1


def _fence(body: str) -> str:
    """Return the fence that begins a code on this line; empty if none does."""
    match = _FENCE.match(re.sub(rf"^(?:{_LIST})+", "", body.lstrip()))
    if match is None or (match[1][0] == "`" and "`" in match[2]):
        return ""
    return match[1]


def _holds(mark: str) -> Callable[[str], bool]:
    """Return the test for a line that holds a text, in any case."""
    return lambda body: mark.lower() in body.lower()


def _closes(fence: str) -> Callable[[str], bool]:
    """Return the test for the line that ends a fenced code."""
    pattern = re.compile(rf"[ \t]*{re.escape(fence[:1])}{{{len(fence)},}}[ \t]*")
    return lambda body: bool(pattern.fullmatch(body))


def _table_at(lines: Sequence[str], at: int) -> int:
    """Return the columns of the table that begins here; 0 if none does."""
    if at + 1 >= len(lines) or "|" not in lines[at]:
        return 0
    head, rule = _body(lines[at]), _body(lines[at + 1]).strip()
    if not _DELIMITERS.fullmatch(rule) or "-" not in rule:
        return 0
    return _width(rule) if _width(head) == _width(rule) else 0


def _continues(lines: Sequence[str], at: int) -> bool:
    """Tell whether a line goes on with the paragraph before it."""
    line, body = lines[at], _body(lines[at])
    return bool(
        body.strip()
        and not _fence(body)
        and not _HTML_BLOCK.match(body)
        and not _RAW_HTML.match(body)
        and not _table_at(lines, at)
        and not _ALONE.fullmatch(line)
        and not re.match(rf"[ \t]*(?:#|{_LIST})", body)
    )


def _set_apart(alone: re.Match[str], text: str, before: str, after: str) -> str:
    """Indent a block as its mark was, with a blank line on each side."""
    prefix, end = alone[1], alone[3] or ""
    newline = end or "\n"
    marker = re.sub(rf"{_LIST}", lambda m: " " * len(m[0]), prefix)
    lines = [f"{marker}{line}".rstrip() for line in text.split("\n")]
    lines[0] = prefix + lines[0][len(marker) :] if prefix != marker else lines[0]
    blank = marker.rstrip()
    if before.strip() and prefix == marker:
        lines.insert(0, blank)
    if _body(after).strip():
        lines.append(blank)
    return newline.join(lines) + end


def _rows(value: FieldValue) -> Iterator[list[str]]:
    """Yield a value as rows of a table that the template began."""
    if not value.parts:
        yield [md_escape(value.text)]
    for part in value.parts:
        if isinstance(part, Items):
            yield from ([md_escape(line)] for line in part.lines())
        elif not part.rows:
            yield [md_escape(part.empty)]
        else:
            yield from (_row(part, row) for row in part.rows)


def _row(table: Table, row: Sequence[object]) -> list[str]:
    cells = []
    for column, cell in zip(table.columns, row, strict=True):
        if column.kind == "verdict":
            cells.append(CHIPS[str(cell)].text)
        elif column.kind == "code":
            cells.append(md_code(cell, in_table=True))
        elif column.kind != "spark":
            cells.append(md_escape(cell))
    return cells
