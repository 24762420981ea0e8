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
from functools import partial
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.dates import HOURLY, MINUTELY, AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.layout_engine import PlaceHolderLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullLocator,
    StrMethodFormatter,
)
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
from tars_ga_lib.intervals import runs

_Locator: Any = AutoDateLocator  # untyped in matplotlib
_Formatter: Any = ConciseDateFormatter
_SVG: Any = FigureCanvasSVG
_PNG: Any = FigureCanvasAgg

__all__ = [
    "Chart",
    "Event",
    "Limit",
    "Mark",
    "Span",
    "Strip",
    "Style",
    "coverage",
    "drift",
    "lines",
    "nothing",
    "palette",
    "strips",
    "timeline",
]

Values = NDArray[np.float64]
Series = Mapping[str, ArrayLike] | pd.DataFrame
Frame = Any  # a DataFrame on a whole grid of times, with a column a line
Worse = Literal["up", "down", "either"]

WIDTH = 7.0  # inches; the width of the text on a page
DPI = 144  # of the PNG: two dots for each of a screen's
TEXT = 7.5  # points
INK, FAINT, GRID, SHADE = "#1f2733", "#5f6b7a", "#e3e6ea", "#D55E00"
TONES = {"objective": INK, "pass": "#0b7a4b", "warn": "#b26a00", "fail": "#b3261e"}
EMPTY: dict[str, Any] = {
    "facecolor": "#f3f4f6", "edgecolor": "#9aa3ae", "hatch": "//////", "linewidth": 0.0
}  # fmt: skip
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
DASHED = (0, (5, 2.5))
MOST_NAMED = 6
"""Lines that are told apart in a chart of more than seven."""
MOST_PANELS = 9

STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": FAINT,
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": FAINT,
    "axes.labelsize": TEXT,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": TEXT,
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
    plotted : list of (Axes, DataFrame, str)
        The lines of each of its axes, and their unit: the HTML report has them as a table.
    """

    name: str = "figure"
    alt: str = ""
    caption: str = ""
    plotted: Sequence[tuple[Axes, Frame, str]] = ()

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

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """Lay the chart out once for all that is drawn of it, under our settings."""
        engine = self.get_layout_engine()
        if isinstance(engine, PlaceHolderLayoutEngine):  # as it is below
            yield
            return
        if not isinstance(self.canvas, FigureCanvasAgg):
            _PNG(self)  # texts that were measured on it are not measured again when it is drawn
        with _style():
            if engine is not None:
                engine.execute(self)
            self.set_layout_engine("none")
            try:
                yield
            finally:
                self.set_layout_engine(engine)

    @property
    def svg(self) -> str:
        """The chart as SVG."""
        stream = io.StringIO()
        with self._settled():  # the canvas itself: `savefig` would draw it twice
            canvas = self.canvas
            _SVG(self).print_svg(stream, metadata={"Date": None, "Creator": None})
            self.set_canvas(canvas)
        svg = stream.getvalue()
        svg = svg[svg.index("<svg") :]  # no document type: it names an address on the network
        svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)  # repeats every label
        text = self.alt.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
        return svg.replace("<svg ", f'<svg role="img" aria-label="{text}" ', 1)

    @property
    def png(self) -> bytes:
        """The chart as PNG."""
        stream = io.BytesIO()
        with self._settled():
            canvas: Any = self.canvas
            canvas.print_png(stream, metadata={"Software": None})
        return stream.getvalue()

    def notebook_facts(self) -> dict[str, Any]:
        """Return what a notebook keeps beside the picture; ``values`` are those of its lines."""
        with self._settled():
            values = [_values(*each) for each in self.plotted]
        return {"alt": self.alt, "caption": self.caption, "name": self.name, "values": values}

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, str], dict[str, Any]]:
        """Return the chart's faces for a notebook, and what is known of them."""
        with self._settled():
            png, svg, facts = self.png, self.svg, self.notebook_facts()
        wide, high = self.get_size_inches() * 96
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


