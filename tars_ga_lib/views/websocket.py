"""What the watched WebSocket sessions showed: a table, and when each endpoint was down."""

from __future__ import annotations

from collections.abc import Sequence

from tars_ga_lib import charts
from tars_ga_lib.charts import Chart
from tars_ga_lib.display import duration, instant, quantity, window
from tars_ga_lib.system.sessions import NOT_WATCHED, limit_of_uptime, note, websocket_table
from tars_ga_lib.views.common import Facts

__all__ = ["downtime_chart", "websocket_table"]


def downtime_chart(results: Facts | None, most: int = 24) -> Chart:
    """Draw one strip an endpoint: up, down, or not observed."""
    title, name = "WebSocket sessions: when they were down", "websocket-downtime"
    if results is None or not results["endpoints"]:
        return charts.nothing(title, name, "any endpoint", NOT_WATCHED)
    worst = sorted(
        results["endpoints"], key=lambda e: -(e["observed_seconds"] - e["connected_seconds"])
    )
    kept = {each["name"] for each in worst[:most]}
    shown = [each for each in results["endpoints"] if each["name"] in kept]
    if len(shown) < len(results["endpoints"]):
        title = f"{title} ({len(shown)} of {len(results['endpoints'])}, the worst)"
    start, end = results["started_at"], results["ended_at"]
    limit = limit_of_uptime(results)
    return charts.downtime(
        [
            charts.Strip(
                each["name"], quantity(each["uptime"], "ratio", limit=limit), _states(each, results)
            )
            for each in shown
        ],
        start=start,
        end=end,
        alt=_alt(title, shown, start, end),
        title=title,
        caption=note(results),
        name=name,
    )


def _at(time: str) -> float:
    moment = instant(time)
    return 0.0 if moment is None else moment.timestamp()


def _states(each: Facts, results: Facts) -> list[tuple[float, float, str]]:
    """Return when an endpoint was up, down, and not observed; the later lie over the earlier."""
    whole = _at(results["started_at"]), _at(results["ended_at"])
    if each["uptime"] is None:
        return [(*whole, "not observed")]
    states = [(*whole, "up")]
    states += [(_at(d["start"]), _at(d["end"]), "down") for d in each["downtimes"]]
    states += [(_at(g["start"]), _at(g["end"]), "not observed") for g in results["unobserved"]]
    return states


def _alt(title: str, endpoints: Sequence[Facts], start: str, end: str) -> str:
    said = [f"{title}, {window(start, end)}."]
    for each in endpoints[:12]:
        text = f"{each['name']}: uptime {quantity(each['uptime'], 'ratio')}"
        if each["downtimes"]:
            longest = max(each["downtimes"], key=lambda one: one["seconds"])
            text += (
                f", down {each['downtime_count']} times, the longest for "
                f"{duration(longest['seconds'])} ({longest['reason']})"
            )
        said.append(text + ".")
    return " ".join(said)
