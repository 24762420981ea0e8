"""Tables: pandas DataFrames of plain values that know how they read.

`frame` makes one. Its columns have plain names and hold values in SI units, so that a notebook can
filter, sort and join them; how each column reads (its title, its unit) is in ``frame.attrs``, and
goes along when rows are chosen. `show` displays any DataFrame as the report sets it.

Texts are written once, by `written`, whoever shows them: the notebook, the PDF, the page, Markdown
or the terminal. Two rules hold for every cell. Data is never code: what comes from a label, a name
or a query is escaped for the language that it is written into. And missing data is never good
news: a missing number reads ``NO DATA``, and nothing is rounded across a limit.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from tars_ga_lib.display import (
    CHIPS,
    NO_DATA,
    chip,
    clean,
    duration,
    md_code,
    md_escape,
    quantity,
    when,
)

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
    "show",
    "written",
]

TABLE_MIME = "application/vnd.tars-ga.table+json"

Align = Literal["left", "right", "center"]
Kind = Literal["text", "number", "verdict", "code", "blank"]
Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """How one column of a table reads.

    Parameters
    ----------
    title : str
        Heading.
    kind : {"text", "number", "verdict", "code", "blank"}
        ``verdict`` cells hold a key of `CHIPS`. ``code`` cells (queries, digests) are set in a
        fixed width and may break anywhere. ``blank`` cells hold text, or leave room for a pen where
        there is none.
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
            if look.kind == "verdict" and value is not None:
                chip(str(value))
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


# --- from a DataFrame to texts ---


def written(table: pd.DataFrame) -> dict[str, Any]:
    """Write the texts of a DataFrame.

    Returns
    -------
    dict
        ``caption``, ``note``, ``empty``, ``columns`` (title, kind and align of each) and ``rows``
        of texts.
    """
    about: Mapping[Any, Any] = table.attrs
    looks = {n: about.get("columns", {}).get(n) or _guess(n, table[n]) for n in table.columns}
    most = about.get("most")
    records = (table if most is None else table.head(most)).to_dict("records")
    shown = {
        name: cells
        for name, look in looks.items()
        if not look.hidden
        if any(cells := [_text(look, name, row) for row in records]) or not look.optional
    }
    left_out = ""
    if len(records) < len(table):
        left_out = f"{len(records)} of {len(table)} rows are shown. {about['rest']}".strip()
    return {
        "caption": about.get("caption", ""),
        "columns": [
            {"title": look.title, "kind": look.kind, "align": look.side}
            for look in (looks[name] for name in shown)
        ],
        "empty": about.get("empty", "Nothing to show."),
        "note": " ".join(part for part in (left_out, about.get("note", "")) if part),
        "rows": [list(row) for row in zip(*shown.values(), strict=True)],
    }


def _guess(name: Any, column: pd.Series[Any]) -> Column:
    """Read a column that nobody described: numbers stand right."""
    title = str(name).replace("_", " ").capitalize()
    unit = "time" if column.dtype.kind == "M" else ""
    return Column(title, "number" if column.dtype.kind in "iuf" else "text", unit)


def _text(look: Column, name: Any, record: Mapping[Any, Any]) -> str:
    """Write one cell."""
    value = record[name]
    if value is None or value != value:  # NaN, NaT
        return "no_data" if look.kind == "verdict" else NO_DATA
    if isinstance(value, str):
        return value
    unit = record[look.unit_from] if look.unit_from else look.unit
    if isinstance(value, bool) or unit == "bool":
        return "yes" if value else "no"
    if unit == "duration":
        return duration(value)
    if unit == "whole":
        return f"{value:,.0f}"
    if unit == "time":
        return when(value)
    limit = record[look.limit_from] if look.limit_from else None
    return quantity(float(value), unit or "", limit=limit, digits=look.digits, signed=look.signed)


def lines(table: pd.DataFrame) -> list[str]:
    """Write a table as lines of plain text: a row each."""
    facts = written(table)
    kinds = [column["kind"] for column in facts["columns"]]
    found = []
    for row in facts["rows"]:
        first, *rest = [
            CHIPS[cell].label if kind == "verdict" else cell
            for kind, cell in zip(kinds, row, strict=True)
            if cell and kind != "blank"
        ] or [""]
        found.append(first + (f": {', '.join(rest)}" if rest else ""))
    return found or [facts["empty"]]


