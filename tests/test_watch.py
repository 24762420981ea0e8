"""Watching: no step is lost or doubled, whatever happens to the day, the server or the process."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console

from tars_ga_lib import collection, criteria, drift, kpis, parameters, prometheus, recording
from tars_ga_lib.cli import watch as screen
from tars_ga_lib.grammar import ParametersError
from tars_ga_lib.live import alarms, answers, apart, outlook
from tars_ga_lib.live.clocks import Clock
from tars_ga_lib.live.store import Journal, Lines
from tars_ga_lib.live.watch import GRACE, RECHECK, RETRY, Watch, sentence, settle
from tars_ga_lib.parameters import BaselineRun, Job
from tars_ga_lib.prometheus import Answer, QueryError, SourceError
from tars_ga_lib.queries import INTERVAL, requests
from tars_ga_lib.recording import Recording
from tests import watching
from tests.helpers import COUNTER, GAUGE, ROOT, START, STEP, WEEK, tars_ga, write_run

# --- A real server, while the other tests run -----------------------------------------------------


@dataclass
class Killed:
    """What became of a watch that was killed again and again."""

    said: list[tuple[int, str]] = field(default_factory=list)
    problem: str = ""
    found: Recording | None = None
    batch: Recording | None = None
    steps: list[int] = field(default_factory=list)


STEPS_LIVE = 9


def _kill_again_and_again(folder: Path, into: Killed) -> None:
    draw, out = random.Random(11), folder / "out"
    try:
        with watching.compressed_day(
            folder, steps=STEPS_LIVE, step=2, scrape="500ms", begins_in=2
        ) as day:
            down = threading.Timer(max(0.0, day.start + 5 - time.time()), lambda: day.restart(2.5))
            down.start()
            while time.time() < day.stop:
                watch = day.watch(out, "--no-certify")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    watch.wait(draw.uniform(1.5, 5))
                into.said.append(watching.kill(watch))
            down.join()
            into.said.append(watching.finish(day.watch(out, "--no-certify")))
            into.found = recording.load(out)
            into.batch = day.batch()
            into.steps = watching.steps_told(out)
    except BaseException as error:
        into.problem = repr(error)
        raise


@pytest.fixture(scope="module", autouse=True)
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Killed, threading.Thread]]:
    """Start what takes its time at once."""
    into = Killed()
    thread = threading.Thread(
        target=_kill_again_and_again, args=(tmp_path_factory.mktemp("killed") / "day", into)
    )
    thread.start()
    yield into, thread
    thread.join()


# --- A day that is made up, on a clock that is turned by hand -------------------------------------


class Hands(Clock):
    """Clocks that go on only while somebody waits."""

    def __init__(self, now: float) -> None:
        self.true = now
        self.wrong = 0.0
        self.turns: list[Callable[[], None]] = []

    def wall(self) -> float:
        return self.true + self.wrong

    def steady(self) -> float:
        return self.true - 1e9

    def wait(self, seconds: float, stop: threading.Event) -> None:
        self.true += seconds


@dataclass
class Server:
    """A server of two series whose samples follow from their time; it does what it is told."""

    clock: Hands
    url: str = "http://127.0.0.1:9090"
    takes: float = 0.0
    down: bool = False
    forgets_before: float = 0.0
    late: Callable[[float], bool] = lambda at: False
    refuses: set[str] = field(default_factory=set)
    warns: list[str] = field(default_factory=list)
    asked: list[tuple[float, str, float, float]] = field(default_factory=list)

    def version(self) -> str:
        if self.down:
            raise SourceError("cannot be reached")
        return "2.42"

    def now(self) -> float:
        self.version()
        return self.clock.true

    def close(self) -> None:
        pass

    def end(self, why: str) -> None:
        pass

    def scrape_intervals(self) -> list[tuple[dict[str, str], float]]:
        return []

    def spacings(self, *_: object) -> list[tuple[dict[str, str], Any]]:
        return []

    def range(self, query: str, start: int, stop: int, step: int) -> Answer:
        self.asked.append((self.clock.true, query, start, stop))
        self.clock.true += self.takes
        self.version()
        if any(part in query for part in self.refuses):
            raise QueryError("HTTP 422: simulated failure")
        times = np.arange(start + step, stop + 1, step, dtype=float)
        values = np.array([times % 1000 + 1, times % 777 + 1])
        hidden = np.array([self.late(at) or at <= self.forgets_before for at in times], bool)
        # What is in the future is answered too, as by a real server: from the last scrape.
        values[:, times > self.clock.true] = 0.5
        values[:, hidden] = np.nan
        labels = [{"region": "east", "service": name} for name in ("api", "web")]
        return Answer(labels, values, list(self.warns), 0, np.zeros(len(times), np.int64))


class Connected(Server):
    """The same, as a batch collection uses it."""

    def __enter__(self) -> Connected:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def interruptible(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


@dataclass
class Day:
    """A made-up day, to be watched as often as one likes."""

    folder: Path
    file: Path
    clock: Hands
    server: Server
    told: list[dict[str, Any]] = field(default_factory=list)

    def source(self, **options: Any) -> None:
        document = yaml.safe_load(self.file.read_text("utf-8"))
        document["source"] |= options
        self.file.write_text(yaml.safe_dump(document), encoding="utf-8")

    def load(self) -> Job:
        return parameters.load(self.file, now=self.clock.true, running=True)

    def watch(self) -> Watch:
        return Watch(self.folder, self.load, clock=self.clock, told=self.told.append)

    def run(self) -> Recording:
        with self.watch() as found:
            assert found.run()
            return found.recording()

    def truth(self) -> Recording:
        """Return what a batch collection gets when all is over."""
        with pytest.MonkeyPatch.context() as patch:
            after = Connected(Hands(START + 10 * WEEK))
            patch.setattr(prometheus, "connect", lambda source, **_: after)
            return collection.collect(parameters.load(self.file, now=after.clock.true))

    def lines(self) -> list[dict[str, Any]]:
        text = (self.folder / "watch" / "snapshots.jsonl").read_text("utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def log(self) -> str:
        return (self.folder / "watch" / "watch.log").read_text("utf-8")


KPIS = {
    "memory": GAUGE | {"value": "sum by ($by) (memory{$match})"},
    "requests": COUNTER | {"increase": "sum by ($by) (increase(requests{$match}[$step]))"},
}
STEPS = 24


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
    monkeypatch.setattr(apart, "call", lambda function, argument, stopped: function(argument))
    monkeypatch.setattr(outlook, "look", outlook.without)
    found = Day(tmp_path / "out", file, clock, server)

    return found


def same(one: Recording, other: Recording) -> None:
    """See that two recordings hold the same series and samples, and doubt the same."""
    assert list(one.spans) == list(other.spans)
    assert one.problems == other.problems
    for name, span in one.spans.items():
        twin = other.spans[name]
        assert (span.start, span.stop, span.step) == (twin.start, twin.stop, twin.step)
        assert list(span.sets) == list(twin.sets)
        for key, each in span.sets.items():
            mine, theirs = each.provenance, twin.sets[key].provenance
            assert each.labels == twin.sets[key].labels, (name, key)
            np.testing.assert_array_equal(each.values, twin.sets[key].values, f"{name} {key}")
            assert (mine.query, mine.nonfinite, mine.warnings, mine.error, mine.digest) == (
                theirs.query, theirs.nonfinite, theirs.warnings, theirs.error, theirs.digest,
            )  # fmt: skip


def whole(day: Day) -> None:
    """See that there is one line for each step, in order."""
    assert [line["step"] for line in day.lines()] == list(range(1, STEPS + 1))


def test_an_undisturbed_day(day: Day) -> None:
    same(day.run(), day.truth())
    whole(day)
    assert day.told == day.lines()
    # The baseline once, at the start; then each step and the few before it, at its time.
    window = [ask for ask in day.server.asked if "memory" in ask[1] and ask[2] >= START - STEP]
    baseline = [ask for ask in day.server.asked if ask[3] < START]
    assert len(baseline) == 4  # memory, requests, targets and scrapes
    assert len(window) == STEPS
    for k, (at, _, start, stop) in enumerate(window[:-1], 1):
        assert at == START + k * STEP + settle(STEP)
        assert stop == START + k * STEP
        assert start == START + max(0, k - 1 - RECHECK) * STEP
    assert window[-1][2:] == (START, START + STEPS * STEP)  # the last look asks for all


def test_deadlines_do_not_creep(day: Day) -> None:
    """Each question takes 40 s, and once 900: what is late delays nothing but itself."""
    day.server.takes = 40

    def once(at: float) -> bool:
        if at == START + 10 * STEP and day.clock.true < START + 11 * STEP:
            day.clock.true += 900
        return False

    day.server.late = once
    same(day.run(), day.truth())
    whole(day)
    begun = {at for at, query, *_ in day.server.asked if at > START and "memory" in query}
    on_time = [k for k in range(1, STEPS + 1) if START + k * STEP + settle(STEP) in begun]
    assert len(on_time) >= STEPS - 4
    assert {12 + 3, 20, 23, 24} <= set(on_time)


def test_a_step_that_ends_while_the_one_before_is_asked_for(day: Day) -> None:
    """The last pass but one takes so long that the window is over when it ends."""
    before = START + (STEPS - 1) * STEP

    def slow(at: float) -> bool:
        if at == before and before < day.clock.true < before + 100:
            day.clock.true += STEP + 50
        return False

    day.server.late = slow
    same(day.run(), day.truth())
    whole(day)


def test_a_window_that_has_begun_is_caught_up_with(day: Day) -> None:
    day.clock.true = START + 10.5 * STEP
    same(day.run(), day.truth())
    whole(day)
    assert {at for at, *_ in day.server.asked[:4]} == {START + 10.5 * STEP}
    assert [line["step"] for line in day.told[:10]] == list(range(1, 11))


def test_a_window_that_is_over_is_collected_at_once(day: Day) -> None:
    day.clock.true = began = START + 2.0 * WEEK
    same(day.run(), day.truth())
    whole(day)
    assert day.clock.true == began


def test_a_server_that_is_down_for_a_while(day: Day) -> None:
    class Falling(Server):
        def version(self) -> str:
            passed = (self.clock.true - START) / STEP
            self.down = 5 < passed < 9 or passed < -0.5
            return super().version()

    day.server.__class__ = Falling
    same(day.run(), day.truth())
    whole(day)
    assert "the source does not answer: cannot be reached" in day.log()
    assert "the source answers again" in day.log()
    silent = [line["step"] for line in day.lines() if not line["source"]["answers"]]
    assert silent == [5, 6, 7, 8]
    assert day.lines()[6]["source"]["silent_since"] == "2026-11-20T00:25:30Z"


def test_a_server_that_never_comes_back_is_not_waited_for_all_night(day: Day) -> None:
    day.server.down = True
    with day.watch() as found:
        assert found.run()
        got = found.recording()
    assert day.clock.true < START + (STEPS + GRACE + 2) * STEP
    assert day.clock.true > START + (STEPS + GRACE) * STEP
    assert got.problems == [f"{STEPS} of {STEPS} steps were not answered whole: cannot be reached"]
    for _, each in got.provenance():
        assert (each.samples, each.series) == (0, 0)
        if each.id == INTERVAL:
            continue  # it is not asked for step by step
        assert f"never answered for {STEPS} of {STEPS} steps" in each.error
    whole(day)


def test_a_query_that_fails_stops_no_other(day: Day) -> None:
    day.server.refuses = {"requests"}
    with day.watch() as found:
        assert found.run()
        got, status = found.recording(), found.status
    assert status.silent_since is None
    assert status.failing == {"requests.increase": "HTTP 422: simulated failure"}
    truth = day.truth()
    assert got.window.sets["memory.value"].provenance.error == ""
    np.testing.assert_array_equal(
        got.window.sets["memory.value"].values, truth.window.sets["memory.value"].values
    )
    assert "HTTP 422" in got.window.sets["requests.increase"].provenance.error
    assert day.clock.true < START + (STEPS + 2) * STEP + 60


def test_a_slow_server_is_asked_for_as_much_as_a_step_allows(
    day: Day, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four queries that together take longer than a step, none starves."""
    day.server.takes = 200
    day.source(connections=1)
    asked: list[int] = []
    with day.watch() as found:
        collect = found._collect

        def counted(steps: int) -> int:
            before = len(day.server.asked)
            try:
                return collect(steps)
            finally:
                asked.append(len(day.server.asked) - before)

        monkeypatch.setattr(found, "_collect", counted)
        assert found.run()
        same(found.recording(), day.truth())
    whole(day)
    assert set(asked) <= {0, 1, 2}


