"""Every chart of the notebooks and the report, designed once.

What holds for all of them:

* a region has one colour and one dash everywhere (`palette`), from a set that colour-blind
  readers can tell apart, and is named beside its line;
* the time axis is UTC, units are named, limits are drawn and labelled;
* a gap in the data is a gap in the line, hatched and named, and is never interpolated;
* the alternative text says what the picture shows, with the key figures;
* the same input gives the same bytes, on any machine: text is drawn as outlines of the font
  that comes with matplotlib, and neither a date nor a random identifier is written.

Times are the *ends* of steps, as everywhere in this project: the sample at 13:05 of a 5m series
speaks for 13:00 to 13:05. Lines pass through the middle of each step, so that they stand right
between the edges of an incident's shading.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure as Canvas
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.textpath import text_to_path
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from tars_ga_lib.display import (
    NO_DATA,
    Figure,
    clean,
    duration,
    printable,
    quantity,
    scale,
    slug,
    when,
    window,
)

__all__ = [
    "Event",
    "Limit",
    "Mark",
    "Span",
    "Style",
    "availability",
    "burn",
    "coverage",
    "drift",
    "heatmap",
    "latency",
    "lines",
    "overlay",
    "palette",
    "region_delta",
    "timeline",
]

Times = NDArray[np.datetime64]
Values = NDArray[np.float64]
Series = Mapping[str, ArrayLike]
Number = float | int
Worse = Literal["up", "down", "either"]

WIDTH = 7.0  # inches; the width of the text on a page
TEXT = 7.5  # points
INK, FAINT, GRID = "#1f2733", "#5f6b7a", "#e3e6ea"
WARN, FAIL = "#b26a00", "#b3261e"
EMPTY: dict[str, Any] = {
    "facecolor": "#f3f4f6", "edgecolor": "#9aa3ae", "hatch": "//////", "linewidth": 0.0
}  # fmt: skip
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))

STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": FAINT,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": FAINT,
    "axes.labelsize": TEXT,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.unicode_minus": True,
    "font.family": ["DejaVu Sans"],
    "font.size": TEXT,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "hatch.color": "#9aa3ae",
    "hatch.linewidth": 0.6,
    "legend.fontsize": TEXT - 0.5,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "svg.fonttype": "path",
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "xtick.color": FAINT,
    "xtick.labelsize": TEXT,
    "xtick.major.size": 3,
    "xtick.major.width": 0.6,
    "ytick.color": FAINT,
    "ytick.labelsize": TEXT,
    "ytick.major.size": 0,
    "svg.hashsalt": "tars-ga",
}


class Style(NamedTuple):
    """How the lines of one region look."""

    color: str
    dash: Any


@dataclass(frozen=True)
class Limit:
    """A line at a value, in the unit of the data, with what it is called."""

    value: float
    label: str = "objective"
    tone: Literal["objective", "warn", "fail"] = "objective"


@dataclass(frozen=True)
class Span:
    """An interval to shade: an incident, a deployment, maintenance."""

    start: object
    end: object
    label: str = "incident"
    kind: Literal["incident", "deployment", "maintenance"] = "incident"


@dataclass(frozen=True)
class Event:
    """One bar of the time line; an end of None means that it still went on."""

    start: object
    end: object | None
    label: str
    severity: Literal["critical", "warning", "info", "drift", "incident", "deploy"] = "info"


@dataclass(frozen=True)
class Mark:
    """One finding of the drift chart: a drift with its interval, and the rule's own limits.

    All figures are in the unit of the rule, positive when adverse; `text` is how the reader sees
    the drift (``+12.3 %``).
    """

    label: str
    drift: float | None
    low: float | None
    high: float | None
    warning: float
    critical: float
    verdict: str
    text: str


def palette(names: Sequence[str]) -> dict[str, Style]:
    """Give each name its colour and dash, by its place; pass all regions, in one order, always."""
    return {
        name: Style(OKABE_ITO[i % len(OKABE_ITO)], DASHES[i // len(OKABE_ITO) % len(DASHES)])
        for i, name in enumerate(names)
    }


# --- frame of every chart ---


@contextmanager
def _style() -> Iterator[None]:
    """Draw under our settings only, whatever the user's matplotlibrc or a notebook has set."""
    with mpl.rc_context():
        settings: Any = mpl.rcParams
        settings.update({k: v for k, v in mpl.rcParamsDefault.items() if k != "backend"})
        settings.update(STYLE)
        yield


def _canvas(height: float) -> Canvas:
    canvas = Canvas(figsize=(WIDTH, height))
    FigureCanvasSVG(canvas)
    return canvas


def _text_width(text: str, size: float = TEXT) -> float:
    """Width of a text in inches."""
    width, _, _ = text_to_path.get_text_width_height_descent(
        text, FontProperties(family=["DejaVu Sans"], size=size), False
    )
    return float(width) / 72


def _short(name: object, most: int = 26) -> str:
    """Make a name fit, keeping both of its ends: they tell names apart."""
    text = printable(name)
    if len(text) <= most:
        return text
    head = (most - 1) * 2 // 3
    return f"{text[:head]}…{text[-(most - 1 - head) :]}"


def _axes(
    canvas: Canvas,
    *,
    left: float,
    right: float = 0.12,
    top: float = 0.42,
    bottom: float = 0.48,
    rows: Sequence[float] = (1.0,),
) -> list[Axes]:
    """Place axes by margins in inches: cheaper than a layout engine, and always the same."""
    width, height = canvas.get_size_inches()
    gap = 0.2
    free = height - top - bottom - gap * (len(rows) - 1)
    axes, upper = [], height - top
    for share in rows:
        high = free * share / sum(rows)
        box = (left / width, (upper - high) / height, (width - left - right) / width, high / height)
        axes.append(canvas.add_axes(box))
        upper -= high + gap
    return axes


def _heading(canvas: Canvas, title: str, handles: Sequence[Any] = ()) -> None:
    """Write the title at the left and the key of shadings at the right of the first line."""
    width, height = canvas.get_size_inches()
    canvas.text(
        0.06 / width, 1 - 0.06 / height, _short(title, 90), weight="bold", size=TEXT + 1.5, va="top"
    )
    if handles:
        canvas.legend(
            handles=list(handles),
            loc="upper right",
            bbox_to_anchor=(1 - 0.04 / width, 1 - 0.0 / height),
            ncols=len(handles),
            borderaxespad=0.25,
            handlelength=1.6,
            columnspacing=1.2,
        )


