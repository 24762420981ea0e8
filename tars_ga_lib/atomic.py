"""Folders and files that appear whole or not at all, whenever the process is killed.

They are built beside their target and put into its place in one step. Whoever builds holds a lock,
which ends with the process, so that the next one can tell what was left behind by the dead from
what is still being built.

What is in its place is on the disk: before the step everything is written out (fsync of each file
and folder), and after it the folder that holds the new name. So a loss of power leaves the earlier
one or the new one, and what a command reported is there, as far as the disk keeps its word.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tars_ga_lib.grammar import ParametersError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2

_CANNOT_WRITE = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EFBIG,
        errno.EIO,
        errno.ENAMETOOLONG,
        errno.EEXIST,
        errno.ENOTDIR,
    }
)


@contextlib.contextmanager
def beside(target: Path) -> Iterator[Path]:
    """Give an empty folder beside `target`, and remove it unless it was put into place or moved.

    What dead processes left beside the target is removed first; an earlier target that one of them
    had moved away is put back.

    Raises
    ------
    ParametersError
        If it cannot be made, or something in it cannot be written.
    """
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    with writing(target, f"--output {target}"), contextlib.ExitStack() as stack:
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target)
        stack.callback(shutil.rmtree, partial, ignore_errors=True)
        stack.enter_context(_locked(partial))
        yield partial


@contextlib.contextmanager
def writing(target: Path, name: str) -> Iterator[None]:
    """Turn a full disk, a read-only folder and the like into one sentence that begins with a name.

    Raises
    ------
    ParametersError
        If something below the target's parent cannot be written.
    """
    try:
        yield
    except OSError as error:
        elsewhere = error.filename and not str(error.filename).startswith(str(target.parent))
        if error.errno not in _CANNOT_WRITE or elsewhere:
            raise
        raise ParametersError(
            f"{name}: cannot be written ({os.strerror(error.errno or 0)}); make room or "
            "choose another folder. Earlier results are untouched"
        ) from None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Make a folder and hold a lock on it."""
    for _ in range(100):
        folder.mkdir(exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_still(folder, handle):
                yield
                return
        finally:
            os.close(handle)
    raise OSError(errno.EIO, os.strerror(errno.EIO), str(folder))


def _is_still(folder: Path, handle: int) -> bool:
    """Whether nobody swept a folder away between its making and its locking."""
    try:
        return os.path.samestat(os.stat(folder), os.fstat(handle))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def file(target: Path, *, instead_of: Path | None = None) -> Iterator[IO[bytes]]:
    """Give a stream beside `target`, which takes its place when all is written.

    Parameters
    ----------
    instead_of
        A file that speaks of the earlier target, like its checksum: it is gone before the new one
        is in place.
    """
    sweep(target)
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    try:
        with partial.open("wb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            if instead_of is not None and instead_of.exists():
                instead_of.unlink()
                _write_out(target.parent)
            partial.replace(target)
            _write_out(target.parent)
    finally:
        partial.unlink(missing_ok=True)


def sweep(target: Path) -> None:
    """Remove what dead processes left beside a target."""
    heads = tuple(f".{target.name}.{kind}-" for kind in ("partial", "earlier"))
    for entry in sorted(os.scandir(target.parent), key=lambda e: e.name):
        if not entry.name.startswith(heads) or entry.is_symlink():
            continue
        with contextlib.suppress(OSError):  # another process sweeps too
            if _alive(entry.path):
                continue
            if entry.name.startswith(heads[1]) and not target.exists():
                os.rename(entry.path, target)
            elif entry.is_dir():
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)


def _alive(path: str) -> bool:
    """Whether a process holds the lock of a file or folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def replace(partial: Path, target: Path) -> None:
    """Put a folder into the place of another, which is gone afterwards.

    Where the system can swap two names, there is no moment at which the target is missing; else a
    process that is killed in between leaves the earlier one where `sweep` finds it.
    """
    for here, _, files in os.walk(partial, topdown=False):
        for name in files:
            _write_out(Path(here, name))
        _write_out(Path(here))
    if not target.exists():
        partial.rename(target)
        _write_out(target.parent)
        return
    if not _exchange(partial, target):
        earlier = target.with_name(f".{target.name}.earlier-{os.getpid()}")
        target.rename(earlier)
        partial.rename(target)
        partial = earlier
    _write_out(target.parent)
    shutil.rmtree(partial, ignore_errors=True)


def _write_out(path: Path) -> None:
    """Have the system write a file's content, or a folder's names, to the disk."""
    if path.is_symlink():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step (renameat2(2), Linux); False where that is not possible."""
    try:
        swap = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    names = os.fsencode(one), os.fsencode(other)
    return bool(swap(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)
