"""The report: an executed notebook becomes a PDF, and the same as GitHub Markdown.

The way of a notebook::

    notebook ─ blocks ─┬─ pandoc (prose only) ─ Typst ─ PDF     TypstPDFExporter
                       └─ Markdown and SVG files                MarkdownExporter

Tables, figures and the banner are taken from the machine-readable face of the objects of
:mod:`tars_ga_lib.display`. They reach Typst as JSON and are set as text there, so that nothing in
the data can become markup. Prose goes through pandoc, in one call for the whole notebook.

Three promises: a notebook that failed or did not run makes no report; code and stderr are not for
readers and stay out; the same notebook gives the same bytes (the document is dated by the end of
the certified window, no font of the machine is used, nothing asks the clock).

`to_pdf` and `to_markdown` do the work without nbconvert, which takes half a second to import. The
exporter classes wrap them for ``jupyter nbconvert --to tars_ga_pdf``.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tars_ga_lib.display import (
    DECISION_MIME,
    FIGURE_MIME,
    TABLE_MIME,
    TONES,
    chip,
    clean,
    decision_markdown,
    decision_notes,
    font_folder,
    md_escape,
    printable,
    slug,
    table_markdown,
    text_width,
)

__all__ = ["MarkdownExporter", "ReportError", "TypstPDFExporter", "to_markdown", "to_pdf"]

Notebook = Mapping[str, Any]
Block = dict[str, Any]
Paper = Literal["a4", "us-letter"]

TEMPLATES = Path(__file__).parent / "templates"
PARTS = "##"


class ReportError(Exception):
    """The notebook cannot become a report; the message says why."""


# --- notebook to blocks ---


def blocks(notebook: Notebook) -> list[Block]:
    """Read what is meant for readers out of an executed notebook, in its order.

    Returns
    -------
    list of dict
        Each has a ``kind``: ``prose`` (Markdown, split before each part), ``decision``,
        ``contents`` (its place), ``table``, ``figure``, ``svg``, ``image`` or ``plain``.

    Raises
    ------
    ReportError
        If a cell failed or was not run, even a hidden one.
    """
    _refuse_unfinished(notebook)
    found: list[Block] = []
    for cell in notebook["cells"]:
        tags = set(cell.get("metadata", {}).get("tags", ()))
        if "remove_cell" in tags or cell["cell_type"] == "raw":
            continue
        if cell["cell_type"] == "markdown":
            found += [{"kind": "prose", "text": part} for part in _parts(_text(cell["source"]))]
        elif not tags & {"remove_output", "remove_outputs"}:
            found += [block for output in cell["outputs"] for block in _output(output)]
    return _numbered(_with_contents(_titled(found)))


def _refuse_unfinished(notebook: Notebook) -> None:
    if notebook.get("metadata", {}).get("papermill", {}).get("exception"):
        raise ReportError("the notebook's run ended in an error; no report is made of it")
    for place, cell in enumerate(notebook["cells"], 1):
        if cell["cell_type"] != "code":
            continue
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                what = f"{output.get('ename', 'an error')}: {output.get('evalue', '')}"
                raise ReportError(f"cell {place} ended in {clean(what)}; no report is made of it")
        if _text(cell["source"]).strip() and cell.get("execution_count") is None:
            raise ReportError(f"cell {place} was not run; no report is made of it")


def _text(source: str | Sequence[str]) -> str:
    """Notebook files hold a text as one string or as a list of lines."""
    return source if isinstance(source, str) else "".join(source)


def _parts(source: str) -> Iterator[str]:
    """Split Markdown before each heading of a part, so that a part may start a page."""
    lines: list[str] = []
    fence = ""
    for line in source.splitlines():
        mark = re.match(r" {0,3}(```+|~~~+)", line)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1].startswith(fence):
            fence = ""
        if not fence and re.match(rf"{PARTS}\s", line) and any(x.strip() for x in lines):
            yield "\n".join(lines)
            lines = []
        lines.append(line)
    if any(line.strip() for line in lines):
        yield "\n".join(lines)


def _output(output: Mapping[str, Any]) -> Iterator[Block]:
    """Read one output: the richest face that a page can hold."""
    if output["output_type"] == "stream":
        if output["name"] == "stdout" and _text(output["text"]).strip():
            yield {"kind": "plain", "text": _text(output["text"]).rstrip()}
        return
    data = output["data"]
    if any(kind.startswith("application/vnd.jupyter.widget") for kind in data):
        return  # a progress bar
    plain = _text(data.get("text/plain", ""))
    if DECISION_MIME in data:
        yield {"kind": "decision", **data[DECISION_MIME]}
    elif TABLE_MIME in data:
        yield {"kind": "table", **data[TABLE_MIME]}
    elif FIGURE_MIME in data:
        yield {"kind": "figure", **data[FIGURE_MIME], "svg": _text(data["image/svg+xml"])}
    elif "text/markdown" in data:
        for part in _parts(_text(data["text/markdown"])):
            yield {"kind": "prose", "text": part}
    elif "image/svg+xml" in data:
        yield {"kind": "figure", "name": "figure", "caption": "", "alt": plain or "picture",
               "svg": _text(data["image/svg+xml"])}  # fmt: skip
    elif "image/png" in data:
        yield {"kind": "image", "alt": plain or "picture", "png": _text(data["image/png"])}
    elif plain.strip():
        yield {"kind": "plain", "text": plain}


def _titled(found: list[Block]) -> list[Block]:
    """Head a notebook that has no title of its own: a tagged PDF begins with a title."""
    prose = "\n\n".join(block["text"] for block in found if block["kind"] == "prose")
    first = _HEADING.search(_without_fences(prose))
    if first and len(first[1]) == 1:
        return found
    return [{"kind": "prose", "text": "# Report"}, *found]


def _with_contents(found: list[Block]) -> list[Block]:
    """Put the line of contents behind the banner, else behind the first prose."""
    for kind in ("decision", "prose"):
        for place, block in enumerate(found):
            if block["kind"] == kind:
                return [*found[: place + 1], {"kind": "contents"}, *found[place + 1 :]]
    return found


def _numbered(found: list[Block]) -> list[Block]:
    """Number tables and figures that have a caption; give each figure a file name of its own."""
    counts = {"table": 0, "figure": 0}
    names: set[str] = set()
    for block in found:
        kind = block["kind"]
        if kind in counts:
            counts[kind] += bool(block["caption"])
            block["label"] = f"{kind.title()} {counts[kind]}. " if block["caption"] else ""
        if kind == "figure":
            block["name"] = _unused(slug(block["name"]), names)
    return found


def _unused(name: str, names: set[str]) -> str:
    tried, count = name, 1
    while tried in names:
        count += 1
        tried = f"{name}-{count}"
    names.add(tried)
    return tried


def _decision(found: Iterable[Block]) -> Block | None:
    return next((block for block in found if block["kind"] == "decision"), None)


_HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*\s*$", re.MULTILINE)


def _headings(found: Iterable[Block], level: int) -> list[str]:
    """Return the texts of the headings of a level, their markup included."""
    prose = (_without_fences(block["text"]) for block in found if block["kind"] == "prose")
    return [m[2] for text in prose for m in _HEADING.finditer(text) if len(m[1]) == level]


def _without_fences(markdown: str) -> str:
    """Drop blocks of code, in which a # starts a comment and no heading."""
    return re.sub(r"^(```+|~~~+).*?^\1", "", markdown, flags=re.MULTILINE | re.DOTALL)


