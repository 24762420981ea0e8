"""How watched WebSocket sessions read, as a table: in the notebooks and in the terminal.

It stands apart from `views`, whose charts take longer to import than all this takes to write.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tars_ga_lib.display import duration, quantity, window
from tars_ga_lib.tables import Column, frame
from tars_ga_lib.wording import limit_text

if TYPE_CHECKING:
    import pandas as pd

Facts = Mapping[str, Any]

NOT_WATCHED = "NO DATA: no WebSocket session was watched for this run (tars-ga websocket does)."


def websocket_table(results: Facts | None, most: int = 40) -> pd.DataFrame:
    """Show uptime, pings and reconnects of each endpoint, the worst first."""
    columns: list[Column | str] = [
        "Endpoint",
        Column("Verdict", "verdict"),
        Column("Uptime", "number", "ratio"),
        Column("Observed", "number"),
        Column("Downtimes", "number"),
        Column("Handshake P99", "number", "s"),
        Column("Ping P99", "number", "s"),
        Column("Reconnects", "number"),
        Column("Their mean", "number", "s"),
        Column("P99", "number", "s"),
    ]
    if results is None:
        return frame(columns, [], caption="WebSocket sessions", empty=NOT_WATCHED)
    rank = {"fail": 0, "no_data": 1, "pass": 2}
    endpoints = sorted(
        results["endpoints"],
        key=lambda e: (rank[e["verdict"]], -1.0 if e["uptime"] is None else e["uptime"]),
    )
    limit = limit_of_uptime(results)
    rows = [
        [
            each["name"],
            each["verdict"],
            quantity(each["uptime"], "ratio", limit=limit),
            duration(each["observed_seconds"]),
            _downtimes(each),
            each["handshake"]["p99"],
            each["ping"]["p99"],
            f"{_of(each['reconnects'])}, forced {_of(each['forced'])}",
            each["figures"]["reconnect_latency_mean"],
            each["figures"]["reconnect_latency_p99"],
        ]
        for each in endpoints
    ]
    return frame(
        columns,
        rows,
        caption="WebSocket sessions" + (" (simulated)" if results["simulated"] else ""),
        note=note(results),
        most=most,
        rest="The others are in ws_health_metrics.json.",
    )


def _downtimes(endpoint: Facts) -> str | None:
    if endpoint["figures"]["longest_downtime"] is None:
        return None
    count = endpoint["downtime_count"]
    return f"{count}, longest {duration(endpoint['longest_downtime'])}" if count else "0"


def _of(reconnects: Facts) -> str:
    return (
        f"{reconnects['successes']} of {reconnects['attempts']}" if reconnects["attempts"] else "0"
    )


def limit_of_uptime(results: Facts) -> float | None:
    """Return the number that the uptime is held against, across which it is never rounded."""
    text = results["parameters"]["limits"].get("uptime")
    return None if text is None else float(text.split()[1])


def note(results: Facts) -> str:
    """Say when and how long it was watched, and what is missing."""
    said = [f"Watched {window(results['started_at'][:19] + 'Z', results['ended_at'][:19] + 'Z')}."]
    if not results["complete"]:
        by = results["stopped_by"] or "an error"
        said.append(
            f"Stopped by {by} after {duration(results['watched_seconds'])} of "
            f"{duration(results['asked_seconds'])}."
        )
    if results["unobserved"]:
        said.append(f"Nobody looked {len(results['unobserved'])} times (a sleep or a stall).")
    if results["note"]:
        said.append(results["note"])
    limits = results["parameters"]["limits"]
    if limit := limits.get("uptime"):
        said.append(f"The uptime's limit is {limit_text(limit, 'ratio')}.")
    return " ".join(said)
