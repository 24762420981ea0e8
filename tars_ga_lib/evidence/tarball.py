"""Archives of one form: the same content gives the same bytes, and any other form is refused.

An archive is a gzip file with one member, without name and time, around a tar archive of plain
files: POSIX ustar headers, owner 0, mode 0644, one time for all. `tar` and `gzip` read it as any
other. The reader trusts nothing: it compares each header with the only one that the writer would
have written, so links, devices, extensions and all that a header can be made to do have no way in.
It streams, and writes nowhere.

References
----------
- RFC 1952, GZIP file format: https://www.rfc-editor.org/rfc/rfc1952
- POSIX.1-2017, pax, ustar Interchange Format:
  https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html
"""

from __future__ import annotations

import gzip
import hashlib
import re
import unicodedata
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO

BLOCK = 512
CHUNK = 1 << 20
_PIECE = 1 << 16  # read at once from an archive; zlib copies what it leaves of it

LEVEL = 6
"""gzip's own default: on a run's files 9 takes twice the time for 1.5 % less, 1 gives 10 % more."""

_MAGIC = bytes.fromhex("1f8b08 00 00000000 00 ff")  # no flags, no time, an unknown system
_OCTAL = re.compile(rb"[0-7]{11}\0")
_LARGEST = 8**11 - 1

_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"5": "a folder entry",
    b"6": "a named pipe",
    b"7": "a contiguous file",
    b"g": "an extended header for all entries",
    b"x": "an extended header",
    b"K": "a GNU long link name",
    b"L": "a GNU long name",
    b"S": "a sparse file",
}


class ArchiveError(Exception):
    """A file is not as it must be: `file` names it, `cause` says why."""

    def __init__(self, file: str, cause: str) -> None:
        super().__init__(f"{printable(file)}: {cause}")
        self.file = printable(file)
        self.cause = cause


@dataclass(frozen=True)
class Limits:
    """How much an archive may unpack to, so that a small one cannot fill a disk or take a day.

    Above `slack` bytes the content may be `ratio` times the archive; deflate cannot pack more than
    1,032 to 1, and runs have 3 to 1.
    """

    entries: int = 20_000
    total: int = 64 << 30
    ratio: int = 200
    slack: int = 64 << 20


def printable(name: str) -> str:
    """Write a name from an untrusted file so that it cannot steer a terminal or break a line."""
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in name)
    return shown if len(shown) <= 200 else shown[:197] + "..."


def check_name(name: str) -> None:
    """See that a name is a plain relative path that means the same on every system.

    Raises
    ------
    ArchiveError
        If it is not.
    """
    cause = _why_bad(name)
    if cause:
        raise ArchiveError(name, cause)


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
            If it is not plain, or meets an earlier one.
        """
        check_name(name)
        key = _same_everywhere(name)
        if key in self._files:
            other = self._files[key]
            raise ArchiveError(
                name,
                "is there twice"
                if other == name
                else f"is the same file as {printable(other)} where case or form is not told apart",
            )
        parts = key.split("/")
        folders = {"/".join(parts[:k]) for k in range(1, len(parts))}
        if key in self._folders or folders & self._files.keys():
            raise ArchiveError(name, "is both a file and a folder")
        self._files[key] = name
        self._folders |= folders


def _same_everywhere(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def header(name: str, size: int, time: int) -> bytes:
    """Return the one header that a file has, 512 bytes.

    Raises
    ------
    ArchiveError
        If the name or size does not fit the format (255 bytes, 8 GiB).
    """
    prefix, short = _split(name)
    if not 0 <= size <= _LARGEST:
        raise ArchiveError(name, f"has {size} bytes, and an archive's file has at most 8 GiB")
    fields = [
        (short, 100),
        (b"0000644\0", 8),
        (b"0000000\0", 8),
        (b"0000000\0", 8),
        (b"%011o\0" % size, 12),
        (b"%011o\0" % time, 12),
        (b"        ", 8),  # the checksum counts as blanks in itself
        (b"0", 1),
        (b"", 100),
        (b"ustar\x0000", 8),
        (b"", 64),  # names of owner and group
        (b"0000000\0", 8),
        (b"0000000\0", 8),
        (prefix, 155),
        (b"", 12),
    ]
    block = b"".join(value.ljust(width, b"\0") for value, width in fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _split(name: str) -> tuple[bytes, bytes]:
    """Split a path into ustar's prefix and name, at the last slash that serves."""
    try:
        raw = name.encode("utf-8")
    except UnicodeEncodeError:
        raise ArchiveError(name, "is not UTF-8") from None
    if len(raw) <= 100:
        return b"", raw
    for at in range(min(len(raw) - 1, 155), 0, -1):
        if raw[at : at + 1] == b"/" and len(raw) - at - 1 <= 100:
            return raw[:at], raw[at + 1 :]
    raise ArchiveError(name, "is too long a path for an archive")


