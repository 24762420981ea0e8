"""Archives of one form: the same content gives the same bytes, and any other form is refused.

An archive is a gzip file with one member, without name and time, around a POSIX ustar archive of
plain files: owner 0, mode 0644, one time for all. `tarfile` and `gzip` write it. The reader trusts
nothing: it compares each header with the only one that the writer would have written, so links,
devices, extensions and all that a header can be made to do have no way in. It streams, and writes
nowhere.

References
----------
- RFC 1952, GZIP file format: https://www.rfc-editor.org/rfc/rfc1952
- POSIX.1-2017, pax, ustar Interchange Format:
  https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import tarfile
import unicodedata
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from tars_ga_lib.sanitise import one_line

BLOCK = tarfile.BLOCKSIZE
CHUNK = 1 << 20
_PIECE = 1 << 16  # read at once from an archive; zlib copies what it leaves of it

LEVEL = 6
"""gzip's own default: on a run's files 9 takes twice the time for 1.5 % less, 1 gives 10 % more."""

MOST_FILES, MOST_BYTES = 20_000, 64 << 30
MOST_RATIO, SLACK = 200, 64 << 20
"""How much an archive may unpack to, so that a small one cannot fill a disk or take a day: above
`SLACK` bytes no more than `MOST_RATIO` times its size. Deflate packs 1,032 to 1 at most, runs have
3 to 1."""

_MAGIC = bytes.fromhex("1f8b08 00 00000000 00 ff")  # no flags, no time, an unknown system


class ArchiveError(Exception):
    """A file is not as it must be: `file` names it, `cause` says why."""

    def __init__(self, file: str, cause: str) -> None:
        self.file, self.cause = one_line(file), cause
        super().__init__(f"{self.file}: {cause}")


class Names:
    """The names of one tree, refused where two would be one file on some system."""

    def __init__(self) -> None:
        self._files: dict[str, str] = {}
        self._folders: set[str] = set()

    def add(self, name: str) -> None:
        """Add a file's name.

        Raises
        ------
        ArchiveError
            If it is not a plain relative path that means the same on every system, or meets an
            earlier one.
        """
        if cause := _why_bad(name):
            raise ArchiveError(name, cause)
        key = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
        if (other := self._files.get(key)) is not None:
            same = f"is the same file as {one_line(other)} where case or form is not told apart"
            raise ArchiveError(name, "is there twice" if other == name else same)
        parts = key.split("/")
        folders = {"/".join(parts[:k]) for k in range(1, len(parts))}
        if key in self._folders or folders & self._files.keys():
            raise ArchiveError(name, "is both a file and a folder")
        self._files[key] = name
        self._folders |= folders


def _why_bad(name: str) -> str:
    parts = name.split("/")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "is an absolute path"
    if ".." in parts:
        return "leads out of the archive (..)"
    if "" in parts or "." in parts:
        return "is not a plain relative path"
    if not name.isprintable() or set(name) & set('\\:*?"<>|'):
        return "holds a character that is not safe in a file name"
    if any(part != part.strip(" ") or part.endswith(".") for part in parts):
        return "has a part that ends with a dot or a space, or begins with one"
    if name != unicodedata.normalize("NFC", name):
        return "is not in Unicode's normal form C"
    return ""


class Hashed:
    """A binary stream, and the SHA-256 of all that goes through it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self.sha = stream, hashlib.sha256()

    def read(self, size: int) -> bytes:
        """Read as the stream does."""
        data = self._stream.read(size)
        self.sha.update(data)
        return data

    def write(self, data: bytes) -> int:
        """Write as the stream does."""
        self.sha.update(data)
        return self._stream.write(data)


