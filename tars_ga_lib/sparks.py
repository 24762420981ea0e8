"""Sparklines: a series in the height of a line of text, drawn by hand.

They stand in tables, so they must cost nothing to draw: no chart library is imported. A gap is a
gap and lies on a grey ground, the limit is a dashed line, and what breaks the limit is red, thicker
and underlined, so that it shows without colour too.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tars_ga_lib.intervals import runs

MOST = 144
"""Points that a sparkline has at most; a longer series is thinned to the worst of each stretch."""

WIDTH, HEIGHT = 96.0, 17.0
_TOP, _FOOT = 2.0, 13.5  # between these the line runs; the foot is for the marks of what failed


@dataclass(frozen=True)
class Spark:
    """A series with its limit, as a cell of a table.

    Parameters
    ----------
    values : sequence of float
        One a step, NaN where there is no data.
    limit : float, optional
        What the series is compared with, step by step.
    operator : str
        How: ``>=``, ``>``, ``<=``, ``<`` or ``==``.
    alt : str
        What the picture says, for those who cannot see it.
    """

    values: Sequence[float]
    alt: str
    limit: float | None = None
    operator: str = "<="

    def to_json(self) -> dict[str, Any]:
        """Return the machine-readable face: six digits are more than a sparkline shows."""
        drawn = thinned(self.values, self.operator)
        return {
            "values": [None if math.isnan(v) else float(f"{v:.6g}") for v in drawn],
            "limit": self.limit,
            "operator": self.operator,
            "alt": self.alt,
        }


def thinned(values: Sequence[float], operator: str, most: int = MOST) -> list[float]:
    """Keep the worst of each stretch of steps; a stretch without data stays without."""
    each = max(math.ceil(len(values) / most), 1)
    worst = min if operator in (">=", ">") else max
    found = []
    for start in range(0, len(values), each):
        seen = [float(v) for v in values[start : start + each] if math.isfinite(v)]
        found.append(worst(seen) if seen else math.nan)
    return found


def breaks(value: float, limit: float, operator: str) -> bool:
    """Tell whether a value is on the wrong side of a limit."""
    holds = {
        ">=": value >= limit,
        ">": value > limit,
        "<=": value <= limit,
        "<": value < limit,
        "==": value == limit,
    }
    return not holds[operator]


def svg(cell: Mapping[str, Any]) -> str:
    """Draw the JSON of a sparkline as SVG; its line has the colour of the text around it."""
    text = html.escape(str(cell["alt"]), quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="spark" role="img" aria-label="{text}" '
        f'viewBox="0 0 {WIDTH:g} {HEIGHT:g}" width="{WIDTH:g}" height="{HEIGHT:g}">'
        f"{''.join(_marks(cell))}</svg>"
    )


def _marks(cell: Mapping[str, Any]) -> list[str]:
    values, limit = cell["values"], cell["limit"]
    if not values:
        return []
    wide = WIDTH / len(values)
    seen = [v for v in values if v is not None]
    failed = [v is not None and limit is not None and breaks(v, limit, cell["operator"])
              for v in values]  # fmt: skip
    ends = [*seen, *([] if limit is None else [limit])]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)

    def y(value: float) -> float:
        share = (value - low) / (high - low) if high > low else 0.5
        return _FOOT - share * (_FOOT - _TOP)

    def points(first: int, last: int) -> str:
        return " ".join(f"{(i + 0.5) * wide:.2f},{y(values[i]):.2f}" for i in range(first, last))

    made = [
        f'<rect class="gap" x="{first * wide:.2f}" y="0" width="{(last - first) * wide:.2f}" '
        f'height="{HEIGHT:g}" fill="#8a929e" fill-opacity="0.3"/>'
        for first, last in runs([v is None for v in values])
    ]
    if limit is not None:
        made.append(f'<path class="limit" d="M0 {y(limit):.2f}H{WIDTH:g}" stroke="#8a929e" '
                    'stroke-width="0.7" stroke-dasharray="3 2" fill="none"/>')  # fmt: skip
    for first, last in runs([v is not None for v in values]):
        made.append(_line(points(first, last), "line", "currentColor", 0.9))
    for first, last in runs(failed):
        made.append(_line(points(first, last), "broken", "#b3261e", 2.2))
        left, right = first * wide, last * wide
        short = max(2.0 - (right - left), 0.0) / 2  # a single step must be seen
        made.append(f'<path class="broken" d="M{left - short:.2f} 15.8H{right + short:.2f}" '
                    'stroke="#b3261e" stroke-width="1.8" fill="none"/>')  # fmt: skip
    return made


def _line(points: str, name: str, color: str, width: float) -> str:
    """Draw a run of points; a lone one is a dot, which a line without length with round ends is."""
    if " " not in points:
        points = f"{points} {points}"
    return (
        f'<polyline class="{name}" points="{points}" fill="none" stroke="{color}" '
        f'stroke-width="{width:g}" stroke-linecap="round" stroke-linejoin="round"/>'
    )
