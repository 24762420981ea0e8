"""Verification: what was changed is found, what is hostile refused, each figure recomputed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet

from tars_ga_lib import recompute, recording
from tars_ga_lib.evidence import attestation, replay, tarball, verify
from tars_ga_lib.evidence import package as evidence
from tars_ga_lib.grammar import ParametersError
from tests.helpers import tars_ga
from tests.packages import (
    Done,
    command,
    edit,
    end,
    entry,
    everything_below,
    finished_run,
    packed,
    read_all,
    seal,
    unpack,
    write_all,
)


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a run that was packed and signed, `run`, and its key, `key`."""
    folder = tmp_path_factory.mktemp("verify")
    attestation.keygen(folder / "key")
    run = finished_run(folder / "run")
    evidence.build(run, attestation.load_signer(str(folder / "key")))
    return folder


@pytest.fixture
def archive_file(signed: Path, tmp_path: Path) -> Path:
    """Give a copy of the signed archive with its checksum."""
    for name in (evidence.ARCHIVE, f"{evidence.ARCHIVE}.sha256"):
        shutil.copy(signed / "run" / name, tmp_path)
    return tmp_path / evidence.ARCHIVE


@pytest.fixture
def package(signed: Path, tmp_path: Path) -> Path:
    """Give the signed package, unpacked."""
    return unpack(signed / "run" / evidence.ARCHIVE, tmp_path / "unpacked")


@pytest.fixture
def run(signed: Path, tmp_path: Path) -> Path:
    """Give a copy of the run, to be packed anew."""
    return shutil.copytree(signed / "run", tmp_path / "run")


def _key(signed: Path) -> Any:
    return attestation.load_key(signed / "key.pub")


def _causes(found: verify.Verification) -> list[str]:
    return [str(failure) for failure in found.failures]


# --- what holds ----------------------------------------------------------------------------------


def test_a_signed_package_is_verified_packed_and_unpacked(
    signed: Path, archive_file: Path, package: Path
) -> None:
    for path in (archive_file, package, package.parent, package.parent.parent, signed / "run"):
        found = verify.verify(path, _key(signed))
        assert (found.exit_code, _causes(found), found.unproven) == (0, [], [])
        assert found.certification["decision"] == "CERTIFIED"
        assert any("signature" in text for text in found.holds)


def test_without_the_key_or_a_signature_the_origin_is_not_proven(
    archive_file: Path, run: Path
) -> None:
    found = verify.verify(archive_file)
    assert (found.exit_code, found.failures) == (verify.UNPROVEN, [])
    assert "NOT CHECKED" in found.unproven[0]
    evidence.build(run)
    found = verify.verify(run)
    assert (found.exit_code, found.failures) == (verify.UNPROVEN, [])
    assert "UNSIGNED" in found.unproven[0]


