"""Servers that are nearly right: an answerer before a real Prometheus, and histories made wrong.

An answerer passes each query on, in words of its own if it likes, and changes what comes back. What
cannot be made of answers (scrapes that are missing within a step, a label that half of the series
carry) is made of the history itself, before a real Prometheus gets it.
"""

from __future__ import annotations

import json
import re
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

import numpy as np
import requests

from demo import simulate
from tars_ga_lib import collection
from tars_ga_lib.parameters import Source
from tars_ga_lib.recording import Recording
from tests import servers
from tests.adversary import (
    REGIONS,
    SERVICES,
    Court,
    Day,
    Judged,
    Tally,
    collected_day,
    scenario,
)

Ask = Callable[[str], str]
"""Puts a query into other words."""

Tell = Callable[["Question", dict[str, Any]], dict[str, Any]]
"""Changes the decoded answer to a range query."""

Known = MutableMapping[tuple[str, str], bytes]
"""What the server behind answered before: many answerers ask the same."""


@dataclass(frozen=True)
class Question:
    """One range query: its text, and its first and last time in epoch seconds."""

    query: str
    start: float
    end: float

    @property
    def baseline(self) -> bool:
        """Whether it asks about the baseline."""
        return self.start < simulate.BASELINE_DAY + 2 * simulate.DAY


@dataclass(frozen=True)
class Liar:
    """One way to be nearly right; `kind` and `way` are those of an `Edit`.

    `must` says that no run on it may be certified, whatever the referee can see of it. `loses` says
    that it only takes knowledge away.
    """

    kind: str
    way: str
    note: str
    ask: Ask = str
    tell: Tell = lambda question, answer: answer
    must: bool = True
    loses: bool = True

    def __str__(self) -> str:
        return f"server: {self.kind} {self.way}: {self.note}"


@contextmanager
def answering(upstream: str, liar: Liar, known: Known) -> Iterator[str]:
    """Run an answerer before a server, and yield its URL."""

    class Handler(servers._Handler):
        def answer(self, body: bytes) -> None:
            form = {key: values[0] for key, values in parse_qs(body.decode()).items()}
            if "query" in form:
                form["query"] = liar.ask(form["query"])
            key = self.path, urlencode(form)
            if key not in known:
                known[key] = requests.request(
                    self.command, upstream + self.path, data=form or None, timeout=60
                ).content
            said = known[key]
            if self.path.startswith("/api/v1/query_range"):
                question = Question(form["query"], float(form["start"]), float(form["end"]))
                said = json.dumps(
                    liar.tell(question, json.loads(said)), separators=(",", ":")
                ).encode()
            self.send(200, said)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


# --- what an answerer may do ----------------------------------------------------------------------


def _absent(word: str) -> Ask:
    """Return a change of queries after which a metric or label is one that the server lacks."""
    pattern = re.compile(rf"\b{word}\b(?=[{{\[]|=|!=|[,)])")
    return lambda query: pattern.sub(f"absent_{word}", query)


def _series(change: Callable[[dict[str, Any]], Sequence[dict[str, Any]]], text: str = "") -> Tell:
    """Return a change of every series of the answers whose query holds a text."""

    def tell(question: Question, answer: dict[str, Any]) -> dict[str, Any]:
        if re.search(text, question.query) and not question.baseline:
            result = answer["data"]["result"]
            answer["data"]["result"] = [new for one in result for new in change(one)]
        return answer

    return tell


def _without(first: float, stop: float, text: str = "", **labels: str) -> Tell:
    """Return answers without the hours of the window of those series."""
    begin, end = (simulate.GA_DAY + simulate.HOUR * hour for hour in (first, stop))

    def change(one: dict[str, Any]) -> Sequence[dict[str, Any]]:
        carried = set(one["metric"].values())
        if not set(labels.values()) <= carried:
            return [one]
        one["values"] = [pair for pair in one["values"] if not begin < pair[0] <= end]
        return [one] if one["values"] else []

    return _series(change, text)