# --- writing -------------------------------------------------------------------------------------


class _Hashed:
    """A binary stream to which all goes, and the SHA-256 of it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self.sha = stream, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha.update(data)
        return self._stream.write(data)


class Writer:
    """Writes an archive to a binary stream, file by file.

    The headers are ours, as those of `tarfile` depend on the version of Python.

    Parameters
    ----------
    time
        Epoch seconds of every file.
    """

    def __init__(self, stream: IO[bytes], time: int) -> None:
        if not 0 <= time <= _LARGEST:
            raise ArchiveError("archive", f"has the time {time}, which tar cannot hold")
        self._time, self._names = time, Names()
        self._hashed = _Hashed(stream)
        self._tar = gzip.GzipFile("", "wb", LEVEL, self._hashed, mtime=0)  # type: ignore[call-overload]

    def add(self, name: str, size: int, chunks: Iterable[bytes]) -> str:
        """Add a file and return the SHA-256 of its content.

        Raises
        ------
        ArchiveError
            If the name cannot stand in an archive, or there is more or less than `size` bytes.
        """
        self._names.add(name)
        self._tar.write(header(name, size, self._time))
        sha, left = hashlib.sha256(), size
        for chunk in chunks:
            sha.update(chunk)
            self._tar.write(chunk)
            left -= len(chunk)
        if left:
            raise ArchiveError(name, "changed while it was packed")
        self._tar.write(bytes(-size % BLOCK))
        return sha.hexdigest()

    def close(self) -> str:
        """Write the end and return the SHA-256 of the whole archive."""
        self._tar.write(bytes(2 * BLOCK))
        self._tar.close()
        return self._hashed.sha.hexdigest()


# --- reading -------------------------------------------------------------------------------------


class _Unpacked:
    """The bytes inside a gzip file of one member, in pieces, with limits."""

    def __init__(self, stream: IO[bytes], limits: Limits) -> None:
        self._stream, self._limits = stream, limits
        self._unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        self._packed, self._read, self._got, self._crc = b"", 0, 0, 0
        self._ready, self._at = b"", 0
        start = stream.read(len(_MAGIC))
        if start[:2] != _MAGIC[:2]:
            raise ArchiveError("archive", "is not a gzip file")
        if start != _MAGIC:
            raise ArchiveError("archive", "its gzip header is not of the one form of packages")

    def read(self, most: int) -> bytes:
        """Return up to `most` bytes, none only at the end."""
        if self._at == len(self._ready):
            self._ready, self._at = self._unpack(), 0
        data = self._ready[self._at : self._at + most]
        self._at += len(data)
        return data

    def _unpack(self) -> bytes:
        """Return the next bytes, none only at the end of the gzip member."""
        while not self._unpacker.eof:
            self._packed = self._packed or self._stream.read(_PIECE)
            if not self._packed:
                raise ArchiveError("archive", "ends early; it was cut off")
            before = len(self._packed)
            try:
                data = self._unpacker.decompress(self._packed, CHUNK)
            except zlib.error as error:
                raise ArchiveError("archive", f"is damaged ({error})") from None
            self._packed = self._unpacker.unconsumed_tail
            self._read += before - len(self._packed)
            if data:
                self._count(data)
                return data
        return b""

    def _count(self, data: bytes) -> None:
        self._crc = zlib.crc32(data, self._crc)
        self._got += len(data)
        if self._got > max(self._limits.slack, self._limits.ratio * self._read):
            raise ArchiveError(
                "archive", f"unpacks to more than {self._limits.ratio} times its size"
            )

    def exactly(self, size: int) -> bytes:
        """Return `size` bytes."""
        parts = []
        while size:
            part = self.read(size)
            if not part:
                raise ArchiveError("archive", "its tar archive ends early")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def finish(self) -> None:
        """See that the gzip file ends here, and well."""
        if self.read(1):
            raise ArchiveError("archive", "holds more after the end of its tar archive")
        trailer = self._unpacker.unused_data + self._stream.read(9)
        if len(trailer) < 8:
            raise ArchiveError("archive", "ends early; it was cut off")
        sizes = (self._crc.to_bytes(4, "little"), (self._got % 2**32).to_bytes(4, "little"))
        if trailer[:8] != b"".join(sizes):
            raise ArchiveError("archive", "is damaged (its checksum differs)")
        if len(trailer) > 8:
            raise ArchiveError("archive", "holds more after the end of its gzip member")


@dataclass
class Entry:
    """One file of an archive that is being read; its chunks can be taken once."""

    name: str
    size: int
    time: int
    _source: _Unpacked
    _left: int

    def chunks(self) -> Iterator[bytes]:
        """Yield the content in pieces."""
        while self._left:
            data = self._source.read(min(self._left, CHUNK))
            if not data:
                raise ArchiveError(self.name, "ends early; the archive was cut off")
            self._left -= len(data)
            yield data

    def read(self, most: int) -> bytes:
        """Return the whole content.

        Raises
        ------
        ArchiveError
            If it has more than `most` bytes.
        """
        if self.size > most:
            raise ArchiveError(self.name, f"has {self.size} bytes, and at most {most} are expected")
        return b"".join(self.chunks())


def read(stream: IO[bytes], limits: Limits | None = None) -> Iterator[Entry]:
    """Yield the files of an archive, in its order; each must be taken before the next is asked for.

    Raises
    ------
    ArchiveError
        At the first thing that this module would not have written.
    """
    limits = limits or Limits()
    source, names, total, time = _Unpacked(stream, limits), Names(), 0, None
    for _ in range(limits.entries + 1):
        block = source.exactly(BLOCK)
        if not any(block):
            break
        entry = _entry(block, source)
        names.add(entry.name)
        if time not in (None, entry.time):
            raise ArchiveError(entry.name, "has another time than the files before it")
        time, total = entry.time, total + entry.size
        if total > limits.total:
            raise ArchiveError(entry.name, f"makes the content larger than {limits.total} bytes")
        yield entry
        for _ in entry.chunks():
            pass
        if any(source.exactly(-entry.size % BLOCK)):
            raise ArchiveError(entry.name, "hides bytes behind its end")
    else:
        raise ArchiveError("archive", f"holds more than {limits.entries} files")
    if any(source.exactly(BLOCK)):
        raise ArchiveError("archive", "its tar archive does not end as it must")
    source.finish()


def _entry(block: bytes, source: _Unpacked) -> Entry:
    prefix, short = (part.partition(b"\0")[0] for part in (block[345:500], block[:100]))
    raw = prefix + b"/" + short if prefix else short
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ArchiveError(raw.decode("utf-8", "replace"), "is not a UTF-8 name") from None
    kind = block[156:157]
    if kind != b"0":
        raise ArchiveError(name, f"is {_KINDS.get(kind, 'of an unknown kind')}, not a plain file")
    size, time = block[124:136], block[136:148]
    if not _OCTAL.fullmatch(size) or not _OCTAL.fullmatch(time):
        raise ArchiveError(name, "has a size or time that is not a plain number")
    check_name(name)
    numbers = int(size[:-1], 8), int(time[:-1], 8)
    if header(name, *numbers) != block:
        raise ArchiveError(name, "its tar header is not of the one form of packages")
    return Entry(name, numbers[0], numbers[1], source, numbers[0])
