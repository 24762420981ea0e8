"""Folders that appear whole or not at all, wherever the process is killed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tars_ga_lib import atomic
from tars_ga_lib.evidence import package as evidence
from tars_ga_lib.grammar import ParametersError
from tests.packages import finished_run

BUILD = """
import sys
from pathlib import Path
from tars_ga_lib import atomic
target = Path(sys.argv[1])
if len(sys.argv) > 2:
    atomic._exchange = lambda one, other: False
print("ready", flush=True)
for version in range(100_000):
    with atomic.beside(target) as partial:
        for part in range(20):
            (partial / f"part-{part}").write_text(str(version))
        atomic.replace(partial, target)
"""


def _whole(target: Path) -> bool:
    """Whether a target is one version, all of it."""
    parts = {p.read_text() for p in target.iterdir()}
    return len(parts) == 1 and len(list(target.iterdir())) == 20


def _build(target: Path) -> None:
    with atomic.beside(target) as partial:
        for part in range(20):
            (partial / f"part-{part}").write_text("new")
        atomic.replace(partial, target)


@pytest.mark.parametrize("way", ["exchange", "two renames"])
def test_a_killed_process_leaves_a_whole_folder_or_none(way: str, tmp_path: Path) -> None:
    target = tmp_path / "run"
    rng = random.Random(4)
    arguments = [sys.executable, "-c", BUILD, str(target), *(["x"] if way != "exchange" else [])]
    leftovers = missing = 0
    _build(target)  # writing it out takes longer than some are left alive
    for _ in range(12):
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
            assert process.stdout
            process.stdout.readline()
            time.sleep(rng.uniform(0, 0.03))
            process.send_signal(signal.SIGKILL)
        assert not target.exists() or _whole(target)
        missing += not target.exists()
        left = [p for p in tmp_path.iterdir() if p != target]
        leftovers += len(left)
        assert all(p.name.startswith((".run.partial-", ".run.earlier-")) for p in left)
    assert leftovers
    if way == "exchange":
        assert missing <= 1  # killed before the first was whole
    _build(target)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    assert {p.read_text() for p in target.iterdir()} == {"new"}


def test_what_a_dead_process_moved_away_is_put_back(tmp_path: Path) -> None:
    target = tmp_path / "run"
    earlier = tmp_path / ".run.earlier-1"
    earlier.mkdir()
    (earlier / "a").write_text("whole")
    (tmp_path / ".run.partial-1").mkdir()
    (tmp_path / ".running.partial-1").mkdir()  # another target's
    atomic.sweep(target)
    assert (target / "a").read_text() == "whole"
    assert sorted(p.name for p in tmp_path.iterdir()) == [".running.partial-1", "run"]


def test_what_is_still_being_built_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "run"
    code = BUILD.replace("atomic.replace(partial, target)", "print('x', flush=True); input()")
    with subprocess.Popen(
        [sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        process.stdout.readline()
        _build(target)
        assert [p.name for p in tmp_path.glob(".*")] == [f".run.partial-{process.pid}"]
        process.kill()
    _build(target)
    assert not list(tmp_path.glob(".*"))


def test_a_failure_leaves_the_earlier_folder_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "run"
    _build(target)
    with contextlib.suppress(KeyError), atomic.beside(target) as partial:
        (partial / "a").write_text("half")
        raise KeyError
    assert _whole(target)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    target = tmp_path / "run"
    for error in (OSError(28, "x", str(target / "a")), OSError(28, "x"), OSError(30, "x")):
        sentence = r"cannot be written \((No space|Read-only)"
        with pytest.raises(ParametersError, match=sentence), atomic.beside(target):
            raise error
    for other in (OSError(13, "x", "/elsewhere"), OSError(2, "x", str(target))):
        with pytest.raises(OSError, match="x"), atomic.beside(target):
            raise other
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "run"
    with pytest.raises(ParametersError, match="cannot be written"), atomic.beside(target):
        pass


PACK = """
import sys
from pathlib import Path
from tars_ga_lib.evidence import package as evidence
import os
print("ready", flush=True)
for time in range(1_800_000_000, 1_900_000_000):
    os.environ["SOURCE_DATE_EPOCH"] = str(time)
    evidence.build(Path(sys.argv[1]))
"""


def test_packing_that_is_killed_never_leaves_a_wrong_checksum(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    evidence.build(run)
    rng = random.Random(5)
    for _ in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", PACK, str(run)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout
            process.stdout.readline()
            time.sleep(rng.uniform(0, 0.2))
            process.send_signal(signal.SIGKILL)
        subprocess.run(["gzip", "-t", run / evidence.ARCHIVE], check=True)
        if (run / f"{evidence.ARCHIVE}.sha256").exists():
            check = ["sha256sum", "--quiet", "-c", f"{evidence.ARCHIVE}.sha256"]
            subprocess.run(check, cwd=run, check=True)
    evidence.build(run)
    assert (run / f"{evidence.ARCHIVE}.sha256").exists()
    assert not [p for p in run.iterdir() if p.name.startswith(".ga_")]


def test_swapping_needs_both_names(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert not atomic._exchange(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").write_text("")
    if atomic._exchange(tmp_path / "a", tmp_path / "b"):
        assert os.listdir(tmp_path / "a") == ["x"]


def test_what_is_renamed_is_written_out_before_and_its_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Played at the system's layer, as no file system here drops what was not written out."""
    written: dict[int, bytes] = {}
    events: list[str] = []
    really, rename = os.fsync, Path.rename

    def fsync(handle: int) -> None:
        really(handle)
        facts = os.fstat(handle)
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        written[facts.st_ino] = path.read_bytes() if path.is_file() else b""
        events.append(f"written {path.name.lstrip('.').partition('.')[0]}")

    def renamed(self: Path, target: Path) -> Path:
        for path in (self, *self.rglob("*")):
            content = path.read_bytes() if path.is_file() else b""
            assert written[path.stat().st_ino] == content, path
        events.append("renamed")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", renamed)
    monkeypatch.setattr(Path, "replace", renamed)
    target = tmp_path / "run"
    with atomic.beside(target) as partial:
        (partial / "inner").mkdir()
        (partial / "inner" / "file").write_bytes(b"content")
        atomic.replace(partial, target)
    assert events[-2:] == ["renamed", f"written {tmp_path.name}"]
    with atomic.file(tmp_path / "file") as stream:
        stream.write(b"content")
    assert events[-3:] == ["written file", "renamed", f"written {tmp_path.name}"]
