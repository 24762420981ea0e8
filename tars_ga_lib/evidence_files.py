"""Facts that no metric holds: the models of the evidence files that a user gives to a run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr, model_validator

from tars_ga_lib.grammar import (
    Duration,
    Interval,
    Model,
    Name,
    Number,
    Time,
    format_duration,
    format_time,
)

if TYPE_CHECKING:
    from tars_ga_lib.parameters import Parameters

EvidenceKind = Literal[
    "incidents",
    "rollback",
    "sign_off",
    "security_scan",
    "customer",
    "deployments",
    "canary",
    "hotfix",
    "load_test",
    "actions",
    "lessons",
    "links",
]

Ratio = Annotated[Number, Field(ge=0, le=1)]
Count = Annotated[StrictInt, Field(ge=0)]
Seconds = Annotated[Number, Field(ge=0)]

_SECRET = re.compile(
    r"token|secret|passw|credential|signature|api_?key|^(sig|key|pwd|auth)$", re.IGNORECASE
)


def _plain_url(url: str) -> str:
    """Refuse a URL that is none, or that holds a secret: it would stand in the report."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    except ValueError:
        good, names = False, []
    if not good or re.search(r"[\s<>\x00-\x1f]", url):
        raise ValueError("it is not a URL; write it like https://example.com/run/1")
    # The URL itself may hold the secret, so it is not repeated.
    if "@" in parts.netloc or any(_SECRET.search(name) for name in names):
        raise ValueError("the URL holds a credential; give one that a reader may see")
    return url


Url = Annotated[StrictStr, AfterValidator(_plain_url)]


def _in_order(start: int, end: int | None) -> None:
    """Refuse times that are confused: an event could fall out of the window by them."""
    if end is not None and end < start:
        raise ValueError(f"the end {format_time(end)} is before the start {format_time(start)}")


class Evidence(Model):
    """What every evidence file says of itself; `release` is the version that it speaks of.

    `SHARES` are its keys that hold a share, 0 to 1; `MOMENT` is the key of the time at which what
    it tells was done, or of a list's entries that have one: `fixes.validated_at`.
    """

    SHARES: ClassVar[frozenset[str]] = frozenset()
    MOMENT: ClassVar[str] = ""

    source: Name
    release: Name
    simulated: StrictBool = False

    def moments(self) -> list[int]:
        """Return the times at which what it tells was done, in epoch seconds."""
        entries, _, key = self.MOMENT.rpartition(".")
        tellers = getattr(self, entries) if entries else [self]
        return [getattr(one, key) for one in tellers] if key else []


class Incident(Model):
    """One incident; `sev1` is critical."""

    id: Name
    severity: Literal["sev1", "sev2", "sev3", "sev4"]
    title: Name
    start: Time
    acknowledged: Time | None = None
    end: Time | None = None
    region: Name | None = None
    root_cause: Name | None = None
    remediation: Name | None = None

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> Self:
        _in_order(self.start, self.end)
        if self.acknowledged is not None and self.acknowledged < self.start:
            raise ValueError(
                f"it was acknowledged at {format_time(self.acknowledged)}, before the start "
                f"{format_time(self.start)}"
            )
        return self


class Incidents(Evidence):
    """The incidents of an interval; an empty list says that there were none in it."""

    covers: Interval
    incidents: list[Incident]


class Rollback(Evidence):
    """A test that the release can be rolled back."""

    MOMENT = "tested_at"

    tested_at: Time
    successful: StrictBool
    duration: Duration | None = None
    environment: Name | None = None
    data_migration_reversible: StrictBool | None = None


class SignOff(Model):
    """One role's word on the release; `signature` is the mark that stands in the record."""

    role: Name
    name: Name
    approved: StrictBool
    at: Time
    signature: Name | None = None


class SignOffs(Evidence):
    """Who has signed, and who has refused."""

    MOMENT = "sign_offs.at"

    sign_offs: Annotated[list[SignOff], Field(min_length=1)]


class SecurityScan(Evidence):
    """A vulnerability scan of the release."""

    MOMENT = "scanned_at"

    scanner: Name
    scanned_at: Time
    critical: Count
    high: Count
    patched: Count | None = None


class Customer(Evidence):
    """What customers said in an interval."""

    SHARES = frozenset({"satisfaction"})

    covers: Interval
    support_tickets: Count
    escalated: Count
    satisfaction: Ratio | None = None


class Deployment(Model):
    """One change that was made to production."""

    at: Time
    end: Time | None = None
    kind: Literal["rollout", "canary", "hotfix", "rollback", "configuration"]
    title: Name
    region: Name | None = None
    version: Name | None = None

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> Self:
        _in_order(self.at, self.end)
        return self


class Deployments(Evidence):
    """The deployments of an interval; an empty list says that there were none in it."""

    covers: Interval
    deployments: list[Deployment]


class Gate(Model):
    """One condition that had to hold before the canary was let on."""

    title: Name
    target: Name
    value: Name
    passed: StrictBool


