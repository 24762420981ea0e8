"""Watching: no step is lost or doubled, whatever happens to the day, the server or the process."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console

from tars_ga_lib import collection, parameters, prometheus, recording
from tars_ga_lib.cli import watch as command
from tars_ga_lib.grammar import ParametersError
from tars_ga_lib.live import notify
from tars_ga_lib.live import watch as live
from tars_ga_lib.live.screen import Screen, sentence
from tars_ga_lib.live.watch import GRACE, RECHECK, RETRY, Clock, Watch, settle
from tars_ga_lib.parameters import Job
from tars_ga_lib.prometheus import Answer, QueryError, SourceError
from tars_ga_lib.queries import INTERVAL
from tars_ga_lib.recording import Recording, Span
from tests import watching
from tests.helpers import COUNTER, GAUGE, START, STEP, WEEK, tars_ga, write_run

# --- A real server, while the other tests run -----------------------------------------------------


STEPS_LIVE = 9


def kill_again_and_again(
    folder: Path,
) -> tuple[list[tuple[int, str]], Recording, Recording, list[int]]:
    """Return what the watches said, the recording, that of a batch collection, and the steps."""
    draw, out, said = random.Random(11), folder / "out", []
    with watching.compressed_day(
        folder, steps=STEPS_LIVE, step=2, scrape="500ms", begins_in=2
    ) as day:
        down = threading.Timer(max(0.0, day.start + 5 - time.time()), lambda: day.restart(2.5))
        down.start()
        while time.time() < day.stop:
            watch = day.watch(out, "--no-certify")
            with contextlib.suppress(subprocess.TimeoutExpired):
                watch.wait(draw.uniform(1.5, 5))
            said.append(watching.kill(watch))
        down.join()
        said.append(watching.finish(day.watch(out, "--no-certify")))
        steps = [line["step"] for line in watching.snapshots(out)]
        return said, recording.load(out), day.batch(), steps


@pytest.fixture(scope="module", autouse=True)
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[Any]]:
    """Start what takes its time at once."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(kill_again_and_again, tmp_path_factory.mktemp("killed") / "day")


# --- A day that is made up, on a clock that is turned by hand -------------------------------------


class Hands(Clock):
    """Clocks that go on only while somebody waits."""

    def __init__(self, now: float) -> None:
        self.true = now
        self.wrong: Callable[[float], float] = lambda now: 0.0
        self.on_wait: Callable[[Hands], None] = lambda clock: None

    def wall(self) -> float:
        return self.true + self.wrong(self.true)

    def steady(self) -> float:
        return self.true - 1e9

    def wait(self, seconds: float, stop: threading.Event) -> None:
        self.true += seconds
        self.on_wait(self)


