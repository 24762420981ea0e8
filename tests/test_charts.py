"""The charts: what they draw, what they say, and that they are the same everywhere."""

import base64
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from tars_ga_lib import charts
from tars_ga_lib.charts import Chart, Event, Limit, Mark, Span

STEP = 300
DAY = 86400
START = np.datetime64("2026-11-20T00:00:00", "s")
END = "2026-11-21T00:00:00Z"
BEGIN = "2026-11-20T00:00:00Z"
SPANS = [Span("2026-11-20T13:00:00Z", "2026-11-20T13:30:00Z", "INC-1 pool exhausted")]
NAMES = ["us-east-1", "us-west-2", "eu-central-1"]
ODD = [
    "a-region-with-a-name-that-is-longer-than-anybody-would-ever-want-it",
    'région "$x$" <&> \\n 名前 العربية שלום',
    "_leading_underscore",
]


def ends(count: int = 288) -> Any:
    return START + np.arange(1, count + 1) * np.timedelta64(STEP, "s")


def ratios(names: list[str], count: int = 288) -> dict[str, Any]:
    rng = np.random.default_rng(7)
    return {name: 1 - rng.exponential(2e-4, count) for name in names}


def marks(names: list[str]) -> list[Mark]:
    return [
        Mark(f"api_latency_p99 · {n} · insight-engine", 0.23 - i / 9, 0.2 - i / 9, 0.3 - i / 9,
             0.05, 0.1, ("fail", "warn", "pass")[i % 3], f"+{23 - i} %")
        for i, n in enumerate(names)
    ]  # fmt: skip


def events(names: list[str]) -> list[Event]:
    return [
        Event(BEGIN, "2026-11-20T00:01:00Z", f"HighErrorRate {names[0]}", "critical"),
        Event("2026-11-20T22:00:00Z", None, f"Disk {names[-1]}", "warning"),
        Event("2026-11-20T13:00:00Z", "2026-11-20T13:30:00Z", "INC-1", "incident"),
    ]


Maker = Callable[[list[str], int], Chart]

MAKERS: dict[str, Maker] = {
    "lines": lambda names, n: charts.lines(
        ends(n), {k: v * 9e9 for k, v in ratios(names, n).items()}, title="Memory", unit="bytes"
    ),
    "limits": lambda names, n: availability(ends(n), ratios(names, n), limits=[Limit(0.999)]),
    "panels": lambda names, n: charts.lines(
        ends(n), {k: {k: (1 - v) * 300} for k, v in ratios(names, n).items()}, title="Down",
        unit="s", fill=True, spans=SPANS, limits=[Limit(0.5)],
    ),
    "quantiles": lambda names, n: charts.lines(
        ends(n), {k: {"P50": v / 9, "P99": v / 3} for k, v in ratios(names, n).items()},
        title="Latency", unit="s", log=True, limits=[Limit(0.5)],
    ),
    "differences": lambda names, n: charts.lines(
        ends(n), {k: v - 0.9998 for k, v in ratios(names, n).items()}, title=f"Off {names[0]}",
        unit="pp", signed=True, spans=SPANS,
    ),
    "coverage": lambda names, n: charts.coverage(ends(n), ratios(names, n)),
    "heatmap": lambda names, n: charts.heatmap(
        names, ["Availability", "Latency P95 of all the requests", "CPU"],
        np.linspace(-1.2, 1.2, 3 * len(names)), [["+12.3 %"] * 3 for _ in names],
    ),
    "drift": lambda names, n: charts.drift(marks(names)),
    "timeline": lambda names, n: charts.timeline(events(names), start=BEGIN, end=END),
}  # fmt: skip


def availability(times: Any, series: Any, **more: Any) -> Chart:
    facts = {"title": "Availability", "unit": "ratio", "floor": None, "worse": "down"}
    return charts.lines(times, series, **facts | {"spans": SPANS} | more)


def assert_nothing_is_clipped(chart: Chart) -> None:
    with chart._settled():
        box = chart.get_tightbbox()
    width, height = chart.get_size_inches()
    assert box.x0 > -0.01
    assert box.y0 > -0.01
    assert box.x1 < width + 0.01
    assert box.y1 < height + 0.01


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize(
    "names", [NAMES[:1], ODD, [f"region-{i}" for i in range(12)]], ids=lambda n: str(len(n))
)
def test_charts_fit_their_canvas_and_say_what_they_show(maker: str, names: list[str]) -> None:
    figure = MAKERS[maker](names, 288)
    assert_nothing_is_clipped(figure)
    ElementTree.fromstring(figure.svg)
    assert len(figure.alt) > 60
    assert "nan" not in figure.alt.lower().split()
    assert "aria-label" in figure.svg
    assert "<!--" not in figure.svg
    assert "http://" not in figure.svg.replace("http://www.w3.org", "").replace(
        "http://purl.org/dc", "").replace("http://creativecommons.org/ns", "")  # fmt: skip
    assert len(figure.svg) < 300_000


