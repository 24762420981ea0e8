"""Every chart of the notebooks and the report, as matplotlib Figures that say what they show.

What holds for all of them:

* a region has one colour and one dash everywhere (`palette`), from a set that colour-blind
  readers can tell apart;
* the time axis is UTC, units are named, limits are drawn and labelled;
* a gap in the data is a gap in the line, hatched and named, and is never interpolated;
* the alternative text says what the picture shows, with the key figures;
* the same input gives the same bytes, on any machine: the font is the one that comes with
  matplotlib, and neither a date nor a random identifier is written.

A `Chart` is a Figure: its axes, titles and limits can be changed before it is shown, or saved by
`savefig`. Times are the *ends* of steps, as everywhere in this project: the sample at 13:05 of a 5m
series speaks for 13:00 to 13:05. Lines pass through the middle of each step, so that they stand
right between the edges of an incident's shading.
"""

from __future__ import annotations

import base64
import io
import math
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from tars_ga_lib.display import (
    NO_DATA,
    clean,
    duration,
    instant,
    printable,
    quantity,
    scale,
    slug,
    when,
    window,
)
from tars_ga_lib.intervals import merged, runs

if TYPE_CHECKING:
    import pandas as pd

_Locator: Any = AutoDateLocator  # untyped in matplotlib
_Formatter: Any = ConciseDateFormatter

__all__ = [
    "Chart",
    "Event",
    "Limit",
    "Mark",
    "Span",
    "Strip",
    "Style",
    "availability",
    "burn",
    "coverage",
    "downtime",
    "drift",
    "heatmap",
    "latency",
    "lines",
    "nothing",
    "overlay",
    "palette",
    "region_delta",
    "timeline",
]

Times = NDArray[np.datetime64]
Values = NDArray[np.float64]
Number = float | int
Worse = Literal["up", "down", "either"]

WIDTH = 7.0  # inches; the width of the text on a page
DPI = 144  # of the PNG: two dots for each of a screen's
TEXT = 7.5  # points
DAY = 86400.0
INK, FAINT, GRID = "#1f2733", "#5f6b7a", "#e3e6ea"
WARN, FAIL, PASS = "#b26a00", "#b3261e", "#0b7a4b"
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
    "figure.constrained_layout.h_pad": 0.04,
    "figure.constrained_layout.w_pad": 0.06,
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
    "svg.hashsalt": "tars-ga",
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "xtick.color": FAINT,
    "xtick.labelsize": TEXT,
    "xtick.major.size": 3,
    "xtick.major.width": 0.6,
    "ytick.color": FAINT,
    "ytick.labelsize": TEXT,
    "ytick.major.size": 0,
}


@contextmanager
def _style() -> Iterator[None]:
    """Draw under our settings only, whatever the user's matplotlibrc or a notebook has set."""
    with mpl.rc_context():
        settings: Any = mpl.rcParams
        settings.update({k: v for k, v in mpl.rcParamsDefault.items() if k != "backend"})
        settings.update(STYLE)
        yield


