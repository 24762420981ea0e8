"""The pages of a package, rendered again by the installed software and compared to the byte.

The figures of a package may all be true, and its PDF may still be another's. What runs is the
installed notebook on the package's files, whose figures a replay has found to follow from the
recording; nothing of the package is executed.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tars_ga_lib import pipeline

COMPARED = (
    f"notebooks/{pipeline.REPORT_NOTEBOOK}.ipynb",
    f"{pipeline.REPORT}.*",
    f"{pipeline.APPENDIX}.*",
)
"""Files that are compared, with the charts, as patterns."""


def again(folder: Path, scratch: Path) -> None:
    """Lay a package's files into an empty folder as its run had them, and render them there."""
    shutil.copytree(folder, scratch, dirs_exist_ok=True)
    for file in (scratch / "artifacts").glob("*.json*"):
        if not (scratch / file.name).exists():  # see `evidence.place`
            shutil.copyfile(file, scratch / file.name)
    for name in _files(scratch):
        (scratch / name).unlink()
    pipeline.report_again(scratch)


def _files(folder: Path) -> Iterator[str]:
    """Yield the names of a folder's pages and charts."""
    for pattern in (*COMPARED, f"{pipeline.CHARTS}/**/*"):
        for file in sorted(folder.glob(pattern)):
            if file.is_file():
                yield str(file.relative_to(folder))


def compare(folder: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the pages that were compared, and those that differ, with the cause.

    Parameters
    ----------
    folder
        A package's, whose figures are known to follow from its recording.
    """
    with tempfile.TemporaryDirectory(prefix="tars-ga-") as scratch:
        made = Path(scratch)
        again(folder, made)
        names = sorted({*_files(folder), *_files(made)})
        causes = ((name, _difference(folder / name, made / name)) for name in names)
        return names, [(name, cause) for name, cause in causes if cause]


def _difference(old: Path, new: Path) -> str:
    if not old.is_file():
        return "is missing, and its run renders it"
    if not new.is_file():
        return "is not among what its run renders"
    if old.read_bytes() != new.read_bytes():
        return "is not what its run renders: it was changed, or is another run's"
    return ""
