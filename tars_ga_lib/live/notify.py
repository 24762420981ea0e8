"""Notifications: events of a run, told to the channels that asked for them.

A message is tried again while its service is busy or away, is sent once however often it is told,
and no more often than its channel allows. What was not delivered is kept in `notifications.jsonl`
and told to the user; it changes no decision. Secrets come from the environment, and neither they
nor the URLs that hold them are ever shown.

Sources: PagerDuty Events API v2 ("Send an alert event"), Slack incoming webhooks and Block Kit,
Atlassian Statuspage API v1 ("Create an incident"), Apprise for mail and all other services.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, urlsplit

import requests
import tenacity

from tars_ga_lib import extras, strict, transport
from tars_ga_lib.channels import (
    LOG,
    Apprise,
    Channels,
    EventKind,
    PagerDuty,
    Service,
    Slack,
    StatusPage,
    Webhook,
)
from tars_ga_lib.display import clean
from tars_ga_lib.grammar import format_time, parse_time
from tars_ga_lib.parameters import Parameters
from tars_ga_lib.wording import why

Severity = Literal["info", "warning", "error", "critical"]
Status = Literal["delivered", "duplicate", "held_back", "failed"]

_SEVERITIES: Mapping[str, Severity] = {
    "CERTIFIED": "info",
    "CERTIFIED WITH WAIVERS": "info",
    "INCONCLUSIVE": "warning",
}
_REQUEST_SECONDS = 10.0
_BUSY = (408, 425, 429, 500, 502, 503, 504)

_log = logging.getLogger("tars_ga.notify")


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


def decision(certification: Mapping[str, Any]) -> Event:
    """Tell what was decided: from the content of `certification_metadata.json`."""
    release = f"{certification['release']['name']} {certification['release']['version']}"
    window, decided = certification["window"], certification["decision"]
    return Event(
        kind="decision",
        severity=_SEVERITIES.get(decided, "error"),
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
        links=tuple(_links()),
        simulated=certification["simulated"],
    )


def failure(parameters: Parameters, text: str) -> Event:
    """Tell that a run failed, so that there is no decision."""
    now = format_time(time.time())
    return _event(parameters, "failure", "error", "the certification run failed", text, now, text)


def of_snapshot(
    parameters: Parameters, snapshot: Mapping[str, Any], silent: str | None
) -> list[Event]:
    """Return what a snapshot of a watch tells.

    Parameters
    ----------
    silent
        Since when the source did not answer as of the snapshot before; None if it did.
    """
    told: list[tuple[EventKind, Severity, str, str, str]] = []
    since, outlook = snapshot["source"]["silent_since"], snapshot["outlook"]
    if since:
        text = f"The source does not answer since {since}."
        told.append(("data_lost", "error", "the monitor gets no data", text, since))
    elif silent:
        text = f"The source answers again; it did not since {silent}. What is missing is collected."
        told.append(("data_lost", "info", "the monitor gets data again", text, f"back {silent}"))
    for finding in outlook["drift"]["worst"] if outlook else ():
        # A look at every step finds something in the end: what is told must be sure.
        sure = finding["measure"] == "exact" or finding["id"] in outlook["drift"]["first_alarms"]
        if finding["verdict"] == "fail" and sure:
            text = f"{finding['name']} is beyond its critical limit."
            told.append(("critical_finding", "error", "critical drift", text, finding["id"]))
    for name in outlook["slo"]["exhausted"] if outlook and outlook["slo"] else ():
        text = f"The error budget of {name} for the whole window is used up."
        told.append(("budget_exhausted", "error", "an error budget is used up", text, name))
    step = ("Step", f"{snapshot['step']} of {snapshot['steps']}")
    return [
        _event(parameters, kind, severity, title, text, snapshot["step_end"], key, step)
        for kind, severity, title, text, key in told
    ]


def _event(
    parameters: Parameters,
    kind: EventKind,
    severity: Severity,
    title: str,
    text: str,
    at: str,
    key: str,
    *facts: tuple[str, str],
) -> Event:
    release = f"{parameters.release.name} {parameters.release.version}"
    return Event(
        kind=kind,
        severity=severity,
        title=f"{release}: {title}",
        text=text,
        key=_key(kind, release, parameters.window.start, key),
        time=at,
        release=release,
        facts=facts,
        links=tuple(_links()),
        simulated=parameters.simulated,
    )


def _key(kind: EventKind, *parts: object) -> str:
    text = json.dumps((kind, *parts), sort_keys=True, default=str)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def _links() -> Iterator[tuple[str, str]]:
    """Yield the page of the pipeline's run, where one runs us, and of the report, if it is told."""
    server, repository, run = (
        os.environ.get(f"GITHUB_{part}", "") for part in ("SERVER_URL", "REPOSITORY", "RUN_ID")
    )
    if server and repository and run:
        yield "Pipeline run", f"{server}/{repository}/actions/runs/{run}"
    if report := os.environ.get("TARS_GA_REPORT_URL", ""):
        yield "Report", report


# --- telling -------------------------------------------------------------------------------------


