"""Tables: pandas DataFrames of plain values that know how they read.

`frame` makes one. Its columns have plain names and hold values in SI units, so that a notebook can
filter, sort and join them; how each column reads (its title, its unit) is in ``frame.attrs``, and
goes along when rows are chosen. `show` displays any DataFrame as the report sets it.

In a notebook's file a shown table is kept as a Tabular Data Resource (``schema`` and ``data``, by
the Frictionless standard): values, not texts. The exporters of :mod:`tars_ga_lib.report` write
texts from it by `written`, once for the PDF, the HTML and the Markdown.

Two rules hold for every cell. Data is never code: what comes from a label, a name or a query is
escaped for the language that it is written into. And missing data is never good news: a missing
number reads ``NO DATA``, and nothing is rounded across a limit.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from tars_ga_lib import sparks
from tars_ga_lib.display import (
    CHIPS,
    NO_DATA,
    TONES,
    chip,
    clean,
    duration,
    md_code,
    md_escape,
    quantity,
    when,
)
from tars_ga_lib.sparks import Spark

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "TABLE_MIME",
    "Column",
    "as_html",
    "as_markdown",
    "frame",
    "lines",
    "markdown_rows",
    "resource",
    "show",
    "written",
]

TABLE_MIME = "application/vnd.dataresource+json"

Align = Literal["left", "right", "center"]
Kind = Literal["text", "number", "verdict", "code", "spark", "blank"]
Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """How one column of a table reads.

    Parameters
    ----------
    title : str
        Heading.
    kind : {"text", "number", "verdict", "code", "spark", "blank"}
        ``verdict`` cells hold a key of `CHIPS`. ``code`` cells (queries, digests) are set in a
        fixed width and may break anywhere. ``spark`` cells hold a `Spark`, or None where there is
        no series; Markdown, which cannot draw, leaves the column out. ``blank`` cells hold text, or
        leave room for a pen where there is none.
    unit : str
        Unit of the numbers; see `quantity`. ``duration`` writes seconds as ``1 h 5 min``, ``time``
        a point in time in UTC, ``bool`` yes or no, ``whole`` all digits.
    align : {"left", "right", "center"}, optional
        Numbers stand right and everything else left unless said.
    optional : bool
        Leave the column out of what is shown where all its cells are empty.
    name : str
        Name of the DataFrame's column; made from the title unless given.
    unit_from, limit_from : str
        Names of the columns that hold each row's own unit, and the limit across which its number
        is not rounded.
    digits, signed
        As `quantity` takes them.
    hidden : bool
        Keep the column in the DataFrame, and out of what is shown.
    """

    title: str
    kind: Kind = "text"
    unit: str = ""
    align: Align | None = None
    optional: bool = False
    name: str = ""
    unit_from: str = ""
    limit_from: str = ""
    digits: int = 4
    signed: bool = False
    hidden: bool = False

    @property
    def side(self) -> Align:
        """Where the cells stand."""
        return self.align or ("right" if self.kind == "number" else "left")


def frame(
    columns: Sequence[Column | str],
    rows: Iterable[Sequence[object]],
    *,
    caption: str = "",
    note: str = "",
    empty: str = "Nothing to show.",
    most: int | None = None,
    rest: str = "",
) -> pd.DataFrame:
    """Make a table.

    Parameters
    ----------
    columns : sequence of Column or str
        A string stands for a text column of that title.
    rows : iterable of sequences
        Numbers are written in the column's unit, strings as they are; None and NaN read
        ``NO DATA``.
    caption : str
        Stands above the table and numbers it.
    note : str
        Small print below.
    empty : str
        The sentence that stands for a table without rows.
    most : int, optional
        Show no more rows than this and say how many were left out: sort the worst first. The
        DataFrame holds them all.
    rest : str
        Where the rows left out are found, for that sentence.

    Raises
    ------
    ValueError
        If a row has another number of cells than there are columns, or a verdict is unknown.
    """
    import pandas as pd  # a command that only prints need not wait for it

    looks = [c if isinstance(c, Column) else Column(c) for c in columns]
    names = _names(looks)
    cells: dict[str, list[object]] = {name: [] for name in names}
    for row in rows:
        if isinstance(row, str) or len(row) != len(looks):
            raise ValueError(f"a row needs {len(looks)} cells: {row!r}")
        for look, name, value in zip(looks, names, row, strict=True):
            _check(look, value)
            cells[name].append(value)
    table = pd.DataFrame(
        {n: pd.Series(values, dtype=_dtype(values)) for n, values in cells.items()}
    )
    table.attrs = {
        "columns": dict(zip(names, looks, strict=True)),
        "caption": caption, "note": note, "empty": empty, "most": most, "rest": rest,
    }  # fmt: skip
    return table


def _names(looks: Sequence[Column]) -> list[str]:
    """Name the columns as Python names variables."""
    names: list[str] = []
    for place, look in enumerate(looks, 1):
        name = look.name or re.sub(r"\W+", "_", look.title.lower()).strip("_") or f"column_{place}"
        names.append(f"{name}_{place}" if name in names else name)
    return names


def _dtype(values: Sequence[object]) -> Any:
    """Make a column of numbers of numbers, in which what is missing is NaN; leave all else."""
    numbers = [v for v in values if v is not None]
    if numbers and all(isinstance(v, datetime) for v in numbers):
        return "datetime64[s, UTC]"
    is_number = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in numbers)
    if not numbers or not is_number:
        return object
    return int if len(numbers) == len(values) and all(isinstance(v, int) for v in values) else float


def _check(look: Column, value: object) -> None:
    if look.kind == "spark" and value is not None and not isinstance(value, Spark):
        raise ValueError(f"a cell of {look.title!r} holds a Spark or None, not {value!r}")
    if look.kind == "verdict" and value is not None:
        chip(str(value))


# --- from a DataFrame to texts ---


def resource(table: pd.DataFrame) -> dict[str, Any]:
    """Return a DataFrame as a Tabular Data Resource: its schema and its values, as in JSON."""
    known: dict[str, Column] = table.attrs.get("columns", {})
    fields = []
    for name in map(str, table.columns):
        look = known.get(name) or _guess(name, table[name])
        facts = {k: v for k, v in asdict(look).items() if v or k == "title"}
        fields.append(facts | {"name": name, "align": look.side})
    about = {k: table.attrs.get(k) or "" for k in ("caption", "note", "rest")}
    about["empty"] = table.attrs.get("empty", "Nothing to show.")
    most = table.attrs.get("most")
    kept = table if most is None else table.head(most)
    data = [
        {field["name"]: _plain(value) for field, value in zip(fields, row, strict=True)}
        for row in kept.itertuples(index=False, name=None)
    ]
    return {"schema": {"fields": fields}, "data": data, "rows": len(table), **about}


def _guess(name: str, column: pd.Series[Any]) -> Column:
    """Read a column that nobody described: numbers stand right."""
    title = name.replace("_", " ").capitalize()
    unit = "time" if column.dtype.kind == "M" else ""
    return Column(title, "number" if column.dtype.kind in "iuf" else "text", unit)


def _plain(value: Any) -> Any:
    """Return a cell as JSON has it; None where it is missing."""
    if isinstance(value, Spark):
        return value.to_json()
    if isinstance(value, datetime):
        return None if str(value) == "NaT" else value.isoformat()
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and math.isnan(value) else value


def written(table: pd.DataFrame | Facts) -> dict[str, Any]:
    """Write the texts of a DataFrame, or of the resource that a notebook holds of one.

    Returns
    -------
    dict
        ``caption``, ``note``, ``empty``, ``columns`` (title, kind and align of each) and ``rows``
        of texts; a sparkline is the JSON of it, or None.
    """
    facts: Facts = table if isinstance(table, Mapping) else resource(table)
    fields = [f for f in facts["schema"]["fields"] if not f.get("hidden")]
    rows = [[_text(field, record) for field in fields] for record in facts["data"]]
    kept = [
        place
        for place, field in enumerate(fields)
        if not field.get("optional") or any(row[place] for row in rows)
    ]
    left_out = ""
    if len(rows) < facts.get("rows", len(rows)):
        left_out = f"{len(rows)} of {facts['rows']} rows are shown."
        left_out += f" {facts['rest']}" if facts["rest"] else ""
    columns = [
        {
            "title": field.get("title", field["name"]),
            "kind": field.get("kind", "text"),
            "align": field.get("align", "left"),
        }
        for field in fields
    ]
    return {
        "caption": facts.get("caption", ""),
        "columns": [columns[place] for place in kept],
        "empty": facts.get("empty", "Nothing to show."),
        "note": " ".join(part for part in (left_out, facts.get("note", "")) if part),
        "rows": [[row[place] for place in kept] for row in rows],
    }


def _text(field: Facts, record: Facts) -> Any:
    """Write one cell."""
    value, kind = record[field["name"]], field.get("kind", "text")
    if kind == "spark":
        return value
    if value is None:
        return "no_data" if kind == "verdict" else NO_DATA
    if isinstance(value, str):
        return when(value) if field.get("unit") == "time" and value else value
    unit = record[field["unit_from"]] if "unit_from" in field else field.get("unit", "")
    if isinstance(value, bool) or unit == "bool":
        return "yes" if value else "no"
    if unit == "duration":
        return duration(value)
    if unit == "whole":
        return f"{value:,.0f}"
    if unit == "time":
        return when(value)
    limit = record[field["limit_from"]] if "limit_from" in field else None
    digits, signed = field.get("digits", 4), field.get("signed", False)
    return quantity(float(value), unit or "", limit=limit, digits=digits, signed=signed)


def lines(table: pd.DataFrame) -> list[str]:
    """Write a table as lines of plain text: a row each."""
    facts = written(table)
    if not facts["rows"]:
        return [facts["empty"]]
    return [_line(facts["columns"], row) for row in facts["rows"]]


def _line(columns: Sequence[Facts], row: Sequence[Any]) -> str:
    cells = [
        CHIPS[cell].label if column["kind"] == "verdict" else str(cell)
        for column, cell in zip(columns, row, strict=True)
        if column["kind"] not in ("spark", "blank") and cell
    ]
    return cells[0] + (f": {', '.join(cells[1:])}" if cells[1:] else "") if cells else ""


# --- faces ---


class Shown:
    """A table as it is displayed: in JupyterLab and on GitHub as HTML, for exporters as values."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        facts = resource(self.table)
        about = clean(facts["caption"]) or "without caption"
        return {
            TABLE_MIME: facts,
            "text/html": as_html(written(facts)),
            "text/plain": f"Table: {about}, {len(facts['data'])} rows",
        }


