"""A compressed day: real servers that watch themselves, `tars-ga watch`, and faults at will."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tars_ga_lib import collection, criteria, drift, parameters
from tars_ga_lib.kpis import Kpis
from tars_ga_lib.parameters import Job
from tars_ga_lib.recording import Recording
from tests import servers

PARAMETERS = Path(__file__).resolve().parent / "data" / "self_watch" / "run.yaml"

CONFIG = """
global: {{scrape_interval: {scrape}, scrape_timeout: {scrape}, evaluation_interval: {scrape}}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: watch
    static_configs: [{{targets: [THIS_SERVER]}}]
  - job_name: node
    static_configs: [{{targets: ["{node}"]}}]
"""
RULES = "groups: [{name: g, rules: [{alert: Never, expr: 'up < 0', labels: {severity: info}}]}]"

JUMPING = """
import time
from tars_ga_lib.live import watch
from tars_ga_lib.cli import main
watch.Clock.wall = lambda self: time.time() + ({by} if {start} < time.time() < {stop} else 0)
main()
"""
"""The command on a machine whose clock is wrong for a while."""


@dataclass
class Switch:
    """What a proxy before the server does now: one of `servers.BEHAVIOURS`, or `slow`."""

    behaviour: str = "pass"
    url: str = ""


@contextmanager
def proxy(upstream: str) -> Iterator[Switch]:
    """Run a proxy whose behaviour is switched while it runs."""
    switch, stop = Switch(), threading.Event()

    class Handler(servers._Handler):
        def answer(self, body: bytes) -> None:
            behaviour = switch.behaviour
            if behaviour == "slow":
                stop.wait(0.4)
                behaviour = "pass"
            try:
                self.behave(behaviour, upstream, body, 1, stop)
            except OSError:  # the server behind is down: so is the way to it
                self.reset()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    switch.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield switch
    finally:
        stop.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


@dataclass
class Compressed:
    """A compressed day: its servers, its window, and its parameters."""

    folder: Path
    config: str
    port: int
    start: int
    steps: int
    step: int
    switch: Switch
    server: ExitStack = field(default_factory=ExitStack)

    @property
    def stop(self) -> int:
        """When the window ends."""
        return self.start + self.steps * self.step

    @property
    def overrides(self) -> list[str]:
        """What is laid over the parameters."""
        name, length = f"127.0.0.1:{self.port}", f"{self.steps * self.step}s"
        window = f"{{start: {_iso(self.start)}, duration: {length}, step: {self.step}s}}"
        before = self.start - self.steps * self.step
        return [
            f"source={{prometheus: '{self.switch.url}', timeout: 3s}}",
            f"regions=[{json.dumps(name)}]",
            f"primary_region={json.dumps(name)}",
            f"window={window}",
            f"baseline={{start: {_iso(before)}, duration: {length}}}",
        ]

    def restart(self, seconds: float) -> None:
        """Stop the server for a while, and start it again on its data."""
        self.server.close()
        time.sleep(seconds)
        self.start_server()

    def start_server(self) -> str:
        """Start the server, on the port that it always has."""
        data = self.folder / "prometheus"
        return self.server.enter_context(servers.prometheus(data, self.config, port=self.port))

    def watch(
        self, output: Path, *flags: str, clock: tuple[int, float, float] | None = None
    ) -> subprocess.Popen[str]:
        """Start the command; with `clock`, on a machine whose clock is off between two times."""
        sets = [part for each in self.overrides for part in ("--set", each)]
        by, start, stop = clock or (0, 0, 0)
        code = JUMPING.format(by=by, start=start, stop=stop)
        return subprocess.Popen(
            [sys.executable, "-c", code, "watch", str(PARAMETERS), "--output", str(output),
             *sets, *flags],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={k: v for k, v in os.environ.items() if not k.startswith("TARS_GA_")},
            start_new_session=True,
        )  # fmt: skip

    def wait_until(self, seconds: float) -> None:
        """Wait until so many seconds after the window's start."""
        time.sleep(max(0.0, self.start + seconds - time.time()))

    def wait_for(self, output: Path, text: str, seconds: float = 40) -> None:
        """Wait until the log of a watch says something that it had not said before."""
        file, deadline = output / "watch" / "watch.log", time.monotonic() + seconds
        before = file.read_text("utf-8").count(text) if file.exists() else 0
        while time.monotonic() < deadline:
            if file.exists() and file.read_text("utf-8").count(text) > before:
                return
            time.sleep(0.1)
        raise AssertionError(f"the log does not say {text!r}:\n{file.read_text('utf-8')}")

    def job(self) -> Job:
        """Return the job, when the window is over."""
        self.wait_until(self.steps * self.step)
        return parameters.load(PARAMETERS, self.overrides)

    def batch(self) -> Recording:
        """Collect the whole window at once, when it is over."""
        return collection.collect(self.job())


def decide(job: Job, recording: Recording) -> dict[str, Any]:
    """Return the decision on a recording, and each criterion's verdict and value."""
    now = Kpis(job, recording.window)
    analysis = drift.analyse(now, [Kpis(job, span) for span in recording.baselines])
    found = criteria.evaluate(job, now, analysis)
    return {"decision": found.decision} | {
        each.name: [each.verdict, each.value] for each in found.outcomes
    }


def told(certification: dict[str, Any]) -> dict[str, Any]:
    """Return the same of a `certification_metadata.json`."""
    return {"decision": certification["decision"]} | {
        each["name"]: [each["verdict"], each["value"]] for each in certification["criteria"]
    }


@contextmanager
def compressed_day(
    folder: Path, *, steps: int, step: int, scrape: str, begins_in: float
) -> Iterator[Compressed]:
    """Run the servers of a day that begins soon; its baseline is the time just before."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rules.yml").write_text(RULES, encoding="utf-8")
    with ExitStack() as stack:
        node = stack.enter_context(servers.node_exporter(folder)).removeprefix("http://")
        config = CONFIG.format(scrape=scrape, rules=folder / "rules.yml", node=node)
        port = servers.free_port()
        switch = stack.enter_context(proxy(f"http://127.0.0.1:{port}"))
        start = int(time.time() + begins_in) + 1
        day = Compressed(folder, config, port, start, steps, step, switch)
        stack.enter_context(day.server)
        day.start_server()
        yield day


def finish(process: subprocess.Popen[str], seconds: float = 120) -> tuple[int, str]:
    """Wait for a command; return its exit code and what it said."""
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
        raise AssertionError(f"it did not end: {said}") from None
    return process.returncode, said


def kill(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> tuple[int, str]:
    """Send a signal, and see it end."""
    process.send_signal(number)
    return finish(process)


def memory(process: subprocess.Popen[str], key: str = "VmRSS") -> float:
    """Resident memory of a process in MB, now (VmRSS) or at most (VmHWM)."""
    lines = Path(f"/proc/{process.pid}/status").read_text("utf-8").splitlines()
    (found,) = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
    return int(found) / 1024


def snapshots(folder: Path) -> list[dict[str, Any]]:
    """Return the snapshots of a watch that has ended, in the order of their steps."""
    with contextlib.closing(sqlite3.connect(folder / "watch" / "watch.sqlite")) as found:
        rows = found.execute("SELECT document FROM snapshots ORDER BY step").fetchall()
    return [json.loads(document) for (document,) in rows]


def differences(one: Recording, other: Recording) -> list[str]:
    """Return in what two recordings differ, but for times."""
    found: list[str] = []
    found += [f"problems: {each.problems}" for each in (one, other) if each.problems]
    for name, span in one.spans.items():
        twin = other.spans[name]
        if (list(span.sets), span.start, span.stop) != (list(twin.sets), twin.start, twin.stop):
            found.append(f"{name}: other sets, or another time")
            continue
        for key, each in span.sets.items():
            mine, theirs = each.provenance, twin.sets[key].provenance
            facts = [(p.digest, p.nonfinite, p.warnings, p.error) for p in (mine, theirs)]
            if facts[0] != facts[1]:
                found.append(f"{name} {key}: {mine} {theirs}")
    return found


def _iso(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def shown(pieces: Sequence[tuple[int, str]]) -> str:
    """Write what several commands said, for a test that fails."""
    return "\n".join(f"--- exit {code}\n{text}" for code, text in pieces)
