"""Where the time of a watched endpoint goes.

A `Clock` that notices when nobody looked, a `Ledger` that books each moment on one state, and the
figures of `Durations`.
"""

from __future__ import annotations

import bisect
import math
import time
from collections.abc import Callable
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
        first = max(bisect.bisect_left(self.gaps, (start, start)) - 1, 0)
        inside = ((max(a, start), min(b, end)) for a, b in self.gaps[first:])
        return sum(b - a for a, b in inside if b > a)

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


class Durations(list[float]):
    """Durations in seconds; `mean` and `p99` are None where there are none."""

    @property
    def mean(self) -> float | None:
        """Their mean."""
        return sum(self) / len(self) if self else None

    @property
    def p99(self) -> float | None:
        """The smallest that at least 99 % of them do not exceed (nearest rank)."""
        return sorted(self)[math.ceil(0.99 * len(self)) - 1] if self else None

    def facts(self) -> dict[str, Any]:
        """Return `count`, `mean`, `p99` and `max`."""
        figures = {"mean": self.mean, "p99": self.p99, "max": max(self, default=None)}
        return {"count": len(self)} | {
            name: None if value is None else round(value, 6) for name, value in figures.items()
        }
