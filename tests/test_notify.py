"""Notifications: told once, tried again, never with a secret; payloads as their services ask."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from tars_ga_lib import grammar, parameters
from tars_ga_lib.channels import LOG, Channels, Slack
from tars_ga_lib.cli import app
from tars_ga_lib.live import notify
from tars_ga_lib.live.notify import Event
from tests.helpers import ROOT, dump, tars_ga
from tests.packages import finished_run

SECRET = "hunter2-T0PSECRET"

EVENT = Event(
    kind="decision", severity="error", title="T.A.R.S. v1.0.1: NOT CERTIFIED",
    text="Error rate is 0.1113 %, and its target is < 0.1 %.", key="decision-abc",
    time="2026-11-21T00:00:00Z", release="T.A.R.S. v1.0.1",
    facts=(("Decision", "NOT CERTIFIED"), ("Window", "a day")),
    links=(("Report", "https://ci.example.com/1"),),
)  # fmt: skip

HOSTILE = replace(
    EVENT, title="<!channel> *b* `x`\u202e" + "t" * 400, text="<https://evil.example|ok> & " * 300,
    facts=tuple((f"<k{i}>", "v" * 3000) for i in range(30)), key="k" * 400,
)  # fmt: skip


@dataclass
class Server:
    """A local HTTP server that keeps what it is sent and answers as it is told."""

    url: str
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    seen: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            found.seen.append((self.path, dict(self.headers), json.loads(content)))
            status, headers = found.answers.pop(0) if found.answers else (202, {})
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        found = Server(f"http://127.0.0.1:{http.server_address[1]}")
        thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield found
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID", "TARS_GA_REPORT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TARS_GA_SLACK_WEBHOOK", f"{server.url}/services/{SECRET}")
    monkeypatch.setenv("TARS_GA_WEBHOOK_URL", f"{server.url}/hook/{SECRET}")
    monkeypatch.setenv("TARS_GA_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("TARS_GA_PAGERDUTY_ROUTING_KEY", SECRET)
    monkeypatch.setenv("TARS_GA_STATUSPAGE_TOKEN", SECRET)


SERVICES: dict[str, dict[str, Any]] = {
    "slack": {}, "pagerduty": {}, "statuspage": {"page_id": "abc"},
    "webhook": {"secret_env": "TARS_GA_WEBHOOK_SECRET"},
}  # fmt: skip


def channels(server: Server, *services: str, **changes: Any) -> Channels:
    every = {}
    for service in services or SERVICES:
        api = {"api": server.url} if service in ("pagerduty", "statuspage") else {}
        every[service] = {service: SERVICES[service] | api, "events": ["decision", "data_lost"]}
        every[service] |= {k: changes[k] for k in ("most_per_hour",) if k in changes}
    raw = {"channels": every} | {k: v for k, v in changes.items() if k != "most_per_hour"}
    return grammar.check(Channels, raw, "notify.yaml")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses are noted and not made."""
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found


# --- payloads, against what the services document -------------------------------------------------

STRING = {"type": "string", "minLength": 1}
PAGERDUTY = {
    "type": "object",
    "required": ["routing_key", "event_action", "payload"],
    "additionalProperties": False,
    "properties": {
        "routing_key": STRING, "event_action": {"enum": ["trigger", "acknowledge", "resolve"]},
        "dedup_key": {"type": "string", "maxLength": 255}, "client": STRING, "client_url": STRING,
        "images": {"type": "array"},
        "links": {"type": "array", "items": {
            "type": "object", "required": ["href"], "additionalProperties": False,
            "properties": {"href": {"type": "string", "pattern": "^https?://"}, "text": STRING}}},
        "payload": {
            "type": "object",
            "required": ["summary", "source", "severity"],
            "additionalProperties": False,
            "properties": {
                "summary": {"type": "string", "minLength": 1, "maxLength": 1024}, "source": STRING,
                "severity": {"enum": ["critical", "error", "warning", "info"]},
                "timestamp": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]"},
                "component": STRING, "group": STRING, "class": STRING,
                "custom_details": {"type": "object"},
            },
        },
    },
}  # fmt: skip


