"""Notifications: events of a run, told to the channels that asked for them.

A message is tried again while its service is busy or away, is sent once however often it is told,
and no more often than its channel allows. What was not delivered is kept in `notifications.jsonl`
and told to the user; it changes no decision. Secrets come from the environment, and neither they
nor the URLs that hold them are ever shown.

Sources: PagerDuty Events API v2 ("Send an alert event"), Slack incoming webhooks and Block Kit,
Atlassian Statuspage API v1 ("Create an incident"), Apprise for mail and all other services.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from tars_ga_lib import channels as channel_models
from tars_ga_lib import extras, strict
from tars_ga_lib.channels import LOG, Channel, Channels, EventKind, Service
from tars_ga_lib.display import clean
from tars_ga_lib.grammar import format_time, parse_time
from tars_ga_lib.parameters import Parameters
from tars_ga_lib.wording import why

Severity = Literal["info", "warning", "error", "critical"]
Status = Literal["delivered", "duplicate", "held_back", "failed"]

_REQUEST_SECONDS = 10.0
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_HOUR = 3600


@dataclass(frozen=True)
class Event:
    """Something to tell. Two events with the same `key` are one, however often they are told.

    `facts` are labels and values, `links` texts and URLs, `time` ISO in UTC.
    """

    kind: EventKind
    severity: Severity
    title: str
    text: str
    key: str
    time: str
    release: str
    facts: tuple[tuple[str, str], ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    simulated: bool = False

    @property
    def heading(self) -> str:
        """The title; that data is simulated cannot be overlooked."""
        return f"[SIMULATED DATA] {clean(self.title)}" if self.simulated else clean(self.title)


@dataclass(frozen=True)
class Receipt:
    """What became of one event in one channel."""

    channel: str
    service: str
    event: str
    key: str
    status: Status
    attempts: int
    time: str
    reason: str = ""


# --- events --------------------------------------------------------------------------------------


def decision(certification: Mapping[str, Any], links: Sequence[tuple[str, str]] = ()) -> Event:
    """Tell what was decided: from the content of `certification_metadata.json`."""
    release = f"{certification['release']['name']} {certification['release']['version']}"
    window, decided = certification["window"], certification["decision"]
    severities: dict[str, Severity] = {
        "CERTIFIED": "info",
        "CERTIFIED WITH WAIVERS": "info",
        "INCONCLUSIVE": "warning",
    }
    return Event(
        kind="decision",
        severity=severities.get(decided, "error"),
        title=f"{release}: {decided}",
        text=why(certification),
        key=_key("decision", release, window, certification["derived_from"], decided),
        time=window["end"],
        release=release,
        facts=(
            ("Decision", decided),
            ("Release", release),
            ("Window", f"{window['start']} to {window['end']}"),
        ),
        links=tuple(links) + tuple(pipeline_links()),
        simulated=certification["simulated"],
    )


def failure(parameters: Parameters, text: str, at: float) -> Event:
    """Tell that a run failed at epoch seconds `at`, so that there is no decision."""
    release = f"{parameters.release.name} {parameters.release.version}"
    return Event(
        kind="failure",
        severity="error",
        title=f"{release}: the certification run failed",
        text=text,
        key=_key("failure", release, text),
        time=format_time(at),
        release=release,
        links=tuple(pipeline_links()),
        simulated=parameters.simulated,
    )


def _key(*parts: object) -> str:
    text = json.dumps(parts, sort_keys=True, default=str)
    return f"{parts[0]}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def pipeline_links() -> Iterator[tuple[str, str]]:
    """Yield the page of the pipeline's run, where one runs us, and of the report, if it is told."""
    server, repository, run = (
        os.environ.get(f"GITHUB_{part}", "") for part in ("SERVER_URL", "REPOSITORY", "RUN_ID")
    )
    if server and repository and run:
        yield "Pipeline run", f"{server}/{repository}/actions/runs/{run}"
    if report := os.environ.get("TARS_GA_REPORT_URL", ""):
        yield "Report", report


def log_of(folder: Path) -> Path:
    """Return the file with a run's receipts; it stands beside the folder while there is no run."""
    if (folder / "parameters" / "run.yaml").is_file():
        return folder / LOG
    return folder.with_name(f"{folder.name}.{LOG}")


# --- telling -------------------------------------------------------------------------------------


class UndeliveredError(Exception):
    """A message was not taken: why, without any secret; `after` seconds it may be tried again."""

    def __init__(self, reason: str, *, again: bool = False, after: float = 0.0) -> None:
        super().__init__(reason)
        self.again = again
        self.after = after


