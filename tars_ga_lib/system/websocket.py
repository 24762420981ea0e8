"""WebSocket sessions, held open and watched: the monitor behind `tars-ga websocket`.

A session is `up` from the moment that it answers its first ping, and as long as every ping is
answered in time. When a ping stays unanswered, or the connection is lost while one is, the session
is `down` from its last sign of life (an answered ping or a message), because nothing proves that it
lived longer; where the server closes it, from that moment. It is down until a new session has
answered. Uptime is the time up, of the time up or down.

What the monitor does itself is not counted as the server's downtime: opening the first session, and
closing and opening one again every so often (`forced`). Where such an attempt fails, the downtime
begins with it. Time in which nobody looked (a suspended machine, a stalled process) is
`unobserved`: neither up nor down; the session must answer a ping before it counts as up again.

The keepalive of `websockets` is off, as it keeps the last ping's time only and begins after a whole
interval; and its iteration over reconnects is not used, as it waits for three seconds and more.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tars_ga_lib import __version__, extras
from tars_ga_lib.endpoints import WebSocketTargets, judge, worst
from tars_ga_lib.grammar import Verdict
from tars_ga_lib.system import dialling
from tars_ga_lib.system.dialling import Credentials
from tars_ga_lib.system.ledger import Clock, Durations, Ledger, State

with contextlib.suppress(ModuleNotFoundError):  # then `watch` says so, and opens nothing
    from websockets.asyncio.client import ClientConnection
    from websockets.exceptions import ConnectionClosed
    from websockets.protocol import State as Phase

SCHEMA = "tars-ga/websocket/1"

MOST_DOWNTIMES = 200
"""Downtimes that are listed of an endpoint: the longest. All are counted."""

_STAGGER = 0.005  # seconds between the starts of two endpoints, so that handshakes do not queue

Cause = Literal["opening", "forced", "drop"]


@dataclass(frozen=True)
class Pace:
    """How sessions are watched; all in seconds.

    A session that drops is reconnected at once, then after waits that double from `retry_first` to
    `retry_most`, each shortened at random (seeded) by up to a half. The waits begin anew after a
    session that held for `retry_most`.
    """

    duration: float = 3600.0
    reconnect_every: float | None = 300.0
    ping_every: float = 10.0
    ping_timeout: float = 10.0
    open_timeout: float = 10.0
    retry_first: float = 0.1
    retry_most: float = 1.0
    seed: int = 0

    @classmethod
    def of(cls, targets: WebSocketTargets) -> Pace:
        """Take the pace that `websocket.yaml` says."""
        every = targets.reconnect_every
        return cls(
            duration=float(targets.duration),
            reconnect_every=None if every is None else float(every),
            ping_every=float(targets.ping_every),
            ping_timeout=float(targets.ping_timeout),
            open_timeout=float(targets.open_timeout),
        )


@dataclass(frozen=True)
class Glance:
    """How an endpoint does at one moment, for who watches the monitor."""

    name: str
    state: State
    uptime: float | None
    problem: str


@dataclass(eq=False)
class _LostError(Exception):
    """A session is lost, or could not be opened: why, and when.

    `at` is None where it is only known to be after the session was heard. `refused` tells that the
    server is there, and does not let us in.
    """

    reason: str
    at: float | None = None
    refused: bool = False


@dataclass
class _Session:
    """An open session.

    `began` is when it opened and `heard` when it last gave a sign of life; `asking` tells whether
    a ping waits for its answer; `gaps` is the number of the clock's gaps when the last answered
    ping was sent.
    """

    connection: ClientConnection
    reader: asyncio.Task[ConnectionClosed]
    began: float
    heard: float
    gaps: int
    asking: bool = False


@dataclass
class _Reconnects:
    """Attempts that ended, those that succeeded, and how long it took to a new session."""

    latency: Durations = field(default_factory=Durations)
    attempts: int = 0
    successes: int = 0

    def facts(self) -> dict[str, Any]:
        rate = self.successes / self.attempts if self.attempts else None
        return {
            "attempts": self.attempts,
            "successes": self.successes,
            "success_rate": rate,
            "latency": self.latency.facts(),
        }


class _Endpoint:
    """One endpoint: its session, its books, its figures."""

    def __init__(
        self, name: str, url: str, pace: Pace, clock: Clock, credentials: Credentials
    ) -> None:
        self.name, self.url = name, url
        self.problem = ""
        self._ledger = Ledger(clock)
        self._handshake, self._ping = Durations(), Durations()
        self._counts = {"drop": _Reconnects(), "forced": _Reconnects()}
        self._messages = 0
        self._reasons: list[str] = []
        self._downtimes: list[tuple[float, float, str]] = []
        self._reconnecting: float | None = None
        self._session: _Session | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._pace, self._clock, self._credentials = pace, clock, credentials
        self._random = random.Random(f"{pace.seed} {name}")
        self._retries = 0
        self._met = False

    async def watch(self) -> None:
        """Hold a session open, for ever."""
        cause: Cause = "opening"
        while True:
            session = await self._open(cause)
            cause = await self._hold(session)

    # --- opening a session ---

    async def _open(self, cause: Cause) -> _Session:
        """Try until there is a session that answers."""
        clock = self._clock
        since = clock.now()
        if cause == "forced" and self._session:
            # The old one may hold a place that the new one needs, so it is closed first.
            self._ledger.switch("forced", since)
            await self._session.connection.close()
        while True:
            self._reconnecting = None if cause == "opening" else since
            if cause == "drop":
                await self._wait()
            began, gaps = clock.now(), len(clock.gaps)
            try:
                session = await self._attempt()
            except _LostError as failed:
                clock.now()
                if len(clock.gaps) > gaps:
                    await asyncio.sleep(0)  # it may have failed because nobody looked
                    continue
                self._count(cause)
                reason = self._credentials.hide(failed.reason)[:300]
                if failed.refused and not self._met:
                    # Who is never let in sees nothing of the endpoint's health.
                    self._end_downtime(began)
                    self._ledger.switch("opening", began)
                    self.problem, cause = reason, "opening"
                    await self._wait(10.0)
                    continue
                if cause != "drop":
                    self._ledger.switch("down", began)
                    cause, since = "drop", began
                self._say(reason)
            else:
                now = clock.now()
                self._count(cause, None if clock.lost(since, now) else now - since, success=True)
                self._end_downtime(now)
                self._ledger.switch("up", now)
                self._reconnecting, self.problem, self._met = None, "", True
                return session

    def _count(self, cause: Cause, latency: float | None = None, *, success: bool = False) -> None:
        if cause == "opening":
            return
        counts = self._counts[cause]
        counts.attempts += 1
        counts.successes += success
        if latency is not None:
            counts.latency.append(latency)

    async def _wait(self, times: float = 1.0) -> None:
        """Wait before an attempt: not at all before the first."""
        if self._retries:
            wait = self._pace.retry_first * 2.0 ** min(self._retries - 1, 30)
            wait = min(wait, self._pace.retry_most) * times
            await asyncio.sleep(wait * self._random.uniform(0.5, 1.0))
        self._retries += 1

    async def _attempt(self) -> _Session:
        """Open one session and wait for its first pong.

        Raises
        ------
        _LostError
            If there is none.
        """
        clock, within = self._clock, self._pace.open_timeout
        began, gaps = clock.now(), len(clock.gaps)
        try:
            connection = await dialling.dial(self.url, self._credentials, within)
        except Exception as error:  # whatever a server can make a client raise
            reason = dialling.why_not(error, within)
            raise _LostError(reason, refused=dialling.refused_credentials(error)) from None
        now = clock.now()
        if len(clock.gaps) == gaps:
            self._handshake.append(now - began)
        reader = asyncio.create_task(self._read(connection))
        self._session = session = _Session(connection, reader, now, now, len(clock.gaps))
        try:
            await self._ask(session)
        except _LostError:
            self._discard(session)
            raise
        return session

    async def _read(self, connection: ClientConnection) -> ConnectionClosed:
        """Count messages and drop them, until the connection is closed."""
        while True:
            try:
                await connection.recv(decode=False)
            except ConnectionClosed as closed:
                return closed
            self._messages += 1
            if self._session is not None:
                self._session.heard = self._clock.now()

    def _discard(self, session: _Session) -> None:
        """Close a session that is given up, without waiting for it."""
        task = asyncio.create_task(session.connection.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        self._session = None

    # --- holding it ---

    async def _hold(self, session: _Session) -> Cause:
        """Watch a session until it drops or is due to be opened anew; say which."""
        pace, clock = self._pace, self._clock
        due = clock.now() + pace.ping_every
        renew = math.inf if pace.reconnect_every is None else session.began + pace.reconnect_every
        while True:
            if (pause := min(due, renew) - clock.now()) > 0:
                await asyncio.wait({session.reader}, timeout=pause)
            now = clock.now()
            unsure = len(clock.gaps) > session.gaps
            if unsure:
                # Nobody looked for a while: nothing is known until it answers again.
                self._ledger.switch("opening", clock.gaps[-1][1])
            elif now < due and now < renew and not session.reader.done():
                continue
            elif now >= renew and not session.reader.done():
                return "forced"
            due = now + pace.ping_every
            try:
                await self._ask(session)
            except _LostError as lost:
                return self._dropped(session, lost)
            if unsure:
                self._ledger.switch("up", clock.now())

    async def _ask(self, session: _Session) -> None:
        """Send a ping and wait for its answer.

        Raises
        ------
        _LostError
            If none comes.
        """
        clock, connection = self._clock, session.connection
        while True:
            sent, gaps = clock.now(), len(clock.gaps)
            self._see_open(session)
            session.asking = True
            try:
                pong = asyncio.ensure_future(await connection.ping())
            except ConnectionClosed as closed:
                raise _LostError(dialling.why_closed(closed)) from None
            await asyncio.wait(
                {pong, session.reader},
                timeout=self._pace.ping_timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            now = clock.now()
            if pong.done() and not pong.cancelled() and pong.exception() is None:
                session.asking, session.heard, session.gaps = False, now, gaps
                if len(clock.gaps) == gaps:
                    self._ping.append(now - sent)
                    return
            else:
                self._see_open(session)
                if len(clock.gaps) == gaps:
                    seconds = self._pace.ping_timeout
                    raise _LostError(f"a ping was not answered within {seconds:g} s")

    def _see_open(self, session: _Session) -> None:
        """Raise `_LostError` where a session is closed, or began to close and does not end it."""
        if session.reader.done():
            closed = session.reader.result()
            said = closed.rcvd is not None or closed.sent is not None
            known = said or not session.asking
            raise _LostError(dialling.why_closed(closed), self._clock.now() if known else None)
        if session.connection.state is not Phase.OPEN:
            raise _LostError(dialling.why_closed(session.connection.protocol))

    def _dropped(self, session: _Session, lost: _LostError) -> Cause:
        """Book that a session is lost, and say what the next one is opened for."""
        clock = self._clock
        now = clock.now()
        self._discard(session)
        if now - session.began >= self._pace.retry_most:
            self._retries = 0
        if len(clock.gaps) > session.gaps:
            # While nobody looked nobody answered the server either, so it may have been right.
            self._ledger.switch("opening", clock.gaps[-1][1])
            return "opening"
        self._ledger.switch("down", session.heard if lost.at is None else lost.at)
        self._say(self._credentials.hide(lost.reason)[:300])
        return "drop"

    def _say(self, reason: str) -> None:
        """Keep the first and the latest reason of a downtime."""
        if reason not in self._reasons:
            self._reasons = [*self._reasons[:1], reason]

    def _end_downtime(self, now: float) -> None:
        if self._ledger.state != "down":
            return
        start = self._ledger.since
        reason = "; then ".join(self._reasons)
        if lost := self._clock.lost(start, now):
            reason += f" ({lost:.1f} s of it nobody observed)"
        self._reasons = []
        self._downtimes.append((start, now, reason))

    # --- the end, and what it was ---

    async def finish(self, now: float) -> None:
        """Close books and session; a reconnect that goes on counts with its time so far."""
        self._end_downtime(now)
        self._ledger.switch(self._ledger.state, now)
        if self._reconnecting is not None:
            self._reconnecting = now - self._reconnecting
        if self._session is not None:
            self._discard(self._session)
        if self._closing:
            await asyncio.wait(self._closing, timeout=2 * dialling.CLOSE_WITHIN)

    def glance(self, now: float) -> Glance:
        """Return how it does right now."""
        up, down = (self._ledger.total(state, now) for state in ("up", "down"))
        problem = self._reasons[-1] if self._reasons else self.problem
        uptime = up / (up + down) if up + down else None
        return Glance(self.name, self._ledger.state, uptime, problem)

    def facts(self, elapsed: float) -> dict[str, Any]:
        """Return the endpoint as `ws_health_metrics.json` has it, without verdicts."""
        seconds = {state: round(value, 6) for state, value in self._ledger.seconds.items()}
        connected, observed = seconds["up"], round(seconds["up"] + seconds["down"], 6)
        drop, forced = self._counts["drop"], self._counts["forced"]
        open_one = [] if self._reconnecting is None else [self._reconnecting]
        latency = Durations([*drop.latency, *forced.latency, *open_one])
        attempts, successes = drop.attempts + forced.attempts, drop.successes + forced.successes
        longest = max((end - start for start, end, _ in self._downtimes), default=0.0)
        listed = sorted(self._downtimes, key=lambda one: one[0] - one[1])[:MOST_DOWNTIMES]
        figures = {
            "uptime": connected / observed if observed else None,
            "longest_downtime": longest if observed else None,
            "handshake_p99": self._handshake.p99,
            "ping_p99": self._ping.p99,
            "reconnect_success_rate": successes / attempts if attempts else None,
            "reconnect_latency_mean": latency.mean,
            "reconnect_latency_p99": latency.p99,
        }
        return {
            "name": self.name,
            "url": dialling.shown(self.url),
            "observed_seconds": observed,
            "connected_seconds": connected,
            "forced_seconds": seconds["forced"],
            "unobserved_seconds": round(max(elapsed - observed - seconds["forced"], 0.0), 6),
            "uptime": figures["uptime"],
            "handshake": self._handshake.facts(),
            "ping": self._ping.facts(),
            "reconnects": drop.facts(),
            "forced": forced.facts(),
            "longest_downtime": round(longest, 6),
            "downtime_count": len(self._downtimes),
            "downtimes": [
                {
                    "start": self._clock.iso(start),
                    "end": self._clock.iso(end),
                    "seconds": round(end - start, 6),
                    "reason": reason,
                }
                for start, end, reason in sorted(listed)
            ],
            "messages": self._messages,
            "problem": self.problem,
            "figures": {
                name: None if value is None else round(value, 9) for name, value in figures.items()
            },
        }


class Monitor:
    """Several endpoints, watched at once in one event loop.

    Parameters
    ----------
    targets
        Endpoints and limits.
    pace
        How they are watched; what `targets` says if not given.
    environ
        Where the credentials are, see `dialling`.

    Raises
    ------
    ParametersError
        If the environment's credentials cannot be used.
    """

    def __init__(
        self,
        targets: WebSocketTargets,
        pace: Pace | None = None,
        *,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.targets, self.pace = targets, pace or Pace.of(targets)
        self.stopped_by: str | None = None
        self._credentials = Credentials.of(environ)
        # A stall as long as half a ping's patience could be taken for the server's silence.
        self._clock = Clock(late=min(1.0, self.pace.ping_timeout / 2))
        self._endpoints: list[_Endpoint] = []
        self._start = self._clock.now()
        self._end: float | None = None

    async def run(self) -> None:
        """Watch until the time is over or `stop` is called."""
        clock = self._clock
        self._start = clock.now()
        clock.gaps.clear()  # nothing was watched yet
        deadline = self._start + self.pace.duration
        self._endpoints = [
            _Endpoint(name, url, self.pace, clock, self._credentials)
            for name, url in self.targets.endpoints.items()
        ]
        if sentence := extras.missing("websockets"):
            for one in self._endpoints:
                one.problem = sentence
            self.stopped_by, self._end = sentence, self._start
            return
        tasks = [
            asyncio.create_task(self._watch(one, place * _STAGGER))
            for place, one in enumerate(self._endpoints)
        ]
        try:
            while (left := deadline - clock.now()) > 0 and self.stopped_by is None:
                done, _ = await asyncio.wait(
                    tasks, timeout=min(left, clock.beat), return_when=asyncio.FIRST_EXCEPTION
                )
                for task in done:
                    task.result()  # an error of ours ends the whole run rather than being silent
        finally:
            self._end = clock.now()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=dialling.CLOSE_WITHIN)
            await asyncio.gather(*(endpoint.finish(self._end) for endpoint in self._endpoints))

    async def _watch(self, endpoint: _Endpoint, after: float) -> None:
        await asyncio.sleep(after)
        await endpoint.watch()

    def stop(self, by: str) -> None:
        """End the run soon, from any thread; `by` says who or what wanted it."""
        if self._end is None:
            self.stopped_by = self.stopped_by or by

    def glance(self) -> tuple[float, list[Glance]]:
        """Return the seconds that are left and how each endpoint does; from any thread."""
        now = self._clock.peek() if self._end is None else self._end
        left = max(self._start + self.pace.duration - now, 0.0)
        return left, [endpoint.glance(now) for endpoint in list(self._endpoints)]

    def results(
        self, *, release: Mapping[str, str] | None = None, simulated: bool = False, note: str = ""
    ) -> dict[str, Any]:
        """Return what was seen, as `ws_health_metrics.json` has it."""
        clock, end = self._clock, self._start if self._end is None else self._end
        limits = self.targets.limits.given()
        pace = asdict(self.pace)
        endpoints = [endpoint.facts(end - self._start) for endpoint in self._endpoints]
        results: dict[str, Any] = {
            "schema": SCHEMA,
            "release": {"name": None, "version": None} | dict(release or {}),
            "simulated": simulated,
            "note": note,
            "started_at": clock.iso(self._start),
            "ended_at": clock.iso(end),
            "software": f"tars-ga {__version__}",
            "asked_seconds": pace.pop("duration"),
            "watched_seconds": round(end - self._start, 6),
            "complete": self._end is not None and self.stopped_by is None,
            "stopped_by": self.stopped_by,
            "parameters": pace | {"limits": {name: str(limit) for name, limit in limits.items()}},
            "unobserved": [{"start": clock.iso(a), "end": clock.iso(b)} for a, b in clock.gaps],
            "endpoints": endpoints,
        }
        for endpoint in endpoints:
            endpoint["limits"] = [
                judge(results, endpoint, name, limit) for name, limit in limits.items()
            ]
            endpoint["verdict"] = worst([one["verdict"] for one in endpoint["limits"]])
        results["verdict"] = worst([endpoint["verdict"] for endpoint in endpoints])
        return results


def watch(
    targets: WebSocketTargets,
    *,
    release: Mapping[str, str] | None = None,
    simulated: bool = False,
    note: str = "",
    pace: Pace | None = None,
    environ: Mapping[str, str] = os.environ,
    progress: Callable[[float, list[Glance]], None] | None = None,
    every: float = 0.5,
    signals: bool = False,
) -> dict[str, Any]:
    """Watch endpoints and return the results, as `ws_health_metrics.json` has them.

    The work is done in a thread with an event loop of its own, so this can be called where one
    runs already, as in a notebook. A KeyboardInterrupt ends the watch, and what was seen so far is
    returned.

    Parameters
    ----------
    targets
        Endpoints, pace and limits.
    release
        Name and version of what is released; None where it is not known.
    simulated, note
        Whether the endpoints are a simulation, and what else a reader must know of them.
    pace
        How they are watched, in parts of seconds; what `targets` says if not given.
    progress
        Called in this thread every `every` seconds with the seconds that are left and a `Glance` of
        each endpoint.
    signals
        Let SIGINT, SIGTERM and SIGHUP end the watch (only in the main thread).

    Raises
    ------
    ParametersError
        If the environment's credentials cannot be used.
    """
    monitor = Monitor(targets, pace, environ=environ)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with asyncio.Runner(loop_factory=dialling.Loop) as runner:
                runner.run(monitor.run())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="tars-ga-websocket", daemon=True)
    with _handled(monitor.stop) if signals else contextlib.nullcontext():
        thread.start()
        try:
            while thread.is_alive():
                thread.join(every)
                if progress is not None:
                    progress(*monitor.glance())
        except KeyboardInterrupt:
            monitor.stop("SIGINT")
        finally:
            monitor.stop("an error")
            thread.join()
    if errors:
        raise errors[0]
    return monitor.results(release=release, simulated=simulated, note=note)


@contextlib.contextmanager
def _handled(stop: Callable[[str], None]) -> Iterator[None]:
    """Call `stop` with a signal's name when it comes; those that are ignored stay so."""
    before = {}
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name)
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, lambda n, _: stop(signal.Signals(n).name))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_code(verdict: Verdict) -> int:
    """Return what `tars-ga websocket` exits with: 0 all limits hold, 3 one is broken, 4 unknown."""
    return {"pass": 0, "fail": 3}.get(verdict, 4)