@pytest.mark.parametrize("maker", MAKERS)
def test_charts_draw_a_single_sample(maker: str) -> None:
    figure = MAKERS[maker](NAMES, 1)
    assert_nothing_is_clipped(figure)


@pytest.mark.parametrize("count", [0, 5])
def test_charts_without_data_say_so(count: int) -> None:
    missing = {name: np.full(count, np.nan) for name in NAMES}
    nothing = [
        availability(ends(count), missing),
        charts.lines(ends(count), {"panel": missing}, title="P"),
        charts.heatmap(NAMES, ["a"], [np.nan] * 3, [[""]] * 3),
        charts.drift([Mark("x", None, None, None, 0.05, 0.1, "no_data", "NO DATA")]),
        charts.timeline(None, start=BEGIN, end=END),
        charts.lines(ends(count), {}, title="None"),
    ]
    for figure in nothing:
        assert "no data" in figure.alt
        assert "nan" not in figure.alt.lower().split()
    if count:
        figure = charts.coverage(ends(count), missing)
        assert "0 %; no data from 2026-11-20 00:00 UTC" in figure.alt.replace("\u00a0", " ")


def test_no_alert_is_not_the_same_as_no_data() -> None:
    assert "Nothing fired" in charts.timeline([], start=BEGIN, end=END).alt


# --- gaps ---


def line_through(chart: Chart) -> tuple[Any, Any]:
    line = chart.axes[0].lines[0]
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata(), dtype=float)


def test_a_gap_lifts_the_pen_and_is_hatched() -> None:
    values = np.full(288, 0.999)
    values[100:112] = np.nan
    figure = availability(ends(), {"us-east-1": values}, spans=[])
    _, y = line_through(figure)
    assert np.isnan(y[100:112]).all()
    hatched = [p for p in figure.axes[0].patches if p.get_hatch()]
    first = START.astype(np.int64) + 100 * STEP
    (box,) = [(p.get_x(), p.get_width()) for p in hatched]  # type: ignore[attr-defined]
    assert box == pytest.approx((first / DAY, 12 * STEP / DAY))
    assert any(text.get_text() == "no data" for text in figure.legends[0].get_texts())
    assert "no data for 1\u00a0h, first from 2026-11-20 08:20 UTC" in figure.alt


def test_steps_that_are_absent_are_a_gap_too() -> None:
    keep = np.r_[0:100, 112:288]
    figure = availability(ends()[keep], {"us-east-1": np.full(276, 0.999)})
    _, y = line_through(figure)
    assert np.isnan(y).any()
    assert "no data for 1\u00a0h, first from 2026-11-20 08:20 UTC" in figure.alt


def test_a_gap_of_one_region_is_marked_in_its_colour() -> None:
    values = ratios(NAMES)
    values["us-west-2"][50:60] = np.nan
    figure = availability(ends(), values)
    (strip,) = [p for p in figure.axes[0].patches if p.get_hatch()]
    color = charts.palette(NAMES)["us-west-2"].color
    assert mpl.colors.to_hex(strip.get_edgecolor()) == color.lower()


def test_a_lone_sample_is_a_dot() -> None:
    values = np.full(10, np.nan)
    values[4] = 0.9
    figure = charts.lines(ends(10), {"a": values}, title="t")
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [len(dot.get_xdata()) for dot in dots] == [1]  # type: ignore[arg-type]


def test_infinite_values_are_missing_not_drawn() -> None:
    figure = charts.lines(ends(3), {"P99": [0.1, np.inf, 0.2]}, title="t", unit="s")
    assert "P99 has no data for 5\u00a0min, first from 2026-11-20 00:05 UTC" in figure.alt
    assert "∞" not in figure.alt


# --- what is drawn ---


