"""What time it is: at the server, which gives the samples their times.

This machine's clock may be wrong, be set, or stand still while the machine sleeps. So the server is
asked, and what goes by since is taken from a clock that nobody sets.
"""

from __future__ import annotations

import logging
import threading
import time

JUMP = 2.0
"""Seconds by which a clock must jump to be told."""

log = logging.getLogger("tars_ga.watch")


class Clock:
    """This machine's clocks; a test puts others in their place."""

    def wall(self) -> float:
        """Epoch seconds, as this machine believes; may jump."""
        return time.time()

    def steady(self) -> float:
        """Seconds of a clock that never jumps, and goes on while the machine sleeps."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wait(self, seconds: float, stop: threading.Event) -> None:
        """Wait, but not longer than until `stop` is set."""
        stop.wait(seconds)


class ServerTime:
    """What time it is at the server; at this machine, as long as the server never said so."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead: float | None = None
        self._drift = clock.wall() - clock.steady()

    @property
    def heard(self) -> bool:
        """Whether the server ever said."""
        return self._ahead is not None

    def now(self) -> float:
        """Epoch seconds."""
        if self._ahead is None:
            return self._clock.wall()
        return self._clock.steady() + self._ahead

    def hear(self, said: float) -> None:
        """Take over what the server says."""
        before, self._ahead = self._ahead, said - self._clock.steady()
        apart = said - self._clock.wall()
        if before is None and abs(apart) > JUMP:
            log.warning("this machine's clock is %+.0f s from the server's, which counts", -apart)
        elif before is not None and abs(self._ahead - before) > JUMP:
            log.warning("the server's clock jumped by %+.0f s", self._ahead - before)

    def jumped(self) -> bool:
        """Whether this machine's clock was set since this was last asked."""
        drift = self._clock.wall() - self._clock.steady()
        by, self._drift = drift - self._drift, drift
        if abs(by) > JUMP:
            log.warning("this machine's clock jumped by %+.0f s", by)
        return abs(by) > JUMP