def tell(
    channels: Channels,
    event: Event,
    log: Path,
    *,
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Receipt]:
    """Tell an event to every channel that asked for its kind, side by side.

    Parameters
    ----------
    log
        File with the receipts of this run; what stands there as delivered is not sent again.
    now, sleep
        Epoch seconds, and a pause in seconds.

    Returns
    -------
    list of Receipt
        One for each channel that asked, in the order of the file. Nothing is raised for a message
        that could not be delivered.
    """
    asked = {name: one for name, one in channels.channels.items() if event.kind in one.events}
    if not asked:
        return []
    earlier = receipts(log)
    with ThreadPoolExecutor(len(asked)) as pool:
        jobs = [
            pool.submit(_tell_one, name, one, event, channels, earlier, now, sleep)
            for name, one in asked.items()
        ]
        found = [job.result() for job in jobs]
    _keep(log, found)
    return found


def receipts(log: Path) -> list[Receipt]:
    """Read the receipts of a run; a line that a kill left half written is left out."""
    if not log.is_file():
        return []
    found = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found.append(Receipt(**strict.loads(line)))
        except (ValueError, TypeError):
            continue
    return found


def _keep(log: Path, found: Sequence[Receipt]) -> None:
    lines = "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in found)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab+") as file:
        if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            file.write(b"\n")
        file.write(lines.encode())


def _tell_one(
    name: str,
    channel: Channel,
    event: Event,
    channels: Channels,
    earlier: Sequence[Receipt],
    now: Callable[[], float],
    sleep: Callable[[float], None],
) -> Receipt:
    """Deliver one event to one channel, and say what became of it."""
    service = channel.service

    def receipt(status: Status, attempts: int = 0, reason: str = "") -> Receipt:
        return Receipt(
            name, type(service).__name__.lower(), event.kind, event.key, status, attempts,
            format_time(now()), reason,
        )  # fmt: skip

    mine = [one for one in earlier if one.channel == name and one.status == "delivered"]
    if any(one.key == event.key for one in mine):
        return receipt("duplicate", reason="it was delivered before")
    recent = sum(parse_time(one.time) > now() - _HOUR for one in mine)
    # A decision is never held back: there is one a run.
    if recent >= channel.most_per_hour and event.kind not in ("decision", "failure"):
        limit = channel.most_per_hour
        return receipt("held_back", reason=f"{limit} messages went out within an hour")
    began, reason, attempts = now(), "", 0
    while attempts < channels.attempts:
        attempts += 1
        left = channels.deadline - (now() - began)
        try:
            deliver(service, event, min(_REQUEST_SECONDS, max(left, 1.0)))
            return receipt("delivered", attempts)
        except UndeliveredError as problem:
            reason = str(problem)
            pause = max(problem.after, min(2.0 ** (attempts - 1), 30.0))
            if not problem.again or now() - began + pause > channels.deadline:
                break
            if attempts < channels.attempts:
                sleep(pause)
    return receipt("failed", attempts, reason)


# --- services ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Message:
    """One HTTP request: `place` is where it goes as it may be shown, without any secret."""

    url: str
    place: str
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


def deliver(service: Service, event: Event, timeout: float) -> None:
    """Send an event to a service, once.

    Raises
    ------
    UndeliveredError
        If it was not taken.
    """
    if isinstance(service, (channel_models.Email, channel_models.Apprise)):
        _by_apprise(_secret(service.url_env), service.url_env, event)
    else:
        _post(message(service, event), timeout)


def message(service: Service, event: Event) -> Message:
    """Write the request that tells an event to a service that speaks plain HTTP.

    Raises
    ------
    UndeliveredError
        If a secret that it needs is not in the environment.
    """
    if isinstance(service, channel_models.Slack):
        url = _url(service.url_env)
        return Message(url, _host(url), slack_body(event))
    if isinstance(service, channel_models.PagerDuty):
        key = _secret(service.routing_key_env)
        url = f"{service.api}/v2/enqueue"
        return Message(url, _host(url), pagerduty_body(event, key))
    if isinstance(service, channel_models.StatusPage):
        url = f"{service.api}/v1/pages/{quote(service.page_id, safe='')}/incidents"
        token = {"Authorization": f"OAuth {_secret(service.token_env)}"}
        return Message(url, _host(url), statuspage_body(event, service), token)
    if isinstance(service, channel_models.Webhook):
        url, body = _url(service.url_env), webhook_body(event)
        headers = {"X-Tars-Ga-Event": event.kind, "X-Tars-Ga-Delivery": event.key}
        if service.secret_env:
            secret = _secret(service.secret_env).encode()
            mac = hmac.new(secret, _encoded(body), hashlib.sha256).hexdigest()
            headers["X-Tars-Ga-Signature-256"] = f"sha256={mac}"
        return Message(url, _host(url), body, headers)
    raise TypeError(f"{type(service).__name__} is not told by plain HTTP")


def _secret(variable: str) -> str:
    value = os.environ.get(variable, "").strip()
    if not value:
        raise UndeliveredError(f"the environment variable {variable} is not set; set it")
    return value


def _url(variable: str) -> str:
    url = _secret(variable)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UndeliveredError(
            f"{variable} holds no URL; set it to one like https://hooks.example.com/…"
        )
    return url


def _host(url: str) -> str:
    """Return what of a URL may be shown: a webhook's path is its secret."""
    return urlsplit(url).hostname or ""


