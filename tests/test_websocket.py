"""WebSocket sessions watched against real servers, good and bad; figures against the truth."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tars_ga_lib import cli, views
from tars_ga_lib.endpoints import Limits, WebSocketTargets, judge, outcome
from tars_ga_lib.grammar import Limit, ParametersError, check, read_yaml
from tars_ga_lib.system import dialling, websocket
from tars_ga_lib.system.ledger import Clock, Durations, Ledger
from tars_ga_lib.tables import written
from tests import websocket_servers as servers
from tests.helpers import ROOT, tars_ga, write_run
from tests.servers import free_port
from tests.websocket_servers import Authority, Hosting

Facts = dict[str, Any]

TARS_GA = Path(sys.executable).with_name("tars-ga")
TOKEN = "right-token-0123456789"
SECRET = "other secret-of-ours"
FAST = websocket.Pace(
    duration=2.0,
    reconnect_every=None,
    ping_every=0.05,
    ping_timeout=0.4,
    open_timeout=0.6,
    retry_first=0.02,
    retry_most=0.05,
)
CODES = {
    1000: "normal closure",
    1001: "going away",
    1008: "policy violation",
    1011: "internal error",
    1012: "service restart",
    1013: "try again later",
    3999: "registered",
    4000: "private use",
}


def pace(**changes: Any) -> websocket.Pace:
    return websocket.Pace(**{**FAST.__dict__, **changes})


def targets(limits: dict[str, Any] | None = None, /, **urls: str) -> WebSocketTargets:
    return check(WebSocketTargets, {"endpoints": urls, "limits": limits or {}}, "test")


def by_name(results: Facts) -> dict[str, Facts]:
    return {each["name"]: each for each in results["endpoints"]}


def reasons(endpoint: Facts) -> str:
    return " | ".join(each["reason"] for each in endpoint["downtimes"])


def limit_of(endpoint: Facts, name: str) -> Facts:
    return next(each for each in endpoint["limits"] if each["name"] == name)


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosting]:
    with servers.hosting() as hosts:
        yield hosts


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


# --- uptime against the truth -------------------------------------------------------------------


@pytest.fixture(scope="module")
def truth(hosts: Hosting) -> dict[str, tuple[Facts, Any]]:
    """Watch servers that are away at known times; return what was seen and the server."""
    away: dict[str, Any] = {
        "restarted": hosts.outages([1.0, 1.9, 4.0, 5.2]),
        "killed": hosts.outages([2.5, 4.6], code=0),
        "frozen": hosts.frozen(2.0, 1.7),
        "never": hosts.outages([]),
        "to_the_end": hosts.outages([6.0, 60.0]),
    }
    urls = {name: server.url for name, server in away.items()}
    fine = pace(duration=8.0, ping_every=0.025, retry_most=0.02, reconnect_every=2.2)
    results = websocket.watch(targets(**urls), pace=fine, environ={})
    assert results["complete"]
    return {name: (by_name(results)[name], server) for name, server in away.items()}


@pytest.mark.parametrize("name", ["restarted", "killed", "frozen", "never"])
def test_uptime_is_the_truth(truth: dict[str, tuple[Facts, Any]], name: str) -> None:
    seen, server = truth[name]
    down = sum(end - start for start, end in server.downs)
    assert seen["uptime"] == pytest.approx(1 - down / seen["observed_seconds"], abs=0.01)
    assert len(seen["downtimes"]) == seen["downtime_count"] == len(server.downs)
    for told, (start, end) in zip(seen["downtimes"], server.downs, strict=True):
        assert told["seconds"] == pytest.approx(end - start, abs=0.12)
    longest = max((end - start for start, end in server.downs), default=0.0)
    assert seen["longest_downtime"] == pytest.approx(longest, abs=0.12)
    assert limit_of(seen, "uptime")["verdict"] == ("fail" if server.downs else "pass")


def test_a_silent_server_is_never_up_for_longer_than_it_was(
    truth: dict[str, tuple[Facts, Any]],
) -> None:
    seen, _ = truth["frozen"]
    assert seen["downtimes"][0]["seconds"] > 1.7  # from the last sign of life, not from the timeout
    assert "a ping was not answered within 0.4 s" in reasons(seen)


def test_the_parts_make_the_whole(truth: dict[str, tuple[Facts, Any]]) -> None:
    for seen, _ in truth.values():
        parts = seen["observed_seconds"] + seen["forced_seconds"] + seen["unobserved_seconds"]
        assert parts == pytest.approx(8.0, abs=0.1)
        assert seen["uptime"] == seen["connected_seconds"] / seen["observed_seconds"]
        down = sum(each["seconds"] for each in seen["downtimes"])
        assert down == pytest.approx(seen["observed_seconds"] - seen["connected_seconds"], abs=1e-3)


def test_forced_reconnects_are_told_apart(truth: dict[str, tuple[Facts, Any]]) -> None:
    seen, _ = truth["never"]
    assert seen["forced"]["attempts"] == seen["forced"]["successes"] == 3
    assert seen["forced"]["latency"]["count"] == 3
    assert seen["reconnects"]["attempts"] == 0
    assert seen["reconnects"]["success_rate"] is None
    assert seen["uptime"] == 1.0
    assert seen["handshake"]["count"] == 4
    assert seen["verdict"] == "pass"
    seen, _ = truth["restarted"]
    assert seen["reconnects"]["successes"] == 2
    assert seen["reconnects"]["attempts"] > 4
    assert seen["reconnects"]["latency"]["max"] == pytest.approx(1.2, abs=0.1)
    assert reasons(seen).count("1012 (service restart); then connection refused") == 2


def test_a_reconnect_that_goes_on_at_the_end_counts(truth: dict[str, tuple[Facts, Any]]) -> None:
    seen, _ = truth["to_the_end"]
    assert seen["downtime_count"] == 1
    assert seen["downtimes"][0]["seconds"] == pytest.approx(2.0, abs=0.15)
    assert seen["reconnects"]["successes"] == seen["reconnects"]["latency"]["count"] == 0
    # Two forced ones took milliseconds; the one that did not end is no reason to forget it.
    assert seen["figures"]["reconnect_latency_p99"] == pytest.approx(2.0, abs=0.15)


# --- servers of every kind ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def zoo(hosts: Hosting, authority: Authority) -> dict[str, Facts]:
    """Watch every kind of bad server at once, beside good ones; return what was seen by name."""
    raw = {
        "mute": servers.mute,
        "dropping": servers.dropping,
        "stalling": servers.stalling,
        "not_http": servers.not_http,
        "slow": servers.slow(0.15),
        "garbage": servers.garbage(),
        "cutting": servers.cutting(),
        "half_closing": servers.half_closing,
        "lingering": servers.lingering,
    }
    good: dict[str, dict[str, Any]] = {
        "good": {},
        "token": servers.requiring("Authorization", f"Bearer {TOKEN}"),
        "header": servers.requiring("X-Api-Key", SECRET),
        "echoing": servers.requiring("Authorization", f"Bearer {TOKEN}", after=0.0),
        "other_token": servers.requiring("Authorization", "Bearer of another"),
        "forbidden": servers.answering(403),
        "not_found": servers.answering(404),
        "unavailable": servers.answering(503),
        "redirecting": servers.answering(302, {"Location": "ws://127.0.0.9:1/ws"}),
    }
    good |= {f"code_{c}": {"handler": servers.closing(c, "bye")} for c in CODES}
    tls: dict[str, dict[str, Any]] = {
        "tls": {},
        "tls_client": {"clients": True},
        "self_signed": {"self_signed": True},
        "expired": {"days": (-9, -2)},
        "not_yet": {"days": (2, 9)},
        "other_host": {"address": "127.0.0.9"},
    }
    urls = {name: hosts.raw(talk) for name, talk in raw.items()}
    urls |= {name: hosts.good(**options) for name, options in good.items()}
    urls |= {n: hosts.good(authority.serving(n, **options)) for n, options in tls.items()}
    urls["tls_stalling"] = hosts.raw(servers.stalling).replace("ws:", "wss:")
    urls["no_tls"] = hosts.raw(servers.not_http).replace("ws:", "wss:")
    urls["refused"] = f"ws://127.0.0.1:{free_port()}/ws"
    urls["dns"] = "ws://nowhere.invalid/ws?version=2"
    environ = {
        "TARS_GA_CA_BUNDLE": str(authority.bundle),
        "TARS_GA_CLIENT_CERT": str(authority.issue("a client", client=True)),
        "TARS_GA_WS_BEARER_TOKEN": TOKEN,
        "TARS_GA_WS_HEADERS": json.dumps({"X-Api-Key": SECRET}),
    }
    began = time.monotonic()
    quick = pace(
        duration=5.0, reconnect_every=1.9, retry_most=0.2, ping_timeout=1.0, open_timeout=1.2
    )
    results = websocket.watch(targets(**urls), pace=quick, environ=environ)
    assert results["complete"]
    assert results["verdict"] == "fail"
    text = json.dumps(results)
    assert TOKEN not in text
    assert SECRET not in text
    assert "secret-of-ours" not in text
    assert "version=2" not in text
    return by_name(results) | {"took": {"seconds": time.monotonic() - began}}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mute", "a ping was not answered within 1 s"),
        ("dropping", "it accepted the connection and closed it during the handshake"),
        ("stalling", "no session within 1.2 s"),
        ("not_http", "its answer to the handshake is not HTTP"),
        ("not_found", "HTTP 404 (Not Found)"),
        ("unavailable", "HTTP 503 (Service Unavailable)"),
        ("redirecting", "it redirects to another server, which is not followed"),
        (
            "self_signed",
            "TLS: the server's certificate: self-signed certificate; TARS_GA",
        ),
        ("expired", "TLS: the server's certificate: certificate has expired"),
        ("not_yet", "TLS: the server's certificate: certificate is not yet valid"),
        ("other_host", "TLS: the server's certificate: IP address mismatch"),
        ("tls_stalling", "no session within 1.2 s"),
        ("refused", "connection refused"),
        ("dns", "DNS: "),
    ],
)
def test_never_up(zoo: dict[str, Facts], name: str, reason: str) -> None:
    seen = zoo[name]
    assert reason in reasons(seen)
    assert seen["uptime"] == 0.0
    assert seen["connected_seconds"] == 0.0
    assert seen["downtime_count"] == 1
    assert seen["longest_downtime"] == pytest.approx(5.0, abs=0.5)
    assert seen["reconnects"]["successes"] == 0
    assert seen["reconnects"]["attempts"] > 1
    assert seen["ping"] == {"count": 0, "mean": None, "p99": None, "max": None}
    assert limit_of(seen, "uptime")["verdict"] == "fail"


def test_what_the_server_repeats_is_hidden(zoo: dict[str, Facts]) -> None:
    assert "closed by the server: 4001 (private use): your token was …" in reasons(zoo["echoing"])


def test_tls_is_not_spoken(zoo: dict[str, Facts]) -> None:
    assert zoo["no_tls"]["uptime"] == 0.0
    assert reasons(zoo["no_tls"])


@pytest.mark.parametrize("name", ["good", "slow", "tls", "tls_client", "lingering"])
def test_always_up(zoo: dict[str, Facts], name: str) -> None:
    seen = zoo[name]
    assert seen["uptime"] == 1.0
    assert seen["downtimes"] == []
    assert seen["forced"]["successes"] >= 1
    assert seen["ping"]["count"] > 5


@pytest.mark.parametrize("code", CODES)
def test_close_codes(zoo: dict[str, Facts], code: int) -> None:
    seen = zoo[f"code_{code}"]
    assert reasons(seen).startswith(f"closed by the server: {code} ({CODES[code]}): bye")
    assert 0 < seen["uptime"] < 1
    assert seen["reconnects"]["successes"] >= seen["downtime_count"] - 1 >= 2


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("garbage", "the server broke the protocol (1002, "),
        ("cutting", "connection lost without a close frame (1006, abnormal closure)"),
        ("half_closing", "closed by the server: 1001 (going away)"),
        ("token", "closed by the server: 4001 (private use): your token was …"),
    ],
)
def test_dropped_again_and_again(zoo: dict[str, Facts], name: str, reason: str) -> None:
    seen = zoo[name]
    assert seen["downtime_count"] > 2
    assert {reason} == {each["reason"][: len(reason)] for each in seen["downtimes"]}
    assert 0 < seen["uptime"] < 1


def test_slow_answers_are_measured(zoo: dict[str, Facts]) -> None:
    assert zoo["slow"]["ping"]["mean"] > 0.15
    assert zoo["good"]["ping"]["mean"] < zoo["slow"]["ping"]["mean"]


def test_a_close_frame_is_not_waited_for_for_ever(zoo: dict[str, Facts]) -> None:
    seen = zoo["lingering"]["forced"]
    assert seen["successes"] == seen["attempts"] >= 1
    assert seen["latency"]["max"] > 0.9 * dialling.CLOSE_WITHIN


def test_messages_are_counted_and_dropped(hosts: Hosting) -> None:
    urls = {
        "flood": hosts.good(handler=servers.flood(20_000), compression=None),
        "huge": hosts.good(handler=servers.huge, compression=None),
        "good": hosts.good(),
    }
    patient = pace(duration=2.5, ping_timeout=2.0, open_timeout=2.0)
    seen = by_name(websocket.watch(targets(**urls), pace=patient, environ={}))
    assert seen["flood"]["messages"] > 100
    assert seen["flood"]["uptime"] == 1.0
    assert seen["good"]["messages"] == 0
    assert "a message of more than 16 MiB, which the monitor cannot take" in reasons(seen["huge"])


@pytest.mark.parametrize(("name", "code"), [("other_token", 401), ("forbidden", 403)])
def test_who_is_not_let_in_has_seen_nothing(zoo: dict[str, Facts], name: str, code: int) -> None:
    seen = zoo[name]
    assert seen["uptime"] is None
    assert seen["figures"]["longest_downtime"] is None
    assert seen["observed_seconds"] == 0.0
    assert seen["unobserved_seconds"] >= 4.9
    assert seen["problem"].startswith(f"HTTP {code}: it refuses our credentials; set TARS_GA_WS_")
    assert seen["verdict"] == "no_data"
    assert limit_of(seen, "uptime")["reason"] == seen["problem"]


def test_the_token_is_sent(zoo: dict[str, Facts]) -> None:
    for name in ("token", "header"):
        assert zoo[name]["uptime"] > 0
        assert zoo[name]["problem"] == ""


def test_it_ends_in_time(zoo: dict[str, Facts]) -> None:
    assert zoo["took"]["seconds"] < 60  # the stalling ones would take an hour


# --- the monitor's own time ---------------------------------------------------------------------


async def stalled(endpoints: WebSocketTargets, after: float) -> Facts:
    """Watch for three seconds, of which the loop stalls for 1.2, as in a stopped process."""
    monitor = websocket.Monitor(endpoints, pace(duration=3.0), environ={})
    watching = asyncio.create_task(monitor.run())
    await asyncio.sleep(after)
    time.sleep(1.2)
    await watching
    return monitor.results()


def test_a_stalled_loop_is_neither_up_nor_down(hosts: Hosting) -> None:
    urls = {"good": hosts.good(), "refused": f"ws://127.0.0.1:{free_port()}/ws"}

    results = asyncio.run(stalled(targets(**urls), 0.8))
    (gap,) = results["unobserved"]
    good, refused = by_name(results)["good"], by_name(results)["refused"]
    assert good["uptime"] == 1.0
    assert good["downtimes"] == []
    assert good["unobserved_seconds"] == pytest.approx(1.2, abs=0.3)
    assert good["observed_seconds"] == pytest.approx(1.8, abs=0.3)
    assert good["ping"]["max"] < 1.2
    assert good["verdict"] == "no_data"
    assert "of the time could be watched, and 95 % are needed" in good["limits"][0]["reason"]
    assert refused["uptime"] == 0.0
    assert refused["observed_seconds"] == pytest.approx(1.8, abs=0.3)
    assert "s of it nobody observed" in reasons(refused)
    assert refused["longest_downtime"] == pytest.approx(3.0, abs=0.3)
    assert limit_of(refused, "uptime")["verdict"] == "fail"
    assert gap["start"] < gap["end"]


def test_a_session_lost_while_nobody_looked_is_not_the_servers_fault(hosts: Hosting) -> None:
    away = hosts.outages([0.9, 1.3])

    (seen,) = asyncio.run(stalled(targets(away=away.url), 0.6))["endpoints"]
    assert away.downs
    assert seen["uptime"] == 1.0
    assert seen["reconnects"]["attempts"] == 0
    assert seen["handshake"]["count"] == 2


def test_one_endpoint_does_not_disturb_another(hosts: Hosting) -> None:
    urls = {f"stalling_{i}": hosts.raw(servers.stalling) for i in range(20)}
    urls |= {f"dns_{i}": f"ws://nowhere{i}.invalid/ws" for i in range(20)}
    results = websocket.watch(targets(**urls, good=hosts.good()), pace=pace(), environ={})
    good = by_name(results)["good"]
    assert good["uptime"] == 1.0
    assert good["ping"]["count"] > 5


def test_in_a_running_loop_and_interrupted(hosts: Hosting) -> None:
    """As in a notebook: a loop runs already, and the kernel's interrupt is a KeyboardInterrupt."""
    told: list[tuple[float, list[websocket.Glance]]] = []

    def progress(left: float, glances: list[websocket.Glance]) -> None:
        told.append((left, glances))
        if len(told) == 4:
            raise KeyboardInterrupt

    async def cell() -> Facts:
        return websocket.watch(
            targets(good=hosts.good()),
            pace=pace(duration=600.0),
            environ={},
            progress=progress,
            every=0.1,
            release={"name": "T.A.R.S.", "version": "v1"},
            simulated=True,
            note="of a test",
        )

    results = asyncio.run(cell())
    assert not results["complete"]
    assert results["stopped_by"] == "SIGINT"
    assert results["verdict"] == "no_data"
    assert results["release"] == {"name": "T.A.R.S.", "version": "v1"}
    assert (results["simulated"], results["note"]) == (True, "of a test")
    assert 590 < told[-1][0] < 600
    assert told[-1][1][0].state == "up"
    assert told[-1][1][0].uptime == 1.0
    reason = limit_of(results["endpoints"][0], "longest_downtime")["reason"]
    assert re.match(r"it was stopped by SIGINT after \d+ s of 10m", reason)


