"""Measure packing and verifying a large run, and write the figures into README.md.

    python -m benchmarks.packaging [--megabytes 1000]

The run is a small one with large files beside it: 60 % that cannot be compressed, as recordings
cannot, and 40 % of JSON lines. The references are `sha256sum` and `gzip` of the same level over the
same files, and `gzip -d` with `sha256sum` for verifying; all is done in turns, three times.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import sections
from tars_ga_lib.evidence import package as evidence
from tars_ga_lib.evidence import tarball
from tests.packages import finished_run

TURNS = 3
MOST_TIMES, MOST_MEGABYTES = 1.5, 200

# Not ru_maxrss: a child begins with that of its parent.
_CODE = """
import sys
from pathlib import Path
from tars_ga_lib.evidence import package as evidence, verify
{work}
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""
PACK = _CODE.format(work="evidence.build(Path(sys.argv[1]))")
VERIFY = _CODE.format(work="assert verify.verify(Path(sys.argv[1])).exit_code == 4")
IMPORT = _CODE.format(work="")


def fill(run: Path, megabytes: int) -> list[Path]:
    """Put large files into a run's folder; return all of its files."""
    rng = np.random.default_rng(1)
    with (run / "recording" / "large.parquet").open("wb") as stream:
        for _ in range(megabytes * 6 // 10):
            stream.write(rng.bytes(1_000_000))
    with (run / "artifacts" / "large.jsonl").open("w", encoding="ascii") as lines:
        while lines.tell() < megabytes * 400_000:
            values = rng.normal(0.3, 0.01, 2000).round(12).tolist()
            lines.writelines(
                json.dumps({"step_end": f"2026-11-20T{i:05}Z", "latency_p99": value}) + "\n"
                for i, value in enumerate(values)
            )
    return [path for path in sorted(run.rglob("*")) if path.is_file()]


def measure(arguments: Sequence[object], out: Path) -> tuple[float, float]:
    """Return the seconds that a command takes, and the megabytes that it says it had at most."""
    with out.open("wb") as stream:
        began = time.perf_counter()
        subprocess.run([str(a) for a in arguments], stdout=stream, check=True)
        taken = time.perf_counter() - began
    said = out.read_text().strip() if arguments[0] == sys.executable else "0"
    return taken, int(said) / 1024


def benchmark(megabytes: int, folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Measure everything in turns: seconds and megabytes of each."""
    run = finished_run(folder / "run")
    files = fill(run, megabytes)
    packed, name = folder / "reference.gz", run / evidence.ARCHIVE
    works: dict[str, Sequence[object]] = {
        "sha256sum": ["sha256sum", *files],
        "gzip": ["gzip", f"-{tarball.LEVEL}", "-n", "-c", *files],
        "gunzip": ["gzip", "-d", "-c", packed],
        "pack": [sys.executable, "-c", PACK, run],
        "verify": [sys.executable, "-c", VERIFY, name],
        "import": [sys.executable, "-c", IMPORT],
    }
    found: dict[str, list[tuple[float, float]]] = {work: [] for work in works}
    for _ in range(TURNS):
        for work, arguments in works.items():
            out = packed if work == "gzip" else folder / "out"
            found[work].append(measure(arguments, out))
    return found


def section(megabytes: int, found: dict[str, list[tuple[float, float]]]) -> str:
    """Write the figures."""
    seconds = {work: statistics.median(t for t, _ in each) for work, each in found.items()}
    memory = {work: max(m for _, m in each) for work, each in found.items()}
    pack = seconds["pack"] / (seconds["sha256sum"] + seconds["gzip"])
    verify = seconds["verify"] / (seconds["sha256sum"] + seconds["gunzip"])
    both = (seconds["pack"] + seconds["verify"]) / (seconds["sha256sum"] + seconds["gzip"])
    times, most = f"≤ {MOST_TIMES}", f"≤ {MOST_MEGABYTES} MB"
    rows = [
        ("packing, in multiples of sha256sum and gzip", f"{pack:.2f}", times),
        ("verifying, in multiples of sha256sum and gzip -d", f"{verify:.2f}", times),
        ("both, in multiples of sha256sum and gzip", f"{both:.2f}", times),
        ("memory, packing", f"{memory['pack']:.0f} MB", most),
        ("memory, verifying", f"{memory['verify']:.0f} MB", most),
        ("memory, imports alone", f"{memory['import']:.0f} MB", "–"),
    ]
    table = sections.table(["what", "measured", "must reach"], rows)
    parts = ", ".join(f"{work} {seconds[work]:.1f} s" for work in found)
    return f"""## Packing and verifying evidence

`python -m benchmarks.packaging`, a run of {megabytes:,} MB (60 % of it incompressible), gzip level
{tarball.LEVEL}, {os.cpu_count()} cores, Python {sys.version.split()[0]}, median of {TURNS}.

{table}

{parts}. Packing reads each
file once; verifying writes nothing. With `--replay` the archive is also unpacked into a temporary
folder.
"""


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1000)
    megabytes = parser.parse_args().megabytes
    with tempfile.TemporaryDirectory(prefix="tars-ga-benchmark-") as folder:
        text = section(megabytes, benchmark(megabytes, Path(folder)))
    print(text)
    sections.write("packaging", text)


if __name__ == "__main__":
    main()
