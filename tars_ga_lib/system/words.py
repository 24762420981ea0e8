"""How the results of the suite read: in the terminal, in its HTML, in the notebooks.

All take the facts that `validation_results.json` holds of a check, or all of its content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tars_ga_lib import wording
from tars_ga_lib.display import NO_DATA, quantity
from tars_ga_lib.grammar import Limit
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
        return f"NO DATA ({check['cause'].replace('_', ' ')}): {check['reason']}"
    verb = "breaks" if check["verdict"] == "fail" else "keeps"
    kept = f"{verb} the limit {limit(check['limit'], check['unit'])}"
    if check["verdict"] == "warn":
        kept = _warned(check)
    more = f" ({check['reason']})" if check["reason"] else ""
    return f"{value(check)} {kept}{more}"


def _warned(check: Facts) -> str:
    """Write why a check warns: an estimate that may break its limit, a stricter limit, a doubt."""
    kept = limit(check["limit"], check["unit"])
    if not _holds(check["limit"], check["value"]):
        return f"is beyond the limit {kept}, though not all of its interval is"
    if check["warning"] and not _holds(check["warning"], check["value"]):
        stricter = limit(check["warning"], check["unit"])
        return f"keeps the limit {kept}, but not the warning limit {stricter}"
    return f"keeps the limit {kept}, but there is a doubt"


def _holds(text: str, number: float) -> bool:
    operator, _, bound = text.partition(" ")
    return Limit(operator, float(bound)).holds(number)


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
    found = [
        f"{release['name']} {release['version']}: {parts}.",
        f"Measured from {document['started_at']} to {document['ended_at']} by "
        f"{document['software']}.",
    ]
    if document["simulated"]:
        found.insert(0, "SIMULATED: what was measured is no production system.")
    return [*found, *([document["note"]] if document["note"] else [])]


NOTHING = "NO DATA: the running system was not validated."
"""What stands where there are no results."""


def table(document: Facts | None, most: int | None = None) -> pd.DataFrame:
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
    if check["verdict"] == "no_data":
        return f"{check['cause'].replace('_', ' ')}: {check['reason']}"
    if check["verdict"] == "warn":
        words = _warned(check)
        return f"{words}: {check['reason']}" if check["reason"] else words
    return str(check["reason"])


def failures(document: Facts | None, most: int | None = None) -> pd.DataFrame:
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
