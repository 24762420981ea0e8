"""What the tests of evidence build with: small finished runs, and archives made to do harm."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import sys
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tars_ga_lib import cli, criteria, drift, kpis, regions, slo
from tars_ga_lib.evidence import package as evidence
from tars_ga_lib.evidence import tarball
from tars_ga_lib.run import Run
from tests.helpers import Rows, make_job, make_recording, make_span, places

STEPS = 48


def _noise(seed: int, size: int = STEPS) -> Any:
    return np.random.default_rng(seed).normal(0, 1, size)


def _answers(up: float, memory: float, seed: int) -> dict[str, Rows]:
    return {
        "availability.numerator": places(up * 20.0),
        "availability.denominator": places(20.0),
        "requests.increase": places(np.round(1000 + 10 * _noise(seed))),
        "memory.value": places(memory * (1e9 + 1e6 * _noise(seed + 1))),
        "replicas.value": places(3.0),
    }


def finished_run(
    folder: Path, *, up: float = 1.0, memory: float = 1.0, simulated: bool = False, **changes: Any
) -> Path:
    """Write a finished run without running a notebook; `up` is the availability of its window."""
    baseline = {"start": "2026-11-13T00:00:00Z", "duration": "4h", "repeat": "7d x 3"}
    changes = {"baseline": baseline} | changes
    job = make_job(folder.with_name(f"{folder.name}.src"), steps=STEPS, **changes)
    days = range(1, len(job.parameters.baseline_intervals()) + 1)
    found = make_recording(
        make_span(job, _answers(up, memory, 1)),
        *(make_span(job, _answers(1.0, 1.0, 5 + 2 * day), f"baseline_{day}") for day in days),
        simulated=simulated,
    )
    found.save(folder / "recording")
    job.save(folder / "parameters", [(span.start, span.stop) for span in found.baselines])
    finish(folder)
    return folder


def finish(folder: Path) -> None:
    """Write what the notebooks derive, with stand-ins for the notebooks and the report."""
    run = Run(folder)
    analysis = drift.analyse(run.kpis, run.baseline_kpis)
    run.write("ga_kpi_summary.json", kpis.collection_summary(run.kpis, run.recording))
    run.write_checksum("ga_kpi_summary.json")
    run.write("baseline_metrics.json", kpis.baseline_metrics(run.intervals[1:], run.recording))
    run.write_lines("snapshots.jsonl", kpis.snapshots(run.kpis))
    run.write("drift_analysis.json", analysis)
    run.write("cross_region.json", regions.compare(run.kpis, run.baseline_kpis))
    run.write("slo.json", slo.evaluate(run.kpis, run.job.slos))
    certification = criteria.certify(run.kpis, run.recording, analysis, run.measured())
    # Else a verification would render the report again, and find the stand-ins.
    certification["software"]["certified_by"] = "tars-ga with a stand-in for its report"
    run.write("certification_metadata.json", certification)
    for name, content in {
        "notebooks/01_collection.ipynb": b'{"cells": []}\n',
        "artifacts/charts/availability.svg": b"<svg/>\n",
        "GA_DAY_REPORT.md": b"# GA day report\n",
        "GA_DAY_REPORT.html": b"<!doctype html><title>GA day report</title>\n",
        "GA_DAY_APPENDIX.html": b"<!doctype html><title>Appendix</title>\n",
        "GA_DAY_APPENDIX.pdf": b"%PDF-1.7\n",
        "GA_DAY_REPORT.pdf": b"%PDF-1.7\n" + bytes(range(256)),
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def unpack(package: Path, folder: Path) -> Path:
    """Unpack an archive as anyone would, and return the package's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(package) as archive:
        # Python 3.11 has filters since 3.11.4, and from 3.12 on it wants one.
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(folder, **safely)  # type: ignore[arg-type]
    return folder / evidence.ROOT


def edit(file: Path, change: Callable[[Any], None]) -> None:
    """Change a JSON file in place, and its checksum with it if it has one."""
    document = json.loads(file.read_text(encoding="utf-8"))
    change(document)
    file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if (checksum := file.with_name(f"{file.name}.sha256")).exists():
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        checksum.write_text(f"{digest}  {file.name}\n", encoding="ascii")


def seal(package: Path) -> None:
    """Write a manifest that fits the files of a package, as whoever changed them would."""
    digests = {
        str(p.relative_to(package)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in package.rglob("*")
        if p.is_file() and p.name not in evidence.UNCOVERED
    }
    (package / evidence.MANIFEST).write_text(evidence.manifest_text(digests))


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> Done:
    """Run the command in this process, which takes a hundredth of the time."""
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["tars-ga", *map(str, arguments)])
        try:
            cli.main()
            code: object = 0
        except SystemExit as end:
            code = end.code
    out, err = capsys.readouterr()
    return Done(int(str(code or 0)), out, err)


# --- archives made by hand -----------------------------------------------------------------------


def packed(tar: bytes) -> bytes:
    """Return bytes as the gzip file that `tarball` would write around them."""
    stream = io.BytesIO()
    with gzip.GzipFile("", "wb", fileobj=stream, mtime=0) as file:
        file.write(tar)
    return stream.getvalue()[:8] + b"\0" + stream.getvalue()[9:]


def entry(name: str, content: bytes = b"", **fields: bytes) -> bytes:
    """Return one tar entry; `fields` are written over its header, whose checksum stays right."""
    where = {"name": 0, "mode": 100, "uid": 108, "size": 124, "mtime": 136, "kind": 156}
    where |= {"link": 157, "magic": 257, "owner": 265, "prefix": 345, "rest": 500}
    info = tarfile.TarInfo()
    info.size = len(content)
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    for key, value in {"name": name.encode(), **fields}.items():
        block[where[key] : where[key] + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + content + bytes(-len(content) % 512)


def end(tar: bytes) -> bytes:
    """Return entries with the end of an archive."""
    return tar + bytes(1024 + -(len(tar) + 1024) % tarfile.RECORDSIZE)


def read_all(content: bytes) -> dict[str, bytes]:
    """Read an archive and return its files."""
    return {e.name: b"".join(e.chunks()) for e in tarball.read(io.BytesIO(content))}


def write_all(files: dict[str, bytes] | Iterable[tuple[str, bytes]], time: int = 0) -> bytes:
    """Write files as an archive."""
    stream = io.BytesIO()
    writer = tarball.Writer(stream, time)
    for name, content in dict(files).items():
        writer.add(name, len(content), io.BytesIO(content))
    writer.close()
    return stream.getvalue()


def everything_below(folder: Path) -> set[str]:
    """Names of all there is below a folder."""
    return {os.path.join(here, name) for here, a, b in os.walk(folder) for name in (*a, *b)}