def _values(change: Callable[[float], float], text: str) -> Tell:
    def of_one(one: dict[str, Any]) -> Sequence[dict[str, Any]]:
        one["values"] = [[at, repr(change(float(value)))] for at, value in one["values"]]
        return [one]

    return _series(of_one, text)


def _pairs(change: Callable[[list[Any]], list[Any]], text: str = "") -> Tell:
    def of_one(one: dict[str, Any]) -> Sequence[dict[str, Any]]:
        one["values"] = change(one["values"])
        return [one]

    return _series(of_one, text)


def _said(facts: dict[str, Any], text: str = "", *, baseline: bool = False) -> Tell:
    """Return answers with more in them, to the queries that hold a text."""

    def tell(question: Question, answer: dict[str, Any]) -> dict[str, Any]:
        if re.search(text, question.query) and question.baseline == baseline:
            return answer | facts
        return answer

    return tell


def _coarse(*edges: str) -> Tell:
    return _series(lambda one: [one] if one["metric"].get("le") in edges else [], "_seconds_bucket")


UP, ERRORS = r"sum_over_time\(up\{", 'code=~"5'
REQUESTS, LATENCY = "http_requests_total", "http_request_duration_seconds_bucket"
PARTIAL = {"warnings": ["a store did not answer, the result may be partial"]}


