"""Watching a day: each step is collected when it is over, kept, and looked at.

A step's time is fixed: its end, and a little for late scrapes. Whatever takes long delays nothing
but itself, as the next pass asks for all steps that are over by then. Time is the server's own,
which gives the samples theirs, and a clock that nobody sets: this machine's may jump as it likes.

A watch lives in a run's folder, and goes on from there whenever and wherever it is started again:

```
watch/state.json         what it was begun with
watch/answers.journal    every answer, as it came
watch/snapshots.jsonl    what was known at each step
watch/watch.log          what happened, in UTC
watch/recording/         the recording, when the window is over
```
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tars_ga_lib import __version__, atomic, collection, prometheus
from tars_ga_lib.grammar import ParametersError, format_duration, format_time
from tars_ga_lib.live import apart, outlook
from tars_ga_lib.live import folder as watch_folder
from tars_ga_lib.live.answers import Answers, Grid, Part, ranges
from tars_ga_lib.live.clocks import Clock, ServerTime
from tars_ga_lib.live.folder import LogFile, begin, identity
from tars_ga_lib.live.store import FOLDER, Journal, Lines
from tars_ga_lib.parameters import Job
from tars_ga_lib.prometheus import Answer, Prometheus, QueryError, SourceError
from tars_ga_lib.queries import requests
from tars_ga_lib.recording import Recording

RECHECK = 3
"""Steps before the new ones that are asked for again."""

PIECE = 48
"""Steps that are asked for at once at most: a long outage is caught up with piece by piece."""

LAST_LOOKS = 3
"""How often queries that still fail are tried when the window is over."""

GRACE = 12
"""Steps that a server which does not answer is waited for when the window is over."""

RETRY = 30.0
"""Seconds until a server that does not answer is asked again, if that is before the next step."""

_FRAME = 1 << 18
"""Bytes of answers that are kept in memory at most before they are written."""

log = logging.getLogger(watch_folder.LOGGER)


def settle(step: int) -> float:
    """Seconds after its end from which on a step is asked for: scrapes take their time."""
    return min(30.0, max(1.0, step / 10))


# --- asking --------------------------------------------------------------------------------------


class _LaterError(Exception):
    """Not asked in this pass."""


@dataclass(frozen=True)
class _Task:
    """Some steps of one query that are to be asked for."""

    grid: Grid
    answers: Answers
    first: int
    count: int


def _pieces(grid: Grid, answers: Answers, steps: int, again: int) -> list[_Task]:
    """Return what of the first `steps` is missing, and the last ones from `again` on."""
    wanted = ~answers.answered
    wanted[again:] = True
    wanted[steps:] = False
    return [
        _Task(grid, answers, first, min(PIECE, start + count - first))
        for start, count in ranges(wanted)
        for first in range(start, start + count, PIECE)
    ]


def _in_threads(
    tasks: Sequence[_Task], ask: Callable[[_Task], Answer], connections: int
) -> queue.SimpleQueue[tuple[_Task, Answer | Exception]]:
    """Ask all, some at once, in threads that nobody needs to wait for; the answers as they come.

    A thread of an executor would keep a process that is told to end until its request is over.
    """
    waiting: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[_Task, Answer | Exception]] = queue.SimpleQueue()
    for each in (*tasks, *[None] * connections):
        waiting.put(each)

    def work() -> None:
        while (task := waiting.get()) is not None:
            try:
                done.put((task, ask(task)))
            except Exception as error:
                done.put((task, error))

    for _ in range(connections):
        threading.Thread(target=work, daemon=True).start()
    return done


# --- the watch -----------------------------------------------------------------------------------


@dataclass
class Status:
    """What whoever looks on is told between the snapshots."""

    steps: int
    over: int = 0
    answered: int = 0
    silent_since: float | None = None
    failing: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    cannot_write: str = ""
    outlook_problem: str = ""
    job_problem: str = ""
    snapshot: dict[str, Any] | None = None
    phase: str = "starting"
    next_at: float = 0.0
    took: float = 0.0


class Watch:
    """A day that is watched.

    Parameters
    ----------
    folder
        The run's folder.
    reload
        Returns the job; asked again at each step, as evidence comes in during a day.
    told
        Called with each new snapshot.

    Raises
    ------
    ParametersError
        If the folder's watch was begun with other parameters, or is watched already.
    """

    def __init__(
        self,
        folder: Path,
        reload: Callable[[], Job],
        *,
        clock: Clock | None = None,
        told: Callable[[dict[str, Any]], None] = lambda snapshot: None,
    ) -> None:
        self.job = reload()
        self.folder = folder / FOLDER
        self._reload, self.told = reload, told
        window = self.job.parameters.window
        self._clock = clock or Clock()
        source = self.job.parameters.source
        timeout = min(source.timeout, max(window.step, 10))
        # A failed request is tried again at the next pass, not at once.
        self._server: Prometheus = prometheus.connect(source, timeout=timeout, attempts=1)
        self._lock = begin(self.folder, self.job)
        self._handler = LogFile(self.folder / "watch.log")
        for name in (log.name, "urllib3"):
            logging.getLogger(name).addHandler(self._handler)
        log.setLevel(logging.INFO)
        self.grids = {
            name: Grid(name, interval, window.step, requests(self.job))
            for name, interval in collection.spans(self.job.parameters).items()
        }
        self.window = self.grids["window"]
        self.status = Status(self.window.steps)
        self._journal = Journal(self.folder / "answers.journal")
        for part in self._journal.read():
            if answers := self.grids[part.span].answers.get(part.id):
                answers.apply(part)
        self._lines = Lines(self.folder / "snapshots.jsonl")
        self.status.snapshot = self._lines.last
        self._told_of = int(self._lines.last["step"]) if self._lines.last else 0
        self._time = ServerTime(self._clock)
        self._stop = threading.Event()
        self._started = collection.utc_now()
        self._version = "unknown"
        self._last_looks = 0
        self._over_since: float | None = None
        self._unwritten = False
        self._finished = False
        log.info(
            "tars-ga %s watches %s to %s, step %s, %s, from %s; %d steps are there",
            __version__, format_time(window.start), format_time(window.stop),
            format_duration(window.step), self.job.parameters.release.version, self.url,
            int(self.window.answered().sum()),
        )  # fmt: skip
        for each in (self._journal, self._lines):
            if each.torn:
                log.warning("%s: cut off %d bytes that were not whole", each.path.name, each.torn)

    def close(self) -> None:
        """Let the folder go."""
        for name in (log.name, "urllib3"):
            logging.getLogger(name).removeHandler(self._handler)
        self._server.close()
        self._journal.close()
        self._lines.close()
        os.close(self._lock)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stop(self) -> None:
        """End soon; may be called by a signal's handler."""
        self._stop.set()
        self._server.end("the watch was stopped")

    @property
    def url(self) -> str:
        """Where the server is."""
        return self._server.url

    def now(self) -> float:
        """Epoch seconds by the server's clock."""
        return self._time.now()

    def run(self) -> bool:
        """Watch until the window is over; False if it was stopped before."""
        while not self._stop.is_set():
            began = self._clock.steady()
            self._pass()
            self.status.took = self._clock.steady() - began
            if self._finished:
                log.info("the window is over")
                return True
            self._wait()
        log.info("stopped after %d of %d steps", self._told_of, self.window.steps)
        return False

    def save(self) -> Path:
        """Write what was collected as a recording, and return its folder.

        Raises
        ------
        ParametersError
            If it cannot be written.
        """
        folder = self.folder / "recording"
        with atomic.writing(folder, f"{folder}"):
            apart.call(_save, (self.recording(), folder), lambda: False)
        return folder

    def recording(self) -> Recording:
        """Return what was collected, as the recording of the whole window."""
        steps = self.window.steps
        url = self.url
        spans = {
            name: grid.span(steps if grid is self.window else grid.steps, url)
            for name, grid in self.grids.items()
        }
        spans = collection.with_scrape_intervals(self.job, self._server, spans)
        missing = int((~self.window.answered()[:steps]).sum())
        problems = []
        if missing:
            why = f": {self.status.problem}" if self.status.problem else ""
            problems.append(f"{missing} of {steps} steps were not answered whole{why}")
        return Recording(
            server=url,
            version=self._version,
            software=f"tars-ga {__version__}",
            collected_at=self._started,
            simulated=self.job.parameters.simulated,
            spans=spans,
            problems=problems,
        )

    # --- one pass

    def _pass(self) -> None:
        """Ask for all that is over and missing, keep it, and look at it."""
        status, now, self._unwritten = self.status, self._time.now(), False
        try:
            if self._version == "unknown":
                self._version = self._server.version()
            self._time.hear(self._server.now())
            status.over = self._steps_over(self.window)
            failed, problem = self._collect(status.over), ""
        except (SourceError, QueryError) as error:
            if self._time.heard:  # else this machine's clock is all there is, and may be wrong
                status.over = self._steps_over(self.window)
            failed, problem = 1, str(error)
        self._judge(now, problem)
        status.answered = int(self.window.answered().sum())
        self._look()
        if status.cannot_write and not self._unwritten:
            log.info("%s can be written again", self.folder)
            status.cannot_write = ""
        if not self._stop.is_set():
            self._see_the_end(failed)

    def _see_the_end(self, failed: int) -> None:
        """See whether all is over, and known or not worth waiting for."""
        status, now = self.status, self._clock.steady()
        # What was asked for counts, not what has become over since; unless nobody answers.
        silent = status.silent_since is not None
        over = self._steps_over(self.window) if silent else status.over
        if over < self.window.steps:
            self._over_since = None
            return
        self._over_since = now if self._over_since is None else self._over_since
        if not silent and not status.cannot_write:
            self._last_looks += 1
            self._finished = not failed or self._last_looks >= LAST_LOOKS
        elif not status.cannot_write and now - self._over_since > GRACE * self.window.step:
            status.over = self.window.steps
            self._look()
            self._finished = True

    def _steps_over(self, grid: Grid) -> int:
        over = (self._time.now() - settle(grid.step) - grid.start) // grid.step
        return int(min(max(over, 0), grid.steps))

    def _due(self, step: int) -> float:
        """Server time at which a step is asked for."""
        return self.window.start + step * self.window.step + settle(self.window.step)

    def _judge(self, now: float, problem: str) -> None:
        """See whether the server answers at all."""
        status = self.status
        if problem and status.silent_since is None:
            status.silent_since = now
            log.warning("the source does not answer: %s", problem)
        elif not problem and status.silent_since is not None:
            log.info(
                "the source answers again, after %.0f s", self._time.now() - status.silent_since
            )
            status.silent_since = None
        status.problem = problem

    def _collect(self, steps: int) -> int:
        """Ask for what is new; return how many questions were not answered.

        Raises
        ------
        SourceError
            If the server stopped to answer, or answers nothing.
        """
        last_look = steps == self.window.steps
        again = 0 if last_look else max(0, min(self._told_of, steps) - RECHECK)
        tasks = [
            task
            for grid in self.grids.values()
            for answers in grid.answers.values()
            for task in (
                _pieces(grid, answers, steps, again)
                if grid is self.window
                else _pieces(grid, answers, self._steps_over(grid), grid.steps)
            )
        ]
        # Whoever waits longest comes first, so that slow queries do not keep the others back.
        tasks.sort(key=lambda task: task.answers.asked)
        return self._ask(tasks)

    def _ask(self, tasks: Sequence[_Task]) -> int:
        """Ask, and keep what is answered as it comes; else as `_collect`."""
        began = self._clock.steady()
        deadline = began + max(self.window.step, 10)
        gone = threading.Event()
        failing: dict[str, str] = {}

        def ask(task: _Task) -> Answer:
            if gone.is_set() or self._clock.steady() > deadline:
                raise _LaterError
            task.answers.asked = began
            start = task.grid.start + task.first * task.grid.step
            stop = start + task.count * task.grid.step
            query = task.answers.request.query
            try:
                return self._server.range(query, start, stop, task.grid.step)
            except SourceError:
                gone.set()
                raise

        done = _in_threads(tasks, ask, self.job.parameters.source.connections)
        parts: list[Part] = []
        failed, problem = 0, ""
        for _ in tasks:
            while (item := _next(done)) is None and not self._stop.is_set():
                pass
            if item is None:
                break
            task, found = item
            if isinstance(found, Answer):
                task.answers.error = ""
                parts += task.answers.changes(task.first, found, collection.utc_now())
                if sum(part.values.nbytes for part in parts) > _FRAME:
                    self._keep(parts)
                    parts = []
                continue
            failed += 1
            if isinstance(found, SourceError):
                problem = str(found)
            elif isinstance(found, QueryError):
                failing[task.answers.request.id] = task.answers.error = str(found)
            elif not isinstance(found, _LaterError):
                raise found
        gone.set()  # whoever still asks need not
        self._keep(parts)
        if problem or (failing and failed == len(tasks)):
            raise SourceError(problem or next(iter(failing.values())))
        for name, text in failing.items():
            if self.status.failing.get(name) != text:
                log.warning("%s: %s", name, text)
        self.status.failing = failing
        return failed

    def _keep(self, parts: Sequence[Part]) -> None:
        """Write answers, then take them over; what cannot be written will be asked for again."""
        if not parts:
            return
        late = sum(
            int(
                self.grids[part.span]
                .answers[part.id]
                .answered[part.first : part.first + part.count]
                .sum()
            )
            for part in parts
        )
        try:
            self._journal.write(parts)
        except OSError as error:
            self._cannot_write(error)
            return
        for part in parts:
            self.grids[part.span].answers[part.id].apply(part)
        if late:
            log.info("%d steps of queries were answered anew, with late samples", late)

    def _cannot_write(self, error: OSError) -> None:
        self._unwritten = True
        if not self.status.cannot_write:
            log.error("%s cannot be written (%s)", self.folder, os.strerror(error.errno or 0))
        self.status.cannot_write = (
            f"{self.folder}: cannot be written ({os.strerror(error.errno or 0)}); make room: "
            "what is missing is asked for again"
        )

    # --- looking

    def _look(self) -> None:
        """Write a snapshot of each step that is over and was not looked at."""
        status = self.status
        if status.over <= self._told_of or self._stop.is_set():
            return
        self._read_evidence()
        url = self.url
        question = outlook.Question(
            self.job,
            self.window.span(status.over, url),
            [grid.span(grid.steps, url) for grid in self.grids.values() if grid is not self.window],
            self._told_of,
        )
        try:
            snapshots = apart.call(outlook.look, question, self._stop.is_set)
            status.outlook_problem = ""
        except apart.StoppedError:
            return
        except (apart.ApartError, ParametersError, OSError) as error:
            log.error("no outlook: %s", error)
            status.outlook_problem = str(error)
            snapshots = outlook.without(question)
        source = {
            "answers": status.silent_since is None,
            "silent_since": None
            if status.silent_since is None
            else format_time(status.silent_since),
            "answered_steps": int(self.window.answered()[: status.over].sum()),
            "failing": status.failing,
            "problem": status.problem or status.outlook_problem or status.job_problem or None,
        }
        snapshots = [{**each, "source": source} for each in snapshots]
        try:
            self._lines.write(snapshots)
        except OSError as error:
            self._cannot_write(error)
            return
        self._told_of, status.snapshot = status.over, snapshots[-1]
        log.info("%s", sentence(snapshots[-1]))
        for each in snapshots:
            self.told(each)

    def _read_evidence(self) -> None:
        """Read the parameters again: evidence and waivers come in during a day."""
        problem = ""
        try:
            job = self._reload()
        except ParametersError as error:
            problem = str(error)
        else:
            changed = watch_folder.differences(identity(self.job), identity(job))
            if changed:
                problem = (
                    f"{', '.join(changed)} changed: this watch goes on with what it began with"
                )
            else:
                self.job = job
        if problem and problem != self.status.job_problem:
            log.warning("%s", problem)
        self.status.job_problem = problem

    # --- waiting

    def _wait(self) -> None:
        """Wait for the next step's time, or a shorter one to ask again what failed."""
        status, began = self.status, self._clock.steady()
        step = min(status.over + 1, self.window.steps)
        status.phase = "waiting" if self._time.now() < self.window.start else "watching"
        retry = status.silent_since is not None or status.failing or status.cannot_write
        patience = (
            min(RETRY, self.window.step) if retry or status.over == self.window.steps else 1e9
        )
        while not self._stop.is_set():
            left = patience - (self._clock.steady() - began)
            if self._time.heard and status.over < self.window.steps:
                left = min(left, self._due(step) - self._time.now())
            status.next_at = self._time.now() + max(left, 0.0)
            if left <= 0 or self._time.jumped():
                return
            self._clock.wait(min(left, 0.5), self._stop)


