"""A small HTTP server that answers as Grafana's HTTP API documentation says. It is not Grafana.

It knows what the validation asks: health, a dashboard by its uid, the search for dashboards, data
sources, a library panel, and `POST /api/ds/query`, each with the documented bodies of success and
of error, behind a service account's token. Its faults are switched on by name.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "glsa_a-service-account-token"

PROMETHEUS = {"type": "prometheus", "uid": "prom-1"}


def panel(identity: int, title: str, expr: str, source: Any = PROMETHEUS, **more: Any) -> Any:
    """Return a panel with one query."""
    targets = [{"refId": "A", "expr": expr, "datasource": source}]
    return {
        "id": identity,
        "title": title,
        "type": "timeseries",
        "datasource": source,
        "targets": targets,
    } | more


OVERVIEW: dict[str, Any] = {
    "uid": "tars-overview",
    "title": "T.A.R.S. overview",
    "templating": {
        "list": [
            {"name": "region", "type": "query", "current": {"value": ["us-east-1", "us-west-2"]}},
            {
                "name": "service",
                "type": "custom",
                "current": {"value": "$__all"},
                "options": [{"value": "$__all"}, {"value": "api"}, {"value": "hypersync"}],
            },
            {"name": "source", "type": "datasource", "current": {"value": "prom-1"}},
        ]
    },
    "panels": [
        panel(1, "Requests", 'sum(rate(requests{region=~"$region"}[$__rate_interval]))'),
        panel(2, "Errors", 'errors{service=~"${service:regex}"}', {"uid": "${source}"}),
        {
            "id": 3,
            "type": "row",
            "title": "More",
            "collapsed": True,
            "panels": [panel(4, "Latency", "latency", None)],
        },
        {"id": 5, "type": "text", "title": "About", "options": {"content": "words"}},
        panel(6, "Hidden", "hidden", targets=[{"refId": "A", "expr": "hidden", "hide": True}]),
        {"id": 7, "title": "Shared", "libraryPanel": {"uid": "lib-1", "name": "Shared"}},
    ],
}
LIBRARY = {"uid": "lib-1", "kind": 1, "model": panel(7, "Shared", "shared")}
SOURCES = [
    {"id": 1, "uid": "prom-1", "name": "Prometheus", "type": "prometheus", "isDefault": True},
    {"id": 2, "uid": "loki-1", "name": "Loki", "type": "loki", "isDefault": False},
]


@dataclass
class Grafana:
    """A running server: its URL, what it serves, its faults, and what it was asked.

    `slow` are seconds that a panel's query takes, by its expression; `broken` are expressions that
    are answered with an error, `empty` with no frame. `status` answers everything with that code;
    `hang` answers nothing.
    """

    url: str = ""
    dashboards: dict[str, Any] = field(default_factory=lambda: {"tars-overview": OVERVIEW})
    slow: dict[str, float] = field(default_factory=dict)
    slow_dashboard: float = 0.0
    broken: set[str] = field(default_factory=set)
    empty: set[str] = field(default_factory=set)
    status: int = 0
    database: str = "ok"
    hang: bool = False
    garbage: bool = False
    asked: list[Any] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def queries(self) -> list[dict[str, Any]]:
        """Return the queries that were sent."""
        return [query for body in self.asked for query in body["queries"]]


@contextmanager
def serve(**faults: Any) -> Iterator[Grafana]:
    """Serve on a free port until the block ends."""
    state = Grafana(**faults)

    class Handler(_Handler):
        grafana = state

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        state.stop.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    grafana: Grafana
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body go out at once, not 40 ms apart

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _send(self, status: int, body: Any) -> None:
        content = b"<html>not JSON" if self.grafana.garbage else json.dumps(body).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json; charset=UTF-8")
            self.send_header("Content-Length", str(len(content)))
            if status == 302:
                self.send_header("Location", "/login")
            self.end_headers()
            self.wfile.write(content)
        except OSError:  # the client has gone
            self.close_connection = True

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        self._answer(json.loads(self.rfile.read(length)))

    def _answer(self, body: Any) -> None:
        grafana, path = self.grafana, self.path.partition("?")[0]
        if grafana.hang:
            grafana.stop.wait(60)
            self.close_connection = True
            return
        if grafana.status:
            self._send(grafana.status, {"message": "as the test wants it"})
        elif path == "/api/health":
            ok = grafana.database == "ok"
            facts = {"commit": "abc", "database": grafana.database, "version": "12.4.0"}
            self._send(200 if ok else 503, facts)
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._send(401, {"message": f"Invalid API key: {self.headers.get('Authorization')}"})
        elif path.startswith("/api/dashboards/uid/"):
            self._dashboard(path.rpartition("/")[2])
        elif path == "/api/datasources":
            self._send(200, SOURCES)
        elif path == "/api/search":
            found = [{"uid": u, "type": "dash-db"} for u in grafana.dashboards]
            self._send(200, found)
        elif path == "/api/library-elements/lib-1":
            self._send(200, {"result": LIBRARY})
        elif path == "/api/ds/query" and body is not None:
            self._query(body)
        else:
            self._send(404, {"message": "Not found"})

    def _dashboard(self, uid: str) -> None:
        time.sleep(self.grafana.slow_dashboard)
        if uid not in self.grafana.dashboards:
            self._send(404, {"message": "Dashboard not found", "status": "not-found"})
        else:
            meta = {"isStarred": False, "slug": uid}
            self._send(200, {"dashboard": self.grafana.dashboards[uid], "meta": meta})

    def _query(self, body: Any) -> None:
        grafana = self.grafana
        grafana.asked.append(body)
        results, status = {}, 200
        for query in body["queries"]:
            expression = query["expr"]
            grafana.stop.wait(grafana.slow.get(expression, 0.0))
            if expression in grafana.broken:
                status = 400
                said = {"error": "bad_data: parse error", "errorSource": "downstream"}
                results[query["refId"]] = {**said, "status": 400, "frames": []}
            else:
                rows = [] if expression in grafana.empty else [1, 2]
                schema = {"refId": query["refId"], "fields": [{"name": "Time", "type": "time"}]}
                frame = {"schema": schema, "data": {"values": [rows, rows]}}
                results[query["refId"]] = {"status": 200, "frames": [frame]}
        self._send(status, {"results": results})