def liars(metrics: Sequence[str]) -> list[Liar]:
    """Return the answerers; `metrics` are those that a decision rests on."""
    found = [
        Liar("label", "renamed", "code is called otherwise", ask=_absent("code")),
        Liar("label", "renamed", "region is called otherwise", ask=_absent("region")),
        Liar("label", "renamed", "regions are written in capitals", tell=_series(
            lambda one: [one | {"metric": {k: v.upper() for k, v in one["metric"].items()}}])),
        Liar("label", "removed", "series without labels", tell=_series(
            lambda one: [one | {"metric": {}}])),
        Liar("label", "duplicated", "every series twice", tell=_series(lambda one: [one, one])),
        Liar("label", "duplicated", "every series again of another replica", tell=_series(
            lambda one: [one, one | {"metric": one["metric"] | {"replica": "b"}}])),
        Liar("service", "removed", "a service is nowhere", tell=_without(
            -1, 25, service=SERVICES[0])),
        Liar("region", "removed", "a region is nowhere", tell=_without(-1, 25, region=REGIONS[1])),
        Liar("region", "removed", "a region for 3 h 35 min", tell=_without(
            12, 15.6, region=REGIONS[1])),
        Liar("service", "removed", "a service for 4 h 45 min", tell=_without(
            12, 16.8, service=SERVICES[1])),
        Liar("cell", "removed", "a cell since 15:00", tell=_without(
            15, 25, region=REGIONS[0], service=SERVICES[2])),
        Liar("hours", "removed", "everything for 70 min", tell=_without(3, 4.2)),
        Liar("hours", "removed", "all memory after two hours", tell=_without(
            2, 25, "memory_working_set")),
        Liar("hours", "removed", "all that drift rests on after two hours", tell=_without(
            2, 25, "working_set|cpu_usage|redis|node_|db_query")),
        Liar("hours", "shifted", "the answer of the day before", tell=_pairs(
            lambda values: [[at - 86400, value] for at, value in values])),
        Liar("bucket", "removed", "buckets of 0.1 and 1 only", tell=_coarse("0.1", "1.0", "+Inf")),
        Liar("bucket", "removed", "no +Inf", tell=_coarse("0.1", "0.4", "0.5", "1.0")),
        Liar("bucket", "removed", "+Inf only", tell=_coarse("+Inf")),
        Liar("scrapes", "scaled", "up is 2", tell=_values(lambda v: 2 * v, UP), loses=False),
        Liar("scrapes", "scaled", "one scrape of each step", tell=_values(
            lambda v: v / 10, r"_over_time\(up\{")),
        Liar("scrapes", "scaled", "no scrape", tell=_values(lambda v: 0.0, r"_over_time\(up\{")),
        Liar("metric", "impossible", "negative errors", tell=_values(lambda v: -500.0, ERRORS)),
        Liar("metric", "impossible", "1e308 requests", tell=_values(
            lambda v: 1e308, f"increase\\({REQUESTS}\\{{region")),
        Liar("metric", "impossible", "more errors than requests",
             tell=_values(lambda v: 1e6, ERRORS)),
        Liar("metric", "impossible", "infinite buckets", tell=_values(lambda v: np.inf, LATENCY)),
        Liar("metric", "impossible", "buckets that are no number", tell=_values(
            lambda v: np.nan, LATENCY)),
        Liar("metric", "impossible", "negative buckets", tell=_values(lambda v: -v, LATENCY)),
        Liar("metric", "impossible", "memory of 1e308 bytes", tell=_values(
            lambda v: 1e308, "working_set")),
        Liar("hours", "duplicated", "each time twice", tell=_pairs(
            lambda values: [pair for pair in values for _ in range(2)])),
        Liar("hours", "duplicated", "one time again for another, as many as asked", tell=_pairs(
            lambda values: [values[0], *values[:1] * 60, *values[61:]])),
        Liar("hours", "shifted", "times between the grid's", tell=_pairs(
            lambda values: [[at + 100, value] for at, value in values])),
        Liar("hours", "shifted", "some times between the grid's, as many as asked", tell=_pairs(
            lambda values: [values[0], *([at + 100, v] for at, v in values[1:-1]), values[-1]])),
        Liar("hours", "shifted", "times in another order, as many as asked", tell=_pairs(
            lambda values: [values[0], *values[-2:0:-1], values[-1]])),
        Liar("set", "warned", "partial answers about up", tell=_said(PARTIAL, UP)),
        Liar("set", "warned", "partial answers about memory", tell=_said(PARTIAL, "working_set")),
        Liar("set", "warned", "partial answers about alerts", tell=_said(PARTIAL, "ALERTS")),
        Liar("baseline", "warned", "partial answers", tell=_said(PARTIAL, baseline=True)),
        Liar("set", "warned", "partial answers that say info", tell=_said(
            {"warnings": ["info: partial response: a store did not answer"]})),
        Liar("set", "warned", "isPartial", tell=_said({"isPartial": True}, REQUESTS)),
        Liar("set", "refused", "an error with HTTP 200 and data", tell=_said(
            {"status": "error", "errorType": "internal", "error": "simulated"})),
        Liar("set", "refused", "an error with HTTP 200 about the baseline", tell=_said(
            {"status": "error", "errorType": "internal", "error": "simulated"}, baseline=True)),
        Liar("set", "refused", "no status at all", tell=lambda q, a: {"data": a["data"]}),
        Liar("set", "emptied", "success, and nothing", tell=_said(
            {"data": {"resultType": "matrix", "result": []}})),
        Liar("set", "renamed", "a vector", tell=_said(
            {"data": {"resultType": "vector", "result": []}})),
    ]  # fmt: skip
    found += [Liar("metric", "removed", name, ask=_absent(name), must=False) for name in metrics]
    harmless = {
        "in another order": lambda q, a: a | {
            "data": a["data"] | {"result": a["data"]["result"][::-1]}},
        "with a remark": _said({"infos": ["metric might not be a counter"]}),
    }  # fmt: skip
    return found + [
        Liar("set", "harmless", note, tell=tell, must=False) for note, tell in harmless.items()
    ]


# --- histories ------------------------------------------------------------------------------------

Change = Callable[[str, simulate.Page], None]
"""Changes the series of a day (`ga` or `baseline`) before they are written."""


@dataclass(frozen=True)
class History:
    """A history that is nearly right; as `Liar`."""

    kind: str
    way: str
    note: str
    change: Change
    must: bool = True
    loses: bool = True

    def __str__(self) -> str:
        return f"history: {self.kind} {self.way}: {self.note}"


def times_of(series: simulate.Series) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Epoch seconds of a series' samples."""
    return np.array([int(text) for text in series.times], dtype=np.int64)


