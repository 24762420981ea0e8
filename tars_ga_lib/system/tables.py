"""How what was measured reads: in the terminal, in pytest's HTML page, in the notebooks.

It takes the facts that `validation_results.json` holds of a check, or all of its content, and that
of `ws_health_metrics.json`. It stands apart from `views`, whose charts take longer to import than
all this takes to write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tars_ga_lib import wording
from tars_ga_lib.display import NO_DATA, duration, quantity, window
from tars_ga_lib.grammar import parse_limit
from tars_ga_lib.tables import Column, frame

if TYPE_CHECKING:
    import pandas as pd

Facts = Mapping[str, Any]

ORDER = ("fail", "no_data", "warn", "pass")
"""Verdicts, the worst first."""


def limit(text: str, unit: str) -> str:
    """Write a limit in the unit that its value is read in."""
    operator, _, number = text.partition(" ")
    factor, name = _multiple(unit, float(number))
    if name == unit:
        return wording.limit_text(text, unit)
    return wording.limit_text(f"{operator} {float(number) / factor:.15g}", name)


def value(check: Facts) -> str:
    """Write a check's value, never rounded across its limit."""
    number, unit = check["value"], check["unit"]
    if number is None:
        return NO_DATA
    if unit == "bool":
        return "yes" if number else "no"
    kept = float(check["limit"].split()[1])
    factor, name = _multiple(unit, kept)
    return quantity(number / factor, name, limit=kept / factor)


def _multiple(unit: str, kept: float) -> tuple[float, str]:
    """Return the decimal multiple of bytes in which a limit of memory is given; else the unit."""
    if unit not in ("bytes", "bytes/h"):
        return 1.0, unit
    factor, name = (1e9, "GB") if kept >= 1e9 else (1e6, "MB") if kept >= 1e6 else (1.0, "bytes")
    return factor, name + unit.removeprefix("bytes")


def why(check: Facts) -> str:
    """Write in a sentence how a check came out, beside its limit."""
    if check["verdict"] == "no_data":
        return f"{NO_DATA} ({check['cause'].replace('_', ' ')}): {check['reason']}"
    more = f" ({check['reason']})" if check["reason"] else ""
    return f"{value(check)} {_beside_limit(check)}{more}"


def _beside_limit(check: Facts) -> str:
    """Write how a value stands to its limit; of a warning also why it is none to pass."""
    kept = limit(check["limit"], check["unit"])
    if check["verdict"] == "fail":
        return f"breaks the limit {kept}"
    if not parse_limit(check["limit"]).holds(check["value"]):
        return f"is beyond the limit {kept}, though not all of its interval is"
    if check["verdict"] == "pass":
        return f"keeps the limit {kept}"
    if check["warning"] and not parse_limit(check["warning"]).holds(check["value"]):
        stricter = limit(check["warning"], check["unit"])
        return f"keeps the limit {kept}, but not the warning limit {stricter}"
    return f"keeps the limit {kept}, but there is a doubt"


def lines(check: Facts, *, titled: bool = True) -> str:
    """Write all that a reader of a failure needs: how it came out, where, and what was asked."""
    title = f"{check['title']}: " if titled else ""
    asked = f"\n  query: {check['query']}" if check["query"] else ""
    return f"{title}{why(check)}\n  at: {check['target']}{asked}"


def about(document: Facts) -> Sequence[str]:
    """Write what results are about, in sentences."""
    counts, release = document["counts"], document["release"]
    named = {
        "pass": "passed",
        "warn": "with a warning",
        "fail": "failed",
        "no_data": "without data",
    }
    parts = ", ".join(f"{counts[verdict]} {text}" for verdict, text in named.items())
    return [
        *(["SIMULATED: what was measured is no production system."] * document["simulated"]),
        f"{release['name']} {release['version']}: {parts}.",
        f"Measured from {document['started_at']} to {document['ended_at']} by "
        f"{document['software']}.",
        *([document["note"]] if document["note"] else []),
    ]


def listing(checks: Sequence[Facts]) -> str:
    """Write what would be asked where, of checks that were not made."""
    texts = [
        f"{check['id']}  {check['title']}\n"
        f"  at     {check['target']}\n"
        f"  query  {check['query'] or 'none'}\n"
        f"  limit  {limit(check['limit'], check['unit'])}"
        for check in checks
    ]
    return "\n".join([*texts, f"{wording.count(len(checks), 'check')}; nothing was asked"])


NOTHING = "NO DATA: the running system was not validated."
"""What stands where there are no results."""


def validation_table(document: Facts | None, most: int | None = None) -> pd.DataFrame:
    """Show every check with its value and limit: failures first, then what has no data."""
    columns: list[Column | str] = [
        "Check",
        Column("Verdict", "verdict"),
        Column("Value", align="right"),
        Column("Limit", align="right"),
        "Where",
        Column("Took", align="right"),
        "Note",
    ]
    rows = [
        [
            check["title"],
            check["verdict"],
            value(check),
            limit(check["limit"], check["unit"]),
            check["region"] or check["target"],
            quantity(check["took_seconds"], "s", digits=2),
            _note(check),
        ]
        for check in _worst_first(document)
    ]
    return frame(
        columns,
        rows,
        caption="Checks of the running system",
        empty=NOTHING if document is None else "No check was made.",
        most=most,
        rest="All are in validation_results.html.",
    )


def _note(check: Facts) -> str:
    before = {"no_data": check["cause"] or "", "warn": ""}.get(check["verdict"])
    if before is None:
        return str(check["reason"])
    before = before.replace("_", " ") or _beside_limit(check)
    return ": ".join(text for text in (before, check["reason"]) if text)


def validation_failures(document: Facts | None, most: int | None = None) -> pd.DataFrame:
    """Show what was asked where, of each check that fails or has no data."""
    rows = [
        [check["id"], check["verdict"], why(check), check["target"], check["query"] or "none"]
        for check in _worst_first(document)
        if check["verdict"] in ("fail", "no_data")
    ]
    return frame(
        ["Check", Column("Verdict", "verdict"), "What", "Where", Column("Query", "code")],
        rows,
        caption="Checks that fail or have no data, and what was asked",
        empty=NOTHING if document is None else "No check fails, and none lacks data.",
        most=most,
        rest="All are in validation_results.html.",
    )


def _worst_first(document: Facts | None) -> list[Facts]:
    checks = [] if document is None else list(document["checks"])
    return sorted(checks, key=lambda check: ORDER.index(check["verdict"]))


# --- WebSocket sessions --------------------------------------------------------------------------

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
    kept = limit_of_uptime(results)
    rows = [
        [
            each["name"],
            each["verdict"],
            quantity(each["uptime"], "ratio", limit=kept),
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
        note=sessions_note(results),
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


def sessions_note(results: Facts) -> str:
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
    if kept := limits.get("uptime"):
        said.append(f"The uptime's limit is {wording.limit_text(kept, 'ratio')}.")
    return " ".join(said)