def _finish(canvas: Canvas, name: str, alt: str, caption: str) -> Figure:
    """Write the SVG: no date, no random identifier, and a title for screen readers."""
    stream = io.StringIO()
    canvas.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]  # no document type: it names an address on the network
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)  # repeats every label
    text = clean(alt).replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{text}" ', 1)
    return Figure(slug(name), svg, alt=alt, caption=caption)


def _nothing(title: str, name: str, what: str, caption: str) -> Figure:
    """Say that there is no data, as a chart of its own: a blank would read as calm."""
    with _style():
        canvas = _canvas(1.1)
        (axes,) = _axes(canvas, left=0.12, bottom=0.12)
        axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1))
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.add_patch(_hatched(0, 1))
        axes.text(
            0.5, 0.5, NO_DATA, ha="center", va="center", weight="bold", size=TEXT + 2,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 4},
        )  # fmt: skip
        _heading(canvas, title)
        return _finish(canvas, name, f"{clean(title)}: no data for {what}.", caption)


def _hatched(start: float, end: float, low: float = 0.0, high: float = 1.0, **kw: Any) -> Rectangle:
    return Rectangle((start, low), end - start, high - low, **(EMPTY | kw))


# --- time ---


def _seconds(time: object) -> float:
    """Read a point in time as seconds since 1970."""
    if isinstance(time, np.datetime64):
        return float(time.astype("datetime64[s]").astype(np.int64))
    if isinstance(time, datetime):
        return time.timestamp()
    if isinstance(time, str):
        return datetime.fromisoformat(time).timestamp()
    return float(time)  # type: ignore[arg-type]


def _ends(times: ArrayLike) -> Values:
    return np.asarray(times).astype("datetime64[s]").astype(np.int64).astype(np.float64)


def _step_of(ends: Values, step: float | None) -> float:
    """Length of a step: as told, else the commonest distance, else a minute."""
    if step:
        return float(step)
    gaps = np.diff(ends)
    return float(np.median(gaps)) if gaps.size else 60.0


def _checked(ends: Values, series: Series) -> dict[str, Values]:
    """Turn each series into an array as long as the times; infinities count as missing."""
    arrays = {}
    for name, values in series.items():
        array = np.asarray(values, dtype=np.float64)
        if array.shape != ends.shape:
            raise ValueError(f"{name!r} has {array.size} values for {ends.size} times")
        arrays[name] = np.where(np.isfinite(array), array, np.nan)
    return arrays


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return first and last index of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], mask.astype(np.int8), [0]))))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _gaps(ends: Values, array: Values, step: float) -> list[tuple[float, float]]:
    """Return start and end of each stretch without data, steps absent from the grid included."""
    found = [(ends[a] - step, ends[b]) for a, b in _runs(np.isnan(array))]
    jumps = np.flatnonzero(np.diff(ends) > 1.5 * step)
    found += [(ends[i], ends[i + 1] - step) for i in jumps]
    merged: list[tuple[float, float]] = []
    for start, end in sorted(found):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((float(start), float(end)))
    return merged


_TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 14400, 21600,
          43200, 86400, 172800, 604800, 1209600, 2592000, 7776000, 31536000)  # fmt: skip


# not by strftime: a picture must not change with the reader's locale
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _time_axis(axes: Axes, start: float, end: float, *, label: bool = True) -> None:
    """Tick at round UTC times; the first tick and each midnight name the day."""
    end = max(end, start + 1)
    every = next((t for t in _TICKS if (end - start) / t <= 9), _TICKS[-1])
    ticks = np.arange(math.ceil(start / every) * every, end + 0.5, every)
    if not ticks.size:
        ticks = np.array([start])
    axes.set_xlim(start, end)
    axes.set_xticks(ticks, [_tick(t, i, every) for i, t in enumerate(ticks)] if label else [])
    if label:
        axes.set_xlabel("time (UTC)", labelpad=1)


def _tick(seconds: float, place: int, every: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    day = f"{moment.day} {_MONTHS[moment.month - 1]}"
    if every >= 86400:
        return f"{day}\n{moment.year}" if place == 0 else day
    clock = f"{moment:%H:%M:%S}" if every < 60 else f"{moment:%H:%M}"
    if place == 0:
        return f"{clock}\n{day} {moment.year}"
    return f"{clock}\n{day}" if seconds % 86400 == 0 else clock


def _shade(axes: Axes, spans: Sequence[Span], start: float, end: float) -> list[str]:
    """Shade the spans and name each above the plot where there is room; return their texts."""
    texts = []
    width = axes.get_position().width * WIDTH
    taken = -math.inf
    for span in sorted(spans, key=lambda s: _seconds(s.start)):
        low, high = max(_seconds(span.start), start), min(_seconds(span.end), end)
        if high < start or low > end:
            continue
        axes.axvspan(low, max(high, low + (end - start) / 500), color="#D55E00", alpha=0.13, lw=0)
        texts.append(f"{clean(span.label)} {window(low, high)}")
        text = _short(span.label, 44)
        at = (low + high - 2 * start) / 2 / (end - start) * width
        half = _text_width(text, TEXT - 0.5) / 2
        at = min(max(at, half), width - half)
        if at - half > taken:
            axes.annotate(
                text, (at / width, 1), (0, 2), xycoords="axes fraction", color="#a34700",
                textcoords="offset points", ha="center", va="bottom", size=TEXT - 0.5,
            )  # fmt: skip
            taken = at + half + 0.06
    return texts


# --- lines ---


class _Ticks(NamedTuple):
    """Where a value axis is ticked, and how the ticks read."""

    places: list[float]
    labels: list[str]

    @property
    def room(self) -> float:
        """Inches that the labels and the unit beside them take; at least what most charts take."""
        return max(0.62, 0.34 + max(map(_text_width, self.labels), default=0.0))

    def put(self, axes: Axes) -> None:
        """Tick an axis."""
        axes.set_yticks(self.places, self.labels)


def _ticks(
    low: float, high: float, divisor: float, *, signed: bool = False, ceiling: float | None = None
) -> _Ticks:
    """Tick at round values of the unit that is read, with as few decimals as tell them apart."""
    if ceiling is not None and ceiling > low:
        high = min(high, ceiling)  # nothing is available for 102.5 %
    low, high = low / divisor, high / divisor
    locator = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10])
    values = np.asarray(locator.tick_values(low, high))
    slack = (high - low) * 1e-6
    values = values[(values >= low - slack) & (values <= high + slack)]
    step = float(np.min(np.diff(values))) if values.size > 1 else 1.0
    places = max(0, -math.floor(math.log10(step)) + (0 if _round_step(step) else 1))
    form = f"{{:{'+' if signed else ''},.{places}f}}"
    labels = [form.format(value).replace("-", "\u2212") for value in values]
    zero = f"{0:.{places}f}"
    labels = [zero if label.lstrip("+\u2212") == zero else label for label in labels]
    return _Ticks([float(value) * divisor for value in values], labels)