def _values(axes: Axes, frame: Frame, unit: str) -> dict[str, Any]:
    """Return what the lines of one panel say, an hour or more a row, for the HTML report.

    ``box`` is left, top, width and height of the panel as shares of the picture. A row holds its
    time, begin and end as shares of the axis, and the lowest and highest step of each line.
    """
    left, bottom, width, height = (float(x) for x in axes.get_position().bounds)
    start, end = _ends(frame)
    hours = max(math.ceil((end - start) / np.timedelta64(1, "D")), 1)
    lows, highs = (
        getattr(frame.resample(f"{hours}h", closed="right", label="left"), name)()
        for name in ("min", "max")
    )
    rows = []
    for begin, low, high in zip(lows.index, lows.to_numpy(), highs.to_numpy(), strict=True):
        times = [begin.to_datetime64(), (begin + pd.Timedelta(hours=hours)).to_datetime64()]
        shares = [round(float((min(max(t, start), end) - start) / (end - start)), 4) for t in times]
        texts = [
            [quantity(float(x), unit, digits=3) for x in pair]
            for pair in zip(low, high, strict=True)
        ]
        rows.append([when(times[0]), *shares, *(" to ".join(dict.fromkeys(t)) for t in texts)])
    return {
        "box": [round(x, 4) for x in (left, 1 - bottom - height, width, height)],
        "title": axes.get_title("left"),
        "columns": [clean(name) for name in frame],
        "rows": rows,
    }


class Style(NamedTuple):
    """How the lines of one region look."""

    color: str
    dash: Any


MUTED = Style("#aeb5bf", "-")


@dataclass(frozen=True)
class Limit:
    """A line at a value, in the unit of the data, with what it is called."""

    value: float
    label: str = "objective"
    tone: Literal["objective", "warn", "fail"] = "objective"


