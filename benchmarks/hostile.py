"""Inputs of an enemy: how many were tried, refused in a sentence, or did no harm.

    python -m benchmarks.hostile [--budget 1000]

The inputs are those of `tests/hostile.py`, which says what harm is; `make test` tries fewer. Where
one does harm, its error is printed with the bytes that did it.
"""

from __future__ import annotations

import argparse
import tempfile
import traceback
from pathlib import Path

from tars_ga_lib.evidence import package
from tests import hostile
from tests.packages import finished_run


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--budget", type=int, default=1000)
    budget = parser.parse_args().budget
    print("| input | tried | refused | survived |\n| --- | --: | --: | --: |")

    def row(kind: str, good: bytes, read: hostile.Reader) -> None:
        try:
            counts = hostile.tried(good, read, budget)
        except BaseException:
            print(f"| {kind} | HARM | | |\n{traceback.format_exc()}")
        else:
            total = sum(counts.values())
            print(f"| {kind} | {total:,} | {counts['refused']:,} | {counts['survived']:,} |")

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run, scratch = finished_run(folder / "run"), folder / "scratch"
        package.build(run)
        scratch.mkdir()
        for kind, (good, read) in hostile.kinds(run, scratch).items():
            with hostile.walls(folder):
                row(kind, good, read)
        with hostile.served() as (port, read), hostile.walls(folder, port):
            row("HTTP answer", hostile.answer(), read)
        with hostile.recordings(run) as reader, hostile.walls(folder):
            for file in ("recording.json", "window.parquet"):
                good = (run / "recording" / file).read_bytes()
                row(file, good, reader(file))
                reader(file)(good)


if __name__ == "__main__":
    main()
