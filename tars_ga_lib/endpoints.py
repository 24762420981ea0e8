"""WebSocket endpoints that are watched, and their limits: the model of `websocket.yaml`.

Here is also how the figures of a watched endpoint are held against a limit, for the monitor and
for the criteria alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, Field, StrictStr, model_validator

from tars_ga_lib.grammar import (
    Duration,
    Limit,
    LimitText,
    Model,
    Name,
    Verdict,
    format_duration,
)

Facts = Mapping[str, Any]

MIN_OBSERVED = 0.95
"""Share of the time asked for that must have been watched before a limit can pass."""


class _Look(NamedTuple):
    title: str
    unit: str
    missing: str


_LOOKS = {
    "uptime": _Look("Uptime", "ratio", "it was never observed"),
    "longest_downtime": _Look("Longest downtime", "s", "it was never observed"),
    "handshake_p99": _Look("Handshake P99", "s", "no handshake succeeded"),
    "ping_p99": _Look("Ping P99", "s", "no ping was answered"),
    "reconnect_success_rate": _Look("Reconnects that succeeded", "ratio", "nothing reconnected"),
    "reconnect_latency_mean": _Look("Reconnect latency, mean", "s", "nothing reconnected"),
    "reconnect_latency_p99": _Look("Reconnect latency P99", "s", "nothing reconnected"),
}
FIGURES = tuple(_LOOKS)
"""What a criterion can take from the WebSocket sessions' results."""

_RECONNECTS = tuple(name for name in FIGURES if name.startswith("reconnect"))
_SECRET = re.compile(r"token|secret|pass|pwd|auth|key|sig|jwt|cred|session", re.IGNORECASE)


def _check_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("ws", "wss") and parts.hostname and parts.port != 0
        names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    except ValueError:
        good, names = False, []
    # A URL may hold a secret, so it is not repeated.
    if "@" in url or any(map(_SECRET.search, names)):
        raise ValueError(
            "the URL holds credentials; take them out and set TARS_GA_WS_BEARER_TOKEN or "
            "TARS_GA_WS_HEADERS in the environment"
        )
    if not good or re.search(r"[\s#\x00-\x1f\x7f]", url):
        raise ValueError("it is not a WebSocket URL; write it like wss://tars.example/ws")
    return url


Url = Annotated[StrictStr, AfterValidator(_check_url)]


class Limits(Model):
    """What an endpoint's figures must hold; a figure without a limit is told, and not judged."""

    uptime: LimitText | None = Limit(">=", 0.999)
    longest_downtime: LimitText | None = Limit("<", 60.0)
    handshake_p99: LimitText | None = None
    ping_p99: LimitText | None = None
    reconnect_success_rate: LimitText | None = None
    reconnect_latency_mean: LimitText | None = Limit("<", 10.0)
    reconnect_latency_p99: LimitText | None = Limit("<", 30.0)

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        for name, limit in self.given().items():
            share = _LOOKS[name].unit == "ratio"
            if limit.operator[0] != (">" if share else "<"):
                raise ValueError(
                    f"'{name}' with '{limit}' points the wrong way; "
                    f"write it like '{'>= 0.999' if share else '< 10'}'"
                )
            if share and limit.value > 1:
                raise ValueError(f"'{name}' is a share from 0 to 1; write it like '>= 0.999'")
        if not self.given():
            raise ValueError("no limit is left, so nothing could fail; give one")
        return self

    def given(self) -> dict[str, Limit]:
        """Return the limits that are set, by the name of their figure."""
        return {name: limit for name in FIGURES if (limit := getattr(self, name)) is not None}


class WebSocketTargets(Model):
    """The file `websocket.yaml`: endpoints by region (or any name), the pace, the limits."""

    endpoints: Annotated[dict[Name, Url], Field(min_length=1)]
    duration: Duration = 3600
    reconnect_every: Duration | None = 300
    ping_every: Duration = 10
    ping_timeout: Duration = 10
    open_timeout: Duration = 10
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _measurable(self) -> Self:
        whole = format_duration(self.duration)
        if self.ping_every > self.duration:
            raise ValueError(
                f"'ping_every' is longer than the duration of {whole}; choose a shorter one"
            )
        wanted = [name for name in self.limits.given() if name in _RECONNECTS]
        if wanted and (self.reconnect_every is None or self.reconnect_every >= self.duration):
            raise ValueError(
                f"'reconnect_every' is not shorter than the duration of {whole}, so that "
                f"'{wanted[0]}' could not be measured; choose a shorter one, or set that limit to "
                "null"
            )
        return self


