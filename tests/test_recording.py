"""The recording: the same samples give the same bytes, and no damage goes unseen."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tars_ga_lib import recording
from tars_ga_lib.grammar import ParametersError
from tars_ga_lib.recording import Recording, SampleSet, Span
from tests.helpers import ROOT, STEP, WEEK, digests, make_job, make_recording, make_span, places


def two_spans(folder: Path, **changes: Any) -> Recording:
    """Return a recording of 12 steps and a baseline, with a gap, an infinity and odd labels."""
    job = make_job(folder, services=["api", 'we"b\n☃'])
    values = np.arange(12.0)
    values[3], values[7] = np.nan, np.inf
    by = [(r, s) for r in ("east", "west") for s in ("api", 'we"b\n☃')]
    answers = {
        "requests.increase": places(values, by),
        "memory.value": places(np.full(12, 1e9 / 3), by[:1]),
    }
    doubt: dict[str, dict[str, Any]] = {
        "memory.value": {"warnings": ["not whole"]},
        "replicas.value": {"error": "HTTP 500"},
    }
    spans = [make_span(job, answers, name, doubt) for name in ("window", "baseline_1")]
    return make_recording(*spans, **changes)


def same(one: Recording, other: Recording) -> bool:
    """Whether two recordings say the same, sample by sample."""
    facts = [(s.name, s.start, s.stop, s.step, p) for s, p in one.provenance()]
    if facts != [(s.name, s.start, s.stop, s.step, p) for s, p in other.provenance()]:
        return False
    if replace(one, spans={}, origin=None) != replace(other, spans={}, origin=None):
        return False
    for name, span in one.spans.items():
        for key, each in span.sets.items():
            twin = other.spans[name].sets[key]
            if each.labels != twin.labels:
                return False
            if not np.array_equal(each.values, twin.values, equal_nan=True):
                return False
    return True


def test_round_trip(tmp_path: Path) -> None:
    before = two_spans(tmp_path, problems=["it was slow"], simulated=True)
    before.save(tmp_path / "rec")
    after = recording.load(tmp_path / "rec")
    assert same(before, after)
    assert after.digest() == before.digest()

    assert list(after.spans) == ["window", "baseline_1"]
    (infinite,) = {float(v) for v in after.window.sets["requests.increase"].values[:, 7]}
    assert infinite == np.inf


def test_same_samples_same_bytes(tmp_path: Path) -> None:
    two_spans(tmp_path / "1").save(tmp_path / "1" / "rec")
    two_spans(tmp_path / "2").save(tmp_path / "2" / "rec")
    recording.load(tmp_path / "1" / "rec").save(tmp_path / "3")
    assert digests(tmp_path / "1" / "rec") == digests(tmp_path / "2" / "rec")
    assert digests(tmp_path / "1" / "rec") == digests(tmp_path / "3")


def test_order_and_kind_of_nan_do_not_matter(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    odd = np.frombuffer(np.array([0x7FF8000000000001], dtype="<u8").tobytes(), dtype="<f8")[0]
    rows = list(places(np.array([1.0, np.nan] * 6)))
    other = list(places(np.array([1.0, odd] * 6)))[::-1]
    one = make_span(job, {"requests.increase": rows}).sets["requests.increase"]
    two = make_span(job, {"requests.increase": other}).sets["requests.increase"]
    assert one.provenance == two.provenance
    assert one.labels == two.labels


def test_digest_covers_values_labels_and_warnings(tmp_path: Path) -> None:
    base = two_spans(tmp_path)

    def changed(**changes: Any) -> str:
        return two_spans(tmp_path, **changes).digest()

    assert changed() == base.digest()
    assert changed(simulated=True) != base.digest()
    assert changed(server="http://127.0.0.2") != base.digest()
    assert changed(problems=["x"]) != base.digest()
    window = base.window
    changes: list[tuple[str, Callable[[SampleSet], SampleSet]]] = [
        ("memory.value", lambda s: replace(s, provenance=replace(s.provenance, warnings=[]))),
        ("replicas.value", lambda s: replace(s, provenance=replace(s.provenance, error=""))),
        ("requests.increase", lambda s: SampleSet.of(s.provenance, s.labels, s.values + 1e-9)),
        (
            "requests.increase",
            lambda s: SampleSet.of(s.provenance, [d | {"x": "y"} for d in s.labels], s.values),
        ),
    ]
    for key, change in changes:
        sets = {**window.sets, key: change(window.sets[key])}
        spans = {**base.spans, "window": replace(window, sets=sets)}
        assert replace(base, spans=spans).digest() != base.digest(), key


# --- Damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["recording.json", "window.parquet", "baseline_1.parquet"])
def test_no_flipped_bit_goes_unseen(tmp_path: Path, name: str) -> None:
    """Each damaged copy is refused in a sentence, or says exactly what was recorded."""
    whole = two_spans(tmp_path)
    whole.save(tmp_path / "rec")
    file, dice = tmp_path / "rec" / name, random.Random(name)
    good, refused = file.read_bytes(), 0
    for _ in range(150):
        bad = bytearray(good)
        bad[dice.randrange(len(bad))] ^= 1 << dice.randrange(8)
        file.write_bytes(bad)
        try:
            found = recording.load(tmp_path / "rec")
        except ParametersError as error:
            said = str(error)
            refused += "undamaged copy" in said or "this version reads" in said
        else:
            assert same(found, whole)
    assert refused > 20


@pytest.mark.parametrize("name", ["recording.json", "window.parquet"])
@pytest.mark.parametrize("share", [0, 0.3, 0.99])
def test_truncated_files(tmp_path: Path, name: str, share: float) -> None:
    two_spans(tmp_path).save(tmp_path / "rec")
    file = tmp_path / "rec" / name
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(ParametersError, match="undamaged copy"):
        recording.load(tmp_path / "rec")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("simulated", True),
        ("server", "http://127.0.0.3"),
        ("collected_at", "2026-11-22T00:00:00Z"),
        ("problems", ["none at all"]),
        ("spans", []),
        ("digest", "sha256:00"),
    ],
)
def test_edited_facts_are_refused(tmp_path: Path, key: str, value: Any) -> None:
    two_spans(tmp_path).save(tmp_path / "rec")
    file = tmp_path / "rec" / "recording.json"
    facts = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(facts | {key: value}), encoding="utf-8")
    with pytest.raises(ParametersError, match=r"recording.json was changed; take an undamaged"):
        recording.load(tmp_path / "rec")


def test_edited_provenance_is_refused(tmp_path: Path) -> None:
    """A warning that is taken out of the file would turn doubt into certainty."""
    two_spans(tmp_path).save(tmp_path / "rec")
    file = tmp_path / "rec" / "recording.json"
    text = file.read_text("utf-8")
    assert '"not whole"' in text
    file.write_text(text.replace('"not whole"', ""), encoding="utf-8")
    with pytest.raises(ParametersError, match="undamaged copy"):
        recording.load(tmp_path / "rec")


def test_another_version(tmp_path: Path) -> None:
    two_spans(tmp_path).save(tmp_path / "rec")
    file = tmp_path / "rec" / "recording.json"
    file.write_text(file.read_text("utf-8").replace("recording/1", "recording/9"), encoding="utf-8")
    with pytest.raises(ParametersError, match="recording/9, and this version reads"):
        recording.load(tmp_path / "rec")


def test_no_recording(tmp_path: Path) -> None:
    with pytest.raises(ParametersError, match="there is no recording in it"):
        recording.load(tmp_path)
    two_spans(tmp_path).save(tmp_path / "rec")
    (tmp_path / "rec" / "recording.json").unlink()  # killed before it was whole
    with pytest.raises(ParametersError, match="there is no recording in it"):
        recording.load(tmp_path / "rec")
    two_spans(tmp_path).save(tmp_path / "rec")
    (tmp_path / "rec" / "window.parquet").unlink()
    with pytest.raises(ParametersError, match="undamaged copy"):
        recording.load(tmp_path / "rec")


# --- Cuts -----------------------------------------------------------------------------------------


def requests_of(span: Span) -> Any:
    return span.sets["requests.increase"].values[0]


def test_cut(tmp_path: Path) -> None:
    window = two_spans(tmp_path).window
    part = window.cut(window.start + 2 * STEP, window.start + 5 * STEP, STEP, "part")
    np.testing.assert_array_equal(requests_of(part), [2, np.nan, 4])
    assert (part.name, part.steps) == ("part", 3)
    assert part.sets["requests.increase"].provenance.samples == 8
    wide = window.cut(window.start - STEP, window.stop + 2 * STEP, STEP, "wide")
    np.testing.assert_array_equal(requests_of(wide)[1:-2], requests_of(window))
    assert np.isnan(requests_of(wide)[[0, -1, -2]]).all()
    nothing = window.cut(window.start - WEEK, window.stop - WEEK, STEP, "nothing")
    assert np.isnan(requests_of(nothing)).all()
    assert nothing.sets["requests.increase"].provenance.samples == 0


@pytest.mark.parametrize(("shift", "step"), [(0, 60), (0, 600), (60, 300), (-1, 300)])
def test_misfit_grids_are_refused(tmp_path: Path, shift: int, step: int) -> None:
    window = two_spans(tmp_path).window
    with pytest.raises(ParametersError, match="steps of 5m from 2026-11-20T00:00:00Z, which"):
        window.cut(window.start + shift, window.start + shift + 600, step, "x")


def test_times_are_the_ends_of_steps(tmp_path: Path) -> None:
    window = two_spans(tmp_path).window
    assert str(window.times[0]) == "2026-11-20T00:05:00"
    assert str(window.times[-1]) == "2026-11-20T01:00:00"


# --- Files ----------------------------------------------------------------------------------------


def test_json_holds_no_nan(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text("before", encoding="utf-8")
    with pytest.raises(ValueError, match="JSON"):
        recording.write_json(tmp_path / "file.json", {"value": np.nan})
    assert (tmp_path / "file.json").read_text("utf-8") == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]


def test_nothing_is_left_beside(tmp_path: Path) -> None:
    two_spans(tmp_path).save(tmp_path / "rec")
    names = sorted(path.name for path in (tmp_path / "rec").iterdir())
    assert names == ["baseline_1.parquet", "recording.json", "window.parquet"]


def test_bundled_demo() -> None:
    found = recording.load(ROOT / "demo" / "recording")
    assert found.simulated
    assert found.window.steps == 288
    assert sum(p.stat().st_size for p in (ROOT / "demo" / "recording").iterdir()) < 4_000_000
    assert not [p.error or p.warnings for _, p in found.provenance() if p.error or p.warnings]