@dataclass(frozen=True)
class Span:
    """An interval to shade, with its name: an incident, a deployment."""

    start: object
    end: object
    label: str = "incident"


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
    the drift (``+12.3 %``). An end of the interval that nobody knows is None.
    """

    label: str
    drift: float | None
    low: float | None
    high: float | None
    warning: float
    critical: float
    verdict: str
    text: str


@dataclass(frozen=True)
class Strip:
    """One row: its label, a text at its right, and its states as (start, end, state).

    Later states lie over earlier ones; an end of None means that it still went on.
    """

    label: str
    text: str
    states: Sequence[tuple[object, object | None, str]]


def palette(names: Sequence[str]) -> dict[str, Style]:
    """Give each name its colour and dash, by its place; pass all regions, in one order, always."""
    return {
        name: Style(OKABE_ITO[i % len(OKABE_ITO)], DASHES[i // len(OKABE_ITO) % len(DASHES)])
        for i, name in enumerate(names)
    }


# --- frame of every chart ---


def _chart(height: float, title: str) -> Chart:
    chart = Chart(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    text = textwrap.fill(printable(title), 92, max_lines=2, placeholder="…")
    chart.suptitle(text, x=0.006, ha="left", weight="bold", size=TEXT + 1.5)
    return chart


def _key(chart: Chart, handles: Sequence[Any]) -> None:
    """Explain below the plot what its shadings and signs mean."""
    if handles:
        chart.legend(handles=list(handles), loc="outside lower right", ncols=len(handles),
                     handlelength=1.6, columnspacing=1.2)  # fmt: skip


def _short(name: object, most: int = 26) -> str:
    """Make a name fit, keeping both of its ends: they tell names apart."""
    text = printable(name)
    if len(text) <= most:
        return text
    head = (most - 1) * 2 // 3
    return f"{text[:head]}…{text[-(most - 1 - head) :]}"


def nothing(title: str, name: str, what: str, caption: str = "") -> Chart:
    """Say that there is no data, as a chart of its own: a blank would read as calm."""
    with _style():
        chart = _chart(1.1, title)
        axes = chart.add_subplot(xticks=[], yticks=[])
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.patch.set(**EMPTY)
        axes.text(
            0.5, 0.5, NO_DATA, ha="center", va="center", weight="bold", size=TEXT + 2,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 4},
        )  # fmt: skip
    return chart.describe(name, f"{clean(title)}: no data for {what}.", caption)


def _listed(names: Sequence[object], most: int = 12) -> str:
    texts = [clean(n) for n in names[:most]]
    if len(names) > most:
        texts.append(f"{len(names) - most} more")
    return ", ".join(texts[:-1]) + (" and " if len(texts) > 1 else "") + "".join(texts[-1:])


def _rows(axes: Axes, labels: Sequence[str], texts: Sequence[str], colors: Sequence[str]) -> None:
    """Make an axis of rows, each with its label at the left and a text at the right."""
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_yticks(range(len(labels)), [_short(label, 50) for label in labels], color=INK)
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    if any(texts):
        right = axes.secondary_yaxis("right")
        right.set_yticks(range(len(labels)), [printable(text) for text in texts])
        right.spines["right"].set_visible(False)
        for label, color in zip(right.get_yticklabels(), colors, strict=True):
            label.set(color=color, weight="bold")


# --- time ---


def _at(time: object) -> np.datetime64:
    """Read a point in time as matplotlib takes it, in UTC."""
    moment = instant(time)
    if moment is None:
        raise ValueError("a point in time is missing")
    return np.datetime64(moment.replace(tzinfo=None), "s")


def _frame(times: ArrayLike, series: Series, step: float | None) -> Frame:
    """Lay series on the whole grid of their times: what is absent or infinite is missing.

    Raises
    ------
    ValueError
        If a series has another length than the times.
    """
    zoned: Any = times
    plain = zoned.tz_convert(None) if getattr(zoned, "tz", None) else times
    index = pd.DatetimeIndex(np.asarray(plain).astype("datetime64[s]"))
    arrays = {str(name): np.asarray(values, dtype=np.float64) for name, values in series.items()}
    for name, array in arrays.items():
        if array.shape != index.shape:
            raise ValueError(f"{name!r} has {array.size} values for {index.size} times")
    frame = pd.DataFrame(arrays, index=index, dtype=float)
    seconds = step or float(np.median(np.diff(index.astype(int)))) if len(index) > 1 else step or 60
    if len(index):
        grid = pd.date_range(index[0], index[-1], freq=pd.Timedelta(seconds=seconds), unit="s")
        frame = frame.reindex(grid)
    return frame.where(np.isfinite(frame))


def _step(frame: Frame) -> np.timedelta64:
    """Length of a step."""
    return np.timedelta64(round(frame.index.freq.nanos / 1e9), "s")


def _ends(frame: Frame) -> tuple[np.datetime64, np.datetime64]:
    """Start of the first step, and end of the last."""
    ends = frame.index.to_numpy()
    return ends[0] - _step(frame), ends[-1]


def _time_axis(axes: Axes, start: object, end: object, most: int = 9) -> None:
    """Tick at round UTC times."""
    first, last = _at(start), _at(end)
    axes.set_xlim(first, max(last, first + np.timedelta64(1, "s")))  # type: ignore[arg-type]
    locator = _Locator(tz=UTC, minticks=3, maxticks=most)
    # Else it warns of a few hours, or days, of which a narrow panel has no room for its steps.
    locator.intervald[MINUTELY] = [*locator.intervald[MINUTELY], 60]
    locator.intervald[HOURLY] = [*locator.intervald[HOURLY], 24]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(_Formatter(locator, tz=UTC, show_offset=False))


def _shade(
    axes: Axes, spans: Sequence[Span], start: np.datetime64, end: np.datetime64, *, named: bool
) -> list[str]:
    """Shade the spans, name the first above the plot, and return the texts of all."""
    texts: list[str] = []
    for span in sorted(spans, key=lambda s: _at(s.start)):
        low, high = max(_at(span.start), start), min(_at(span.end), end)
        if high < start or low > end:
            continue
        axes.axvspan(low, max(high, low + (end - start) // 500), color=SHADE, alpha=0.13, lw=0)  # type: ignore[arg-type]
        if named and not texts and span.label:
            late = (low - start) / (end - start) > 0.5
            axes.annotate(
                _short(span.label, 44), (high if late else low, 1), (0, 2),
                xycoords=("data", "axes fraction"), textcoords="offset points",
                ha="right" if late else "left", va="bottom", color="#a34700", size=TEXT - 0.5,
            )  # fmt: skip
        texts.append(f"{clean(span.label)} {window(low, high)}")
    return texts


# --- lines ---


def lines(
    times: ArrayLike,
    series: Series | Mapping[str, Series],
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
    signed: bool = False,
    log: bool = False,
    fill: bool = False,
    worse: Worse = "either",
    height: float = 2.2,
) -> Chart:
    """Draw lines over time, in one plot or in panels side by side.

    Parameters
    ----------
    times : array of datetime64[s], or the index of a DataFrame
        Ends of the steps, in UTC and ascending.
    series : mapping of str to array, a DataFrame, or a mapping of such
        Values in SI units by name, NaN where there is no data; a DataFrame has a column a line. A
        mapping of those has a panel each, all on one scale: for what would lie on each other.
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
    floor : float, optional
        A value that the axis must reach.
    signed : bool
        Values are differences: write signs, and draw the line of no difference.
    log, fill : bool
        Draw on a logarithmic axis; fill the ground below the lines.
    worse : {"up", "down", "either"}
        Of more than seven lines only those that go farthest this way from the middle of all keep
        their colour and name; the others are grey, and counted. Of more than nine panels the
        farthest are drawn.
    """
    nested = any(isinstance(each, (Mapping, pd.DataFrame)) for _, each in series.items())
    groups: Any = series if nested else {"": series}
    frames = {str(key): _frame(times, group, step) for key, group in groups.items()}
    name, known = name or title, [f for f in frames.values() if f.notna().any(axis=None)]
    if not known:
        names = list(frames) if nested else [column for f in frames.values() for column in f]
        return nothing(title, name, _listed(names) or "any series", caption)
    if len(frames) > MOST_PANELS:
        kept = _farthest({k: f.mean(axis=1) for k, f in frames.items()}, worse)[:MOST_PANELS]
        title = f"{title} ({len(kept)} of {len(frames)}, the worst)"
        frames = {key: frame for key, frame in frames.items() if key in kept}
    wide = min(len(frames), 3)
    high = math.ceil(len(frames) / wide)
    start, end = _ends(known[0])
    told, shaded = [f"Line chart: {clean(title)}, {window(start, end)}."], []
    near = limits[0].value if limits else None
    say = partial(quantity, unit=unit, limit=near, signed=signed)
    with _style():
        chart = _chart(0.75 + 1.25 * high if nested else height, title)
        plots = list(chart.subplots(high, wide, sharex=True, sharey=True, squeeze=False).flat)
        divisor, label = scale(max(float(f.abs().max(axis=None)) for f in known), unit)
        chart.plotted = [(axes, f, unit) for axes, f in zip(plots, frames.values(), strict=False)]
        for place, (key, (axes, frame, _)) in enumerate(zip(frames, chart.plotted, strict=True)):
            looks = palette(list(frame)) | dict(colors or {})
            grey = _farthest(dict(frame.items()), worse)[MOST_NAMED:] if frame.shape[1] > 7 else []
            looks |= dict.fromkeys(grey, MUTED)
            for line in sorted(frame, key=lambda each: each not in grey):
                _line(axes, frame[line] / divisor, looks[line], fill)
            axes.set_title(_short(key), weight="bold")
            if signed:
                axes.axhline(0, color=FAINT, linewidth=0.8, zorder=1.5)
            for limit in limits:
                axes.axhline(limit.value / divisor, color=TONES[limit.tone], linestyle=DASHED,
                             linewidth=0.9)  # fmt: skip
            if not nested or (place % wide == wide - 1 and list(frame) != [key]):
                _name_lines(axes, frame.drop(columns=grey), looks, len(grey))
            shaded = _shade(axes, spans, start, end, named=not nested)
            _time_axis(axes, start, end, 9 if wide == 1 else 4)
            told += [_said(frame[line], key, say) for line in frame if line not in grey]
            if grey:
                ends = [say(float(f(frame[grey].to_numpy()))) for f in (np.nanmin, np.nanmax)]
                told.append(f"{len(grey)} others, in grey: lowest {ends[0]}, highest {ends[1]}.")
        least = min(float(f.min(axis=None)) for f in known)
        bottom = floor / divisor if floor is not None and least >= floor else None
        _value_axis(plots[0], bottom, signed=signed, log=log)
        plots[0].set_ylabel({"ratio": "%", "pp": "percentage points"}.get(unit, label))
        for axes in plots[len(frames) :]:
            axes.set_axis_off()
        chart.supxlabel(f"time (UTC) from {when(start).removesuffix(' UTC')}", size=TEXT,
                        color=FAINT, x=0.006, ha="left")  # fmt: skip
        named = [(x, f"{clean(x.label)} {say(x.value, limit=x.value, signed=False)}")
                 for x in limits]  # fmt: skip
        signs: list[Any] = [Line2D([], [], color=TONES[x.tone], linestyle=DASHED, linewidth=0.9,
                      label=printable(text)) for x, text in named]  # fmt: skip
        signs += [Patch(facecolor=SHADE, alpha=0.2, label="incident")] if shaded else []
        gaps = any(f.isna().any(axis=None) for f in frames.values())
        _key(chart, [*signs, *([Patch(label="no data", **EMPTY)] if gaps else [])])
    told += [f"{text}." for _, text in named]
    told += [f"Shaded: {_listed(shaded, 6)}."] if shaded else []
    return chart.describe(name, " ".join(told), caption)


def _line(axes: Axes, values: pd.Series[Any], look: Style, fill: bool) -> None:
    """Draw one series: the pen lifts at a gap, which is hatched; a lone sample is a dot."""
    ends, array, step = values.index.to_numpy(), values.to_numpy(), _step(values)
    middles = ends - step / 2
    axes.plot(middles, array, color=look.color, linestyle=look.dash, solid_capstyle="round")
    alone = [a for a, b in runs(~np.isnan(array)) if b == a + 1]
    if alone:
        axes.plot(middles[alone], array[alone], "o", color=look.color, markersize=2.6)
    if fill:
        axes.fill_between(middles, 0, array, color=look.color, alpha=0.3, linewidth=0)
    for first, last in runs(np.isnan(array)):
        colors = {"facecolor": "none", "edgecolor": look.color, "alpha": 0.35}
        axes.axvspan(ends[first] - step, ends[last - 1], zorder=0.5, **EMPTY | colors)


def _said(values: pd.Series[Any], panel: str, say: Callable[[float], str]) -> str:
    """Say what one line shows."""
    name, array = clean(values.name), values.to_numpy()
    name = f"{clean(panel)}, {name}" if panel and panel != name else name
    if np.isnan(array).all():
        return f"{name}: no data."
    ends, step = values.index.to_numpy(), _step(values)
    low, high = int(np.nanargmin(array)), int(np.nanargmax(array))
    text = f"{name}: lowest {say(float(array[low]))} at {when(ends[low])}, "
    text += f"highest {say(float(array[high]))} at {when(ends[high])}."
    if np.isnan(array).any():
        lost = duration(float(np.isnan(array).sum() * step / np.timedelta64(1, "s")))
        first = when(ends[np.isnan(array).argmax()] - step)
        text += f" {name} has no data for {lost}, first from {first}."
    return text


def _name_lines(axes: Axes, frame: Frame, colors: Mapping[str, Style], others: int) -> None:
    """Name the lines at the right of the plot, in the order in which they end."""
    last = frame.ffill().iloc[-1].fillna(-math.inf).sort_values(ascending=False, kind="stable")
    names = {n: _short(n, 22) + (" (no data)" if last[n] == -math.inf else "") for n in last.index}
    handles = [
        Line2D([], [], color=colors[n].color, linestyle=colors[n].dash, label=f"\u200a{text}")
        for n, text in names.items()
    ]
    if others:
        handles.append(Line2D([], [], color=MUTED.color, label=f"\u200a{others} others"))
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1, 0.5), handlelength=1.8,
                labelcolor=INK, labelspacing=0.6)  # fmt: skip


def _farthest(series: Mapping[str, pd.Series[Any]], worse: Worse) -> list[str]:
    """Return the names of series, those that go farthest from the middle of all first.

    What has no data at all comes before all: nobody must take it for one of the calm ones.
    """
    frame = pd.DataFrame(series)
    away = frame.sub(frame.median(axis=1), axis=0) * {"down": -1}.get(worse, 1)
    away = away.abs() if worse == "either" else away
    return list(away.max().fillna(math.inf).sort_values(ascending=False, kind="stable").index)


def _value_axis(axes: Axes, bottom: float | None, *, signed: bool, log: bool) -> None:
    """Tick at round figures, and begin at the bottom where one is given."""
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
        return
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(_signed if signed else lambda x, _: f"{x:.6g}"))
    if bottom is not None:
        axes.set_ylim(bottom=bottom)


def _signed(value: float, place: int | None) -> str:
    return f"{value:+.6g}".replace("-", "\u2212") if abs(value) > 1e-12 else "0"


# --- drift ---


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
    critical limit, logarithmic beyond 1: right of 1 is critical. The drift in its own unit stands
    beside each row.
    """
    shown = [m for m in findings if m.drift is not None and math.isfinite(m.drift) and m.critical]
    missing = sum(m.drift is None or not math.isfinite(m.drift) for m in findings)
    shown = shown[:most]
    if not shown:
        what = f"{len(findings)} findings" if findings else "any rule"
        return nothing(title, name, what, caption)
    shapes = {"fail": "D", "warn": "^", "pass": "o"}
    with _style():
        chart = _chart(0.95 + 0.19 * len(shown), title)
        axes = chart.add_subplot(xscale="symlog")
        axes.set_xscale("symlog", linthresh=1.0, linscale=2.0)
        colors = [TONES.get(m.verdict, FAINT) for m in shown]
        for row, (mark, color) in enumerate(zip(shown, colors, strict=True)):
            ends = [_multiple(mark, x) for x in (mark.low, mark.high)]
            axes.plot(ends, [row, row], color=color, linewidth=1.6, solid_capstyle="butt")
            axes.plot([_multiple(mark, mark.drift)], [row], shapes.get(mark.verdict, "s"),
                      color=color, markersize=5)  # fmt: skip
            axes.plot([mark.warning / mark.critical] * 2, [row - 0.3, row + 0.3],
                      color=TONES["warn"], linewidth=1.4)  # fmt: skip
        right = max(1.2, axes.get_xlim()[1])
        axes.set_xlim(min(axes.get_xlim()[0], 0), right)
        axes.axvspan(1, right, color=TONES["fail"], alpha=0.07, lw=0)
        axes.axvline(0, color=FAINT, linewidth=0.8)
        axes.axvline(1, color=TONES["fail"], linewidth=0.9, linestyle=DASHED)
        ticks = [t for t in (-10, -1, 0, 0.5, 1, 2, 5, 10, 20, 50, 100, 1000)
                 if axes.get_xlim()[0] <= t <= right]  # fmt: skip
        axes.set_xticks(ticks, [f"{t:g}" for t in ticks], minor=False)
        axes.set_xticks([], minor=True)
        _rows(axes, [m.label for m in shown], [m.text for m in shown], colors)
        axes.set_xlabel("drift as a multiple of the rule's critical limit (1 = critical)")
        key = [
            Line2D([], [], color=TONES["warn"], marker="|", linestyle="", markersize=7,
                   markeredgewidth=1.4, label="warning limit"),
            Line2D([], [], color=TONES["fail"], linestyle=DASHED, label="critical limit"),
        ]  # fmt: skip
        key += [
            Line2D([], [], color=TONES[v], marker=shape, linestyle="", markersize=5, label=v)
            for v, shape in shapes.items()
            if v in {mark.verdict for mark in shown}
        ]
        _key(chart, key)
    said = [f"Chart of {len(shown)} of {len(findings)} drift findings with their intervals."]
    said += [f"{missing} have no data."] if missing else []
    said += [f"{clean(m.label)}: {clean(m.text)}, {clean(m.verdict)}." for m in shown]
    return chart.describe(name, " ".join(said), caption)


