"""What a watch keeps: answers laid over each other, in a file that is whole when it is cut off."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from tars_ga_lib.grammar import ParametersError
from tars_ga_lib.live.store import EARLIER, FILE, Store
from tars_ga_lib.parameters import Job
from tars_ga_lib.prometheus import Answer
from tars_ga_lib.recording import SampleSet
from tests.helpers import GAUGE, make_job

QUERY = "memory.value"
NAN = float("nan")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    kpis = {"memory": GAUGE | {"value": "sum by ($by) (memory{$match})"}}
    criteria = {"memory": {"title": "Memory", "kpi": "memory", "target": "> 0"}}
    return make_job(tmp_path / "parameters", steps=6, kpis_=kpis, criteria_=criteria)


@pytest.fixture
def store(job: Job, tmp_path: Path) -> Iterator[Store]:
    with contextlib.closing(Store(tmp_path, job)) as found:
        yield found


def reply(
    *rows: Sequence[float],
    names: str = "ab",
    warnings: Sequence[str] = (),
    nonfinite: Sequence[int] = (),
) -> Answer:
    """Return an answer with a row for each series."""
    values = np.array(rows, dtype=float)
    labels = [{"service": name} for name, _ in zip(names, rows, strict=False)]
    sent = np.array(nonfinite or [0] * values.shape[1])
    return Answer(labels, values, list(warnings), int(sent.sum()), sent)


def keep(store: Store, first: int, answer: Answer) -> tuple[int, int]:
    """Keep an answer; return how many steps were new, and how many changed."""
    before = store.answered["window", QUERY].sum()
    changed = store.keep("window", QUERY, first, answer)
    return int(store.answered["window", QUERY].sum() - before), changed


def kept(store: Store, steps: int = 6) -> SampleSet:
    return store.span("window", steps, "").sets[QUERY]


def values(store: Store) -> dict[str, list[float]]:
    found = kept(store)
    named = zip(found.labels, found.values, strict=True)
    return {labels["service"]: row.tolist() for labels, row in named}


def test_the_newer_answer_counts(store: Store) -> None:
    assert keep(store, 0, reply([1, 2, 3], [4, 5, 6])) == (3, 0)
    assert keep(store, 0, reply([4, 5, 6], [1, 2, 3], names="ba")) == (0, 0)
    assert keep(store, 1, reply([2, 30, 4], [5, 6, 7])) == (1, 1)
    assert keep(store, 2, reply([30], [6], [9], names="abc")) == (0, 1)
    nan = pytest.approx(NAN, nan_ok=True)
    assert values(store) == {
        "a": [1, 2, 30, 4, nan, nan], "b": [4, 5, 6, 7, nan, nan],
        "c": [nan, nan, 9, nan, nan, nan],
    }  # fmt: skip
    assert store.answered["window", QUERY].tolist() == [True] * 4 + [False] * 2
    store.errors["window", QUERY] = "HTTP 422"
    expected = "never answered for 2 of 6 steps, from 2026-11-20T00:25:00Z on: HTTP 422"
    assert kept(store).provenance.error == expected
    assert kept(store, 4).provenance.error == ""


def test_a_series_that_a_newer_answer_takes_back(store: Store) -> None:
    keep(store, 0, reply([1], [2]))
    assert keep(store, 0, reply([1], names="a")) == (0, 1)
    assert list(values(store)) == ["a"]


def test_an_empty_answer_is_an_answer(store: Store) -> None:
    empty = Answer([], np.empty((0, 6)), [], 0, np.zeros(6, np.int64))
    assert keep(store, 0, empty) == (6, 0)
    assert keep(store, 0, empty) == (0, 0)
    found = kept(store).provenance
    assert (found.series, found.samples, found.error) == (0, 0, "")


def test_nan_that_was_sent_is_no_loss(store: Store) -> None:
    assert keep(store, 5, reply([NAN], names="c", nonfinite=[1])) == (1, 0)
    assert [*values(store)] == ["c"]  # as a batch collection has it
    sent = reply([NAN, 1], nonfinite=[1, 0])
    assert keep(store, 0, sent) == (2, 0)
    assert keep(store, 0, sent) == (0, 0)
    assert kept(store, 2).provenance.nonfinite == 1
    assert keep(store, 0, reply([7, 1])) == (0, 1)
    assert kept(store, 2).provenance.nonfinite == 0
    keep(store, 0, sent)
    assert keep(store, 0, reply([NAN, 1], [3, 3])) == (0, 2)
    assert keep(store, 0, reply([NAN, 1], [3, 3], nonfinite=[1, 0])) == (0, 1)
    keep(store, 0, sent)
    # The server has lost a sample: what was seen stays, at the other step too.
    assert keep(store, 0, reply([NAN, 5])) == (0, 0)
    assert kept(store).values[0, 1] == 1


def test_doubts_go_with_their_steps(store: Store) -> None:
    keep(store, 0, reply([1, 2], warnings=["partial", "more"]))
    assert keep(store, 0, reply([1])) == (0, 1)
    assert kept(store, 1).provenance.warnings == []
    assert kept(store, 2).provenance.warnings == ["partial", "more"]
    assert keep(store, 0, reply([9, 2], warnings=["partial"])) == (0, 0)
    assert keep(store, 2, reply([3], warnings=["partial"])) == (1, 0)


def test_a_file_cut_anywhere_holds_its_first_answers(job: Job, tmp_path: Path) -> None:
    """A kill leaves the log of writes cut off; what it held is asked for again."""
    texts = ["", "ü", ""]
    with contextlib.closing(Store(tmp_path, job)) as store:
        ends = [(tmp_path / f"{FILE}-wal").stat().st_size]
        for k, text in enumerate(texts):
            keep(store, k, reply([k + 0.5], [float("inf")], warnings=[text] if text else []))
            store.add([{"step": k + 1}])
            ends.append((tmp_path / f"{FILE}-wal").stat().st_size)
        main, writes = ((tmp_path / name).read_bytes() for name in (FILE, f"{FILE}-wal"))
    for length in range(ends[0], len(writes) + 1, 397):
        other = tmp_path / f"cut {length}"
        other.mkdir()
        (other / FILE).write_bytes(main)
        (other / f"{FILE}-wal").write_bytes(writes[:length])
        with contextlib.closing(Store(other, job)) as again:
            whole = len(again.snapshots())
            assert sum(end <= length for end in ends[1:]) == whole
            answered = int(again.answered["window", QUERY].sum())
            assert answered in (whole, whole + 1)
            found = kept(again, answered)
            expected = np.array([[k + 0.5 for k in range(answered)], [np.inf] * answered])
            np.testing.assert_array_equal(found.values, expected[:, :answered][: 2 * answered])
            assert found.provenance.warnings == [t for t in texts[:answered] if t]
            keep(again, answered, reply([9.0], names="x"))
            assert {labels["service"] for labels in kept(again).labels} == {
                "x", *("ab" if answered else "")
            }  # fmt: skip


def test_what_does_not_fit_is_not_there(store: Store) -> None:
    keep(store, 0, reply([1.0]))
    store._db.execute("PRAGMA max_page_count = 1")
    many = "".join(chr(0x4E00 + k) for k in range(2000))
    with pytest.raises(sqlite3.OperationalError, match="disk is full"):
        keep(store, 1, reply(*[[1.0, 2.0]] * 2000, names=many))
    with pytest.raises(sqlite3.OperationalError, match="disk is full"):
        store.add([{"step": k, "text": many} for k in range(1, 4)])
    assert store.answered["window", QUERY].sum() == 1
    assert ([*values(store)], store.snapshots()) == (["a"], [])
    store._db.execute("PRAGMA max_page_count = 100000")
    assert keep(store, 1, reply(*[[1.0, 2.0]] * 2000, names=many)) == (2, 0)
    assert len(values(store)) == 2001


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", None),
        (b"no database at all" * 99, "is not what a watch keeps; take an undamaged copy"),
        ("PRAGMA user_version = 7;", "has format 7, and this version reads 1"),
        ("UPDATE begun SET parameters = '{}';", "was begun with other parameters"),
        (None, "was begun by an earlier version"),
    ],
)
def test_what_is_not_ours_is_refused(
    job: Job, tmp_path: Path, content: str | bytes | None, sentence: str | None
) -> None:
    if content is None:
        (tmp_path / EARLIER).touch()
    elif isinstance(content, bytes):
        (tmp_path / FILE).write_bytes(content)
    else:
        Store(tmp_path, job).close()
        with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as file:
            file.executescript(content)
    if sentence is None:
        Store(tmp_path, job).close()
        return
    with pytest.raises(ParametersError, match=sentence):
        Store(tmp_path, job)