def _round_step(step: float) -> bool:
    """Tell 2 and 0.05 from 2.5 and 0.25, which need one decimal more."""
    lead = float(step / 10 ** math.floor(math.log10(step)))
    return abs(lead - round(lead)) < 1e-6


def _spread(places: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """Move labels apart so that none stands on another, each as near its place as can be.

    Labels whose places are as good as equal keep their order, the first on top.
    """
    order = sorted(range(len(places)), key=lambda i: (round(places[i] / least), -i))
    moved = [min(max(places[i], low), high) for i in order]
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + least)
    over = moved[-1] - high if moved else 0
    if over > 0:
        moved[-1] = high
        for i in range(len(moved) - 2, -1, -1):
            moved[i] = min(moved[i], moved[i + 1] - least)
    result = [0.0] * len(places)
    for place, index in zip(moved, order, strict=True):
        result[index] = place
    return result


def _dark(color: str) -> str:
    """Darken a colour for text: orange lines are seen on white, orange letters are not."""
    return "#" + "".join(f"{int(int(color[i : i + 2], 16) * 0.62):02x}" for i in (1, 3, 5))


def _name_lines(axes: Axes, arrays: Mapping[str, Values], colors: Mapping[str, Style]) -> None:
    """Name each line at the right of the plot, in its colour and at its last value."""
    height = axes.get_position().height * axes.figure.get_size_inches()[1] * 72  # type: ignore[union-attr]
    low, high = axes.get_ylim()
    last = []
    for array in arrays.values():
        seen = array[~np.isnan(array)]
        last.append((seen[-1] - low) / (high - low) * height if seen.size else 0.0)
    least = min(TEXT + 1.5, height / max(len(last), 1))
    for (name, array), place, want in zip(
        arrays.items(), _spread(last, least, 2, height - 2), last, strict=True
    ):
        color = colors[name].color
        text = _short(name, 22) + (" (no data)" if np.isnan(array).all() else "")
        axes.annotate(
            text, (1, 0), (20, place), xycoords="axes fraction", textcoords="offset points",
            color=_dark(color), va="center", annotation_clip=False,
        )  # fmt: skip
        width = axes.get_position().width * WIDTH * 72
        axes.plot(
            [1 + 3 / width, 1 + 8 / width, 1 + 17 / width],
            [want / height, place / height, place / height],
            color=color, linestyle=colors[name].dash, linewidth=1.0, clip_on=False,
            transform=axes.transAxes,
        )  # fmt: skip


def _room_for_names(arrays: Mapping[str, Values]) -> float:
    """Inches that the names at the right of the plot take."""
    texts = [_short(n, 22) + (" (no data)" if np.isnan(a).all() else "") for n, a in arrays.items()]
    return 0.36 + max((_text_width(t) for t in texts), default=0.0)


def _draw_line(axes: Axes, middles: Values, array: Values, style: Style, step: float) -> None:
    """Draw one series; the pen lifts at gaps, and a lone sample is a dot."""
    x, y = _broken(middles, array, step)
    axes.plot(x, y, color=style.color, linestyle=style.dash, solid_capstyle="round")
    seen = ~np.isnan(y)
    alone = seen & ~np.concatenate(([False], seen[:-1])) & ~np.concatenate((seen[1:], [False]))
    if alone.any():
        axes.plot(x[alone], y[alone], "o", color=style.color, markersize=2.6)


def _broken(middles: Values, array: Values, step: float) -> tuple[Values, Values]:
    """Put a missing value into each hole of the grid, so that no line bridges it."""
    holes = np.flatnonzero(np.diff(middles) > 1.5 * step) + 1
    return np.insert(middles, holes, middles[holes - 1] + step), np.insert(array, holes, np.nan)


class _Holes(NamedTuple):
    """Where data is missing: of each series, and whether of all at once or of single ones."""

    spans: dict[str, list[tuple[float, float]]]
    common: bool
    single: bool


def _hatch_gaps(
    axes: Axes, ends: Values, arrays: Mapping[str, Values], colors: Mapping[str, Style], step: float
) -> _Holes:
    """Hatch where every series is missing; where one is, lay a strip in its colour at the foot."""
    missing = {name: np.isnan(array) for name, array in arrays.items()}
    every = np.logical_and.reduce(list(missing.values()))
    common = _gaps(ends, np.where(every, np.nan, 0.0), step)
    blend = axes.get_xaxis_transform()
    for start, end in common:
        axes.add_patch(_hatched(start, end, transform=blend, zorder=0.5))
    alone = {name: _runs(mask & ~every) for name, mask in missing.items() if not mask.all()}
    alone = {name: runs for name, runs in alone.items() if runs}
    high = min(0.035, 0.3 / max(len(alone), 1))
    for row, (name, runs) in enumerate(alone.items()):
        look = {"edgecolor": colors[name].color, "facecolor": "white", "linewidth": 0.4}
        place = {"transform": blend, "zorder": 3, **look}
        for first, last in runs:
            low = row * high
            axes.add_patch(
                _hatched(ends[first] - step, ends[last], low, low + 0.85 * high, **place)
            )
    gaps = {name: _gaps(ends, array, step) for name, array in arrays.items()}
    return _Holes(gaps, bool(common), bool(alone))


def _limits(axes: Axes, limits: Sequence[Limit], unit: str) -> None:
    """Draw limits as dashed lines, each with its name and value at the left."""
    colors = {"objective": INK, "warn": WARN, "fail": FAIL}
    for limit in limits:
        axes.axhline(limit.value, color=colors[limit.tone], linestyle=(0, (5, 2.5)), linewidth=0.9)
        low, high = axes.get_ylim()
        below = (limit.value - low) / (high - low) > 0.88
        axes.annotate(
            f"{clean(limit.label)} {quantity(limit.value, unit, limit=limit.value)}",
            (0, limit.value), (3, -2 if below else 2), xycoords=axes.get_yaxis_transform(),
            textcoords="offset points", va="top" if below else "bottom", size=TEXT - 0.5,
            color=colors[limit.tone],
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6},
        )  # fmt: skip


