"""Take the bundled demo recording: simulate two days, let a real Prometheus hold them, collect.

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
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [folder / f"{day}.om" for day in ("baseline", "ga")]
        for file in files:
            simulate.write(file, simulate.Scenario(), file.stem)
        servers.backfill(folder / "data", *files)
        with servers.prometheus(folder / "data") as url:
            source = f"source={{prometheus: '{url}'}}"
            job = parameters.load(HERE.parent / "parameters" / "demo.yaml", [source])
            found = collection.collect(job)
        found.save(folder / "recording")
        shutil.rmtree(target, ignore_errors=True)
        shutil.move(folder / "recording", target)


if __name__ == "__main__":
    record()
