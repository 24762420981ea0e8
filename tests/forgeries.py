"""Results and evidence of something else: documents that must not serve a run.

Small enough to be enumerated: each is one change of the results of the validation, of the watched
sessions, of an evidence file or of a waiver, all of which are good before it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tars_ga_lib.catalogues import Waiver
from tars_ga_lib.parameters import MEASURED
from tests.adversary import REGIONS, Court, Day, Tally, critical, failed

# --- results and evidence of something else -------------------------------------------------------


@dataclass(frozen=True)
class Forgery:
    """A change of a document after which it must not serve, or None: the file is away."""

    kind: str
    way: str
    note: str
    change: Callable[[Any], None] | None

    def __call__(self, day: Day) -> Day:
        """Return the day with the changed document."""
        content = copy.deepcopy(day.documents[self.kind])
        if self.change:
            self.change(content)
        documents = {**day.documents, self.kind: content if self.change else None}
        return replace(day, documents=documents, about=f"{day.about} + {self}")

    def __str__(self) -> str:
        return f"{self.kind} {self.way}: {self.note}"


def _put(*path: Any, value: Any) -> Callable[[Any], None]:
    """Return a change that sets what is at a path; `...` stands for every item of a list."""

    def change(content: Any, path: Sequence[Any] = path) -> None:
        key, *rest = path
        if key is ...:
            for item in content:
                change(item, rest) if isinstance(item, dict) else None
        elif rest:
            change(content[key], rest)
        else:
            content[key] = value(content[key]) if callable(value) else value

    return change


def _all(*changes: Callable[[Any], None]) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        for one in changes:
            one(content)

    return change


ZERO_WIDTH = "\u200b"


def _timed(began: str, ended: str) -> Callable[[Any], None]:
    return _all(_put("started_at", value=began), _put("ended_at", value=ended))


def _short(seconds: float) -> Callable[[Any], None]:
    """Let a watch be that short, in all that it says of time."""

    def change(results: Any) -> None:
        factor = seconds / results["asked_seconds"]
        for place in (results, *results["endpoints"]):
            for key in place:
                if key.endswith("_seconds"):
                    place[key] *= factor
        results["ended_at"] = results["started_at"]

    return change


def _of_checks(measure: str, /, **facts: Any) -> Callable[[Any], None]:
    """Change every check of a measure."""

    def change(results: Any) -> None:
        for check in results["checks"]:
            if check["measure"] == measure:
                check |= facts

    return change


def _only(keep: Callable[[Any], bool]) -> Callable[[Any], None]:
    def change(results: Any) -> None:
        results["checks"] = [check for check in results["checks"] if keep(check)]

    return change


def _first(measure: str) -> Callable[[Any], None]:
    """Keep the first check of a measure only."""

    def change(results: Any) -> None:
        results["checks"] = [c for c in results["checks"] if c["measure"] == measure][:1]

    return change


def forgeries(day: Day) -> list[Forgery]:
    """Return the changes of results and evidence that are small enough to be enumerated."""
    measure = next(c.validation for c in day.job.criteria.values() if c.validation and c.mandatory)
    times = {
        "2016": _timed("2016-11-23T20:16:57Z", "2016-11-23T21:16:57Z"),
        "the future": _timed("2035-11-23T20:16:57Z", "2035-11-23T21:16:57Z"),
        "ended before it began": _timed("2026-11-23T20:16:57Z", "2026-11-22T20:16:57Z"),
        "before the window": _timed("2026-11-19T20:16:57Z", "2026-11-19T21:16:57Z"),
        "no time zone": _timed("2026-11-23T20:16:57", "2026-11-23T21:16:57"),
    }
    found = []
    for kind in MEASURED:
        found += [
            Forgery(kind, "removed", "no file", None),
            Forgery(kind, "renamed", "release of another name",
                    _put("release", "name", value="other")),
            Forgery(kind, "renamed", "release of another version",
                    _put("release", "version", value="v9.9.9")),
            Forgery(kind, "emptied", "release without a name", _put("release", "name", value="")),
            Forgery(kind, "renamed", "a zero-width space in the version",
                    _put("release", "version", value=lambda v: v + ZERO_WIDTH)),
            Forgery(kind, "renamed", "another schema", _put("schema", value="tars-ga/other/1")),
        ]  # fmt: skip
        found += [Forgery(kind, "shifted", note, change) for note, change in times.items()]
    region = REGIONS[1]
    found += [
        Forgery("validation", "emptied", "no check", _only(lambda c: False)),
        Forgery("validation", "removed", "one check only", _first(measure)),
        Forgery("validation", "removed", "one region unasked", _only(
            lambda c: c["region"] != region)),
        Forgery("validation", "removed", "no query timed in one region", _only(
            lambda c: c["region"] != region or c["measure"] != measure)),
        Forgery("validation", "renamed", "checks of another region",
                _put("checks", ..., "region", value="mars-1")),
        Forgery("validation", "renamed", "checks of another measure",
                _of_checks(measure, measure="other_time")),
        Forgery("validation", "impossible", "time of -1 s", _of_checks(measure, value=-1.0)),
        Forgery("validation", "impossible", "time of -1 s in an interval", _of_checks(
            measure, value=-1.0, interval=[-2.0, -0.5])),
        Forgery("validation", "impossible", "time is a text", _of_checks(measure, value="fast")),
        Forgery("validation", "impossible", "time is true", _of_checks(measure, value=True)),
        Forgery("validation", "impossible", "an interval upside down", _of_checks(
            measure, value=0.06, interval=[0.9, 0.001])),
        Forgery("validation", "scaled", "slow and yet pass", _of_checks(measure, value=5.0)),
        Forgery("validation", "scaled", "in milliseconds", _of_checks(measure, unit="ms")),
        Forgery("validation", "emptied", "no value and yet pass",
                _of_checks(measure, value=None)),
        Forgery("validation", "zeroed", "fast and yet without data",
                _of_checks(measure, verdict="no_data")),
        Forgery("validation", "zeroed", "fast and yet failed", _of_checks(measure, verdict="fail")),
        Forgery("validation", "shifted", "each check measured in 2016",
                _put("checks", ..., "measured_at", value="2016-11-23T20:16:56Z")),
        Forgery("websocket", "emptied", "no endpoint", _put("endpoints", value=[])),
        Forgery("websocket", "removed", "one endpoint unwatched",
                _put("endpoints", value=lambda each: each[:1])),
        Forgery("websocket", "renamed", "endpoint of another region",
                _put("endpoints", 0, "name", value="mars-1")),
        Forgery("websocket", "duplicated", "one endpoint twice, the other not",
                _put("endpoints", value=lambda each: [each[0], copy.deepcopy(each[0])])),
        Forgery("websocket", "scaled", "one second's watch", _short(1.0)),
        Forgery("websocket", "scaled", "no time at all", _short(1e-9)),
        Forgery("websocket", "scaled", "asked for an hour, watched a minute", _all(
            _short(60.0), _put("asked_seconds", value=3600.0))),
        Forgery("websocket", "impossible", "negative times", _short(-3600.0)),
        Forgery("websocket", "impossible", "asked for nothing", _put("asked_seconds", value=0)),
        Forgery("websocket", "impossible", "uptime of 500 %", _all(
            _put("endpoints", ..., "uptime", value=5.0),
            _put("endpoints", ..., "figures", "uptime", value=5.0))),
        Forgery("websocket", "impossible", "connected for longer than watched",
                _put("endpoints", ..., "connected_seconds", value=lambda s: 3 * s)),
        Forgery("websocket", "zeroed", "never connected, and yet up",
                _put("endpoints", ..., "connected_seconds", value=0.0)),
        Forgery("websocket", "impossible", "uptime is a text",
                _put("endpoints", ..., "figures", "uptime", value="1.0")),
        Forgery("websocket", "halved", "not complete", _all(
            _put("complete", value=False), _put("stopped_by", value="SIGTERM"))),
        Forgery("websocket", "halved", "half unobserved", _all(
            _put("endpoints", ..., "observed_seconds", value=lambda s: s / 2),
            _put("endpoints", ..., "connected_seconds", value=lambda s: s / 2))),
        Forgery("websocket", "shifted", "an hour's watch between two seconds",
                lambda r: r.update(ended_at=r["started_at"])),
    ]  # fmt: skip
    return found + _evidence_forgeries(day)


def _evidence_forgeries(day: Day) -> list[Forgery]:
    incidents, rollback = "evidence.incidents", "evidence.rollback"
    found = [
        Forgery(incidents, "removed", "no file", None),
        Forgery(incidents, "halved", "covers half of the day",
                _put("covers", "duration", value="12h")),
        Forgery(incidents, "shifted", "covers 2016",
                _put("covers", "start", value="2016-11-20T00:00:00Z")),
        Forgery(incidents, "scaled", "a critical one", critical),
        Forgery(incidents, "emptied", "a source of a zero-width space",
                _put("source", value=ZERO_WIDTH)),
        Forgery(incidents, "impossible", "a severity that there is none of",
                _put("incidents", 0, "severity", value="sev0")),
        Forgery(rollback, "removed", "no file", None),
        Forgery(rollback, "renamed", "of another release", _put("release", value="v9.9.9")),
        Forgery(rollback, "emptied", "of no release", _put("release", value=" ")),
        Forgery(rollback, "renamed", "a zero-width space in the release",
                _put("release", value=lambda v: f"{v}{ZERO_WIDTH}")),
        Forgery(rollback, "zeroed", "it failed", failed),
        Forgery(rollback, "impossible", "successful is a text", _put("successful", value="yes")),
        Forgery(rollback, "impossible", "successful is 1", _put("successful", value=1)),
        Forgery(rollback, "shifted", "tested in 2035",
                _put("tested_at", value="2035-01-01T00:00:00Z")),
        Forgery(rollback, "shifted", "tested in 1971",
                _put("tested_at", value="1971-01-01T00:00:00Z")),
        Forgery(rollback, "emptied", "a source of a zero-width space",
                _put("source", value=ZERO_WIDTH)),
    ]  # fmt: skip
    if "release" in day.documents[incidents]:
        found += [
            Forgery(incidents, "renamed", "of another release", _put("release", value="v9.9.9")),
            Forgery(incidents, "removed", "of no release", lambda file: file.pop("release")),
        ]
    else:
        found.append(
            Forgery(incidents, "renamed", "of another release",
                    lambda file: file.update(release="v9.9.9"))
        )  # fmt: skip
    return found


def waiver_of(criterion: str, **changes: Any) -> dict[str, Any]:
    """Return a file with one good waiver, changed as told."""
    one = {
        "criterion": criterion,
        "who": "release manager on duty",
        "why": "simulated",
        "until": "2026-12-31T00:00:00Z",
    }
    if "release" in Waiver.model_fields:
        one["release"] = "v1.0.1"
    return {"waivers": [one | changes]}


def waiver_forgeries(criterion: str) -> dict[str, dict[str, Any]]:
    """Return files whose waiver must not let a failure pass."""
    return {
        "by nobody": waiver_of(criterion, who=" "),
        "by a zero-width space": waiver_of(criterion, who=ZERO_WIDTH),
        "for no reason": waiver_of(criterion, why="\u2060"),
        "expired": waiver_of(criterion, until="2016-12-31T00:00:00Z"),
        "of another release": waiver_of(criterion, release="v9.9.9"),
        "of another criterion": waiver_of("rollback_tested"),
        "without an end": waiver_of(criterion, until=None),
    }


def try_all(court: Court, tally: Tally) -> None:
    """Try every forgery on the clean day, and every waiver on a day whose error rate is bad."""
    for forgery in forgeries(court.clean):
        day = forgery(court.clean)
        tally.add([forgery.kind.split(".")[0]], day, court.judge(day), [str(forgery)])
    criterion, bad = next(
        (name, bad)
        for name, one in court.clean.job.criteria.items()
        if one.kpi and one.mandatory
        for bad, _ in court.bad
        if bad.day.about.startswith(name)
    )
    for about, file in waiver_forgeries(criterion).items():
        documents = {**bad.day.documents, "waivers": file}
        day = replace(bad.day, documents=documents, about=f"{bad.day.about} + waiver {about}")
        tally.add(["waiver"], day, court.judge(day), [f"truly bad, and the waiver is {about}"])


def waived(court: Court) -> Day:
    """Return a bad day with a good waiver: it may go out."""
    name, bad = next(
        (name, bad)
        for name, one in court.clean.job.criteria.items()
        if one.kpi and one.mandatory
        for bad, _ in court.bad
        if bad.day.about.startswith(name)
    )
    return replace(bad.day, documents={**bad.day.documents, "waivers": waiver_of(name)})
