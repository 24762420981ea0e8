"""Tables of the fields themselves: what each means, what has a value, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tars_ga_lib.fields import FIELDS
from tars_ga_lib.fields.values import FieldValue, plain
from tars_ga_lib.tables import Column, frame
from tars_ga_lib.wording import count

if TYPE_CHECKING:
    import pandas as pd

Values = Mapping[str, FieldValue]

SORTS = {
    "run": "facts of the run's files",
    "query": "KPIs",
    "evidence": "evidence files",
    "computation": "computations",
}
"""What the sorts of sources are called."""


def registry() -> pd.DataFrame:
    """Show every field with its unit, its meaning and its source."""
    rows = [
        [f.name, f.unit.shown or f.unit.si, f.meaning, f"{f.sort}: {f.source}"]
        for f in FIELDS.values()
    ]
    columns: list[Column | str] = [Column("Field", "code"), "Unit", "Meaning", "From"]
    return frame(columns, rows, caption="Fields of the report")


def filled(values: Values) -> pd.DataFrame:
    """Show the fields that have a value, with its source."""
    rows = [[v.name, _short(v), v.source] for v in values.values() if not v.missing]
    return frame(
        [Column("Field", "code"), "Value", "Source"],
        rows,
        caption="Fields of the report that have a value",
        empty="NO DATA: no field has a value.",
        note="KPIs are those of ga_kpi_summary.json; 'tars-ga fields' tells what each means.",
    )


def missing(values: Values) -> pd.DataFrame:
    """Show the fields without data, those of one reason together."""
    reasons: dict[str, list[str]] = {}
    for value in values.values():
        if value.missing:
            reasons.setdefault(value.reason, []).append(value.name)
    return frame(
        [Column("Fields", "code"), "NO DATA, because"],
        [[", ".join(names), reason] for reason, names in reasons.items()],
        caption="Fields of the report without data",
        empty="Every field has a value.",
    )


def summary(values: Values) -> str:
    """Say how many fields have a value, and what those rest on."""
    sorts = [FIELDS[v.name].sort for v in values.values() if not v.missing]
    counts = [f"{sorts.count(sort)} from {words}" for sort, words in SORTS.items()]
    return f"{len(sorts)} of {len(values)} fields of the report have a value: {', '.join(counts)}."


def _short(value: FieldValue, most: int = 64) -> str:
    """Write a value for a narrow column; a block only by its size."""
    if value.parts:
        return count(len(plain(value.parts)), "line")
    return value.text if len(value.text) <= most else value.text[: most - 1] + "…"
