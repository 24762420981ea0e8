"""Files that only grow, and are whole whenever their writer is killed.

A piece is written behind the last whole one and counts when all of it is there. What a kill, a
full disk or a lost machine left half is cut off when the file is opened again. A journal holds the
answers of a server; a log of lines, one JSON document a line.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tars_ga_lib.live.answers import Part

FOLDER = "watch"
"""Folder, inside a run's, of what is kept while its window is watched."""

STATE = "state.json"
"""File in it that says what the watch was begun with."""

_HEAD = struct.Struct(">4sIII")
"""Of a frame: its mark, the lengths of its facts and its numbers, and the CRC-32 of both."""

_MARK = b"TGA1"


class _Growing:
    """A file to which whole pieces are added; `end` is where the next one goes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.end = 0

    def cut(self, end: int) -> int:
        """Cut off what is behind the last whole piece; return how many bytes that were."""
        self.end = end
        rest = os.fstat(self._file).st_size - end
        if rest:
            os.ftruncate(self._file, end)
        return rest

    def add(self, piece: bytes) -> None:
        """Add a piece; it is on the disk when this returns.

        Raises
        ------
        OSError
            If it cannot be written; the file is then as it was.
        """
        try:
            done = 0
            while done < len(piece):
                done += os.pwrite(self._file, piece[done:], self.end + done)
            os.fsync(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self.end)
            raise
        self.end += len(piece)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class Journal(_Growing):
    """The answers of a server, in the order in which they came."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.torn = 0
        """Bytes that were cut off when it was read; what they said is asked for again."""

    def read(self) -> Iterator[Part]:
        """Yield all parts, and cut off what is not whole."""
        end = 0
        with self.path.open("rb") as stream:
            while frame := _read_frame(stream.read, os.fstat(stream.fileno()).st_size - end):
                parts, length = frame
                yield from parts
                end += length
        self.torn = self.cut(end)

    def write(self, parts: Sequence[Part]) -> None:
        """Add some parts as one piece: all of them will be there, or none.

        Raises
        ------
        OSError
            If they cannot be written; the journal is then as it was.
        """
        facts = [
            {
                "span": part.span, "id": part.id, "first": part.first, "count": part.count,
                "labels": part.labels, "nonfinite": part.nonfinite.tolist(),
                "warnings": part.warnings, "infos": part.infos, "at": part.at,
            }
            for part in parts
        ]  # fmt: skip
        head = zlib.compress(json.dumps(facts, separators=(",", ":")).encode(), 1)
        body = b"".join(np.ascontiguousarray(part.values, "<f8").tobytes() for part in parts)
        checksum = zlib.crc32(body, zlib.crc32(head))
        self.add(_HEAD.pack(_MARK, len(head), len(body), checksum) + head + body)


def _read_frame(read: Any, left: int) -> tuple[list[Part], int] | None:
    """Read the next frame and its length in bytes; None if there is no whole one."""
    start = read(_HEAD.size)
    if len(start) < _HEAD.size:
        return None
    mark, heads, bodies, checksum = _HEAD.unpack(start)
    length = _HEAD.size + heads + bodies
    if mark != _MARK or length > left:
        return None
    head, body = read(heads), read(bodies)
    if zlib.crc32(body, zlib.crc32(head)) != checksum:
        return None
    parts, position = [], 0
    for facts in json.loads(zlib.decompress(head)):
        count, nonfinite = facts.pop("count"), np.array(facts.pop("nonfinite"), np.int64)
        size = len(facts["labels"]) * count
        values = np.frombuffer(body, "<f8", size, position).reshape(len(facts["labels"]), count)
        position += size * 8
        parts.append(Part(values=values.astype(np.float64), nonfinite=nonfinite, **facts))
    return parts, length


class Lines(_Growing):
    """JSON documents, one a line; `last` is the last one, `torn` what was cut off of a next one."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.last: dict[str, Any] | None = None
        end = 0
        with path.open("rb") as stream:
            for line in stream:
                try:
                    document = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    document = None
                if not isinstance(document, dict):
                    break
                self.last, end = document, end + len(line)
        self.torn = self.cut(end)

    def write(self, documents: Sequence[dict[str, Any]]) -> None:
        """Add documents.

        Raises
        ------
        OSError
            If they cannot be written; the file is then as it was.
        """
        if documents:
            texts = [json.dumps(d, ensure_ascii=False, allow_nan=False) for d in documents]
            self.add("".join(f"{text}\n" for text in texts).encode())
            self.last = documents[-1]
