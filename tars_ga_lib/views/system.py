"""What was measured on the running system: its checks and its sessions, and whether they count."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from IPython.display import Markdown

from tars_ga_lib import charts
from tars_ga_lib.charts import Chart
from tars_ga_lib.display import duration, md_escape, quantity, when, window
from tars_ga_lib.measured import Results
from tars_ga_lib.system import tables
from tars_ga_lib.system.tables import validation_failures, validation_table, websocket_table
from tars_ga_lib.tables import Column, frame
from tars_ga_lib.views.common import Facts

__all__ = ["validation_failures", "validation_table", "websocket_table"]

_TITLES = {"validation": "Validation", "websocket": "WebSocket sessions"}


def measured_table(results: Mapping[str, Results]) -> pd.DataFrame:
    """Show what was measured when, and why it does not count where it does not."""
    rows = []
    for kind, one in results.items():
        document = one.document or {}
        marks = ["simulated"] if document.get("simulated") else []
        marks += [text for text in (document.get("note"), one.problem) if text]
        times = [when(document[k]) if document else "never" for k in ("started_at", "ended_at")]
        digest = one.digest.removeprefix("sha256:")[:12]
        counts = "no" if one.problem else "yes"
        rows.append([_TITLES[kind], *times, counts, digest, "; ".join(marks)])
    return frame(
        ["What", "From", "To", "Counts", Column("SHA-256", "code"), "Note"],
        rows,
        caption="Measured on the running system",
    )


def validation_summary(results: Facts | None) -> Markdown:
    """Write what was validated when, and how many checks came out how.

    Parameters
    ----------
    results
        Content of `validation_results.json`; None where there is none.
    """
    said = [tables.NOTHING] if results is None else tables.about(results)
    return Markdown(md_escape(" ".join(said)))


def checks_frame(results: Facts | None) -> pd.DataFrame:
    """Return every check as a table for analysts: a row a check."""
    checks = results["checks"] if results else []
    columns = ["id", "group", "measure", "region", "verdict", "value", "unit", "limit", "reason"]
    return pd.DataFrame(checks, columns=columns)


def progress() -> Callable[[str, float, float], None]:
    """Return what shows how far a measurement is: a bar for each thing that is measured."""
    from tqdm import tqdm

    bars: dict[str, Any] = {}

    def show(what: str, done: float, every: float) -> None:
        if what not in bars:
            bars[what] = tqdm(total=round(every), desc=what, leave=False)
        bars[what].update(min(round(done), round(every)) - bars[what].n)

    return show


def downtime_chart(results: Facts | None, most: int = 24) -> Chart:
    """Draw one strip an endpoint of the WebSocket sessions: up, down, or not observed."""
    title, name = "WebSocket sessions: when they were down", "websocket-downtime"
    if results is None or not results["endpoints"]:
        return charts.nothing(title, name, "any endpoint", tables.NOT_WATCHED)
    worst = sorted(
        results["endpoints"], key=lambda e: -(e["observed_seconds"] - e["connected_seconds"])
    )
    kept = {endpoint["name"] for endpoint in worst[:most]}
    shown = [endpoint for endpoint in results["endpoints"] if endpoint["name"] in kept]
    if len(shown) < len(results["endpoints"]):
        title = f"{title} ({len(shown)} of {len(results['endpoints'])}, the worst)"
    limit = tables.limit_of_uptime(results)
    whole = results["started_at"], results["ended_at"]
    rows, said = [], [f"{title}, {window(*whole)}."]
    for one in shown:
        states = [(*whole, "not observed" if one["uptime"] is None else "up")]
        states += [(d["start"], d["end"], "down") for d in one["downtimes"]]
        states += [(g["start"], g["end"], "not observed") for g in results["unobserved"]]
        uptime = quantity(one["uptime"], "ratio", limit=limit)
        rows.append(charts.Strip(one["name"], uptime, states))
        text = f"{one['name']}: uptime {uptime}"
        if one["downtimes"]:
            longest = max(one["downtimes"], key=lambda down: down["seconds"])
            text += (
                f", down {one['downtime_count']} times, the longest for "
                f"{duration(longest['seconds'])} ({longest['reason']})"
            )
        said.append(f"{text}.")
    return charts.strips(
        rows,
        start=whole[0],
        end=whole[1],
        title=title,
        alt=" ".join(said[:13]),
        name=name,
        caption=tables.sessions_note(results),
        key=("up", "down", "not observed"),
    )