def show(table: pd.DataFrame) -> Shown:
    """Display a DataFrame as the report sets it."""
    return Shown(table)


def as_markdown(facts: Facts, label: str = "") -> str:
    """Write a table as GitHub Markdown, the caption above and the note below."""
    caption = f"**{label}{md_escape(facts['caption'])}**\n\n" if facts["caption"] else ""
    note = f"\n\n*{md_escape(facts['note'])}*" if facts["note"] else ""
    if not facts["rows"]:
        return f"{caption}{md_escape(facts['empty'])}{note}"
    columns = [column for column in facts["columns"] if column["kind"] != "spark"]
    sides = {"left": ":--", "right": "--:", "center": ":-:"}
    rows = [
        [md_escape(column["title"]) or " " for column in columns],
        [sides[column["align"]] for column in columns],
        *markdown_rows(facts),
    ]
    return caption + "\n".join(f"| {' | '.join(row)} |" for row in rows) + note


def markdown_rows(facts: Facts, *, strong: bool = True) -> list[list[str]]:
    """Write the cells of a table as Markdown; a failure is bold if `strong`."""
    return [
        [
            _md_cell(column["kind"], cell, strong)
            for column, cell in zip(facts["columns"], row, strict=True)
            if column["kind"] != "spark"
        ]
        for row in facts["rows"]
    ]


