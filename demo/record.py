"""Take the bundled demo recording: simulate its days, let a real Prometheus hold them, collect.

    python -m demo.record

needs Prometheus and promtool. The recording says that its days are simulated.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from demo import simulate
from tars_ga_lib import collection, parameters
from tests import servers

HERE = Path(__file__).resolve().parent


def record(target: Path = HERE / "recording") -> None:
    """Write the demo recording into a folder, in the place of what is there."""
    run = HERE.parent / "parameters" / "demo.yaml"
    days = len(parameters.load(run).parameters.baseline_intervals())
    scenario = simulate.Scenario(baselines=days)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for day in simulate.days(scenario):
            file = folder / "day.om"  # some 450 MB each
            simulate.write(file, scenario, day.name)
            servers.backfill(folder / "data", file)
            file.unlink()
        with servers.prometheus(folder / "data") as url:
            job = parameters.load(run, [f"source={{prometheus: '{url}'}}"])
            found = collection.collect(job)
        found.save(folder / "recording")
        shutil.rmtree(target, ignore_errors=True)
        shutil.move(folder / "recording", target)


if __name__ == "__main__":
    record()
