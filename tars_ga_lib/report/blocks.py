"""What is meant for readers, read out of an executed notebook: the blocks that all reports set.

Tables and the banner are read from their machine-readable faces, and charts from their SVG and what
its metadata says of it, so no report has to read figures back out of rendered HTML. A notebook that
failed or did not run makes no report; code and stderr are not for readers and stay out. Cells with
the tag ``appendix`` make the appendix, all others the report.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from tars_ga_lib.display import DECISION_MIME, IDENTITY_MIME, clean, slug
from tars_ga_lib.report.prose import parts
from tars_ga_lib.tables import TABLE_MIME

Notebook = Mapping[str, Any]
Block = dict[str, Any]
Paper = Literal["a4", "us-letter"]
Part = Literal["report", "appendix"]


class ReportError(Exception):
    """The notebook cannot become a report; the message says why."""


def blocks(notebook: Notebook, part: Part = "report") -> list[Block]:
    """Read what is meant for readers out of an executed notebook, in its order.

    The banner heads either part: it is what the edges of all pages say.

    Returns
    -------
    list of dict
        Each has a ``kind``: ``prose`` (Markdown, split before each part), ``decision``,
        ``identity``, ``contents`` (its place), ``table``, ``figure``, ``image`` or ``plain``.

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
        ours = ("appendix" in tags) == (part == "appendix")
        if cell["cell_type"] == "markdown":
            found += _prose(cell["source"]) if ours else []
        elif not tags & {"remove_output", "remove_outputs"}:
            shown = [block for output in cell["outputs"] for block in _output(output)]
            found += [block for block in shown if ours or block["kind"] == "decision"]
    if part == "appendix":  # its title stands before the banner
        found.sort(key=lambda block: block["kind"] == "decision")
        found[1:1] = [found.pop()] if found and found[-1]["kind"] == "decision" else []
    return _numbered(_with_contents(_titled(found)), "A" if part == "appendix" else "")


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
        if text_of(cell["source"]).strip() and cell.get("execution_count") is None:
            raise ReportError(f"cell {place} was not run; no report is made of it")


def text_of(source: str | Sequence[str]) -> str:
    """Notebook files hold a text as one string or as a list of lines."""
    return source if isinstance(source, str) else "".join(source)


def _output(output: Mapping[str, Any]) -> Iterator[Block]:
    """Read one output: the richest face that a page can hold."""
    if output["output_type"] == "stream":
        if output["name"] == "stdout" and text_of(output["text"]).strip():
            yield {"kind": "plain", "text": text_of(output["text"]).rstrip()}
        return
    data = output["data"]
    if any(kind.startswith("application/vnd.jupyter.widget") for kind in data):
        return  # a progress bar
    plain = text_of(data.get("text/plain", ""))
    if DECISION_MIME in data:
        yield {"kind": "decision", **data[DECISION_MIME]}
    elif IDENTITY_MIME in data:
        yield {"kind": "identity", **data[IDENTITY_MIME]}
    elif TABLE_MIME in data:
        yield {"kind": "table", **data[TABLE_MIME]}
    elif "text/markdown" in data:
        yield from _prose(data["text/markdown"])
    elif "image/svg+xml" in data:
        known = output.get("metadata", {}).get("image/svg+xml", {})
        yield {"kind": "figure", "name": known.get("name", "figure"),
               "caption": known.get("caption", ""), "alt": known.get("alt") or plain or "picture",
               "values": known.get("values", ()),
               "svg": text_of(data["image/svg+xml"]), "foreign": "name" not in known}  # fmt: skip
    elif "image/png" in data:
        yield {"kind": "image", "alt": plain or "picture", "png": text_of(data["image/png"])}
    elif plain.strip():
        yield {"kind": "plain", "text": plain}


def _prose(source: str | Sequence[str]) -> list[Block]:
    return [{"kind": "prose", **part} for part in parts(text_of(source))]


def _titled(found: list[Block]) -> list[Block]:
    """Head a notebook that has no title of its own: a tagged PDF begins with a title."""
    every = [level for block in found for level, _ in block.get("headings", ())]
    return found if every[:1] == [1] else [*_prose("# Report"), *found]


def _with_contents(found: list[Block]) -> list[Block]:
    """Put the line of contents below what the first page is about, else behind the first prose."""
    for kind in ("identity", "decision", "prose"):
        for place, block in enumerate(found):
            if block["kind"] == kind:
                return [*found[: place + 1], {"kind": "contents"}, *found[place + 1 :]]
    return found


def _numbered(found: list[Block], series: str) -> list[Block]:
    """Number tables and figures that have a caption; give each figure a file name of its own."""
    counts = {"table": 0, "figure": 0}
    names: set[str] = set()
    for block in found:
        kind = block["kind"]
        if kind in counts:
            counts[kind] += bool(block["caption"])
            block["label"] = f"{kind.title()} {series}{counts[kind]}. " if block["caption"] else ""
        if kind == "figure":
            block["name"] = unused(slug(block["name"]), names)
    return found


def unused(name: str, names: set[str]) -> str:
    """Return a name that is not among the names, numbered if it must be, and add it to them."""
    tried, count = name, 1
    while tried in names:
        count += 1
        tried = f"{name}-{count}"
    names.add(tried)
    return tried


def decision_of(found: Iterable[Block]) -> Block | None:
    """Return the banner's block, if there is one."""
    return next((block for block in found if block["kind"] == "decision"), None)


def headings(found: Iterable[Block], level: int) -> list[str]:
    """Return the words of the headings of a level."""
    return [
        words
        for block in found
        if block["kind"] == "prose"
        for own, words in block["headings"]
        if own == level
    ]


def title_of(found: Sequence[Block]) -> str:
    """Return the title of the report."""
    return next(iter(headings(found, 1)), "Report")