def chunks(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield all that is left of a stream in pieces."""
    while data := stream.read(CHUNK):
        yield data


# --- writing -------------------------------------------------------------------------------------


def _entry(name: str, size: int, time: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime = size, time
    return entry


class Writer:
    """Writes an archive to a binary stream, file by file.

    Parameters
    ----------
    time
        Epoch seconds of every file.
    """

    def __init__(self, stream: IO[bytes], time: int) -> None:
        self._time, self._names, self._hashed = time, Names(), Hashed(stream)
        packed: Any = gzip.GzipFile("", "wb", LEVEL, self._hashed, mtime=0)  # type: ignore[call-overload]
        self._gzip = packed
        self._tar = tarfile.TarFile(
            fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT, encoding="utf-8",
            errors="strict", copybufsize=CHUNK,
        )  # fmt: skip

    def add(self, name: str, size: int, content: IO[bytes]) -> str:
        """Add a file of `size` bytes and return the SHA-256 of its content.

        Raises
        ------
        ArchiveError
            If the name cannot stand in an archive, or there is more or less than `size` bytes.
        """
        self._names.add(name)
        hashed: Any = Hashed(content)
        try:
            self._tar.addfile(_entry(name, size, self._time), hashed)
        except ValueError as error:
            raise ArchiveError(name, f"cannot stand in an archive ({error})") from None
        except OSError as error:
            if error.errno is not None:
                raise
            raise ArchiveError(name, "changed while it was packed") from None
        if content.read(1):
            raise ArchiveError(name, "changed while it was packed")
        return str(hashed.sha.hexdigest())

    def close(self) -> str:
        """Write the end and return the SHA-256 of the whole archive."""
        self._tar.close()
        self._gzip.close()
        return self._hashed.sha.hexdigest()


# --- reading -------------------------------------------------------------------------------------


class _Unpacked(io.RawIOBase):
    """The bytes inside a gzip file of one member, within limits."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._packed = stream.read(_PIECE)
        self._size, self._unpacked = len(self._packed), 0
        if self._packed[:2] != _MAGIC[:2]:
            raise ArchiveError("archive", "is not a gzip file")
        if not self._packed.startswith(_MAGIC):
            raise ArchiveError("archive", "its gzip header is not of the one form of packages")

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Unpack into a buffer; 0 only at the end of the gzip file, and of all there is."""
        while not self._member.eof:
            if not self._packed:
                self._packed = self._stream.read(_PIECE)
                self._size += len(self._packed)
                if not self._packed:
                    raise ArchiveError("archive", "ends early; it was cut off")
            try:
                data = self._member.decompress(self._packed, len(buffer))
            except zlib.error as error:
                raise ArchiveError("archive", f"is damaged ({error})") from None
            self._packed = self._member.unconsumed_tail
            self._unpacked += len(data)
            if self._unpacked > max(SLACK, MOST_RATIO * self._size):
                cause = f"unpacks to more than {MOST_RATIO} times its size"
                raise ArchiveError("archive", cause)
            if data:
                buffer[: len(data)] = data
                return len(data)
        if self._member.unused_data or self._stream.read(1):
            raise ArchiveError("archive", "holds more after the end of its gzip member")
        return 0


@dataclass
class Entry:
    """One file of an archive that is being read; its chunks can be taken once."""

    name: str
    size: int
    _source: IO[bytes]
    _left: int

    def chunks(self) -> Iterator[bytes]:
        """Yield the content in pieces."""
        while self._left:
            data = _exactly(self._source, min(self._left, CHUNK))
            self._left -= len(data)
            yield data


def read(stream: IO[bytes]) -> Iterator[Entry]:
    """Yield the files of an archive, in its order; each must be taken before the next is asked for.

    Raises
    ------
    ArchiveError
        At the first thing that this module would not have written.
    """
    source: IO[bytes] = io.BufferedReader(_Unpacked(stream), CHUNK)
    names, total, offset, time = Names(), 0, 0, None
    for _ in range(MOST_FILES + 1):
        block = _exactly(source, BLOCK)
        offset += BLOCK
        if not any(block):
            break
        found = _checked(block)
        names.add(found.name)
        if time not in (None, found.mtime):
            raise ArchiveError(found.name, "has another time than the files before it")
        time, total = found.mtime, total + found.size
        if total > MOST_BYTES:
            raise ArchiveError(found.name, f"makes the content larger than {MOST_BYTES} bytes")
        entry = Entry(found.name, found.size, source, found.size)
        yield entry
        for _ in entry.chunks():
            pass
        padding = -found.size % BLOCK
        if any(_exactly(source, padding)):
            raise ArchiveError(found.name, "hides bytes behind its end")
        offset += found.size + padding
    else:
        raise ArchiveError("archive", f"holds more than {MOST_FILES} files")
    # Two empty blocks, and more to the end of a record.
    rest = BLOCK + -(offset + BLOCK) % tarfile.RECORDSIZE
    if any(_exactly(source, rest)):
        raise ArchiveError("archive", "its tar archive does not end as it must")
    if source.read(1):
        raise ArchiveError("archive", "holds more after the end of its tar archive")


def _exactly(source: IO[bytes], size: int) -> bytes:
    data = source.read(size)
    if len(data) < size:
        raise ArchiveError("archive", "its tar archive ends early")
    return data


def _checked(block: bytes) -> tarfile.TarInfo:
    """Read a header, which must be the one that `Writer` gives a file."""
    form = "its tar header is not of the one form of packages"
    try:
        found = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        if found.type != tarfile.REGTYPE:
            cause = "is a link, a device, an extended header or the like, not a plain file"
            raise ArchiveError(found.name, cause)
        only = _entry(found.name, found.size, int(found.mtime))
        if only.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict") != block:
            raise ArchiveError(found.name, form)
    except (tarfile.HeaderError, ValueError):
        raise ArchiveError(block[:100].rstrip(b"\0").decode("utf-8", "replace"), form) from None
    return found
