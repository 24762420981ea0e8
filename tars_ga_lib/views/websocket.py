"""What the watched WebSocket sessions showed: a table, and when each endpoint was down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.patches import Patch, Rectangle

from tars_ga_lib import charts
from tars_ga_lib.display import Figure, duration, instant, quantity, window
from tars_ga_lib.views.common import Facts
from tars_ga_lib.websocket.sessions import NOT_WATCHED, limit_of_uptime, note, websocket_table

__all__ = ["downtime_chart", "websocket_table"]

_UP, _DOWN = "#0b7a4b", charts.FAIL


def downtime_chart(results: Facts | None, most: int = 24) -> Figure:
    """Draw one strip an endpoint: up, down, or not observed."""
    title, name = "WebSocket sessions: when they were down", "websocket-downtime"
    if results is None or not results["endpoints"]:
        return charts._nothing(title, name, "any endpoint", NOT_WATCHED)
    start, end = (_at(results[key]) for key in ("started_at", "ended_at"))
    worst = sorted(
        results["endpoints"], key=lambda e: -(e["observed_seconds"] - e["connected_seconds"])
    )
    kept = {each["name"] for each in worst[:most]}
    shown = [each for each in results["endpoints"] if each["name"] in kept]
    if len(shown) < len(results["endpoints"]):
        title = f"{title} ({len(shown)} of {len(results['endpoints'])}, the worst)"
    with charts._style():
        labels = [charts._short(each["name"], 28) for each in shown]
        canvas = charts._canvas(0.92 + 0.19 * len(labels))
        left = 0.2 + max(map(charts._text_width, labels))
        (axes,) = charts._axes(canvas, left=left, right=0.95)
        charts._time_axis(axes, start, end)
        axes.set_ylim(len(labels) - 0.45, -0.55)
        axes.set_yticks(range(len(labels)), labels, color=charts.INK)
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
        for row, each in enumerate(shown):
            _strip(axes, row, each, results, start, end)
            axes.annotate(
                quantity(each["uptime"], "ratio", limit=limit_of_uptime(results)),
                (1.0, row), xycoords=("axes fraction", "data"), xytext=(5, 0),
                textcoords="offset points", va="center", color=charts.INK, annotation_clip=False,
            )  # fmt: skip
        key = [
            Patch(facecolor=_UP, label="up"),
            Patch(facecolor=_DOWN, label="down"),
            Patch(**charts.EMPTY, label="not observed"),
        ]
        charts._heading(canvas, title, key)
        return charts._finish(canvas, name, _alt(title, shown, start, end), note(results))


def _at(time: str) -> float:
    moment = instant(time)
    return 0.0 if moment is None else moment.timestamp()


def _strip(axes: Any, row: int, each: Facts, results: Facts, start: float, end: float) -> None:
    """Draw one endpoint's strip."""
    low, high = row - 0.33, row + 0.33
    if each["uptime"] is None:
        axes.add_patch(charts._hatched(start, end, low, high))
        return
    axes.add_patch(Rectangle((start, low), end - start, 0.66, facecolor=_UP, lw=0))
    least = (end - start) / 400  # a short downtime must not vanish
    for downtime in each["downtimes"]:
        first, last = _at(downtime["start"]), _at(downtime["end"])
        wide = max(last - first, least)
        axes.add_patch(Rectangle((min(first, end - wide), low), wide, 0.66, facecolor=_DOWN, lw=0))
    for gap in results["unobserved"]:
        first, last = _at(gap["start"]), _at(gap["end"])
        axes.add_patch(Rectangle((first, low), last - first, 0.66, facecolor="white", lw=0))
        axes.add_patch(charts._hatched(first, last, low, high))


def _alt(title: str, endpoints: Sequence[Facts], start: float, end: float) -> str:
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
