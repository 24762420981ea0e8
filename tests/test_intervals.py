"""Stretches of steps and of time."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tars_ga_lib.intervals import merged, overlaps, runs


@given(st.lists(st.booleans(), max_size=40))
def test_runs_are_all_that_is_true_and_nothing_else(mask: list[bool]) -> None:
    found = runs(mask)
    rebuilt = np.zeros(len(mask), dtype=bool)
    for first, last in found:
        assert first < last
        rebuilt[first:last] = True
    assert rebuilt.tolist() == mask
    assert all(later[0] > earlier[1] for earlier, later in pairwise(found))


@pytest.mark.parametrize(
    ("start", "end", "inside"),
    [(5, 6, True), (0, 10, False), (0, 11, True), (20, 21, False), (19, None, True),
     (20, None, False), (0, None, True), (12, 12, True)],
)  # fmt: skip
def test_what_touches_a_window(start: float, end: float | None, inside: bool) -> None:
    assert overlaps(start, end, 10 if start != 5 else 5, 20) is inside


def test_what_overlaps_or_touches_is_one() -> None:
    assert merged([(5, 7), (0, 2), (2, 3), (6, 6)]) == [(0, 3), (5, 7)]
    assert merged([]) == []
