"""The package: its tree, its bytes, and what is never in it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tars_ga_lib import fingerprint
from tars_ga_lib.evidence import attestation, replay
from tars_ga_lib.evidence import package as evidence
from tars_ga_lib.grammar import ParametersError
from tests.helpers import CRITERION, ROOT, tars_ga
from tests.packages import command, edit, finished_run, unpack, write_all


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("evidence") / "run")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture(autouse=True)
def _no_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)


def test_the_tree_is_the_one_of_the_specification(run: Path) -> None:
    built = evidence.build(run)
    with tarfile.open(built.archive) as tar:
        names = [m.name for m in tar]
    inside = [n.removeprefix("ga_certification/package/") for n in names]
    assert all(n.startswith("ga_certification/package/") for n in names)
    assert inside == [
        *["EMAIL_SUMMARY.txt", "GA_DAY_APPENDIX.html", "GA_DAY_APPENDIX.pdf"],
        *["GA_DAY_REPORT.html", "GA_DAY_REPORT.md", "GA_DAY_REPORT.pdf"],
        *["artifacts/baseline_metrics.json", "artifacts/charts/availability.svg"],
        *["artifacts/package.json", "artifacts/snapshots.jsonl"],
        *["certification_metadata.json", "cross_region.json", "drift_analysis.json"],
        *["ga_kpi_summary.json", "ga_kpi_summary.json.sha256", "notebooks/01_collection.ipynb"],
        *[f"parameters/{n}.yaml" for n in ("criteria", "drift_rules", "kpis", "run")],
        *[f"recording/baseline_{day}.parquet" for day in (1, 2, 3)],
        *["recording/recording.json", "recording/window.parquet"],
        "slo.json",
        *["MANIFEST.sha256", "attestation.intoto.jsonl"],
    ]
    checksum = (run / "ga_certification_package.tar.gz.sha256").read_text()
    digest = hashlib.sha256(built.archive.read_bytes()).hexdigest()
    assert checksum == f"{digest}  ga_certification_package.tar.gz\n"
    assert digest == built.digest


def test_sha256sum_and_tar_check_it_without_us(run: Path, tmp_path: Path) -> None:
    evidence.build(run)
    check = ["sha256sum", "--strict", "-c"]
    subprocess.run([*check, f"{evidence.ARCHIVE}.sha256"], cwd=run, check=True)
    subprocess.run(["gzip", "-t", run / evidence.ARCHIVE], check=True)
    subprocess.run(["tar", "xzf", run / evidence.ARCHIVE, "-C", tmp_path], check=True)
    package = tmp_path / evidence.ROOT
    subprocess.run([*check, "MANIFEST.sha256"], cwd=package, check=True)
    listed = {line[66:] for line in (package / "MANIFEST.sha256").read_text().splitlines()}
    there = {str(p.relative_to(package)) for p in package.rglob("*") if p.is_file()}
    assert there - listed == {"MANIFEST.sha256", "attestation.intoto.jsonl"}
    assert (package / "recording/window.parquet").read_bytes() == (
        run / "recording/window.parquet"
    ).read_bytes()


# --- the same bytes ------------------------------------------------------------------------------


def _pack_elsewhere(run: Path, where: Path, **how: Any) -> bytes:
    """Pack a copy of a run in another process, with other times and modes of its files."""
    copy = shutil.copytree(run, where, copy_function=shutil.copy)
    umask = how.pop("umask", -1)
    for file in copy.rglob("*"):
        os.utime(file, (1, 1))
        file.chmod(0o755 if file.is_dir() else how.get("mode", 0o644))
    how.pop("mode", None)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SOURCE_DATE")}
    subprocess.run(
        [sys.executable, "-c", _PACK, str(copy)],
        check=True,
        umask=umask,
        env={**environment, **how.pop("env", {})},
        **how,
    )
    return (copy / evidence.ARCHIVE).read_bytes()


_PACK = (
    "import sys, pathlib; from tars_ga_lib.evidence import package as evidence; "
    "evidence.build(pathlib.Path(sys.argv[1]))"
)


def test_folder_time_zone_locale_umask_and_file_times_change_no_byte(
    run: Path, tmp_path: Path
) -> None:
    evidence.build(run)
    first = (run / evidence.ARCHIVE).read_bytes()
    for name in (evidence.ARCHIVE, f"{evidence.ARCHIVE}.sha256", evidence.EMAIL):
        (run / name).unlink()
    env = {"TZ": "Pacific/Chatham", "LC_ALL": "C", "PYTHONHASHSEED": "7", "HOME": str(tmp_path)}
    other = _pack_elsewhere(run, tmp_path / "o t h e r", env=env, umask=0o077, cwd=tmp_path)
    assert other == first
    assert _pack_elsewhere(run, tmp_path / "again", mode=0o600, env={"TZ": "Asia/Tokyo"}) == first
    evidence.build(run)
    assert (run / evidence.ARCHIVE).read_bytes() == first


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_makes_the_same_bytes(run: Path, tmp_path: Path) -> None:
    first = evidence.build(run).digest
    copy = Path("/var/tmp") / f"tars-ga-{os.getpid()}"
    try:
        shutil.copytree(run, copy)
        for path in (copy, *copy.rglob("*")):
            os.chown(path, 65534, 65534)
        become = "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)"
        code = _PACK.replace("evidence;", f"evidence; {become};")
        done = subprocess.run(
            [sys.executable, "-c", code, str(copy)], capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert hashlib.sha256((copy / evidence.ARCHIVE).read_bytes()).hexdigest() == first
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def test_the_time_is_the_end_of_the_window_or_the_one_that_is_asked_for(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def time() -> set[float]:
        with tarfile.open(evidence.build(run).archive) as tar:
            return {m.mtime for m in tar}

    assert time() == {1_795_132_800 + 48 * 300}
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1800000000")
    assert time() == {1_800_000_000}
    for bad in ("tomorrow", "-1", "1e9", "99999999999"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", bad)
        with pytest.raises(ParametersError, match="SOURCE_DATE_EPOCH"):
            evidence.build(run)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.text("abcXYZ_-é", min_size=1, max_size=9), st.binary(max_size=300)))
def test_any_tree_gives_a_manifest_that_sha256sum_accepts(made: dict[str, bytes]) -> None:
    made = {k: v for i, (k, v) in enumerate(made.items()) if k.casefold() not in
            {n.casefold() for n in list(made)[:i]}}  # fmt: skip
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in made.items()}
    text = evidence.manifest_text(digests)
    lines = text.splitlines()
    assert lines == sorted(lines, key=lambda line: line[66:].encode())
    assert {line[66:]: line[:64] for line in lines} == digests
    assert write_all(made) == write_all(dict(reversed(made.items()))) or len(made) > 1


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", evidence.REQUIRED)
def test_a_run_that_is_not_whole_is_not_packed(run: Path, name: str) -> None:
    (run / name).unlink()
    with pytest.raises(ParametersError, match=rf"{name}: is missing"):
        evidence.build(run)
    assert not (run / evidence.ARCHIVE).exists()


def test_files_of_two_runs_are_not_packed(run: Path) -> None:
    with (run / "parameters" / "criteria.yaml").open("a") as file:
        file.write("# changed\n")
    with pytest.raises(ParametersError, match="derived from another recording or other parameters"):
        evidence.build(run)


def test_a_broken_document_is_not_packed(run: Path) -> None:
    (run / "drift_analysis.json").write_text("[]")
    with pytest.raises(ParametersError, match="is not a JSON document"):
        evidence.build(run)


def test_a_private_key_never_goes_into_a_package(run: Path) -> None:
    attestation.keygen(run / "key")
    with pytest.raises(ParametersError, match="is a private key"):
        evidence.build(run, attestation.load_signer(str(run / "key")))
    assert not list(run.glob("*.tar.gz*"))
    assert not list(run.glob(".ga*"))


def test_links_are_refused_and_hidden_files_left_out(run: Path) -> None:
    (run / ".ipynb_checkpoints").mkdir()
    (run / ".ipynb_checkpoints" / "x").write_text("x")
    (run / "artifacts" / ".x").write_text("x")
    names = set(evidence.members(run))
    assert not any(".x" in n or "checkpoints" in n for n in names)
    (run / "link").symlink_to("/etc/passwd")
    with pytest.raises(ParametersError, match="is a link or special file"):
        evidence.build(run)


def test_names_that_no_archive_holds_are_refused(run: Path) -> None:
    (run / "artifacts" / "a\nb").write_text("x")
    with pytest.raises(ParametersError, match="cannot be packed"):
        evidence.build(run)


def test_what_has_no_place_goes_to_artifacts(run: Path) -> None:
    for name in ("notes.txt", "logs/a.txt", "recording/x", "ws_health_metrics.json"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("x")
    assert {
        "artifacts/notes.txt", "artifacts/logs/a.txt", "recording/x", "ws_health_metrics.json"
    } <= evidence.members(run).keys()  # fmt: skip


# --- the e-mail ----------------------------------------------------------------------------------


def _email(run: Path) -> str:
    evidence.build(run)
    return (run / evidence.EMAIL).read_text(encoding="utf-8")


def test_the_email_fits_a_screen_and_says_what_matters(run: Path) -> None:
    text = _email(run)
    assert text.startswith("T.A.R.S. v1.0.1: CERTIFIED\n")
    _fits_a_screen(text)
    for part in (
        "2026-11-20 00:00 to 2026-11-20 04:00 UTC (4h)",
        "pass     Availability",
        "100 %  ≥ 99.9 %",
        "NO DATA: no digest was given",
        "Not in it    ws_health_metrics.json, validation_results.html",
        "NONE. The package is unsigned",
        "sha256sum -c ga_certification_package.tar.gz.sha256",
        "tars-ga verify ga_certification_package.tar.gz --replay",
        json.loads((run / "recording/recording.json").read_text())["digest"][7:],
    ):
        assert part in text
    assert "SIMULATED" not in text


def test_the_email_of_a_refusal_begins_with_what_refused(tmp_path: Path) -> None:
    criteria = {
        f"c{i}": CRITERION | {"title": f"Criterion {i} with a title that is far too long to show"}
        for i in range(30)
    } | {"bad": CRITERION | {"title": "Too strict", "target": "> 1"}}
    text = _email(finished_run(tmp_path / "run", criteria_=criteria, simulated=True))
    lines = text.splitlines()
    assert lines[0] == "T.A.R.S. v1.0.1: NOT CERTIFIED"
    assert "SIMULATED" in text
    first = next(line for line in lines if line.startswith(("FAIL", "pass")))
    assert first.startswith("FAIL     Too strict")
    shown = sum(line.startswith(("FAIL", "pass")) for line in lines)
    assert shown > 5
    assert f"and {31 - shown} more criteria in certification_metadata.json" in text
    _fits_a_screen(text)


def _fits_a_screen(text: str) -> None:
    """See that it is no more than 80 columns by 24 lines, letters of East Asia two columns wide."""
    lines = text.splitlines()
    assert len(lines) <= 24
    wide = [sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in x) for x in lines]
    assert max(wide) <= 80


@pytest.mark.parametrize("signed_by", [None, "ab" * 32])
@pytest.mark.parametrize("waived", [0, 1, 40])
@pytest.mark.parametrize("failing", [0, 1, 40])
def test_the_email_fits_a_screen_in_every_case(
    finished: Path, failing: int, waived: int, signed_by: str | None
) -> None:
    certification = json.loads((finished / "certification_metadata.json").read_text())
    one = certification["criteria"][0]
    waiver = {"criterion": "x", "who": "Very long name of a board " * 4, "why": "",
              "until": "2026-12-24T00:00:00Z"}  # fmt: skip
    failed = [one | {"name": f"f{i}", "title": f"名前 {i} שלום\n{'x' * 90}", "verdict": "fail",
                     "value": -1234567.891} for i in range(failing)]  # fmt: skip
    forgiven = [one | {"title": f"Forgiven {i}", "verdict": "fail", "waiver": waiver}
                for i in range(waived)]  # fmt: skip
    certification |= {
        "criteria": [*forgiven, one, *failed],
        "decision": "NOT CERTIFIED" if failing else "CERTIFIED WITH WAIVERS",
        "binding_criterion": failed[0]["name"] if failed else None,
        "simulated": True,
        "release": {"name": "名" * 200, "version": "v1", "digest": "sha512:" + "ab" * 64},
    }
    info = {"absent": list(evidence.EXPECTED), "signed_by": signed_by}
    text = evidence.email(certification, info)
    _fits_a_screen(text)
    assert certification["decision"] in text.splitlines()[0]
    assert "SIMULATED" in text
    assert fingerprint.of(certification) in text
    # nothing is left out in silence
    rows = sum(line.startswith(("FAIL", "waived", "pass", "warn")) for line in text.splitlines())
    left = re.search(r"and (\d+) more criteria", text)
    assert rows + int(left[1] if left else 0) == 1 + failing + waived
    assert rows >= 1
    if failing:
        assert text.index("FAIL") < text.index("Fingerprint")
        assert "waived  " not in text[: text.index("FAIL")]
    told = len(re.findall("^Waived", text, re.MULTILINE))
    left = re.search(r"and (\d+) more waivers", text)
    assert told + int(left[1] if left else 0) == waived


def test_the_email_names_waivers_and_the_signer(tmp_path: Path) -> None:
    waiver = "waivers: [{release: v1.0.1, criterion: availability, who: Release board, why: Known, "
    run = finished_run(
        tmp_path / "run",
        up=0.9,
        waivers="w.yaml",
        texts={"w.yaml": waiver + "until: 2026-12-24T00:00:00Z}]\n"},
    )
    attestation.keygen(tmp_path / "key")
    built = evidence.build(run, attestation.load_signer(str(tmp_path / "key")))
    text = (run / evidence.EMAIL).read_text()
    assert text.startswith("T.A.R.S. v1.0.1: CERTIFIED WITH WAIVERS\n")
    assert "Waived       Availability by Release board until 2026-12-24" in text
    assert "waived   Availability" in text
    assert built.signed_by
    assert f"by the key {built.signed_by[:16]}" in text


# --- nothing half-written ------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 400 KB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_on_a_full_disk_the_earlier_package_stays(
    run: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = shutil.copytree(run, small_disk / "run")
    evidence.build(there)
    before = {p.name: p.read_bytes() for p in there.glob("ga_cert*")}
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 1024)
    done = command(capsys, "package", there)
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert {p.name: p.read_bytes() for p in there.glob("ga_cert*")} == before
    assert not list(there.glob(".*"))
    filler.unlink()
    assert command(capsys, "package", there).returncode == 0


def test_in_a_read_only_folder_it_says_so(
    run: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = shutil.copytree(run, small_disk / "run")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = command(capsys, "package", there)
    assert done.returncode == 2
    assert "Read-only file system" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_file_size_limit_leaves_nothing_behind(run: Path) -> None:
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); " + _PACK
    done = subprocess.run(
        [sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=False
    )
    assert "OSError: [Errno 27] File too large" in done.stderr
    assert not list(run.glob("*ga_cert*"))
    assert not list(run.glob(".*"))


# --- whole runs ----------------------------------------------------------------------------------


def test_a_run_is_made_again_from_its_package_alone(tmp_path: Path) -> None:
    done = tars_ga("run", "parameters/demo.yaml", "--output", tmp_path / "demo")
    assert done.returncode == 3, done.stderr
    assert "Evidence: " in done.stdout
    package = tmp_path / "demo.tar.gz"
    shutil.move(tmp_path / "demo" / evidence.ARCHIVE, package)

    done = tars_ga("verify", package, "--replay")
    assert done.returncode == 4, done.stdout
    assert re.search(r"pages: all \d+ files of the report are what its run renders", done.stdout)
    (others,) = re.findall(r"NOT compared with what a run makes: (.*)", done.stdout)
    assert others.split(", ") == [
        *sorted(f"notebooks/{path.name}" for path in (ROOT / "notebooks").glob("0[1-4]_*.ipynb")),
        "validation_results.html",
        "validation_results.xml",
    ]
    (tmp_path / "demo" / "GA_DAY_REPORT.html").write_text("<h1>CERTIFIED</h1>")
    (tmp_path / "demo" / "GA_DAY_REPORT.md").unlink()
    (tmp_path / "demo" / "artifacts" / "charts" / "more.svg").write_text("<svg/>")
    assert dict(replay._apart("pages", tmp_path / "demo", 0, replay.GIB).differences) == {
        "GA_DAY_REPORT.html": "is not what its run renders: it was changed, or is another run's",
        "GA_DAY_REPORT.md": "is missing, and its run renders it",
        "artifacts/charts/more.svg": "is not among what its run renders",
    }
    shutil.rmtree(tmp_path / "demo")

    lax = yaml.safe_load((ROOT / "parameters" / "criteria.yaml").read_text())
    for name, target in (("error_rate", "< 0.01"), ("availability", ">= 0.99")):
        del lax["criteria"][name]["objective"]
        lax["criteria"][name]["target"] = target
    for name in ("drift_stability", "critical_alerts"):
        lax["criteria"][name]["mandatory"] = False
    (tmp_path / "lax.yaml").write_text(yaml.safe_dump(lax, sort_keys=False))
    again = ["run", "--set", f"source.recording={package}", "--set", "criteria=lax.yaml"]
    done = tars_ga(*again, "--output", "again", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "The package's own decision was NOT CERTIFIED." in done.stdout
    changed = done.stdout.partition("Criteria that changed")[2]
    assert re.search(r"Availability +no data +warn .*verdict, target", changed)
    assert re.search(r"Error rate +fail +warn .*verdict, target", changed)
    assert re.search(r"Largest drift +fail +fail .*weight", changed)
    assert "Latency" not in changed.partition("Report:")[0]
    one, other = (
        unpack(file, tmp_path / name)
        for file, name in ((package, "one"), (tmp_path / "again" / evidence.ARCHIVE, "other"))
    )
    for name in ("recording/window.parquet", "recording/recording.json", "parameters/run.yaml"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    assert tars_ga("run", "--set", "window.step=5m").returncode == 2


def test_packing_again_replaces_archive_and_checksum_together(run: Path) -> None:
    evidence.build(run)
    edit(run / "cross_region.json", lambda document: document.update(note=1))
    evidence.build(run)
    digest = hashlib.sha256((run / evidence.ARCHIVE).read_bytes()).hexdigest()
    assert (run / f"{evidence.ARCHIVE}.sha256").read_text().startswith(digest)


def test_the_command_packs_a_finished_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = command(capsys, "package", run)
    assert done.returncode == 0, done.stderr
    assert "(unsigned)" in done.stdout
    package = unpack(run / evidence.ARCHIVE, tmp_path / "x")
    info = json.loads((package / "artifacts/package.json").read_text())
    assert info["signed_by"] is None
    assert info["absent"] == list(evidence.EXPECTED)
    assert command(capsys, "package", tmp_path / "nothing").returncode == 2