def drop(series: simulate.Series, gone: simulate.Mask) -> None:
    """Take samples out of a series."""
    kept = np.ones(len(series.times), dtype=bool) if series.kept is None else series.kept
    series.kept = kept & ~gone


def every(page: simulate.Page, text: str = "") -> Iterator[simulate.Series]:
    """Yield a day's series whose name and labels hold a text."""
    for group in page.families.values():
        for series in group:
            if re.search(text, series.head):
                yield series


def thinned(seconds: int, days: Sequence[str] = ("ga",), text: str = "") -> Change:
    """Return a change that misses so many seconds of every 5 minutes, from 30 s on.

    What is left at the ends of each step lets `increase` find nearly the whole increment.
    """

    def change(day: str, page: simulate.Page) -> None:
        for series in every(page, text) if day in days else ():
            since = times_of(series) % 300
            drop(series, (since >= 30) & (since < 30 + seconds))

    return change


def vanished(text: str, first: float, stop: float, days: Sequence[str] = ("ga",)) -> Change:
    """Return a change without the hours of those series."""

    def change(day: str, page: simulate.Page) -> None:
        name, _, number = day.partition("-")
        before = simulate.BASELINE_DAY - (int(number or 1) - 1) * 7 * simulate.DAY
        midnight = simulate.GA_DAY if day == "ga" else before
        for series in every(page, text) if name in days else ():
            at = times_of(series) - midnight
            drop(series, (at >= first * 3600) & (at < stop * 3600))

    return change


def relabelled(old: str, new: str, text: str = "") -> Change:
    """Return a change of the labels of both days' series that hold a text."""

    def change(day: str, page: simulate.Page) -> None:
        for series in every(page, text):
            series.head = series.head.replace(old, new)

    return change


def up_is(value: int) -> Change:
    """Return a change after which every target is up so many times."""

    def change(day: str, page: simulate.Page) -> None:
        for series in every(page, r"^up\{"):
            series.values = series.values * value

    return change


def failing(share: float, text: str = "") -> Change:
    """Return a change after which this share of the window's good answers were errors.

    Those of the series whose labels hold a text.
    """

    def change(day: str, page: simulate.Page) -> None:
        for series in every(page, f'http_requests_total.*{text}.*code="500"'):
            if day != "ga":
                continue
            good = next(every(page, re.escape(series.head.replace('"500"', '"200"'))))
            lost = (share * (good.values - good.values[0])).astype(int)
            series.values, good.values = series.values + lost, good.values - lost

    return change


def both(*changes: Change) -> Change:
    """Return all of several changes."""

    def change(day: str, page: simulate.Page) -> None:
        for one in changes:
            one(day, page)

    return change


def histories() -> list[History]:
    """Return the histories that must not be certified."""
    name = "http_requests_total"
    found = [
        History("scrapes", "halved", f"{s} s of every 5 min missing", thinned(s))
        for s in (30, 60, 120, 180, 240)
    ]
    found += [
        History("scrapes", "halved", "4 min of every 5 missing, at the baseline too", thinned(
            240, ("ga", "baseline"))),
        History("scrapes", "halved", "4 min of every 5 of one cell missing", thinned(
            240, ("ga", "baseline"), f'"{REGIONS[0]}".*"{SERVICES[0]}"')),
        History("label", "renamed", "all answers are told by status, and 20 % failed", both(
            failing(0.2), relabelled("code=", "status=", name)), loses=False),
        History("label", "renamed", "one service's answers are told by status, and 20 % failed",
                both(failing(0.2), relabelled("code=", "status=", f'{name}.*"{SERVICES[0]}"')),
                loses=False),
        History("label", "renamed", "one replica's are told by status, and half failed", both(
            failing(0.5, f'"{SERVICES[1]}-1"'),
            relabelled("code=", "status=", f'{name}.*"{SERVICES[1]}-1"')), loses=False),
        History("label", "renamed", "codes are words, and 20 % failed", both(
            failing(0.2), relabelled('code="5', 'code="error5', name)), loses=False),
        History("scrapes", "scaled", "up is 2", up_is(2), loses=False),
        History("region", "removed", "a region for 3 h 35 min", vanished(
            f'"{REGIONS[1]}"', 12, 15.59)),
        History("service", "removed", "a service vanished from discovery", vanished(
            f'"{SERVICES[2]}"', -1, 25)),
        History("cell", "removed", "a cell since 15:00", vanished(
            f'"{REGIONS[0]}".*"{SERVICES[1]}"', 15, 25)),
    ]  # fmt: skip
    return found