# --- judging ----------------------------------------------------------------------------------


def unit(figure: str) -> str:
    """Return a figure's unit: `ratio` or `s`."""
    return _LOOKS[figure].unit


def worst(verdicts: list[Verdict]) -> Verdict:
    """Return the verdict of several: one that failed fails all, one without data keeps a pass."""
    return next(
        (v for v in ("fail", "no_data") if v in verdicts), "pass" if verdicts else "no_data"
    )


def judge(results: Facts, endpoint: Facts, figure: str, limit: Limit) -> dict[str, Any]:
    """Hold one figure of one watched endpoint against a limit.

    A limit that is broken in the time that was seen fails. One that holds passes only if the whole
    time asked for went by, and at least `MIN_OBSERVED` of it was watched; else it is `no_data`.
    So is an uptime that is too low so far, where the missing time could still have mended it.

    Parameters
    ----------
    results
        The content of `ws_health_metrics.json`.
    endpoint
        One of its endpoints.

    Returns
    -------
    dict
        `name`, `title`, `value`, `unit`, `limit`, `verdict` and `reason` (empty, or one sentence).
    """
    look, value = _LOOKS[figure], endpoint["figures"][figure]
    verdict, reason = _verdict(results, endpoint, figure, limit, value)
    return {
        "name": figure,
        "title": look.title,
        "value": value,
        "unit": look.unit,
        "limit": str(limit),
        "verdict": verdict,
        "reason": reason,
    }


def _verdict(
    results: Facts, endpoint: Facts, figure: str, limit: Limit, value: float | None
) -> tuple[Verdict, str]:
    if value is None:
        return "no_data", endpoint["problem"] or _LOOKS[figure].missing
    asked, observed = results["asked_seconds"], endpoint["observed_seconds"]
    # The time of a forced reconnect was watched as well, and has a figure of its own.
    missing = _missing(results, (observed + endpoint["forced_seconds"]) / asked)
    if limit.holds(value):
        return ("no_data", missing) if missing else ("pass", "")
    if missing and figure == "uptime":
        down = observed - endpoint["connected_seconds"]
        if limit.holds(1 - down / asked):
            return "no_data", f"{missing}, so that the whole time could still hold the limit"
    return "fail", endpoint["problem"]


def _missing(results: Facts, seen: float) -> str:
    """Say what keeps a limit that holds from passing; empty if nothing does."""
    asked = results["asked_seconds"]
    if not results["complete"]:
        by = f" by {results['stopped_by']}" if results["stopped_by"] else ""
        return (
            f"it was stopped{by} after {results['watched_seconds']:.0f} s "
            f"of {format_duration(round(asked))}"
        )
    if seen < MIN_OBSERVED:
        return (
            f"only {100 * seen:.1f} % of the time could be watched, and "
            f"{100 * MIN_OBSERVED:.0f} % are needed"
        )
    return ""


def outcome(results: Facts, figure: str, limit: Limit) -> tuple[float | None, Verdict, str]:
    """Return value, verdict and reason of the endpoint that does worst in one figure.

    The reason begins with the endpoint's name. Without any endpoint it is `no_data`.
    """
    if not results["endpoints"]:
        return None, "no_data", "no endpoint was watched"
    judged = [(judge(results, e, figure, limit), e["name"]) for e in results["endpoints"]]
    sign = 1 if unit(figure) == "ratio" else -1  # a share is the worse the lower

    def goodness(one: tuple[dict[str, Any], str]) -> tuple[int, float]:
        rank = ("fail", "no_data", "pass").index(one[0]["verdict"])
        return rank, sign * (one[0]["value"] or 0.0)

    worst_one, name = min(judged, key=goodness)
    reason = f"{name}: {worst_one['reason']}" if worst_one["reason"] else name
    return worst_one["value"], worst_one["verdict"], reason