class UndeliveredError(Exception):
    """A message was not taken: why, without any secret; `after` seconds it may be tried again."""

    def __init__(self, reason: str, *, after: float = math.inf) -> None:
        super().__init__(reason)
        self.after = after


def log_of(folder: Path) -> Path:
    """Return the file with a run's receipts; it stands beside the folder while there is no run."""
    if (folder / "parameters" / "run.yaml").is_file():
        return folder / LOG
    return folder.with_name(f"{folder.name}.{LOG}")


def tell(channels: Channels, event: Event, log: Path) -> list[Receipt]:
    """Tell an event to every channel that asked for its kind, side by side.

    Parameters
    ----------
    log
        File with the receipts of this run; what stands there as delivered is not sent again.

    Returns
    -------
    list of Receipt
        One for each channel that asked, in the order of the file. Nothing is raised for a message
        that could not be delivered.
    """
    asked = [name for name, one in channels.channels.items() if event.kind in one.events]
    if not asked:
        return []
    earlier = receipts(log)
    with ThreadPoolExecutor(len(asked)) as pool:
        told = list(pool.map(lambda name: _tell_one(name, channels, event, earlier), asked))
    log.parent.mkdir(parents=True, exist_ok=True)
    torn = log.is_file() and not log.read_bytes().endswith(b"\n")  # by a kill
    lines = "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in told)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"\n{lines}" if torn else lines)
    return told


def receipts(log: Path) -> list[Receipt]:
    """Read the receipts of a run; a line that a kill left half written is left out."""
    if not log.is_file():
        return []
    found = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError, TypeError):
            found.append(Receipt(**strict.loads(line)))
    return found


def _tell_one(name: str, channels: Channels, event: Event, earlier: Sequence[Receipt]) -> Receipt:
    """Deliver an event to a channel, and say what became of it."""
    channel = channels.channels[name]
    delivered = [one for one in earlier if one.channel == name and one.status == "delivered"]

    def receipt(status: Status, attempts: int = 0, reason: str = "") -> Receipt:
        service, now = type(channel.service).__name__.lower(), format_time(time.time())
        return Receipt(name, service, event.kind, event.key, status, attempts, now, reason)

    if any(one.key == event.key for one in delivered):
        return receipt("duplicate", reason="it was delivered before")
    recent = sum(parse_time(one.time) > time.time() - 3600 for one in delivered)
    # A decision is never held back: there is one a run.
    if recent >= channel.most_per_hour and event.kind not in ("decision", "failure"):
        return receipt("held_back", 0, f"{recent} messages went out within an hour")
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(UndeliveredError),
        stop=tenacity.stop_after_attempt(channels.attempts)
        | tenacity.stop_before_delay(channels.deadline),
        wait=_pause,
        reraise=True,
    )
    try:
        retrying(deliver, channel.service, event)
    except UndeliveredError as problem:
        return receipt("failed", retrying.statistics["attempt_number"], str(problem))
    return receipt("delivered", retrying.statistics["attempt_number"])


def _pause(state: tenacity.RetryCallState) -> float:
    """Seconds until a message is tried again; endless if that would not help."""
    problem = state.outcome and state.outcome.exception()
    assert isinstance(problem, UndeliveredError)
    return max(problem.after, min(2.0 ** (state.attempt_number - 1), 30.0))


class Teller:
    """Tells the channels what the snapshots of a watch say, each event once.

    A channel that is slow delays no step: messages go out from a thread.
    """

    def __init__(self, channels: Channels, parameters: Parameters, log: Path) -> None:
        self._channels, self._parameters, self._receipts = channels, parameters, log
        self._silent: str | None = None
        self._told: dict[str, Future[list[Receipt]]] = {}
        self._thread = ThreadPoolExecutor(1)

    def hear(self, snapshot: Mapping[str, Any]) -> None:
        """Take a snapshot; what it tells that was not told goes out."""
        for event in of_snapshot(self._parameters, snapshot, self._silent):
            if event.key not in self._told:
                told = self._thread.submit(tell, self._channels, event, self._receipts)
                told.add_done_callback(_write)
                self._told[event.key] = told
        self._silent = snapshot["source"]["silent_since"]

    def close(self, seconds: float) -> None:
        """Wait until all is told, but not longer."""
        wait(self._told.values(), timeout=seconds)
        self._thread.shutdown(wait=False, cancel_futures=True)


def _write(told: Future[list[Receipt]]) -> None:
    """Write into the log what became of an event."""
    if told.cancelled():
        return
    if error := told.exception():
        _log.error("an event was not told: %s", error)
        return
    for one in told.result():
        _log.info("%s: %s %s %s", one.channel, one.event, one.status, one.reason)


# --- services ------------------------------------------------------------------------------------


def deliver(service: Service, event: Event) -> None:
    """Send an event to a service, once.

    Raises
    ------
    UndeliveredError
        If it was not taken, or a secret that it needs is not in the environment.
    """
    if isinstance(service, Apprise):
        _by_apprise(service.url_env, event)
    else:
        _post(_MESSAGES[type(service)](service, event))