class Chart(Figure):
    """A matplotlib Figure with an alternative text; notebooks keep it as PNG and as SVG.

    JupyterLab shows no SVG of a notebook that it does not trust, and shows the PNG instead; so do
    GitHub and VS Code. Reports take the SVG.

    Attributes
    ----------
    name : str
        Name of its file beside the Markdown report, without suffix.
    alt : str
        What it shows, with the key figures, for those who cannot see it.
    caption : str
        Stands below the picture in reports, and numbers it.
    """

    name: str = "figure"
    alt: str = ""
    caption: str = ""

    def describe(self, name: str, alt: str, caption: str = "") -> Chart:
        """Name the chart and say what it shows.

        Raises
        ------
        ValueError
            If the alternative text is empty.
        """
        if not alt.strip():
            raise ValueError(f"chart {name!r} needs an alternative text")
        self.name, self.alt, self.caption = slug(name), clean(alt), caption
        return self

    @property
    def svg(self) -> str:
        """The chart as SVG."""
        with self._settled():
            return self._drawn_svg()

    @property
    def png(self) -> bytes:
        """The chart as PNG."""
        with self._settled():
            return self._drawn_png()

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """Lay the chart out once for all that is drawn of it, under our settings."""
        engine = self.get_layout_engine()
        with _style():
            if engine is not None:
                engine.execute(self)
            self.set_layout_engine("none")
            try:
                yield
            finally:
                self.set_layout_engine(engine)

    def _drawn_svg(self) -> str:
        stream = io.StringIO()
        self.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
        svg = stream.getvalue()
        svg = svg[svg.index("<svg") :]  # no document type: it names an address on the network
        svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)  # repeats every label
        text = self.alt.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
        return svg.replace("<svg ", f'<svg role="img" aria-label="{text}" ', 1)

    def _drawn_png(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
        return stream.getvalue()

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, str], dict[str, Any]]:
        """Return the chart's faces for a notebook, and what is known of them."""
        with self._settled():
            svg, png = self._drawn_svg(), self._drawn_png()
        wide, high = self.get_size_inches() * 96
        facts = {"alt": self.alt, "caption": self.caption, "name": self.name}
        return (
            {
                "image/png": base64.b64encode(png).decode("ascii"),
                "image/svg+xml": svg,
                "text/plain": self.alt,
            },
            {
                "image/png": {"alt": self.alt, "width": round(wide), "height": round(high)},
                "image/svg+xml": facts,
            },
        )


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

# --- frame of every chart ---


def _chart(height: float) -> Chart:
    return Chart(figsize=(WIDTH, height), dpi=DPI, layout="constrained")


def _short(name: object, most: int = 26) -> str:
    """Make a name fit, keeping both of its ends: they tell names apart."""
    text = printable(name)
    if len(text) <= most:
        return text
    head = (most - 1) * 2 // 3
    return f"{text[:head]}…{text[-(most - 1 - head) :]}"


def _heading(chart: Chart, title: str, key: Sequence[Any] = ()) -> None:
    """Write the title at the left and the key of shadings at the right of the first line."""
    room = WIDTH - sum(0.36 + 0.05 * len(str(handle.get_label())) for handle in key)
    chart.suptitle(
        _short(title, int(room / 0.088)), x=0.006, ha="left", weight="bold", size=TEXT + 1.5
    )
    if key:
        legend = chart.legend(
            handles=list(key),
            loc="upper right",
            ncols=len(key),
            borderaxespad=0.25,
            handlelength=1.6,
            columnspacing=1.2,
        )
        legend.set_in_layout(False)  # the title has made room for both


def nothing(title: str, name: str, what: str, caption: str = "") -> Chart:
    """Say that there is no data, as a chart of its own: a blank would read as calm."""
    with _style():
        chart = _chart(1.1)
        axes = chart.add_subplot()
        axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1))
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.add_patch(_hatched(0, 1))
        axes.text(
            0.5, 0.5, NO_DATA, ha="center", va="center", weight="bold", size=TEXT + 2,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 4},
        )  # fmt: skip
        _heading(chart, title)
    return chart.describe(name, f"{clean(title)}: no data for {what}.", caption)


def _hatched(start: float, end: float, low: float = 0.0, high: float = 1.0, **kw: Any) -> Rectangle:
    return Rectangle((start, low), end - start, high - low, **(EMPTY | kw))


# --- time ---


def _seconds(time: object) -> float:
    """Read a point in time as seconds since 1970."""
    moment = instant(time)
    if moment is None:
        raise ValueError("a point in time is missing")
    return moment.timestamp()


def _ends(times: ArrayLike) -> Values:
    """Read the ends of steps as seconds since 1970; a pandas index in UTC too."""
    if (zoned := getattr(times, "tz_convert", None)) and getattr(times, "tz", None):
        times = zoned(None)
    return np.asarray(times).astype("datetime64[s]").astype(np.int64).astype(np.float64)


