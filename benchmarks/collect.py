"""Measure collecting and the whole of `make report`, and write the figures into README.md.

    python -m benchmarks.collect [--quick]

Machines are noisy, so figures are ratios of two things that were measured in one run, in turns.
Needs Prometheus and promtool. `--quick` leaves out the collection of 5 × 200 services.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import requests
from prometheus_api_client import MetricRangeDataFrame, PrometheusConnect

from benchmarks import sections
from demo import simulate
from tars_ga_lib import collection, parameters, queries
from tars_ga_lib.parameters import Job
from tars_ga_lib.prometheus import Prometheus
from tests import servers

ROOT = Path(__file__).resolve().parent.parent
RAW_SERIES, RAW_POINTS, RAW_STEP = 1000, 1441, 60
INSTANTS = 12


def seconds(work: Callable[[], object]) -> float:
    """Time that a piece of work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_turns(times: int, *works: Callable[[], object]) -> list[float]:
    """Median time of each piece of work, done in turns so that noise meets all of them."""
    taken = [[seconds(work) for work in works] for _ in range(times)]
    return [statistics.median(column) for column in zip(*taken, strict=True)]


def demo_job(url: str, *more: str) -> Job:
    """Return the demo's job against a server."""
    source = f"source={{prometheus: '{url}'}}"
    one_day = "baseline.repeat=7d x 1"
    return parameters.load(ROOT / "parameters" / "demo.yaml", [source, one_day, *more])


def throw_away(job: Job) -> None:
    """Send the requests of a collection, as many at once, and read the bytes only."""
    source = job.parameters.source
    step = job.parameters.window.step
    forms = [
        {"query": r.query, "start": i.start + step, "end": i.stop, "step": step, "nocache": 1}
        for i in collection.spans(job.parameters).values()
        for r in queries.requests(job)
    ]
    with requests.Session() as session:
        session.headers["Accept-Encoding"] = "identity"
        url = f"{source.prometheus}/api/v1/query_range"

        def send(form: dict[str, object]) -> int:
            return len(session.post(url, data=form, timeout=120).content)

        with ThreadPoolExecutor(source.connections) as pool:
            list(pool.map(send, forms))


def instant_queries(job: Job) -> float:
    """Time of an instant query for each query and step, from a few steps of the day."""
    window = job.parameters.window
    steps = window.seconds // window.step
    spans = len(collection.spans(job.parameters))
    api = PrometheusConnect(job.parameters.source.prometheus)
    times = [window.start + k * window.seconds // INSTANTS for k in range(1, INSTANTS + 1)]

    def ask() -> None:
        for at in times:
            for request in queries.requests(job):
                api.custom_query(request.query, params={"time": at})

    return seconds(ask) * steps / INSTANTS * spans


def raw_history(file: Path) -> int:
    """Write a thousand raw series as OpenMetrics, and return when they begin."""
    start = simulate.BASELINE_DAY
    values = np.random.default_rng(1).normal(100, 10, (RAW_SERIES, RAW_POINTS)).cumsum(axis=1)
    times = start + RAW_STEP * np.arange(RAW_POINTS)
    with file.open("w", encoding="utf-8") as text:
        text.write("# TYPE raw gauge\n")
        for name, row in enumerate(values):
            pairs = zip(row, times, strict=True)
            text.write("".join(f'raw{{series="{name}"}} {v:.6f} {t}\n' for v, t in pairs))
        text.write("# EOF\n")
    return start


def compare_raw(url: str, start: int) -> tuple[float, float]:
    """Time to read a thousand raw series: by our client, and by MetricRangeDataFrame."""
    stop = start + (RAW_POINTS - 1) * RAW_STEP
    first, last = (datetime.fromtimestamp(t, UTC) for t in (start + RAW_STEP, stop))

    def theirs() -> None:
        found = PrometheusConnect(url).custom_query_range("raw", first, last, str(RAW_STEP))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pandas, about the frame's construction
            MetricRangeDataFrame(found)

    with Prometheus(url) as ours:
        taken = in_turns(3, lambda: ours.range("raw", start, stop, RAW_STEP), theirs)
    return taken[0], taken[1]


def peak_of(*command: str) -> tuple[float, int]:
    """Time of a command, and the peak memory in MB of the largest of its processes."""
    script = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, "
        "stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)"
    )
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", script, *command], capture_output=True, text=True, check=True
    )
    return time.perf_counter() - began, int(done.stdout)


