"""Stretches of steps and of time: where a mask is True, and what lies in a window."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

T = TypeVar("T", int, float)


def runs(mask: ArrayLike) -> list[tuple[int, int]]:
    """Return where a mask is True, as intervals of indices [first, last).

    >>> runs([False, True, True, False, True])
    [(1, 3), (4, 5)]
    """
    edges = np.flatnonzero(np.diff(np.asarray(mask, dtype=np.int8), prepend=0, append=0))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def overlaps(
    start: float, end: float | None, window_start: float, window_end: float
) -> bool:  # fmt: skip
    """Tell whether [start, end) and a window have time in common; an end of None is not yet."""
    return start < window_end and (end is None or end > window_start)


def merged(intervals: Iterable[tuple[T, T]]) -> list[tuple[T, T]]:
    """Join intervals that overlap or touch, in ascending order."""
    found: list[tuple[T, T]] = []
    for start, end in sorted(intervals):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found