@dataclass
class Server:
    """A server of two series whose samples follow from their time; it does what it is told."""

    clock: Hands
    url: str = "http://127.0.0.1:9090"
    takes: Callable[[float, int], float] = lambda now, stop: 0.0
    down: Callable[[float], bool] = lambda now: False
    late: Callable[[float, float], bool] = lambda now, at: False
    remembers: float = float("inf")
    refuses: Callable[[str, int], bool] = lambda query, stop: False
    doubts: Callable[[float], bool] = lambda now: False
    asked: list[tuple[float, str, float, float]] = field(default_factory=list)

    def version(self) -> str:
        if self.down(self.clock.true):
            raise SourceError("cannot be reached")
        return "2.42"

    def now(self) -> float:
        self.version()
        return self.clock.true

    def close(self) -> None:
        pass

    def end(self, why: str) -> None:
        pass

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def interruptible(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def scrape_intervals(self) -> list[tuple[dict[str, str], float]]:
        return []

    def spacings(self, *_: object) -> list[tuple[dict[str, str], Any]]:
        return []

    def range(self, query: str, start: int, stop: int, step: int) -> Answer:
        self.asked.append((self.clock.true, query, start, stop))
        self.clock.true += self.takes(self.clock.true, stop)
        self.version()
        if self.refuses(query, stop):
            raise QueryError("HTTP 422: simulated failure")
        now = self.clock.true
        times = np.arange(start + step, stop + 1, step, dtype=float)
        values = np.array([times % 1000 + 1, times % 777 + 1])
        # What is in the future is answered too, as by a real server: from the last scrape.
        values[:, times > now] = 0.5
        forgotten = now - self.remembers if start >= START else 0.0
        hidden = np.array([self.late(now, at) or at <= forgotten for at in times], bool)
        values[:, hidden] = np.nan
        labels = [{"region": "east", "service": name} for name in ("api", "web")]
        answer = Answer(labels, values, [], 0, np.zeros(len(times), np.int64))
        if self.doubts(now):
            answer.values, answer.warnings = values / 2, ["simulated: not whole"]
        return answer


def unseen(job: Job, window: Span, baselines: list[Span], since: int) -> list[dict[str, Any]]:
    """Look at nothing: what a look sees has its own tests."""
    return [{"kpis": None, "outlook": None}] * (window.steps - since)


@dataclass
class Day:
    """A made-up day, to be watched as often as one likes."""

    folder: Path
    file: Path
    clock: Hands
    server: Server
    told: list[dict[str, Any]] = field(default_factory=list)
    look: Any = unseen

    def change(self, **options: Any) -> None:
        document = yaml.safe_load(self.file.read_text("utf-8"))
        for key, value in options.items():
            document[key] |= value
        self.file.write_text(yaml.safe_dump(document), encoding="utf-8")

    def load(self) -> Job:
        return parameters.load(self.file, now=self.clock.true, running=True)

    @contextlib.contextmanager
    def watch(self, until: int = 0) -> Iterator[Watch]:
        """Open a watch; one that stops when it has seen a step, if one is given."""

        def told(snapshot: dict[str, Any]) -> None:
            self.told.append(snapshot)
            if snapshot["step"] == until:
                found.stop()

        found = Watch(self.folder, self.load, clock=self.clock, told=told, look=self.look)
        with contextlib.closing(found):
            yield found

    def run(self) -> Recording:
        with self.watch() as found:
            assert found.run()
            return found.recording()

    def truth(self) -> Recording:
        """Return what a batch collection gets when all is over."""
        with pytest.MonkeyPatch.context() as patch:
            after = Server(Hands(START + 10 * WEEK))
            patch.setattr(prometheus, "connect", lambda source, **_: after)
            return collection.collect(parameters.load(self.file, now=after.clock.true))

    def whole(self, found: Recording | None = None) -> None:
        """See that the recording is that of a batch collection, with a line for each step."""
        same(found or self.run(), self.truth())
        assert [line["step"] for line in self.lines()] == list(range(1, STEPS + 1))

    def lines(self) -> list[dict[str, Any]]:
        return watching.snapshots(self.folder)

    def log(self) -> str:
        return (self.folder / "watch" / "watch.log").read_text("utf-8")


KPIS = {
    "memory": GAUGE | {"value": "sum by ($by) (memory{$match})"},
    "requests": COUNTER | {"increase": "sum by ($by) (increase(requests{$match}[$step]))"},
}
STEPS = 24


def at(steps: float) -> float:
    """Time of the end of a step of the window."""
    return START + steps * STEP


@pytest.fixture
def day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Day:
    clock = Hands(START - 400.0)
    server = Server(clock)
    file = write_run(
        tmp_path / "parameters",
        kpis_=KPIS,
        criteria_={"memory": {"title": "Memory", "kpi": "memory", "target": "> 0"}},
        window={"start": "2026-11-20T00:00:00Z", "duration": f"{STEPS * STEP}s", "step": "5m"},
        baseline={"start": "2026-11-13T00:00:00Z", "duration": f"{STEPS * STEP}s"},
    )
    monkeypatch.setattr(prometheus, "connect", lambda source, **_: server)
    return Day(tmp_path / "out", file, clock, server)


def same(one: Recording, other: Recording) -> None:
    """See that two recordings hold the same series and samples, and doubt the same."""
    assert one.problems == other.problems
    assert [*one.spans] == [*other.spans]
    for name, span in one.spans.items():
        twin = other.spans[name]
        assert (span.start, span.stop, span.step) == (twin.start, twin.stop, twin.step)
        assert [*span.sets] == [*twin.sets]
        for key, each in span.sets.items():
            mine, theirs = each.provenance, twin.sets[key].provenance
            assert each.labels == twin.sets[key].labels, (name, key)
            np.testing.assert_array_equal(each.values, twin.sets[key].values, f"{name} {key}")
            assert (mine.query, mine.nonfinite, mine.warnings, mine.error, mine.digest) == (
                theirs.query, theirs.nonfinite, theirs.warnings, theirs.error, theirs.digest,
            )  # fmt: skip


def test_an_undisturbed_day(day: Day) -> None:
    day.whole()
    assert day.told == day.lines()
    # The baseline once, at the start; then each step and the few before it, at its time.
    window = [ask for ask in day.server.asked if "memory" in ask[1] and ask[2] >= at(-1)]
    baseline = [ask for ask in day.server.asked if ask[3] < START]
    assert len(baseline) == 4  # memory, requests, targets and scrapes
    assert len(window) == STEPS
    for k, (asked_at, _, start, stop) in enumerate(window[:-1], 1):
        assert asked_at == at(k) + settle(STEP)
        assert stop == at(k)
        assert start == at(max(0, k - 1 - RECHECK))
    assert window[-1][2:] == (START, at(STEPS))  # the last look asks for all


def slow_last_step(day: Day) -> None:
    """The last pass but one takes so long that the window is over when it ends."""
    before = at(STEPS - 1)
    day.server.takes = lambda now, stop: (
        STEP + 50.0 if stop == before and before < now < before + 100 else 0.0
    )


def later_than_the_recheck(day: Day) -> None:
    """Samples that come so late that only the last look finds them."""
    day.server.late = lambda now, when: START < when < at(12) and now < at(20)


def forgetful(day: Day) -> None:
    """A server that began anew, or whose retention is shorter than the day."""
    day.server.remembers = 6 * STEP


def stumbling(day: Day) -> None:
    """The last look fails once."""
    tried: list[str] = []

    def refuses(query: str, stop: int) -> bool:
        first = stop == at(STEPS) and "memory" in query and not tried
        tried.extend([query] * first)
        return first

    day.server.refuses = refuses


def asleep(day: Day) -> None:
    """A machine that sleeps for five steps."""

    def sleep(clock: Hands) -> None:
        if at(4.2) < clock.true < at(4.3):
            clock.true += 5 * STEP

    day.clock.on_wait = sleep


def begun_late(day: Day) -> None:
    """A window that has begun is caught up with."""
    day.clock.true = at(10.5)


def begun_after(day: Day) -> None:
    """A window that is over is collected at once."""
    day.clock.true = START + 2.0 * WEEK


@pytest.mark.parametrize(
    "disturb",
    [slow_last_step, later_than_the_recheck, forgetful, stumbling, asleep, begun_late, begun_after],
)
def test_a_day_that_is_disturbed(day: Day, disturb: Callable[[Day], None]) -> None:
    disturb(day)
    began = day.clock.true
    day.whole()
    assert day.clock.true <= max(at(STEPS + 2), began)


def test_deadlines_do_not_creep(day: Day) -> None:
    """Each question takes 40 s, and once 900: what is late delays nothing but itself."""
    once = iter([900.0])
    day.server.takes = lambda now, stop: next(once, 40.0) if stop == at(10) else 40.0
    day.whole()
    begun = {ask[0] for ask in day.server.asked if ask[0] > START and "memory" in ask[1]}
    on_time = [k for k in range(1, STEPS + 1) if at(k) + settle(STEP) in begun]
    assert len(on_time) >= STEPS - 4
    assert {15, 20, 23, 24} <= set(on_time)


def test_a_server_that_is_down_for_a_while(day: Day) -> None:
    day.server.down = lambda now: now < at(-0.5) or at(5) < now < at(9)
    day.whole()
    assert "the source does not answer: cannot be reached" in day.log()
    assert "the source answers again" in day.log()
    silent = [line for line in day.lines() if not line["source"]["answers"]]
    assert [line["step"] for line in silent] == [5, 6, 7, 8]
    assert {line["source"]["silent_since"] for line in silent} == {"2026-11-20T00:25:30Z"}


def test_a_server_that_never_comes_back_is_not_waited_for_all_night(day: Day) -> None:
    day.server.down = lambda now: True
    found = day.run()
    assert at(STEPS + GRACE) < day.clock.true < at(STEPS + GRACE + 2)
    problem = f"{STEPS} of {STEPS} steps were not answered whole: cannot be reached"
    assert found.problems == [problem]
    for _, one in found.provenance():
        assert (one.samples, one.series) == (0, 0)
        if one.id != INTERVAL:  # it is not asked for step by step
            assert f"never answered for {STEPS} of {STEPS} steps" in one.error
    assert [line["step"] for line in day.lines()] == list(range(1, STEPS + 1))


def test_a_query_that_fails_stops_no_other(day: Day) -> None:
    day.server.refuses = lambda query, stop: "requests" in query
    with day.watch() as watch:
        assert watch.run()
        found = watch.recording()
        assert watch.silent_since is None
        assert watch.failing == {"requests.increase": "HTTP 422: simulated failure"}
    truth = day.truth().window.sets["memory.value"]
    assert found.window.sets["memory.value"].provenance.digest == truth.provenance.digest
    assert "HTTP 422" in found.window.sets["requests.increase"].provenance.error
    assert day.clock.true < at(STEPS + 2) + 60


def test_a_slow_server_is_asked_for_as_much_as_a_step_allows(day: Day) -> None:
    """Of four queries that together take longer than a step, none starves."""
    day.server.takes = lambda now, stop: 200.0
    day.change(source={"connections": 1})
    day.whole()
    asked = np.array([ask[0] for ask in day.server.asked if ask[3] >= START])
    assert (np.diff(asked) >= 200).all()
    assert len(asked) >= STEPS * STEP / 200  # all of a step's time is used


def test_a_server_that_is_gone_is_not_asked_by_all(day: Day) -> None:
    day.change(source={"connections": 1})
    day.clock.true = at(5.5)
    day.server.takes = lambda now, stop: 1.0
    day.server.down = lambda now: now > at(5.5)
    with day.watch() as watch:
        watch._pass()
        assert watch.problems == {"source": "cannot be reached"}
        assert watch.silent_since == at(5.5)
    assert len(day.server.asked) == 1


def test_a_server_that_answers_nothing_is_silent(day: Day) -> None:
    """It says what time it is, and refuses all else."""
    day.server.refuses = lambda query, stop: True
    day.clock.true = at(5.5)
    with day.watch() as watch:
        watch._pass()
        assert watch.silent_since is not None
        day.server.refuses = lambda query, stop: False
        watch._wait()
        # It is asked again soon, not at the next step only.
        assert day.clock.true == pytest.approx(at(5.5) + RETRY)
        watch._pass()
        assert watch.silent_since is None
        assert watch.answered == 5


def test_a_late_scrape_is_collected_again(day: Day) -> None:
    """Each step's samples come a step and a half late; the last look is not needed for it."""
    day.server.late = lambda now, when: now < min(when + 1.5 * STEP, at(STEPS))
    steps = STEPS - 5
    with day.watch(until=STEPS - 2) as watch:
        assert not watch.run()
        part = watch._span("window", steps)
    for key, each in day.truth().window.cut(START, int(at(steps)), STEP, "window").sets.items():
        if key != INTERVAL:  # which the end of the watch brings
            np.testing.assert_array_equal(each.values, part.sets[key].values)
    day.whole()
    assert "late samples" in day.log()


def test_a_doubtful_answer_replaces_no_good_one(day: Day) -> None:
    day.server.doubts = lambda now: at(8.5) < now < at(12)
    with day.watch(until=11) as watch:
        assert not watch.run()
        memory = watch._span("window", 11).sets["memory.value"]
    assert memory.provenance.warnings == ["simulated: not whole"]
    truth = day.truth().window.sets["memory.value"]
    np.testing.assert_array_equal(memory.values[:, :8], truth.values[:, :8])
    day.whole()  # the doubt is gone with a whole answer


def test_wrong_clocks(day: Day) -> None:
    """This machine's clock is an hour ahead, then two behind; the server's counts."""
    day.clock.wrong = lambda now: 3600.0 if now < at(7) else -7200.0 if now < at(15) else 0.0
    day.whole()
    for wrong in ("+3600", "-7200", "+0"):
        assert f"this machine's clock is {wrong} s from the server's" in day.log()
    # No step was asked for before it was over.
    assert all(ask[3] <= ask[0] - 20 for ask in day.server.asked)


def test_a_wrong_clock_before_the_server_answers(day: Day) -> None:
    """Started again while the server is down, on a machine whose clock is a day ahead."""
    with day.watch(until=5) as watch:
        assert not watch.run()
    day.clock.wrong = lambda now: 86400.0
    back = day.clock.true + 4 * STEP
    day.server.down = lambda now: now < back
    day.whole()
    # Nothing was looked at before somebody had said what time it is.
    assert all(line["source"]["answers"] for line in day.lines())


def test_killed_anywhere_it_goes_on(day: Day, tmp_path: Path) -> None:
    """Twenty times: the folder as a kill leaves it, its last writes cut off, on any machine."""
    draw, lost, last = random.Random(7), 0, 0
    for kill in range(20):
        with day.watch(until=last + 1 + draw.randrange(2)) as watch:
            assert not watch.run()
            moved = tmp_path / f"moved {kill}"
            shutil.copytree(day.folder, moved)
        writes = moved / "watch" / "watch.sqlite-wal"
        content = writes.read_bytes()
        writes.write_bytes(content[: len(content) - draw.choice((0, draw.randrange(20_000)))])
        before, day.folder = day.lines(), moved
        last = len(day.lines())
        lost += len(before) > last
        day.clock.true += draw.choice((0, 0, 2 * STEP))
    day.whole()
    assert lost > 2


def test_a_finished_watch_started_again(day: Day) -> None:
    first = day.run()
    day.whole(first)
    again = day.run()
    assert again.collected_at == first.collected_at
    day.whole(again)


def test_a_full_disk(day: Day) -> None:
    """In the day and at its end: nothing is over before all is written."""
    (day.folder / "watch").mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(day.folder / "watch" / "watch.sqlite")) as small:
        small.executescript("PRAGMA page_size = 512; VACUUM;")
    seen: list[tuple[bool, str]] = []

    def fill(clock: Hands) -> None:
        full = at(6) < clock.true < at(9) or at(STEPS) < clock.true < at(STEPS + 3)
        watch.store._db.execute(f"PRAGMA max_page_count = {1 if full else 1_000_000}")
        seen.append((full, watch.problems.get("disk", "")))

    day.clock.on_wait = fill
    with day.watch() as watch:
        assert watch.run()
        found = watch.recording()
    day.whole(found)
    assert day.clock.true >= at(STEPS + 3)
    assert {full for full, problem in seen if problem} == {True, False}
    (problem,) = {problem for _, problem in seen if problem}
    assert "cannot be written (database or disk is full); make room" in problem
    assert day.log().count("cannot be written (database or disk is full)") == 2
    assert day.log().count("all can be kept again") == 2


