"""What a run made in its folder, and what people put there: the next run replaces the first only.

A run lists its files with their digests. What is not on that list stays at its place when the run
is made again; what is on it and was changed since, like a notebook that somebody worked in, is
kept in the folder `kept`. A link to the file is made rather than a copy, where the system allows.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

LIST = ".made.sha256"
"""File with the digests of what a run made, as `sha256sum` writes them; hidden, so not packed."""

KEPT = "kept"


def record(folder: Path, names: Sequence[str] | None = None) -> None:
    """List all files of a run's folder as made by it; with `names`, these in the list there is."""
    found = _listed(folder) if names is not None else {}
    if names is not None and not found:
        return
    for name in names if names is not None else files(folder):
        if (folder / name).is_file():
            found[name] = _digest(folder / name)
    lines = [f"{digest}  {name}\n" for name, digest in sorted(found.items()) if name != LIST]
    (folder / LIST).write_text("".join(lines), encoding="utf-8")


def keep(earlier: Path, new: Path, ours: Sequence[str] = ()) -> list[str]:
    """Bring into a new run's folder what the earlier run did not make; return the names kept aside.

    Parameters
    ----------
    ours
        Names at the top of the folder that hold what goes on from run to run.

    Notes
    -----
    A run that left no list (one of an earlier version, or of notebooks run by hand) may have made
    all of its files: they are kept aside.
    """
    made = _listed(earlier)
    a_run = (earlier / "parameters" / "run.yaml").is_file()
    aside = []
    # What was kept before comes first.
    for name in sorted(files(earlier), key=lambda n: not n.startswith(KEPT)):
        if name == LIST or (name in made and _digest(earlier / name) == made[name]):
            continue
        unknown = a_run and not made and name.partition("/")[0] not in (*ours, KEPT)
        if name in made or unknown or os.path.lexists(new / name):
            if (place := _aside(earlier / name, name, new)) is None:
                continue
            aside.append(place)
        else:
            place = name
        _link(earlier / name, new / place)
    return aside


def _aside(file: Path, name: str, new: Path) -> str | None:
    """Return where a file is kept aside; None if the same is kept there already."""
    number = 1
    while True:
        place = f"{KEPT}/{name}" if number == 1 else f"{KEPT}-{number}/{name}"
        if not os.path.lexists(new / place):
            return place
        if (new / place).is_file() and _digest(new / place) == _digest(file):
            return None
        number += 1


def files(folder: Path) -> Iterator[str]:
    """Yield the relative paths of all files below a folder, links and hidden ones included.

    No link is followed. They are sorted by name, folder by folder.
    """
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        if entry.is_dir(follow_symlinks=False):
            yield from (f"{entry.name}/{name}" for name in files(Path(entry.path)))
        else:
            yield entry.name


def _listed(folder: Path) -> dict[str, str]:
    try:
        lines = (folder / LIST).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _digest(file: Path) -> str:
    """SHA-256 of a file; of a link or a special file, what no run makes."""
    if file.is_symlink() or not file.is_file():
        return ""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