def _unmarked(markdown: str) -> str:
    """Strip the marks of inline Markdown from a heading."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", markdown)
    text = re.sub(r"(?<!\\)[*`]|(?<![\w\\])_|(?<!\\)_(?!\w)", "", text)
    return re.sub(r"\\([^\w\s])", r"\1", text)


def _title(found: Sequence[Block]) -> str:
    return next((_unmarked(text) for text in _headings(found, 1)), "Report")


# --- blocks to PDF ---


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
    decision = _decision(found)
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
_BETWEEN = "TarsGaNextChunkOfProse"


def _typst_prose(texts: Sequence[str]) -> list[str]:
    """Turn Markdown into Typst markup by one call of pandoc: a process a cell would be slow."""
    if not texts:
        return []
    drawn = ["\n".join(map(printable, text.splitlines())) for text in texts]
    # emphasised, so that a mark which an unclosed fence swallowed is told from one that was read
    made = _pandoc(f"\n\n*{_BETWEEN}*\n\n".join(drawn)).split(f"\n#emph[{_BETWEEN}]\n")
    if len(made) != len(texts):
        made = [_pandoc(text) for text in drawn]
    return made


def _pandoc(markdown: str) -> str:
    import pypandoc

    command = [pypandoc.get_pandoc_path(), "--sandbox", "--to=typst", "--wrap=none"]
    command.append("--from=gfm-emoji")  # what reads :100: in a label must not become a picture
    done = subprocess.run(command, input=markdown.encode(), capture_output=True, timeout=60)
    if done.returncode:
        raise ReportError(f"pandoc: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode()


def _document(found: Sequence[Block], paper: Paper) -> dict[str, Any]:
    """Collect what the template is given, every text cut where it may break."""
    decision = _decision(found)
    title = printable(_title(found))
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
        document["footer"] = pieces(_fingerprint(decision["fingerprint"]))
        document["keywords"] = [decision["decision"], release]
        document["look"] = _look(decision["decision"])
        marks = {"SIMULATED DATA": decision["simulated"], "DRAFT": decision["draft"]}
        document["mark"] = " · ".join(mark for mark, shown in marks.items() if shown)
    return document


def _fingerprint(digest: str) -> str:
    """Shorten a digest for the foot of a page."""
    text = printable(digest)
    kind, colon, value = text.rpartition(":")
    short = f"{kind}{colon}{value[:16]}…" if len(value) > 20 else text
    return f"Digest {_brief(short, 40)}" if short else ""


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
            [_look(v) if k == "verdict" else cut(v) for k, v in zip(kinds, row, strict=True)]
            for row in block["rows"]
        ],
        "size": size,
        "width": width,
        "widths": widths,
    }


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
    for size in _SIZES:
        if size >= 8 and sum(wanted) * size + pad <= _LINE:  # without wrapping
            return _shared(wanted, least, size, sum(wanted) * size + pad)
    for size in _SIZES:
        if sum(least) * size + pad <= _LINE:
            shared = _shared(wanted, least, size, _LINE)
            pairs = zip(wanted, shared[0], strict=True)
            lines = max(want * size / (have - _PAD) for want, have in pairs)
            if lines <= 4 or size <= 7:
                return shared
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
        if kind != "verdict":
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


# --- blocks to Markdown ---


def to_markdown(notebook: Notebook, *, folder: str = "charts") -> tuple[str, dict[str, bytes]]:
    """Write an executed notebook as GitHub Markdown, with its charts as files beside it.

    Parameters
    ----------
    notebook : mapping
        A notebook as nbformat or ``json.load`` reads it.
    folder : str
        Where the charts go, relative to the Markdown file.

    Returns
    -------
    text : str
    files : dict of str to bytes
        Content by relative path, ``charts/NAME.svg``.
    """
    found = blocks(notebook)
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
    if kind == "table":
        return table_markdown(block, block["label"])
    if kind == "figure":
        path = f"{folder}/{block['name']}.svg"
        files[path] = block["svg"].encode()
        caption = f"\n\n*{block['label']}{md_escape(block['caption'])}*" if block["caption"] else ""
        return f"![{md_escape(block['alt'])}]({path}){caption}"
    if kind == "image":
        path = f"{folder}/{_unused('picture', {Path(name).stem for name in files})}.png"
        files[path] = base64.b64decode(block["png"])
        return f"![{md_escape(block['alt'])}]({path})"
    return "\n".join(f"    {clean(line)}" for line in block["text"].splitlines())


def _md_contents(found: Sequence[Block]) -> str:
    """Link the parts by the anchors that GitHub gives to headings."""
    parts = [_unmarked(text) for text in _headings(found, len(PARTS))]
    if len(parts) < 2:
        return ""
    seen: set[str] = {_anchor(_title(found))}
    links = []
    for part in parts:
        links.append(f"[{md_escape(part)}](#{_unused_anchor(_anchor(part), seen)})")
    return "Contents: " + " · ".join(links)


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def _unused_anchor(anchor: str, seen: set[str]) -> str:
    tried, count = anchor, 0
    while tried in seen:
        count += 1
        tried = f"{anchor}-{count}"
    seen.add(tried)
    return tried


# --- nbconvert ---


def _exporters() -> dict[str, type]:
    """Make the exporter classes; only who asks for one pays for the import of nbconvert."""
    from nbconvert.exporters.exporter import Exporter
    from traitlets import Enum, Integer, Unicode

    class TypstPDFExporter(Exporter):
        """``jupyter nbconvert --to tars_ga_pdf``: a notebook as a PDF, by way of Typst."""

        export_from_notebook = "T.A.R.S. GA report (PDF)"
        output_mimetype = "application/pdf"
        file_extension = ".pdf"
        paper = Enum(["a4", "us-letter"], "a4", help="Size of the pages.").tag(config=True)
        timestamp = Integer(
            None, allow_none=True, help="Date of the document, in seconds since 1970."
        ).tag(config=True)

        def from_notebook_node(self, nb: Any, resources: Any = None, **kw: Any) -> tuple[Any, Any]:
            nb, resources = super().from_notebook_node(nb, resources, **kw)
            resources["output_extension"] = ".pdf"
            paper: Paper = "us-letter" if self.paper == "us-letter" else "a4"
            return to_pdf(nb, paper=paper, timestamp=self.timestamp), resources

    class MarkdownExporter(Exporter):
        """``jupyter nbconvert --to tars_ga_markdown``: GitHub Markdown and SVG files beside it."""

        export_from_notebook = "T.A.R.S. GA report (Markdown)"
        output_mimetype = "text/markdown"
        file_extension = ".md"
        folder = Unicode("charts", help="Where the charts go.").tag(config=True)

        def from_notebook_node(self, nb: Any, resources: Any = None, **kw: Any) -> tuple[Any, Any]:
            nb, resources = super().from_notebook_node(nb, resources, **kw)
            text, files = to_markdown(nb, folder=self.folder)
            resources["output_extension"] = ".md"
            resources.setdefault("outputs", {}).update(files)
            return text, resources

    return {"TypstPDFExporter": TypstPDFExporter, "MarkdownExporter": MarkdownExporter}


if TYPE_CHECKING:
    TypstPDFExporter: type
    MarkdownExporter: type


def __getattr__(name: str) -> Any:
    """Give the exporter classes on demand, as the entry points ask for them."""
    if name in ("TypstPDFExporter", "MarkdownExporter"):
        globals().update(_exporters())
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
