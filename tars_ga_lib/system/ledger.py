"""Where the time of a watched endpoint goes, and the figures that are kept of it in little memory.

A `Clock` that notices when nobody looked, a `Ledger` that books each moment on one state, and a
`Tally` of durations whose percentile is exact without keeping them all.
"""

from __future__ import annotations

import bisect
import heapq
import math
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Literal

State = Literal["opening", "up", "down", "forced"]
"""Opening: the monitor's own first session, or the one after it slept; forced: its reconnects."""


def _boottime() -> float:
    """Seconds of a clock that only goes forward, and on Linux also while the machine sleeps."""
    source = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if source is None else time.clock_gettime(source)


class Clock:
    """A monotonic clock that is read at least every `beat` seconds, and knows when it was not.

    A reading that comes more than `late` seconds after its time leaves a gap: the machine was
    suspended, the process stopped, or the event loop stalled. What happened in a gap was seen by
    nobody.
    """

    def __init__(self, *, late: float, source: Callable[[], float] = _boottime) -> None:
        self.beat = 0.25
        self.gaps: list[tuple[float, float]] = []
        self._late = late
        self._source = source
        self._seen = source()
        self._epoch = time.time() - self._seen

    def now(self) -> float:
        """Read the clock, in seconds."""
        now = self._source()
        if now - self._seen > self.beat + self._late:
            self.gaps.append((self._seen, now))
        self._seen = now
        return now

    def peek(self) -> float:
        """Read the clock from another thread, which proves nothing of this one."""
        return self._source()

    def lost(self, start: float, end: float) -> float:
        """Return the seconds of [start, end] that lie in gaps."""
        first = bisect.bisect_left(self.gaps, (start, -math.inf))
        if first and self.gaps[first - 1][1] > start:
            first -= 1
        total = 0.0
        for begin, finish in self.gaps[first:]:
            if begin >= end:
                break
            total += min(finish, end) - max(begin, start)
        return total

    def iso(self, moment: float) -> str:
        """Write a reading as an ISO time in UTC with milliseconds, by the clock at the start."""
        when = datetime.fromtimestamp(self._epoch + moment, UTC)
        return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Ledger:
    """The seconds that an endpoint spent in each state, without those that nobody observed."""

    def __init__(self, clock: Clock) -> None:
        self.state: State = "opening"
        self.since = clock.now()
        self.start = self.since
        self.seconds: dict[State, float] = {"opening": 0.0, "up": 0.0, "down": 0.0, "forced": 0.0}
        self._clock = clock

    def switch(self, state: State, at: float) -> None:
        """Book the time up to `at` on the state so far; it may lie back in that state's time."""
        at = max(at, self.since)
        self.seconds[self.state] += at - self.since - self._clock.lost(self.since, at)
        self.state, self.since = state, at

    def total(self, state: State, now: float) -> float:
        """Return the seconds of a state up to now."""
        running = self.state == state and now > self.since
        more = now - self.since - self._clock.lost(self.since, now) if running else 0.0
        return self.seconds[state] + more


class Tally:
    """Count, sum, maximum and P99 of durations in seconds.

    Only the largest `most` values are kept, which makes the P99 (nearest rank: the smallest value
    that at least 99 % do not exceed) exact for fewer than `100 * most` values. Beyond that it is
    the smallest value kept, which is too large rather than too small.
    """

    def __init__(self, most: int = 32) -> None:
        self.count = 0
        self.sum = 0.0
        self.most = most
        self._largest: list[float] = []

    def add(self, value: float) -> None:
        """Add one value."""
        self.count += 1
        self.sum += value
        if len(self._largest) < self.most:
            heapq.heappush(self._largest, value)
        elif value > self._largest[0]:
            heapq.heapreplace(self._largest, value)

    @classmethod
    def joined(cls, several: Iterable[Tally], more: Iterable[float] = ()) -> Tally:
        """Return one tally of what several hold, and more values."""
        several = list(several)
        whole = cls(max(each.most for each in several))
        for each in several:
            for value in each._largest:
                whole.add(value)
        whole.count = sum(each.count for each in several)
        whole.sum = sum(each.sum for each in several)
        for value in more:
            whole.add(value)
        return whole

    @property
    def mean(self) -> float | None:
        """Mean; None without values."""
        return self.sum / self.count if self.count else None

    @property
    def p99(self) -> float | None:
        """P99; None without values."""
        if not self.count:
            return None
        rank = self.count // 100  # 0 is the largest
        ordered = sorted(self._largest, reverse=True)
        return ordered[min(rank, len(ordered) - 1)]

    def facts(self) -> dict[str, Any]:
        """Return `count`, `mean`, `p99` and `max`, in seconds; None where there are no values."""
        largest = max(self._largest, default=None)
        figures = {"mean": self.mean, "p99": self.p99, "max": largest}
        return {"count": self.count} | {
            name: None if value is None else round(value, 6) for name, value in figures.items()
        }
