"""The report's fields at its end: what was filled, from where, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from IPython.display import Markdown

from tars_ga_lib import fields
from tars_ga_lib.display import md_escape
from tars_ga_lib.fields.values import FieldValue, plain
from tars_ga_lib.run import Run
from tars_ga_lib.tables import Column, frame

if TYPE_CHECKING:
    import pandas as pd

Values = Mapping[str, FieldValue]

_SORTS = {
    "run": "facts of the run's files",
    "query": "KPIs",
    "evidence": "evidence files",
    "computation": "computations",
}


def fields_summary(run: Run | Values) -> Markdown:
    """Say how many fields have a value, and what those rest on."""
    values = _values(run)
    filled = [each for each in values.values() if not each.missing]
    counts = [
        f"{sum(fields.FIELDS[each.name].sort == sort for each in filled)} from {words}"
        for sort, words in _SORTS.items()
    ]
    text = f"{len(filled)} of {len(values)} fields of the report have a value: {', '.join(counts)}."
    return Markdown(md_escape(text))


def field_table(run: Run | Values) -> list[pd.DataFrame]:
    """Show what was filled with its source, and what is missing with the reason.

    `run` may be the values of `fields.values` instead, where they are at hand.
    """
    values = _values(run)
    filled = [
        [each.name, _short(each), each.source] for each in values.values() if not each.missing
    ]
    reasons: dict[str, list[str]] = {}
    for each in values.values():
        if each.missing:
            reasons.setdefault(each.reason, []).append(each.name)
    columns: list[Column | str] = [Column("Field", "code"), "Value", "Source"]
    return [
        frame(
            columns,
            filled,
            caption="Fields of the report that have a value",
            empty="NO DATA: no field has a value.",
            note="KPIs are those of ga_kpi_summary.json; 'tars-ga fields' tells what each means.",
        ),
        frame(
            [Column("Fields", "code"), "NO DATA, because"],
            [[", ".join(names), reason] for reason, names in reasons.items()],
            caption="Fields of the report without data",
            empty="Every field has a value.",
        ),
    ]


def _values(run: Run | Values) -> Values:
    if not isinstance(run, Run):
        return run

    return fields.values(run)


def _short(value: FieldValue, most: int = 64) -> str:
    """Write a value for a narrow column; a block only by its size."""
    if value.parts:
        lines = len(plain(value.parts))
        return f"{lines} line{'s' if lines > 1 else ''}"
    return value.text if len(value.text) <= most else value.text[: most - 1] + "…"
