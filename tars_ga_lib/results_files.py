"""The files that `tars-ga validate` and `tars-ga websocket` write, as they must be to be read.

A key that is not named here is left alone, as a later version may write more; one that is named
has its type, so that no wrong file is noticed only in the middle of a report.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Field

from tars_ga_lib.endpoints import FIGURES
from tars_ga_lib.grammar import Model, Verdict, parse_time

Finite = Annotated[float, Field(allow_inf_nan=False)]


def _time(text: str) -> str:
    # Results have parts of a second, which a file of parameters has not.
    parse_time(text.partition(".")[0] + "Z" if "." in text else text)
    return text


def _all_figures(figures: dict[str, Any]) -> dict[str, Any]:
    if missing := [name for name in FIGURES if name not in figures]:
        raise ValueError(f"{missing[0]} is missing")
    return figures


Time = Annotated[str, AfterValidator(_time)]


class _Written(Model):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow", frozen=True, strict=True)


class Release(_Written):
    """What was measured."""

    name: str
    version: str


class _Results(_Written):
    schema_: str = Field(alias="schema")
    release: Release
    simulated: bool
    started_at: Time
    ended_at: Time
    note: str = ""
    software: str = ""


class Checked(_Written):
    """One check of the running system."""

    id: str
    title: str
    group: str
    measure: str | None
    region: str | None
    target: str
    query: str = ""
    value: Finite | None
    interval: Annotated[list[Finite], Field(min_length=2, max_length=2)] | None = None
    unit: str
    limit: str
    warning: str | None = None
    verdict: Verdict
    cause: str | None = None
    reason: str
    took_seconds: Finite | None = None


class Counts(_Written):
    """How many checks have which verdict."""

    no_data: int


class ValidationResults(_Results):
    """The file `validation_results.json`."""

    checks: list[Checked]
    counts: Counts


class Pings(_Written):
    """How many pings were answered."""

    count: int


class Downtime(_Written):
    """One time in which a session was down."""

    start: Time


class SessionLimit(_Written):
    """One limit of a session."""

    name: str = ""
    title: str = ""
    value: Finite | None = None
    unit: str = ""
    limit: str = ""
    verdict: str = ""
    reason: str = ""


class Session(_Written):
    """What was seen of one endpoint."""

    name: str
    url: str = ""
    problem: str
    observed_seconds: Finite | None
    connected_seconds: Finite | None
    forced_seconds: Finite | None
    ping: Pings
    downtimes: list[Downtime]
    limits: list[SessionLimit]
    figures: Annotated[dict[str, Finite | None], AfterValidator(_all_figures)]


class WebSocketResults(_Results):
    """The file `ws_health_metrics.json`."""

    asked_seconds: Annotated[Finite, Field(gt=0)]
    watched_seconds: Finite
    complete: bool
    stopped_by: str | None
    endpoints: list[Session]


MODELS: dict[Literal["validation", "websocket"] | str, type[_Results]] = {
    "validation": ValidationResults,
    "websocket": WebSocketResults,
}
"""Model of the results of each kind."""
