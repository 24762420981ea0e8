"""Make the README's pictures from the demo's run: the report's first page, and one chart.

    python -m demo.pictures

needs pdftoppm, and a run in outputs/demo (`make report`).
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
RUN = HERE.parent / "outputs" / "demo"


def main() -> None:
    """Write the pictures beside this file."""
    target = HERE / "pictures"
    target.mkdir(exist_ok=True)
    pdf = RUN / "GA_DAY_REPORT.pdf"
    page = ["-r", "90", "-f", "1", "-l", "1", "-singlefile", "-png"]
    subprocess.run(["pdftoppm", *page, str(pdf), str(target / "first_page")], check=True)
    shutil.copy(RUN / "artifacts" / "charts" / "drift.svg", target / "drift.svg")


if __name__ == "__main__":
    main()
