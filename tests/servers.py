"""Start real servers for the tests, on loopback and on free ports, and stop them again.

Each server is a child process that is stopped by its own process id. Where a program is missing the
test does not skip: it fails, and says which Debian package brings it.
"""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests

from demo import simulate

PACKAGES = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-node-exporter": "prometheus-node-exporter",
    "victoria-metrics": "victoria-metrics",
    "pdftotext": "poppler-utils",
    "pdftoppm": "poppler-utils",
}
CONFIG = "global: {scrape_interval: 15s}\n"
READY_WITHIN = 30.0


@dataclass(frozen=True)
class Served:
    """A running Prometheus that holds a simulated pair of days, and what really happened."""

    url: str
    scenario: simulate.Scenario
    truth: dict[str, simulate.DayTruth]


Build = Callable[[simulate.Scenario], Path]  # the fixture `blocks`
Serve = Callable[[simulate.Scenario], Served]  # the fixture `serve`


@contextmanager
def hanging() -> Iterator[int]:
    """Listen on a port, take connections, and never say a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


class MissingProgramError(RuntimeError):
    """A program that the tests need is not installed."""


class ServerError(RuntimeError):
    """A server did not start, or a tool failed; the message holds what it said."""


def program(name: str) -> str:
    """Return the path of a program, or say which Debian package brings it."""
    path = shutil.which(name)
    if path is None:
        raise MissingProgramError(
            f"{name} is not on the PATH: install Debian's package {PACKAGES[name]} "
            "(tests/setup.sh does)"
        )
    return path


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(command: list[str], url: str, ready: str, log: Path) -> Iterator[str]:
    """Run a server until the block ends; enter the block when `ready` answers 200."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        _wait(process, url + ready, log)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(15)


def _wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    """Wait until the server answers, for a bounded time."""
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            if requests.get(address, timeout=2).status_code == 200:
                return
        except requests.exceptions.SSLError:
            return  # it answers, but only to those whom it trusts
        except requests.RequestException:
            pass
        time.sleep(0.05)
    tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
    raise ServerError(f"{address} did not get ready (exit code {process.poll()}):\n{tail}")