def _reach(arrays: Mapping[str, Values], limits: Sequence[Limit], floor: float | None,
           ceiling: float | None) -> tuple[float, float]:  # fmt: skip
    """Return the values that the axis spans: all data and limits, with air around them."""
    pieces = [a[~np.isnan(a)] for a in arrays.values()] + [np.array([x.value for x in limits])]
    found = np.concatenate(pieces)
    low, high = float(found.min()), float(found.max())
    if floor is not None:
        low = min(low, floor)
    if ceiling is not None:
        high = max(high, ceiling)
    air = (high - low) * 0.07 or abs(high) * 0.05 or 1e-3
    return (low if low == floor else low - air), high + air


def _swatches(spans: Sequence[Span], holes: _Holes) -> list[Patch]:
    """Return the key to the shadings that a chart uses."""
    key = []
    if spans:
        kinds = ", ".join(sorted({span.kind for span in spans}))
        key.append(Patch(facecolor="#D55E00", alpha=0.2, label=kinds))
    if holes.common:
        key.append(Patch(label="no data", **EMPTY))
    if holes.single:
        look = EMPTY | {"facecolor": "white", "edgecolor": FAINT, "linewidth": 0.4}
        key.append(Patch(label="no data for one line", **look))
    return key


_LONG = {"ratio": "percent", "pp": "percentage points"}


def lines(
    times: ArrayLike,
    series: Series,
    *,
    title: str,
    unit: str = "",
    name: str = "",
    caption: str = "",
    limits: Sequence[Limit] = (),
    spans: Sequence[Span] = (),
    colors: Mapping[str, Style] | None = None,
    step: float | None = None,
    floor: float | None = 0.0,
    ceiling: float | None = None,
    signed: bool = False,
    worse: Worse = "either",
    height: float = 2.35,
) -> Figure:
    """Draw lines over time.

    Parameters
    ----------
    times : array of datetime64[s]
        Ends of the steps, in UTC and ascending.
    series : mapping of str to array
        Values in SI units by name, NaN where there is no data.
    title, unit, caption : str
        The unit as in the data (``s``, ``ratio``, …); the axis shows ms or % where those are read.
    name : str
        Name of the file; made from the title unless given.
    limits : sequence of Limit
    spans : sequence of Span
        Intervals to shade.
    colors : mapping of str to Style, optional
        From `palette` over *all* regions, so that a region looks the same in every chart.
    step : float, optional
        Seconds; the commonest distance of the times unless given.
    floor, ceiling : float, optional
        Values that the axis must reach.
    signed : bool
        Values are differences: write signs, and draw the line of no difference.
    worse : {"up", "down", "either"}
        Of more than seven lines only those that go farthest this way from the middle of all keep
        their colour and name; the others are grey, and counted.
    """
    ends = _ends(times)
    arrays = _checked(ends, series)
    name = name or title
    if not arrays or not any(np.isfinite(a).any() for a in arrays.values()):
        return _nothing(title, name, _listed(list(arrays)) or "any series", caption)
    with _style():
        colors = dict(palette(list(arrays))) | dict(colors or {})
        step = _step_of(ends, step)
        low, high = _reach(arrays, limits, floor, ceiling)
        divisor, unit_name = scale(max(abs(low), abs(high)), unit)
        ticks = _ticks(low, high, divisor, signed=signed, ceiling=ceiling)
        canvas = _canvas(height)
        named, others = _told_apart(arrays, worse)
        colors |= dict.fromkeys((*others, _others(others)), MUTED)
        shown = named | ({_others(others): _middle(list(others.values()))} if others else {})
        (axes,) = _axes(canvas, left=ticks.room, right=_room_for_names(shown))
        axes.set_ylim(low, high)
        ticks.put(axes)
        start, end = float(ends[0] - step), float(ends[-1])
        for key, array in (others | named).items():
            _draw_line(axes, ends - step / 2, array, colors[key], step)
        holes = _hatch_gaps(axes, ends, arrays, colors, step)
        shaded = _shade(axes, spans, start, end)
        if signed:
            axes.axhline(0, color=FAINT, linewidth=0.8, zorder=1.5)
        _limits(axes, limits, unit)
        _time_axis(axes, start, end)
        axes.set_ylabel(_LONG.get(unit, unit_name), labelpad=3)
        _name_lines(axes, shown, colors)
        _heading(canvas, title, _swatches(spans if shaded else (), holes))
        alt = _alt_lines(title, ends, step, named, unit, limits, shaded, holes, signed, others)
        return _finish(canvas, name, alt, caption)


MOST_NAMED = 6
"""Lines that are told apart in a chart of more than seven."""

MUTED = Style("#aeb5bf", "-")


def _told_apart(
    arrays: Mapping[str, Values], worse: Worse
) -> tuple[dict[str, Values], dict[str, Values]]:
    """Return the lines to name, and the others: none, if there are as many as colours.

    What has no data at all is named first: nobody must take it for one of the calm ones.
    """
    if len(arrays) <= len(OKABE_ITO):
        return dict(arrays), {}
    away = np.array(list(arrays.values())) - _middle(list(arrays.values()))
    away = {"up": away, "down": -away, "either": np.abs(away)}[worse]
    farthest = np.where(np.isnan(away).all(axis=1), np.inf, np.nan_to_num(away, nan=0).max(axis=1))
    chosen = {list(arrays)[i] for i in np.argsort(-farthest, kind="stable")[:MOST_NAMED]}
    return (
        {name: array for name, array in arrays.items() if name in chosen},
        {name: array for name, array in arrays.items() if name not in chosen},
    )


def _middle(arrays: Sequence[Values]) -> Values:
    """Return the median at each step, NaN where none has data."""
    table = np.array(arrays)
    seen = ~np.isnan(table).all(axis=0)
    middle = np.full(table.shape[1], np.nan)
    middle[seen] = np.nanmedian(table[:, seen], axis=0)
    return middle


def _others(others: Mapping[str, Values]) -> str:
    return f"{len(others)} others"


def _listed(names: Sequence[object], most: int = 12) -> str:
    texts = [clean(n) for n in names[:most]]
    if len(names) > most:
        texts.append(f"{len(names) - most} more")
    return ", ".join(texts[:-1]) + (" and " if len(texts) > 1 else "") + "".join(texts[-1:])