def _multiple(mark: Mark, value: float | None) -> float:
    """Return a value in critical limits; an end of an interval that nobody knows is the drift."""
    known = value is not None and not math.isnan(value)
    return float((value if known else mark.drift) or 0.0) / mark.critical


# --- what state something was in, when ---

_BAR: dict[str, Any] = {"edgecolor": "white", "linewidth": 0}
STATES: dict[str, dict[str, Any]] = {
    "critical": {"facecolor": "#b3261e"},
    "incident": {"facecolor": "#D55E00", "hatch": "////"},
    "warning": {"facecolor": "#E69F00"},
    "info": {"facecolor": "#56B4E9"},
    "drift": {"facecolor": "#7b4ea3", "hatch": "\\\\\\\\"},
    "deploy": {"facecolor": "#4b5563"},
    "complete": {"facecolor": "#56B4E9"},
    "partial": {"facecolor": "#E69F00"},
    "up": {"facecolor": TONES["pass"]},
    "down": {"facecolor": TONES["fail"]},
    "no data": EMPTY,
    "not observed": EMPTY,
}
"""How states look; of events the gravest first."""


def strips(
    rows: Sequence[Strip],
    *,
    start: object,
    end: object,
    title: str,
    alt: str,
    name: str,
    caption: str = "",
    key: Sequence[str] = (),
) -> Chart:
    """Draw a strip a row, with its states on the window's clock; none is too short to be seen.

    `key` names the states to explain: those that are drawn, unless given.
    """
    first, last = _at(start), _at(end)
    least = (last - first) / 200
    with _style():
        chart = _chart(0.92 + 0.19 * max(len(rows), 1), title)
        axes = chart.add_subplot()
        _rows(axes, [row.label for row in rows] or [""], [row.text for row in rows],
              [INK] * len(rows))  # fmt: skip
        _time_axis(axes, start, end)
        axes.grid(axis="x", visible=True)
        axes.set_xlabel(f"time (UTC) from {when(first).removesuffix(' UTC')}")
        for place, row in enumerate(rows):
            for begun, ended, state in row.states:
                low = max(_at(begun), first)
                high = last if ended is None else min(_at(ended), last)
                if high < first or low > last:
                    continue
                wide = max(high - low, least)
                look = _BAR | STATES[state]
                axes.broken_barh([(min(low, last - wide), wide)], (place - 0.33, 0.66), **look)  # type: ignore[list-item]
                if ended is None:
                    axes.plot([last], [place], ">", color=look["facecolor"], markersize=5,
                              clip_on=False)  # fmt: skip
        used = {state for row in rows for *_, state in row.states}
        explained = key or [state for state in STATES if state in used]
        _key(chart, [Patch(label=s, **_BAR | STATES[s])
                     for s in explained])  # fmt: skip
        if not rows:
            axes.text(0.5, 0.5, "nothing fired in the window", transform=axes.transAxes,
                      ha="center", va="center", color=FAINT)  # fmt: skip
    return chart.describe(name, alt, caption)


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
    order = list(STATES)
    rows: dict[tuple[str, str], list[Event]] = {}
    events = sorted(events, key=lambda e: (order.index(e.severity), _at(e.start)))
    for event in events:
        rows.setdefault((event.severity, event.label), []).append(event)
    shown = [
        Strip(label, "", [(e.start, e.end, e.severity) for e in some])
        for (_, label), some in list(rows.items())[:most]
    ]
    if len(shown) < len(rows):
        title = f"{title} ({len(shown)} of {len(rows)} kinds, the gravest)"
    counts = {s: sum(e.severity == s for e in events) for s in order}
    said = [f"Time line: {clean(title)}, {window(start, end)}."]
    said.append("; ".join(f"{s}: {n}" for s, n in counts.items() if n) + "."
                if events else "Nothing fired.")  # fmt: skip
    for event in events[:8]:
        ended = "still on at the end" if event.end is None else f"until {when(event.end)}"
        said.append(f"{clean(event.label)} from {when(event.start)} {ended}.")
    return strips(shown, start=start, end=end, title=title, alt=" ".join(said), name=name,
                  caption=caption)  # fmt: skip


