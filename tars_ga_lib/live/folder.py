"""The folder of a watch: whose it is, who watches there, and its log."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import time
from pathlib import Path

from tars_ga_lib import __version__, parameters
from tars_ga_lib.grammar import ParametersError
from tars_ga_lib.live.store import STATE
from tars_ga_lib.parameters import Job
from tars_ga_lib.recording import write_json

SCHEMA = "tars-ga/watch-state/1"
LOGGER = "tars_ga.watch"

_LOG_BYTES = 8 << 20


def identity(job: Job) -> dict[str, str]:
    """Digest of each part of a job that must stay what it was when the watch began.

    Where the server is reached, who is told, waivers and evidence may change during a day.
    """
    free = {"source", "evidence", "waivers", "measured", "notify", "previous"}
    facts = job.parameters.model_dump(mode="json", exclude=free | set(parameters.NAMED))
    parts = {key: json.dumps(value, sort_keys=True) for key, value in facts.items()}
    parts |= {
        f"{key}.yaml": job.texts[f"{key}.yaml"]
        for key in parameters.NAMED
        if key not in free and f"{key}.yaml" in job.texts
    }
    return {key: hashlib.sha256(text.encode()).hexdigest() for key, text in parts.items()}


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Return which parts of two jobs differ."""
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))


def begin(folder: Path, job: Job) -> int:
    """Open a watch's folder, or begin one, and return the handle of its lock.

    Raises
    ------
    ParametersError
        If it was begun with other parameters, or another process watches.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _same(folder / STATE, job)
    except OSError as error:
        os.close(lock)
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        raise ParametersError(
            f"{folder}: another process watches there; stop it, or name another --output"
        ) from None
    except ParametersError:
        os.close(lock)
        raise
    return lock


def _same(file: Path, job: Job) -> None:
    mine = identity(job)
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
        theirs = dict(state["parameters"])
    except FileNotFoundError:
        state = {"schema": SCHEMA, "software": f"tars-ga {__version__}", "parameters": mine}
        write_json(file, state)
        return
    except (ValueError, KeyError, TypeError):
        raise ParametersError(
            f"{file}: is not the state of a watch; take an undamaged copy, or name another --output"
        ) from None
    if state["schema"] != SCHEMA:
        raise ParametersError(
            f"{file}: is a {state['schema']}, and this version reads {SCHEMA}; use the version "
            "that wrote it, or name another --output"
        )
    if changed := differences(mine, theirs):
        raise ParametersError(
            f"{file}: the watch was begun with other parameters ({', '.join(changed)}); use those "
            "that it was begun with, or name another --output"
        )


class LogFile(logging.Handler):
    """A log of bounded size whose file may be moved, or be full: what watches goes on."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        formatter = logging.Formatter("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
        formatter.converter = time.gmtime
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, or none."""
        try:
            if self.path.exists() and self.path.stat().st_size > _LOG_BYTES:
                self.path.replace(self.path.with_suffix(".log.1"))
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(self.format(record) + "\n")
        except OSError:
            pass  # told where the samples are written, which matters more