def test_a_server_that_is_gone_is_not_asked_by_all(day: Day) -> None:
    day.source(connections=1)
    day.clock.true = START + 5.5 * STEP
    day.server.now = lambda: day.clock.true  # type: ignore[method-assign]
    day.server.version = lambda: "2.42"  # type: ignore[method-assign]
    asked = []

    def gone(*question: Any) -> Answer:
        asked.append(question)
        raise SourceError("cannot be reached")

    day.server.range = gone  # type: ignore[method-assign,assignment]
    with day.watch() as found:
        found._pass()
        assert found.status.problem == "cannot be reached"
        assert found.status.silent_since is not None
    assert len(asked) == 1


def test_a_server_that_answers_nothing_is_silent(day: Day) -> None:
    """It says what time it is, and refuses all else."""
    day.server.refuses = {"memory", "requests", "up"}
    day.clock.true = START + 5.5 * STEP
    with day.watch() as found:
        found._pass()
        assert found.status.silent_since is not None
        day.server.refuses = set()
        found._wait()
        # It is asked again soon, not at the next step only.
        assert day.clock.true == pytest.approx(START + 5.5 * STEP + RETRY)
        found._pass()
        assert found.status.silent_since is None
        assert found.status.answered == 5


def test_the_last_look_is_tried_again(day: Day) -> None:
    end, tried = START + STEPS * STEP, []

    class Stumbling(Server):
        def range(self, query: str, start: int, stop: int, step: int) -> Answer:
            if stop == end and "memory" in query:
                tried.append(self.clock.true)
                if len(tried) == 1:
                    raise QueryError("HTTP 422: simulated failure")
            return super().range(query, start, stop, step)

    day.server.__class__ = Stumbling
    same(day.run(), day.truth())
    assert len(tried) == 2
    assert day.clock.true < end + 2 * STEP