def _text(most: int, *kinds: str) -> dict[str, Any]:
    return {
        "type": "object", "required": ["type", "text"], "additionalProperties": False,
        "properties": {"type": {"enum": list(kinds)},
                       "text": {"type": "string", "minLength": 1, "maxLength": most}},
    }  # fmt: skip


SLACK = {
    "type": "object",
    "required": ["text"],
    "additionalProperties": False,
    "properties": {
        "text": {"type": "string", "minLength": 1, "maxLength": 40000},
        "blocks": {"type": "array", "maxItems": 50, "items": {"oneOf": [
            {"properties": {"type": {"const": "header"}, "text": _text(150, "plain_text")},
             "required": ["type", "text"], "additionalProperties": False},
            {"properties": {"type": {"const": "section"}, "text": _text(3000, "mrkdwn")},
             "required": ["type", "text"], "additionalProperties": False},
            {"properties": {"type": {"const": "section"},
                            "fields": {"type": "array", "minItems": 1, "maxItems": 10,
                                       "items": _text(2000, "mrkdwn")}},
             "required": ["type", "fields"], "additionalProperties": False},
            {"properties": {"type": {"const": "context"},
                            "elements": {"type": "array", "minItems": 1, "maxItems": 10}},
             "required": ["type", "elements"], "additionalProperties": False},
        ]}},
    },
}  # fmt: skip
STATUSPAGE = {
    "type": "object",
    "required": ["incident"],
    "additionalProperties": False,
    "properties": {"incident": {
        "type": "object", "required": ["name"], "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 255},
            "status": {"enum": ["investigating", "identified", "monitoring", "resolved"]},
            "impact_override": {"enum": ["none", "maintenance", "minor", "major", "critical"]},
            "body": STRING, "deliver_notifications": {"type": "boolean"},
            "component_ids": {"type": "array", "items": STRING},
        },
    }},
}  # fmt: skip


@pytest.mark.parametrize("event", [EVENT, HOSTILE, replace(EVENT, facts=(), links=())])
@pytest.mark.parametrize("severity", ["info", "warning", "error", "critical"])
def test_payloads_are_what_the_services_document(
    tmp_path: Path, server: Server, event: Event, severity: notify.Severity
) -> None:
    told = notify.tell(channels(server), replace(event, severity=severity), tmp_path / "log")
    assert [one.status for one in told] == ["delivered"] * 4
    sent = {path: (headers, body) for path, headers, body in server.seen}
    jsonschema.validate(sent[f"/services/{SECRET}"][1], SLACK)
    jsonschema.validate(sent["/v2/enqueue"][1], PAGERDUTY)
    headers, body = sent["/v1/pages/abc/incidents"]
    jsonschema.validate(body, STATUSPAGE)
    assert headers["Authorization"] == f"OAuth {SECRET}"
    headers, body = sent[f"/hook/{SECRET}"]
    assert body["key"] == headers["X-Tars-Ga-Delivery"] == event.key
    signed = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    mac = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert headers["X-Tars-Ga-Signature-256"] == f"sha256={mac}"


def test_a_name_from_the_data_mentions_nobody() -> None:
    text = json.dumps(notify.slack(Slack(), HOSTILE).body)
    assert "<!channel>" not in text.replace('"text": "\\u274c <!channel>', "")
    assert "<https://evil" not in text
    assert "\\u202e" not in text


def test_only_a_good_decision_reads_as_over(server: Server) -> None:
    page = channels(server, "statuspage").channels["statuspage"].statuspage
    assert page is not None
    good = notify.statuspage(page, replace(EVENT, severity="info")).body["incident"]
    bad = notify.statuspage(page, EVENT).body["incident"]
    assert (good["status"], good["impact_override"]) == ("resolved", "none")
    assert (bad["status"], bad["impact_override"]) == ("investigating", "minor")
    assert bad["deliver_notifications"] is False


def test_simulated_data_cannot_be_overlooked(tmp_path: Path, server: Server) -> None:
    notify.tell(channels(server), replace(EVENT, simulated=True), tmp_path / "log")
    assert all("[SIMULATED DATA]" in json.dumps(b) for p, _, b in server.seen if "hook" not in p)
    assert [b["simulated"] for p, _, b in server.seen if "hook" in p] == [True]


# --- delivery -------------------------------------------------------------------------------------