def _step_of(ends: Values, step: float | None) -> float:
    """Length of a step: as told, else the commonest distance, else a minute."""
    if step:
        return float(step)
    gaps = np.diff(ends)
    return float(np.median(gaps)) if gaps.size else 60.0


def _checked(ends: Values, series: Mapping[str, ArrayLike] | pd.DataFrame) -> dict[str, Values]:
    """Turn each series into an array as long as the times; infinities count as missing."""
    arrays: dict[str, Values] = {}
    for name, values in series.items():
        array = np.asarray(values, dtype=np.float64)
        if array.shape != ends.shape:
            raise ValueError(f"{name!r} has {array.size} values for {ends.size} times")
        arrays[str(name)] = np.where(np.isfinite(array), array, np.nan)
    return arrays


def _gaps(ends: Values, array: Values, step: float) -> list[tuple[float, float]]:
    """Return start and end of each stretch without data, steps absent from the grid included."""
    missing = [(ends[a] - step, ends[b - 1]) for a, b in runs(np.isnan(array))]
    jumps = np.flatnonzero(np.diff(ends) > 1.5 * step)
    missing += [(ends[i], ends[i + 1] - step) for i in jumps]
    return merged([(float(start), float(end)) for start, end in missing])


def _time_axis(axes: Axes, start: float, end: float) -> None:
    """Tick at round UTC times."""
    axes.set_xlim(start / DAY, max(end, start + 1) / DAY)
    locator = _Locator(tz=UTC, minticks=4, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(_Formatter(locator, tz=UTC, show_offset=False))
    axes.set_xlabel(f"time (UTC) from {when(start).removesuffix(' UTC')}", labelpad=1)


def _shade(axes: Axes, spans: Sequence[Span], start: float, end: float) -> list[str]:
    """Shade the spans and name each above the plot where there is room; return their texts."""
    texts = []
    taken = -math.inf
    letter = 0.008  # width of a letter as a share of the plot, about
    for span in sorted(spans, key=lambda s: _seconds(s.start)):
        low, high = max(_seconds(span.start), start), min(_seconds(span.end), end)
        if high < start or low > end:
            continue
        high = max(high, low + (end - start) / 500)
        axes.axvspan(low / DAY, high / DAY, color="#D55E00", alpha=0.13, lw=0)
        texts.append(f"{clean(span.label)} {window(low, high)}")
        text = _short(span.label, 44)
        half = len(text) * letter / 2
        at = min(max(((low + high) / 2 - start) / (end - start), half), 1 - half)
        if text and at - half > taken:
            axes.annotate(
                text, (at, 1), (0, 2), xycoords="axes fraction", color="#a34700",
                textcoords="offset points", ha="center", va="bottom", size=TEXT - 0.5,
            )  # fmt: skip
            taken = at + half
    return texts


# --- lines ---


def _value_axis(
    axes: Axes, reach: tuple[float, float], unit: str, *, signed: bool = False
) -> float:
    """Scale the axis to the multiple of the unit that is read, and return what to divide by."""
    low, high = reach
    divisor, name = scale(max(abs(low), abs(high)), unit)
    axes.set_ylim(low / divisor, high / divisor)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axes.ticklabel_format(axis="y", style="plain", useOffset=False)
    if signed:
        axes.yaxis.set_major_formatter(FuncFormatter(_signed))
    axes.set_ylabel(_LONG.get(unit, name), labelpad=3)
    return divisor


def _signed(value: float, place: int | None) -> str:
    return f"{value:+.6g}".replace("-", "\u2212") if abs(value) > 1e-12 else "0"


def _name_lines(axes: Axes, arrays: Mapping[str, Values], colors: Mapping[str, Style]) -> None:
    """Name the lines at the right of the plot, in the order in which they end."""
    last = {}
    for name, array in arrays.items():
        seen = array[~np.isnan(array)]
        last[name] = seen[-1] if seen.size else -math.inf
    handles = [
        Line2D(
            [], [], color=colors[name].color, linestyle=colors[name].dash,
            label=f"\u200a{_short(name, 22)}" + (" (no data)" if last[name] == -math.inf else ""),
        )
        for name in sorted(arrays, key=lambda name: -last[name])
    ]  # fmt: skip
    axes.legend(
        handles=handles, loc="center left", bbox_to_anchor=(1, 0.5), handlelength=1.8,
        labelcolor=INK, labelspacing=0.6,
    )  # fmt: skip


def _draw_line(axes: Axes, middles: Values, array: Values, style: Style, step: float) -> None:
    """Draw one series; the pen lifts at gaps, and a lone sample is a dot."""
    x, y = _broken(middles, array, step)
    axes.plot(x / DAY, y, color=style.color, linestyle=style.dash, solid_capstyle="round")
    seen = ~np.isnan(y)
    alone = seen & ~np.concatenate(([False], seen[:-1])) & ~np.concatenate((seen[1:], [False]))
    if alone.any():
        axes.plot(x[alone] / DAY, y[alone], "o", color=style.color, markersize=2.6)


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
        axes.add_patch(_hatched(start / DAY, end / DAY, transform=blend, zorder=0.5))
    alone = {name: runs(mask & ~every) for name, mask in missing.items() if not mask.all()}
    alone = {name: stretches for name, stretches in alone.items() if stretches}
    high = min(0.035, 0.3 / max(len(alone), 1))
    for row, (name, stretches) in enumerate(alone.items()):
        look = {"edgecolor": colors[name].color, "facecolor": "white", "linewidth": 0.4}
        place = {"transform": blend, "zorder": 3, **look}
        for first, last in stretches:
            begin, end = (ends[first] - step) / DAY, ends[last - 1] / DAY
            axes.add_patch(_hatched(begin, end, row * high, (row + 0.85) * high, **place))
    gaps = {name: _gaps(ends, array, step) for name, array in arrays.items()}
    return _Holes(gaps, bool(common), bool(alone))


def _limits(axes: Axes, limits: Sequence[Limit], unit: str, divisor: float) -> None:
    """Draw limits as dashed lines, each with its name and value at the left."""
    colors = {"objective": INK, "warn": WARN, "fail": FAIL}
    low, high = axes.get_ylim()
    for limit in limits:
        at, color = limit.value / divisor, colors[limit.tone]
        axes.axhline(at, color=color, linestyle=(0, (5, 2.5)), linewidth=0.9)
        below = (at - low) / (high - low) > 0.88
        axes.annotate(
            f"{clean(limit.label)} {quantity(limit.value, unit, limit=limit.value)}",
            (0, at), (3, -2 if below else 2), xycoords=axes.get_yaxis_transform(),
            textcoords="offset points", va="top" if below else "bottom", size=TEXT - 0.5,
            color=color,
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
    bottom = low if low == floor else low - air
    return bottom, high + min(air, (high - bottom) * 0.07 or air)


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
    series: Mapping[str, ArrayLike] | pd.DataFrame,
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
) -> Chart:
    """Draw lines over time.

    Parameters
    ----------
    times : array of datetime64[s], or the index of a DataFrame
        Ends of the steps, in UTC and ascending.
    series : mapping of str to array, or a DataFrame
        Values in SI units by name, NaN where there is no data; a DataFrame has a column a line.
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
        return nothing(title, name, _listed(list(arrays)) or "any series", caption)
    with _style():
        colors = dict(palette(list(arrays))) | dict(colors or {})
        step = _step_of(ends, step)
        named, others = _told_apart(arrays, worse)
        colors |= dict.fromkeys((*others, _others(others)), MUTED)
        shown = named | ({_others(others): _middle(list(others.values()))} if others else {})
        chart = _chart(height)
        axes = chart.add_subplot()
        divisor = _value_axis(axes, _reach(arrays, limits, floor, ceiling), unit, signed=signed)
        start, end = float(ends[0] - step), float(ends[-1])
        _time_axis(axes, start, end)
        for key, array in (others | named).items():
            _draw_line(axes, ends - step / 2, array / divisor, colors[key], step)
        holes = _hatch_gaps(axes, ends, arrays, colors, step)
        shaded = _shade(axes, spans, start, end)
        if signed:
            axes.axhline(0, color=FAINT, linewidth=0.8, zorder=1.5)
        _limits(axes, limits, unit, divisor)
        _name_lines(axes, shown, colors)
        _heading(chart, title, _swatches(spans if shaded else (), holes))
    alt = _alt_lines(title, ends, step, named, unit, limits, shaded, holes, signed, others)
    return chart.describe(name, alt, caption)


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
    regions: Mapping[str, ArrayLike] | pd.DataFrame,
    *,
    limit: float | None = None,
    spans: Sequence[Span] = (),
    colors: Mapping[str, Style] | None = None,
    step: float | None = None,
    title: str = "Availability by region",
    caption: str = "",
    name: str = "availability",
) -> Chart:
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
    quantiles: Mapping[str, ArrayLike] | pd.DataFrame,
    *,
    limit: float | None = None,
    spans: Sequence[Span] = (),
    step: float | None = None,
    title: str = "Latency",
    caption: str = "",
    name: str = "latency",
) -> Chart:
    """Draw latency quantiles (``P50``, ``P95``, ``P99``, in seconds) with the objective of P99."""
    limits = [] if limit is None else [Limit(limit, "P99 objective")]
    return lines(
        times, quantiles, title=title, unit="s", name=name, caption=caption, limits=limits,
        spans=spans, colors=QUANTILES, step=step,
    )  # fmt: skip


def region_delta(
    times: ArrayLike,
    regions: Mapping[str, ArrayLike] | pd.DataFrame,
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
) -> Chart:
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
    budgets: Mapping[str, ArrayLike] | pd.DataFrame,
    *,
    spans: Sequence[Span] = (),
    colors: Mapping[str, Style] | None = None,
    step: float | None = None,
    title: str = "Error budget left",
    caption: str = "",
    name: str = "error-budget",
) -> Chart:
    """Draw the share of the error budget that is left (1 = all, below 0 = overspent)."""
    return lines(
        times, budgets, title=title, unit="ratio", name=name, caption=caption,
        limits=[Limit(0.0, "budget spent at", "fail")], spans=spans, colors=colors, step=step,
        floor=0.0, ceiling=1.0,
    )  # fmt: skip


def drift(
    findings: Sequence[Mark],
    *,
    title: str = "Drift, the worst first",
    caption: str = "",
    name: str = "drift",
    most: int = 12,
) -> Chart:
    """Draw findings as dots with intervals, each against its own rule's limits.

    The rules count in different units, so the axis is the drift as a multiple of the rule's
    critical limit: right of 1 is critical. The drift in its own unit stands beside each row.
    """
    shown = [m for m in findings if m.drift is not None and math.isfinite(m.drift)][:most]
    if not shown:
        what = f"{len(findings)} findings" if findings else "any rule"
        return nothing(title, name, what, caption)
    colors = {"fail": FAIL, "warn": WARN, "pass": PASS}
    shapes = {"fail": "D", "warn": "^", "pass": "o"}
    with _style():
        chart = _chart(0.95 + 0.2 * len(shown))
        axes = chart.add_subplot()
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
            _beside(axes, row, printable(mark.text), color=color, weight="bold")
        axes.set_yticks(range(len(shown)), [_short(m.label, 46) for m in shown], color=INK)
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
        _heading(chart, title, key)
    said = [f"Chart of {len(shown)} of {len(findings)} drift findings with their intervals."]
    missing = sum(m.drift is None or not math.isfinite(m.drift) for m in findings)
    said += [f"{missing} have no data."] if missing else []
    said += [f"{clean(m.label)}: {clean(m.text)}, {clean(m.verdict)}." for m in shown]
    return chart.describe(name, " ".join(said), caption)


def _beside(axes: Axes, row: float, text: str, **look: Any) -> None:
    """Write a text at the right of a row."""
    axes.annotate(
        text, (1, row), (8, 0), xycoords=axes.get_yaxis_transform(),
        textcoords="offset points", va="center", annotation_clip=False, **look,
    )  # fmt: skip


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
) -> Chart:
    """Lay the window over the baseline by the hour of the day, with the difference underneath.

    Both are placed on the clock of the window: a sample of the baseline stands at the same time
    of the day. Beyond one day, the baseline is laid from the window's first day on.
    """
    ends, old_ends = _ends(times), _ends(baseline_times)
    new = _checked(ends, {"window": values})["window"]
    old = _checked(old_ends, {"baseline": baseline})["baseline"]
    name = name or title
    if not np.isfinite(new).any() and not np.isfinite(old).any():
        return nothing(title, name, "window and baseline", caption)
    step = _step_of(ends, step)
    matched = _like(ends, _same_hours(ends, old_ends, step), old)
    gap = new - matched
    looks = {"baseline": Style("#8a929e", "-"), "window": Style("#0072B2", "-")}
    both = {"baseline": matched, "window": new}
    with _style():
        chart = _chart(3.1)
        upper, under = chart.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        start, end = float(ends[0] - step), float(ends[-1])
        divisor = _value_axis(upper, _reach(both, limits, 0.0, None), unit)
        _time_axis(under, start, end)
        for key, array in both.items():
            _draw_line(upper, ends - step / 2, array / divisor, looks[key], step)
        holes = _hatch_gaps(upper, ends, both, looks, step)
        shaded = _shade(upper, spans, start, end)
        _limits(upper, limits, unit, divisor)
        _name_lines(upper, both, looks)
        _difference(under, ends, gap, "pp" if unit == "ratio" else unit, step)
        _shade(under, [Span(s.start, s.end, "") for s in spans], start, end)
        _heading(chart, title, _swatches(spans if shaded else (), holes))
    alt = _alt_lines(title, ends, step, both, unit, limits, shaded, holes, False)
    return chart.describe(name, f"{alt} {_alt_gap(ends, gap, unit)}", caption)


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


def _difference(axes: Axes, ends: Values, gap: Values, unit: str, step: float) -> None:
    """Draw window minus baseline, filled from zero, which is in the middle."""
    reach = float(np.nanmax(np.abs(gap))) * 1.1 if np.isfinite(gap).any() else 1.0
    reach = reach or 1.0
    divisor = _value_axis(axes, (-reach, reach), unit, signed=True)
    middles = ends - step / 2
    x, y = _broken(middles, gap / divisor, step)
    axes.fill_between(x / DAY, 0, y, color="#0072B2", alpha=0.35, linewidth=0)
    _draw_line(axes, middles, gap / divisor, Style("#0072B2", "-"), step)
    axes.axhline(0, color=FAINT, linewidth=0.8)
    _beside(axes, 0, "difference", color=FAINT)


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
) -> Chart:
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
        return nothing(title, name, _listed(list(rows)) or "any region", caption)
    letters = max(74 // len(columns), 6)  # that a column has room for
    heads = [textwrap.fill(printable(c), letters, max_lines=3, placeholder="…") for c in columns]
    with _style():
        chart = _chart(0.65 + 0.13 * max(h.count("\n") for h in heads) + 0.24 * len(rows))
        axes = chart.add_subplot()
        for i in range(len(rows)):
            for j in range(len(columns)):
                _cell(axes, i, j, table[i, j], printable(texts[i][j]), letters)
        axes.set(xlim=(0, len(columns)), ylim=(len(rows), 0))
        axes.set_yticks(np.arange(len(rows)) + 0.5, [_short(r, 28) for r in rows], color=INK)
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
        _heading(chart, title, key)
    return chart.describe(name, _alt_heatmap(title, rows, columns, table, texts), caption)


def _blend(score: float) -> str:
    """Colour of a score: vermillion is worse, blue better, white no difference."""
    share = min(abs(score), 1.0) * 0.75
    strong = (213, 94, 0) if score > 0 else (0, 114, 178)
    return "#" + "".join(f"{round(255 + (c - 255) * share):02x}" for c in strong)


def _cell(axes: Axes, row: int, column: int, score: float, text: str, letters: int) -> None:
    if math.isnan(score):
        look = EMPTY
        text = text or NO_DATA
    else:
        look = {"facecolor": _blend(score), "linewidth": 0.0}
    axes.add_patch(Rectangle((column + 0.02, row + 0.06), 0.96, 0.88, **look))
    size = TEXT if len(text) <= letters else 5.5
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1} if math.isnan(score) else None
    axes.text(
        column + 0.5, row + 0.52, _short(text, max(letters * 4 // 3, 4)), ha="center", va="center",
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
) -> Chart:
    """Draw alerts, incidents and drifts as bars on the window's clock, the gravest first.

    Events of one label share a row. Rows beyond `most` are counted in the title, never silent.
    No events is good news; None means that nobody could tell, and reads NO DATA.
    """
    if events is None:
        return nothing(title, name, "alerts", caption)
    begin, finish = _seconds(start), _seconds(end)
    rows: dict[tuple[int, str], list[Event]] = {}
    events = sorted(events, key=_gravity)
    for event in events:
        rows.setdefault((_gravity(event)[0], event.label), []).append(event)
    shown = list(rows.items())[:most]
    if len(shown) < len(rows):
        title = f"{title} ({len(shown)} of {len(rows)} kinds, the gravest)"
    with _style():
        chart = _chart(1.0 + 0.2 * max(len(shown), 1))
        axes = chart.add_subplot()
        _rows(axes, [label for (_, label), _ in shown] or [""], 52)
        _time_axis(axes, begin, finish)
        axes.grid(axis="x", visible=True)
        for row, (_, some) in enumerate(shown):
            for event in some:
                _bar(axes, row, event, begin, finish)
        used = {event.severity for _, some in shown for event in some}
        key = [
            Patch(facecolor=color, hatch=hatch, edgecolor="white", label=label, linewidth=0)
            for severity, (color, hatch, label) in _LANES.items()
            if severity in used
        ]
        if not shown:
            axes.text(0.5, 0.5, "nothing fired in the window", transform=axes.transAxes,
                      ha="center", va="center", color=FAINT)  # fmt: skip
        _heading(chart, title, key)
    return chart.describe(name, _alt_timeline(title, events, begin, finish), caption)


def _rows(axes: Axes, labels: Sequence[str], most: int) -> None:
    """Make an axis of rows, each with its label at the left."""
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_yticks(range(len(labels)), [_short(label, most) for label in labels], color=INK)
    axes.grid(visible=False)


def _gravity(event: Event) -> tuple[int, float]:
    """Order events: the gravest first, then by their start."""
    return list(_LANES).index(event.severity), _seconds(event.start)


def _bar(axes: Axes, row: int, event: Event, begin: float, finish: float) -> None:
    color, hatch, _ = _LANES[event.severity]
    low = max(_seconds(event.start), begin)
    high = finish if event.end is None else min(_seconds(event.end), finish)
    if high < begin or low > finish:
        return
    wide = max(high - low, (finish - begin) / 200)  # an alert of a minute must not vanish in a day
    low = min(low, finish - wide)
    look: dict[str, Any] = {"facecolor": color, "hatch": hatch, "edgecolor": "white", "lw": 0}
    axes.add_patch(Rectangle((low / DAY, row - 0.3), wide / DAY, 0.6, **look))
    if event.end is None:
        axes.plot([finish / DAY], [row], ">", color=color, markersize=5, clip_on=False)


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


# --- strips: what state a region or an endpoint was in, when ---


@dataclass(frozen=True)
class Strip:
    """One row: its label, a text at its right, and its states as (start, end, state) in seconds."""

    label: str
    text: str
    states: Sequence[tuple[float, float, str]]


_STATES: dict[str, dict[str, Any]] = {
    "complete": {"facecolor": "#56B4E9", "linewidth": 0},
    "partial": {"facecolor": "#E69F00", "linewidth": 0},
    "no data": EMPTY,
    "up": {"facecolor": PASS, "linewidth": 0},
    "down": {"facecolor": FAIL, "linewidth": 0},
    "not observed": EMPTY,
}


def _strips(
    strips: Sequence[Strip], key: Sequence[str], start: float, end: float, title: str
) -> Chart:
    """Draw strips; later states of a row lie over earlier ones, and none is too short to see."""
    with _style():
        chart = _chart(0.92 + 0.19 * len(strips))
        axes = chart.add_subplot()
        _rows(axes, [strip.label for strip in strips], 28)
        _time_axis(axes, start, end)
        axes.spines["left"].set_visible(False)
        least = (end - start) / 400
        for row, strip in enumerate(strips):
            for state in dict.fromkeys(state for *_, state in strip.states):
                boxes = [
                    Rectangle(
                        (min(a, end - least) / DAY, row - 0.36), max(b - a, least) / DAY, 0.72
                    )
                    for a, b, one in strip.states
                    if one == state
                ]  # fmt: skip
                axes.add_collection(PatchCollection(boxes, match_original=False, **_STATES[state]))
            _beside(axes, row, strip.text, color=INK)
        _heading(chart, title, [Patch(label=state, **_STATES[state]) for state in key])
    return chart


def coverage(
    times: ArrayLike,
    regions: Mapping[str, ArrayLike] | pd.DataFrame,
    *,
    step: float | None = None,
    title: str = "Coverage: samples seen of samples expected",
    caption: str = "",
    name: str = "coverage",
) -> Chart:
    """Draw one strip a region: complete, partial or missing in each step (shares 0..1)."""
    ends = _ends(times)
    arrays = _checked(ends, regions)
    if not arrays or not ends.size:
        return nothing(title, name, "any region", caption)
    step = _step_of(ends, step)
    start, end = float(ends[0] - step), float(ends[-1])
    tests: dict[str, Callable[[Values], NDArray[np.bool_]]] = {
        "complete": lambda share: share >= 1,
        "partial": lambda share: (share > 0) & (share < 1),
        "no data": lambda share: share <= 0,
    }
    strips = []
    said = [f"Strip chart: {clean(title)}, {window(start, end)}."]
    for region, array in arrays.items():
        share = np.nan_to_num(array, nan=0.0)
        states = [
            (float(ends[a] - step), float(ends[b - 1]), state)
            for state, test in tests.items()
            for a, b in runs(test(share))
        ]
        mean = quantity(float(share.mean()), "ratio")
        strips.append(Strip(region, mean, states))
        holes = _gaps(ends, np.where(share > 0, 0.0, np.nan), step)
        text = f"; no data from {when(holes[0][0])} to {when(holes[0][1])}" if holes else ""
        more = f" and {len(holes) - 1} more gaps" if len(holes) > 1 else ""
        said.append(f"{clean(region)}: {mean}{text}{more}.")
    return _strips(strips, list(tests), start, end, title).describe(name, " ".join(said), caption)


def downtime(
    strips: Sequence[Strip],
    *,
    start: object,
    end: object,
    alt: str,
    title: str,
    caption: str = "",
    name: str = "downtime",
) -> Chart:
    """Draw one strip an endpoint: up, down, or not observed."""
    begin, finish = _seconds(start), _seconds(end)
    chart = _strips(strips, ("up", "down", "not observed"), begin, finish, title)
    return chart.describe(name, alt, caption)