def test_a_late_scrape_is_collected_again(day: Day) -> None:
    """Each step's samples come a step and a half late; the last look is not needed for it."""
    end = START + STEPS * STEP
    day.server.late = lambda at: day.clock.true < min(at + 1.5 * STEP, end)
    with day.watch() as found:
        stop_after(day, found, STEPS - 2)
        assert not found.run()
        part = found.window.span(STEPS - 5, found.url)
    truth = day.truth().window.cut(START, START + (STEPS - 5) * STEP, STEP, "window")
    for key, each in truth.sets.items():
        if key != INTERVAL:  # which the end of the watch brings
            np.testing.assert_array_equal(each.values, part.sets[key].values)
    same(day.run(), day.truth())
    assert "late samples" in day.log()


def stop_after(day: Day, found: Watch, steps: int) -> None:
    def told(snapshot: dict[str, Any]) -> None:
        day.told.append(snapshot)
        if snapshot["step"] == steps:
            found.stop()

    found.told = told


def test_samples_later_than_that_come_with_the_last_look(day: Day) -> None:
    hours = START + 12 * STEP
    day.server.late = lambda at: START < at < hours and day.clock.true < hours + 8 * STEP
    same(day.run(), day.truth())


def test_a_server_that_forgets_takes_nothing_back(day: Day) -> None:
    """One that began anew, or whose retention is shorter than the day."""

    class Forgetful(Server):
        def range(self, query: str, start: int, stop: int, step: int) -> Answer:
            self.forgets_before = self.clock.true - 6 * STEP if start >= START else 0
            return super().range(query, start, stop, step)

    day.server.__class__ = Forgetful
    same(day.run(), day.truth())