def test_told_once(tmp_path: Path, server: Server) -> None:
    log = tmp_path / "run" / "log"
    both = channels(server, "slack", "webhook")
    assert {one.status for one in notify.tell(both, EVENT, log)} == {"delivered"}
    assert {one.status for one in notify.tell(both, EVENT, log)} == {"duplicate"}
    assert len(server.seen) == 2
    assert {one.status for one in notify.tell(both, replace(EVENT, key="other"), log)} == {
        "delivered"
    }
    # What failed is sent when it is told again.
    server.answers = [(400, {})]
    one = channels(server, "slack")
    assert notify.tell(one, replace(EVENT, key="third"), log)[0].status == "failed"
    assert notify.tell(one, replace(EVENT, key="third"), log)[0].status == "delivered"


def test_a_torn_line_costs_no_other(tmp_path: Path, server: Server) -> None:
    log, slack = tmp_path / "log", channels(server, "slack")
    notify.tell(slack, EVENT, log)
    with log.open("a") as file:
        file.write('{"channel": "sl')
    notify.tell(slack, replace(EVENT, key="other"), log)
    assert [one.key for one in notify.receipts(log)] == [EVENT.key, "other"]
    assert notify.tell(slack, EVENT, log)[0].status == "duplicate"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_service_is_tried_again(
    tmp_path: Path, server: Server, pauses: list[float], status: int
) -> None:
    server.answers = [(status, {}), (status, {"Retry-After": "7"}), (202, {})]
    (one,) = notify.tell(channels(server, "slack"), EVENT, tmp_path / "log")
    assert (one.status, one.attempts) == ("delivered", 3)
    assert pauses == [1.0, 7.0]


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404])
def test_a_refusal_is_final(tmp_path: Path, server: Server, status: int) -> None:
    server.answers = [(status, {"Location": f"{server.url}/elsewhere"})]
    (one,) = notify.tell(channels(server, "slack"), EVENT, tmp_path / "log")
    assert (one.status, one.attempts) == ("failed", 1)
    assert one.reason.startswith(f"127.0.0.1 answered {status} ")
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("limits", "headers", "attempts"),
    [
        ({"attempts": 3}, {}, 3),
        ({"attempts": 20, "deadline": "10s"}, {}, 5),  # the next pause would be 16 s
        ({}, {"Retry-After": "3600"}, 1),
    ],
)
def test_it_gives_up_at_its_attempts_and_at_its_deadline(
    tmp_path: Path,
    server: Server,
    pauses: list[float],
    limits: dict[str, Any],
    headers: dict[str, str],
    attempts: int,
) -> None:
    server.answers = [(503, headers)] * 50
    (one,) = notify.tell(channels(server, "slack", **limits), EVENT, tmp_path / "log")
    assert (one.status, one.attempts, len(server.seen)) == ("failed", attempts, attempts)
    assert sum(pauses) <= 15


def test_no_more_than_the_channel_allows(tmp_path: Path, server: Server) -> None:
    log, few = tmp_path / "log", channels(server, "slack", most_per_hour=2)
    lost = replace(EVENT, kind="data_lost")
    found = [notify.tell(few, replace(lost, key=f"k{i}"), log)[0].status for i in range(4)]
    assert found == ["delivered", "delivered", "held_back", "held_back"]
    # The decision always goes out, and after an hour the others do again.
    assert notify.tell(few, EVENT, log)[0].status == "delivered"
    hour_ago = [replace(old, time="2020-01-01T00:00:00Z") for old in notify.receipts(log)]
    log.write_text("".join(json.dumps(asdict(old)) + "\n" for old in hour_ago))
    assert notify.tell(few, replace(lost, key="k9"), log)[0].status == "delivered"


def test_who_did_not_ask_is_not_told(tmp_path: Path, server: Server) -> None:
    assert notify.tell(channels(server), replace(EVENT, kind="failure"), tmp_path / "log") == []
    assert not server.seen
    assert not (tmp_path / "log").exists()