def _alt_lines(
    title: str, ends: Values, step: float, arrays: Mapping[str, Values], unit: str,
    limits: Sequence[Limit], shaded: Sequence[str], holes: _Holes, signed: bool,
    others: Mapping[str, Values] | None = None,
) -> str:  # fmt: skip
    """Say what a chart of lines shows."""
    said = [f"Line chart: {clean(title)}, {window(ends[0] - step, ends[-1])}."]
    near = limits[0].value if limits else None
    for name, array in arrays.items():
        if np.isnan(array).all():
            said.append(f"{clean(name)}: no data.")
            continue
        low, high = int(np.nanargmin(array)), int(np.nanargmax(array))
        said.append(
            f"{clean(name)}: lowest {quantity(array[low], unit, limit=near, signed=signed)} at "
            f"{when(ends[low])}, highest {quantity(array[high], unit, limit=near, signed=signed)}"
            f" at {when(ends[high])}."
        )
    if others:
        ends_of = [f(list(others.values())) for f in (np.nanmin, np.nanmax)]
        low_text, high_text = (quantity(x, unit, limit=near, signed=signed) for x in ends_of)
        said.append(f"{_others(others)}, in grey: lowest {low_text}, highest {high_text}.")
    said += [f"{clean(x.label)}: {quantity(x.value, unit, limit=x.value)}." for x in limits]
    if shaded:
        said.append(f"Shaded: {_listed(shaded, 6)}.")
    for name, found in holes.spans.items():
        if found and name in arrays and not np.isnan(arrays[name]).all():
            total = sum(end - start for start, end in found)
            said.append(
                f"{clean(name)} has no data for {duration(total)}, first from {when(found[0][0])}."
            )
    return " ".join(said)


# --- the charts of the report ---


def availability(
    times: ArrayLike,
    regions: Series,
    *,
    limit: float | None = None,
    spans: Sequence[Span] = (),
    colors: Mapping[str, Style] | None = None,
    step: float | None = None,
    title: str = "Availability by region",
    caption: str = "",
    name: str = "availability",
) -> Figure:
    """Draw the availability of each region (ratios 0..1) over the window with its objective."""
    limits = [] if limit is None else [Limit(limit)]
    return lines(
        times, regions, title=title, unit="ratio", name=name, caption=caption, limits=limits,
        spans=spans, colors=colors, step=step, floor=None, ceiling=1.0, worse="down",
    )  # fmt: skip


QUANTILES = {
    "P50": Style("#56B4E9", "-"),
    "P95": Style("#0072B2", "-"),
    "P99": Style("#12305C", "-"),
}


def latency(
    times: ArrayLike,
    quantiles: Series,
    *,
    limit: float | None = None,
    spans: Sequence[Span] = (),
    step: float | None = None,
    title: str = "Latency",
    caption: str = "",
    name: str = "latency",
) -> Figure:
    """Draw latency quantiles (``P50``, ``P95``, ``P99``, in seconds) with the objective of P99."""
    limits = [] if limit is None else [Limit(limit, "P99 objective")]
    return lines(
        times, quantiles, title=title, unit="s", name=name, caption=caption, limits=limits,
        spans=spans, colors=QUANTILES, step=step,
    )  # fmt: skip


def region_delta(
    times: ArrayLike,
    regions: Series,
    *,
    primary: str,
    unit: str = "pp",
    limits: Sequence[Limit] = (),
    spans: Sequence[Span] = (),
    colors: Mapping[str, Style] | None = None,
    step: float | None = None,
    worse: Worse = "either",
    title: str = "",
    caption: str = "",
    name: str = "region-delta",
) -> Figure:
    """Draw each region's difference from the primary one (error rate unless the title says else).

    `regions` holds the differences; ``unit="pp"`` takes differences of ratios and shows
    percentage points.
    """
    title = title or f"Error rate: difference from {_short(primary)}"
    return lines(
        times, regions, title=title, unit=unit, name=name, caption=caption, limits=limits,
        spans=spans, colors=colors, step=step, signed=True, worse=worse,
    )  # fmt: skip


def burn(
    times: ArrayLike,
    budgets: Series,
    *,
    spans: Sequence[Span] = (),
    colors: Mapping[str, Style] | None = None,
    step: float | None = None,
    title: str = "Error budget left",
    caption: str = "",
    name: str = "error-budget",
) -> Figure:
    """Draw the share of the error budget that is left (1 = all, below 0 = overspent)."""
    return lines(
        times, budgets, title=title, unit="ratio", name=name, caption=caption,
        limits=[Limit(0.0, "budget spent at", "fail")], spans=spans, colors=colors, step=step,
        floor=0.0, ceiling=1.0,
    )  # fmt: skip


def drift(
    findings: Sequence[Mark],
    *,
    title: str = "Drift from the baseline, the worst first",
    caption: str = "",
    name: str = "drift",
    most: int = 12,
) -> Figure:
    """Draw findings as dots with intervals, each against its own rule's limits.

    The rules count in different units, so the axis is the drift as a multiple of the rule's
    critical limit: right of 1 is critical. The drift in its own unit stands beside each row.
    """
    shown = [m for m in findings if m.drift is not None and math.isfinite(m.drift)][:most]
    if not shown:
        what = f"{len(findings)} findings" if findings else "any rule"
        return _nothing(title, name, what, caption)
    colors = {"fail": FAIL, "warn": WARN, "pass": "#0b7a4b"}
    shapes = {"fail": "D", "warn": "^", "pass": "o"}
    with _style():
        labels = [_short(m.label, 46) for m in shown]
        texts = [printable(m.text) for m in shown]
        canvas = _canvas(0.95 + 0.2 * len(shown))
        (axes,) = _axes(
            canvas, left=0.2 + max(map(_text_width, labels)),
            right=0.2 + max(map(_text_width, texts)), top=0.46, bottom=0.42,
        )  # fmt: skip
        reach = max(1.0, *(_multiple(m, m.high) for m in shown))
        low = min(0.0, *(_multiple(m, m.low) for m in shown))
        right, left = min(reach, 4.0) * 1.06, max(low, -1.5) * 1.06
        axes.set(xlim=(left, right), ylim=(len(shown) - 0.4, -0.6))
        axes.axvspan(1, right, color=FAIL, alpha=0.07, lw=0)
        axes.axvline(0, color=FAINT, linewidth=0.8)
        axes.axvline(1, color=FAIL, linewidth=0.9, linestyle=(0, (5, 2.5)))
        for row, mark in enumerate(shown):
            color = colors.get(mark.verdict, FAINT)
            at = min(max(_multiple(mark, mark.drift), left), right)
            ends = [min(max(_multiple(mark, x), left), right) for x in (mark.low, mark.high)]
            axes.plot(ends, [row, row], color=color, linewidth=1.6, solid_capstyle="butt")
            beyond = _multiple(mark, mark.drift) > right
            axes.plot(
                [at], [row], ">" if beyond else shapes.get(mark.verdict, "s"), color=color,
                markersize=5, clip_on=False,
            )  # fmt: skip
            warns = mark.warning / mark.critical if mark.critical else 0.0
            axes.plot([warns, warns], [row - 0.3, row + 0.3], color=WARN, linewidth=1.4)
            axes.annotate(
                texts[row], (1, row), (8, 0), xycoords=axes.get_yaxis_transform(), color=color,
                textcoords="offset points", va="center", weight="bold", annotation_clip=False,
            )  # fmt: skip
        axes.set_yticks(range(len(shown)), labels, color=INK)
        axes.set_xlabel("drift as a multiple of the rule's critical limit (1 = critical)")
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
        key = [
            Line2D([], [], color=WARN, linewidth=1.4, marker="|", linestyle="", markersize=7,
                   markeredgewidth=1.4, label="warning limit"),
            Line2D([], [], color=FAIL, linestyle=(0, (5, 2.5)), label="critical limit"),
        ]  # fmt: skip
        key += [
            Line2D([], [], color=colors[v], marker=shapes[v], linestyle="", markersize=5, label=v)
            for v in colors
            if v in {mark.verdict for mark in shown}
        ]
        _heading(canvas, title, key)
        said = [f"Chart of {len(shown)} of {len(findings)} drift findings with their intervals."]
        missing = sum(m.drift is None or not math.isfinite(m.drift) for m in findings)
        said += [f"{missing} have no data."] if missing else []
        said += [f"{clean(m.label)}: {clean(m.text)}, {clean(m.verdict)}." for m in shown]
        return _finish(canvas, name, " ".join(said), caption)


