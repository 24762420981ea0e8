"""Sparklines: gaps stay gaps, and what breaks the limit is seen without colour."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from tars_ga_lib import sparks
from tars_ga_lib.sparks import Spark

NAN = math.nan


def drawn(values: list[float], limit: float | None = None, operator: str = "<=") -> dict[str, list]:  # type: ignore[type-arg]
    """Return the elements of each class."""
    svg = sparks.svg(Spark(values, 'a "b" <c>', limit, operator).to_json())
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label") == 'a "b" <c>'
    assert root.get("role") == "img"
    found: dict[str, list] = {}  # type: ignore[type-arg]
    for element in root:
        found.setdefault(str(element.get("class")), []).append(element)
    return found


def test_a_gap_lifts_the_pen_and_is_grey() -> None:
    found = drawn([1, 2, NAN, NAN, 3, 4])
    first, second = (line.get("points").split() for line in found["line"])
    assert (len(first), len(second)) == (2, 2)
    (gap,) = found["gap"]
    assert float(gap.get("x")) == pytest.approx(2 / 6 * sparks.WIDTH, abs=0.01)
    assert float(gap.get("width")) == pytest.approx(2 / 6 * sparks.WIDTH, abs=0.01)
    assert "broken" not in found


def test_without_data_there_is_only_the_gap() -> None:
    found = drawn([NAN, NAN], 1.0)
    assert set(found) == {"gap", "limit"}
    assert float(found["gap"][0].get("width")) == sparks.WIDTH
    assert drawn([]) == {}


@pytest.mark.parametrize(
    ("operator", "broken"),
    [("<=", [3]), ("<", [2, 3]), (">=", [0, 1]), (">", [0, 1, 2]), ("==", [0, 1, 3])],
)
def test_what_breaks_the_limit_is_thicker_and_underlined(operator: str, broken: list[int]) -> None:
    values = [1.0, 2.0, 3.0, 4.0]
    assert [i for i, v in enumerate(values) if sparks.breaks(v, 3.0, operator)] == broken
    found = drawn(values, 3.0, operator)
    lines = [e for e in found["broken"] if e.tag.endswith("polyline")]
    under = [e for e in found["broken"] if e.tag.endswith("path")]
    assert len(lines) == len(under) >= 1
    thick = float(lines[0].get("stroke-width"))
    assert thick > 2 * float(found["line"][0].get("stroke-width"))
    left = min(float(re.findall(r"M(-?[\d.]+)", e.get("d"))[0]) for e in under)
    right = max(float(re.findall(r"H([\d.]+)", e.get("d"))[0]) for e in under)
    assert left == pytest.approx(broken[0] * sparks.WIDTH / 4, abs=0.01)
    assert right == pytest.approx((broken[-1] + 1) * sparks.WIDTH / 4, abs=0.01)


def test_one_bad_step_of_many_is_seen() -> None:
    found = drawn([0.0] * 70 + [9.0] + [0.0] * 70, 1.0)
    (mark,) = [e for e in found["broken"] if e.tag.endswith("path")]
    left, right = (float(x) for x in re.findall(r"M(-?[\d.]+) [\d.]+H([\d.]+)", mark.get("d"))[0])
    assert right - left >= 1.99


def test_up_is_up_and_the_limit_is_where_it_is() -> None:
    found = drawn([0.0, 10.0], 5.0)
    (line,) = found["line"]
    low, high = (float(point.split(",")[1]) for point in line.get("points").split())
    limit = float(re.findall(r"M0 ([\d.]+)", found["limit"][0].get("d"))[0])
    assert low > limit > high
    assert limit == pytest.approx((low + high) / 2, abs=0.01)


def test_thinning_keeps_the_worst_and_the_gaps() -> None:
    values = [1.0] * 1000
    values[500], values[501] = 7.0, -7.0
    values[900:] = [NAN] * 100
    for operator, worst in (("<", 7.0), (">=", -7.0)):
        thin = sparks.thinned(values, operator)
        assert len(thin) <= sparks.MOST
        assert worst in thin
        assert sum(map(math.isnan, thin)) == pytest.approx(100 / 7, abs=1)
    assert sparks.thinned([math.inf, 1.0], "<")[1] == 1.0
    assert math.isnan(sparks.thinned([math.inf, 1.0], "<")[0])