class Shown:
    """A table as it is displayed: in notebooks as Markdown, for exporters as texts."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        facts = written(self.table)
        about = clean(facts["caption"]) or "without caption"
        return {
            TABLE_MIME: facts,
            "text/markdown": as_markdown(facts),
            "text/plain": f"Table: {about}, {len(facts['rows'])} rows",
        }


def show(table: pd.DataFrame) -> Shown:
    """Display a DataFrame as the report sets it."""
    return Shown(table)


# --- Markdown and HTML ---


def as_markdown(facts: Facts, label: str = "") -> str:
    """Write a table as GitHub Markdown, the caption above and the note below."""
    caption = f"**{label}{md_escape(facts['caption'])}**\n\n" if facts["caption"] else ""
    note = f"\n\n*{md_escape(facts['note'])}*" if facts["note"] else ""
    if not facts["rows"]:
        return f"{caption}{md_escape(facts['empty'])}{note}"
    sides = {"left": ":--", "right": "--:", "center": ":-:"}
    rows = [
        [md_escape(column["title"]) or " " for column in facts["columns"]],
        [sides[column["align"]] for column in facts["columns"]],
        *markdown_rows(facts),
    ]
    return caption + "\n".join(f"| {' | '.join(row)} |" for row in rows) + note


def markdown_rows(facts: Facts, *, strong: bool = True) -> list[list[str]]:
    """Write the cells of a table as Markdown; a failure is bold if `strong`."""
    kinds = [column["kind"] for column in facts["columns"]]
    return [
        [_md_cell(kind, cell, strong) for kind, cell in zip(kinds, row, strict=True)]
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


def as_html(facts: Facts, label: str = "", name: str = "table") -> str:
    """Write a table as HTML, for the style sheet of the report.

    `label` numbers it, `name` is the identifier of its caption.
    """
    caption = f"<strong>{_escaped(label)}</strong>{_escaped(facts['caption'])}"
    note = f'<p class="small">{_escaped(facts["note"])}</p>' if facts["note"] else ""
    columns, rows = facts["columns"], facts["rows"]
    if not rows:
        return f'<div class="table"><p>{caption}</p><p>{_escaped(facts["empty"])}</p>{note}</div>'
    head = "".join(
        f'<th scope="col" class="{c["align"]}">{_escaped(c["title"])}</th>' for c in columns
    )
    body = "".join(
        f"<tr>{''.join(_html_cell(c, v) for c, v in zip(columns, row, strict=True))}</tr>\n"
        for row in rows
    )
    looks = {
        "tall": any(c["kind"] == "blank" for c in columns),
        "short": len(rows) <= 16,  # not torn by the end of a printed page
        "stacks": len(columns) > 4 and len(rows) <= 20,  # rows become cards on a telephone
    }
    look = " ".join(["table", *(each for each, holds in looks.items() if holds)])
    title = f'<caption id="{name}">{caption}</caption>' if facts["caption"] else ""
    named = f'aria-labelledby="{name}"' if title else 'aria-label="table"'
    # what is too wide for the page scrolls by itself, by the keyboard too
    return (
        f'<div class="{look}"><div class="scroll" role="region" {named} tabindex="0">'
        f"<table>{title}<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"
        f"{note}</div>"
    )


def _escaped(value: object) -> str:
    return html.escape(clean(value), quote=True)


def _html_cell(column: Facts, value: str) -> str:
    kind, inner = column["kind"], _escaped(value)
    looks = [column["align"], kind, *(["missing"] if value == NO_DATA else [])]
    if kind == "verdict":
        look = chip(value)
        inner = f'<span class="chip {look.tone}">{html.escape(look.text)}</span>'
    elif kind == "code":
        inner = f"<code>{inner}</code>"
    if kind == "verdict" or (column["align"] == "right" and len(value) <= 24):
        looks.append("keep")
    return f'<td class="{" ".join(looks)}" data-label="{_escaped(column["title"])}">{inner}</td>'
