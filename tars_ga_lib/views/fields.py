"""The report's fields at its end: what was filled, from where, and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from IPython.display import Markdown

from tars_ga_lib import fields
from tars_ga_lib.display import md_escape
from tars_ga_lib.fields import lists
from tars_ga_lib.run import Run

if TYPE_CHECKING:
    import pandas as pd


def fields_summary(run: Run | lists.Values) -> Markdown:
    """Say how many fields have a value, and what those rest on."""
    return Markdown(md_escape(lists.summary(_values(run))))


def field_table(run: Run | lists.Values) -> list[pd.DataFrame]:
    """Show what was filled with its source, and what is missing with the reason.

    `run` may be the values of `fields.values` instead, where they are at hand.
    """
    values = _values(run)
    return [lists.filled(values), lists.missing(values)]


def _values(run: Run | lists.Values) -> lists.Values:
    return fields.values(run) if isinstance(run, Run) else run