def test_other_parameters_are_refused(day: Day) -> None:
    with day.watch(until=3) as watch:
        watch.run()
    day.change(source={"prometheus": "http://127.0.0.1:9091"})  # it may have moved
    with day.watch():
        pass
    criteria = day.file.parent / "criteria.yaml"
    criteria.write_text(criteria.read_text("utf-8").replace("> 0", "> 1"), encoding="utf-8")
    with (
        pytest.raises(ParametersError, match=r"with other parameters \(criteria\.yaml\); use"),
        day.watch(),
    ):
        pass
    text = day.file.read_text("utf-8")
    day.file.write_text(text.replace("- web", "- other"), encoding="utf-8")
    with pytest.raises(ParametersError, match=r"\(criteria\.yaml, services\)"), day.watch():
        pass


def test_only_one_watches(day: Day) -> None:
    with (
        day.watch(),
        pytest.raises(ParametersError, match="another process watches there"),
        day.watch(),
    ):
        pass
    with day.watch():
        pass


def test_evidence_is_read_again(day: Day) -> None:
    """A file that is broken while it is edited is told, and the last good one kept."""
    criteria = day.file.parent / "criteria.yaml"
    good = criteria.read_text("utf-8")
    changes = {3: "criteria: {", 4: good.replace("> 0", "> 7"), 6: good}

    def look(job: Job, window: Span, *_: Any) -> list[dict[str, Any]]:
        assert str(job.criteria["memory"].target) == "> 0"
        if window.steps in changes:
            criteria.write_text(changes[window.steps], encoding="utf-8")
        return [{"kpis": None, "outlook": None}]

    day.look = look
    with day.watch(until=7) as watch:
        assert not watch.run()
    problems = {line["step"]: line["source"]["problem"] for line in day.lines()}
    assert "criteria.yaml, line 2: " in problems[4]
    assert "criteria.yaml changed" in problems[5]
    assert "criteria.yaml changed" in problems[6]
    assert problems[3] is problems[7] is None


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("import sys; sys.exit('no such file')", "the look failed (no such file)"),
        ("raise MemoryError", "the look failed (MemoryError)"),
        ("import os; os._exit(7)", "the look failed (no answer)"),
        ("import time; time.sleep(60)", "the look took longer than 0 s"),
    ],
)
def test_a_look_that_fails_is_told(
    day: Day, monkeypatch: pytest.MonkeyPatch, program: str, problem: str
) -> None:
    day.look, day.clock.true = None, START + 2.0 * WEEK
    monkeypatch.setattr(live, "LOOK", ["-c", program])
    monkeypatch.setattr(live, "PATIENCE", 0.3 if "sleep" in program else 60)
    day.whole()
    assert {line["source"]["problem"] for line in day.lines()} == {problem}


