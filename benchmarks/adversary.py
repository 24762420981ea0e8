"""Try to make a false CERTIFIED, and write what came of it into README.md.

    python -m benchmarks.adversary [--groups 1600] [--processes 2]

A clean simulated day of six cells is held by a real Prometheus, collected once, and damaged: its
recording by groups of one or two edits that hypothesis draws (the same ones each time), its results
and evidence by enumerated forgeries, its server by answerers that lie, its history before the
server gets it. Each group also damages one of the days that are truly bad. Then the clean variants
are decided on. It ends with exit code 1 if any law was broken.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks import sections
from tests import adversary, forgeries, liars, servers
from tests.adversary import Court, Tally


@contextmanager
def held() -> Iterator[tuple[str, Path]]:
    """Serve the clean day, and yield its URL with a folder for what the court writes."""
    with tempfile.TemporaryDirectory(prefix="tars-ga-adversary-") as name:
        folder = Path(name)
        data = liars.write(folder / "clean", adversary.scenario())
        with servers.prometheus(data) as url:
            yield url, folder


def edits(url: str, groups: Sequence[tuple[int, tuple[adversary.Edit, ...]]]) -> Tally:
    """Try some groups of edits in a process of their own."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="tars-ga-adversary-") as name, adversary.remembered():
        court = _court(url, Path(name))
        court.edits(groups, tally)
    return tally


def _court(url: str, folder: Path) -> Court:
    return Court.of(adversary.collected_day(url, folder / "job"), folder)


def benchmark(groups: int, processes: int) -> tuple[Tally, dict[str, str]]:
    """Try everything; return the tally, and the decision on each clean variant."""
    tally = Tally()
    with held() as (url, folder), adversary.remembered():
        court = _court(url, folder / "court")
        drawn = adversary.drawn(court.asked, groups)
        # Neighbours are alike and share statistics, so they stay together.
        size = -(-len(drawn) // processes)
        chunks = [drawn[start : start + size] for start in range(0, len(drawn), size)]
        with ProcessPoolExecutor(processes) as pool:
            running = pool.map(partial(edits, url), chunks)
            forgeries.try_all(court, tally)
            for part in running:
                tally += part
        liars.try_liars(court, url, liars.liars(sorted(court.asked.metrics)), tally)
        liars.try_histories(court, folder / "histories", liars.histories(), tally)
        clean = {"the clean day": court.base.decision}
        for name in liars.VARIANTS:
            place = folder / name.replace(" ", "_")
            clean[name] = liars.try_variant(name, place, court.judge).decision
    return tally, clean


def section(tally: Tally, clean: dict[str, str]) -> str:
    """Write the figures."""
    stay = sum(decision == "CERTIFIED" for decision in clean.values())
    rows = [
        ("damaged days tried", f"{tally.days:,}", "≥ 2,000"),
        ("falsely CERTIFIED", str(len(tally.falsely)), "0"),
        ("verdicts that got better by a loss", str(len(tally.better)), "0"),
        ("ended in an error of ours", str(len(tally.crashed)), "0"),
        ("clean days that stay CERTIFIED", f"{stay} of {len(clean)}", "all"),
    ]
    regions, services = len(adversary.REGIONS), len(adversary.SERVICES)
    kinds = sections.table(["what was damaged", "days", "of them must be refused"], tally.table())
    return f"""## No input makes a false CERTIFIED

`python -m benchmarks.adversary`: one clean simulated day and its baseline, {regions} regions by
{services} services, held by a real Prometheus. Ways: {", ".join(adversary.WAYS)}. About
half of the days were truly bad before. A day of two kinds of damage is counted in both.

{sections.table(["what", "measured", "must reach"], rows)}

{kinds}

Which days must be refused is worked out from the samples by plain arithmetic that shares nothing
with the library: what was seen, and all that the clean day had and the damaged one lacks, taken at
its worst. Clean: {"; ".join(clean)}.
"""


def main() -> int:
    """Try, write, and say what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=1600)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    tally, clean = benchmark(options.groups, options.processes)
    text = section(tally, clean)
    print(text)
    for line in tally.wrongs():
        print(line)
    for name, decision in clean.items():
        if decision != "CERTIFIED":
            print(f"not certified: {name}: {decision}")
    sections.write("adversary", text)
    return bool(tally.wrongs()) or any(d != "CERTIFIED" for d in clean.values())


if __name__ == "__main__":
    raise SystemExit(main())
