"""The process that makes a package's figures and pages again, apart from the one that verifies it.

It is the last of the library in the way of the data, as it needs all of the analysis, and nothing
imports it: `evidence.replay` starts it as a program. What runs is the installed library and the
installed notebook of the report, on the package's files; nothing of the package is executed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

# Before the limits hold: a library that cannot be mapped is no fault of the package.
from pyarrow import parquet  # noqa: F401

from tars_ga_lib import criteria, drift, kpis, pipeline, recording, regions, slo
from tars_ga_lib.evidence.replay import (
    GIB,
    MOST_SECONDS,
    TOLERANCE,
    Replay,
    check_parameters,
    compare,
    parsed,
)
from tars_ga_lib.evidence.tarball import ArchiveError
from tars_ga_lib.grammar import ParametersError
from tars_ga_lib.run import Run
from tars_ga_lib.sanitise import one_line

PAGES = (
    f"notebooks/{pipeline.REPORT_NOTEBOOK}.ipynb",
    f"{pipeline.REPORT}.*",
    f"{pipeline.APPENDIX}.*",
    f"{pipeline.CHARTS}/**/*",
)
"""Files that are rendered again and compared to the byte, as patterns: a package's figures may all
be true, and its PDF may still be another's."""


def _content(folder: Path, name: str) -> bytes:
    """Return the content of a file, where a run or a package has it."""
    for file in (folder / name, folder / "artifacts" / name):
        if file.is_file():
            return file.read_bytes()
    raise ArchiveError(name, "is missing, and a run writes it")


def _document(folder: Path, name: str) -> dict[str, Any]:
    document = parsed(_content(folder, name), name)
    if not isinstance(document, dict):
        raise ArchiveError(name, "is not what a run writes")
    return document


def replay(folder: Path, tolerance: float = TOLERANCE) -> Replay:
    """Compute the figures of a package's folder again and compare them all.

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
        "ga_kpi_summary.json": kpis.collection_summary(run.kpis, run.recording),
        "baseline_metrics.json": kpis.baseline_metrics(run.intervals[1:], run.recording),
        "drift_analysis.json": analysis,
        "cross_region.json": regions.compare(run.kpis, run.baseline_kpis),
        "slo.json": slo.evaluate(run.kpis, run.job.slos),
        "certification_metadata.json": criteria.certify(
            run.kpis, run.recording, analysis, run.measured()
        ),
    }
    packaged = {name: _document(folder, name) for name in computed}
    software = computed["certification_metadata.json"]["software"]
    claimed = packaged["certification_metadata.json"].get("software")
    found = Replay(tolerance=tolerance, same_software=claimed == software)
    for name, document in computed.items():
        document = {**document, "derived_from": run.digests}
        if name == "certification_metadata.json" and not found.same_software:
            document["software"] = claimed  # names what made the package, not what it says
        compare(found, name, packaged[name], document)
    lines = _content(folder, "snapshots.jsonl").splitlines()
    packaged_lines = [parsed(line, "snapshots.jsonl") for line in lines]
    compare(found, "snapshots.jsonl", packaged_lines, kpis.snapshots(run.kpis))
    checksum = _content(folder, "ga_kpi_summary.json.sha256").decode("utf-8", "replace")
    digest = hashlib.sha256(_content(folder, "ga_kpi_summary.json")).hexdigest()
    compare(found, "ga_kpi_summary.json.sha256", checksum, f"{digest}  ga_kpi_summary.json\n")
    return found


def render_again(folder: Path, scratch: Path) -> None:
    """Lay a package's files into an empty folder as its run had them, and render them there."""
    shutil.copytree(folder, scratch, dirs_exist_ok=True)
    for file in (scratch / "artifacts").glob("*.json*"):
        if not (scratch / file.name).exists():  # see `evidence.package.members`
            shutil.copyfile(file, scratch / file.name)
    for name in list(_pages(scratch)):
        (scratch / name).unlink()
    pipeline.report_again(scratch)


def _pages(folder: Path) -> Iterator[str]:
    """Yield the names of a folder's pages and charts."""
    for pattern in PAGES:
        yield from (str(f.relative_to(folder)) for f in folder.glob(pattern) if f.is_file())


def compare_pages(folder: Path) -> Replay:
    """Render the pages of a package's folder, whose figures are true, again and compare them."""
    with tempfile.TemporaryDirectory(prefix="tars-ga-") as scratch:
        made = Path(scratch)
        render_again(folder, made)
        found = Replay(pages=sorted({*_pages(folder), *_pages(made)}))
        for name in found.pages:
            old, new = folder / name, made / name
            if not old.is_file():
                found.differences.append((name, "is missing, and its run renders it"))
            elif not new.is_file():
                found.differences.append((name, "is not among what its run renders"))
            elif old.read_bytes() != new.read_bytes():
                cause = "is not what its run renders: it was changed, or is another run's"
                found.differences.append((name, cause))
    return found


# --- the child process ---------------------------------------------------------------------------


def main(arguments: list[str]) -> None:
    """Set the limits, do the task, and print what was found as JSON."""
    task, folder, limit, tolerance = arguments
    for kind, value in ((resource.RLIMIT_DATA, int(limit)), (resource.RLIMIT_CPU, MOST_SECONDS)):
        with contextlib.suppress(ValueError, OSError):  # a stricter limit is in force already
            resource.setrlimit(kind, (value, value))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    found = _done(task, Path(folder), float(tolerance), int(limit))
    sys.stdout.write(json.dumps(asdict(found)))


def _done(task: str, folder: Path, tolerance: float, limit: int) -> Replay:
    try:
        if task == "pages":
            return compare_pages(folder)
        _stay_offline()
        if task == "figures":
            return replay(folder, tolerance)
        check_parameters(folder / "parameters")
        recording.load(folder)
        return Replay()
    except ArchiveError as error:
        file, cause = error.file, error.cause
    except ParametersError as error:
        text = str(error).replace(f"{folder}/", "").replace(str(folder), "package")
        file, _, cause = text.partition(": ")
    except (MemoryError, ImportError):  # a library that could not be mapped
        file = "recording"
        cause = f"needs more than {limit / GIB:.1f} GiB of memory, which --memory sets"
    except Exception as error:  # a stranger's files may break the analysis anywhere
        file, cause = "recording", f"cannot be analysed ({type(error).__name__}: {error})"
    return Replay(problem=(one_line(file), one_line(cause)))


def _stay_offline() -> None:
    """Refuse every connection and process from here on, whatever a file may bring about."""

    def refuse(event: str, _: object) -> None:
        if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system"):
            raise PermissionError(f"a replay does no {event}")

    sys.addaudithook(refuse)


if __name__ == "__main__":
    main(sys.argv[1:])