def _save(what: tuple[Recording, Path]) -> None:
    recording, folder = what
    recording.save(folder)


def _next(
    done: queue.SimpleQueue[tuple[_Task, Answer | Exception]],
) -> tuple[_Task, Answer | Exception] | None:
    try:
        return done.get(timeout=0.1)
    except queue.Empty:
        return None


def sentence(snapshot: dict[str, Any]) -> str:
    """Write a snapshot as one line."""
    start = f"step {snapshot['step']}/{snapshot['steps']}, {snapshot['step_end']}"
    source, seen = snapshot["source"], snapshot["outlook"]
    parts = []
    if seen:
        parts.append(f"if it ended now: {seen['decision']}")
        if seen["slo"] and (worst := tightest(seen["slo"])):
            parts.append(f"budget left {worst[1]:.0%} ({worst[0]})")
        counts = seen["drift"]["counts"]
        known = counts.get("evaluations", 0) > counts.get("missing", 0)
        parts.append(f"{counts['findings']} findings" if known else "drift NO DATA")
        alerts = seen["alerts"]
        firing = f"{len(alerts['firing'])} firing" if not alerts["reason"] else "NO DATA"
        parts.append(f"alerts {firing}")
        parts.append(f"coverage {seen['coverage']['samples']:.1%}")
    if not source["answers"]:
        parts.append(f"the source does not answer since {source['silent_since']}")
    elif source["answered_steps"] < snapshot["step"]:
        parts.append(f"{snapshot['step'] - source['answered_steps']} steps not answered whole")
    return f"{start}: " + "; ".join(parts or ["caught up with"])


def tightest(slo: dict[str, Any]) -> tuple[str, float] | None:
    """Return the objective with the smallest share of the window's budget left; None if unknown."""
    left = [
        (each["title"], 1 - each["budget"]["whole_window"]["share_spent"])
        for each in slo["objectives"].values()
        if each["budget"]["whole_window"]
    ]
    return min(left, key=lambda item: item[1], default=None)
