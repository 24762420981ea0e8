"""The archive's form: written the same always, and nothing else is read."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import tracemalloc
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tars_ga_lib.evidence import tarball
from tars_ga_lib.evidence.tarball import ArchiveError
from tests.packages import end, entry, everything_below, packed, read_all, write_all

_letters = st.characters(
    codec="utf-8", exclude_categories=("C", "Z"), exclude_characters='/\\:*?"<>|.'
)
_part = st.text(_letters, min_size=1, max_size=12).filter(
    lambda s: s == unicodedata.normalize("NFC", s) and s.isprintable()
)
_name = st.lists(_part, min_size=1, max_size=5).map("/".join)


def _distinct(files: dict[str, bytes]) -> dict[str, bytes]:
    """Keep the files whose names may stand together."""
    names, kept = tarball.Names(), {}
    for name, content in files.items():
        try:
            names.add(name)
        except ArchiveError:
            continue
        kept[name] = content
    return kept


trees = st.dictionaries(_name, st.binary(max_size=3000), max_size=12).map(_distinct)


@settings(max_examples=60, deadline=None)
@given(trees)
def test_a_tree_comes_back_and_others_read_it(files: dict[str, bytes]) -> None:
    content = write_all(files, time=1_795_132_800)
    assert read_all(content) == files
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        members = tar.getmembers()
        assert {m.name: tar.extractfile(m).read() for m in members} == files  # type: ignore[union-attr]
    assert {(m.mode, m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members} <= {
        (0o644, 0, 0, "", "", 1_795_132_800)
    }
    assert write_all(files, time=1_795_132_800) == content


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.data_too_large])
@given(trees, st.data())
def test_a_changed_byte_is_refused_or_changes_nothing(
    files: dict[str, bytes], data: st.DataObject
) -> None:
    """Deflate can say the same in two ways; the archive's checksum tells those apart."""
    content = bytearray(write_all(files))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    try:
        assert read_all(bytes(content)) == files
    except ArchiveError:
        return


def test_the_digests_are_those_of_the_bytes() -> None:
    stream = io.BytesIO()
    writer = tarball.Writer(stream, 0)
    assert writer.add("a", 5, io.BytesIO(b"hello")) == hashlib.sha256(b"hello").hexdigest()
    assert writer.close() == hashlib.sha256(stream.getvalue()).hexdigest()


def test_a_file_that_grows_or_shrinks_meanwhile_is_refused() -> None:
    for content in (b"four", b"sixsix"):
        with pytest.raises(ArchiveError, match="changed while it was packed"):
            tarball.Writer(io.BytesIO(), 0).add("a", 5, io.BytesIO(content))


def test_long_paths_are_split_as_tar_splits_them() -> None:
    name = "/".join(["p" * 60, "q" * 60, "é" * 45])
    content = write_all({name: b"x"})
    assert read_all(content) == {name: b"x"}
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        assert tar.getnames() == [name]
    for long in ("n" * 101, "p" * 156 + "/n", "/".join("abcdefgh" * 40)):
        with pytest.raises(ArchiveError, match="too long"):
            write_all({long: b""})


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("/etc/passwd", "absolute"),
        ("C:/x", "absolute"),
        ("../x", "leads out"),
        ("a/../../x", "leads out"),
        ("a//b", "plain relative"),
        ("./a", "plain relative"),
        ("a/", "plain relative"),
        ("", "plain relative"),
        ("a\\b", "not safe"),
        ("a\nb", "not safe"),
        ("a\x1b[31m", "not safe"),
        ("a\u202eb", "not safe"),
        ("ab:c", "not safe"),
        ("a./b", "dot or a space"),
        ("a ", "dot or a space"),
        ("e\u0301", "normal form"),
    ],
)
def test_names_that_are_not_plain_are_neither_written_nor_read(name: str, cause: str) -> None:
    with pytest.raises(ArchiveError, match=cause):
        write_all({name: b""})
    with pytest.raises(ArchiveError, match=cause):
        read_all(packed(end(entry(name))))


@pytest.mark.parametrize(
    ("names", "cause"),
    [
        (["a", "a"], "is there twice"),
        (["a/File", "a/file"], "is the same file as a/File"),
        (["straße", "STRASSE"], "is the same file"),
        (["ﬁle", "file"], "is the same file"),
        (["a", "a/b"], "both a file and a folder"),
        (["a/b", "A"], "both a file and a folder"),
    ],
)
def test_names_that_meet_on_some_system_are_refused(names: list[str], cause: str) -> None:
    with pytest.raises(ArchiveError, match=cause):
        read_all(packed(end(b"".join(entry(name) for name in names))))