@pytest.mark.usefixtures("pauses")
def test_one_that_fails_does_not_keep_the_others(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TARS_GA_PAGERDUTY_ROUTING_KEY")
    monkeypatch.setenv("TARS_GA_SLACK_WEBHOOK", f"http://127.0.0.1:9/{SECRET}")
    told = {one.channel: one for one in notify.tell(channels(server), EVENT, tmp_path / "log")}
    assert told["pagerduty"].reason == (
        "the environment variable TARS_GA_PAGERDUTY_ROUTING_KEY is not set; set it"
    )
    assert told["slack"].reason == "127.0.0.1 cannot be reached (ConnectionError)"
    assert told["webhook"].status == told["statuspage"].status == "delivered"


@pytest.mark.usefixtures("pauses")
def test_no_secret_is_kept(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers = [(403, {})] * 4
    notify.tell(channels(server), EVENT, tmp_path / "a")
    for variable in ("TARS_GA_SLACK_WEBHOOK", "TARS_GA_WEBHOOK_URL"):
        monkeypatch.setenv(variable, f"ftp://x:{SECRET}@127.0.0.1/")
    notify.tell(channels(server), EVENT, tmp_path / "b")
    for variable in ("TARS_GA_SLACK_WEBHOOK", "TARS_GA_WEBHOOK_URL"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:9/{SECRET}")
    notify.tell(channels(server), EVENT, tmp_path / "c")
    for name in "abc":
        text = (tmp_path / name).read_text()
        assert SECRET not in text
        assert text.count("failed") >= 2


# --- mail -----------------------------------------------------------------------------------------


@pytest.fixture
def mail() -> Iterator[tuple[int, list[str]]]:
    """Take mail as RFC 5321 says, and keep it."""
    inbox: list[str] = []

    def serve(connection: socket.socket) -> None:
        with connection, connection.makefile("rwb") as stream:

            def say(line: str) -> None:
                stream.write(line.encode() + b"\r\n")
                stream.flush()

            say("220 localhost")
            while line := stream.readline().decode(errors="replace").strip():
                word = line.split()[0].upper()
                if word == "DATA":
                    say("354 go on")
                    content = []
                    while (part := stream.readline()) not in (b".\r\n", b""):
                        content.append(part.decode(errors="replace"))
                    inbox.append("".join(content))
                say({"QUIT": "221 bye", "EHLO": "250 localhost"}.get(word, "250 ok"))
                if word == "QUIT":
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                serve(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1], inbox
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # which Apprise imports
def test_mail_by_apprise(
    tmp_path: Path, mail: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, inbox = mail
    raw = {"channels": {"mail": {"email": {}, "events": ["decision"]}}, "attempts": 1}
    them = grammar.check(Channels, raw, "notify.yaml")
    url = f"mailto://127.0.0.1:{port}?from=tars@example.com&to=team@example.com&mode=insecure"
    monkeypatch.setenv("TARS_GA_MAIL_URL", url)
    (one,) = notify.tell(them, EVENT, tmp_path / "log")
    assert one.status == "delivered", one
    assert "Subject: T.A.R.S. v1.0.1: NOT CERTIFIED" in inbox[0]
    monkeypatch.setenv("TARS_GA_MAIL_URL", f"nonsense {SECRET}")
    (one,) = notify.tell(them, replace(EVENT, key="other"), tmp_path / "log")
    assert one.reason == "TARS_GA_MAIL_URL holds no URL that Apprise knows; correct it"


# --- events and the command -----------------------------------------------------------------------


def test_the_decision_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished_run(tmp_path / "run")
    certification = json.loads((run / "certification_metadata.json").read_text())
    for part, value in {"SERVER_URL": "https://ci.example.com", "REPOSITORY": "a/b",
                        "RUN_ID": "7"}.items():  # fmt: skip
        monkeypatch.setenv(f"GITHUB_{part}", value)
    event = notify.decision(certification)
    assert event.title.endswith(certification["decision"])
    assert event.links == (("Pipeline run", "https://ci.example.com/a/b/actions/runs/7"),)
    assert notify.decision(certification).key == event.key
    other = certification | {"derived_from": {"recording": "sha256:0", "parameters": "sha256:1"}}
    assert notify.decision(other).key != event.key
    severities = {
        d: notify.decision(certification | {"decision": d}).severity
        for d in ("CERTIFIED", "CERTIFIED WITH WAIVERS", "NOT CERTIFIED", "INCONCLUSIVE")
    }
    assert list(severities.values()) == ["info", "info", "error", "warning"]


def test_the_example_is_good() -> None:
    raw = grammar.read_yaml(ROOT / "parameters" / "notify.yaml")
    them = grammar.check(Channels, raw, "notify.yaml")
    assert {type(c.service).__name__ for c in them.channels.values()} == {
        "Slack", "PagerDuty", "StatusPage", "Email",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("channel", "reason"),
    [
        ({"events": ["decision"]}, "give exactly one of 'slack'"),
        ({"events": ["decision"], "slack": {}, "webhook": {}}, "give exactly one of 'slack'"),
        ({"events": [], "slack": {}}, "channels.it.events: "),
        ({"events": ["decisions"], "slack": {}}, "channels.it.events.0: "),
        (
            {"events": ["decision"], "slack": {"url": "http://x"}},
            "unknown key 'channels.it.slack.u",
        ),
        ({"events": ["decision"], "slack": {"url_env": "http://x"}}, "channels.it.slack.url_env: "),
        ({"events": ["decision"], "pagerduty": {"api": "x"}}, "is not a plain URL"),
    ],
)
def test_bad_channels_are_refused(channel: dict[str, Any], reason: str) -> None:
    with pytest.raises(grammar.ParametersError) as error:
        grammar.check(Channels, {"channels": {"it": channel}}, "notify.yaml")
    assert str(error.value).startswith("notify.yaml: ")
    assert reason in str(error.value)


def test_the_command(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished_run(tmp_path / "run")
    service = {"webhook": {}, "events": ["decision", "failure"]}
    dump(tmp_path / "notify.yaml", {"channels": {"hook": service}, "attempts": 1})
    demo = ROOT / "parameters" / "demo.yaml"
    arguments = ["notify", str(demo), "--run", str(run)]

    def command(url: str, *more: str) -> tuple[int, str]:
        monkeypatch.setenv("TARS_GA_WEBHOOK_URL", url)
        found = ["--set", f"notify={tmp_path / 'notify.yaml'}", *more]
        done = CliRunner().invoke(app, [*arguments, *found])
        assert SECRET not in done.output
        return done.exit_code, done.output

    good, bad = (f"{url}/{SECRET}" for url in (server.url, "http://127.0.0.1:9"))
    code, text = command("", "--dry-run")
    assert (code, len(server.seen)) == (0, 0)
    assert "hook (webhook): " in text
    assert command(bad) == (
        3, "✗ hook (webhook): failed: 127.0.0.1 cannot be reached (ConnectionError)\n",
    )  # fmt: skip
    assert command(good) == (0, "✓ hook (webhook): delivered\n")
    assert command(good)[1] == "= hook (webhook): duplicate: it was delivered before\n"
    assert [one.status for one in notify.receipts(run / LOG)] == [
        "failed", "delivered", "duplicate",
    ]  # fmt: skip
    code, _ = command(good, "--failure", "the disk is full")
    assert (code, server.seen[-1][2]["text"]) == (0, "the disk is full")
    done = tars_ga(*arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "there is nobody to tell" in done.stderr


def test_a_run_tells_its_failure_and_fails_all_the_same(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TARS_GA_WEBHOOK_URL", server.url)
    dump(tmp_path / "notify.yaml", {"channels": {"hook": {"webhook": {}, "events": ["failure"]}}})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "theirs").touch()
    done = CliRunner().invoke(app, [
        "run", str(ROOT / "parameters" / "demo.yaml"), "--notify", "--output",
        str(tmp_path / "out"), "--set", f"notify={tmp_path / 'notify.yaml'}",
    ])  # fmt: skip
    assert isinstance(done.exception, grammar.ParametersError)
    assert "holds files that are not a run's" in server.seen[0][2]["text"]
    assert "delivered" in (tmp_path / "out.notifications.jsonl").read_text()


def test_an_evidence_package_holds_no_receipts(tmp_path: Path) -> None:
    from tars_ga_lib.evidence import package as evidence

    run = finished_run(tmp_path / "run")
    (run / LOG).write_text("{}\n")
    assert not any("notifications" in name for name in evidence.members(run))
    assert notify.log_of(run) == run / LOG
    assert parameters.MEASURED  # the run's other extras are packed