def test_a_look_is_stopped_with_its_watch(day: Day, monkeypatch: pytest.MonkeyPatch) -> None:
    day.look, day.clock.true = None, START + 2.0 * WEEK
    monkeypatch.setattr(live, "LOOK", ["-c", "import time; time.sleep(60)"])
    with day.watch() as watch:
        threading.Timer(1, watch.stop).start()
        assert not watch.run()
    assert day.lines() == []
    assert "outlook" not in day.log()


# --- The screen -----------------------------------------------------------------------------------


def outlook_of(**changes: Any) -> dict[str, Any]:
    criterion = {
        "title": "A criterion with a title that is long enough to be cut", "verdict": "pass",
        "mandatory": True, "value": 0.99, "unit": "ratio", "target": ">= 0.999",
    }  # fmt: skip
    finding = {
        "id": "r/east", "rule": "r", "name": "Memory use, us-central-1 / orchestration-agent-two",
        "verdict": "fail", "measure": "relative", "drift": 0.1234, "unit": "bytes",
    }  # fmt: skip
    budget = {"share_spent": 1.25, "minutes": {"spent": 1.8, "allowed": 1.44, "left": -0.36}}
    alert = {"name": "A" * 30, "severity": "critical", "region": "us-central-1",
             "service": "orchestration-agent", "start": "2026-11-20T01:00:00Z"}  # fmt: skip
    return {
        "decision": "NOT CERTIFIED",
        "why": "Error rate is 0.11 %, and its target is < 0.1 %; " * 6,
        "criteria": [criterion | {"verdict": v} for v in ("pass", "fail", "no_data") * 5],
        "drift": {
            "counts": {"findings": 12, "evaluations": 40, "missing": 3},
            "worst": [finding | {"rule": f"r{i // 2}", "id": f"r{i}"} for i in range(10)],
            "first_alarms": {"r0": "2026-11-20T03:30:00Z"},
        },
        "slo": {
            "firing": ["availability/all/page_1h"] * 9,
            "exhausted": [],
            "objectives": {
                f"o{i}": {"title": "Availability", "budget": {"whole_window": budget}}
                for i in range(5)
            },
        },
        "alerts": {"reason": None, "count": 7, "known": 0.9, "firing": [alert] * 5},
        "coverage": {"samples": 0.993},
    } | changes