def _md_cell(kind: str, value: str, strong: bool) -> str:
    if kind == "blank" and not value:
        return "\\_" * 12
    if kind == "code":
        return md_code(value, in_table=True)
    if kind == "verdict":
        look = chip(value)
        return f"**{look.text}**" if strong and look.tone == "fail" else look.text
    return md_escape(value)


def as_html(facts: Facts) -> str:
    """Write a table as HTML that reads well in a light and in a dark theme."""
    caption = f"<strong>{html.escape(clean(facts['caption']))}</strong>" if facts["caption"] else ""
    note = f"<small>{html.escape(clean(facts['note']))}</small>" if facts["note"] else ""
    if not facts["rows"]:
        return f"<p>{caption} {html.escape(clean(facts['empty']))} {note}</p>"
    columns = facts["columns"]
    head = "".join(
        f'<th scope="col" style="text-align:{c["align"]}">{html.escape(clean(c["title"]))}</th>'
        for c in columns
    )
    body = "".join(
        "<tr>" + "".join(_html_cell(c, v) for c, v in zip(columns, row, strict=True)) + "</tr>"
        for row in facts["rows"]
    )
    title = (
        f'<caption style="text-align:left;caption-side:top;color:inherit">{caption}</caption>'
        if facts["caption"]
        else ""
    )
    return (
        f'<div style="overflow-x:auto"><table style="margin:.3em 0">{title}'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}</div>"
    )


_HTML_CHIP = (
    '<span style="display:inline-block;padding:0 .6em;border-radius:1em;white-space:nowrap;'
    'font-weight:600;background:{tint};color:{ink}">{text}</span>'
)


def _html_cell(column: Facts, value: Any) -> str:
    if column["kind"] == "spark":
        inner = sparks.svg(value) if value else ""
    elif column["kind"] == "verdict":
        look = chip(value)
        tint, ink, _ = TONES[look.tone]
        inner = _HTML_CHIP.format(tint=tint, ink=ink, text=html.escape(look.text))
    elif column["kind"] == "code":
        inner = f"<code>{html.escape(clean(value))}</code>"
    else:
        inner = html.escape(clean(value))
    nowrap = ";white-space:nowrap" if column["kind"] == "number" else ""
    wrap = ";overflow-wrap:anywhere" if column["kind"] == "code" else ""
    return f'<td style="text-align:{column["align"]}{nowrap}{wrap}">{inner}</td>'
