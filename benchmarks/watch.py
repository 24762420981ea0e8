"""Measure what watching a day costs, and write the figures into README.md.

    python -m benchmarks.watch [--minutes 10]

A real Prometheus holds a simulated day of 3 regions × 8 services which is going on right now: most
of the window is over, so that the watch first catches up with it and then goes step by step, five
minutes each, as on any day. Memory and CPU time are those of the watching process and of the short
process that looks at the samples at each step; time in which nothing happens counts too. Needs
Prometheus and promtool.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from benchmarks import sections
from demo import simulate
from tests import servers

ROOT = Path(__file__).resolve().parent.parent
STEP, DAY = 300, 86400
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Seen:
    """What was seen of a process and its children, in MB and seconds."""

    idle: list[float] = field(default_factory=list)
    together: list[float] = field(default_factory=list)
    cpu: float = 0.0


def _pss(pid: int) -> float:
    """Memory of a process in MB; what is shared with another counts by its share."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text("utf-8")
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in text.splitlines() if "Pss:" in line), 0.0)


def _children(pid: int) -> list[int]:
    try:
        return [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text("utf-8").split()
        ]
    except OSError:
        return []


def _cpu(pid: int) -> float:
    """CPU seconds of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def look_on(pid: int, stop: threading.Event) -> Seen:
    """Look at a process twenty times a second."""
    seen = Seen()
    while not stop.wait(0.05):
        children = _children(pid)
        mine = _pss(pid)
        (seen.together if children else seen.idle).append(mine + sum(map(_pss, children)))
    return seen


def history(folder: Path, start: int, baseline: int) -> None:
    """Simulate a day that is going on, and the day before it, as blocks of a server."""
    scenario = simulate.Scenario()
    files = [folder / "baseline.om", folder / "ga.om"]
    for file, began, was in zip(
        files, (baseline, start), (simulate.BASELINE_DAY, simulate.GA_DAY), strict=True
    ):
        simulate.write(file, scenario, file.stem)
        _shift(file, began - was)
    servers.backfill(folder / "data", *files)


def _shift(file: Path, by: int) -> None:
    """Move the times of an OpenMetrics file."""
    moved = file.with_suffix(".moved")
    with file.open(encoding="utf-8") as lines, moved.open("w", encoding="utf-8") as out:
        for line in lines:
            if line.startswith("#"):
                out.write(line)
                continue
            head, _, at = line.rstrip("\n").rpartition(" ")
            out.write(f"{head} {float(at) + by:.3f}\n")
    moved.replace(file)


def passes(log: str) -> list[float]:
    """Seconds from the time at which each step was due to its snapshot, after the first."""
    found = []
    for line in log.splitlines():
        if " INFO step " not in line:
            continue
        when, _, rest = line.partition(" INFO ")
        end = rest.split(", ")[1].split(": ")[0]
        apart = datetime.fromisoformat(when) - datetime.fromisoformat(end)
        found.append(apart.total_seconds() - 30)
    return found[1:]


def main() -> None:
    """Measure, print the table and write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=11, help="how long it is watched")
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # The window ends just after the measurement: late in the day there is most to hold.
        end = int(time.time() + minutes * 60 + 120) // STEP * STEP + STEP
        start, baseline = end - DAY, end - 8 * DAY
        history(folder, start, baseline)
        overrides = [
            f"window={{start: {_iso(start)}, duration: 24h, step: 5m}}",
            f"baseline={{start: {_iso(baseline)}, duration: 24h}}",
        ]
        with servers.prometheus(folder / "data") as url:
            sets = [f"source={{prometheus: '{url}'}}", "baseline.repeat=7d x 1", *overrides]
            command = [str(Path(sys.executable).with_name("tars-ga")), "watch",
                       str(ROOT / "parameters" / "demo.yaml"), "--output", str(folder / "out"),
                       *[part for each in sets for part in ("--set", each)]]  # fmt: skip
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            stop, found = threading.Event(), []
            thread = threading.Thread(target=lambda: found.append(look_on(process.pid, stop)))
            thread.start()
            log = folder / "out" / "watch" / "watch.log"
            while not (log.exists() and " step " in log.read_text("utf-8")):
                time.sleep(0.1)
            began, before = time.monotonic(), _cpu(process.pid)
            time.sleep(minutes * 60)
            watched, spent = time.monotonic() - began, _cpu(process.pid) - before
            stop.set()
            thread.join()
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            took = passes(log.read_text("utf-8"))
    (seen,) = found
    rows = [
        ["memory while it waits", f"{max(seen.idle):.0f} MB", "< 100 MB"],
        ["… with the process that looks at a step, about a second of 300",
         f"{max(seen.together, default=0):.0f} MB", "–"],
        ["… as the mean over the time", f"{_mean(seen.idle + seen.together):.0f} MB", "< 100 MB"],
        ["CPU time of both, share of one core", f"{spent / watched:.1%}", "< 5 %"],
        [f"a step after the first, longest of {len(took)}",
         f"{max(took, default=float('nan')):.0f} s", "< 2 s"],
    ]  # fmt: skip
    table = sections.table(["what", "measured", "must reach"], rows)
    note = (
        f"`python -m benchmarks.watch`, 3 × 8 at the end of a simulated day, step 5m, watched for "
        f"{watched / 60:.0f} minutes; memory is PSS. {os.cpu_count()} cores, "
        f"Python {sys.version.split()[0]}."
    )
    sections.write("watch", f"## Watching a day\n\n{note}\n\n{table}")
    print(table)


def _mean(values: list[float]) -> float:
    return sum(values) / max(len(values), 1)


def _iso(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


if __name__ == "__main__":
    main()