def test_an_error_of_ours_is_not_silent(hosts: Hosting, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> str:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(dialling, "why_not", broken)
    with pytest.raises(ZeroDivisionError, match="ours"):
        websocket.watch(
            targets(gone=f"ws://127.0.0.1:{free_port()}/ws"), pace=pace(duration=60.0), environ={}
        )


def test_progress_that_fails_ends_the_watch(hosts: Hosting) -> None:
    def progress(*_: object) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        websocket.watch(
            targets(good=hosts.good()), pace=pace(duration=600.0), environ={}, progress=progress
        )
    assert not [t for t in threading.enumerate() if t.name == "tars-ga-websocket"]


# --- the command --------------------------------------------------------------------------------


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that starts the command; what still runs is stopped at the end."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: object, **environ: str) -> subprocess.Popen[str]:
            process = stack.enter_context(
                subprocess.Popen(
                    [str(TARS_GA), "websocket", *map(str, arguments)],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    # The runner's workers have a COLUMNS of their own, to which tables are folded.
                    env=os.environ | {"COLUMNS": "200"} | environ,
                )
            )
            stack.callback(process.kill)
            return process

        yield start


QUICK = (
    "--duration",
    "3s",
    "--reconnect-every",
    "1s",
    "--ping-every",
    "1s",
    "--ping-timeout",
    "1s",
)


def test_command(start: Start, hosts: Hosting, tmp_path: Path) -> None:
    """Whole watches of the command side by side, and their exit codes."""
    good, bad = hosts.good(), f"ws://127.0.0.1:{free_port()}/ws"
    refusing = hosts.good(**servers.answering(401))
    cases = {0: [good], 3: [good, f"east={bad}"], 4: [f"east={refusing}", good]}
    started = {}
    for code, urls in cases.items():
        given = [part for url in urls for part in ("--endpoint", url)]
        started[code] = start(*given, *QUICK, "--output", tmp_path / f"{code}.json")
    for code, process in started.items():
        said, told = process.communicate(timeout=120)
        assert process.returncode == code, told
        results = json.loads((tmp_path / f"{code}.json").read_text())
        assert results["schema"] == "tars-ga/websocket/1"
        assert results["verdict"] == {0: "pass", 3: "fail", 4: "no_data"}[code]
        assert results["asked_seconds"] == 3.0
        assert results["parameters"]["reconnect_every"] == 1.0
        assert results["release"] == {"name": None, "version": None}
        name = good.removeprefix("ws://").removesuffix("/ws")
        assert by_name(results)[name]["verdict"] == "pass"
        assert f"Results: {tmp_path / f'{code}.json'}" in said
        assert name in said
        assert "of 3\xa0s" in told  # plain lines, as this is no terminal
        assert ("fail east: Uptime 0\xa0%, must be ≥\xa099.9\xa0%" in said) == (code == 3)
        assert ("HTTP 401" in said) == (code == 4)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_watch(
    start: Start, hosts: Hosting, authority: Authority, tmp_path: Path, number: signal.Signals
) -> None:
    output = tmp_path / "ws.json"
    process = start(
        *("--endpoint", f"good={hosts.good(authority.serving('stopped'))}", "--quiet"),
        *("--endpoint", f"hung={hosts.raw(servers.stalling)}", "--output", output),
        TARS_GA_CA_BUNDLE=str(authority.bundle),
    )
    wait_for_session(process)
    process.send_signal(number)
    said, told = process.communicate(timeout=120)
    assert process.returncode == 4, told
    assert told == ""
    results = json.loads(output.read_text())
    assert (results["complete"], results["stopped_by"]) == (False, number.name)
    assert results["asked_seconds"] == 3600.0
    assert 0 < results["watched_seconds"] < 60
    good = by_name(results)["good"]
    assert good["uptime"] == 1.0
    assert good["verdict"] == "no_data"
    assert f"it was stopped by {number.name} after" in said


def is_socket(link: Path) -> bool:
    try:
        return os.readlink(link).startswith("socket:")
    except OSError:  # it was closed meanwhile
        return False


def wait_for_session(process: subprocess.Popen[str], sockets: int = 4) -> None:
    """Wait until the command holds a connection, by what the system says of its sockets."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        if sum(map(is_socket, Path(f"/proc/{process.pid}/fd").iterdir())) >= sockets:
            time.sleep(0.8)
            return
        time.sleep(0.05)
    raise AssertionError(f"no session: {process.communicate(timeout=5)}")


def test_a_stopped_process_reports_what_it_did_not_see(
    start: Start, hosts: Hosting, tmp_path: Path
) -> None:
    output = tmp_path / "ws.json"
    quick = ["--duration", "4s", "--reconnect-every", "1s", "--ping-every", "1s"]
    process = start("--endpoint", f"good={hosts.good()}", *quick, "--output", output)
    wait_for_session(process, 3)
    process.send_signal(signal.SIGSTOP)
    time.sleep(1.8)
    process.send_signal(signal.SIGCONT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 4
    results = json.loads(output.read_text())
    (good,) = results["endpoints"]
    assert len(results["unobserved"]) == 1
    assert good["unobserved_seconds"] == pytest.approx(1.8, abs=0.4)
    assert good["uptime"] == 1.0
    assert "Nobody looked 1 times" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "give either a run's PARAMETERS or --endpoint wss://…"),
        (["run.yaml", "--endpoint", "ws://127.0.0.1/"], "--endpoint wss://…, not both"),
        (["--endpoint", "ws://u:pass-word@127.0.0.1/"], "endpoints.127.0.0.1: the URL holds cred"),
        (["--endpoint", "ws://127.0.0.1/?access_token=pass-word"], "the URL holds credentials"),
        (["--endpoint", "a=http://127.0.0.1/"], "endpoints.a: it is not a WebSocket URL; write it"),
        (["--endpoint", "a=ws://127.0.0.1:x/"], "endpoints.a: it is not a WebSocket URL"),
        (["--endpoint", "ws://127.0.0.1/a", "--endpoint", "ws://127.0.0.1/b"], "is there twice"),
        (["--endpoint", "ws://127.0.0.1/", "--duration", "1.5h"], "'1.5h' is not a duration"),
        (["--endpoint", "ws://127.0.0.1/", "--duration", "1m"], "'reconnect_every' is not shorter"),
        (["--endpoint", "ws://127.0.0.1/", "--set", "a=b"], "--set: changes a run's PARAMETERS"),
        (["--endpoint", "ws://127.0.0.1/", "--output", "/no/where.json"], "there is no folder"),
        (["--endpoint", "ws://127.0.0.1/", "--output", "/"], "cannot be written"),
    ],
)
def test_bad_input(
    arguments: list[str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["tars-ga", "websocket", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert "pass-word" not in said.err + said.out


def test_parameters_of_a_run(
    hosts: Hosting,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    day = {"start": "2999-01-01T00:00:00Z", "duration": "24h", "step": "5m"}
    file = write_run(tmp_path, websocket="websocket.yaml", window=day, simulated=True)
    (tmp_path / "websocket.yaml").write_text(
        f"endpoints: {{east: {hosts.good()!r}}}\n"
        "duration: 1h\nping_every: 1s\nreconnect_every: 1s\nlimits: {ping_p99: '< 0.000001'}\n"
    )
    output = tmp_path / "ws.json"
    done = tars_ga("websocket", file, "--duration", "3s", "--quiet", "--output", output)
    assert done.returncode == 3, done.stderr
    results = json.loads(output.read_text())
    assert results["release"] == {"name": "T.A.R.S.", "version": "v1.0.1"}
    assert results["simulated"]
    (east,) = results["endpoints"]
    assert {each["name"]: each["verdict"] for each in east["limits"]} == {
        "uptime": "pass",
        "longest_downtime": "pass",
        "ping_p99": "fail",
        "reconnect_latency_mean": "pass",
        "reconnect_latency_p99": "pass",
    }
    assert "(simulated)" in done.stdout
    monkeypatch.setattr(
        sys, "argv", ["tars-ga", "websocket", str(write_run(tmp_path / "other", window=day))]
    )
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "the key 'websocket' is missing" in capsys.readouterr().err


def test_progress_names_the_endpoint_that_does_worst() -> None:
    glances = [websocket.Glance(f"e{n}", "up", 1.0, "") for n in range(3)]
    glances.append(websocket.Glance("gone", "down", 0.5, "connection refused"))
    glances.append(websocket.Glance("new", "opening", None, ""))
    said = cli.websocket._glance(60.0, 3600, glances).replace("\xa0", " ")
    assert said == "59 min of 1 h: 3 of 5 up; lowest uptime 50 % (gone): connection refused"


# --- the file, the environment ------------------------------------------------------------------


def test_the_example() -> None:
    example = ROOT / "parameters" / "websocket.yaml"
    found = check(WebSocketTargets, read_yaml(example), str(example))
    assert len(found.endpoints) == 3
    assert found == WebSocketTargets(endpoints=found.endpoints)  # it says what the defaults are
    assert found.limits.given() == {
        "uptime": Limit(">=", 0.999),
        "longest_downtime": Limit("<", 60),
        "reconnect_latency_mean": Limit("<", 10),
        "reconnect_latency_p99": Limit("<", 30),
    }


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"endpoints": {}}, "endpoints"),
        ({"limits": {"uptime": "<= 0.999"}}, "'uptime' with '<= 0.999' points the wrong way"),
        ({"limits": {"longest_downtime": "> 6"}}, "points the wrong way; write it like '< 10'"),
        ({"limits": {"uptime": ">= 99.9"}}, "'uptime' is a share from 0 to 1"),
        ({"limits": {"uptme": ">= 0.9"}}, "unknown key 'limits.uptme'; did you mean 'uptime'?"),
        ({"limits": dict.fromkeys(Limits.model_fields)}, "no limit is left"),
        ({"reconnect_every": None}, "'reconnect_latency_mean' could not be measured"),
        ({"reconnect_every": "1h"}, "'reconnect_every' is not shorter than the duration of 1h"),
        ({"ping_every": "2h"}, "'ping_every' is longer than the duration of 1h"),
        ({"endpoints": {"a": "wss://a.example/?X-Amz-Signature=x"}}, "the URL holds credentials"),
        ({"endpoints": {"a": "wss://a.example/#x"}}, "it is not a WebSocket URL"),
    ],
)
def test_targets_are_read_strictly(changes: Facts, sentence: str) -> None:
    with pytest.raises(ParametersError) as caught:
        check(WebSocketTargets, {"endpoints": {"a": "wss://a.example/ws"}} | changes, "x.yaml")
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"TARS_GA_WS_HEADERS": "pass-word"}, "TARS_GA_WS_HEADERS"),
        ({"TARS_GA_WS_HEADERS": '["pass-word"]'}, "TARS_GA_WS_HEADERS"),
        ({"TARS_GA_WS_HEADERS": '{"Host": "pass-word"}'}, "TARS_GA_WS_HEADERS"),
        ({"TARS_GA_WS_HEADERS": '{"X-Key": "pass-word\\r\\nX: y"}'}, "TARS_GA_WS_HEADERS"),
        ({"TARS_GA_WS_BEARER_TOKEN": "pass-word\n"}, "TARS_GA_WS_BEARER_TOKEN"),
        (
            {
                "TARS_GA_WS_BEARER_TOKEN": "pass-word",
                "TARS_GA_WS_HEADERS": '{"authorization": "pass-word"}',
            },
            "TARS_GA_WS_HEADERS",
        ),
        ({"TARS_GA_CA_BUNDLE": "/no/where.pem"}, "TARS_GA_CA_BUNDLE"),
        ({"TARS_GA_CLIENT_CERT": "/no/where.pem"}, "TARS_GA_CLIENT_CERT"),
    ],
)
def test_bad_credentials_are_refused_and_not_repeated(environ: dict[str, str], name: str) -> None:
    with pytest.raises(ParametersError) as caught:
        websocket.Monitor(targets(a="ws://127.0.0.1/"), environ=environ)
    assert str(caught.value).startswith(name)
    assert "pass-word" not in str(caught.value)


def test_credentials_show_nothing() -> None:
    found = dialling.Credentials.of({"TARS_GA_WS_BEARER_TOKEN": TOKEN})
    assert TOKEN not in repr(found)
    assert found.hide(f"Bearer {TOKEN} and {TOKEN}.") == "… and …."
    assert dialling.shown("wss://u:p@a.example:1/ws?t=1#f") == "wss://a.example:1/ws"


# --- books --------------------------------------------------------------------------------------


def test_durations_have_the_figures_of_all() -> None:
    draw = random.Random(1)
    for count in (1, 2, 99, 100, 101, 250, 3000):
        durations = Durations(draw.lognormvariate(0, 2) for _ in range(count))
        assert durations.p99 == sorted(durations)[math.ceil(count * 99 / 100) - 1]
        assert durations.mean == pytest.approx(sum(durations) / count)
        assert durations.facts()["max"] == pytest.approx(max(durations))
    assert Durations().facts() == {"count": 0, "mean": None, "p99": None, "max": None}


def test_the_clock_knows_when_nobody_looked() -> None:
    readings = iter([0.0, 0.2, 0.5, 3.5, 3.6, 3.7, 9.0])
    clock = Clock(late=1.0, source=lambda: next(readings))
    ledger = Ledger(clock)  # 0.2
    ledger.switch("up", clock.now())  # 0.5
    now = clock.now()  # 3.5: a gap of 3 s
    assert clock.gaps == [(0.5, 3.5)]
    assert ledger.total("up", now) == 0.0
    assert clock.now() == 3.6
    ledger.switch("down", clock.now())
    assert ledger.seconds["up"] == pytest.approx(0.2)
    now = clock.now()
    assert ledger.total("down", now) == 0.0
    assert clock.lost(0.0, 10.0) == pytest.approx(3.0 + 5.3)
    assert clock.lost(1.0, 2.0) == 1.0
    assert clock.lost(3.5, 3.7) == 0.0
    assert clock.iso(0.0).endswith("Z")


# --- judging and showing ------------------------------------------------------------------------


def facts(**changes: Any) -> Facts:
    """Return results of one endpoint, watched for an hour."""
    endpoint: Facts = {
        "name": "east",
        "observed_seconds": 3600.0,
        "connected_seconds": 3600.0,
        "forced_seconds": 0.0,
        "problem": "",
        "figures": {"uptime": 1.0, "longest_downtime": 0.0},
    }
    results = {"asked_seconds": 3600.0, "watched_seconds": 3600.0, "complete": True,
               "stopped_by": None, "endpoints": [endpoint]}  # fmt: skip
    for key, value in changes.items():
        (results if key in results else endpoint)[key] = value
    return results


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "pass"),
        ({"complete": False, "watched_seconds": 3599.0, "observed_seconds": 3599.0}, "no_data"),
        ({"observed_seconds": 3400.0, "connected_seconds": 3400.0}, "no_data"),
        (
            {"observed_seconds": 3400.0, "connected_seconds": 3400.0, "forced_seconds": 100.0},
            "pass",
        ),
        ({"connected_seconds": 3590.0, "figures": {"uptime": 0.9972}}, "fail"),
        # 3 of 100 s down: the rest of the hour could still make 0.999 of it; 5 s cannot be mended.
        (
            {"complete": False, "observed_seconds": 100.0, "connected_seconds": 97.0,
             "figures": {"uptime": 0.97}},
            "no_data",
        ),
        (
            {"complete": False, "observed_seconds": 100.0, "connected_seconds": 95.0,
             "figures": {"uptime": 0.95}},
            "fail",
        ),
        ({"observed_seconds": 0.0, "figures": {"uptime": None}}, "no_data"),
    ],
)  # fmt: skip
def test_uptime_is_judged_by_what_is_known(changes: Facts, verdict: str) -> None:
    results = facts(**changes)
    judged = judge(results, results["endpoints"][0], "uptime", Limit(">=", 0.999))
    assert judged["verdict"] == verdict
    assert bool(judged["reason"]) == (verdict == "no_data")
    value, same, reason = outcome(results, "uptime", Limit(">=", 0.999))
    assert (value, same) == (judged["value"], verdict)
    assert reason.startswith("east")


def test_the_worst_endpoint_counts() -> None:
    results = facts()
    for name, uptime in (("b", 0.9), ("c", 0.95), ("d", None)):
        other = results["endpoints"][0] | {"name": name, "figures": {"uptime": uptime}}
        results["endpoints"].append(other)
    assert outcome(results, "uptime", Limit(">=", 0.999)) == (0.9, "fail", "b")
    value, verdict, reason = outcome(results, "uptime", Limit(">=", 0.5))
    assert (value, verdict, reason) == (None, "no_data", "d: it was never observed")
    assert outcome(facts(endpoints=[]), "uptime", Limit(">=", 0.5))[1] == "no_data"


def test_views(hosts: Hosting) -> None:
    urls = {"good": hosts.good(), "<gone>": f"ws://127.0.0.1:{free_port()}/ws"}
    urls["denied"] = hosts.good(**servers.answering(403))
    results = websocket.watch(
        targets(**urls), pace=pace(duration=0.6), environ={}, note="Of tests."
    )
    table = written(views.websocket_table(results))
    assert [row[0] for row in table["rows"]] == ["<gone>", "denied", "good"]
    assert [row[1] for row in table["rows"]] == ["fail", "no_data", "no_data"]
    assert table["rows"][1][2] == "NO DATA"
    assert "Of tests." in table["note"]
    chart = views.downtime_chart(results)
    assert "good: uptime 100\xa0%" in chart.alt
    assert "connection refused" in chart.alt
    assert chart.svg == views.downtime_chart(results).svg
    many = results | {"endpoints": results["endpoints"] * 20}
    assert len(written(views.websocket_table(many))["rows"]) == 40
    assert views.downtime_chart(None).alt.endswith("no data for any endpoint.")
    assert views.websocket_table(None).attrs["empty"].startswith("NO DATA: no WebSocket")