def _multiple(mark: Mark, value: float | None) -> float:
    """Return a value in critical limits; an end of an interval that nobody knows is the drift."""
    if value is None or math.isnan(value):
        value = mark.drift or 0.0
    if not mark.critical:  # any difference is critical
        return math.copysign(math.inf, value) if value else 0.0
    return value / mark.critical


def overlay(
    baseline_times: ArrayLike,
    baseline: ArrayLike,
    times: ArrayLike,
    values: ArrayLike,
    *,
    title: str,
    unit: str = "",
    name: str = "",
    caption: str = "",
    limits: Sequence[Limit] = (),
    spans: Sequence[Span] = (),
    step: float | None = None,
) -> Figure:
    """Lay the window over the baseline by the hour of the day, with the difference underneath.

    Both are placed on the clock of the window: a sample of the baseline stands at the same time
    of the day. Beyond one day, the baseline is laid from the window's first day on.
    """
    ends, old_ends = _ends(times), _ends(baseline_times)
    new = _checked(ends, {"window": values})["window"]
    old = _checked(old_ends, {"baseline": baseline})["baseline"]
    name = name or title
    if not np.isfinite(new).any() and not np.isfinite(old).any():
        return _nothing(title, name, "window and baseline", caption)
    step = _step_of(ends, step)
    shifted = _same_hours(ends, old_ends, step)
    matched = _like(ends, shifted, old)
    gap = new - matched
    looks = {"baseline": Style("#8a929e", "-"), "window": Style("#0072B2", "-")}
    both = {"baseline": matched, "window": new}
    with _style():
        low, high = _reach(both, limits, 0.0, None)
        divisor, unit_name = scale(max(abs(low), abs(high)), unit)
        ticks = _ticks(low, high, divisor)
        reach, gap_ticks, gap_unit = _difference_ticks(gap, "pp" if unit == "ratio" else unit)
        canvas = _canvas(3.1)
        upper, under = _axes(
            canvas, left=max(ticks.room, gap_ticks.room), right=_room_for_names(both), rows=(2, 1)
        )
        start, end = float(ends[0] - step), float(ends[-1])
        upper.set_ylim(low, high)
        ticks.put(upper)
        for key, array in both.items():
            _draw_line(upper, ends - step / 2, array, looks[key], step)
        holes = _hatch_gaps(upper, ends, both, looks, step)
        shaded = _shade(upper, spans, start, end)
        _limits(upper, limits, unit)
        _time_axis(upper, start, end, label=False)
        upper.set_ylabel(_LONG.get(unit, unit_name), labelpad=3)
        _name_lines(upper, both, looks)
        under.set_ylim(-reach, reach)
        gap_ticks.put(under)
        under.set_ylabel(gap_unit, labelpad=3)
        _difference(under, ends, gap, step)
        _shade(under, [Span(s.start, s.end, "") for s in spans], start, end)
        _time_axis(under, start, end)
        _heading(canvas, title, _swatches(spans if shaded else (), holes))
        alt = _alt_lines(title, ends, step, both, unit, limits, shaded, holes, False)
        return _finish(canvas, name, f"{alt} {_alt_gap(ends, gap, unit)}", caption)


def _same_hours(ends: Values, old: Values, step: float) -> Values:
    """Move the baseline's times by whole days onto the window."""
    if not ends.size or not old.size:
        return old
    days = math.ceil((ends[0] - step / 2 - old[0]) / 86400)
    moved: Values = old + days * 86400
    if ends[-1] - ends[0] < 86400:  # one day at most: what comes late belongs to the morning
        late = moved > ends[0] + 86400 - step / 2
        moved[late] -= 86400
    return moved


def _like(ends: Values, old_ends: Values, old: Values) -> Values:
    """Return the baseline's value at each time of the window, NaN where it has none."""
    known = dict(zip(old_ends.tolist(), old.tolist(), strict=True))
    return np.array([known.get(t, np.nan) for t in ends.tolist()])


def _difference_ticks(gap: Values, unit: str) -> tuple[float, _Ticks, str]:
    """Return reach, ticks and unit of the axis of differences, which is even around zero."""
    reach = float(np.nanmax(np.abs(gap))) * 1.1 if np.isfinite(gap).any() else 1.0
    reach = reach or 1.0
    divisor, unit_name = scale(reach, unit)
    return reach, _ticks(-reach, reach, divisor, signed=True), unit_name


