"""Measure what watching many WebSocket sessions costs, and write the figures into README.md.

    python -m benchmarks.websocket [--sessions 1000] [--minutes 6] [--dry-run]

The server and the monitor are processes of their own; the monitor's CPU time is that of its
process alone, against the wall clock, from the moment that all sessions are open. The pace is the
default's: a ping each 10 s, a forced reconnect each 5 minutes (a shorter run has none).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import sections

MOST_CORE = 0.20
SETTLE = 30.0  # seconds until all sessions are open

SERVER = """
import asyncio
import ssl
import sys
from websockets.asyncio.server import serve

async def hold(connection):
    async for _ in connection:
        pass

async def main():
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(sys.argv[1])
    options = {"ssl": tls, "ping_interval": None, "backlog": 1024}
    async with serve(hold, "127.0.0.1", 0, **options) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()

asyncio.run(main())
"""

MONITOR = """
import sys
from benchmarks.websocket import monitor
monitor(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
"""


def monitor(port: int, sessions: int, seconds: float) -> None:
    """Watch in this process, and print what it cost as JSON."""
    from tars_ga_lib.endpoints import WebSocketTargets
    from tars_ga_lib.system import websocket

    marks: list[tuple[float, float, float]] = []  # wall, CPU, megabytes

    def mark(left: float, glances: list[websocket.Glance]) -> None:
        elapsed = seconds - left
        if (not marks and elapsed >= SETTLE) or (len(marks) == 1 and elapsed >= seconds / 2):
            marks.append((time.monotonic(), time.process_time(), memory()))

    url = f"wss://127.0.0.1:{port}/ws"
    targets = WebSocketTargets(endpoints={f"session {n:04}": url for n in range(sessions)})
    pace = websocket.Pace(duration=seconds)
    results = websocket.watch(targets, pace=pace, progress=mark, every=1.0)
    marks.append((time.monotonic(), time.process_time(), memory()))
    (wall, used, _), (_, _, half), (end, all_used, last) = marks[0], marks[1], marks[-1]
    found = results["endpoints"]
    print(
        json.dumps(
            {
                "core": (all_used - used) / (end - wall),
                "seconds": end - wall,
                "opening": used,
                "half": half,
                "last": last,
                "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "up": sum(each["uptime"] == 1 for each in found),
                "pings": sum(each["ping"]["count"] for each in found),
                "ping_p99": sorted(each["ping"]["p99"] or 0 for each in found)[-len(found) // 100],
                "handshake": max(each["handshake"]["max"] or 0 for each in found),
                "forced": sum(each["forced"]["successes"] for each in found),
                "unobserved": len(results["unobserved"]),
            }
        )
    )


def memory() -> float:
    """Return the megabytes that this process holds now."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / (1 << 20)


def measure(sessions: int, seconds: float) -> dict[str, Any]:
    """Start the server, watch it from another process, and return what that cost."""
    from tests.websocket_servers import Authority

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 3 * sessions), hard), hard))
    with tempfile.TemporaryDirectory(prefix="tars-ga-benchmark-") as folder:
        authority = Authority.make(Path(folder))
        command = [sys.executable, "-c", SERVER, str(authority.issue("server"))]
        environ = os.environ | {"TARS_GA_CA_BUNDLE": str(authority.bundle)}
        with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
            try:
                assert server.stdout is not None
                port = server.stdout.readline().decode().strip()
                command = [sys.executable, "-c", MONITOR, port, str(sessions), str(seconds)]
                done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environ)
            finally:
                server.terminate()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def section(sessions: int, minutes: float, found: dict[str, Any]) -> str:
    """Write the figures."""
    rows = [
        ("share of one core, all sessions open", f"{found['core']:.1%}", f"< {MOST_CORE:.0%}"),
        ("memory at the end", f"{found['last']:.0f} MB", "–"),
        ("… in the middle", f"{found['half']:.0f} MB", "–"),
        (f"CPU time of starting and the first {SETTLE:.0f} s", f"{found['opening']:.1f} s", "–"),
        ("sessions that were never down", f"{found['up']} of {sessions}", "all"),
        ("forced reconnects", f"{found['forced']:,}", "–"),
        ("pings answered", f"{found['pings']:,}", "–"),
        ("ping P99 of the 99th of 100 sessions", f"{found['ping_p99'] * 1000:.1f} ms", "–"),
        ("slowest handshake", f"{found['handshake'] * 1000:.0f} ms", "–"),
    ]
    return f"""## Watching WebSocket sessions

`python -m benchmarks.websocket`, {sessions:,} sessions watched by one process for
{minutes:g} minutes at the default pace over TLS, the server in another process of the same
machine, {os.cpu_count()} cores, Python {sys.version.split()[0]}.

{sections.table(["what", "measured", "must reach"], rows)}
"""


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--dry-run", action="store_true", help="do not write README.md")
    options = parser.parse_args()
    found = measure(options.sessions, options.minutes * 60)
    text = section(options.sessions, options.minutes, found)
    print(text)
    if not options.dry_run:
        sections.write("websocket", text)


if __name__ == "__main__":
    main()