def test_lines_stand_in_the_middle_of_their_steps() -> None:
    figure = availability(ends(), ratios(["a"]))
    x, _ = line_through(figure)
    assert x[0] == START + np.timedelta64(STEP // 2, "s")
    assert figure.axes[0].get_xlim()[0] * DAY == pytest.approx(START.astype(np.int64))


def test_the_same_region_looks_the_same_in_every_chart() -> None:
    colors = charts.palette(NAMES)
    figure = availability(ends(), ratios(NAMES), colors=colors)
    other = availability(ends(), ratios(NAMES[1:]), colors=colors)
    first = {line.get_color() for line in figure.axes[0].lines[:3]}
    others = [line.get_color() for line in other.axes[0].lines[:2]]
    assert others == [colors[name].color for name in NAMES[1:]]
    assert set(others) < first
    looks = charts.palette([f"r{i}" for i in range(28)])
    assert len(set(map(str, looks.values()))) == 28


def test_the_alternative_text_holds_the_key_figures() -> None:
    values = np.full(288, 0.9995)
    values[156] = 0.965
    alt = availability(ends(), {"us-east-1": values}, limits=[Limit(0.999)]).alt
    alt = alt.replace("\u00a0", " ")
    for part in (
        "lowest 96.5 % at 2026-11-20 13:05 UTC",
        "highest 99.95 %",
        "objective 99.9 %",
        "INC-1 pool exhausted 2026-11-20 13:00 – 2026-11-20 13:30 UTC",
    ):
        assert part in alt


def time_labels(chart: Chart) -> list[str]:
    with chart._settled():
        return [label.get_text() for label in chart.axes[0].get_xticklabels()]


def test_time_is_utc_with_the_day_at_midnight() -> None:
    figure = availability(ends(), ratios(["a"]))
    labels = time_labels(figure)
    assert labels[0] == "Nov-20"
    assert labels[-1] == "Nov-21"
    assert labels[1] == "03:00"
    assert figure._supxlabel.get_text() == "time (UTC) from 2026-11-20 00:00"  # type: ignore[attr-defined]


@pytest.mark.parametrize("seconds", [1, 5, 60, 3600, 86400, 7 * 86400])
def test_any_length_of_window_has_a_readable_time_axis(seconds: int) -> None:
    times = START + np.arange(1, 61) * np.timedelta64(seconds, "s")
    figure = charts.lines(times, {"a": np.arange(60.0)}, title="t")
    labels = time_labels(figure)
    assert 2 <= len(labels) <= 10
    assert all(one != other for one, other in pairwise(labels))
    assert_nothing_is_clipped(figure)


@pytest.mark.parametrize(
    ("values", "unit", "wanted"),
    [
        ([0.0, 0.5], "s", "200"),
        ([0.0, 3.0], "s", "1"),
        ([0.0, 6e9], "bytes", "2"),
        ([0.9990, 0.9999], "ratio", "99.96"),
        ([0.0, 0.0], "ratio", "0.02"),
        ([0.0, 5e6], "count", "2"),
    ],
)
def test_axes_tick_at_round_figures_of_the_unit(
    values: list[float], unit: str, wanted: str
) -> None:
    floor = None if values[0] else 0.0
    figure = charts.lines(ends(2), {"a": values}, title="t", unit=unit, floor=floor)
    with figure._settled():
        labels = [label.get_text() for label in figure.axes[0].yaxis.get_ticklabels()]
    assert wanted in labels
    assert all(len(label) <= 7 for label in labels)


def test_limits_are_drawn_where_they_are() -> None:
    figure = charts.lines(
        ends(3), {"a": [0.1, 0.2, 0.3]}, title="t", unit="s", limits=[Limit(0.25, "goal")]
    )
    assert any(list(line.get_ydata()) == [250, 250] for line in figure.axes[0].lines)  # type: ignore[arg-type]
    texts = [text.get_text().replace("\u00a0", " ") for text in figure.legends[0].get_texts()]
    assert "goal 250 ms" in texts


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="'a' has 2 values for 3 times"):
        availability(ends(3), {"a": [1.0, 1.0]})


def test_panels_share_a_scale_and_name_their_place() -> None:
    figure = MAKERS["panels"](NAMES, 288)
    axes = figure.axes[:3]
    assert [each.get_title("left") for each in axes] == NAMES
    assert len({each.get_ylim() for each in axes}) == 1
    many = [f"region-{i}" for i in range(12)]
    assert "9 of 12, the worst" in MAKERS["panels"](many, 288).alt