@contextmanager
def prometheus(
    data_dir: Path,
    config: str | None = None,
    retention: str = "100y",
    web: Path | None = None,
    port: int = 0,
) -> Iterator[str]:
    """Run Prometheus over a data directory and yield its URL.

    The retention is long because a server deletes older blocks as it starts. `config` is the text
    of its configuration, with THIS_SERVER for its address; without one it scrapes nothing. `web`
    is a file that asks for TLS. `port` is for a server that stops and comes back.
    """
    binary, port = program("prometheus"), port or free_port()
    data_dir.mkdir(parents=True, exist_ok=True)
    beside = data_dir.parent / f"{data_dir.name}-{port}"
    text = (config or CONFIG).replace("THIS_SERVER", f"127.0.0.1:{port}")
    beside.with_suffix(".yml").write_text(text, encoding="utf-8")
    command = [
        binary,
        f"--config.file={beside.with_suffix('.yml')}",
        f"--storage.tsdb.path={data_dir}",
        f"--storage.tsdb.retention.time={retention}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    if web is not None:
        command.append(f"--web.config.file={web}")
    address = f"{'https' if web else 'http'}://127.0.0.1:{port}"
    with _running(command, address, "/-/ready", beside.with_suffix(".log")) as url:
        yield url


@contextmanager
def node_exporter(directory: Path) -> Iterator[str]:
    """Run Prometheus' node exporter, with its log in the directory, and yield its URL."""
    binary, port = program("prometheus-node-exporter"), free_port()
    directory.mkdir(parents=True, exist_ok=True)
    command = [binary, f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    log = directory / f"node_exporter-{port}.log"
    with _running(command, f"http://127.0.0.1:{port}", "/metrics", log) as url:
        yield url


@contextmanager
def victoria_metrics(data_dir: Path) -> Iterator[str]:
    """Run VictoriaMetrics over a data directory and yield its URL; fill it by `import_text`."""
    binary, port = program("victoria-metrics"), free_port()
    data_dir.mkdir(parents=True, exist_ok=True)
    command = [
        binary,
        f"-storageDataPath={data_dir}",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-retentionPeriod=100y",
        "-loggerLevel=WARN",
    ]
    log = data_dir.parent / f"{data_dir.name}-{port}.log"
    with _running(command, f"http://127.0.0.1:{port}", "/health", log) as url:
        yield url


def import_text(url: str, *files: Path) -> None:
    """Send text with times in milliseconds to VictoriaMetrics, and make it searchable."""
    for path in files:
        with path.open("rb") as body:
            address = f"{url}/api/v1/import/prometheus"
            requests.post(address, data=body, timeout=300).raise_for_status()
    requests.get(f"{url}/internal/force_flush", timeout=60).raise_for_status()


def backfill(data_dir: Path, *files: Path) -> None:
    """Turn OpenMetrics files into blocks of a Prometheus data directory, two files at a time.

    promtool reads the whole file once for each block that it makes, and for each that it might
    make between the first sample and the last: hence one file a day, and blocks of up to 24h.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    create = [program("promtool"), "tsdb", "create-blocks-from", "openmetrics", "--quiet"]
    for pair in (files[start : start + 2] for start in range(0, len(files), 2)):
        running = [
            subprocess.Popen(
                [*create, "--max-block-duration=24h", str(path), str(data_dir)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for path in pair
        ]
        said = [process.communicate()[0] for process in running]
        for process, path, text in zip(running, pair, said, strict=True):
            if process.returncode:
                raise ServerError(f"promtool could not read {path.name}: {text.strip()}")


# --- A server that misbehaves ---------------------------------------------------------------------

Change = Callable[[dict[str, Any]], dict[str, Any]]
Behaviour = str | bytes | Change
EMPTY: dict[str, Any] = {"status": "success", "data": {"resultType": "matrix", "result": []}}
BEHAVIOURS = (
    "pass",  # the upstream's answer; without an upstream, a success with an empty result
    "empty",  # a success with an empty result
    "500",
    "503",
    "429",  # with Retry-After
    "drop",  # the connection is reset without an answer
    "stall",  # no answer until the client gives up or the server stops
    "malformed",  # 200, and a body that is not JSON
    "truncated",  # 200, and half of the body that was announced
    "html",  # 200, and a proxy's login page
    "error",  # 422, and Prometheus' own way of saying that a query failed
    "warnings",  # the upstream's answer, which admits that it is not whole
    "partial",  # likewise, as VictoriaMetrics says it
)


@dataclass
class Faulty:
    """A running server that misbehaves: its address and what it was asked."""

    url: str = ""
    asked: list[str] = field(default_factory=list)  # "GET /api/v1/query_range?…", in order
    queries: list[str] = field(default_factory=list)  # the bodies of POST requests
    headers: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def faulty(
    upstream: str | None,
    *behaviours: Behaviour,
    only: str = "/api/v1/query",
    retry_after: int = 1,
    authorization: str = "",
) -> Iterator[Faulty]:
    """Run an HTTP server before `upstream` that misbehaves, and yield it.

    Each request takes the next behaviour; the last one stays. So ("503", "503", "pass") fails twice
    and then works. A behaviour is one of BEHAVIOURS, the bytes of an answer, or a function that
    changes the decoded answer. Requests whose path does not begin with `only` are always passed.
    With `authorization`, whoever does not send that header is refused, and told what was sent.
    """
    for behaviour in behaviours:
        if isinstance(behaviour, str) and behaviour not in BEHAVIOURS:
            raise ValueError(f"unknown behaviour {behaviour!r}: one of {', '.join(BEHAVIOURS)}")
    found, lock, stop = Faulty(), threading.Lock(), threading.Event()
    queue = list(behaviours) or ["pass"]

    def following() -> Behaviour:
        with lock:
            return queue.pop(0) if len(queue) > 1 else queue[0]

    class Handler(_Handler):
        def answer(self, body: bytes) -> None:
            with lock:
                found.asked.append(f"{self.command} {self.path}")
                found.queries.append(body.decode("utf-8", "replace"))
                found.headers.append(dict(self.headers))
            sent = self.headers.get("Authorization", "")
            if authorization and sent != authorization:
                self.send(401, f"refused: {sent}\n".encode(), "text/plain")
                return
            mine = self.path.startswith(only)
            self.behave(following() if mine else "pass", upstream, body, retry_after, stop)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield found
    finally:
        stop.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    """Answer one request, badly if told so."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body go out at once, not 40 ms apart

    def do_GET(self) -> None:
        self.answer(b"")

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet: `Faulty.asked` tells."""

    def answer(self, body: bytes) -> None:
        """Answer; the server's own handler fills this in."""
        raise NotImplementedError

    def behave(
        self,
        behaviour: Behaviour,
        upstream: str | None,
        body: bytes,
        retry_after: int,
        stop: threading.Event,
    ) -> None:
        """Do what the behaviour says."""
        if behaviour in ("500", "503"):
            self.send(int(str(behaviour)), b"simulated failure\n", "text/plain")
        elif behaviour == "429":
            self.send(429, b"slow down\n", "text/plain", {"Retry-After": str(retry_after)})
        elif behaviour == "error":
            said = {"status": "error", "errorType": "execution", "error": "simulated failure"}
            self.send(422, json.dumps(said).encode())
        elif behaviour == "malformed":
            self.send(200, b'{"status":"success","data":{"resultType":"matrix","result":[{')
        elif behaviour == "html":
            self.send(200, b"<html><body>Please log in</body></html>", "text/html")
        elif behaviour == "drop":
            self.reset()
        elif behaviour == "stall":
            stop.wait(120)
            self.reset()
        elif isinstance(behaviour, bytes):
            self.send(200, behaviour)
        elif behaviour == "empty":
            self.send(200, _json(EMPTY))
        else:
            self.forward(behaviour, upstream, body)

    def forward(self, behaviour: Behaviour, upstream: str | None, body: bytes) -> None:
        """Pass the request on, and the answer back, changed if told so."""
        status, said, kind = 200, _json(EMPTY), "application/json"
        if upstream is not None:
            asked = requests.request(
                self.command,
                upstream + self.path,
                data=body or None,
                headers={"Content-Type": self.headers.get("Content-Type", "")} if body else {},
                timeout=60,
            )
            status, said = asked.status_code, asked.content
            kind = asked.headers.get("Content-Type", kind)
        if behaviour == "truncated":
            self.send(status, said[: len(said) // 2], kind, length=len(said))
            self.reset()
            return
        if behaviour == "warnings":
            said = _changed(said, lambda answer: answer | {"warnings": ["simulated: not whole"]})
        elif behaviour == "partial":
            said = _changed(said, lambda answer: answer | {"isPartial": True})
        elif not isinstance(behaviour, (str, bytes)):
            said = _changed(said, behaviour)
        self.send(status, said, kind)

    def send(
        self,
        status: int,
        body: bytes,
        kind: str = "application/json",
        headers: dict[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        """Send an answer; `length` may announce more than there is."""
        try:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()
        except OSError:  # the client has gone, as some tests make it
            self.close_connection = True

    def reset(self) -> None:
        """Drop the connection, with a reset rather than a polite end."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


def _changed(said: bytes, change: Change) -> bytes:
    """Change a JSON answer."""
    return _json(change(json.loads(said)))


def _json(answer: Any) -> bytes:
    """Write JSON as compactly as the servers do."""
    return json.dumps(answer, separators=(",", ":")).encode()


def query(url: str, expression: str, at: float) -> dict[tuple[str, ...], float]:
    """Ask an instant query, by plain HTTP: {label values, sorted by label name: value}."""
    parameters = {"query": expression, "time": str(at)}
    answer = requests.get(f"{url}/api/v1/query", params=parameters, timeout=120)
    answer.raise_for_status()
    return {
        tuple(value for _, value in sorted(series["metric"].items())): float(series["value"][1])
        for series in answer.json()["data"]["result"]
    }
