"""Measure the whole validation suite against local stores, and write the figures into README.md.

    python -m benchmarks.validation [--rows 1000000] [--keys 1000000] [--vectors 100000]

Three PostgreSQL servers (a primary and two streaming replicas), three Redis servers, three Chroma
servers and a server that answers as Grafana's API documentation says run on this machine, and
share its cores with the suite. The agents' memory comes from a real Prometheus. The command is run
as a user runs it; its memory is the sum of what its processes had at most.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import sections
from tests import grafana, servers, stores
from tests.helpers import START, STEP, TARS_GA, dump, write_run

TURNS = 3
MOST_SECONDS, MOST_MEGABYTES = 60, 200
STEPS = 288


@dataclass(frozen=True)
class Measured:
    """One run of the suite."""

    seconds: float
    megabytes: float
    results: dict[str, Any]


def peak(pid: int) -> float:
    """Megabytes that a process has had at most; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    except (OSError, StopIteration):
        return 0.0


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def measure(file: Path, output: Path, environ: dict[str, str]) -> Measured:
    """Run `tars-ga validate` and watch its memory."""
    began = time.perf_counter()
    command = [str(each) for each in (TARS_GA, "validate", file, "--output", output)]
    process = subprocess.Popen(
        command, env=os.environ | environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    most: dict[int, float] = {}
    while process.poll() is None:
        for pid in (process.pid, *children(process.pid)):
            most[pid] = max(most.get(pid, 0.0), peak(pid))
        time.sleep(0.02)
    seconds = time.perf_counter() - began
    results = json.loads((output / "validation_results.json").read_text(encoding="utf-8"))
    return Measured(seconds, sum(most.values()), results)


def agents(folder: Path, regions: Sequence[str]) -> Path:
    """Write the memory and restarts of four agents in each region, as Prometheus' data."""
    rng = np.random.default_rng(1)
    times = range(START - STEP, START + STEPS * STEP + 1, 60)
    with (folder / "agents.om").open("w", encoding="ascii") as file:
        for name, kind in (
            ("container_memory_working_set_bytes", "gauge"),
            ("kube_pod_container_status_restarts_total", "counter"),
        ):
            file.write(f"# TYPE {name.removesuffix('_total')} {kind}\n")
            for region in regions:
                for pod in range(4):
                    head = f'{name}{{region="{region}",pod="ppo-agent-{pod}",container="agent"}}'
                    values = rng.normal(5e8, 1e7, len(times)) if kind == "gauge" else [0] * 9999
                    for at, value in zip(times, values, strict=False):
                        file.write(f"{head} {value:.0f} {at}\n")
        file.write("# EOF\n")
    servers.backfill(folder / "prometheus", folder / "agents.om")
    return folder / "prometheus"


def benchmark(rows: int, keys: int, vectors: int, folder: Path) -> list[Measured]:
    """Start everything, and run the suite in turns."""
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        postgres = enter(stores.postgres_cluster(rows))
        redis = enter(stores.redis_servers(keys))
        chroma = enter(stores.chroma_servers(vectors))
        board = enter(grafana.serve())
        prometheus = enter(servers.prometheus(agents(folder, stores.REGIONS)))
        document = {
            "left_out": {"kpis": "no recording is part of this benchmark"},
            "postgres": postgres.section(),
            "redis": redis.section(),
            "chroma": chroma.section(),
            "grafana": {
                "url": board.url,
                "token_env": "TARS_GA_GRAFANA_TOKEN",
                "dashboards": ["tars-overview"],
            },
            "agents": {"prometheus": prometheus},
        }
        dump(folder / "validation.yaml", document)
        file = write_run(
            folder,
            validation="validation.yaml",
            regions=list(stores.REGIONS),
            primary_region=stores.REGIONS[0],
            simulated=True,
        )
        environ = postgres.secrets | redis.secrets | {"TARS_GA_GRAFANA_TOKEN": grafana.TOKEN}
        return [measure(file, folder / f"out{turn}", environ) for turn in range(TURNS)]


def section(rows: int, keys: int, vectors: int, found: Sequence[Measured]) -> str:
    """Write the figures."""
    seconds = statistics.median(each.seconds for each in found)
    memory = max(each.megabytes for each in found)
    checks = found[-1].results["checks"]
    counts = Counter(check["verdict"] for each in found for check in each.results["checks"])
    verdicts = ", ".join(f"{n} {verdict}" for verdict, n in sorted(counts.items()))
    slowest = sorted(checks, key=lambda check: -check["took_seconds"])[:5]
    table = sections.table(
        ["what", "measured", "must reach"],
        [
            ("time, median", f"{seconds:.1f} s", f"≤ {MOST_SECONDS} s"),
            ("memory, both processes", f"{memory:.0f} MB", f"≤ {MOST_MEGABYTES} MB"),
        ],
    )
    longest = sections.table(
        ["the longest checks", "took"],
        [(check["id"], f"{check['took_seconds']:.2f} s") for check in slowest],
    )
    return f"""## Validation of the running system

`python -m benchmarks.validation`, {len(checks)} checks against stores on the same machine:
{rows:,} rows of telemetry and {rows // 5:,} missions on 3 PostgreSQL servers, {keys:,} keys on 3
Redis servers, {vectors:,} vectors on 3 Chroma servers; {os.cpu_count()} cores, Python
{sys.version.split()[0]}, {len(found)} turns. Verdicts of all turns: {verdicts}.

{table}

{longest}
"""


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--vectors", type=int, default=100_000)
    sizes = vars(parser.parse_args())
    with tempfile.TemporaryDirectory(prefix="tars-ga-benchmark-") as folder:
        text = section(**sizes, found=benchmark(**sizes, folder=Path(folder)))
    print(text)
    sections.write("validation", text)


if __name__ == "__main__":
    main()
