"""What was measured on the running system: when, whether it counts, and how far it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tars_ga_lib.display import when
from tars_ga_lib.measured import Results
from tars_ga_lib.tables import Column, frame
from tars_ga_lib.views.common import Facts

if TYPE_CHECKING:
    import pandas as pd

_TITLES = {"validation": "Validation", "websocket": "WebSocket sessions"}


def measured_table(results: Mapping[str, Results]) -> pd.DataFrame:
    """Show what was measured when, and why it does not count where it does not."""
    rows = []
    for kind, one in results.items():
        document = one.document or {}
        marks = ["simulated"] if document.get("simulated") else []
        marks += [text for text in (document.get("note"), one.problem) if text]
        rows.append(
            [
                _TITLES[kind],
                when(document["started_at"]) if document else "never",
                when(document["ended_at"]) if document else "never",
                "no" if one.problem else "yes",
                one.digest.removeprefix("sha256:")[:12],
                "; ".join(marks),
            ]
        )
    return frame(
        ["What", "From", "To", "Counts", Column("SHA-256", "code"), "Note"],
        rows,
        caption="Measured on the running system",
    )


def progress() -> Callable[[str, float, float], None]:
    """Return what shows how far a measurement is: a bar for each thing that is measured."""
    from tqdm import tqdm

    bars: dict[str, Any] = {}

    def show(what: str, done: float, every: float) -> None:
        if what not in bars:
            bars[what] = tqdm(total=round(every), desc=what, leave=False)
        bars[what].update(min(round(done), round(every)) - bars[what].n)

    return show


def checks_frame(results: Facts | None) -> pd.DataFrame:
    """Return every check as a table for analysts: a row a check."""
    import pandas as pd  # takes half a second, and only analysts need it

    checks = results["checks"] if results else []
    columns = ["id", "group", "measure", "region", "verdict", "value", "unit", "limit", "reason"]
    return pd.DataFrame(checks, columns=columns)