def write(folder: Path, scenario: simulate.Scenario, change: Change | None = None) -> Path:
    """Write a changed history into a data directory of Prometheus."""
    files = [folder / f"{day.name}.om" for day in simulate.days(scenario)]
    folder.mkdir(parents=True)
    for file in files:
        simulate.write(file, scenario, file.stem, change=change)
    servers.backfill(folder / "data", *files)
    for file in files:
        file.unlink()
    return folder / "data"


# --- trying them ----------------------------------------------------------------------------------


def collected(court: Court, url: str) -> Recording:
    """Collect the clean day's job from a server."""
    source = Source.model_validate({"prometheus": url, "connections": 2})
    parameters = court.clean.job.parameters.model_copy(update={"source": source})
    return collection.collect(replace(court.clean.job, parameters=parameters))


def try_liars(court: Court, url: str, tried: Iterable[Liar], tally: Tally) -> None:
    """Collect the clean day through each answerer, and hold it against the laws."""
    known: Known = {}
    for liar in tried:
        with answering(url, liar, known) as address:
            recording = collected(court, address)
        court.recorded(liar.kind, str(liar), recording, tally, must=liar.must, loses=liar.loses)


def try_histories(court: Court, folder: Path, tried: Iterable[History], tally: Tally) -> None:
    """Collect the clean day from each changed history, and hold it against the laws."""
    for number, one in enumerate(tried):
        data = write(folder / str(number), scenario(), one.change)
        with servers.prometheus(data) as url:
            recording = collected(court, url)
        court.recorded(one.kind, str(one), recording, tally, must=one.must, loses=one.loses)


# --- clean variants -------------------------------------------------------------------------------


def missed(share: float) -> Change:
    """Return a change after which each target misses this share of its scrapes, each by chance."""

    def change(day: str, page: simulate.Page) -> None:
        for series in every(page):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', series.head))
            target = [day, *(labels.get(k, "") for k in ("job", "region", "pod", "instance"))]
            random = np.random.default_rng(zlib.crc32("/".join(target).encode()))
            drop(series, random.random(len(series.times)) < share)

    return change


@dataclass(frozen=True)
class Variant:
    """A clean day that must stay certified."""

    scenario: simulate.Scenario
    change: Change | None = None
    overrides: tuple[str, ...] = ()


VARIANTS = {
    **{f"seed {seed}": Variant(scenario(seed)) for seed in (1, 2, 3, 4, 5)},
    "a rolling restart": Variant(scenario(reset_at=10 * simulate.HOUR, stagger=300)),
    "one missed scrape in a thousand": Variant(scenario(), missed(0.001)),
    "a placement with holes": Variant(
        scenario(),
        vanished(f'"{REGIONS[1]}".*"{SERVICES[2]}', -1, 25, ("ga", "baseline")),
        (f"services={{{SERVICES[0]}: {{}}, {SERVICES[1]}: {{}}, "
         f"{SERVICES[2]}: {{regions: [{REGIONS[0]}]}}}}",),
    ),
}  # fmt: skip
"""Clean days of other seeds, and of a production that is as it should be."""


def try_variant(
    name: str,
    folder: Path,
    judge: Callable[[Day], Judged],
    build: Callable[[simulate.Scenario], Path] | None = None,
) -> Judged:
    """Decide on a clean variant; `build` makes the blocks of one whose history is not changed."""
    variant = VARIANTS[name]
    if build is not None and variant.change is None:
        data = build(variant.scenario)
    else:
        data = write(folder / "history", variant.scenario, variant.change)
    with servers.prometheus(data) as url:
        return judge(collected_day(url, folder / "job", *variant.overrides))