def test_a_doubtful_answer_replaces_no_good_one(day: Day) -> None:
    class Doubtful(Server):
        def range(self, query: str, start: int, stop: int, step: int) -> Answer:
            found = super().range(query, start, stop, step)
            if START + 8.5 * STEP < self.clock.true < START + 12 * STEP:
                found.warnings = ["simulated: not whole"]
                found.values = found.values / 2
            return found

    day.server.__class__ = Doubtful
    with day.watch() as found:
        stop_after(day, found, 11)
        assert not found.run()
        part = found.window.span(11, found.url)
    memory = part.sets["memory.value"]
    assert memory.provenance.warnings == ["simulated: not whole"]
    truth = day.truth()
    np.testing.assert_array_equal(
        memory.values[:, :8], truth.window.sets["memory.value"].values[:, :8]
    )
    same(day.run(), truth)  # the doubt is gone with a whole answer


def test_wrong_clocks(day: Day) -> None:
    """This machine's clock is an hour ahead, then two behind; the server's counts."""
    day.clock.wrong = 3600

    def turn(at: float) -> bool:
        passed = (day.clock.true - START) / STEP
        day.clock.wrong = 3600 if passed < 7 else -7200 if passed < 15 else 0
        return False

    day.server.late = turn
    same(day.run(), day.truth())
    whole(day)
    assert "this machine's clock is +3600 s from the server's" in day.log()
    assert "this machine's clock jumped by -10800 s" in day.log()
    # No step was asked for before it was over.
    assert all(stop <= at - 20 for at, _, _, stop in day.server.asked)


def test_a_wrong_clock_before_the_server_answers(day: Day) -> None:
    """Started again while the server is down, on a machine whose clock is a day ahead."""
    with day.watch() as found:
        stop_after(day, found, 5)
        assert not found.run()
    day.clock.wrong = 86400
    down = day.clock.true + 4 * STEP

    class Down(Server):
        def version(self) -> str:
            self.down = self.clock.true < down
            return super().version()

    day.server.__class__ = Down
    same(day.run(), day.truth())
    whole(day)


def test_a_machine_that_slept(day: Day) -> None:
    slept: list[float] = []

    def wait(seconds: float, stop: threading.Event) -> None:
        day.clock.true += seconds
        if not slept and day.clock.true > START + 4.2 * STEP:
            slept.append(day.clock.true)
            day.clock.true += 5 * STEP

    day.clock.wait = wait  # type: ignore[method-assign]
    same(day.run(), day.truth())
    whole(day)


def test_killed_anywhere_it_goes_on(day: Day, tmp_path: Path) -> None:
    """The folder as a kill leaves it: each file cut at any byte, on any machine."""
    draw = random.Random(7)
    for _ in range(12):
        with day.watch() as found:
            stop_after(day, found, draw.randrange(1, STEPS))
            if found.run():
                break
        for name in ("answers.journal", "snapshots.jsonl"):
            file = day.folder / "watch" / name
            content = file.read_bytes()
            file.write_bytes(content[: len(content) - draw.randrange(0, 400)])
        moved = tmp_path / f"moved {draw.random()}"
        day.folder.rename(moved)
        day.folder = moved
        day.clock.true += draw.choice((0, 0, 3 * STEP))
    same(day.run(), day.truth())
    whole(day)
    assert "bytes that were not whole" in day.log()


def test_a_finished_watch_started_again(day: Day) -> None:
    first = day.run()
    same(day.run(), first)
    whole(day)


