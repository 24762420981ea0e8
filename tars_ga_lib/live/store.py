"""What a watch knows, in one SQLite file, which is whole whenever its writer is killed.

A sample set is one answer; the samples here are those of many, laid over each other: new steps come
in, and the last few are asked for again, as a late scrape changes them. The newer answer counts.
But one that has lost what was once seen (by its retention, or a server that began anew), or that
the server itself doubts, only adds: it replaces nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tars_ga_lib import collection, parameters, strict
from tars_ga_lib.grammar import ParametersError, format_time
from tars_ga_lib.parameters import Job
from tars_ga_lib.prometheus import Answer
from tars_ga_lib.queries import requests
from tars_ga_lib.recording import Provenance, SampleSet, Span

FOLDER = "watch"
"""Folder, inside a run's, of what is kept while its window is watched."""

FILE = "watch.sqlite"
EARLIER = "state.json"
"""What versions that kept their samples in a format of their own have in its place."""

_VERSION = 1
_TABLES = f"""
BEGIN;
CREATE TABLE begun (at TEXT NOT NULL, parameters TEXT NOT NULL);
CREATE TABLE series (id INTEGER PRIMARY KEY, labels TEXT NOT NULL UNIQUE);
CREATE TABLE answers (
    span TEXT, query TEXT, step INTEGER, at TEXT NOT NULL,
    nonfinite INTEGER NOT NULL, warnings TEXT NOT NULL, infos TEXT NOT NULL,
    series BLOB NOT NULL, samples BLOB NOT NULL,
    PRIMARY KEY (span, query, step)
) WITHOUT ROWID;
CREATE TABLE snapshots (step INTEGER PRIMARY KEY, document TEXT NOT NULL);
PRAGMA user_version = {_VERSION};
COMMIT;
"""

# Held by one process, without a file of shared memory, so that it opens on a full disk too. What
# a loss of power takes with it (NORMAL) is asked for again.
_MODE = """
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
"""

_Row = tuple[int, str, str, bytes, bytes]
"""Of a step: non-finite samples, warnings, remarks; ids of its series, ascending, and samples."""


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


def differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Return which parts of two jobs differ."""
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))


class Store:
    """The answers and snapshots of a watch.

    Parameters
    ----------
    folder
        Where its file is, or will be.

    Attributes
    ----------
    answered
        By span and query, which steps the server has answered for, whether or not there was a
        sample.
    errors
        By span and query, why the last question was not answered; empty if it was.
    begun_at
        When the watch began, in UTC.

    Raises
    ------
    ParametersError
        If the watch was begun with other parameters or by another version, if its file is damaged
        or cannot be written, or if another process watches.
    """

    def __init__(self, folder: Path, job: Job) -> None:
        self.path = folder / FILE
        self._step = job.parameters.window.step
        self._spans = collection.spans(job.parameters)
        self._requests = {request.id: request for request in requests(job)}
        if not self.path.exists() and (folder / EARLIER).exists():
            raise ParametersError(
                f"{folder}: was begun by an earlier version, which kept its samples in another "
                "format; finish with that version, or name another --output"
            )
        with contextlib.ExitStack() as stack:
            try:
                self._db = sqlite3.connect(self.path, timeout=0)
                stack.callback(self.close)
                self._open(job)
            except sqlite3.Error as error:
                raise ParametersError(f"{self.path}: {_why(error)}") from None
            stack.pop_all()

    def _open(self, job: Job) -> None:
        self._db.executescript(_MODE)
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._db.executescript(_TABLES)
        elif version != _VERSION:
            raise ParametersError(
                f"{self.path}: has format {version}, and this version reads {_VERSION}; use the "
                "version that wrote it, or name another --output"
            )
        mine = identity(job)
        with self._db:
            self._db.execute(
                "INSERT INTO begun SELECT ?, ? WHERE NOT EXISTS (SELECT * FROM begun)",
                (collection.utc_now(), json.dumps(mine)),
            )
        self.begun_at, theirs = self._db.execute("SELECT at, parameters FROM begun").fetchone()
        if changed := differences(mine, strict.loads(theirs)):
            raise ParametersError(
                f"{self.path}: the watch was begun with other parameters ({', '.join(changed)}); "
                "use those that it was begun with, or name another --output"
            )
        self._series = dict(self._db.execute("SELECT labels, id FROM series"))
        self._next = max(self._series.values(), default=-1) + 1
        self.answered: dict[tuple[str, str], NDArray[np.bool_]] = {
            (span, query): np.zeros(interval.seconds // self._step, bool)
            for span, interval in self._spans.items()
            for query in self._requests
        }
        self.errors = dict.fromkeys(self.answered, "")
        for span, query, step in self._db.execute("SELECT span, query, step FROM answers"):
            if (span, query) in self.answered:
                self.answered[span, query][step] = True

    def close(self) -> None:
        """Let the file go."""
        self._db.close()

    # --- answers

    def keep(self, span: str, query: str, first: int, answer: Answer) -> int:
        """Lay an answer for the steps from `first` on over what is there.

        Returns
        -------
        int
            How many steps were answered before, and otherwise.

        Raises
        ------
        sqlite3.OperationalError
            If it cannot be written; all is then as it was.
        """
        now = dict(enumerate(self._rows(answer), first))
        before: dict[int, _Row] = {
            step: tuple(row)
            for step, *row in self._db.execute(
                "SELECT step, nonfinite, warnings, infos, series, samples FROM answers "
                "WHERE span = ? AND query = ? AND step BETWEEN ? AND ?",
                (span, query, min(now), max(now)),
            )
        }
        new = now.keys() - before.keys()
        changed = {step for step, row in before.items() if row != now[step]}
        if any(_worse(now[step], row) for step, row in before.items()):
            changed = set()
        at = collection.utc_now()
        with self._db:
            self._db.executemany(
                "INSERT OR IGNORE INTO series (labels, id) VALUES (?, ?)",
                [(text, self._series[text]) for text in map(_text, answer.labels)],
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(span, query, step, at, *now[step]) for step in sorted(new | changed)],
            )
        self.answered[span, query][sorted(new)] = True
        self.errors[span, query] = ""
        return len(changed)

    def _rows(self, answer: Answer) -> list[_Row]:
        """Return an answer's steps as they are kept."""
        for text in map(_text, answer.labels):
            if text not in self._series:
                self._series[text], self._next = self._next, self._next + 1
        ids = np.array([self._series[_text(labels)] for labels in answer.labels], "<i8")
        order = np.argsort(ids)
        ids, values = ids[order], np.asarray(answer.values, "<f8")[order]
        warnings, infos = json.dumps(answer.warnings), json.dumps(answer.infos)
        rows = []
        for column, nonfinite in zip(values.T, answer.nonfinite_at.tolist(), strict=True):
            # Which series a sample belongs to that is no number is not known: all are kept.
            there = ~np.isnan(column) | bool(nonfinite)
            rows.append((nonfinite, warnings, infos, ids[there].tobytes(), column[there].tobytes()))
        return rows

    def span(self, name: str, steps: int, server: str) -> Span:
        """Return the first steps of an interval as a span of a recording."""
        labels = {number: strict.loads(text) for text, number in self._series.items()}
        start = self._spans[name].start
        sets = {}
        for query, request in self._requests.items():
            never = np.flatnonzero(~self.answered[name, query][:steps])
            error = self.errors[name, query] and f": {self.errors[name, query]}"
            if len(never):
                when = format_time(start + (int(never[0]) + 1) * self._step)
                error = f"never answered for {len(never)} of {steps} steps, from {when} on{error}"
            rows = self._db.execute(
                "SELECT step, at, nonfinite, warnings, infos, series, samples FROM answers "
                "WHERE span = ? AND query = ? AND step < ? ORDER BY step",
                (name, query, steps),
            ).fetchall()
            provenance = Provenance(
                query, request.template, request.by, request.query, server,
                max((row[1] for row in rows), default=""), nonfinite=sum(row[2] for row in rows),
                warnings=_texts(row[3] for row in rows), error=error if len(never) else "",
                infos=_texts(row[4] for row in rows),
            )  # fmt: skip
            ids, row_of = np.unique(_numbers("<i8", (row[5] for row in rows)), return_inverse=True)
            step_of = np.repeat([row[0] for row in rows], [len(row[5]) // 8 for row in rows])
            values = np.full((len(ids), steps), np.nan)
            values[row_of, step_of.astype(int)] = _numbers("<f8", (row[6] for row in rows))
            known = [labels[number] for number in ids.tolist()]
            sets[query] = SampleSet.of(provenance, known, values)
        return Span(name, start, start + steps * self._step, self._step, sets)

    # --- snapshots

    def add(self, snapshots: Sequence[dict[str, Any]]) -> None:
        """Add what was known at some steps.

        Raises
        ------
        sqlite3.OperationalError
            If they cannot be written; none of them is there then.
        """
        texts = [json.dumps(one, ensure_ascii=False, allow_nan=False) for one in snapshots]
        steps = [one["step"] for one in snapshots]
        with self._db:
            self._db.executemany(
                "INSERT INTO snapshots VALUES (?, ?)", list(zip(steps, texts, strict=True))
            )

    def snapshots(self) -> list[dict[str, Any]]:
        """Return the snapshots of all steps that were looked at, in order."""
        rows = self._db.execute("SELECT document FROM snapshots ORDER BY step")
        return [strict.loads(document) for (document,) in rows]


def _text(labels: Mapping[str, str]) -> str:
    return json.dumps(labels, sort_keys=True, ensure_ascii=False)


def _texts(lists: Iterable[str]) -> list[str]:
    """Return the texts of lists in JSON, each once."""
    return list(dict.fromkeys(chain.from_iterable(map(strict.loads, lists))))


def _numbers(dtype: str, blobs: Iterable[bytes]) -> NDArray[Any]:
    return np.frombuffer(b"".join(blobs), dtype)


def _worse(now: _Row, before: _Row) -> bool:
    """Tell whether a step's newer answer has lost its samples, or is doubted by the server."""
    lost = bool(before[3] or before[0]) and not (now[3] or now[0])
    return lost or (now[1] != "[]" and before[1] == "[]")


def _why(error: sqlite3.Error) -> str:
    """Say why a watch's file cannot be opened, and what to do."""
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_BUSY:
        return "another process watches there; stop it, or name another --output"
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return "is not what a watch keeps; take an undamaged copy, or name another --output"
    return f"cannot be opened ({error}); make room, or name another --output"
