"""What was measured on the running system: when, whether it counts, and when sessions were down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from IPython.display import Markdown

from tars_ga_lib import charts
from tars_ga_lib.charts import Chart
from tars_ga_lib.display import duration, instant, md_escape, quantity, when, window
from tars_ga_lib.measured import Results
from tars_ga_lib.system import tables
from tars_ga_lib.system.tables import validation_failures, validation_table, websocket_table
from tars_ga_lib.tables import Column, frame
from tars_ga_lib.views.common import Facts

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["validation_failures", "validation_table", "websocket_table"]

_TITLES = {"validation": "Validation", "websocket": "WebSocket sessions"}


def validation_summary(results: Facts | None) -> Markdown:
    """Write what was validated when, and how many checks came out how.

    Parameters
    ----------
    results
        Content of `validation_results.json`; None where there is none.
    """
    return Markdown(
        md_escape(tables.NOTHING if results is None else " ".join(tables.about(results)))
    )


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

    def show(what: str, done: float, whole: float) -> None:
        if what not in bars:
            bars[what] = tqdm(total=round(whole), desc=what, leave=False)
        bars[what].update(min(round(done), round(whole)) - bars[what].n)

    return show


def checks_frame(results: Facts | None) -> pd.DataFrame:
    """Return every check as a table for analysts: a row a check."""
    import pandas as pd  # takes half a second, and only analysts need it

    checks = results["checks"] if results else []
    columns = ["id", "group", "measure", "region", "verdict", "value", "unit", "limit", "reason"]
    return pd.DataFrame(checks, columns=columns)


def downtime_chart(results: Facts | None, most: int = 24) -> Chart:
    """Draw one strip an endpoint: up, down, or not observed."""
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
    start, end = results["started_at"], results["ended_at"]
    limit = tables.limit_of_uptime(results)
    return charts.downtime(
        [
            charts.Strip(
                endpoint["name"],
                quantity(endpoint["uptime"], "ratio", limit=limit),
                _states(endpoint, results),
            )
            for endpoint in shown
        ],
        start=start,
        end=end,
        alt=_alt(title, shown, start, end),
        title=title,
        caption=tables.sessions_note(results),
        name=name,
    )


def _at(time: str) -> float:
    moment = instant(time)
    return 0.0 if moment is None else moment.timestamp()


def _states(endpoint: Facts, results: Facts) -> list[tuple[float, float, str]]:
    """Return when an endpoint was up, down, and not observed; the later lie over the earlier."""
    whole = _at(results["started_at"]), _at(results["ended_at"])
    if endpoint["uptime"] is None:
        return [(*whole, "not observed")]
    spans = [(_at(d["start"]), _at(d["end"]), "down") for d in endpoint["downtimes"]]
    spans += [(_at(g["start"]), _at(g["end"]), "not observed") for g in results["unobserved"]]
    return [(*whole, "up"), *spans]


def _alt(title: str, endpoints: Sequence[Facts], start: str, end: str) -> str:
    said = [f"{title}, {window(start, end)}."]
    for endpoint in endpoints[:12]:
        text = f"{endpoint['name']}: uptime {quantity(endpoint['uptime'], 'ratio')}"
        if endpoint["downtimes"]:
            longest = max(endpoint["downtimes"], key=lambda one: one["seconds"])
            text += (
                f", down {endpoint['downtime_count']} times, the longest for "
                f"{duration(longest['seconds'])} ({longest['reason']})"
            )
        said.append(text + ".")
    return " ".join(said)