def bare_kernels() -> float:
    """Time of four kernels, one after the other, that start, import the library and stop."""
    script = (
        "from jupyter_client.manager import start_new_kernel as s\n"
        "for _ in range(4):\n"
        "    m, c = s(kernel_name='python3')\n"
        "    c.execute_interactive('from tars_ga_lib import views')\n"
        "    c.stop_channels(); m.shutdown_kernel(now=True)\n"
    )
    return seconds(
        lambda: subprocess.run(
            [sys.executable, "-c", script], check=True, stderr=subprocess.DEVNULL
        )
    )


def report_figures() -> list[list[str]]:
    """Measure `tars-ga run` on the demo beside bare kernels."""
    command = Path(sys.executable).parent / "tars-ga"
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["run", str(ROOT / "parameters/demo.yaml"), "--output", f"{folder}/demo"]
        runs, bare = [], []
        for _ in range(3):
            runs.append(peak_of(str(command), *arguments, "--report-only"))
            bare.append(bare_kernels())
    whole, kernels = statistics.median(r[0] for r in runs), statistics.median(bare)
    return [
        ["`make report` after set-up, of 10 s", f"{whole:.1f} s", "≤ 10 s"],
        ["… against four bare kernel starts and imports", f"{whole / kernels:.2f}", "–"],
        ["… largest process", f"{max(r[1] for r in runs)} MB", "≤ 300 MB"],
    ]


def large_figures(folder: Path) -> list[list[str]]:
    """Collect 5 regions × 200 services, and measure the memory of that process."""
    scenario = simulate.scaled()
    files = [folder / "large-baseline.om", folder / "large-ga.om"]
    for file, day in zip(files, ("baseline", "ga"), strict=True):
        simulate.write(file, scenario, day)
    servers.backfill(folder / "large", *files)
    for file in files:
        file.unlink()
    script = (
        # Not ru_maxrss, which a child inherits from its parent.
        "import sys; from tars_ga_lib import collection, parameters; "
        "job = parameters.load(sys.argv[1], sys.argv[2:]); found = collection.collect(job); "
        "assert not found.problems; "
        "peak = next(l for l in open('/proc/self/status') if l.startswith('VmHWM')); "
        "print(sum(p.samples for _, p in found.provenance()), int(peak.split()[1]) // 1024)"
    )
    overrides = [
        f"regions=[{', '.join(scenario.regions)}]",
        f"services=[{', '.join(scenario.services)}]",
        "source.timeout=5m",
    ]
    with servers.prometheus(folder / "large") as url:
        arguments = [f"source={{prometheus: '{url}'}}", *overrides]
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", script, str(ROOT / "parameters/demo.yaml"), *arguments],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        taken = time.perf_counter() - began
    samples, memory = map(int, done.stdout.split())
    return [
        [
            f"5 × 200 services: {samples / 1e6:.1f} M samples, {taken:.0f} s",
            f"{memory} MB",
            "< 1 GB",
        ]
    ]


def main() -> None:
    """Measure all, print the table and write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="leave out 5 × 200 services")
    quick = parser.parse_args().quick
    rows = report_figures()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [folder / "baseline.om", folder / "ga.om"]
        for file in files:
            simulate.write(file, simulate.Scenario(), file.stem)
        servers.backfill(folder / "data", *files)
        with servers.prometheus(folder / "data") as url:
            job = demo_job(url)
            collection.collect(job)  # warms the server
            ours, bytes_only = in_turns(7, lambda: collection.collect(job), lambda: throw_away(job))
            instants = instant_queries(job)
        rows += [
            [f"collecting the demo's two days ({ours:.2f} s), in multiples of its requests alone",
             f"{ours / bytes_only:.2f}", "≤ 1.3"],
            [f"an instant query for each of them and step, in multiples of that (from {INSTANTS})",
             f"{instants / ours:.0f}", "≥ 10"],
        ]  # fmt: skip
        start = raw_history(folder / "raw.om")
        servers.backfill(folder / "raw", folder / "raw.om")
        with servers.prometheus(folder / "raw") as url:
            ours, theirs = compare_raw(url, start)
        rows.append(
            [f"MetricRangeDataFrame over {RAW_SERIES} raw series of {RAW_POINTS - 1} points, "
             "in multiples of our client", f"{theirs / ours:.1f}", "≥ 6"]
        )  # fmt: skip
        if not quick:
            rows += large_figures(folder)
    table = sections.table(["what", "measured", "must reach"], rows)
    cores = os.cpu_count()
    note = f"`python -m benchmarks.collect`, {cores} cores, Python {sys.version.split()[0]}."
    sections.write("collect", f"## Collecting, and the whole run\n\n{note}\n\n{table}")
    print(table)
    print(f"peak of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")


if __name__ == "__main__":
    main()
