"""What the notebooks show: escaping, figures as people read them, and the faces of the objects."""

import math
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pypandoc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tars_ga_lib import display
from tars_ga_lib.display import (
    CHIPS,
    DECISION_MIME,
    TONES,
    Decision,
    clean,
    duration,
    md_code,
    md_escape,
    printable,
    quantity,
    when,
    window,
)

NASTY = [
    '#read("/etc/passwd")',
    "$x$ and $$y$$",
    "*bold* _it_ __init__ a_b ~~s~~",
    "<script>alert(1)</script> &lt; &amp;",
    "[link](http://example.org) ![pic](x.png) <http://a.b>",
    "a|b||c",
    "`code` ``two``",
    "back\\slash \\* end\\",
    "# heading",
    "- item",
    "+ item",
    "1. first",
    "> quote",
    "=====",
    "---",
    "12.5 %",
    "-0.5",
    "www.example.org and https://example.org/x_y_",
    "[^1] [x]: http://a.b",
    "@name #12 :100: (c)",
    "\"quotes\" 'single'",
]


def plain(text: str) -> str:
    """Replace the spaces that do not break, which make expectations hard to read."""
    return text.replace("\u00a0", " ")


# --- numbers ---


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.9995, "ratio", "99.95 %"),
        (0.999996, "ratio", "99.9996 %"),
        (0.99999999999, "ratio", "99.999999999 %"),
        (1.0, "ratio", "100 %"),
        (0.0, "ratio", "0 %"),
        (1.000004, "ratio", "100.0004 %"),
        (0.24987, "s", "249.9 ms"),
        (1.5, "s", "1.5 s"),
        (90.0, "s", "90 s"),
        (5_270_400.0, "s", "61 d"),
        (-7_260.0, "s", "−2 h 1 min"),
        (3e-5, "s", "30 µs"),
        (0.0, "s", "0 ms"),
        (1.5e9, "bytes", "1.397 GiB"),
        (2e6, "bytes/s", "1.907 MiB/s"),
        (512, "B", "512 B"),
        (1_234_567, "count", "1.235 M"),
        (9876, "count", "9876"),
        (12.34567, "usd/hour", "12.35 USD/h"),
        (720.5, "cores", "720.5 cores"),
        (-0.000312, "pp", "−0.0312 pp"),
        (1e-12, "ratio", "1×10⁻¹⁰ %"),
        (math.inf, "s", "∞ ms"),
        (17.0, "widgets", "17 widgets"),
        (None, "s", "NO DATA"),
        (math.nan, "ratio", "NO DATA"),
    ],
)
def test_quantity(value: float | None, unit: str, text: str) -> None:
    assert plain(quantity(value, unit)) == text


def test_quantity_never_rounds_onto_or_across_a_limit() -> None:
    assert plain(quantity(0.00099996, "ratio", limit=0.001)) == "0.099996 %"
    assert plain(quantity(0.001, "ratio", limit=0.001)) == "0.1 %"
    assert plain(quantity(0.4999999, "s", limit=0.5)) == "499.9999 ms"
    assert plain(quantity(0.5000001, "s", limit=0.5)) == "500.0001 ms"
    assert plain(quantity(0.99955, "ratio", limit=0.99955)) == "99.955 %"


def test_quantity_follows_the_unit_of_its_limit() -> None:
    assert plain(quantity(1.2, "s", limit=0.5)) == "1200 ms"
    assert plain(quantity(0.5, "s", limit=0.5)) == "500 ms"


def number_of(text: str) -> float:
    return float(plain(text).split(" ")[0].replace("−", "-").replace(",", ""))


@settings(max_examples=300, deadline=None)
@given(st.floats(0.5, 1.0), st.floats(0.5, 1.0))
def test_quantity_keeps_the_order_of_figure_and_limit(value: float, limit: float) -> None:
    shown = number_of(quantity(value, "ratio", limit=limit))
    allowed = number_of(quantity(limit, "ratio", limit=limit))
    assert (shown < allowed) == (value < limit) or math.isclose(value, limit, rel_tol=1e-15)
    assert shown != 100 or value == 1
    assert math.isclose(shown / 100, value, rel_tol=5e-4)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.35, "350 ms"),
        (59.5, "59.5 s"),
        (60, "1 min"),
        (119.6, "2 min"),
        (754, "12 min 34 s"),
        (3599.7, "1 h"),
        (3660, "1 h 1 min"),
        (86399, "1 d"),
        (183600, "2 d 3 h"),
        (-720, "−12 min"),
        (None, "NO DATA"),
        (math.nan, "NO DATA"),
    ],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert plain(duration(seconds)) == text