def _encoded(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _post(request: Message, timeout: float) -> None:
    import requests

    try:
        # A redirect would carry the secret to somebody else.
        answer = requests.post(
            request.url,
            data=_encoded(request.body),
            headers={"Content-Type": "application/json; charset=utf-8", **request.headers},
            timeout=timeout,
            allow_redirects=False,
        )
    except requests.Timeout:
        reason = f"{request.place} did not answer in {timeout:.0f} s"
        raise UndeliveredError(reason, again=True) from None
    except requests.exceptions.SSLError:
        raise UndeliveredError(f"{request.place} has a certificate that is not trusted") from None
    except requests.RequestException as error:
        kind = type(error).__name__
        raise UndeliveredError(f"{request.place} cannot be reached ({kind})", again=True) from None
    if not 200 <= answer.status_code < 300:
        raise UndeliveredError(
            f"{request.place} answered {answer.status_code} {answer.reason}",
            again=answer.status_code in _BUSY,
            after=_retry_after(answer.headers.get("Retry-After", "")),
        )


def _retry_after(text: str) -> float:
    """Seconds that a service asks to wait: a number, or a date (RFC 9110, section 10.2.3)."""
    if text.isascii() and text.isdigit():
        return float(text[:6])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0


def _by_apprise(url: str, variable: str, event: Event) -> None:
    if sentence := extras.missing("apprise"):
        raise UndeliveredError(sentence)
    import apprise

    types = {"info": "info", "warning": "warning", "error": "failure", "critical": "failure"}
    sender = apprise.Apprise()
    if not sender.add(url):
        raise UndeliveredError(f"{variable} holds no URL that Apprise knows; correct it")
    lines = [clean(event.text), "", *(f"{clean(k)}: {clean(v)}" for k, v in event.facts)]
    lines += [f"{clean(text)}: {href}" for text, href in event.links]
    sent = sender.notify(
        "\n".join(lines), title=event.heading, notify_type=types[event.severity],
        body_format="text",
    )  # fmt: skip
    if not sent:
        raise UndeliveredError(f"the service of {variable} did not take the message", again=True)


# --- payloads ------------------------------------------------------------------------------------


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _mrkdwn(text: str) -> str:
    """Escape the three characters that Slack gives a meaning to."""
    return clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def slack_body(event: Event) -> dict[str, Any]:
    """Write a Slack message in Block Kit, within its limits of length."""
    marks = {"info": "✅", "warning": "⚠️", "error": "❌", "critical": "🚨"}
    heading = f"{marks[event.severity]} {event.heading}"
    plain = [{"type": "mrkdwn", "text": _cut(f"*{_mrkdwn(k)}*\n{_mrkdwn(v)}", 2000)}
             for k, v in event.facts[:10]]  # fmt: skip
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": _cut(heading, 150)}},
        {"type": "section", "text": {"type": "mrkdwn", "text": _cut(_mrkdwn(event.text), 3000)}},
    ]
    if plain:
        blocks.append({"type": "section", "fields": plain})
    if event.links:
        links = " · ".join(f"<{href}|{_mrkdwn(text)}>" for text, href in event.links)
        blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": links}]})
    return {"text": _cut(_mrkdwn(f"{heading}: {event.text}"), 3000), "blocks": blocks}


def pagerduty_body(event: Event, routing_key: str) -> dict[str, Any]:
    """Write an alert event; one that is told again adds to the same alert."""
    return {
        "routing_key": routing_key,
        "event_action": "trigger",
        "dedup_key": _cut(event.key, 255),
        "client": "tars-ga",
        "links": [{"href": href, "text": clean(text)} for text, href in event.links],
        "payload": {
            "summary": _cut(f"{event.heading}: {clean(event.text)}", 1024),
            "source": clean(event.release),
            "severity": event.severity,
            "timestamp": datetime.fromisoformat(event.time).isoformat(),
            "component": "release",
            "group": "certification",
            "class": event.kind,
            "custom_details": {clean(k): clean(v) for k, v in event.facts},
        },
    }


def statuspage_body(event: Event, service: channel_models.StatusPage) -> dict[str, Any]:
    """Write an incident: a good decision is one that is over, anything else is looked into."""
    good = event.severity == "info"
    incident: dict[str, Any] = {
        "name": _cut(event.heading, 255),
        "status": "resolved" if good else "investigating",
        "impact_override": "none" if good else "minor",
        "body": clean(event.text),
        "deliver_notifications": service.deliver_notifications,
    }
    if service.component_ids:
        incident["component_ids"] = list(service.component_ids)
    return {"incident": incident}


def webhook_body(event: Event) -> dict[str, Any]:
    """Write an event as JSON."""
    return {
        "schema": "tars-ga/notification/1",
        "kind": event.kind,
        "severity": event.severity,
        "title": event.title,
        "text": event.text,
        "key": event.key,
        "time": event.time,
        "release": event.release,
        "simulated": event.simulated,
        "facts": dict(event.facts),
        "links": [{"text": text, "href": href} for text, href in event.links],
    }
