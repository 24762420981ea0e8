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

from tars_ga_lib import criteria, drift, kpis, pages, recording, regions, slo
from tars_ga_lib.evidence.replay import (
    GIB,
    MOST_SECONDS,
    TOLERANCE,
    Replay,
    check_parameters,
    compare,
    content_of,
    parsed,
    read,
)
from tars_ga_lib.evidence.tarball import ArchiveError, printable
from tars_ga_lib.grammar import ParametersError
from tars_ga_lib.run import Run


def replay(folder: Path, tolerance: float | None = None) -> Replay:
    """Compute the figures of a package's folder again and compare them all.

    Parameters
    ----------
    tolerance
        Difference that is allowed; `replay.TOLERANCE` if not given.

    Raises
    ------
    ParametersError
        If its parameters or recording cannot be read.
    ArchiveError
        If its parameters hold what no run writes, or its files are no sound JSON.
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
    packaged = {name: read(folder, name) for name in computed}
    software = computed["certification_metadata.json"]["software"]
    claimed = packaged["certification_metadata.json"].get("software")
    found = Replay(tolerance=TOLERANCE if tolerance is None else tolerance)
    found.same_software = claimed == software
    for name, document in computed.items():
        document = {**document, "derived_from": run.digests}
        if name == "certification_metadata.json" and not found.same_software:
            document["software"] = claimed  # names what made the package, not what it says
        compare(found, name, packaged[name], document)
    lines = content_of(folder, "snapshots.jsonl").splitlines()
    packaged_lines = [parsed(line, "snapshots.jsonl") for line in lines]
    compare(found, "snapshots.jsonl", packaged_lines, kpis.snapshots(run.kpis))
    return found


def main(arguments: list[str]) -> None:
    """Run in the child: set the limits, do the task, and print what was found as JSON."""
    task, folder, limit, tolerance = arguments
    for kind, value in ((resource.RLIMIT_DATA, int(limit)), (resource.RLIMIT_CPU, MOST_SECONDS)):
        with contextlib.suppress(ValueError, OSError):  # a stricter limit is in force already
            resource.setrlimit(kind, (value, value))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    found = _found(task, Path(folder), float(tolerance) if tolerance else None, int(limit))
    sys.stdout.write(json.dumps(asdict(found)))


def _figures(folder: Path, tolerance: float | None) -> Replay:
    _stay_offline()
    return replay(folder, tolerance)


def _load(folder: Path, tolerance: float | None) -> Replay:
    _stay_offline()
    check_parameters(folder / "parameters")
    recording.load(folder)
    return Replay()


def _pages(folder: Path, tolerance: float | None) -> Replay:
    names, differences = pages.compare(folder)
    return Replay(pages=names, differences=differences)


_TASKS = {"figures": _figures, "load": _load, "pages": _pages}


def _stay_offline() -> None:
    """Refuse every connection and process from here on, whatever a file may bring about."""

    def refuse(event: str, _: object) -> None:
        if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system"):
            raise PermissionError(f"a replay does no {event}")

    sys.addaudithook(refuse)


def _found(task: str, folder: Path, tolerance: float | None, limit: int) -> Replay:
    try:
        return _TASKS[task](folder, tolerance)
    except ArchiveError as error:
        return Replay(problem=(error.file, error.cause))
    except ParametersError as error:
        text = str(error).replace(f"{folder}/", "").replace(str(folder), "package")
        file, _, cause = text.partition(": ")
        return Replay(problem=(printable(file), printable(cause)))
    except (MemoryError, ImportError):  # a library that could not be mapped
        cause = f"needs more than {limit / GIB:.1f} GiB of memory, which --memory sets"
        return Replay(problem=("recording", cause))
    except Exception as error:  # a stranger's files may break the analysis anywhere
        return Replay(
            problem=(
                "recording",
                printable(f"cannot be analysed ({type(error).__name__}: {error})"),
            )
        )


if __name__ == "__main__":
    main(sys.argv[1:])