class Message(NamedTuple):
    """One HTTP request; of its URL only the host may be shown, as a webhook's path is a secret."""

    url: str
    body: dict[str, Any]
    headers: dict[str, str] = {}  # noqa: RUF012

    @property
    def content(self) -> bytes:
        """The body as it is sent."""
        return json.dumps(self.body, ensure_ascii=False, separators=(",", ":")).encode()


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


def _post(message: Message) -> None:
    host = urlsplit(message.url).hostname or ""
    try:
        # A redirect would carry the secret to somebody else.
        answer = requests.post(
            message.url,
            data=message.content,
            headers={"Content-Type": "application/json; charset=utf-8", **message.headers},
            timeout=_REQUEST_SECONDS,
            allow_redirects=False,
        )
    except requests.Timeout:
        reason = f"{host} did not answer in {_REQUEST_SECONDS:.0f} s"
        raise UndeliveredError(reason, after=0) from None
    except requests.exceptions.SSLError:
        raise UndeliveredError(f"{host} has a certificate that is not trusted") from None
    except requests.RequestException as error:
        kind = type(error).__name__
        raise UndeliveredError(f"{host} cannot be reached ({kind})", after=0) from None
    if not 200 <= answer.status_code < 300:
        reason = f"{host} answered {answer.status_code} {answer.reason}"
        busy = answer.status_code in _BUSY
        raise UndeliveredError(
            reason, after=transport.retry_after(answer, math.inf) if busy else math.inf
        )


def _by_apprise(variable: str, event: Event) -> None:
    if sentence := extras.missing("apprise"):
        raise UndeliveredError(sentence)
    import apprise

    types = {"info": "info", "warning": "warning", "error": "failure", "critical": "failure"}
    sender = apprise.Apprise()
    if not sender.add(_secret(variable)):
        raise UndeliveredError(f"{variable} holds no URL that Apprise knows; correct it")
    lines = [clean(event.text), "", *(f"{clean(k)}: {clean(v)}" for k, v in event.facts)]
    lines += [f"{clean(text)}: {href}" for text, href in event.links]
    sent = sender.notify(
        "\n".join(lines), title=event.heading, notify_type=types[event.severity],
        body_format="text",
    )  # fmt: skip
    if not sent:
        raise UndeliveredError(f"the service of {variable} did not take the message", after=0)


# --- messages ------------------------------------------------------------------------------------


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _mrkdwn(text: str) -> str:
    """Escape the three characters that Slack gives a meaning to."""
    return clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def slack(service: Slack, event: Event) -> Message:
    """Write a Slack message in Block Kit, within its limits of length."""
    marks = {"info": "✅", "warning": "⚠️", "error": "❌", "critical": "🚨"}
    heading = f"{marks[event.severity]} {event.heading}"

    def text(content: str, most: int, kind: str = "mrkdwn") -> dict[str, str]:
        return {"type": kind, "text": _cut(content, most)}

    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": text(heading, 150, "plain_text")},
        {"type": "section", "text": text(_mrkdwn(event.text), 3000)},
    ]
    facts = [text(f"*{_mrkdwn(k)}*\n{_mrkdwn(v)}", 2000) for k, v in event.facts[:10]]
    if facts:
        blocks.append({"type": "section", "fields": facts})
    if event.links:
        links = " · ".join(f"<{href}|{_mrkdwn(name)}>" for name, href in event.links)
        blocks.append({"type": "context", "elements": [text(links, 3000)]})
    plain = _cut(_mrkdwn(f"{heading}: {event.text}"), 3000)
    return Message(_url(service.url_env), {"text": plain, "blocks": blocks})


def pagerduty(service: PagerDuty, event: Event) -> Message:
    """Write an alert event; one that is told again adds to the same alert."""
    return Message(f"{service.api}/v2/enqueue", {
        "routing_key": _secret(service.routing_key_env),
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
    })  # fmt: skip


def statuspage(service: StatusPage, event: Event) -> Message:
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
    url = f"{service.api}/v1/pages/{quote(service.page_id, safe='')}/incidents"
    token = {"Authorization": f"OAuth {_secret(service.token_env)}"}
    return Message(url, {"incident": incident}, token)


def webhook(service: Webhook, event: Event) -> Message:
    """Write an event as JSON, signed where there is a secret to sign with."""
    facts = asdict(event) | {"facts": dict(event.facts)}
    facts["links"] = [{"text": text, "href": href} for text, href in event.links]
    headers = {"X-Tars-Ga-Event": event.kind, "X-Tars-Ga-Delivery": event.key}
    message = Message(_url(service.url_env), {"schema": "tars-ga/notification/1", **facts}, headers)
    if service.secret_env:
        mac = hmac.new(_secret(service.secret_env).encode(), message.content, hashlib.sha256)
        headers["X-Tars-Ga-Signature-256"] = f"sha256={mac.hexdigest()}"
    return message


_MESSAGES: Mapping[type, Callable[[Any, Event], Message]] = {
    Slack: slack,
    PagerDuty: pagerduty,
    StatusPage: statuspage,
    Webhook: webhook,
}
"""The services that plain HTTP serves better than Apprise: with keys, facts and signatures."""