def coverage(
    times: ArrayLike,
    regions: Series,
    *,
    step: float | None = None,
    title: str = "Coverage: samples seen of samples expected",
    caption: str = "",
    name: str = "coverage",
) -> Chart:
    """Draw one strip a region: complete, partial or missing in each step (shares 0..1)."""
    frame = _frame(times, regions, step)
    if not frame.size:
        return nothing(title, name, "any region", caption)
    ends, step_ = frame.index.to_numpy(), _step(frame)
    start, end = _ends(frame)
    rows, said = [], [f"Strip chart: {clean(title)}, {window(start, end)}."]
    for region in frame:
        share = np.nan_to_num(frame[region].to_numpy(), nan=0.0)
        masks = {
            "complete": share >= 1,
            "partial": (share > 0) & (share < 1),
            "no data": share <= 0,
        }
        states = [(ends[a] - step_, ends[b - 1], state)
                  for state, mask in masks.items() for a, b in runs(mask)]  # fmt: skip
        mean = quantity(float(share.mean()), "ratio")
        rows.append(Strip(str(region), mean, states))
        holes = [each for each in states if each[2] == "no data"]
        text = f"; no data from {when(holes[0][0])} to {when(holes[0][1])}" if holes else ""
        more = f" and {len(holes) - 1} more gaps" if len(holes) > 1 else ""
        said.append(f"{clean(region)}: {mean}{text}{more}.")
    return strips(rows, start=start, end=end, title=title, alt=" ".join(said), name=name,
                  caption=caption, key=("complete", "partial", "no data"))  # fmt: skip
