"""Measure the running system of the demo, which has none: against real stores on this machine.

    python -m demo.measure

needs Debian's postgresql and redis-server (tests/setup.sh). It starts three PostgreSQL, three
Redis, three Chroma and three WebSocket servers on loopback, one a region, fills them with SIMULATED
data, runs `tars-ga validate` and watches the sessions for a minute, and keeps what they found in
`demo/measured`. The demo's run uses these results, and says where they were measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import yaml

from tars_ga_lib.endpoints import WebSocketTargets
from tars_ga_lib.parameters import MEASURED
from tars_ga_lib.recording import write_json
from tars_ga_lib.system.websocket import Pace, watch
from tests import stores, websocket_servers

HERE = Path(__file__).resolve().parent
PARAMETERS = HERE.parent / "parameters" / "demo.yaml"
RELEASE = {"name": "T.A.R.S.", "version": "v1.0.1"}
NOTE = "Measured against local test servers, not against production."
LEFT_OUT = {
    "grafana": "the demo has no Grafana",
    "agents": "the demo has no Prometheus that still runs",
    "kpis": "the criteria check them",
}


def validate(folder: Path) -> None:
    """Validate three of each store, and write the results into a folder."""
    with ExitStack() as stack:
        postgres = stack.enter_context(stores.postgres_cluster(20_000))
        redis = stack.enter_context(stores.redis_servers(5_000))
        chroma = stack.enter_context(stores.chroma_servers(1_000))
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        content = {
            "postgres": postgres.section(), "redis": redis.section(), "chroma": chroma.section(),
            "left_out": LEFT_OUT,
        }  # fmt: skip
        file = place / "validation.yaml"
        file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        command: list[str | Path] = [
            Path(sys.executable).with_name("tars-ga"), "validate", PARAMETERS,
            "--set", f"validation={file}", "--set", "measured={}", "--note", NOTE,
            "--output", folder,
        ]  # fmt: skip
        environ = {**os.environ, **postgres.secrets, **redis.secrets}
        subprocess.run(command, env=environ, check=True)


def sessions(folder: Path) -> None:
    """Watch a session to each of three servers for a minute, and write the results."""
    with websocket_servers.hosting() as host:
        targets = WebSocketTargets.model_validate(
            {"endpoints": {region: host.good() for region in stores.REGIONS}, "duration": "1m",
             "reconnect_every": "10s", "ping_every": "1s", "ping_timeout": "1s"}
        )  # fmt: skip
        pace = Pace(duration=60, reconnect_every=10, ping_every=0.5)
        results = watch(targets, pace=pace, release=RELEASE, simulated=True, note=NOTE)
    write_json(folder / MEASURED["websocket"], results)


def main() -> None:
    """Measure everything that the demo's run names."""
    folder = HERE / "measured"
    folder.mkdir(exist_ok=True)
    validate(folder)
    sessions(folder)


if __name__ == "__main__":
    main()
