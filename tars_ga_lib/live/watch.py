"""Watching a day: each step is collected when it is over, kept, and looked at.

A step's time is fixed: its end, and a little for late scrapes. Whatever takes long delays nothing
but itself, as the next pass asks for all steps that are over by then. Time is the server's own,
which gives the samples theirs, and a clock that nobody sets: this machine's may jump as it likes.

A watch lives in a run's folder, and goes on from there whenever and wherever it is started again:

```
watch/watch.sqlite           every answer, and what was known at each step
watch/watch.log              what happened, in UTC
watch/notifications.jsonl    who was told of it
watch/recording/             the recording, when the window is over
```
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import math
import pickle
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tars_ga_lib import __version__, atomic, collection, prometheus, strict
from tars_ga_lib.grammar import ParametersError, format_duration, format_time
from tars_ga_lib.intervals import runs
from tars_ga_lib.live.screen import sentence
from tars_ga_lib.live.store import FOLDER, Store, differences, identity
from tars_ga_lib.parameters import Job
from tars_ga_lib.prometheus import Answer, Prometheus, QueryError, SourceError
from tars_ga_lib.queries import requests
from tars_ga_lib.recording import Recording, Span

SCHEMA = "tars-ga/watch/1"

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

LOOK = ["-m", "tars_ga_lib.live.outlook"]
"""What Python runs to look at what is over."""

PATIENCE = 300.0
"""Seconds that a look may take; the analysis of a day takes about one."""

JUMP = 2.0
"""Seconds by which this machine's clock may differ from the server's without a word in the log."""

_PROBLEMS = {
    "disk": ("nothing can be kept", "all can be kept again"),
    "source": ("the source does not answer", "the source answers again"),
    "outlook": ("there is no outlook", "there is an outlook again"),
    "parameters": ("the parameters cannot be read again", "the parameters are read again"),
}
"""What may be wrong, the gravest first, and what the log says when it begins and ends."""

log = logging.getLogger("tars_ga.watch")

Look = Callable[[Job, Span, list[Span], int], list[dict[str, Any]]]
"""What `outlook.look` does."""


def settle(step: int) -> float:
    """Seconds after its end from which on a step is asked for: scrapes take their time."""
    return min(30.0, max(1.0, step / 10))


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


class _Log(logging.handlers.RotatingFileHandler):
    """The file of the log; a full disk is told where samples are written, which matters more."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=8 << 20, backupCount=1, encoding="utf-8", delay=True)
        formatter = logging.Formatter("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
        formatter.converter = time.gmtime
        self.setFormatter(formatter)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Go on without a line that cannot be written."""


class _Piece(NamedTuple):
    """Some steps of one query that are to be asked for."""

    span: str
    query: str
    first: int
    steps: int


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
    look
        Judges what is over; a process of its own if not given, as the statistics take more memory
        than all of the watch.

    Attributes
    ----------
    over
        How many steps are over, as of the last pass.
    silent_since
        When the server was found not to answer, in epoch seconds; None if it does.
    problems
        What else is wrong, a sentence by the key of `_PROBLEMS`.
    snapshot
        The latest, if there is one.
    next_at
        When the server will be asked next, in epoch seconds of its clock.

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
        told: Callable[[dict[str, Any]], None] = lambda snapshot: None,
        look: Look | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.job, self.folder = reload(), folder / FOLDER
        self.told, self._reload, self._look_at = told, reload, look or self._look_apart
        self._clock = clock or Clock()
        self._intervals = collection.spans(self.job.parameters)
        self._window, source = self.job.parameters.window, self.job.parameters.source
        self.step = self._window.step
        self.steps = self._window.seconds // self.step
        # A failed request is tried again at the next pass, not at once.
        self._server: Prometheus = prometheus.connect(
            source, timeout=min(source.timeout, max(self.step, 10)), attempts=1
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        self.store = Store(self.folder, self.job)
        self.snapshot = next(reversed(self.store.snapshots()), None)
        self._queries = {request.id: request.query for request in requests(self.job)}
        self._asked: dict[tuple[str, str], float] = {}
        self.over = 0
        self.silent_since: float | None = None
        self.problems: dict[str, str] = {}
        self.next_at = 0.0
        self._ahead: float | None = None
        self._wrong = 0.0
        self._unwritten = ""
        self._version = "unknown"
        self._last_looks: Counter[bool] = Counter()
        self._stop = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._log = _Log(self.folder / "watch.log")
        for name in ("tars_ga", "urllib3"):
            logging.getLogger(name).addHandler(self._log)
        logging.getLogger("tars_ga").setLevel(logging.INFO)
        log.info(
            "tars-ga %s watches %s to %s, step %s, %s, from %s; %d steps are there",
            __version__, format_time(self._window.start), format_time(self._window.stop),
            format_duration(self.step), self.job.parameters.release.version, self.url,
            self.answered,
        )  # fmt: skip

    def close(self) -> None:
        """Let the folder go."""
        for name in ("tars_ga", "urllib3"):
            logging.getLogger(name).removeHandler(self._log)
        self._log.close()
        self._server.close()
        self.store.close()

    def stop(self) -> None:
        """End soon; may be called by a signal's handler."""
        self._stop.set()
        self._server.end("the watch was stopped")
        if self._process is not None:
            self._process.kill()

    @property
    def url(self) -> str:
        """Where the server is."""
        return self._server.url

    @property
    def answered(self) -> int:
        """How many steps of the window all queries are answered for."""
        masks = [mask for (span, _), mask in self.store.answered.items() if span == "window"]
        return int(np.all(masks, axis=0).sum())

    @property
    def failing(self) -> dict[str, str]:
        """Why a query is not answered, by its name."""
        return {query: error for (_, query), error in self.store.errors.items() if error}

    def now(self) -> float:
        """Epoch seconds at the server; at this machine, as long as the server never said so."""
        if self._ahead is None:
            return self._clock.wall()
        return self._clock.steady() + self._ahead

    def run(self) -> bool:
        """Watch until the window is over; False if it was stopped before."""
        while not self._stop.is_set():
            if self._pass():
                log.info("the window is over")
                return True
            self._wait()
        log.info("stopped after %d of %d steps", self._looked_at, self.steps)
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
            self.recording().save(folder)
        return folder

    def recording(self) -> Recording:
        """Return what was collected, as the recording of the whole window."""
        spans = collection.with_scrape_intervals(
            self.job, self._server, {name: self._span(name) for name in self._intervals}
        )
        problems = []
        if missing := self.steps - self.answered:
            why = f": {self.problems['source']}" if "source" in self.problems else ""
            problems.append(f"{missing} of {self.steps} steps were not answered whole{why}")
        return Recording(
            server=self.url,
            version=self._version,
            software=f"tars-ga {__version__}",
            collected_at=self.store.begun_at,
            simulated=self.job.parameters.simulated,
            spans=spans,
            problems=problems,
        )

    # --- one pass

    def _pass(self) -> bool:
        """Ask for all that is over and missing, keep it and look at it; True if that was all."""
        began, self._unwritten, unanswered, silent = self.now(), "", 1, ""
        try:
            if self._version == "unknown":
                self._version = self._server.version()
            said = self._server.now()
            self._ahead = said - self._clock.steady()
            wrong = self._clock.wall() - said
            if abs(wrong - self._wrong) > JUMP:
                self._wrong = wrong
                log.warning("this machine's clock is %+.0f s from the server's: it counts", wrong)
            self.over = self._steps_over("window")
            unanswered = self._ask(self._wanted())
        except (SourceError, QueryError) as error:
            silent = str(error)
            # Never heard of the server, this machine's clock is all there is, and may be wrong.
            if self._ahead is not None:
                self.over = self._steps_over("window")
        if self._stop.is_set():
            return False
        self._note("source", silent)
        self.silent_since = (self.silent_since or began) if silent else None
        self._look()
        self._note("disk", self._unwritten)
        return not self._stop.is_set() and self._is_over(unanswered)

    def _wanted(self) -> list[_Piece]:
        """Return what is over and missing, and the last steps again, as scrapes may come late."""
        pieces = []
        for (span, query), answered in self.store.answered.items():
            wanted, over = ~answered, self._steps_over(span)
            if span == "window":
                over = self.over
                last_look = over == self.steps
                wanted[0 if last_look else max(0, min(self._looked_at, over) - RECHECK) :] = True
            wanted[over:] = False
            pieces += [
                _Piece(span, query, first, min(PIECE, stop - first))
                for start, stop in runs(wanted)
                for first in range(start, stop, PIECE)
            ]
        # Whoever waits longest comes first, so that slow queries do not keep the others back.
        return sorted(pieces, key=lambda piece: self._asked.get(piece[:2], -math.inf))

    def _ask(self, pieces: list[_Piece]) -> int:
        """Ask, and keep what is answered; return how many pieces were not.

        Raises
        ------
        SourceError
            If the server stopped to answer, or answers nothing.
        """
        began, gone = self._clock.steady(), threading.Event()
        unanswered = late = 0
        silent = ""

        def ask(piece: _Piece) -> Answer | SourceError | QueryError | None:
            if gone.is_set() or self._clock.steady() > began + max(self.step, 10):
                return None  # the next pass asks
            self._asked[piece[:2]] = began
            start = self._intervals[piece.span].start + piece.first * self.step
            stop = start + piece.steps * self.step
            try:
                return self._server.range(self._queries[piece.query], start, stop, self.step)
            except QueryError as error:
                return error
            except SourceError as error:
                gone.set()  # the first to see it says so for all
                return error

        with ThreadPoolExecutor(self.job.parameters.source.connections) as pool:
            for piece, answer in zip(pieces, pool.map(ask, pieces), strict=True):
                if isinstance(answer, Answer):
                    with self._writing():
                        late += self.store.keep(piece.span, piece.query, piece.first, answer)
                    continue
                unanswered += 1
                if isinstance(answer, SourceError):
                    silent = str(answer)
                elif answer is not None:
                    if not self.store.errors[piece[:2]]:
                        log.warning("%s: %s", piece.query, answer)
                    self.store.errors[piece[:2]] = str(answer)
        if late:
            log.info("%d steps of queries were answered anew, with late samples", late)
        if silent or (self.failing and unanswered == len(pieces)):
            raise SourceError(silent or next(iter(self.failing.values())))
        return unanswered

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Go on where nothing can be written: what is missing will be asked for again."""
        try:
            yield
        except sqlite3.OperationalError as error:
            self._unwritten = (
                f"{self.folder}: cannot be written ({error}); make room: what is missing is asked "
                "for again"
            )

    def _note(self, kind: str, text: str) -> None:
        """Keep what is wrong, and log when that begins or ends."""
        begins, ends = _PROBLEMS[kind]
        before = self.problems.pop(kind, "")
        if text:
            self.problems[kind] = text
        if text and not before:
            log.warning("%s: %s", begins, text)
        elif before and not text:
            log.info("%s", ends)

    def _is_over(self, unanswered: int) -> bool:
        """Tell whether the window is over, and all of it known or not worth waiting for."""
        silent = self.silent_since is not None
        # What was asked for counts, not what has become over since; unless nobody answers.
        if (self._steps_over("window") if silent else self.over) < self.steps:
            self._last_looks.clear()
            return False
        if self._unwritten:
            return False
        self._last_looks[silent] += 1
        if not silent:
            return not unanswered or self._last_looks[False] >= LAST_LOOKS
        if self._last_looks[True] * min(RETRY, self.step) <= GRACE * self.step:
            return False
        self.over = self.steps
        self._look()
        return not self._unwritten

    def _wait(self) -> None:
        """Wait for the next step's time, or a shorter one to ask again what failed."""
        began = self._clock.steady()
        again = self.silent_since is not None or self.failing or self._unwritten
        patience = min(RETRY, self.step) if again or self.over == self.steps else math.inf
        due = self._window.start + (self.over + 1) * self.step + settle(self.step)
        while not self._stop.is_set():
            left = patience - (self._clock.steady() - began)
            if self._ahead is not None and self.over < self.steps:
                left = min(left, due - self.now())
            self.next_at = self.now() + max(left, 0.0)
            if left <= 0:
                return
            self._clock.wait(min(left, 0.5), self._stop)

    def _steps_over(self, span: str) -> int:
        interval = self._intervals[span]
        over = (self.now() - settle(self.step) - interval.start) // self.step
        return int(min(max(over, 0), interval.seconds // self.step))

    def _span(self, name: str, steps: int | None = None) -> Span:
        whole = self._intervals[name].seconds // self.step
        return self.store.span(name, whole if steps is None else steps, self.url)

    # --- looking

    @property
    def _looked_at(self) -> int:
        """How many steps have a snapshot."""
        return self.snapshot["step"] if self.snapshot else 0

    def _look(self) -> None:
        """Write a snapshot of each step that is over and was not looked at."""
        since = self._looked_at
        if self.over <= since or self._stop.is_set():
            return
        self._read_evidence()
        baselines = [self._span(name) for name in self._intervals if name != "window"]
        try:
            looks = self._look_at(self.job, self._span("window", self.over), baselines, since)
            self._note("outlook", "")
        except (ParametersError, OSError) as error:
            if self._stop.is_set():
                return
            self._note("outlook", str(error))
            looks = [{"kpis": None, "outlook": None}] * (self.over - since)
        silent = self.silent_since
        problems = [self.problems[kind] for kind in _PROBLEMS if kind in self.problems]
        source = {
            "answers": silent is None,
            "silent_since": None if silent is None else format_time(silent),
            "answered_steps": min(self.answered, self.over),
            "failing": self.failing,
            "problem": next(iter(problems), None),
        }
        snapshots = [
            {
                "schema": SCHEMA,
                "step": step,
                "steps": self.steps,
                "taken_at": collection.utc_now(),
                "step_end": format_time(self._window.start + step * self.step),
                **look,
                "source": source,
            }
            for step, look in enumerate(looks, since + 1)
        ]
        with self._writing():
            self.store.add(snapshots)
            self.snapshot = snapshots[-1]
            log.info("%s", sentence(self.snapshot))
            for one in snapshots:
                self.told(one)

    def _look_apart(
        self, job: Job, window: Span, baselines: list[Span], since: int
    ) -> list[dict[str, Any]]:
        """Look in a process of its own; what it is asked goes there by pickle: both ends are ours.

        Raises
        ------
        OSError
            If it fails, or takes too long.
        """
        question = pickle.dumps((job, window, baselines, since))
        # A terminal's Ctrl-C is meant for the watch: hence a session of its own.
        with subprocess.Popen(
            [sys.executable, *LOOK],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        ) as self._process:  # fmt: skip
            try:
                said, failed = self._process.communicate(question, timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                raise OSError(f"the look took longer than {PATIENCE:.0f} s") from None
        if self._process.returncode:
            last = failed.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no answer"]
            raise OSError(f"the look failed ({last[0]})")
        looks: list[dict[str, Any]] = strict.loads(said)
        return looks

    def _read_evidence(self) -> None:
        """Read the parameters again: evidence and waivers come in during a day."""
        try:
            job, problem = self._reload(), ""
        except ParametersError as error:
            self._note("parameters", str(error))
            return
        if changed := differences(identity(self.job), identity(job)):
            problem = f"{', '.join(changed)} changed: this watch goes on with what it began with"
        else:
            self.job = job
        self._note("parameters", problem)