@pytest.mark.parametrize(
    "time",
    [
        datetime(2026, 11, 20, 13, 5, tzinfo=UTC),
        datetime(2026, 11, 20, 15, 5, tzinfo=timezone(timedelta(hours=2))),
        "2026-11-20T13:05:00Z",
        np.datetime64("2026-11-20T13:05:00"),
        np.datetime64("2026-11-20T13:05", "ns"),
        1795179900,
        np.int64(1795179900),
    ],
)
def test_when_reads_every_kind_of_time_as_utc(time: object) -> None:
    assert when(time) == "2026-11-20 13:05 UTC"


def test_when_shows_seconds_only_if_there_are_any_and_refuses_to_guess_a_zone() -> None:
    assert when(1795179901) == "2026-11-20 13:05:01 UTC"
    assert when(None) == when(np.datetime64("NaT")) == "NO DATA"
    with pytest.raises(ValueError, match="time zone"):
        when(datetime(2026, 11, 20))
    assert window(1795179900, 1795183500) == "2026-11-20 13:05 – 2026-11-20 14:05 UTC"


# --- strings from data ---


def test_clean_shows_what_hides() -> None:
    assert clean("a\r\nb\tc\x00") == "a↵b c‹U+0000›"
    assert clean("user\u202egnp.exe") == "user‹U+202E›gnp.exe"
    assert clean("a\u200bb") == "a‹U+200B›b"


def test_printable_names_what_the_fonts_cannot_draw() -> None:
    assert printable("naïve שלום مثال ✓ → ⚠\ufe0f") == "naïve שלום مثال ✓ → ⚠"
    assert printable("名 x") == "‹U+540D› x"
    assert printable("e\u0301") == "é"


def markdown_reads_as(texts: list[str]) -> list[str]:
    """Return what a reader sees of Markdown, by one call of pandoc for all paragraphs."""
    mark = "NEXTONE"
    done = subprocess.run(
        [pypandoc.get_pandoc_path(), "--from=gfm-emoji", "--to=plain", "--wrap=none"],
        input=f"\n\n{mark}\n\n".join(texts).encode(),
        capture_output=True,
        check=True,
    )
    return [part.strip("\n") for part in done.stdout.decode().split(f"\n{mark}\n")]


@pytest.mark.parametrize("escape", [md_escape, md_code])
def test_markdown_from_data_reads_as_itself(escape: Any) -> None:
    assert markdown_reads_as([escape(text) for text in NASTY]) == NASTY


MARKS = st.sampled_from("ab1 .#*_`[]()<>|$~&\\-+=!:@\"'/^{}")


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(MARKS, max_size=12), min_size=1, max_size=40))
def test_markdown_from_any_data_reads_as_itself(texts: list[str]) -> None:
    texts = [" ".join(text.split()) for text in texts]  # a paragraph keeps no double spaces
    assert markdown_reads_as([f"x{md_escape(text)}x" for text in texts]) == [
        f"x{text}x" for text in texts
    ]


# --- decisions ---


@pytest.mark.parametrize("decision", display.DECISIONS)
def test_a_decision_shows_word_symbol_reason_and_what_it_is_about(decision: str) -> None:
    banner = Decision(
        decision, "P99 is 512 ms.", "T.A.R.S. v1", "2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z",
        simulated=True,
    )  # fmt: skip
    bundle = banner._repr_mimebundle_()
    assert bundle[DECISION_MIME]["time"] == "2026-11-21T00:00:00+00:00"
    text = plain(bundle["text/markdown"]).replace("\\", "")
    for part in (decision, CHIPS[decision].symbol, "P99 is 512 ms.", "T.A.R.S. v1",
                 "2026-11-20 00:00 – 2026-11-21 00:00 UTC", "Simulated data"):  # fmt: skip
        assert part in text


def test_a_decision_is_one_of_four_and_its_window_has_an_end() -> None:
    assert (
        "Simulated"
        not in Decision("INCONCLUSIVE", "x", "r", 0, 60)._repr_mimebundle_()["text/markdown"]
    )
    with pytest.raises(ValueError, match="unknown decision"):
        Decision("certified", "x", "r", 0, 60)
    with pytest.raises(ValueError, match="has an end"):
        Decision("CERTIFIED", "x", "r", 0, None)


def contrast(one: str, other: str) -> float:
    def light(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_every_chip_can_be_read() -> None:
    for tint, ink, _ in TONES.values():
        assert contrast(tint, ink) > 6
    assert {look.tone for look in CHIPS.values()} <= set(TONES)


def test_the_import_is_light() -> None:
    code = (
        "import sys, tars_ga_lib.display; "
        "print([m for m in ('numpy', 'matplotlib', 'pandas', 'nbconvert', 'IPython', 'jinja2') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
