"""The process that computes a package's figures again, apart from the one that verifies it.

It is the last of the library in the way of the data, as it needs all of the analysis, and nothing
imports it: `replay` starts it as a program.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
from dataclasses import asdict
from pathlib import Path

# Before the limits hold: a library that cannot be mapped is no fault of the package.
from pyarrow import parquet  # noqa: F401

from tars_ga_lib import criteria, drift, kpis, regions, slo
from tars_ga_lib.archive import ArchiveError, printable
from tars_ga_lib.grammar import ParametersError
from tars_ga_lib.replay import TOLERANCE, Replay, check_parameters, compare, find, read
from tars_ga_lib.run import Run

MOST_SECONDS = 3600


def replay(folder: Path, tolerance: float | None = None) -> Replay:
    """Compute the figures of a package's folder again and compare them all.

    Parameters
    ----------
    tolerance
        Relative difference that is allowed; none with the same software, else `replay.TOLERANCE`.

    Raises
    ------
    ParametersError
        If its parameters or recording cannot be read.
    ArchiveError
        If its parameters hold what no run writes.
    """
    check_parameters(folder / "parameters")
    run = Run(folder.resolve())
    analysis = drift.analyse(run.kpis, run.baseline_kpis)
    computed = {
        "ga_kpi_summary.json": kpis.collection_summary(run.job, run.recording),
        "baseline_metrics.json": kpis.baseline_metrics(run.job, run.recording),
        "drift_analysis.json": analysis,
        "cross_region.json": regions.compare(run.kpis, run.baseline_kpis),
        "slo.json": slo.evaluate(run.kpis, run.job.slos),
        "certification_metadata.json": criteria.certify(
            run.job, run.recording, analysis, run.measured()
        ),
    }
    packaged = {name: read(find(folder, name)) for name in computed}
    software = computed["certification_metadata.json"]["software"]
    claimed = packaged["certification_metadata.json"].get("software")
    same = claimed == software
    found = Replay(same_software=same)
    found.tolerance = (0.0 if same else TOLERANCE) if tolerance is None else tolerance
    for name, document in computed.items():
        document = {**document, "derived_from": run.digests}
        if name == "certification_metadata.json" and not same:
            document["software"] = claimed  # names what made the package, not what it says
        compare(found, name, packaged[name], document)
    with find(folder, "snapshots.jsonl").open(encoding="utf-8") as lines:
        packaged_lines = [json.loads(line) for line in lines]
    compare(found, "snapshots.jsonl", packaged_lines, kpis.snapshots(run.kpis))
    return found


def main(arguments: list[str]) -> None:
    """Run in the child: set the limits, replay, and print what was found as JSON."""
    folder, limit, tolerance = arguments
    for kind, value in ((resource.RLIMIT_AS, int(limit)), (resource.RLIMIT_CPU, MOST_SECONDS)):
        with contextlib.suppress(ValueError, OSError):  # a stricter limit is in force already
            resource.setrlimit(kind, (value, value))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stdout.write(json.dumps(asdict(_found(Path(folder), tolerance))))


def _found(folder: Path, tolerance: str) -> Replay:
    try:
        return replay(folder, float(tolerance) if tolerance else None)
    except ArchiveError as error:
        return Replay(problem=(error.file, error.cause))
    except ParametersError as error:
        text = str(error).replace(f"{folder}/", "").replace(str(folder), "package")
        file, _, cause = text.partition(": ")
        return Replay(problem=(printable(file), printable(cause)))
    except MemoryError:
        return Replay(problem=("recording", "needs more memory than a recording of its size may"))
    except Exception as error:  # a stranger's files may break the analysis anywhere
        return Replay(
            problem=(
                "recording",
                printable(f"cannot be analysed ({type(error).__name__}: {error})"),
            )
        )


if __name__ == "__main__":
    main(sys.argv[1:])
