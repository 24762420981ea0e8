"""The GA day workflow, its `run:` steps executed in order on this machine, against real servers.

GitHub itself is not to be had here: `tests/runner.py` stands in for its runner, and a script for
its `gh`. Prometheus and the WebSocket server are real; their day is simulated.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import websocket_servers
from tests.helpers import ROOT, dump
from tests.runner import Runner, programs
from tests.test_workflows import read

WORKFLOW = ROOT / ".github" / "workflows" / "ga-day.yml"
INPUTS = {
    "version": "v1.0.1", "window_start": "2026-11-20T12:00:00Z", "window_duration": "2h",
    "baseline_start": "2026-11-13T12:00:00Z", "parameters": "parameters/day.yaml",
    "strategy": "afterwards", "websocket_duration": "2s", "publish": True, "notify": True,
}  # fmt: skip


@pytest.fixture
def told() -> Iterator[tuple[str, list[Any]]]:
    """Take what the webhook is told."""
    seen: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}", seen
        http.shutdown()
        thread.join()


def day(tmp_path: Path, server: str, socket: str, told: str, **inputs: Any) -> Runner:
    """Return a runner of the workflow, on a day that a server holds."""

    def prepare(work: Path) -> None:
        raw = yaml.safe_load((ROOT / "parameters" / "ga_day.yaml").read_text())
        raw |= {
            "simulated": True, "source": {"prometheus": server},
            "baseline": {"start": "2026-11-13T12:00:00Z", "duration": "2h"},
            "regions": ["us-east-1", "us-west-2"],
            "services": ["insight-engine", "dashboard-api", "hypersync"],
            "websocket": "sockets.yaml", "validation": "checks.yaml", "notify": "people.yaml",
            "criteria": "few.yaml", "measured": {"min_watch": "1s"},
        }  # fmt: skip
        here = work / "parameters"
        dump(here / "day.yaml", raw)
        dump(
            here / "sockets.yaml",
            {"endpoints": {"us-east-1": socket}, "ping_every": "1s", "reconnect_every": "1s"},
        )
        dump(
            here / "checks.yaml",
            {
                "grafana": {"url": "http://127.0.0.1:9", "dashboards": ["overview"]},
                "deadline": "20s",
            },
        )
        dump(here / "people.yaml", {"channels": {"hook": {
            "webhook": {"url_env": "TARS_GA_SLACK_WEBHOOK"}, "events": ["decision", "failure"],
        }}})  # fmt: skip
        dump(here / "few.yaml", {"criteria": {
            "availability": {"title": "Availability", "kpi": "availability", "target": ">= 0.9"},
            "uptime": {"title": "WebSocket uptime", "websocket": "uptime", "target": ">= 0.9"},
            "checks": {"title": "Checks", "validation": "failed", "target": "== 0",
                       "mandatory": False},
        }})  # fmt: skip

    bin_ = programs(
        tmp_path / "bin",
        date="echo 2026-11-20T12:00:00Z",  # the only past hours that the server knows
        gh=f'echo "$@" >> {tmp_path / "gh.log"}',
        sudo='exec "$@"',
    )
    secrets = {"TARS_GA_SLACK_WEBHOOK": told}
    return Runner(read(WORKFLOW), tmp_path / "jobs", INPUTS | inputs, secrets, bin_, prepare)


def logs(runner: Runner) -> str:
    return "\n".join(f"# {name}: {job.result}\n{job.log}" for name, job in runner.jobs.items())


@pytest.mark.parametrize("strategy", ["afterwards", "monitor"])
def test_the_whole_day(
    tmp_path: Path, small_server: str, told: tuple[str, list[Any]], strategy: str
) -> None:
    with websocket_servers.hosting() as host:
        runner = day(tmp_path, small_server, host.good(), told[0], strategy=strategy)
        runner.workflow["jobs"]["watch"]["strategy"]["matrix"]["leg"] = [1, 2]
        runner.run()
    results = {name: job.result for name, job in runner.jobs.items()}
    assert results.pop("watch") == ("success" if strategy == "monitor" else "skipped"), logs(runner)
    assert set(results.values()) == {"success"}, logs(runner)
    assert runner.jobs["certify"].outputs == {"certified": "true"}

    package, days = runner.kept["ga_certification_package"]
    assert days == 365
    assert (package / "ga_certification_package.tar.gz").is_file()
    run = runner.kept["ga_day"][0]
    certification = json.loads((run / "certification_metadata.json").read_text())
    outcomes = {each["name"]: each for each in certification["criteria"]}
    assert outcomes["uptime"]["verdict"] == "pass"
    # A system that cannot be reached is no data, and never a pass.
    assert outcomes["checks"]["verdict"] == "no_data"
    assert runner.attested == ["outputs/ga_day/ga_certification_package.tar.gz"]
    assert "v1.0.1 --clobber" in (tmp_path / "gh.log").read_text()
    assert "CERTIFIED" in runner.summary
    (event,) = told[1]
    assert (event["kind"], event["simulated"]) == ("decision", True)
    if strategy == "monitor":
        assert {"watch-leg-1", "watch-leg-2"} <= set(runner.kept)
        assert runner.kept["watch-leg-1"][1] == 90


def test_a_day_that_fails_is_told_too(tmp_path: Path, told: tuple[str, list[Any]]) -> None:
    runner = day(tmp_path, "http://127.0.0.1:9", "ws://127.0.0.1:9", told[0])
    runner.run()
    results = {name: job.result for name, job in runner.jobs.items()}
    assert results.pop("preflight") == "failure"
    assert results.pop("notify") == "success", logs(runner)
    assert set(results.values()) == {"skipped"}
    assert "cannot be reached" in runner.jobs["preflight"].log
    (event,) = told[1]
    assert event["kind"] == "failure"
    assert not (tmp_path / "gh.log").exists()


def test_parameters_that_are_wrong_are_told_too(
    tmp_path: Path, small_server: str, told: tuple[str, list[Any]]
) -> None:
    runner = day(tmp_path, small_server, "ws://127.0.0.1:9", told[0])
    prepare = runner.prepare

    def spoil(work: Path) -> None:
        prepare(work)
        dump(work / "parameters" / "checks.yaml", {"grafana": {"dashboards": 3}})

    runner.prepare = spoil
    runner.run()
    assert runner.jobs["preflight"].result == "failure"
    assert "parameters/checks.yaml: " in runner.jobs["preflight"].log
    assert [event["kind"] for event in told[1]] == ["failure"], logs(runner)


def test_nothing_that_a_caller_gives_is_run(tmp_path: Path, told: tuple[str, list[Any]]) -> None:
    hostile = f"$(touch {tmp_path / 'owned'})`touch {tmp_path / 'owned'}`; touch {tmp_path}/owned #"
    runner = day(
        tmp_path, "http://127.0.0.1:9", "ws://127.0.0.1:9", told[0],
        version=hostile, window_start=hostile, parameters=hostile, websocket_duration=hostile,
    )  # fmt: skip
    runner.run()
    assert runner.jobs["preflight"].result == "failure"
    assert not (tmp_path / "owned").exists()
