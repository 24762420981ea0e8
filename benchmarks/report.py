"""Measure rendering the report, of the demo and of a wide run, and write it into README.md.

    python -m benchmarks.report [--regions 12] [--services 60]

Each turn is a process of its own that begins where the analysis is done: it makes the tables and
charts of the certification notebook, and sets the PDF, the HTML and the Markdown report. The time
of its imports is told beside it. The wide run is made by `tests.wide` and is SIMULATED.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import sections
from tests import packages, wide
from tests.helpers import ROOT, tars_ga

TURNS = 3
MOST_MEGABYTES = 300
MOST_SECONDS = {"demo": 5, "wide": 20}

# Not ru_maxrss: a child begins with that of its parent.
CODE = """
import json, sys, time
began = time.perf_counter()
from pathlib import Path
import pytest
from tars_ga_lib import criteria, report, views
from tests import executed
seconds = {"imports": time.perf_counter() - began}
def timed(name, work, *arguments):
    began = time.perf_counter()
    result = work(*arguments)
    seconds[name] = time.perf_counter() - began
    return result
with pytest.MonkeyPatch.context() as patch:
    notebook = timed("views", executed.execute, "05_certification", Path(sys.argv[1]), patch)
pdf = timed("PDF", report.to_pdf, notebook)
page = timed("HTML", report.to_html, notebook)
timed("Markdown", report.to_markdown, notebook)
timed("appendix", lambda: (report.to_pdf(notebook, part="appendix"),
                           report.to_html(notebook, part="appendix")))
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
sizes = {"PDF": len(pdf), "HTML": len(page.encode())}
print(json.dumps({"seconds": seconds, "megabytes": int(peak) / 1024, "sizes": sizes}))
"""


def measure(run: Path) -> dict[str, float]:
    """Render a run's report in processes of their own; return medians and the highest memory."""
    found = []
    for _ in range(TURNS):
        done = subprocess.run(
            [sys.executable, "-c", CODE, str(run)], cwd=ROOT, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        found.append(json.loads(done.stdout.splitlines()[-1]))
    steps = list(found[0]["seconds"])
    medians = {step: statistics.median(each["seconds"][step] for each in found) for step in steps}
    total = statistics.median(
        sum(t for step, t in each["seconds"].items() if step != "imports") for each in found
    )
    return {
        **medians,
        "total": total,
        "megabytes": max(each["megabytes"] for each in found),
        "pdf_kb": found[0]["sizes"]["PDF"] / 1000,
        "html_kb": found[0]["sizes"]["HTML"] / 1000,
    }


def section(found: dict[str, dict[str, float]], names: dict[str, str]) -> str:
    """Write the figures."""
    rows = []
    for key, name in names.items():
        facts = found[key]
        rows += [
            (f"{name}: tables and charts, report and appendix", f"{facts['total']:.1f} s",
             f"≤ {MOST_SECONDS[key]} s"),
            ("… memory", f"{facts['megabytes']:.0f} MB",
             f"≤ {MOST_MEGABYTES} MB" if key == "demo" else "–"),
            ("… imports besides", f"{facts['imports']:.1f} s", "–"),
            ("… tables and charts", f"{facts['views']:.1f} s", "–"),
            ("… PDF", f"{facts['PDF']:.2f} s, {facts['pdf_kb']:.0f} kB", "–"),
            ("… HTML", f"{facts['HTML']:.2f} s, {facts['html_kb']:.0f} kB", "–"),
        ]  # fmt: skip
    table = sections.table(["what", "measured", "must reach"], rows)
    return f"""## Rendering the report

`python -m benchmarks.report`, {os.cpu_count()} cores, Python {sys.version.split()[0]}, median of
{TURNS} processes. The wide run is simulated.

{table}
"""


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--regions", type=int, default=12)
    parser.add_argument("--services", type=int, default=60)
    asked = parser.parse_args()
    names = {"demo": "the demo", "wide": f"{asked.regions} regions × {asked.services} services"}
    with tempfile.TemporaryDirectory(prefix="tars-ga-benchmark-") as folder:
        demo, large = Path(folder) / "demo", Path(folder) / "wide"
        tars_ga("run", ROOT / "parameters" / "demo.yaml", "--output", demo, "--report-only")
        wide.write(large, wide.regions(asked.regions), wide.services(asked.services))
        packages.finish(large)
        text = section({"demo": measure(demo), "wide": measure(large)}, names)
    print(text)
    sections.write("report", text)


if __name__ == "__main__":
    main()