def test_the_command_has_an_exit_code_for_each_case(
    signed: Path, archive_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def tars_ga(*arguments: object) -> Done:
        return command(capsys, *arguments)

    key = signed / "key.pub"
    done = tars_ga("verify", archive_file, "--key", key, "--replay")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "VERIFIED T.A.R.S. v1.0.1: CERTIFIED" in done.stdout
    assert "follow from the recording, to the last digit" in done.stdout
    done = tars_ga("verify", archive_file)
    assert done.returncode == 4
    assert "ORIGIN NOT PROVEN" in done.stdout
    archive_file.write_bytes(archive_file.read_bytes() + b"x")
    done = tars_ga("verify", archive_file, "--key", key)
    assert done.returncode == 1
    assert [line for line in done.stdout.splitlines() if line.startswith("✗")] == [
        f"✗ {evidence.ARCHIVE}: holds more after the end of its gzip member"
    ]
    assert "REFUSED" in done.stdout
    for arguments in (
        ["verify", tmp_path / "nothing"],
        ["verify", "/dev/null"],
        ["verify", signed / "run" / "recording"],
        ["verify", archive_file, "--key", signed / "key"],
        ["verify", archive_file, "--tolerance", "2"],
    ):
        assert tars_ga(*arguments).returncode == 2


def test_without_a_checksum_file_it_says_so(archive_file: Path, signed: Path) -> None:
    archive_file.with_name(f"{evidence.ARCHIVE}.sha256").unlink()
    found = verify.verify(archive_file, _key(signed))
    assert found.exit_code == 0
    assert "there is no ga_certification_package.tar.gz.sha256" in found.notes[0]


def test_a_checksum_file_must_be_of_this_archive(archive_file: Path) -> None:
    checksum = archive_file.with_name(f"{evidence.ARCHIVE}.sha256")
    digest = checksum.read_text()[:64]
    for text, cause in [
        (f"{digest}  other.tar.gz\n", f"{checksum.name}: is not the checksum file of"),
        (f"{digest}\n", f"{checksum.name}: is not the checksum file of"),
        (f"{'0' * 64}  {archive_file.name}\n", f"{archive_file.name}: its SHA-256 is {digest}"),
        ("", f"{archive_file.name}: its SHA-256 is {digest}"),
        ("é", f"{checksum.name}: cannot be read as a checksum file"),
    ]:
        checksum.write_text(text, encoding="utf-8")
        assert _causes(verify.verify(archive_file))[0].startswith(cause)


# --- what was changed ----------------------------------------------------------------------------


def _positions(size: int, most: int = 5) -> list[int]:
    rng = np.random.default_rng(size)
    return sorted({0, size // 2, size - 1, *map(int, rng.integers(0, size, most))})


def test_any_changed_byte_of_any_file_is_found(signed: Path, package: Path) -> None:
    key = _key(signed)
    files = [p for p in sorted(package.rglob("*")) if p.is_file()]
    assert len(files) > 18
    for file in files:
        content = file.read_bytes()
        for at in _positions(len(content)):
            changed = bytearray(content)
            changed[at] ^= 1 << at % 8
            file.write_bytes(changed)
            found = verify.verify(package, key)
            assert found.exit_code == verify.REFUSED, (file, at)
            if file.name not in evidence.UNCOVERED:
                assert file.name in str(found.failures[0])
        file.write_bytes(content)
    assert verify.verify(package, key).exit_code == 0


def test_every_byte_of_the_small_files_counts(signed: Path, package: Path) -> None:
    """The manifest and the attestation are what nothing else covers."""
    key, read = _key(signed), verify.Verification(package)
    verify._read(read, verify._KEPT)
    for name in (evidence.MANIFEST, evidence.ATTESTATION):
        content = (package / name).read_bytes()
        for at in range(0, len(content), 1 if name == evidence.MANIFEST else 7):
            changed = bytearray(content)
            changed[at] ^= 1
            found = verify.Verification(package, digests=read.digests, kept={**read.kept})
            found.kept[name] = bytes(changed)
            if name == evidence.MANIFEST:
                verify._check_manifest(found)
            else:
                verify._check_attestation(found, key)
            assert found.failures, (name, at)


def test_any_changed_byte_of_the_archive_is_found(signed: Path, archive_file: Path) -> None:
    content = archive_file.read_bytes()
    key = _key(signed)
    for at in [*range(12), *_positions(len(content), 60), *range(-12, 0)]:
        changed = bytearray(content)
        changed[at] ^= 4
        archive_file.write_bytes(changed)
        assert verify.verify(archive_file, key).exit_code == verify.REFUSED, at
    checksum = archive_file.with_name(f"{evidence.ARCHIVE}.sha256")
    archive_file.write_bytes(content)
    good = checksum.read_bytes()
    for at in range(len(good)):
        changed = bytearray(good)
        changed[at] ^= 4
        checksum.write_bytes(changed)
        assert verify.verify(archive_file, key).exit_code == verify.REFUSED, at


def test_a_manifest_is_written_in_one_way_only() -> None:
    a, b = (f"{digit * 64}  {name}\n" for digit, name in (("0", "a"), ("1", "b")))
    assert verify._parse_manifest((a + b).encode()) == {"a": "0" * 64, "b": "1" * 64}
    for bad in (
        *(b + a, a + a, a + b[:-1], a + b.replace("\n", "\r\n"), a + "\n", " " + a),
        *("AB" * 32 + "  a\n", a.replace("  ", " *"), "0" * 64 + "  \n", "\\" + a),
    ):
        with pytest.raises(ValueError, match=r"line \d|sorted"):
            verify._parse_manifest(bad.encode())
    with pytest.raises(ValueError, match="UTF-8"):
        verify._parse_manifest(b"\xff")


def test_missing_extra_and_changed_files_are_each_named(package: Path) -> None:
    (package / "GA_DAY_REPORT.md").unlink()
    (package / "parameters" / "extra.yaml").write_text("")
    (package / "cross_region.json").write_text("{}")
    assert _causes(verify.verify(package)) == [
        "GA_DAY_REPORT.md: is missing; the manifest lists it",
        "cross_region.json: was changed; its SHA-256 is not that of the manifest",
        "parameters/extra.yaml: is extra; the manifest does not list it",
        *_causes(verify.verify(package))[3:],
    ]


@pytest.mark.parametrize(
    "name", [evidence.MANIFEST, evidence.ATTESTATION, evidence.INFO, evidence.CERTIFICATION]
)
def test_a_package_without_its_papers_is_refused(name: str, package: Path) -> None:
    (package / name).unlink()
    if name == evidence.MANIFEST:
        with pytest.raises(ParametersError, match="there is no package"):
            verify.verify(package)
        files = {evidence.ROOT + str(p.relative_to(package)): p.read_bytes()
                 for p in package.rglob("*") if p.is_file()}  # fmt: skip
        package = package.parent / "x.tar.gz"
        package.write_bytes(write_all(files))
    assert any(name in cause and "missing" in cause for cause in _causes(verify.verify(package)))


def test_the_key_and_the_signature_must_match(signed: Path, run: Path, tmp_path: Path) -> None:
    attestation.keygen(tmp_path / "other")
    other = attestation.load_key(tmp_path / "other.pub")
    assert "is not signed by the given key" in _causes(verify.verify(signed / "run", other))[0]
    evidence.build(run)
    assert "is unsigned, and a key was given" in _causes(verify.verify(run, other))[0]


def _lines(package: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (package / evidence.ATTESTATION).read_text().splitlines()]


def _write_lines(package: Path, lines: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    (package / evidence.ATTESTATION).write_text(text)


def test_a_signature_cannot_be_taken_off_or_moved(signed: Path, package: Path) -> None:
    good = _lines(package)
    none: list[Any] = []
    for lines, cause in [
        ([line | {"signatures": none} for line in good], "is unsigned, although"),
        ([good[0] | {"signatures": none}, good[1]], "is signed in part only"),
        ([good[0] | {"signatures": good[1]["signatures"]}, good[1]], "is not signed by"),
        ([good[0]], "holds 1 statements instead of 2"),
        ([good[1], good[0]], "is not what follows from"),
        ([*good, good[0]], "holds 3 statements instead of 2"),
    ]:
        _write_lines(package, lines)
        found = verify.verify(package, _key(signed))
        assert found.exit_code == verify.REFUSED
        assert any(cause in each for each in _causes(found)), cause


def test_the_attestation_of_another_package_or_policy_is_refused(
    package: Path, tmp_path: Path, signed: Path
) -> None:
    other = finished_run(tmp_path / "other", up=0.9999)
    built = evidence.build(other, attestation.load_signer(str(signed / "key")))
    theirs = unpack(built.archive, tmp_path / "theirs")
    shutil.copy(theirs / evidence.ATTESTATION, package / evidence.ATTESTATION)
    causes = _causes(verify.verify(package, _key(signed)))
    assert all(cause.startswith("attestation.intoto.jsonl: ") for cause in causes)
    assert any("subject" in cause for cause in causes)
    assert any("recording" in cause for cause in causes)
    # A laxer policy, with a manifest to fit: the statement still names the one that was certified.
    shutil.rmtree(package)
    unpack(signed / "run" / evidence.ARCHIVE, tmp_path / "unpacked")
    criteria = package / "parameters/criteria.yaml"
    criteria.write_text(criteria.read_text().replace("0.999", "0.1"))
    seal(package)
    causes = _causes(verify.verify(package, _key(signed)))
    assert any("policy.digest.sha256" in cause for cause in causes)


# --- hostile packages ----------------------------------------------------------------------------


def _archive_of(package: Path, extra: bytes = b"", name: str = "p.tar.gz") -> Path:
    """Pack a folder as an archive by hand, with an entry that does not belong there."""
    files = {
        evidence.ROOT + str(p.relative_to(package)): p.read_bytes()
        for p in sorted(package.rglob("*"))
        if p.is_file()
    }
    tar = b"".join(entry(n, c) for n, c in files.items())
    file = package.parent / name
    file.write_bytes(packed(end(tar + extra)))
    return file


@pytest.mark.parametrize(
    ("extra", "cause"),
    [
        (entry("../evil", b"x"), "leads out of the archive"),
        (entry("/tmp/evil", b"x"), "is an absolute path"),
        (entry("ga_certification/evil", b"x"), "lies outside of ga_certification/package/"),
        (entry(f"{evidence.ROOT}evil", kind=b"2", link=b"/etc/passwd"), "not a plain file"),
        (entry(f"{evidence.ROOT}evil", kind=b"1", link=b"/etc/passwd"), "not a plain file"),
        (entry(f"{evidence.ROOT}evil", kind=b"3"), "not a plain file"),
        (entry(f"{evidence.ROOT}evil", kind=b"6"), "not a plain file"),
        (entry(f"{evidence.ROOT}GA_DAY_REPORT.md", b"x"), "is there twice"),
        (entry(f"{evidence.ROOT}ga_day_report.MD", b"x"), "is the same file"),
        (entry(f"{evidence.ROOT}recording", b"x"), "both a file and a folder"),
        (entry(f"{evidence.ROOT}evil", b"x"), "is extra; the manifest does not list it"),
    ],
)
def test_a_hostile_archive_writes_nothing_and_is_refused(
    extra: bytes, cause: str, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _archive_of(package, extra)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(temporary)
    before = everything_below(tmp_path)
    found = verify.verify(file, replay=True)
    assert found.exit_code == verify.REFUSED
    assert any(cause in each for each in _causes(found))
    assert everything_below(tmp_path) == before
    assert not Path("/tmp/evil").exists()
    with pytest.raises(ParametersError, match="take an undamaged copy"), verify.unpacked(file):
        pass
    with pytest.raises(ParametersError, match="take an undamaged copy"):
        recording.load(file)
    assert everything_below(tmp_path) == before


def test_links_and_special_files_in_a_folder_are_not_followed(package: Path) -> None:
    (package / "GA_DAY_REPORT.md").unlink()
    (package / "GA_DAY_REPORT.md").symlink_to("/etc/passwd")
    (package / "notebooks" / "up").symlink_to("..")
    os.mkfifo(package / "pipe")
    causes = _causes(verify.verify(package))
    for name in ("GA_DAY_REPORT.md", "notebooks/up", "pipe"):
        assert f"{name}: is a link or special file, not a plain file" in causes


def test_a_bomb_is_refused_in_no_time_and_memory(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.tar.gz"
    bomb.write_bytes(packed(end(entry(f"{evidence.ROOT}a", bytes(80 << 20)))))
    assert bomb.stat().st_size < 100_000
    assert "unpacks to more than 200 times its size" in _causes(verify.verify(bomb))[0]


def test_papers_that_are_too_large_are_not_read(package: Path) -> None:
    (package / evidence.INFO).write_bytes(b" " * (2 << 20))
    assert "too many" in str(_causes(verify.verify(package)))
    assert "too many" in str(_causes(verify.verify(_archive_of(package))))


HOSTILE_JSON = {
    "deep": b"[" * 200_000,
    "twice": b'{"release": 1, "release": 2}',
    "huge": b'{"window": 1e999}',
    "digits": b'{"window": ' + b"9" * 10_000 + b"}",
    "nan": b'{"window": NaN}',
    "not text": b"\xff\xfe\x00",
    "a list": b"[1, 2]",
    "nothing": b"",
    "other": b'{"release": {"name": 5, "version": [], "digest": {}}, "criteria": 7}',
    "null": b"null",
}


@pytest.mark.parametrize("name", [evidence.CERTIFICATION, evidence.INFO, evidence.ATTESTATION])
def test_hostile_json_is_refused(name: str, package: Path) -> None:
    for kind, content in HOSTILE_JSON.items():
        (package / name).write_bytes(content)
        seal(package)
        found = verify.verify(package)
        assert found.exit_code == verify.REFUSED, kind
        assert all("\n" not in cause and len(cause) < 500 for cause in _causes(found))


# --- replay --------------------------------------------------------------------------------------


def _rebuilt(run: Path) -> Path:
    """Pack a run that somebody tampered with, all hashes right."""
    evidence.build(run)
    return run


def test_a_replay_finds_every_figure_as_it_was(run: Path) -> None:
    found = recompute.replay(run)
    assert found.differences == []
    assert found.figures > 1000
    assert found.tolerance == replay.TOLERANCE
    assert found.largest == 0
    assert len(found.files) == 8
    assert replay.replay_apart(run).figures == found.figures


TAMPERED: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "a KPI": (
        "ga_kpi_summary.json",
        lambda d: d["kpis"]["availability"]["overall"].update(value=0.99991),
        "kpis.availability.overall.value is 0.99991, and its recording gives 1.0",
    ),
    "a verdict": (
        "certification_metadata.json",
        lambda d: d["criteria"][0].update(verdict="warn"),
        'criteria[0].verdict is "warn", and its recording gives "pass"',
    ),
    "the decision": (
        "certification_metadata.json",
        lambda d: d.update(decision="NOT CERTIFIED"),
        'decision is "NOT CERTIFIED", and its recording gives "CERTIFIED"',
    ),
    "a drift": (
        "drift_analysis.json",
        lambda d: d["evaluations"][0].update(drift=0.5),
        "evaluations[0].drift is 0.5",
    ),
    "a finding left out": (
        "drift_analysis.json",
        lambda d: d["evaluations"].pop(),
        "evaluations (length) is",
    ),
    "a region": (
        "cross_region.json",
        lambda d: d["request_share"]["regions"].pop("east"),
        "request_share.regions.east is missing",
    ),
    "the baseline": (
        "baseline_metrics.json",
        lambda d: d["intervals"][0]["kpis"]["memory"]["overall"].update(samples=1),
        "samples is 1, and its recording gives 192",
    ),
    "something more": (
        "cross_region.json",
        lambda d: d.update(approved=True),
        "approved is true, and its recording gives missing",
    ),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_replay_names_what_does_not_follow(what: str, run: Path) -> None:
    name, change, cause = TAMPERED[what]
    edit(run / name, change)
    found = recompute.replay(run)
    assert [file for file, _ in found.differences] == [name] * len(found.differences)
    assert any(cause in text for _, text in found.differences), found.differences


def test_a_dishonest_package_is_refused_by_its_replay_alone(run: Path) -> None:
    edit(run / "certification_metadata.json", lambda d: d["criteria"][0].update(value=0.9995))
    assert verify.verify(_rebuilt(run)).failures == []
    found = verify.verify(run, replay=True)
    assert _causes(found) == [
        "certification_metadata.json: criteria[0].value is 0.9995, and its recording gives 1.0"
    ]


def test_a_changed_snapshot_is_found(run: Path) -> None:
    file = run / "snapshots.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0].replace("1.0", "0.9", 1), *lines[1:]]) + "\n")
    assert [name for name, _ in recompute.replay(run).differences] == ["snapshots.jsonl"]


def test_other_versions_are_allowed_the_last_digits_only(run: Path) -> None:
    def other_software(document: Any) -> None:
        document["software"]["calculated_with"] = "Python 3.99"

    edit(run / "certification_metadata.json", other_software)
    value = 1 + 1e-12
    edit(
        run / "ga_kpi_summary.json",
        lambda d: d["kpis"]["availability"]["overall"].update(value=value),
    )
    found = recompute.replay(run)
    assert not found.same_software
    assert found.tolerance == replay.TOLERANCE
    assert found.differences == []
    assert found.largest == pytest.approx(1e-12, rel=1e-3)
    assert len(recompute.replay(run, tolerance=0).differences) == 1
    edit(
        run / "ga_kpi_summary.json",
        lambda d: d["kpis"]["availability"]["overall"].update(value=1 + 1e-8),
    )
    assert len(recompute.replay(run).differences) == 1


@pytest.mark.parametrize(
    ("one", "other", "differs"),
    [
        (1.0, 1.0, False),
        (1, 1.0, True),
        (0.0, -0.0, True),
        (10**400, 1.5, True),
        (5, 6, True),
        (None, 0.0, True),
        (True, 1, True),
        ("1", 1, True),
        ([], {}, True),
        ([1], [1, 2], True),
    ],
)
def test_equal_means_equal(one: Any, other: Any, differs: bool) -> None:
    found = replay.Replay(tolerance=0)
    assert bool(list(replay.differences(found, one, other))) is differs


def test_many_differences_are_counted_not_listed(run: Path) -> None:
    def all_of_them(document: Any) -> None:
        for evaluation in document["evaluations"]:
            for key in evaluation:
                evaluation[key] = "x"

    edit(run / "drift_analysis.json", all_of_them)
    found = recompute.replay(run)
    assert len(found.differences) == replay.MOST_SHOWN
    assert str(list(found.problems())[-1]).endswith(f"and {found.more} more figures differ')")


def _bomb(depth: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, depth)
    ]  # fmt: skip
    return "\n".join(lines)


HOSTILE_YAML = {
    "billion laughs": (_bomb(12), "expands to far more than it holds"),
    "merge keys": (
        "a0: &a0 {x: 1}\n" + "\n".join(
            f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}], k{i}: 1}}" for i in range(1, 40)
        ),
        "expands to far more than it holds",
    ),
    "itself": ("a: &a [*a]", "is recursive"),
    "python": ("a: !!python/object/apply:os.system ['touch /tmp/evil']", "asks for more than data"),
    "a tag": ("a: !evil 1", "asks for more than data"),
    "deep": ("[" * 5000, "is nested too deeply"),
    "not YAML": ("a: [", "is not YAML"),
    "control": ("a: \x07", "is not YAML"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE_YAML)
def test_hostile_yaml_is_refused_and_not_run(kind: str, signed: Path, tmp_path: Path) -> None:
    text, cause = HOSTILE_YAML[kind]
    for name in ("run", "criteria", "other"):
        folder = shutil.copytree(signed / "run" / "parameters", tmp_path / name)
        (folder / f"{name}.yaml").write_text(text)
        with pytest.raises(tarball.ArchiveError, match=cause):
            replay.check_parameters(folder)
    assert not Path("/tmp/evil").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kpis", "/etc/passwd"),
        ("criteria", "../../secret.yaml"),
        ("drift_rules", ["x"]),
        ("waivers", "../waivers.yaml"),
        ("previous", "/etc/shadow"),
        ("evidence", {"incidents": "/etc/passwd"}),
        ("source", {"prometheus": "http://evil.example"}),
        ("source", {"recording": "/"}),
        ("baseline", {"run": "/"}),
    ],
)
def test_parameters_that_name_files_of_the_reader_are_refused(
    key: str, value: Any, signed: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(signed / "run" / "parameters", tmp_path / "parameters")
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {key: value}))
    with pytest.raises(tarball.ArchiveError, match="which is not its own file"):
        replay.check_parameters(folder)


