"""A replica beside its primary: how far it is behind, and whether their counts agree.

Nothing here knows a store: the questions are given as functions. No clock but our own is read, so
clocks that differ between machines disturb nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tars_ga_lib.system.checks import NotMeasured, Reading
from tars_ga_lib.system.server import Server

PATIENCE = 2.0
"""Seconds that are waited for a replica to catch up."""

_EVERY = 0.005
_SAMPLES = 5
_SHARPEST = 3
_ATTEMPTS = 3

Mark = TypeVar("Mark")


@dataclass(frozen=True)
class Lag:
    """Seconds that a replica took to reach a position; the true value is between `low` and `high`.

    Where it was not reached, `seconds` and `high` are what was waited for it.
    """

    seconds: float
    low: float
    high: float
    reached: bool

    def reading(self, details: str = "") -> Reading:
        """Return it as what a check measured."""
        doubt = (self.high - self.low) / 2 * 1e3
        text = f"known to within {doubt:.2g} ms" if self.reached else ""
        text = "; ".join(part for part in (details, text) if part)
        return Reading(self.seconds, text, interval=(self.low, self.high))


def catch_up(mark: Callable[[], Mark], reached: Callable[[Mark], bool]) -> Lag:
    """Measure the time until a replica has reached what its primary has just written.

    It is given up after `PATIENCE`.

    Parameters
    ----------
    mark
        Asks the primary how far it has written, or writes on it.
    reached
        Asks the replica whether it is that far.

    An answer is taken to be of the middle of its round trip, so a distant server is not held to be
    a slow one; the ends of the two round trips are the ends of the result.
    """
    asked = time.monotonic()
    position = mark()
    told = time.monotonic()
    low = 0.0
    while True:
        sent = time.monotonic()
        there = reached(position)
        received = time.monotonic()
        if there:
            middle = (sent + received - asked - told) / 2
            return Lag(middle, low, received - asked, reached=True)
        low = sent - told  # when this question left, it was not there
        if received - told > PATIENCE:
            return Lag(low, low, low, reached=False)
        time.sleep(_EVERY)


def worst_lag(measure: Callable[[], Lag]) -> Lag:
    """Measure some times and return the longest of the sharpest.

    A hiccup of our own makes a sample blurred; lag makes it long, and as sharp as any other. A
    replica that does not catch up is not asked again.
    """
    lags = []
    for _ in range(_SAMPLES):
        lags.append(measure())
        if not lags[-1].reached:
            return lags[-1]
        time.sleep(_EVERY)
    sharpest = sorted(lags, key=lambda lag: lag.high - lag.low)[:_SHARPEST]
    return max(sharpest, key=lambda lag: lag.seconds)


def compare(
    at: Server,
    empty: str,
    primary: Callable[[], int],
    replica: Callable[[], int],
    follows: Callable[[], bool] = lambda: True,
    how: str = "",
) -> Reading:
    """Count on a primary and its replica while both may change; return the difference.

    The primary is counted before and after the replica: what it has itself changed meanwhile is no
    difference. A difference is looked at again, and the smallest counts, as one that passes was
    on its way.

    Parameters
    ----------
    at
        The replica.
    empty
        What is said where there is nothing to count anywhere.
    follows
        Waits for the replica; False if it did not catch up. It is not waited for again then.
    how
        How it was counted.

    Raises
    ------
    NotMeasured
        If there is nothing to count anywhere.
    """
    counts: list[tuple[int, int, int, int]] = []  # difference, before, on the replica, after
    caught_up = True
    while len(counts) < _ATTEMPTS and (not counts or counts[-1][0]):
        before = primary()
        caught_up = caught_up and follows()
        there = replica()
        after = primary()
        low, high = sorted((before, after))
        counts.append((max(0, low - there, there - high), before, there, after))
    difference, before, there, after = min(counts, key=lambda one: one[0])
    if not (before or there or after):
        raise NotMeasured("no_rows", empty)
    details = f"{at.primary.region} {before:,}, {at.region} {there:,}" + (f", {how}" if how else "")
    if not caught_up:
        details += "; the replica did not catch up with the primary before it was counted"
    return Reading(difference, details)