def shown(day: Day, snapshot: Any, **state: Any) -> list[str]:
    console = Console(width=80, height=24, force_terminal=True, color_system=None)
    with day.watch() as watch:
        watch.snapshot = snapshot
        for key, value in state.items():
            setattr(watch, key, value)
        with console.capture() as capture:
            console.print(Screen(watch))
    return capture.get().splitlines()


def test_the_screen_fits(day: Day) -> None:
    snapshot = {"step": 20, "step_end": "2026-11-20T01:40:00Z", "outlook": outlook_of()}
    cut = {"disk": "no room", "source": "http://127.0.0.1:9090: cannot be reached; " + "x" * 80}
    lines = shown(day, snapshot, over=20, silent_since=START + 6000.0, problems=cut)
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for part in (
        "T.A.R.S. v1.0.1", "step 20 of 24, 5m each", "does not answer since 2026-11-20T01:40:00Z",
        "If it ended at 01:40: NOT CERTIFIED", "fail", "+ 9 more", "-25% left", "1.8 of 1.4 min",
        "burning            availability/all/page_1h", "+12.3\u00a0%", "sure since 03:30",
        "critical", "since 01:00", "! no room",
    ):  # fmt: skip
        assert part in text, f"{part}\n{text}"


def test_the_screen_before_the_first_step(day: Day) -> None:
    lines = shown(day, None)
    assert "begins in 6\u00a0min\u00a040\u00a0s" in lines[1]
    assert "no step is over yet" in lines[-1]


