"""What a report field's value is: in SI as a value, in the field's own unit as a text.

Nothing here falls back on a constant: what has no value says why.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from urllib.parse import quote

from tars_ga_lib import display, tables
from tars_ga_lib.display import NBSP, NO_DATA, quantity, when
from tars_ga_lib.facts import NoDataError
from tars_ga_lib.grammar import format_time
from tars_ga_lib.tables import Column, frame

if TYPE_CHECKING:
    import pandas as pd

Value = float | str | bool | None

ENOUGH = 0.95
"""Coverage below which the text of a figure says how little was seen."""


class Unit(NamedTuple):
    """The SI unit of a field's value, and the one in which its text gives it."""

    si: str
    shown: str = ""
    factor: float = 1.0

    def text(self, value: float, limit: float | None = None) -> str:
        """Write a value, never rounded across its limit."""
        if self.si == "ratio":
            return quantity(value, "ratio", limit=limit)
        if self.si == "count":
            return quantity(round(value) if abs(value) < 1e4 else value, "")
        number = self.number(value) if abs(value / self.factor) >= 1e4 else ""
        scaled = None if limit is None else limit / self.factor
        number = number or quantity(value / self.factor, "", limit=scaled)
        return f"{number}{'' if self.shown.startswith('/') else NBSP}{self.shown}"

    def number(self, value: float) -> str:
        """Write the bare number in the shown unit, for a template that writes the unit itself."""
        scaled = value / self.factor
        return f"{scaled:.0f}" if self.si == "count" or abs(scaled) >= 1e4 else f"{scaled:.6g}"


UNITS = {
    "percent": Unit("ratio", "%", 0.01),
    "count": Unit("count"),
    "milliseconds": Unit("s", "ms", 1e-3),
    "seconds": Unit("s", "s"),
    "minutes": Unit("s", "min", 60.0),
    "hours": Unit("s", "h", 3600.0),
    "days": Unit("s", "d", 86400.0),
    "mebibytes": Unit("B", "MiB", 2.0**20),
    "gibibytes": Unit("B", "GiB", 2.0**30),
    "megabits per second": Unit("B/s", "Mbit/s", 125_000.0),
    "per second": Unit("1/s", "/s"),
    "dollars": Unit("USD", "USD"),
    "requests per core second": Unit("1/(core s)", "requests per core second"),
    "requests per second per GiB": Unit("1/(GiB s)", "requests/s per GiB"),
    "time": Unit("time", "UTC"),
    "text": Unit("text"),
    "block": Unit("Markdown"),
}
"""Units by the names that `report_fields.yaml` gives them."""


# --- blocks: tables and lists ---------------------------------------------------------------------


@dataclass(frozen=True)
class Items:
    """A list of sentences in plain text; an item may lead to a URL, and `title` stands above."""

    items: Sequence[str | tuple[str, str]]
    title: str = ""

    def lines(self) -> list[str]:
        """Return the items in plain text."""
        return [item if isinstance(item, str) else f"{item[0]} ({item[1]})" for item in self.items]


Part: TypeAlias = "pd.DataFrame | Items"


def table(titles: str, rows: Iterable[Sequence[object]], **options: Any) -> pd.DataFrame:
    """Make a table of titles like `Check | !Verdict | >Value`; `options` are those of `frame`.

    The cells below `!` are verdicts, those below `>` stand right.
    """
    columns = [
        Column(title.lstrip("!>"), "verdict" if title[0] == "!" else "text",
               align="right" if title[0] == ">" else None)
        for title in titles.split(" | ")
    ]  # fmt: skip
    return frame(columns, list(rows), **options)


def markdown(parts: Sequence[Part]) -> str:
    """Write a block as GitHub Markdown."""
    texts = []
    for part in parts:
        if not isinstance(part, Items):
            texts.append(tables.as_markdown(tables.written(part)))
            continue
        title = [f"**{display.md_escape(part.title)}**\n"] if part.title else []
        texts.append("\n".join([*title, *(f"- {_item(item)}" for item in part.items)]))
    return "\n\n".join(texts)


def _item(item: str | tuple[str, str]) -> str:
    if isinstance(item, str):
        return display.md_escape(item)
    return f"[{display.md_escape(item[0])}]({link_target(item[1])})"


def link_target(url: str) -> str:
    """Write a URL so that nothing in it ends a Markdown link."""
    return re.sub(r"[\s()<>\\\"'`|\[\]{}]", lambda m: quote(m[0]), url)


def plain(parts: Sequence[Part]) -> list[str]:
    """Write a block as lines of plain text: an item or a row each."""
    return [
        line
        for part in parts
        for line in (part.lines() if isinstance(part, Items) else tables.lines(part))
    ]


def change_text(before: float | None, now: float | None, unit: str) -> str | None:
    """Write a change: of a ratio in percentage points, of anything else in percent."""
    if before is None or now is None or (unit != "ratio" and not before):
        return None
    if unit == "ratio":
        return quantity(now - before, "pp", digits=3, signed=True)
    return quantity((now - before) / abs(before), "ratio", digits=3, signed=True)


# --- a field's value ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What was found for a field; `text` says it in plain words, a block has `parts` instead."""

    value: Value = None
    text: str = ""
    source: str = ""
    coverage: float | None = None
    limit: float | None = None
    note: str = ""
    parts: tuple[Part, ...] = ()


def block(*parts: Part, source: str = "", coverage: float | None = None) -> Found:
    """Return a block."""
    return Found(source=source, coverage=coverage, parts=parts)


@dataclass(frozen=True)
class FieldValue:
    """One report field of one run.

    `text` is what a person reads: plain, in one line, `NO DATA` where there is none, and then
    `reason` says why. `value` is in SI. A block field has `parts`, of which `text` is a digest in
    one line. `source` names the file and key, the KPI or the evidence file.
    """

    name: str
    text: str
    value: Value = None
    unit: str = ""
    source: str = ""
    coverage: float | None = None
    reason: str = ""
    number: str = ""
    parts: tuple[Part, ...] = ()

    @property
    def missing(self) -> bool:
        """Whether there is no data."""
        return bool(self.reason)

    def facts(self) -> dict[str, Any]:
        """Return the value as JSON has it."""
        facts: dict[str, Any] = {
            "text": self.text,
            "value": self.value,
            "unit": self.unit,
            "source": self.source,
            "coverage": self.coverage,
            "reason": self.reason or None,
        }
        return facts | ({"markdown": markdown(self.parts)} if self.parts else {})


def settle(name: str, unit: Unit, find: Callable[[], Found], source: str) -> FieldValue:
    """Turn what is found for a field, or why nothing is, into its value."""
    try:
        found = find()
    except NoDataError as missing:
        reason = str(missing).strip().rstrip(".") or "nothing is known of it"
        return FieldValue(
            name, NO_DATA, unit=unit.si, source=missing.source or source, reason=reason
        )
    value, text, number = found.value, found.text, ""
    if found.parts:
        text = "; ".join(plain(found.parts))
    elif unit.si == "time":
        text = text or when(value)
        value = format_time(int(value)) if isinstance(value, (int, float)) else value
    elif isinstance(value, bool):
        text = text or ("yes" if value else "no")
    elif isinstance(value, (int, float)):
        number = unit.number(value)
        text = text or unit.text(float(value), found.limit)
    text = text or str(value)
    if found.coverage is not None and found.coverage < ENOUGH:
        text += f" (of {quantity(found.coverage, 'ratio')} of the samples)"
    if found.note:
        text += f" ({found.note})"
    return FieldValue(
        name, text, value, unit.si, found.source or source, found.coverage, "", number, found.parts
    )