def _difference(axes: Axes, ends: Values, gap: Values, step: float) -> None:
    """Draw window minus baseline, filled from zero."""
    middles = ends - step / 2
    x, y = _broken(middles, gap, step)
    axes.fill_between(x, 0, y, color="#0072B2", alpha=0.35, linewidth=0)
    _draw_line(axes, middles, gap, Style("#0072B2", "-"), step)
    axes.axhline(0, color=FAINT, linewidth=0.8)
    axes.annotate(
        "difference", (1, 0.5), (20, 0), xycoords="axes fraction", textcoords="offset points",
        va="center", color=FAINT, annotation_clip=False,
    )  # fmt: skip


def _alt_gap(ends: Values, gap: Values, unit: str) -> str:
    if not np.isfinite(gap).any():
        return "Window and baseline have no time of the day in common."
    at = int(np.nanargmax(np.abs(gap)))
    text = quantity(gap[at], "pp" if unit == "ratio" else unit, signed=True)
    return f"Largest difference: {text} at {when(ends[at])}."


def heatmap(
    rows: Sequence[str],
    columns: Sequence[str],
    scores: ArrayLike,
    texts: Sequence[Sequence[str]],
    *,
    title: str = "Difference from the primary region",
    caption: str = "",
    name: str = "heatmap",
) -> Figure:
    """Draw regions by KPIs, coloured by how much worse or better, with the numbers inside.

    Parameters
    ----------
    rows, columns : sequence of str
        Regions and KPIs.
    scores : array of rows by columns
        Positive is worse; 1 is as bad as a critical limit, -1 as good. NaN is no data.
    texts : rows of strings
        What stands in each cell.
    """
    table = np.asarray(scores, dtype=np.float64).reshape(len(rows), len(columns))
    if not table.size or not np.isfinite(table).any():
        return _nothing(title, name, _listed(list(rows)) or "any region", caption)
    with _style():
        labels = [_short(r, 28) for r in rows]
        left = 0.2 + max(map(_text_width, labels))
        heads, high = _wrapped(columns, (WIDTH - left - 0.12) / len(columns) - 0.06)
        top = 0.4 + high
        canvas = _canvas(top + 0.12 + 0.24 * len(rows))
        (axes,) = _axes(canvas, left=left, top=top, bottom=0.12)
        cell = (WIDTH - left - 0.12) / len(columns)
        for i in range(len(rows)):
            for j in range(len(columns)):
                _cell(axes, i, j, table[i, j], printable(texts[i][j]), cell)
        axes.set(xlim=(0, len(columns)), ylim=(len(rows), 0))
        axes.set_yticks(np.arange(len(rows)) + 0.5, labels, color=INK)
        axes.set_xticks(np.arange(len(columns)) + 0.5, heads, color=INK)
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        key: list[Patch] = [
            Patch(facecolor=_blend(1.0), label="worse"),
            Patch(facecolor=_blend(-1.0), label="better"),
        ]
        if np.isnan(table).any():
            key.append(Patch(label="no data", **EMPTY))
        _heading(canvas, title, key)
        return _finish(canvas, name, _alt_heatmap(title, rows, columns, table, texts), caption)


def _wrapped(columns: Sequence[str], room: float) -> tuple[list[str], float]:
    """Break the heads into lines that fit their columns; return them and their height in inches."""
    heads = []
    for column in columns:
        found = [""]
        for word in printable(column).split():
            tried = f"{found[-1]} {word}".strip()
            if _text_width(tried) <= room or not found[-1]:
                found[-1] = tried
            else:
                found.append(word)
        heads.append("\n".join(_fit(line, room) for line in found[:3]))
    return heads, 0.13 * max(head.count("\n") + 1 for head in heads)


def _fit(text: str, room: float, size: float = TEXT) -> str:
    """Shorten a text until it is no wider than the room."""
    most = len(text)
    while most > 3 and _text_width(_short(text, most), size) > room:
        most -= 1
    return _short(text, most)


def _blend(score: float) -> str:
    """Colour of a score: vermillion is worse, blue better, white no difference."""
    share = min(abs(score), 1.0) * 0.75
    strong = (213, 94, 0) if score > 0 else (0, 114, 178)
    return "#" + "".join(f"{round(255 + (c - 255) * share):02x}" for c in strong)


def _cell(axes: Axes, row: int, column: int, score: float, text: str, room: float) -> None:
    if math.isnan(score):
        look = EMPTY
        text = text or NO_DATA
    else:
        look = {"facecolor": _blend(score), "linewidth": 0.0}
    axes.add_patch(Rectangle((column + 0.02, row + 0.06), 0.96, 0.88, **look))
    size = next((s for s in (TEXT, 6.5, 5.5) if _text_width(text, s) < room - 0.08), 5.0)
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1} if math.isnan(score) else None
    axes.text(
        column + 0.5, row + 0.52, _fit(text, room - 0.06, size), ha="center", va="center",
        size=size, bbox=box, weight="bold" if score >= 1 else "normal",
    )  # fmt: skip


def _alt_heatmap(
    title: str, rows: Sequence[str], columns: Sequence[str], table: Values,
    texts: Sequence[Sequence[str]],
) -> str:  # fmt: skip
    said = [f"Heat map: {clean(title)}; {len(rows)} regions by {len(columns)} KPIs."]
    for place in np.argsort(-np.nan_to_num(table, nan=-np.inf), axis=None, kind="stable")[:5]:
        i, j = divmod(int(place), len(columns))
        if table[i, j] > 0:
            said.append(f"{clean(rows[i])}, {clean(columns[j])}: {clean(texts[i][j])}.")
    if len(said) > 1:
        said.insert(1, "Worst:")
    else:
        said.append("Nothing is worse.")
    missing = int(np.isnan(table).sum())
    if missing:
        said.append(f"{missing} cells have no data.")
    return " ".join(said)


_LANES: dict[str, tuple[str, str, str]] = {
    "critical": ("#b3261e", "", "critical"),
    "incident": ("#D55E00", "////", "incident"),
    "warning": ("#E69F00", "", "warning"),
    "info": ("#56B4E9", "", "info"),
    "drift": ("#7b4ea3", "\\\\\\\\", "drift"),
    "deploy": ("#4b5563", "", "deploy"),
}


