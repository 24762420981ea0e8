"""What a run made and what people put there: nothing of theirs is ever lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tars_ga_lib import made
from tests.helpers import digests

OURS = ("notifications.jsonl", "watch")


def files(folder: Path, **contents: str) -> Path:
    """Write files; a double underscore in a name is a folder's end, and `_dot_` a dot."""
    for name, text in contents.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def run(folder: Path, number: int) -> Path:
    """Write what a run makes."""
    files(folder, parameters__run_dot_yaml="r", report=f"of {number}", notebooks__n=f"n{number}")
    made.record(folder)
    return folder


def texts(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8")
        for path in folder.rglob("*")
        if path.is_file() and path.name != made.LIST
    }


def test_what_the_run_made_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    earlier, new = run(tmp_path / "a", 1), run(tmp_path / "b", 2)
    theirs = files(
        earlier, notes="mine", notebooks__my_dot_ipynb="work", _dot_hidden__x="h", recording__x="e"
    )
    (earlier / "link").symlink_to("notes")
    assert made.keep(theirs, new, OURS) == []
    assert texts(new) == {
        "parameters/run.yaml": "r", "report": "of 2", "notebooks/n": "n2", "notes": "mine",
        "notebooks/my.ipynb": "work", ".hidden/x": "h", "recording/x": "e", "link": "mine",
    }  # fmt: skip
    assert os.readlink(new / "link") == "notes"


def test_what_the_new_run_no_longer_makes_is_gone(tmp_path: Path) -> None:
    """Else results of an earlier run would stand among those of the new one."""
    earlier = files(run(tmp_path / "a", 1), ws_health_metrics="old")
    made.record(earlier)
    new = run(tmp_path / "b", 2)
    made.keep(earlier, new)
    assert not (new / "ws_health_metrics").exists()


def test_what_was_changed_is_kept_aside_once(tmp_path: Path) -> None:
    folder, every = run(tmp_path / "0", 0), []
    for number, change in enumerate(["first", "first", "second"], 1):
        files(folder, notebooks__n=change)
        new = run(tmp_path / str(number), number)
        every.append(made.keep(folder, new))
        folder = new
    assert every == [["kept/notebooks/n"], [], ["kept-2/notebooks/n"]]
    found = texts(folder)
    assert (found["kept/notebooks/n"], found["kept-2/notebooks/n"]) == ("first", "second")
    assert found["notebooks/n"] == "n3"


def test_a_file_of_theirs_in_the_way_is_kept_aside(tmp_path: Path) -> None:
    earlier = files(run(tmp_path / "a", 1), slo="mine")
    new = files(run(tmp_path / "b", 2), slo="ours")
    assert made.keep(earlier, new) == ["kept/slo"]
    assert (texts(new)["slo"], texts(new)["kept/slo"]) == ("ours", "mine")


def test_a_run_without_a_list(tmp_path: Path) -> None:
    """Nobody knows who made what: all of it is kept aside but what goes on from run to run."""
    earlier = files(run(tmp_path / "a", 1), watch__state="w", notes="mine")
    (earlier / made.LIST).unlink()
    new = run(tmp_path / "b", 2)
    made.keep(earlier, new, OURS)
    found = texts(new)
    assert found["watch/state"] == "w"
    assert {"kept/notes", "kept/report", "kept/notebooks/n"} <= found.keys()
    assert found["report"] == "of 2"


def test_a_folder_that_was_only_watched(tmp_path: Path) -> None:
    earlier = files(tmp_path / "a", watch__state="w", notes="mine")
    new = run(tmp_path / "b", 1)
    assert made.keep(earlier, new, OURS) == []
    assert texts(new)["watch/state"] == "w"
    assert texts(new)["notes"] == "mine"


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    earlier, new = files(run(tmp_path / "a", 1), notes="mine"), run(tmp_path / "b", 2)
    before = digests(earlier)
    made.keep(earlier, new)
    assert texts(new)["notes"] == "mine"
    assert digests(earlier) == before


def test_a_package_that_was_signed_later_is_ours(tmp_path: Path) -> None:
    folder = files(run(tmp_path / "a", 1), package="signed")
    made.record(folder, ["package", "report"])
    assert made.keep(folder, run(tmp_path / "b", 2)) == []
    unlisted = files(tmp_path / "c", package="signed")
    made.record(unlisted, ["package"])
    assert not (unlisted / made.LIST).exists()
