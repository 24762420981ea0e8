"""Who is told what, and by which service: the model of `notify.yaml`.

Whatever lets a message in (a webhook's URL, a key, a token) is a secret. The file names the
environment variable that holds it, never the secret itself.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr, model_validator

from tars_ga_lib.grammar import Duration, Model, Name, Variable

EventKind = Literal["decision", "critical_finding", "budget_exhausted", "data_lost", "failure"]

LOG = "notifications.jsonl"
"""File of a run's folder with what was told to whom, one receipt a line."""


def _base(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or set(url) & set("@?#"):
        raise ValueError("is not a plain URL; write it like https://api.example.com")
    return url.rstrip("/")


BaseUrl = Annotated[StrictStr, AfterValidator(_base)]


Identifier = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9_-]+$")]
"""Name that a service gave to a thing, and that stands in its URLs."""


class Slack(Model):
    """A Slack incoming webhook: its whole URL is the secret."""

    url_env: Variable = "TARS_GA_SLACK_WEBHOOK"


class PagerDuty(Model):
    """PagerDuty's Events API v2: an alert of the severity that the event has."""

    routing_key_env: Variable = "TARS_GA_PAGERDUTY_ROUTING_KEY"
    api: BaseUrl = "https://events.pagerduty.com"


class StatusPage(Model):
    """Atlassian Statuspage: an incident on a page, which its subscribers read."""

    page_id: Identifier
    component_ids: list[Identifier] = Field(default=[])
    deliver_notifications: StrictBool = False
    token_env: Variable = "TARS_GA_STATUSPAGE_TOKEN"
    api: BaseUrl = "https://api.statuspage.io"


class Webhook(Model):
    """Any HTTP endpoint: the event as JSON, signed with HMAC-SHA256 where a secret is given."""

    url_env: Variable = "TARS_GA_WEBHOOK_URL"
    secret_env: Variable | None = None


class Apprise(Model):
    """Any other service that Apprise knows; the variable holds its Apprise URL."""

    url_env: Variable


class Email(Apprise):
    """Mail over SMTP; the variable holds an Apprise URL, mailtos://user:password@host?to=…"""

    url_env: Variable = "TARS_GA_MAIL_URL"


class Channel(Model):
    """One place where messages go: exactly one service, and the events that it is told."""

    events: Annotated[list[EventKind], Field(min_length=1)]
    slack: Slack | None = None
    pagerduty: PagerDuty | None = None
    statuspage: StatusPage | None = None
    email: Email | None = None
    webhook: Webhook | None = None
    apprise: Apprise | None = None
    most_per_hour: Annotated[StrictInt, Field(ge=1, le=1000)] = 20

    @model_validator(mode="after")
    def _one_service(self) -> Self:
        if sum(service is not None for service in self._services()) != 1:
            raise ValueError(
                "give exactly one of 'slack', 'pagerduty', 'statuspage', 'email', 'webhook' and "
                "'apprise'"
            )
        return self

    def _services(self) -> tuple[Service | None, ...]:
        return self.slack, self.pagerduty, self.statuspage, self.email, self.webhook, self.apprise

    @property
    def service(self) -> Service:
        """The one service of this channel."""
        return next(service for service in self._services() if service is not None)


Service = Slack | PagerDuty | StatusPage | Email | Webhook | Apprise


class Channels(Model):
    """The file `notify.yaml`.

    `attempts` to deliver one message are made, in at most `deadline`.
    """

    channels: Annotated[dict[Name, Channel], Field(min_length=1)]
    attempts: Annotated[StrictInt, Field(ge=1, le=20)] = 5
    deadline: Duration = 60