def test_the_values_of_a_chart_are_the_extremes_of_each_hour() -> None:
    values = np.full(288, 0.9995)
    values[156] = 0.965
    values[36:48] = np.nan
    (panel,) = availability(ends(), {"a": values}).notebook_facts()["values"]
    rows = {row[0][11:16]: row[3].replace("\u00a0", " ") for row in panel["rows"]}
    assert len(rows) == 24
    assert rows["13:00"] == "96.5 % to 99.95 %"
    assert rows["03:00"] == "NO DATA"
    assert rows["12:00"] == "99.95 %"
    assert panel["rows"][0][1:3] == [0, pytest.approx(1 / 24, abs=1e-3)]


# --- drift, heat map, time line ---


def test_drift_stands_against_the_limits_of_its_own_rule() -> None:
    found = [
        Mark("error_rate", 0.001, 0.0008, 0.0012, 0.0002, 0.0005, "fail", "+0.1 pp"),
        Mark("cpu", 0.05, None, np.nan, 0.05, 0.1, "warn", "+5 %"),
        Mark("replicas", 1.0, None, None, 0.0, 0.0, "fail", "3, was 4"),
        Mark("cost", np.nan, None, None, 0.05, 0.1, "no_data", "NO DATA"),
    ]
    figure = charts.drift(found)
    axes = figure.axes[0]
    dots = [line.get_xdata()[0] for line in axes.lines if str(line.get_marker()) in "D^o>"]  # type: ignore[index]
    assert dots[:2] == [2.0, 0.5]
    assert len(dots) == 2  # what must not differ at all is not drawn as a multiple
    assert "1 have no data" in figure.alt
    assert_nothing_is_clipped(figure)


def test_heatmap_shades_by_how_much_worse() -> None:
    figure = charts.heatmap(["a", "b"], ["k"], [1.0, -1.0], [["+9 %"], ["-9 %"]])
    (mesh,) = figure.axes[0].collections
    mesh.update_scalarmappable()
    worse, better = (color[:3] for color in np.asarray(mesh.get_facecolor()))
    assert worse[0] > worse[2]
    assert better[2] > better[0]
    assert "a, k: +9 %" in figure.alt


def test_timeline_orders_by_gravity_and_counts_what_it_leaves_out() -> None:
    many = [Event(BEGIN, END, f"info {i}", "info") for i in range(30)]
    figure = charts.timeline([*many, *events(NAMES)], start=BEGIN, end=END)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    # an incident is never pushed out by the many alerts that it makes fire
    assert labels[:3] == ["HighErrorRate us-east-1", "INC-1", "Disk eu-central-1"]
    assert len(labels) == 16
    assert "16 of 33 kinds" in figure.alt
    boxes = [path.get_extents() for bar in figure.axes[0].collections for path in bar.get_paths()]
    assert min(box.width for box in boxes) * DAY > 2 * 60  # a minute is still seen


# --- figures of matplotlib ---


def test_a_chart_is_a_figure_that_can_be_changed() -> None:
    chart = availability(ends(), ratios(NAMES))
    assert isinstance(chart, Figure)
    before = chart.svg
    chart.suptitle("Another title")
    chart.axes[0].set_xlim(*[START.astype(np.int64) / DAY + part for part in (0.5, 0.6)])
    assert chart.svg != before
    assert chart.axes[0].get_xlim()[1] < START.astype(np.int64) / DAY + 1


def test_a_notebook_keeps_each_chart_as_png_and_svg_with_its_text() -> None:
    chart = availability(ends(), ratios(NAMES), caption="c")
    data, metadata = chart._repr_mimebundle_()
    assert set(data) == {"image/png", "image/svg+xml", "text/plain"}
    png = base64.b64decode(data["image/png"])
    assert png.startswith(b"\x89PNG")
    assert b"Software" not in png
    assert b"tEXtDate" not in png
    assert data["text/plain"] == chart.alt == metadata["image/png"]["alt"]
    facts = dict(metadata["image/svg+xml"])
    assert len(facts.pop("values")) == 1
    assert facts == {"alt": chart.alt, "caption": "c", "name": "availability"}


def test_a_chart_needs_a_text_and_a_safe_name() -> None:
    chart = availability(ends(), ratios(NAMES))
    with pytest.raises(ValueError, match="alternative text"):
        chart.describe("x", " ")
    assert chart.describe("../../etc/passwd", "a").name == "etc-passwd"