def test_what_is_not_known_is_not_good(day: Day) -> None:
    nothing = outlook_of(
        drift={"counts": {}, "worst": [], "first_alarms": {}},
        slo={"firing": [], "exhausted": [],
             "objectives": {"a": {"title": "Availability", "budget": {"whole_window": None}}}},
        alerts={"reason": "nothing shows it", "count": None, "known": 0.0, "firing": []},
    )  # fmt: skip
    source = {"answers": True, "answered_steps": 1}
    line = {"step": 1, "steps": 9, "step_end": "T" * 20, "source": source, "outlook": nothing}
    assert "drift NO DATA; alerts NO DATA" in sentence(line)
    assert "budget" not in sentence(line)
    text = "\n".join(shown(day, line))
    assert text.count("NO DATA") == 3
    assert "none firing" not in text
    assert "no finding" not in text
    for missing in (40, 30):
        nothing["drift"]["counts"] = {"findings": 0, "evaluations": 40, "missing": missing}
        text = "\n".join(shown(day, line))
        assert ("no finding so far" in text) == (missing < 40)
        assert ("10 compared" in text and "30 without data" in text) == (missing < 40)


# --- The command ----------------------------------------------------------------------------------


def test_bad_input_is_refused(day: Day, tmp_path: Path) -> None:
    """Before anything is written."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").touch()
    with pytest.raises(ParametersError, match="not a run's"):
        command.watch(day.file, tmp_path / "theirs")
    with pytest.raises(ParametersError, match="there is no such file"):
        command.watch(tmp_path / "none.yaml", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_only_the_window_may_be_running(day: Day) -> None:
    """A baseline may end when the window begins, but not later than the window."""
    with pytest.raises(ParametersError, match=r"window: it ends at .* in the future"):
        parameters.load(day.file, now=START + 10.0)
    text = day.file.read_text("utf-8")
    day.file.write_text(text.replace("2026-11-13T00:00:00Z", "2026-11-19T22:00:00Z"), "utf-8")
    assert day.load().parameters.baseline_intervals()[0].stop == START
    day.file.write_text(text.replace("2026-11-13T00:00:00Z", "2026-11-20T02:00:00Z"), "utf-8")
    with pytest.raises(ParametersError, match="baseline: it ends at 2026-11-20T04:00:00Z"):
        day.load()


def test_a_recording_cannot_be_watched(tmp_path: Path) -> None:
    file = write_run(tmp_path / "parameters", source={"recording": "somewhere"})
    done = tars_ga("watch", file, "--output", tmp_path / "out")
    assert (done.returncode, "needs 'prometheus'" in done.stderr) == (2, True)
    assert not (tmp_path / "out").exists()


# --- What was started first -----------------------------------------------------------------------


def test_killed_again_and_again(killed: Future[Any]) -> None:
    """By SIGKILL, at any moment, while the server is down for a while too."""
    said, found, batch, steps = killed.result()
    *dead, (code, last) = said
    assert code == 0, last
    assert len(dead) >= 3
    assert {number for number, _ in dead} <= {-9, 0}
    assert watching.differences(found, batch) == [], watching.shown(said)
    assert steps == list(range(1, STEPS_LIVE + 1))
    assert sum(one.samples for _, one in found.provenance()) > 50


# --- Who hears of it ------------------------------------------------------------------------------


def told_of(day: Day, silent: str | None = None, **changes: Any) -> list[tuple[str, str, str]]:
    snapshot = {
        "step": 20, "steps": 24, "step_end": "2026-11-20T01:40:00Z",
        "source": {"answers": True, "silent_since": None}, "outlook": outlook_of(),
    } | changes  # fmt: skip
    events = notify.of_snapshot(day.load().parameters, snapshot, silent)
    assert len({event.key for event in events}) == len(events)
    return [(event.kind, event.severity, event.text) for event in events]


def test_what_is_sure_is_told(day: Day) -> None:
    (finding,) = told_of(day)
    assert finding[:2] == ("critical_finding", "error")
    assert "Memory use, us-central-1 / orchestration-agent-two" in finding[2]
    unsure = outlook_of()
    unsure["drift"]["first_alarms"] = {}
    assert told_of(day, outlook=unsure) == []
    unsure["drift"]["worst"][3]["measure"] = "exact"
    assert len(told_of(day, outlook=unsure)) == 1
    for one in unsure["drift"]["worst"]:
        one["verdict"] = "warn"
    assert told_of(day, outlook=unsure) == []


def test_a_spent_budget_and_lost_data_are_told(day: Day) -> None:
    spent = outlook_of(drift={"worst": [], "first_alarms": {}})
    spent["slo"]["exhausted"] = ["availability/all", "errors/east"]
    assert [kind for kind, _, _ in told_of(day, outlook=spent)] == ["budget_exhausted"] * 2
    since = "2026-11-20T01:00:00Z"
    lost = {"answers": False, "silent_since": since}
    assert told_of(day, outlook=None, source=lost) == [
        ("data_lost", "error", f"The source does not answer since {since}.")
    ]
    (back,) = told_of(day, since, outlook=None)
    assert back[:2] == ("data_lost", "info")
    assert told_of(day, outlook=None) == []


def test_an_event_is_told_once(day: Day, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[str] = []

    def tell(channels: Any, event: notify.Event, log: Path) -> list[notify.Receipt]:
        keys.append(event.key)
        if len(keys) == 1:
            raise OSError("the disk is full")  # and stops no other
        return []

    monkeypatch.setattr(notify, "tell", tell)
    teller = notify.Teller(Any, day.load().parameters, day.folder / "receipts")  # type: ignore[arg-type]
    for since in ("2026-11-20T01:00:00Z", "2026-11-20T01:00:00Z", None, None):
        teller.hear(
            {"step": 1, "steps": 24, "step_end": "2026-11-20T01:40:00Z", "outlook": None,
             "source": {"answers": since is None, "silent_since": since}}
        )  # fmt: skip
    teller.close(30)
    assert len(keys) == len(set(keys)) == 2
