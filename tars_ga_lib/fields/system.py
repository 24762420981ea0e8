"""Report fields of the running system: its validation and its WebSocket sessions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tars_ga_lib.display import quantity, when
from tars_ga_lib.fields.values import Found, Items, Known, NoDataError, block, right
from tars_ga_lib.parameters import MEASURED
from tars_ga_lib.tables import Column, frame

RIGHT = "right"
VALIDATION, SESSIONS = MEASURED["validation"], MEASURED["websocket"]
PACKAGE = "ga_certification_package.tar.gz"

Facts = Mapping[str, Any]


def whole(file: str, find: Callable[[Known], Found]) -> Callable[[Known], Found]:
    """Return a finder that says so where a file of results, made elsewhere, lacks something."""

    def found(known: Known) -> Found:
        try:
            return find(known)
        except (KeyError, TypeError) as error:
            raise NoDataError(f"{file} is not whole ({error!r})", file) from None

    return found


def validation_counts(known: Known) -> Found:
    """Count the checks of the validation by their verdicts."""
    document = known.measured("validation")
    counts = document["counts"]
    words = {"pass": "pass", "warn": "warn", "fail": "fail", "no_data": "have no data"}
    total = sum(counts.values())
    parts = [f"{counts[key]} {word}" for key, word in words.items() if counts.get(key)]
    began = when(document["started_at"])
    text = f"{total} checks: {', '.join(parts)}; made at {began}" if total else "No check was made."
    return block(Items([text]))


def checks_by_group(known: Known) -> Found:
    """Show the verdicts of the validation by group."""
    checks = known.measured("validation")["checks"]
    verdicts = ("pass", "warn", "fail", "no_data")
    groups = dict.fromkeys(check["group"] for check in checks)
    rows = [
        [
            group.replace("_", " "),
            *(
                str(sum(c["group"] == group and c["verdict"] == verdict for c in checks))
                for verdict in verdicts
            ),
        ]
        for group in groups
    ]
    columns: list[Column | str] = ["Group", *right("Pass", "Warning", "Fail", "No data")]
    return block(frame(columns, rows, empty="No check was made."))


def checks_where(wanted: Callable[[Facts], bool], empty: str) -> Callable[[Known], Found]:
    """Show some of the checks of the validation."""

    def find(known: Known) -> Found:
        checks = known.measured("validation")["checks"]
        if not checks:
            raise NoDataError("the validation made no check", VALIDATION)
        rank = {"fail": 0, "no_data": 1, "warn": 2}
        rows = [
            [
                check["title"],
                check["verdict"],
                _measured_text(check),
                check["limit"],
                check["reason"] or check["region"] or "",
            ]
            for check in sorted(checks, key=lambda c: rank.get(c["verdict"], 3))
            if wanted(check)
        ]
        columns: list[Column | str] = [
            "Check",
            Column("Verdict", "verdict"),
            *right("Value", "Limit"),
            "Note",
        ]
        rest = f"The others are in {VALIDATION}."
        return block(frame(columns, rows, empty=empty, most=20, rest=rest))

    return find


def _measured_text(facts: Facts) -> str:
    if facts["unit"] == "bool" and facts["value"] is not None:
        return "yes" if facts["value"] else "no"
    return quantity(facts["value"], facts["unit"])


def sessions(known: Known) -> list[dict[str, Any]]:
    """Return the WebSocket sessions' results by endpoint."""
    endpoints: list[dict[str, Any]] = known.measured("websocket")["endpoints"]
    if not endpoints:
        raise NoDataError("no WebSocket endpoint was watched", SESSIONS)
    return endpoints


def watched(known: Known) -> Found:
    """Return for how long the sessions were watched, of several the shortest."""
    return Found(min(each["observed_seconds"] for each in sessions(known)))


def attempts(known: Known) -> Found:
    """Return how many reconnects were tried, forced ones and others."""
    total = sum(each[kind]["attempts"] for each in sessions(known) for kind in _RECONNECTS)
    return Found(total)


_RECONNECTS = ("forced", "reconnects")


def reconnect_success(known: Known) -> Found:
    """Return the share of all reconnects that succeeded."""
    each = [one[kind] for one in sessions(known) for kind in _RECONNECTS]
    tried = sum(one["attempts"] for one in each)
    if not tried:
        raise NoDataError("nothing had to reconnect, and nothing was made to", SESSIONS)
    return Found(sum(one["successes"] for one in each) / tried)


def ping_mean(known: Known) -> Found:
    """Return the mean of all pings' round trips: their time over their number."""
    pings = [each["ping"] for each in sessions(known) if each["ping"]["count"]]
    if not pings:
        raise NoDataError("no ping was answered", SESSIONS)
    total = sum(each["count"] for each in pings)
    return Found(sum(each["mean"] * each["count"] for each in pings) / total)


def worst_session(read: Callable[[Facts], float | None]) -> Callable[[Known], Found]:
    """Return the worst endpoint's figure: percentiles of several cannot be joined."""

    def find(known: Known) -> Found:
        values = {each["name"]: read(each) for each in sessions(known)}
        unknown = [name for name, value in values.items() if value is None]
        if unknown:
            raise NoDataError(f"{', '.join(unknown)} has none", SESSIONS)
        worst = max(values, key=lambda name: values[name] or 0.0)
        return Found(values[worst], note=worst if len(values) > 1 else "")

    return find


def session_status(known: Known) -> Found:
    """Return the verdict over all endpoints."""
    verdict = known.measured("websocket")["verdict"]
    words = {"pass": "passed", "fail": "failed", "no_data": "NO DATA", "warn": "warned"}
    if verdict == "no_data":
        raise NoDataError("a limit of the WebSocket sessions has no data", SESSIONS)
    failed = [each["name"] for each in sessions(known) if each["verdict"] == "fail"]
    text = words[verdict] + (f" ({', '.join(failed)})" if failed else "")
    return Found(words[verdict], text)


def session_limits(known: Known) -> Found:
    """Show each endpoint's figures beside their limits."""
    rows = [
        [
            each["name"],
            limit["title"],
            limit["verdict"],
            quantity(limit["value"], limit["unit"]),
            limit["limit"],
        ]
        for each in sessions(known)
        for limit in each["limits"]
    ]
    columns: list[Column | str] = [
        "Endpoint",
        "Figure",
        Column("Verdict", "verdict"),
        *right("Value", "Limit"),
    ]
    return block(frame(columns, rows, empty="No limit was set."))