def test_a_full_disk(day: Day, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite

    def full(handle: int, data: bytes, at: int) -> int:
        if 6 < (day.clock.true - START) / STEP < 9:
            write(handle, data[: len(data) // 2], at)
            raise OSError(28, "No space left on device")
        return write(handle, data, at)

    monkeypatch.setattr(os, "pwrite", full)
    seen = []
    with day.watch() as found:
        found.told = lambda snapshot: seen.append((snapshot["step"], found.status.cannot_write))
        look = found._look

        def looking() -> None:
            if found.status.cannot_write:
                seen.append((0, found.status.cannot_write))
            look()

        monkeypatch.setattr(found, "_look", looking)
        assert found.run()
        got = found.recording()
    same(got, day.truth())
    whole(day)
    (sentence_,) = {text for step, text in seen if text}
    assert "cannot be written (No space left on device); make room" in sentence_
    assert day.log().count("cannot be written (No space") == 1
    assert "can be written again" in day.log()


@pytest.mark.parametrize("name", ["answers.journal", "snapshots.jsonl"])
def test_a_disk_that_is_full_at_the_end(
    day: Day, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Nothing is over before all is written, whichever file was the one that did not fit."""
    write, end = os.pwrite, START + (STEPS + 3) * STEP

    def full(handle: int, data: bytes, at: int) -> int:
        if START + STEPS * STEP < day.clock.true < end and name in os.readlink(
            f"/proc/self/fd/{handle}"
        ):
            raise OSError(28, "No space left on device")
        return write(handle, data, at)

    monkeypatch.setattr(os, "pwrite", full)
    same(day.run(), day.truth())
    whole(day)
    assert day.clock.true >= end
    assert "can be written again" in day.log()


def test_other_parameters_are_refused(day: Day) -> None:
    with day.watch() as found:
        stop_after(day, found, 3)
        found.run()
    text = day.file.read_text("utf-8")
    day.file.write_text(text.replace("9090", "9091"), encoding="utf-8")  # it may have moved
    day.watch().close()
    criteria = day.file.parent / "criteria.yaml"
    criteria.write_text(criteria.read_text("utf-8").replace("> 0", "> 1"), encoding="utf-8")
    with pytest.raises(ParametersError, match=r"with other parameters \(criteria\.yaml\); use"):
        day.watch()
    day.file.write_text(text.replace("- web", "- other"), encoding="utf-8")
    with pytest.raises(ParametersError, match=r"\(criteria\.yaml, services\)"):
        day.watch()


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"parameters": 3}'])
def test_a_broken_state_is_refused(day: Day, content: str) -> None:
    day.watch().close()
    (day.folder / "watch" / "state.json").write_text(content, encoding="utf-8")
    with pytest.raises(ParametersError, match="is not the state of a watch"):
        day.watch()


def test_a_state_of_another_version_is_refused(day: Day) -> None:
    day.watch().close()
    file = day.folder / "watch" / "state.json"
    file.write_text(file.read_text("utf-8").replace("state/1", "state/2"), encoding="utf-8")
    with pytest.raises(ParametersError, match="this version reads"):
        day.watch()


def test_only_one_watches(day: Day) -> None:
    with day.watch(), pytest.raises(ParametersError, match="another process watches there"):
        day.watch()
    day.watch().close()


def test_evidence_is_read_again(day: Day) -> None:
    """A file that is broken while it is edited is told, and the last good one kept."""
    with day.watch() as found:
        criteria = day.file.parent / "criteria.yaml"
        good = criteria.read_text("utf-8")

        def told(snapshot: dict[str, Any]) -> None:
            if snapshot["step"] == 3:
                criteria.write_text("criteria: {", encoding="utf-8")
            if snapshot["step"] == 4:
                assert "criteria.yaml" in snapshot["source"]["problem"]
                criteria.write_text(good.replace("> 0", "> 7"), encoding="utf-8")
            if snapshot["step"] == 6:
                assert "criteria.yaml changed" in snapshot["source"]["problem"]
                criteria.write_text(good, encoding="utf-8")
            if snapshot["step"] == 7:
                assert snapshot["source"]["problem"] is None
                assert str(found.job.criteria["memory"].target) == "> 0"
                found.stop()

        found.told = told
        assert not found.run()
    assert day.log().count("criteria.yaml changed") == 1


# --- Answers, laid over each other ----------------------------------------------------------------


def one(day: Day) -> answers.Answers:
    return answers.Answers("window", requests(day.load())[0], 6)


def reply(*rows: Sequence[float], names: str = "ab", warnings: Sequence[str] = ()) -> Answer:
    values = np.array(rows, dtype=float)
    return Answer(
        [{"service": name} for name, _ in zip(names, rows, strict=False)],
        values,
        list(warnings),
        0,
        np.zeros(values.shape[1], np.int64),
    )


def put(into: answers.Answers, first: int, answer: Answer) -> list[tuple[int, int]]:
    """Take an answer over, and return first and count of the steps that it changed."""
    parts = into.changes(first, answer, "now")
    for part in parts:
        into.apply(part)
    return [(part.first, part.count) for part in parts]


def values(of: answers.Answers) -> dict[str, list[float]]:
    found = of.sample_set(6, "", [""] * 6)
    return {
        labels["service"]: row.tolist()
        for labels, row in zip(found.labels, found.values, strict=True)
    }


def test_only_what_changed_is_kept_again(day: Day) -> None:
    grid = one(day)
    assert put(grid, 0, reply([1, 2, 3], [4, 5, 6])) == [(0, 3)]
    assert put(grid, 0, reply([1, 2, 3], [4, 5, 6])) == []
    assert put(grid, 1, reply([2, 30, 4], [5, 6, 7])) == [(2, 2)]
    assert put(grid, 2, reply([30], [6], [9], names="abc")) == [(2, 1)]
    nan = pytest.approx(float("nan"), nan_ok=True)
    assert values(grid) == {
        "a": [1, 2, 30, 4, nan, nan], "b": [4, 5, 6, 7, nan, nan],
        "c": [nan, nan, 9, nan, nan, nan],
    }  # fmt: skip
    assert grid.answered.tolist() == [True] * 4 + [False] * 2


def test_a_series_that_a_newer_answer_takes_back(day: Day) -> None:
    grid = one(day)
    put(grid, 0, reply([1], [2]))
    assert put(grid, 0, reply([1], names="a")) == [(0, 1)]
    assert list(values(grid)) == ["a"]


def test_an_empty_answer_is_an_answer(day: Day) -> None:
    grid = one(day)
    empty = Answer([], np.empty((0, 6)), [], 0, np.zeros(6, np.int64))
    assert put(grid, 0, empty) == [(0, 6)]
    assert put(grid, 0, empty) == []
    found = grid.sample_set(6, "", [""] * 6).provenance
    assert (found.series, found.samples, found.error) == (0, 0, "")


def test_nan_that_was_sent_is_no_loss(day: Day) -> None:
    grid = one(day)
    sent = reply([float("nan"), 1])
    sent.nonfinite_at = np.array([1, 0])
    put(grid, 0, sent)
    assert put(grid, 0, sent) == []
    assert grid.sample_set(6, "", [""] * 6).provenance.nonfinite == 1
    assert put(grid, 0, reply([7, 1])) == [(0, 1)]
    assert grid.sample_set(6, "", [""] * 6).provenance.nonfinite == 0
    put(grid, 0, sent)
    beside = reply([float("nan"), 1], [3, 3])
    assert put(grid, 0, beside) == [(0, 2)]
    beside.nonfinite_at = np.array([1, 0])
    assert put(grid, 0, beside) == [(0, 1)]  # nothing else tells that it was sent
    put(grid, 0, sent)
    gone = reply([float("nan"), 5])
    assert put(grid, 0, gone) == []  # the server has lost a sample: what was seen stays


def test_doubts_go_with_their_steps(day: Day) -> None:
    grid = one(day)
    put(grid, 0, reply([1, 2], warnings=["partial", "info: a remark"]))
    assert put(grid, 0, reply([1, 2], warnings=["partial"])) == []
    assert put(grid, 0, reply([1])) == [(0, 1)]
    assert set(grid.sample_set(1, "", [""]).provenance.warnings) == set()
    assert set(grid.sample_set(2, "", [""] * 2).provenance.warnings) == {
        "partial", "info: a remark",
    }  # fmt: skip
    assert put(grid, 0, reply([9, 2], warnings=["partial"])) == []
    assert put(grid, 2, reply([3], warnings=["partial"])) == [(2, 1)]


# --- Files that only grow -------------------------------------------------------------------------


def test_a_journal_cut_anywhere_holds_its_first_pieces(day: Day, tmp_path: Path) -> None:
    grid, pieces, ends = one(day), [], [0]
    journal = Journal(tmp_path / "journal")
    for k in range(3):
        parts = grid.changes(k, reply([k + 0.5], [float("inf")], warnings=["ü"] * (k == 1)), "now")
        journal.write(parts)
        pieces.append(parts)
        ends.append(journal.end)
    journal.close()
    content = (tmp_path / "journal").read_bytes()
    for length in range(len(content) + 1):
        (tmp_path / "journal").write_bytes(content[:length])
        again = Journal(tmp_path / "journal")
        found = list(again.read())
        whole_ = sum(end <= length for end in ends[1:])
        assert len(found) == whole_
        assert again.torn == length - ends[whole_]
        assert (tmp_path / "journal").stat().st_size == ends[whole_]
        again.close()
    for part, (was,) in zip(found, pieces, strict=True):
        assert (part.first, part.labels, part.warnings) == (was.first, was.labels, was.warnings)
        np.testing.assert_array_equal(part.values, was.values)
        np.testing.assert_array_equal(part.nonfinite, was.nonfinite)


def test_half_a_piece_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines, write = Lines(tmp_path / "lines"), os.pwrite
    lines.write([{"step": 1}])

    def half(handle: int, data: bytes, at: int) -> int:
        if at == lines.end + 3:
            raise OSError(28, "No space left on device")
        return write(handle, data[:3], at)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", half)
        with pytest.raises(OSError, match="No space"):
            lines.write([{"step": 2}])
    assert (tmp_path / "lines").read_bytes() == b'{"step": 1}\n'
    monkeypatch.setattr(os, "pwrite", lambda handle, data, at: write(handle, data[:3], at))
    lines.write([{"step": 2}])  # by few bytes at a time
    assert (tmp_path / "lines").read_bytes() == b'{"step": 1}\n{"step": 2}\n'


def test_a_damaged_piece_ends_a_journal(day: Day, tmp_path: Path) -> None:
    """What comes behind it is asked for again."""
    grid, journal = one(day), Journal(tmp_path / "journal")
    for k in range(3):
        journal.write(grid.changes(k, reply([k + 0.5]), "now"))
    middle = journal.end // 2
    journal.close()
    content = bytearray((tmp_path / "journal").read_bytes())
    content[middle] ^= 1
    (tmp_path / "journal").write_bytes(content)
    again = Journal(tmp_path / "journal")
    assert [part.first for part in again.read()] == [0]
    again.write(grid.changes(1, reply([7.0]), "later"))
    again.close()
    assert [part.at for part in Journal(tmp_path / "journal").read()] == ["now", "later"]


@pytest.mark.parametrize("rest", [b"", b'{"step": 3', b"[3]\n", b"\xff\n", b'{"step": 3}'])
def test_a_torn_line_is_cut_off(tmp_path: Path, rest: bytes) -> None:
    file = tmp_path / "lines"
    file.write_bytes(b'{"step": 1}\n{"step": 2}\n' + rest)
    lines = Lines(file)
    assert (lines.last, lines.torn) == ({"step": 2}, len(rest))
    lines.write([{"step": 3}, {"step": 4}])
    assert [json.loads(line)["step"] for line in file.read_text("utf-8").splitlines()] == [
        1, 2, 3, 4,
    ]  # fmt: skip


# --- A process of its own -------------------------------------------------------------------------


def test_a_function_apart() -> None:
    assert apart.call(sorted, [3, 1], lambda: False) == [1, 3]
    # A terminal's Ctrl-C is not meant for it.
    assert apart.call(os.getsid, 0, lambda: False) != os.getsid(0)
    with pytest.raises(ParametersError, match="no such file"):
        apart.call(parameters.load, Path("/nowhere/run.yaml"), lambda: False)
    with pytest.raises(apart.ApartError, match=r"failed \(TypeError: .*int"):
        apart.call(sorted, 3, lambda: False)  # type: ignore[arg-type]
    with pytest.raises(apart.ApartError, match=r"_exit failed \(no answer\)"):
        apart.call(os._exit, 7, lambda: False)
    began = time.monotonic()
    with pytest.raises(apart.StoppedError):
        apart.call(time.sleep, 60, lambda: True)
    assert time.monotonic() - began < 30


def test_a_look_that_fails_is_told(day: Day, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise apart.ApartError("look failed (MemoryError)")

    monkeypatch.setattr(apart, "call", fail)
    same(day.run(), day.truth())
    whole(day)
    assert {line["source"]["problem"] for line in day.lines()} == {"look failed (MemoryError)"}


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
        "coverage": {"samples": 0.993, "without": []},
    } | changes


def shown(day: Day, monkeypatch: pytest.MonkeyPatch, snapshot: Any, **status: Any) -> list[str]:
    console = Console(width=80, height=24, force_terminal=True, color_system=None)
    monkeypatch.setattr(screen, "out", console)
    with day.watch() as found:
        found.status.snapshot = snapshot
        for key, value in status.items():
            setattr(found.status, key, value)
        with console.capture() as capture:
            console.print(screen.Screen(found))
    return capture.get().splitlines()


def test_the_screen_fits(day: Day, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = {"step": 20, "step_end": "2026-11-20T01:40:00Z", "outlook": outlook_of()}
    lines = shown(
        day, monkeypatch, snapshot, over=20, answered=18, silent_since=START + 6000.0,
        problem="http://127.0.0.1:9090: cannot be reached; " + "x" * 80, cannot_write="no room",
    )  # fmt: skip
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for part in (
        "T.A.R.S. v1.0.1", "step 20 of 24, 5m each", "does not answer since 2026-11-20T01:40:00Z",
        "If it ended at 01:40: NOT CERTIFIED", "fail", "+ 9 more", "-25% left", "1.8 of 1.4 min",
        "burning availability/all/page_1h", "+12.3%", "sure since 03:30", "critical", "since 01:00",
        "! no room",
    ):  # fmt: skip
        assert part in text, f"{part}\n{text}"


def test_the_screen_before_the_first_step(day: Day, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(day, monkeypatch, None)
    assert "begins in 6:40" in lines[1]
    assert "no step is over yet" in lines[-1]


def test_what_is_not_known_is_not_good(day: Day, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = outlook_of(
        drift={"counts": {}, "worst": [], "first_alarms": {}},
        slo={"firing": [], "exhausted": [],
             "objectives": {"a": {"title": "Availability", "budget": {"whole_window": None}}}},
        alerts={"reason": "nothing shows it", "count": None, "known": 0.0, "firing": []},
    )  # fmt: skip
    source = {"answers": True, "answered_steps": 1}
    line = {"step": 1, "steps": 9, "step_end": "T" * 20, "source": source, "outlook": nothing}
    assert "drift NO DATA; alerts NO DATA" in sentence(line)
    text = "\n".join(shown(day, monkeypatch, {"step_end": "T" * 20, "outlook": nothing}))
    assert text.count("NO DATA") == 3
    assert "none firing" not in text
    assert "no finding" not in text
    for missing in (40, 30):
        nothing["drift"]["counts"] = {"findings": 0, "evaluations": 40, "missing": missing}
        text = "\n".join(shown(day, monkeypatch, {"step_end": "T" * 20, "outlook": nothing}))
        assert ("no finding so far in 10 comparisons (30 without data)" in text) == (missing < 40)


# --- The command ----------------------------------------------------------------------------------


def test_bad_input_is_refused(tmp_path: Path) -> None:
    done = tars_ga("watch", tmp_path / "none.yaml", "--output", tmp_path / "out")
    assert (done.returncode, "there is no such file" in done.stderr) == (2, True)
    assert not (tmp_path / "out").exists()
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").touch()
    done = tars_ga("watch", write_run(tmp_path / "parameters"), "--output", tmp_path / "theirs")
    assert (done.returncode, "not a run's" in done.stderr) == (2, True)


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


def test_killed_again_and_again(killed: tuple[Killed, threading.Thread]) -> None:
    """By SIGKILL, at any moment, while the server is down for a while too."""
    into, thread = killed
    thread.join()
    assert into.problem == ""
    *dead, (code, last) = into.said
    assert code == 0, last
    assert len(dead) >= 3
    assert {number for number, _ in dead} <= {-9, 0}
    assert into.found is not None
    assert into.batch is not None
    assert watching.differences(into.found, into.batch) == [], watching.shown(into.said)
    assert into.steps == list(range(1, STEPS_LIVE + 1))
    assert sum(each.samples for _, each in into.found.provenance()) > 50


# --- What a look sees -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo() -> tuple[Job, Recording]:
    job = parameters.load(ROOT / "parameters" / "demo.yaml")
    return job, collection.collect(job)


def look(demo: tuple[Job, Recording], steps: int, **changes: Any) -> dict[str, Any]:
    job, found = demo
    window = found.window.cut(found.window.start, found.window.start + steps * STEP, STEP, "window")
    question = outlook.Question(job, window, found.baselines, steps - 3)
    *earlier, last = outlook.look(replace(question, **changes))
    assert [each["step"] for each in earlier] == [steps - 2, steps - 1]
    assert {each["outlook"] for each in earlier} == {None}
    snapshots = kpis.snapshots(kpis.Kpis(job, found.window))
    for each in (*earlier, last):
        # A step's own figures do not depend on what comes after it.
        assert each["kpis"] == snapshots[each["step"] - 1]["kpis"]
        assert each["step_end"] == snapshots[each["step"] - 1]["step_end"]
    seen: dict[str, Any] = last["outlook"]
    return seen


def test_the_last_look_is_the_certification(demo: tuple[Job, Recording]) -> None:
    job, found = demo
    seen, now = look(demo, 288), kpis.Kpis(job, found.window, found.baselines)
    analysis = drift.analyse(now, [kpis.Kpis(job, span) for span in found.baselines])
    known = criteria.evaluate(job, now, analysis, outlook._measured(job)).facts()
    assert (seen["decision"], seen["criteria"]) == (known["decision"], known["criteria"])
    assert seen["drift"]["worst"] == analysis["worst"]
    assert seen["alerts"]["count"] == kpis.alerts(job, found.window).count()
    assert 0.99 < seen["coverage"]["samples"] < 1


def test_a_look_early_in_the_day(demo: tuple[Job, Recording]) -> None:
    """Against the same hours of the baseline, and evidence of the time so far suffices."""
    job, found = demo
    seen = look(demo, 100)
    hours = 100 * STEP
    cut = [span.cut(span.start, span.start + hours, STEP, span.name) for span in found.baselines]
    window = found.window.cut(found.window.start, found.window.start + hours, STEP, "window")
    analysis = drift.analyse(kpis.Kpis(job, window), [kpis.Kpis(job, span) for span in cut])
    assert seen["drift"]["worst"] == analysis["worst"]
    assert seen["drift"]["counts"] == analysis["counts"]
    verdicts = {each["name"]: each["verdict"] for each in seen["criteria"]}
    # Of 8 hours, a region was not scraped for 20 minutes: what that could hide is not known.
    assert {name for name, verdict in verdicts.items() if verdict == "no_data"} == {
        "availability", "error_rate", "latency_p99", "websocket_probes", "oom_kills",
    }  # fmt: skip
    # What is sure was sure for whoever knows the whole day, and nothing is of hours to come.
    every = drift.incremental(
        kpis.Kpis(job, found.window), [kpis.Kpis(job, span) for span in found.baselines]
    )
    listed = {each["id"] for each in seen["drift"]["worst"]}
    known = {name: at for name, at in every.items() if at <= "2026-11-20T08:20:00Z"}
    assert seen["drift"]["first_alarms"] == {n: at for n, at in known.items() if n in listed}
    assert seen["drift"]["first_alarms"]


def test_a_look_without_a_baseline(demo: tuple[Job, Recording]) -> None:
    seen = look(demo, 20, baselines=[])
    assert seen["drift"]["counts"] == {}
    (one,) = [each for each in seen["criteria"] if each["source"] == "drift analysis"]
    assert (one["verdict"], one["reason"]) == ("no_data", "no baseline was collected")
    assert seen["decision"] in ("INCONCLUSIVE", "NOT CERTIFIED")


def test_a_look_against_an_earlier_run(demo: tuple[Job, Recording], tmp_path: Path) -> None:
    job, found = demo
    earlier = replace(found, spans={"window": replace(found.baselines[0], name="window")})
    replace(earlier, origin=None).save(tmp_path / "recording")
    baseline = BaselineRun(run=tmp_path)
    other = replace(job, parameters=job.parameters.model_copy(update={"baseline": baseline}))
    changed = look((other, found), 100, job=other, baselines=[])
    assert changed["drift"] == look(demo, 100)["drift"]


# --- Who hears of it ------------------------------------------------------------------------------


def told_of(day: Day, silent: str | None = None, **changes: Any) -> list[tuple[str, str, str]]:
    snapshot = {
        "step": 20, "steps": 24, "step_end": "2026-11-20T01:40:00Z",
        "source": {"answers": True, "silent_since": None}, "outlook": outlook_of(),
    } | changes  # fmt: skip
    found = alarms.events(day.load().parameters, snapshot, silent)
    assert len({each.key for each in found}) == len(found)
    return [(each.kind, each.severity, each.text) for each in found]


def test_what_is_sure_is_told(day: Day) -> None:
    (finding,) = told_of(day)
    assert finding[:2] == ("critical_finding", "error")
    assert "Memory use, us-central-1 / orchestration-agent-two" in finding[2]
    unsure = outlook_of()
    unsure["drift"]["first_alarms"] = {}
    assert told_of(day, outlook=unsure) == []
    unsure["drift"]["worst"][3]["measure"] = "exact"
    assert len(told_of(day, outlook=unsure)) == 1
    for each in unsure["drift"]["worst"]:
        each["verdict"] = "warn"
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


def test_each_event_is_told_once(day: Day, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[str] = []

    def call(function: Any, what: Any, stopped: Any) -> list[Any]:
        keys.append(what[1].key)
        if len(keys) == 1:
            raise apart.ApartError("it died")  # and stops no other
        return []

    monkeypatch.setattr(apart, "call", call)
    teller = alarms.Teller(Any, day.load().parameters, day.folder / "receipts")  # type: ignore[arg-type]
    for since in ("2026-11-20T01:00:00Z", "2026-11-20T01:00:00Z", None, None):
        teller.hear(
            {"step": 1, "steps": 24, "step_end": "2026-11-20T01:40:00Z", "outlook": None,
             "source": {"answers": since is None, "silent_since": since}}
        )  # fmt: skip
    teller.finish(30)
    assert len(keys) == len(set(keys)) == 2