class Compared(Model):
    """One measurement before and after, in `unit` (seconds, ratio, bytes, count, …)."""

    title: Name
    before: Number
    after: Number
    unit: Name


class Canary(Evidence):
    """The canary of the release: a share of the traffic for a while, and what was decided then."""

    SHARES = frozenset({"traffic", "success_rate", "error_rate"})
    MOMENT = "start"

    start: Time
    duration: Duration
    traffic: Annotated[Number, Field(gt=0, le=1)]
    success_rate: Ratio | None = None
    error_rate: Ratio | None = None
    decision: Literal["promoted", "rolled back", "extended"]
    summary: Name | None = None
    gates: list[Gate] = Field(default=[])
    compared: list[Compared] = Field(default=[])


class Fix(Model):
    """One fix that the release brings, and how it was shown to work."""

    id: Name
    title: Name
    validated_at: Time
    successful: StrictBool
    method: Name
    compared: list[Compared] = Field(default=[])


class Hotfixes(Evidence):
    """The fixes of the release and their validation."""

    MOMENT = "fixes.validated_at"

    fixes: Annotated[list[Fix], Field(min_length=1)]


class Load(Model):
    """One scenario of a load test, as its tool reported it."""

    title: Name
    duration: Duration
    requests: Count
    errors: Count
    p95: Seconds | None = None
    p99: Seconds | None = None
    successful: StrictBool

    @model_validator(mode="after")
    def _errors_are_requests(self) -> Self:
        if self.errors > self.requests:
            raise ValueError(f"{self.errors} errors are more than its {self.requests} requests")
        return self


class LoadTest(Evidence):
    """A load test of the release."""

    MOMENT = "tested_at"

    tool: Name
    tested_at: Time
    scenarios: Annotated[list[Load], Field(min_length=1)]


class ActionItem(Model):
    """Something that people have agreed to do."""

    title: Name
    term: Literal["immediate", "short", "long"]
    owner: Name | None = None
    due: Time | None = None
    answers: Name | None = None


class Actions(Evidence):
    """What people have agreed to do after GA day."""

    actions: Annotated[list[ActionItem], Field(min_length=1)]


class Lesson(Model):
    """One thing that the people of the day have learned, in their words."""

    topic: Literal["went_well", "to_improve", "process"]
    text: Name


class Lessons(Evidence):
    """What the people of the day have learned."""

    lessons: Annotated[list[Lesson], Field(min_length=1)]


class Link(Model):
    """Where something else is kept; for logs, `retention` says how long."""

    kind: Literal[
        "dashboard",
        "screenshot",
        "logs",
        "log_analysis",
        "test_results",
        "benchmark",
        "security_scan",
        "configuration",
        "migration",
        "runbook",
        "rollback_plan",
    ]
    title: Name
    url: Url
    retention: Duration | None = None


class Pipeline(Model):
    """The pipeline that made the run, and where it left the evidence package."""

    run: Name
    artifacts: Url | None = None


class Links(Evidence):
    """Where the rest is kept: dashboards, logs, runbooks, and the pipeline's own run."""

    links: list[Link] = Field(default=[])
    pipeline: Pipeline | None = None

    def of(self, *kinds: str) -> list[Link]:
        """Return the links of some kinds."""
        return [link for link in self.links if link.kind in kinds]


EVIDENCE_MODELS: dict[EvidenceKind, type[Evidence]] = {
    "incidents": Incidents,
    "rollback": Rollback,
    "sign_off": SignOffs,
    "security_scan": SecurityScan,
    "customer": Customer,
    "deployments": Deployments,
    "canary": Canary,
    "hotfix": Hotfixes,
    "load_test": LoadTest,
    "actions": Actions,
    "lessons": Lessons,
    "links": Links,
}


# --- whether a file counts ------------------------------------------------------------------------


def foreign(kind: str, facts: Evidence, parameters: Parameters) -> str:
    """Return why a file speaks of something else than this run; empty if it speaks of it."""
    release = parameters.release
    if facts.simulated and not parameters.simulated:
        return f"the {kind} file says that it is simulated, and this run is not"
    if facts.release not in (release.version, f"{release.name} {release.version}"):
        return f"the {kind} file is about {facts.release}, not {release.version}"
    return ""


def untimely(kind: str, facts: Evidence, parameters: Parameters, max_age: int | None = None) -> str:
    """Return why a file's times leave the window open; empty if they do not.

    What it covers must hold the window, and what it tells must neither be later than
    `measured.within` after the window nor more than `max_age` seconds older than its end.
    """
    window, within = parameters.window, parameters.measured.within
    covers: Interval | None = getattr(facts, "covers", None)
    if covers and (covers.start > window.start or covers.stop < window.stop):
        return f"the {kind} file ends before the window does, or begins after it did"
    for moment in facts.moments():
        if moment > window.stop + within:
            return (
                f"its time {format_time(moment)} is more than {format_duration(within)} after the "
                "window ended"
            )
        if max_age is not None and moment < window.stop - max_age:
            return (
                f"its time {format_time(moment)} is more than {format_duration(max_age)} before "
                "the window's end"
            )
    return ""
