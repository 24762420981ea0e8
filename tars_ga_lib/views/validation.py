"""What was measured on the running system: counts, every check, and the failures in full."""

from __future__ import annotations

from typing import TYPE_CHECKING

from IPython.display import Markdown

from tars_ga_lib.display import md_escape
from tars_ga_lib.system import words
from tars_ga_lib.views.common import Facts

if TYPE_CHECKING:
    import pandas as pd


def validation_summary(results: Facts | None) -> Markdown:
    """Write what was validated when, and how many checks came out how.

    Parameters
    ----------
    results
        Content of `validation_results.json`; None where there is none.
    """
    return Markdown(md_escape(words.NOTHING if results is None else " ".join(words.about(results))))


def validation_table(results: Facts | None, most: int | None = None) -> pd.DataFrame:
    """Show every check with its value and limit: failures first, then what has no data."""
    return words.table(results, most)


def validation_failures(results: Facts | None, most: int | None = None) -> pd.DataFrame:
    """Show what was asked where, of each check that fails or has no data."""
    return words.failures(results, most)