def _parquet_bomb(file: Path) -> None:
    """Write a small file that holds two billion numbers."""
    values = pa.array(np.zeros(1 << 27))
    parquet.write_table(pa.table({"values": values}), file, compression="zstd")


def test_a_hostile_recording_is_refused_in_a_line(run: Path) -> None:
    """Those that are changed by chance: see `tests/hostile.py`."""
    parquet.write_table(pa.table({"set": [1]}), run / "recording" / "window.parquet")
    found = replay.replay_apart(run)
    assert found.problem is not None
    assert "recording" in found.problem[0]
    assert "\n" not in found.problem[1]


def test_a_recording_that_takes_all_memory_is_stopped(run: Path) -> None:
    _parquet_bomb(run / "recording" / "window.parquet")
    assert (run / "recording" / "window.parquet").stat().st_size < 1 << 20
    found = replay.replay_apart(run, memory=1 << 27)
    assert found.problem is not None
    assert found.problem[0].startswith("recording")


def test_a_child_that_dies_is_a_failure(run: Path) -> None:
    found = replay.replay_apart(run, memory=1 << 20)
    assert found.problem is not None
    assert "the process ended with" in found.problem[1] or "memory" in found.problem[1]
    assert list(found.problems())


def test_nothing_of_the_package_is_run(run: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    trap = f"open({str(mark)!r}, 'w')\n"
    cell: dict[str, Any] = {"cell_type": "code", "source": trap, "metadata": {}}
    cell |= {"outputs": [], "execution_count": None}
    notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (run / "notebooks" / "05_certification.ipynb").write_text(json.dumps(notebook))
    for name in ("numpy.py", "sitecustomize.py", "tars_ga_lib.py", "artifacts/conftest.py"):
        (run / name).write_text(trap)
        (run / "recording" / Path(name).name).write_text(trap)
    _rebuilt(run)
    package = unpack(run / evidence.ARCHIVE, tmp_path / "x")
    done = tars_ga("verify", run / evidence.ARCHIVE, "--replay", cwd=package / "recording")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "replay: " in done.stdout
    assert not mark.exists()


def test_what_a_terminal_would_obey_is_not_printed(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {evidence.ROOT + "a": b""}
    tar = b"".join(entry(n, c) for n, c in files.items()) + entry("a\x1b[2Jb")
    file = package.parent / "p.tar.gz"
    file.write_bytes(packed(end(tar)))
    done = command(capsys, "verify", file)
    assert done.returncode == 1
    assert "\x1b" not in done.stdout


# --- a package as a source -----------------------------------------------------------------------


def test_a_packed_recording_is_a_recording(
    signed: Path, archive_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = everything_below(tmp_path)
    packed_one = recording.load(archive_file)
    assert packed_one.digest() == recording.load(signed / "run").digest()
    assert packed_one.origin is None
    assert everything_below(tmp_path) == before


def test_the_archive_holds_what_the_folder_holds(package: Path, archive_file: Path) -> None:
    files = read_all(archive_file.read_bytes())
    assert {n.removeprefix(evidence.ROOT): c for n, c in files.items()} == {
        str(p.relative_to(package)): p.read_bytes() for p in package.rglob("*") if p.is_file()
    }


def test_a_package_that_changes_while_it_is_read_is_not_replayed(
    archive_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = verify._read

    def read(found: verify.Verification, keep: Any, into: Path | None = None) -> None:
        once(found, keep, into)
        content = read_all(archive_file.read_bytes())
        archive_file.write_bytes(write_all(content | {f"{evidence.ROOT}z": b""}))

    archive_file.with_name(f"{evidence.ARCHIVE}.sha256").unlink()
    monkeypatch.setattr(verify, "_read", read)
    with pytest.raises(ParametersError, match="changed while it was read"):
        verify.verify(archive_file, replay=True)


def test_no_room_to_unpack_is_one_sentence(
    archive_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = verify._take

    def full(*arguments: Any) -> None:
        if isinstance(arguments[-1], Path):
            raise OSError(28, "No space left on device")
        once(*arguments)

    monkeypatch.setattr(verify, "_take", full)
    with pytest.raises(ParametersError, match=r"cannot be unpacked into .* \(No space left"):
        verify.verify(archive_file, replay=True)


def test_verification_needs_little_memory(tmp_path: Path) -> None:
    # Not ru_maxrss: a child begins with that of its parent.
    code = (
        "import sys; from pathlib import Path; from tars_ga_lib.evidence import verify; "
        "most = lambda: int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]); "
        "before = most(); verify.verify(Path(sys.argv[1])); print(most() - before)"
    )
    file = tmp_path / "p.tar.gz"
    with file.open("wb") as stream:
        writer = tarball.Writer(stream, 0)
        big = tmp_path / "big"
        big.write_bytes(np.random.default_rng(1).bytes(1 << 20) * 60)
        with big.open("rb") as content:
            writer.add(f"{evidence.ROOT}big", 60 << 20, content)
        writer.close()
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, check=True)
    assert int(done.stdout) < 40_000
