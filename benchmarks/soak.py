"""Watch a compressed day of 24 h with faults thrown in, and write the figures into README.md.

    python -m benchmarks.soak [--steps 288]

A real Prometheus scrapes itself and a node exporter; a step takes a second, so that a day of 288
steps takes five minutes. Meanwhile the server fails, is slow, is cut off, is stopped and started,
the watch is killed and told to end, this machine's clock is wrong by an hour, and the disk is full.
In the end the recording must equal that of a batch collection, and the decision its decision.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import sections
from tars_ga_lib import recording
from tests import watching

PAUSE = 6.0
"""Seconds between two faults, and how long a fault of the server's lasts at most."""


class Soak:
    """A watch that is started again whenever it ends, and faults that come in turns."""

    def __init__(self, day: watching.Compressed, out: Path) -> None:
        self.day, self.out = day, out
        self.done: dict[str, int] = {}
        self.memory: list[float] = []
        self.codes: list[int] = []
        self._draw = random.Random(3)
        self._stop = threading.Event()
        self.process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        middle = self.day.start + self.day.steps * self.day.step / 2
        return self.day.watch(self.out, clock=(3600, middle - 30, middle + 30))

    def run(self) -> None:
        """Throw faults until shortly before the window's end."""
        thread = threading.Thread(target=self._weigh)
        thread.start()
        faults: dict[str, Callable[[], None]] = {
            "answers 503": lambda: self._switched("503"),
            "slow answers": lambda: self._switched("slow"),
            "network cut": lambda: self._switched("drop"),
            "answers that are no JSON": lambda: self._switched("html"),
            "server restarted": lambda: self.day.restart(self._draw.uniform(0.5, 3)),
            "watch killed (SIGKILL)": lambda: self._end(signal.SIGKILL),
            "watch ended (SIGTERM)": lambda: self._end(signal.SIGTERM),
            "disk full": self._fill,
        }
        while True:
            for name, fault in faults.items():
                time.sleep(self._draw.uniform(0.5, PAUSE))
                if time.time() > self.day.stop - 2 * PAUSE:
                    self._stop.set()
                    thread.join()
                    return
                fault()
                self.done[name] = self.done.get(name, 0) + 1

    def _switched(self, behaviour: str) -> None:
        self.day.switch.behaviour = behaviour
        time.sleep(self._draw.uniform(1, PAUSE))
        self.day.switch.behaviour = "pass"

    def _end(self, number: int) -> None:
        code, said = watching.kill(self.process, number)
        self.codes.append(code)
        # -SIGTERM: while it was still starting.
        if code not in (-signal.SIGKILL, 128 + signal.SIGTERM, -signal.SIGTERM):
            raise SystemExit(f"the watch ended with {code}:\n{said}")
        self.process = self._start()

    def _fill(self) -> None:
        limits = resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (1000, limits[1]))
        time.sleep(self._draw.uniform(1, PAUSE))
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, limits)

    def _weigh(self) -> None:
        while not self._stop.wait(1):
            try:
                self.memory.append(watching.memory(self.process))
            except (OSError, ValueError):  # it is being started again
                continue


def main() -> None:
    """Soak, check, print the table and write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=288)
    steps = parser.parse_args().steps
    with (
        tempfile.TemporaryDirectory() as name,
        watching.compressed_day(
            Path(name) / "day", steps=steps, step=1, scrape="250ms", begins_in=5
        ) as day,
    ):
        out = Path(name) / "out"
        soak = Soak(day, out)
        soak.run()
        code, said = watching.finish(soak.process, 300)
        batch = day.batch()
        found = recording.load(out / "watch" / "recording")
        different = watching.differences(found, batch)
        lines = [line["step"] for line in watching.snapshots(out)]
        certification = json.loads((out / "certification_metadata.json").read_text("utf-8"))
        agrees = watching.told(certification) == watching.decide(day.job(), batch)
        samples = sum(each.samples for _, each in found.provenance())
    quarter = max(1, len(soak.memory) // 4)
    first, last = sorted(soak.memory[:quarter]), sorted(soak.memory[-quarter:])
    rows = [
        ["faults", ", ".join(f"{name} {count} ×" for name, count in soak.done.items()), "–"],
        [f"sample sets that differ from a batch collection's, of {samples} samples",
         str(len(different)), "0"],
        ["steps with a snapshot, each once and in order",
         f"{len(lines)} of {steps}" if lines == list(range(1, steps + 1)) else "wrong", f"{steps}"],
        ["decision and every verdict and value equal the batch run's",
         "yes" if agrees else "NO", "yes"],
        ["memory of the watching process, median of the first and the last quarter",
         f"{first[len(first) // 2]:.0f} and {last[len(last) // 2]:.0f} MB", "flat, < 100 MB"],
    ]  # fmt: skip
    table = sections.table(["what", "measured", "must be"], rows)
    note = (
        f"`python -m benchmarks.soak`, {steps} steps of a second, {os.cpu_count()} cores, "
        f"Python {sys.version.split()[0]}."
    )
    sections.write("soak", f"## A compressed day with faults\n\n{note}\n\n{table}")
    print(table)
    if different or not agrees or lines != list(range(1, steps + 1)):
        sys.exit("\n".join([*different, f"exit code {code}", said]))


if __name__ == "__main__":
    main()