HOSTILE = {
    "symbolic link": (entry("a", kind=b"2", link=b"/etc/passwd"), "not a plain file"),
    "hard link": (entry("a", kind=b"1", link=b"/etc/passwd"), "not a plain file"),
    "character device": (entry("a", kind=b"3"), "not a plain file"),
    "block device": (entry("a", kind=b"4"), "not a plain file"),
    "folder": (entry("a", kind=b"5"), "not a plain file"),
    "pipe": (entry("a", kind=b"6"), "not a plain file"),
    "sparse": (entry("a", kind=b"S"), "not a plain file"),
    "extended header": (entry("a", b"20 path=../../evil\n", kind=b"x"), "not a plain file"),
    "global header": (entry("a", b"20 path=../../evil\n", kind=b"g"), "not a plain file"),
    "long name": (entry("././@LongLink", b"../evil", kind=b"L"), "not a plain file"),
    "unknown kind": (entry("a", kind=b"Z"), "not a plain file"),
    "old kind": (entry("a", kind=b"\0"), "not a plain file"),
    "size in base 256": (entry("a", size=b"\x80" + bytes(10) + b"\x05"), "not of the one form"),
    "negative size": (entry("a", size=b"-0000000001\0"), "not of the one form"),
    "negative time": (entry("a", mtime=b"\xff" * 12), "not of the one form"),
    "setuid": (entry("a", mode=b"0004755\0"), "not of the one form"),
    "an owner": (entry("a", owner=b"root"), "not of the one form"),
    "a link's name": (entry("a", link=b"x"), "not of the one form"),
    "hidden in the header": (entry("a", rest=b"x"), "not of the one form"),
    "hidden after the name": (entry("a\0b"), "not of the one form"),
    "traversal in the prefix": (entry("x", prefix=b"../.."), "not of the one form"),
    "not UTF-8": (entry("a").replace(b"a\0", b"\xff\0", 1), "not of the one form"),
    "another time": (entry("a") + entry("b", mtime=b"00000000001\0"), "another time"),
    "behind the end of a file": (entry("a", b"x")[:-1] + b"x", "hides bytes behind its end"),
}
BROKEN_ENDS = {
    "after the end": (end(b"") + b"x" * 512, "holds more after the end of its tar archive"),
    "within the end": (end(b"")[:-1] + b"x", "does not end as it must"),
    "one empty block": (bytes(512) + b"x" * 512, "ends early"),
    "no end": (entry("a", b"x"), "ends early"),
    "an end of two blocks": (entry("a", b"x") + bytes(1024), "ends early"),
    "cut off": (entry("a", b"x")[:600], "ends early"),
    "cut off in a file": (entry("a", b"x" * 600)[:900], "ends early"),
}


@pytest.mark.parametrize(
    ("tar", "cause"),
    [*((end(tar), cause) for tar, cause in HOSTILE.values()), *BROKEN_ENDS.values()],
    ids=[*HOSTILE, *BROKEN_ENDS],
)
def test_a_hostile_archive_is_refused(
    tar: bytes, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArchiveError, match=cause):
        read_all(packed(tar))
    assert not everything_below(tmp_path)


def test_a_damaged_header_is_refused() -> None:
    tar = bytearray(end(entry("a", b"x")))
    tar[0:1] = b"b"  # the checksum is that of another name
    with pytest.raises(ArchiveError, match="not of the one form"):
        read_all(packed(bytes(tar)))


def test_gzip_of_another_form_is_refused() -> None:
    good = write_all({"a": b"hello"})
    tar = gzip.decompress(good)
    named = bytes.fromhex("1f8b08080000000000ff") + b"name\0" + good[10:]
    for content, cause in [
        (named, "gzip header"),
        (gzip.compress(tar, mtime=1), "gzip header"),
        (good + b"x", "after the end of its gzip member"),
        (good + good, "after the end of its gzip member"),
        (good + bytes(100), "after the end of its gzip member"),
        (good[:-8] + bytes(8), "incorrect data check"),
        (b"PK\x03\x04" + good, "not a gzip file"),
        (b"", "not a gzip file"),
        (good[:10] + b"\xff" * 20, "is damaged"),
    ]:
        with pytest.raises(ArchiveError, match=cause):
            read_all(content)
    for size in range(len(good)):
        with pytest.raises(ArchiveError):
            read_all(good[:size])


def test_bombs_are_refused_before_they_go_off(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = packed(end(entry("a", bytes(8 << 20))))
    assert len(bomb) < 10_000
    many = packed(end(b"".join(entry(f"f{i}") for i in range(100))))
    assert len(read_all(many)) == 100
    for content, limits, cause in [
        (bomb, {"MOST_RATIO": 50, "SLACK": 1 << 20}, "more than 50 times"),
        (bomb, {"MOST_BYTES": 1 << 20}, "larger than 1048576 bytes"),
        (many, {"MOST_FILES": 50}, "more than 50 files"),
    ]:
        with monkeypatch.context() as patch:
            for name, value in limits.items():
                patch.setattr(tarball, name, value)
            with pytest.raises(ArchiveError, match=cause):
                read_all(content)
    claims = packed(end(entry("a", size=b"77777777777\0")))
    with pytest.raises(ArchiveError, match="ends early"):
        read_all(claims)


def test_a_bomb_takes_no_memory() -> None:
    content = packed(entry("a", size=b"77777777777\0") + bytes(200 << 20))
    tracemalloc.start()
    with pytest.raises(ArchiveError, match="more than 200 times"):
        list(tarball.read(io.BytesIO(content)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 << 20


def test_what_a_terminal_would_obey_is_not_printed() -> None:
    error = ArchiveError("a\x1b[2J\nb" + "c" * 300, "is bad")
    assert str(error).startswith("a‹U+001B›[2J‹U+000A›b")
    assert "\x1b" not in str(error)
    assert len(str(error)) < 230