def test_a_data_frame_is_drawn_as_its_columns() -> None:
    frame = pd.DataFrame(ratios(NAMES), index=pd.DatetimeIndex(ends(), tz="UTC"))
    drawn = charts.lines(frame.index, frame, title="t", unit="ratio", floor=None)
    same = charts.lines(ends(), ratios(NAMES), title="t", unit="ratio", floor=None)
    assert drawn.svg == same.svg


# --- the same everywhere ---

SCRIPT = """
import hashlib, sys
sys.path.insert(0, {tests!r})
from test_charts import MAKERS, NAMES
for make in MAKERS.values():
    chart = make(NAMES, 288)
    print(hashlib.sha256(chart.svg.encode() + chart.png).hexdigest())
"""


def test_the_same_bytes_under_any_zone_locale_folder_and_settings(tmp_path: Path) -> None:
    import hashlib

    def digests() -> list[str]:
        made = [make(NAMES, 288) for make in MAKERS.values()]
        return [hashlib.sha256(chart.svg.encode() + chart.png).hexdigest() for chart in made]

    here = digests()
    with mpl.rc_context({"axes.facecolor": "red", "xtick.direction": "in"}):
        again = digests()
    assert here == again
    (tmp_path / "matplotlibrc").write_text("axes.facecolor: red\nfont.size: 20\n")
    env = os.environ | {
        "TZ": "Asia/Tokyo", "LC_ALL": "tr_TR.UTF-8", "PYTHONHASHSEED": "4",
        "MPLCONFIGDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[1]),
    }  # fmt: skip
    there = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(tests=str(Path(__file__).parent))],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert there.stdout.split() == here


def test_charts_leave_global_settings_and_pyplot_alone() -> None:
    before = dict(mpl.rcParams)
    availability(ends(), ratios(NAMES))
    assert dict(mpl.rcParams) == before
    code = "import sys, tars_ga_lib.charts; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# --- many lines ---


def many(count: int, size: int = 48) -> dict[str, Any]:
    noise = np.random.default_rng(3).normal(0, 1e-5, (count, size))
    return {f"region-{i:02d}": 0.9995 + noise[i] for i in range(count)}


def names_in(chart: Chart) -> list[str]:
    legend = chart.axes[0].get_legend()
    assert legend is not None
    return [text.get_text().strip() for text in legend.get_texts()]


def test_of_many_lines_the_worst_are_named_and_the_rest_counted() -> None:
    series = many(12)
    series["region-07"][20:24] = 0.5
    series["region-03"][:] = np.nan
    looks = charts.palette(list(series))
    times = np.datetime64("2026-11-20T00:05", "s") + np.arange(48) * np.timedelta64(300, "s")
    figure = availability(times, series, colors=looks, limits=[Limit(0.999)])
    shown = names_in(figure)
    assert "6 others" in shown
    assert "region-07" in shown
    assert "region-03 (no data)" in shown  # what is not known is not among the calm ones
    assert sum(text.startswith("region-") for text in shown) == 6
    lines: list[Any] = list(figure.axes[0].get_lines())
    drawn_for = {
        line.get_color() for line in lines if len(line.get_xdata()) == 48 and 50 in line.get_ydata()
    }
    assert drawn_for == {looks["region-07"].color}
    greys = [x for x in lines if x.get_color() == charts.MUTED.color and len(x.get_xdata()) == 48]
    assert len(greys) == 6
    assert "region-03: no data." in figure.alt
    assert "6 others, in grey: lowest 99.9" in figure.alt


def test_the_adverse_side_decides_who_is_named() -> None:
    times = np.datetime64("2026-11-20T00:05", "s") + np.arange(48) * np.timedelta64(300, "s")
    series = many(13)
    for i in range(6):
        series[f"region-{i:02d}"][5] += 0.1
        series[f"region-{i + 6:02d}"][5] -= 0.05
    for worse, first in (("up", 0), ("down", 6), ("either", 0)):
        figure = charts.lines(times, series, title="T", unit="ratio", floor=None, worse=worse)  # type: ignore[arg-type]
        named = {text for text in names_in(figure) if text.startswith("region-")}
        assert named == {f"region-{i:02d}" for i in range(first, first + 6)}


def test_seven_lines_all_keep_their_names() -> None:
    times = np.datetime64("2026-11-20T00:05", "s") + np.arange(48) * np.timedelta64(300, "s")
    figure = availability(times, many(7))
    assert sum(text.startswith("region-") for text in names_in(figure)) == 7
    assert not any("others" in text for text in names_in(figure))