def timeline(
    events: Sequence[Event] | None,
    *,
    start: object,
    end: object,
    title: str = "Alerts and incidents",
    caption: str = "",
    name: str = "timeline",
    most: int = 16,
) -> Figure:
    """Draw alerts, incidents and drifts as bars on the window's clock, the gravest first.

    Events of one label share a row. Rows beyond `most` are counted in the title, never silent.
    No events is good news; None means that nobody could tell, and reads NO DATA.
    """
    if events is None:
        return _nothing(title, name, "alerts", caption)
    begin, finish = _seconds(start), _seconds(end)
    rows: dict[tuple[int, str], list[Event]] = {}
    events = sorted(events, key=_gravity)
    for event in events:
        rows.setdefault((_gravity(event)[0], event.label), []).append(event)
    shown = list(rows.items())[:most]
    if len(shown) < len(rows):
        title = f"{title} ({len(shown)} of {len(rows)} kinds, the gravest)"
    with _style():
        labels = [_short(label, 52) for (_, label), _ in shown]
        canvas = _canvas(1.0 + 0.2 * max(len(shown), 1))
        left = 0.2 + max(map(_text_width, labels), default=0.0)
        (axes,) = _axes(canvas, left=left, right=0.34, top=0.44)
        _time_axis(axes, begin, finish)
        axes.set_ylim(max(len(shown), 1) - 0.4, -0.6)
        axes.set_yticks(range(len(labels)), labels, color=INK)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", visible=True)
        for row, (_, found) in enumerate(shown):
            for event in found:
                _bar(axes, row, event, begin, finish)
        used = {event.severity for _, found in shown for event in found}
        key = [
            Patch(facecolor=color, hatch=hatch, edgecolor="white", label=label, linewidth=0)
            for severity, (color, hatch, label) in _LANES.items()
            if severity in used
        ]
        if not shown:
            axes.text(0.5, 0.5, "nothing fired in the window", transform=axes.transAxes,
                      ha="center", va="center", color=FAINT)  # fmt: skip
        _heading(canvas, title, key)
        return _finish(canvas, name, _alt_timeline(title, events, begin, finish), caption)


def _gravity(event: Event) -> tuple[int, float]:
    """Order events: the gravest first, then by their start."""
    return list(_LANES).index(event.severity), _seconds(event.start)


def _bar(axes: Axes, row: int, event: Event, begin: float, finish: float) -> None:
    color, hatch, _ = _LANES[event.severity]
    low = max(_seconds(event.start), begin)
    high = finish if event.end is None else min(_seconds(event.end), finish)
    if high < begin or low > finish:
        return
    # an alert of a minute must not vanish in a day: no bar is narrower than 2 points
    wide = max(high - low, (finish - begin) * 2 / (axes.get_position().width * WIDTH * 72))
    low = min(low, finish - wide)
    look: dict[str, Any] = {"facecolor": color, "hatch": hatch, "edgecolor": "white", "lw": 0}
    axes.add_patch(Rectangle((low, row - 0.3), wide, 0.6, **look))
    if event.end is None:
        axes.plot([finish], [row], ">", color=color, markersize=5, clip_on=False)


def _alt_timeline(title: str, events: Sequence[Event], begin: float, finish: float) -> str:
    said = [f"Time line: {clean(title)}, {window(begin, finish)}."]
    counts = {s: sum(e.severity == s for e in events) for s in _LANES}
    said.append(
        "; ".join(f"{_LANES[s][2]}: {n}" for s, n in counts.items() if n) + "."
        if events
        else "Nothing fired."
    )
    for event in events[:8]:
        ended = "still on at the end" if event.end is None else f"until {when(_seconds(event.end))}"
        said.append(f"{clean(event.label)} from {when(_seconds(event.start))} {ended}.")
    return " ".join(said)


def coverage(
    times: ArrayLike,
    regions: Series,
    *,
    step: float | None = None,
    title: str = "Coverage: samples seen of samples expected",
    caption: str = "",
    name: str = "coverage",
) -> Figure:
    """Draw one strip a region: complete, partial or missing in each step (shares 0..1)."""
    ends = _ends(times)
    arrays = _checked(ends, regions)
    if not arrays or not ends.size:
        return _nothing(title, name, "any region", caption)
    with _style():
        step = _step_of(ends, step)
        labels = [_short(r, 28) for r in arrays]
        canvas = _canvas(0.92 + 0.19 * len(labels))
        (axes,) = _axes(canvas, left=0.2 + max(map(_text_width, labels)), right=0.75)
        start, end = float(ends[0] - step), float(ends[-1])
        _time_axis(axes, start, end)
        axes.set_ylim(len(labels) - 0.45, -0.55)
        axes.set_yticks(range(len(labels)), labels, color=INK)
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
        shares: dict[str, float] = {}
        for row, (region, array) in enumerate(arrays.items()):
            seen = np.nan_to_num(array, nan=0.0)
            shares[region] = float(seen.mean())
            _strip(axes, row, ends, seen, step)
            axes.annotate(
                quantity(shares[region], "ratio"), (1, row), (5, 0), va="center",
                xycoords=axes.get_yaxis_transform(), textcoords="offset points",
                annotation_clip=False,
            )  # fmt: skip
        key = [
            Patch(facecolor="#56B4E9", label="complete"),
            Patch(facecolor="#E69F00", label="partial"),
            Patch(label="no data", **EMPTY),
        ]
        _heading(canvas, title, key)
        said = [f"Strip chart: {clean(title)}, {window(start, end)}."]
        for region, share in shares.items():
            holes = _gaps(ends, np.where(np.nan_to_num(arrays[region]) > 0, 0.0, np.nan), step)
            text = f"; no data from {when(holes[0][0])} to {when(holes[0][1])}" if holes else ""
            more = f" and {len(holes) - 1} more gaps" if len(holes) > 1 else ""
            said.append(f"{clean(region)}: {quantity(share, 'ratio')}{text}{more}.")
        return _finish(canvas, name, " ".join(said), caption)


def _strip(axes: Axes, row: int, ends: Values, share: Values, step: float) -> None:
    """Draw the steps of one region as few rectangles as there are runs."""
    looks: tuple[tuple[Callable[[Values], NDArray[np.bool_]], dict[str, Any]], ...] = (
        (lambda s: s >= 1, {"facecolor": "#56B4E9", "linewidth": 0}),
        (lambda s: (s > 0) & (s < 1), {"facecolor": "#E69F00", "linewidth": 0}),
        (lambda s: s <= 0, dict(EMPTY)),
    )  # fmt: skip
    for test, look in looks:
        boxes = [
            Rectangle((ends[a] - step, row - 0.36), ends[b] - ends[a] + step, 0.72)
            for a, b in _runs(test(share))
        ]
        hatch = look.pop("hatch", None)
        collection = PatchCollection(boxes, **look)
        if hatch:
            collection.set_hatch(hatch)
        axes.add_collection(collection)
